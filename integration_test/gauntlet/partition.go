package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/thence-dev/thence/integration_test/gauntlet/netns"
	"github.com/thence-dev/thence/internal/job"
)

// Real partitions: servers and workers are hosts of their own, in network namespaces, and some of them are cut off from
// some others. Hosts 0 to 2 are the servers, 3 to 5 the workers. The callers reach all servers.

var partitionWorker = fault{"partition-worker", "a worker is cut off from all three servers for 8 s, R3", func(p planning) []*trial {
	return planPartitions(p, "partition-worker", func(_ context.Context, _ *stage, rng *rand.Rand) ([][2]int, error) {
		w := 3 + rng.IntN(3)
		return [][2]int{{w, 0}, {w, 1}, {w, 2}}, nil
	})
}}

var partitionServer = fault{"partition-server", "the server that leads the jobs, the calls or the contexts is cut off from the others for 8 s, not from workers, R3", func(p planning) []*trial {
	return planPartitions(p, "partition-server", func(ctx context.Context, st *stage, rng *rand.Rand) ([][2]int, error) {
		p := st.pool.name
		stream := []string{job.JobsStream(p), job.CallsStream(p), job.ContextsStream(p)}[rng.IntN(3)]
		leader, err := st.servers.leader(ctx, st.pool.nc, stream)
		if err != nil {
			return nil, err
		}
		var cuts [][2]int
		for i, n := range st.servers.nodes {
			if n == leader {
				cuts = [][2]int{{i, (i + 1) % 3}, {i, (i + 2) % 3}}
			}
		}
		return cuts, nil
	})
}}

// cutOff is how long a partition lasts: longer than servers and clients wait for each other.
const cutOff = 8 * time.Second

// leaderKnows is how long a leader that is cut off may go on as one (10 s, the time that nats-server takes a majority for
// there without a word of it), and a new one may take to catch up.
const leaderKnows = 12 * time.Second

func planPartitions(p planning, name string, choose func(context.Context, *stage, *rand.Rand) ([][2]int, error)) []*trial {
	var all []*trial
	for i := range pick(p.scale, 0, 0, 1, 3) {
		full := fmt.Sprintf("%s/%d", name, i+1)
		rng := source(p.seed, full+"/plan")
		at, subnet := places(rng, pick(p.scale, 1, 1, 2, 3)), rng.IntN(256)
		s := size{contexts: pick(p.scale, 20, 40, 80, 200), jobs: 15, mix: everything, repeats: 15}
		all = append(all, &trial{
			fault: name, name: full, limit: 10 * time.Minute, needs: needsRoot, detail: fmt.Sprintf("at %v percent of the commits", at),
			play: func(ctx context.Context, t *trial) error {
				return t.partition(ctx, s, subnet, func(ctx context.Context, st *stage, net *netns.Net) error {
					return st.atPlaces(ctx, at, func(ctx context.Context) error {
						cuts, err := choose(ctx, st, t.rng)
						if err != nil {
							return err
						}
						return st.cut(ctx, net, cuts)
					})
				})
			},
		})
	}
	return all
}

// cut makes a partition, and heals it.
func (st *stage) cut(ctx context.Context, net *netns.Net, cuts [][2]int) error {
	for _, c := range cuts {
		if err := net.Cut(ctx, c[0], c[1]); err != nil {
			return err
		}
	}
	st.tally["partitions"]++
	if err := pause(ctx, cutOff); err != nil {
		return err
	}
	for _, c := range cuts {
		if err := net.Heal(ctx, c[0], c[1]); err != nil {
			return err
		}
	}
	return nil
}

// partition plays on six hosts.
func (t *trial) partition(ctx context.Context, s size, subnet int, hurt func(context.Context, *stage, *netns.Net) error) error {
	net, err := netns.New(ctx, fmt.Sprintf("g%05x", digest(t.dir)&0xfffff), subnet, 6)
	if err != nil {
		return skip{err}
	}
	defer net.Close()
	on, err := newServers(t.dir, t.gauntlet.binary, 3, false)
	if err != nil {
		return err
	}
	for i, n := range on.nodes {
		n.within, n.listen, n.cluster = net.Within(i), net.Address(i)+":4222", net.Address(i)+":6222"
	}
	defer on.end()
	if err := on.start(ctx); err != nil {
		return err
	}
	t.host = net.Gateway()
	st, err := t.open(ctx, on, s)
	defer st.close()
	if err != nil {
		return err
	}
	st.oldWord = leaderKnows
	for i := range 3 {
		st.within = net.Within(3 + i)
		if err := st.startWorkers(ctx, 1); err != nil {
			return err
		}
	}
	return st.run(ctx, func(ctx context.Context, st *stage) error { return hurt(ctx, st, net) })
}
