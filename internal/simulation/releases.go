package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// releases are the pool's, and who turned to which when. Their chance is one of their own: a history in which nothing is
// pushed is the same as if there were no releases.
type releases struct {
	rng   *rand.Rand
	turns []stream.Turn             // by their revisions, from 0; the last is the current one
	store map[string]stream.Release // guarded by the world's mu
	asked map[uint64]bool           // sequences of jobs that failed, and were to be mended or not
}

func (r *releases) begin(w *World) {
	r.rng, r.store = rand.New(rand.NewPCG(w.seed, 0x72656c65617365)), map[string]stream.Release{}
	r.asked = map[uint64]bool{}
	r.turn(w, r.next())
	if !chance(r.rng, 0.5) {
		return
	}
	for range 1 + r.rng.IntN(4) {
		w.agenda.at(time.Now().Add(between(r.rng, 10*time.Millisecond, w.plan.span)), func() { r.push(w) })
	}
}

// next is a release that was never there.
func (r *releases) next() stream.Release {
	scripts := map[string]string{Plain: fmt.Sprintf("// release %d", len(r.store)+1)}
	return stream.Release{Name: job.ReleaseName(scripts), Scripts: scripts}
}

// push makes a release the current one: a new one, or one that was there before. While the server is away it tries again.
func (r *releases) push(w *World) {
	if !w.server.up {
		w.agenda.at(time.Now().Add(time.Second), func() { r.push(w) })
		return
	}
	to := r.next()
	if chance(r.rng, 0.3) {
		to = r.store[r.turns[r.rng.IntN(len(r.turns))].Name]
	}
	w.stats.Turns++
	r.turn(w, to)
}

// mends tells whether an operator pushes what is to mend a job that failed, before it may go on.
func (r *releases) mends(failed uint64) bool {
	if failed == 0 || r.asked[failed] {
		return false
	}
	r.asked[failed] = true
	return chance(r.rng, 0.5)
}

func (r *releases) turn(w *World, to stream.Release) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.store[to.Name] = to
	r.turns = append(r.turns, stream.Turn{Name: to.Name, Time: time.Now(), By: "ada", Revision: uint64(len(r.turns))})
	w.note("operator", "turns to", to.Name, uint64(len(r.turns)-1), 0, "")
	for _, p := range w.processes {
		w.agenda.at(time.Now().Add(between(r.rng, time.Millisecond, 10*time.Second)), func() { r.tell(w, p) })
	}
}

// tell has a process hear which release is current now. One that is stopped hears it when it goes on.
func (r *releases) tell(w *World, p *Process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case p.life.dead || p.life.ended:
	case !w.server.up:
		w.agenda.at(time.Now().Add(time.Second), func() { r.tell(w, p) })
	case p.life.stopped:
		p.answers = append(p.answers, func() { r.tell(w, p) })
	default:
		select {
		case <-p.turned: // which it has not read yet
		default:
		}
		p.turned <- r.turns[len(r.turns)-1]
	}
}

// least is the revision of the oldest turn that a process which lives still goes by.
func (r *releases) least(w *World) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	least := uint64(len(r.turns) - 1)
	for _, p := range w.processes {
		if !p.life.dead && !p.life.ended {
			least = min(least, p.goesBy)
		}
	}
	return least
}

// Release is the pool's current one when the process starts.
func (p *Process) Release() stream.Release {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	r := &p.world.releases
	return r.store[r.turns[p.goesBy].Name]
}

// LoadRelease reads a release.
func (p *Process) LoadRelease(ctx context.Context, name string) (stream.Release, error) {
	a := p.ask(ctx, "release", name, 0, func() answer { return answer{} })
	if a.err != nil {
		return stream.Release{}, a.err
	}
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	found, ok := p.world.releases.store[name]
	if !ok {
		return found, fmt.Errorf("%w: %s", stream.ErrNoRelease, name)
	}
	return found, nil
}

// WatchRelease calls heard for each turn that the process hears of, until ctx ends. Once it has returned the process goes
// by that turn.
func (p *Process) WatchRelease(ctx context.Context, heard func(stream.Turn)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case t := <-p.turned:
			heard(t)
			p.world.mu.Lock()
			p.goesBy = max(p.goesBy, t.Revision)
			p.world.mu.Unlock()
		}
	}
}
