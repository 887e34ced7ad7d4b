package worker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
)

// libraries finds the scripts of a release; with an empty name those of the pool's current one.
type libraries interface {
	of(ctx context.Context, release string) (*scripting.Library, error)
}

// releaseStore is where a pool's releases are. *stream.Pool is one.
type releaseStore interface {
	LoadRelease(ctx context.Context, name string) (stream.Release, error)
	WatchRelease(ctx context.Context, heard func(stream.Turn)) error
}

// What a process keeps beside the current library: what flows in flight began on is mostly the release before.
const (
	keptReleases = 8
	keptBytes    = 32 << 20 // of names and sources, unless it is one library
)

// unreadPause is how long a worker waits before it asks again for a current release that is missing or damaged.
const unreadPause = 30 * time.Second

// releases are the libraries that a process has of its pool's releases. Which one is current it hears; the others it
// reads when a job first needs them, so no job costs a look. It is safe for concurrent use.
type releases struct {
	store releaseStore
	log   *slog.Logger
	use   func(*scripting.Library) error // tells the runner of the current library

	current atomic.Pointer[scripting.Library]
	loading singleflight.Group
	mu      sync.Mutex
	kept    []*scripting.Library // used last at the end

	turning sync.Mutex
	turned  uint64           // revision of the turn that current is of, or of a later one that was heard of
	unread  chan stream.Turn // to a release that can't be used; the last one only
}

func newReleases(store releaseStore, log *slog.Logger, use func(*scripting.Library) error, current *scripting.Library) *releases {
	r := &releases{store: store, log: log, use: use, unread: make(chan stream.Turn, 1)}
	r.current.Store(current)
	return r
}

func (r *releases) of(ctx context.Context, release string) (*scripting.Library, error) {
	if now := r.current.Load(); release == "" || release == now.Release() {
		return now, nil
	}
	if l := r.find(release); l != nil {
		return l, nil
	}
	l, err, _ := r.loading.Do(release, func() (any, error) { return r.insist(ctx, release) })
	if err != nil {
		return nil, err
	}
	return l.(*scripting.Library), nil
}

func (r *releases) find(release string) *scripting.Library {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.kept, func(l *scripting.Library) bool { return l.Release() == release })
	if i < 0 {
		return nil
	}
	l := r.kept[i]
	r.kept = append(slices.Delete(r.kept, i, i+1), l)
	return l
}

// insist reads a release that somebody has named. A leader that was cut off from the other servers may not have it for as
// long as it does not know that it is none (see aheadPatience).
func (r *releases) insist(ctx context.Context, release string) (*scripting.Library, error) {
	for waited := time.Duration(0); ; waited += aheadPause {
		l, err := r.load(ctx, release)
		if !errors.Is(err, stream.ErrNoRelease) || waited >= aheadPatience {
			return l, err
		}
		if err := pause(ctx, aheadPause); err != nil {
			return nil, err
		}
	}
}

func (r *releases) load(ctx context.Context, release string) (*scripting.Library, error) {
	stored, err := r.store.LoadRelease(ctx, release)
	if err != nil {
		return nil, err
	}
	l := new(scripting.Library)
	l.Load(stored.Scripts)
	r.keep(l)
	return l, nil
}

func (r *releases) keep(l *scripting.Library) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = slices.DeleteFunc(r.kept, func(k *scripting.Library) bool { return k.Release() == l.Release() })
	r.kept = append(r.kept, l)
	bytes := 0
	for i, k := range slices.Backward(r.kept) {
		bytes += k.Size()
		if len(r.kept)-i > keptReleases || bytes > keptBytes && i < len(r.kept)-1 {
			r.kept = slices.Delete(r.kept, 0, i+1)
			return
		}
	}
}

// follow makes the pool's current release this process's, whenever there is another, until ctx ends.
func (r *releases) follow(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return r.store.WatchRelease(ctx, func(t stream.Turn) {
			for ctx.Err() == nil && !r.turn(ctx, t) {
				_ = pause(ctx, time.Second) // its error is ctx's
			}
		})
	})
	group.Go(func() error { return r.askAgain(ctx) })
	return group.Wait()
}

// askAgain tries on, now and then, to turn to a release that could not be used: storing it again mends it, and nobody
// hears of that.
func (r *releases) askAgain(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case t := <-r.unread:
			if pause(ctx, unreadPause) == nil && !r.turn(ctx, t) {
				r.putOff(t)
			}
		}
	}
}

// putOff leaves a turn to askAgain, unless there is a later one.
func (r *releases) putOff(t stream.Turn) {
	select {
	case later := <-r.unread:
		if later.Revision > t.Revision {
			t = later
		}
	default:
	}
	select {
	case r.unread <- t:
	default:
	}
}

// turn goes over to another release. It tells whether that is decided: done, overtaken by a later turn, or put off.
func (r *releases) turn(ctx context.Context, t stream.Turn) bool {
	r.turning.Lock()
	defer r.turning.Unlock()
	before := r.current.Load()
	if t.Revision < r.turned {
		return true
	}
	r.turned = t.Revision
	if t.Name == before.Release() {
		return true
	}
	next, err := r.of(ctx, t.Name)
	found := err == nil
	if found {
		err = r.use(next)
	}
	switch {
	case err == nil:
	case found || unusable(err):
		r.log.Error("the pool's new release can't be used: this worker stays with the one before, and others may not", "release", t.Name,
			"stays_with", before.Release(), "error", err, "asks_again_in", unreadPause)
		r.putOff(t)
		return true
	default:
		r.log.Warn("the pool's new release can't be read yet; trying on", "release", t.Name, "error", err)
		return false
	}
	r.keep(before)
	r.current.Store(next)
	r.log.Info("the pool's release has changed", "release", next.Release(), "before", before.Release(), "by", t.By, "note", t.Note)
	return true
}

// unusable tells that a release is not there as its name says, and that asking again at once changes nothing.
func unusable(err error) bool {
	return errors.Is(err, stream.ErrNoRelease) || errors.Is(err, stream.ErrDamaged)
}

// library finds what the job runs on, and records it: for an answer, and for what a job has dispatched to its own
// context, the release that its parent ran on (rule 18); for any other job the pool's current one, and for one that
// failed, held its context and was let go, so that a push mends it.
func (j *judge) library(ctx context.Context, t *trial) (*scripting.Library, error) {
	release := t.job.Release
	if t.call != nil {
		release = t.call.Release
	}
	if t.old.Renewed == t.message.Sequence {
		release = ""
	}
	t.release = release
	l, err := j.libraries.of(ctx, release)
	if unusable(err) {
		return nil, dead(job.ReasonNoRelease, "the job belongs to a flow that began on the release %s: %v", release, err)
	} else if err != nil {
		return nil, err
	}
	t.release = l.Release()
	return l, nil
}
