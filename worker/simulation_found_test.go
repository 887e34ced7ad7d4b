package worker

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// What the simulation found in the protocol, each as a test of its own.

// formerLeader is a journal whose streams of jobs are led by a server that is no leader any more, and does not know it:
// what came after it was cut off is not there.
type formerLeader struct{ noJob }

func (formerLeader) NextJobFromLeader(context.Context, string, uint64) (job.Message, error) {
	return job.Message{}, stream.ErrNone
}

// committed makes a worker commit the job at the head of the context c and end before its first effect is published.
func (b *bed) committed(ctx context.Context, seq uint64) goal {
	b.t.Helper()
	g := goal{name: "c", target: seq, delivered: 1, applied: func(uint64) { b.t.Error("acked") },
		yield: func() error { return nil }, away: here, brief: here, begun: new(uint64)}
	r, _ := b.process(-2, false)
	r.outbox.stream = &brittle{journal: b.pool, left: 0}
	if err := r.advance(ctx, g); !errors.Is(err, errCrash) {
		b.t.Fatal(err)
	}
	return g
}

// TestFormerLeader: a job whose worker died before it published the effects is not acked because a former leader does
// not know it. It is left, and comes again (rule 7).
func TestFormerLeader(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ctx := within(t, 20*time.Second)
	g := b.committed(ctx, b.publish("p.c", "", job.HeaderScript, "start"))
	r, _ := b.process(-2, false)
	r.stream = formerLeader{noJob{b.pool}}
	if err := r.advance(ctx, g); !errors.Is(err, errLeave) {
		t.Errorf("%v, want the delivery left", err)
	}
}

// TestRepublishedCallIsOld: a call that is published again, by a worker that can't know whether it was sent before,
// says since when that may be: its key expires by that time and not by the copy's (rule 14).
func TestRepublishedCallIsOld(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ctx := within(t, 20*time.Second)
	seq := b.publish("p.c", "", job.HeaderScript, "start")
	g := b.committed(ctx, seq)
	r, _ := b.process(-2, false)
	acked := false
	g.applied = func(uint64) { acked = true }
	if err := r.advance(ctx, g); err != nil || !acked {
		t.Fatalf("%v, acked %v", err, acked)
	}
	e, err := b.pool.ContextFromLeader(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	c, err := job.DecodeCommit(e.Data)
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	err = b.pool.QueuedCalls(ctx, "c", func(m job.Message) bool {
		var call job.Call
		if err := json.Unmarshal(m.Data, &call); err != nil {
			t.Error(err)
		}
		if !call.First.Equal(c.Report.Started) {
			t.Errorf("call %s says that its first try was at %v, want %v", call.ID, call.First, c.Report.Started)
		}
		calls++
		return true
	})
	if err != nil || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
