package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// Processes that stand still and go on later, as they do when a virtual machine is moved, or a disk hangs.

var stopWorker = fault{"stop-worker", "SIGSTOP of one of three workers for longer than the ack wait, then SIGCONT", func(p planning) []*trial {
	return planStops(p, "stop-worker", 1, pick(p.scale, 0, 1, 2, 4), 3*ackWait, func(st *stage, rng *rand.Rand) (*process, error) {
		return st.workers[rng.IntN(len(st.workers))], nil
	})
}}

var stopServer = fault{"stop-server", "SIGSTOP of the only server, or of the leader of three, then SIGCONT", func(p planning) []*trial {
	trials := planStops(p, "stop-server/single", 1, pick(p.scale, 0, 0, 1, 3), 4*time.Second, func(st *stage, _ *rand.Rand) (*process, error) {
		return st.servers.nodes[0].proc, nil
	})
	return append(trials, planStops(p, "stop-server/leader", 3, pick(p.scale, 0, 0, 1, 3), 12*time.Second, func(st *stage, rng *rand.Rand) (*process, error) {
		p := st.pool.name
		stream := []string{job.JobsStream(p), job.CallsStream(p), job.ContextsStream(p)}[rng.IntN(3)]
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		leader, err := st.servers.leader(ctx, st.pool.nc, stream)
		if err != nil {
			return nil, err
		}
		return leader.proc, nil
	})...)
}}

func planStops(p planning, name string, servers, trials int, length time.Duration, victim func(*stage, *rand.Rand) (*process, error)) []*trial {
	var all []*trial
	for i := range trials {
		full := fmt.Sprintf("%s/%d", name, i+1)
		at := places(source(p.seed, full+"/plan"), pick(p.scale, 1, 2, 2, 4))
		s := size{contexts: pick(p.scale, 20, 60, 150, 300), jobs: 20, mix: everything, repeats: 15}
		all = append(all, &trial{
			fault: faultOf(name), name: full, limit: 10 * time.Minute, detail: fmt.Sprintf("%s each, at %v percent of the commits", length, at),
			play: func(ctx context.Context, t *trial) error {
				return t.onOwn(ctx, servers, false, s, func(st *stage) error {
					if servers > 1 {
						st.oldWord = length
					}
					if err := st.startWorkers(ctx, 3); err != nil {
						return err
					}
					return st.run(ctx, func(ctx context.Context, st *stage) error {
						return st.atPlaces(ctx, at, func(ctx context.Context) error { return st.freeze(ctx, length, victim) })
					})
				})
			},
		})
	}
	return all
}

// freeze stops a process for a while.
func (st *stage) freeze(ctx context.Context, length time.Duration, victim func(*stage, *rand.Rand) (*process, error)) error {
	p, err := victim(st, st.rng)
	if err != nil {
		return err
	}
	p.signal(syscall.SIGSTOP)
	defer p.signal(syscall.SIGCONT)
	st.tally["SIGSTOP and SIGCONT"]++
	return pause(ctx, length)
}
