package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// Kills at random. Each comes when so many of the expected commits have been written, so that a fast machine is hurt at
// the same places as a slow one.

var killWorkers = fault{"kill-workers", "kill -9 of one of three workers, again and again", func(p planning) []*trial {
	return planKills(p, "kill-workers", 1, pick(p.scale, 0, 1, 2, 4), func(ctx context.Context, st *stage, rng *rand.Rand) error {
		return st.replace(rng.IntN(len(st.workers)))
	})
}}

var killServer = fault{"kill-server", "kill -9 of the only server, again and again; once it is back everything is published once more", func(p planning) []*trial {
	return planKills(p, "kill-server", 1, pick(p.scale, 0, 1, 2, 4), func(ctx context.Context, st *stage, _ *rand.Rand) error {
		return st.killNodes(ctx, "kill -9 of the server", st.servers.nodes[0])
	})
}}

var killOneOfThree = fault{"kill-one-of-three", "kill -9 of one of three servers, R3", func(p planning) []*trial {
	return planKills(p, "kill-one-of-three", 3, pick(p.scale, 0, 0, 1, 3), func(ctx context.Context, st *stage, rng *rand.Rand) error {
		return st.killNodes(ctx, "kill -9 of a server of three", st.servers.nodes[rng.IntN(3)])
	})
}}

var killLeader = fault{"kill-leader", "kill -9 of the server that leads the jobs, the calls or the contexts, R3", func(p planning) []*trial {
	return planKills(p, "kill-leader", 3, pick(p.scale, 0, 0, 1, 3), func(ctx context.Context, st *stage, rng *rand.Rand) error {
		p := st.pool.name
		stream := []string{job.JobsStream(p), job.CallsStream(p), job.ContextsStream(p)}[rng.IntN(3)]
		leader, err := st.servers.leader(ctx, st.pool.nc, stream)
		if err != nil {
			return err
		}
		return st.killNodes(ctx, "kill -9 of a leader", leader)
	})
}}

var killAllThree = fault{"kill-all-three", "kill -9 of all three servers at once, R3", func(p planning) []*trial {
	return planKills(p, "kill-all-three", 3, pick(p.scale, 0, 0, 1, 3), func(ctx context.Context, st *stage, _ *rand.Rand) error {
		return st.killNodes(ctx, "kill -9 of all three servers", st.servers.nodes...)
	})
}}

// planKills plans trials with kills on servers of their own.
func planKills(p planning, name string, servers, trials int, kill func(context.Context, *stage, *rand.Rand) error) []*trial {
	var all []*trial
	for i := range trials {
		full := fmt.Sprintf("%s/%d", name, i+1)
		at := places(source(p.seed, full+"/plan"), pick(p.scale, 1, 3, 4, 8))
		s := size{contexts: pick(p.scale, 20, 60, 150, 300), jobs: 20, mix: everything, repeats: 15}
		all = append(all, &trial{
			fault: name, name: full, limit: 10 * time.Minute, detail: fmt.Sprintf("kills at %v percent of the commits", at),
			play: func(ctx context.Context, t *trial) error { return t.kills(ctx, servers, s, at, kill) },
		})
	}
	return all
}

// places are percentages of a workload, ascending.
func places(rng *rand.Rand, n int) []int {
	var at []int
	for i := range n {
		low, high := 2+i*90/n, 2+(i+1)*90/n
		at = append(at, low+rng.IntN(high-low))
	}
	return at
}

func (t *trial) kills(ctx context.Context, n int, s size, at []int, kill func(context.Context, *stage, *rand.Rand) error) error {
	return t.onOwn(ctx, n, false, s, func(st *stage) error {
		if err := st.startWorkers(ctx, 3); err != nil {
			return err
		}
		st.again = n == 1
		return st.run(ctx, func(ctx context.Context, st *stage) error {
			return st.atPlaces(ctx, at, func(ctx context.Context) error { return kill(ctx, st, t.rng) })
		})
	})
}

// onOwn plays on servers of the trial's own, which end with it.
func (t *trial) onOwn(ctx context.Context, n int, always bool, s size, play func(*stage) error) error {
	on, err := newServers(t.dir, t.gauntlet.binary, n, always)
	if err != nil {
		return err
	}
	defer on.end()
	if err := on.start(ctx); err != nil {
		return err
	}
	st, err := t.open(ctx, on, s)
	defer st.close()
	if err != nil {
		return err
	}
	return play(st)
}

// atPlaces does something each time that so many percent of the commits were written.
func (st *stage) atPlaces(ctx context.Context, percent []int, do func(context.Context) error) error {
	g, err := st.pool.follow()
	if err != nil {
		return err
	}
	defer g.stop()
	for _, at := range percent {
		if err := st.reached(ctx, g, at*st.load.commits()/100); err != nil {
			return err
		}
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// reached waits for so many writes. Writes that nobody counted, as the connection was away, must not keep a fault from
// coming: after a while without one it comes all the same.
func (st *stage) reached(ctx context.Context, g *progress, n int) error {
	for {
		before := g.count(0)
		window, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errNoProgress)
		err := g.reached(window, n)
		cancel()
		if !errors.Is(err, errNoProgress) {
			return err
		}
		if g.count(0) == before {
			st.tally["faults that came without the progress they waited for"]++
			return nil
		}
	}
}

// errNoProgress ends a wait for progress.
var errNoProgress = errors.New("no progress")

// killNodes kills servers at once, starts them again, and waits until there are leaders.
func (st *stage) killNodes(ctx context.Context, what string, nodes ...*node) error {
	for _, n := range nodes {
		n.proc.signal(syscall.SIGKILL)
	}
	for _, n := range nodes {
		<-n.proc.ended
	}
	st.tally[what]++
	for _, n := range nodes {
		if err := st.servers.restart(ctx, n); err != nil {
			return err
		}
	}
	return st.servers.awaitStreams(ctx)
}
