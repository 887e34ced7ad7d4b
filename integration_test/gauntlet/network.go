package main

import (
	"context"
	"fmt"
	"time"

	"github.com/thence-dev/thence/integration_test/gauntlet/wire"
)

// A bad network: a proxy between the workers, or the workers and the callers, and the server.

var slowNetwork = fault{"slow-network", "everything between workers and the server takes 20 to 30 ms each way", func(p planning) []*trial {
	return planNetwork(p, "slow-network", 1, func(ctx context.Context, st *stage, proxy *wire.Proxy, _ []int) error {
		proxy.Harm(wire.Harm{Delay: 20 * time.Millisecond})
		return nil
	})
}}

var cutNetwork = fault{"cut-network", "every connection of workers and callers is cut, again and again", func(p planning) []*trial {
	return planNetwork(p, "cut-network", 2, func(ctx context.Context, st *stage, proxy *wire.Proxy, at []int) error {
		return st.atPlaces(ctx, at, func(context.Context) error { proxy.Cut(); return nil })
	})
}}

var halfOpenNetwork = fault{"half-open-network", "connections of workers and callers stay open, and nothing passes any more", func(p planning) []*trial {
	return planNetwork(p, "half-open-network", 1, func(ctx context.Context, st *stage, proxy *wire.Proxy, at []int) error {
		return st.atPlaces(ctx, at, func(context.Context) error { proxy.HalfOpen(); return nil })
	})
}}

var lostAcks = fault{"lost-acks", "a third of the acks of jobs and calls never reach the server", func(p planning) []*trial {
	return planNetwork(p, "lost-acks", 1, func(_ context.Context, _ *stage, proxy *wire.Proxy, _ []int) error {
		proxy.Harm(wire.Harm{DropAcks: 0.33})
		return nil
	})
}}

var lostAnswers = fault{"lost-answers", "one in fifty of the server's answers to publishes never reaches the worker or the caller", func(p planning) []*trial {
	return planNetwork(p, "lost-answers", 1, func(_ context.Context, _ *stage, proxy *wire.Proxy, _ []int) error {
		proxy.Harm(wire.Harm{DropAnswers: 0.02})
		return nil
	})
}}

// planNetwork plans trials in which everybody but the checks reaches the server through a proxy.
func planNetwork(p planning, name string, more int, hurt func(context.Context, *stage, *wire.Proxy, []int) error) []*trial {
	var all []*trial
	for i := range pick(p.scale, 0, smallHas(name), 1, 1+more) {
		full := fmt.Sprintf("%s/%d", name, i+1)
		at := places(source(p.seed, full+"/plan"), pick(p.scale, 1, 3, 4, 6))
		s := size{contexts: pick(p.scale, 20, 40, 80, 200), jobs: 15, mix: everything, repeats: 15}
		all = append(all, &trial{
			fault: name, name: full, limit: 10 * time.Minute, detail: fmt.Sprintf("at %v percent of the commits, or all the time", at),
			play: func(ctx context.Context, t *trial) error { return t.network(ctx, s, at, hurt) },
		})
	}
	return all
}

// smallHas is how many trials of a fault of the network the small scale has.
func smallHas(name string) int {
	if name == lostAcksName || name == cutName {
		return 1
	}
	return 0
}

const (
	lostAcksName = "lost-acks"
	cutName      = "cut-network"
)

func (t *trial) network(ctx context.Context, s size, at []int, hurt func(context.Context, *stage, *wire.Proxy, []int) error) error {
	return t.onOwn(ctx, 1, false, s, func(st *stage) error {
		proxy, err := wire.New(st.servers.nodes[0].listen, t.rng)
		if err != nil {
			return err
		}
		defer proxy.Close()
		st.through = proxy.URL()
		nc, err := connect(proxy.URL())
		if err != nil {
			return err
		}
		defer nc.Close()
		if st.callers, err = newCallers(nc, st.pool.name, st.load, st.api.url); err != nil {
			return err
		}
		if err := st.startWorkers(ctx, 3); err != nil {
			return err
		}
		err = st.run(ctx, func(ctx context.Context, st *stage) error { return hurt(ctx, st, proxy, at) })
		c := proxy.Counts()
		t.tally.add(tally{
			"connections cut": c.Cut, "connections half-opened": c.HalfOpened, "acks dropped": c.DroppedAcks, "answers dropped": c.DroppedAnswers,
		})
		return err
	})
}
