package worker

import (
	"context"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// oldWord is a stream whose leader was cut off: it tells an old end of the stream for a while.
type oldWord struct {
	journal
	times int // that it does so
	old   uint64
}

func (o *oldWord) LastJob(ctx context.Context) (uint64, error) {
	if o.times--; o.times >= 0 {
		return o.old, nil
	}
	return o.journal.LastJob(ctx)
}

// TestOldWord: a context that seems to be ahead of its stream, as the leader's word is an old one, is no reason to stop.
// The delivery is acked once the stream's end is known.
func TestOldWord(t *testing.T) {
	b := newBed(t)
	ctx := within(t, 20*time.Second)
	seq := b.publish("p.c", "", job.HeaderScript, "next")
	g := goal{name: "c", target: seq, delivered: 1, applied: func(uint64) {}, yield: func() error { return nil }, away: here, brief: here, begun: new(uint64)}
	first, _ := b.process(-2, false)
	if err := first.advance(ctx, g); err != nil {
		t.Fatal(err)
	}
	second, _ := b.process(-2, false)
	second.stream = &oldWord{journal: second.stream, times: 3, old: seq - 1}
	pauses, acked := 0, false
	second.pause = func(context.Context, time.Duration) error { pauses++; return nil }
	g.applied = func(uint64) { acked = true }
	if err := second.advance(ctx, g); err != nil {
		t.Fatalf("the worker stops: %v", err)
	}
	if !acked || pauses != 3 {
		t.Errorf("acked: %t after %d pauses, want after 3", acked, pauses)
	}
}
