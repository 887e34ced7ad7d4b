package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Heavy loads, each with kills on the way. They want the machine for themselves.

var hotContext = fault{"hot-context", "one context with 100,000 jobs, workers are killed on the way", func(p planning) []*trial {
	return planLoad(p, "hot-context", size{contexts: 1, jobs: 100_000, mix: mix{kindCount: 1}}, 4, 0, 0)
}}

var backlog = fault{"backlog", "1,000,000 jobs over 100,000 contexts are there before the workers, which are killed on the way, as is the server", func(p planning) []*trial {
	return planLoad(p, "backlog", size{contexts: 100_000, jobs: 10, mix: mix{kindCount: 1}}, 6, 2, 0)
}}

var duplicateStorm = fault{"duplicate-storm", "each of 100,000 jobs is published up to five times, also after the server was killed", func(p planning) []*trial {
	return planLoad(p, "duplicate-storm", size{contexts: 1000, jobs: 100, mix: mix{kindCount: 1}, repeats: 60}, 2, 0, 2)
}}

func planLoad(p planning, name string, s size, workerKills, serverKills, republished int) []*trial {
	if p.scale != scaleFull {
		return nil
	}
	rng := source(p.seed, name+"/plan")
	l := load{size: s, workers: places(rng, workerKills), servers: places(rng, serverKills), republished: republished}
	return []*trial{{
		fault: name, name: name + "/1", alone: true, limit: 40 * time.Minute, room: 2 << 30,
		detail: fmt.Sprintf("workers killed at %v, the server at %v percent of the commits; published again %d times", l.workers, l.servers, republished),
		play:   func(ctx context.Context, t *trial) error { return t.load(ctx, l) },
	}}
}

// load is a heavy load.
type load struct {
	size             size
	workers, servers []int // percentages at which one is killed
	republished      int   // how often everything is published again, after the server was killed
}

func (t *trial) load(ctx context.Context, l load) error {
	return t.onOwn(ctx, 1, false, l.size, func(st *stage) error {
		st.lastOnly = true
		began := time.Now()
		if err := st.callers.publish(ctx); err != nil {
			return err
		}
		t.tally["seconds to publish"] = int(time.Since(began).Seconds())
		began = time.Now()
		if err := st.startWorkers(ctx, 3); err != nil {
			return err
		}
		if err := st.killBoth(ctx, l); err != nil {
			return err
		}
		for range l.republished {
			if err := st.killNodes(ctx, "kill -9 of the server", st.servers.nodes[0]); err != nil {
				return err
			}
			if err := st.callers.republish(ctx); err != nil {
				return err
			}
		}
		if err := st.pool.quiet(ctx); err != nil {
			return err
		}
		t.tally["seconds to work off"] = int(time.Since(began).Seconds())
		return st.settle(ctx)
	})
}

// killBoth kills workers and the server, each at its places.
func (st *stage) killBoth(ctx context.Context, l load) error {
	at := slices.Sorted(slices.Values(slices.Concat(l.workers, l.servers)))
	return st.atPlaces(ctx, at, func(ctx context.Context) error {
		percent := at[0]
		at = at[1:]
		if slices.Contains(l.servers, percent) {
			return st.killNodes(ctx, "kill -9 of the server", st.servers.nodes[0])
		}
		return st.replace(st.rng.IntN(len(st.workers)))
	})
}
