package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// How far back a caller's repeat is recognised, once the server has forgotten what it knew.

var horizon = fault{"horizon", "a caller's repeat after the server was killed: recognised while fewer than 256 jobs of its context came between", func(p planning) []*trial {
	if p.scale == scaleSmoke {
		return nil
	}
	s := size{contexts: 1, jobs: 2 * job.MaxRecent, mix: mix{kindCount: 1}}
	return []*trial{{
		fault: "horizon", name: "horizon/1", limit: 10 * time.Minute, detail: fmt.Sprintf("%d jobs of one context, repeated from the last to the first", s.jobs),
		play: func(ctx context.Context, t *trial) error { return t.horizon(ctx, s) },
	}}
}}

// horizon repeats a context's jobs, the youngest first, until one takes effect again.
func (t *trial) horizon(ctx context.Context, s size) error {
	return t.onOwn(ctx, 1, false, s, func(st *stage) error {
		if err := st.startWorkers(ctx, 1); err != nil {
			return err
		}
		if err := st.callers.publish(ctx); err != nil {
			return err
		}
		if err := st.pool.quiet(ctx); err != nil {
			return err
		}
		if err := st.killNodes(ctx, "kill -9 of the server", st.servers.nodes[0]); err != nil {
			return err
		}
		tasks := slices.Clone(st.load.tasks[st.load.contexts[0]])
		slices.Reverse(tasks)
		for between, task := range tasks {
			again, err := st.takesEffect(ctx, task)
			if err != nil {
				return err
			}
			if !again {
				t.tally["repeats recognised"]++
				continue
			}
			t.tally["jobs between a job and its repeat when it was taken again"] = between
			if between != job.MaxRecent {
				st.violate(fmt.Sprintf("a repeat took effect when %d jobs had come between, want %d", between, job.MaxRecent))
			}
			return nil
		}
		st.violate("every repeat was recognised: the horizon is not what docs say")
		return nil
	})
}

// takesEffect publishes a task once more, and tells whether it ran again.
func (st *stage) takesEffect(ctx context.Context, t task) (bool, error) {
	known := st.callers.repeated
	if err := st.callers.insist(ctx, t); err != nil {
		return false, err
	}
	if st.callers.repeated > known { // by the stream, which holds a job still that was acked as the server went down
		return false, nil
	}
	if err := st.pool.quiet(ctx); err != nil {
		return false, err
	}
	e, err := st.pool.streams.ContextFromLeader(ctx, t.context)
	if err != nil {
		return false, err
	}
	c, err := job.DecodeCommit(e.Data)
	if err != nil {
		return false, err
	}
	if c.Report.Job != t.id {
		return false, fmt.Errorf("context %s: the last commit is that of %s, want %s", t.context, c.Report.Job, t.id)
	}
	return c.Report.Outcome != job.OutcomeDuplicate, nil
}
