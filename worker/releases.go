package worker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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

// keptReleases is how many libraries a process keeps beside the current one. What flows in flight began on is mostly the
// release before.
const keptReleases = 8

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
}

func (r *releases) of(ctx context.Context, release string) (*scripting.Library, error) {
	if now := r.current.Load(); release == "" || release == now.Release() {
		return now, nil
	}
	if l := r.find(release); l != nil {
		return l, nil
	}
	l, err, _ := r.loading.Do(release, func() (any, error) { return r.load(ctx, release) })
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
	r.kept = append(r.kept, l)
	if len(r.kept) > keptReleases {
		r.kept = slices.Delete(r.kept, 0, 1)
	}
}

// follow makes the pool's current release this process's, whenever there is another, until ctx ends.
func (r *releases) follow(ctx context.Context) error {
	return r.store.WatchRelease(ctx, func(t stream.Turn) {
		for ctx.Err() == nil && !r.turn(ctx, t) {
			_ = pause(ctx, time.Second) // its error is ctx's
		}
	})
}

// turn goes over to another release. It tells whether that is decided: done, or found impossible.
func (r *releases) turn(ctx context.Context, t stream.Turn) bool {
	before := r.current.Load()
	if t.Name == before.Release() {
		return true
	}
	next, err := r.of(ctx, t.Name)
	if err == nil {
		err = r.use(next)
	}
	switch {
	case err == nil:
	case unusable(err):
		r.log.Error("the pool's new release can't be used: this worker stays with the one before, and others may not", "release", t.Name,
			"stays_with", before.Release(), "error", err)
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

// unusable tells that a release is not there as its name says, and that asking again changes nothing.
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
