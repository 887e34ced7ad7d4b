package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
)

// ReleaseOf is a library as a pool keeps it.
func ReleaseOf(l *scripting.Library) stream.Release {
	r := stream.Release{Name: l.Release(), Scripts: map[string]string{}}
	for _, name := range l.Names() {
		r.Scripts[name], _ = l.Source(name)
	}
	return r
}

// Adopt is what a worker does about its own scripts when it starts. It returns the release that the pool runs then.
//
// Scripts that were never the pool's current release become it. Those that were, and are not any more, don't: somebody
// has pushed others since, or has gone back, and a worker that restarts must not undo that. It says so in the log, and
// runs what the pool runs. Of workers that start at once with different scripts one turns the pool; the others say what
// they run in place of their own.
//
// shipped says that mine has only the scripts that come with the program. They make way for those that anybody chose:
// they become the current release only where there is none, or one that was shipped as well.
//
// mine may be nil: then the pool must have a release. by is who starts, for the history.
func Adopt(ctx context.Context, pool *stream.Pool, mine *scripting.Library, shipped bool, by string, log *slog.Logger) (stream.Turn, error) {
	a := adoption{pool: pool, shipped: shipped, by: by, log: log}
	if mine != nil {
		a.mine = ReleaseOf(mine)
	}
	for {
		now, err := a.try(ctx)
		if !errors.Is(err, stream.ErrTurned) {
			return now, err
		}
		a.lost = true
	}
}

// adoption is one worker's attempt to have its scripts run.
type adoption struct {
	pool    *stream.Pool
	mine    stream.Release // without a name: none
	shipped bool
	by      string
	log     *slog.Logger
	lost    bool // another turned the pool first
}

// try turns the pool if it should be turned. It returns stream.ErrTurned when another was faster.
func (a *adoption) try(ctx context.Context) (stream.Turn, error) {
	now, err := a.pool.CurrentRelease(ctx)
	none := errors.Is(err, stream.ErrNoRelease)
	switch {
	case err != nil && (!none || a.mine.Name == ""):
		return now, err
	case none:
		return a.turn(ctx, 0)
	case a.mine.Name == "":
		return now, nil
	case a.mine.Name == now.Name:
		return now, a.pool.StoreRelease(ctx, a.mine) // mends what may be damaged
	case !now.Shipped && (a.shipped || a.lost):
		a.yield(now)
		return now, nil
	}
	turns, err := a.pool.ReleaseTurns(ctx)
	if err != nil {
		return now, err
	}
	i := slices.IndexFunc(turns, func(t stream.Turn) bool { return t.Name == a.mine.Name })
	if i >= 0 {
		a.leave(now, turns[i])
		return now, nil
	}
	return a.turn(ctx, now.Revision)
}

func (a *adoption) turn(ctx context.Context, expect uint64) (stream.Turn, error) {
	if err := a.pool.StoreRelease(ctx, a.mine); err != nil {
		return stream.Turn{}, err
	}
	from := "worker --scripts"
	if a.shipped {
		from = "worker"
	}
	now, err := a.pool.TurnRelease(ctx, stream.Turn{Name: a.mine.Name, By: a.by, From: from, Shipped: a.shipped}, expect)
	if err == nil {
		a.log.Info("the worker's scripts are the pool's current release", "release", now.Name, "scripts", len(a.mine.Scripts))
	}
	return now, err
}

// yield leaves the pool with what somebody chose.
func (a *adoption) yield(now stream.Turn) {
	if a.shipped { // that is what pushed releases are for
		return
	}
	a.log.Warn("another worker that started meanwhile has other scripts: this one runs those, and not its own. "+
		"`thence scripts diff` shows what differs, and `thence scripts push` decides", a.attrs(now)...)
}

// leave says that the worker's scripts were current until a later turn.
func (a *adoption) leave(now, then stream.Turn) {
	if a.shipped {
		a.log.Info("the pool runs other shipped scripts than this program has", a.attrs(now)...)
		return
	}
	attrs := append(a.attrs(now), "was_current", then.Time, "change_it", fmt.Sprintf("thence scripts rollback %s %s", a.pool.Name, a.mine.Name))
	a.log.Warn("the worker's scripts were the pool's current release before, and are not any more: "+
		"it runs what the pool runs, and not its own", attrs...)
}

func (a *adoption) attrs(now stream.Turn) []any {
	return []any{"release", now.Name, "since", now.Time, "by", now.By, "from", now.From, "mine", a.mine.Name}
}
