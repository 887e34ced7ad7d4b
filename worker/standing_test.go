package worker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// noted is a journal that notes what is written, in order.
type noted struct {
	journal
	mu      sync.Mutex
	written []string
}

func (n *noted) note(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.written = append(n.written, what)
}

func (n *noted) Commit(ctx context.Context, name string, data []byte, on stream.Base) (uint64, error) {
	got, err := n.journal.Commit(ctx, name, data, on)
	if err == nil {
		n.note("commit")
	}
	return got, err
}

func (n *noted) Publish(ctx context.Context, m job.Message) error {
	n.note(m.Subject)
	return n.journal.Publish(ctx, m)
}

func (n *noted) commits() int {
	return len(slices.DeleteFunc(slices.Clone(n.written), func(what string) bool { return what != "commit" }))
}

// takenBack is a journal whose first reads of a context show a commit that the server could not store and has lost since.
type takenBack struct {
	journal
	reads int
	entry stream.Entry
}

func (j *takenBack) Context(ctx context.Context, name string) (stream.Entry, error) {
	if j.reads--; j.reads >= 0 {
		return j.entry, nil
	}
	return j.journal.Context(ctx, name)
}

// noting is a process whose writes are noted, in place of one that has died.
func (b *bed) noting() (*rounds, *noted) {
	b.t.Helper()
	r, _ := b.process(-2, false)
	n := &noted{journal: b.pool}
	r.stream, r.outbox.stream = n, n
	return r, n
}

func (b *bed) commitOf(ctx context.Context, name string) (job.Commit, uint64) {
	b.t.Helper()
	e, err := b.pool.ContextFromLeader(ctx, name)
	if err != nil {
		b.t.Fatal(err)
	}
	c, err := job.DecodeCommit(e.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return c, e.Revision
}

// TestReadCommitIsWrittenAgain: a commit that a worker finds is written again, unchanged, before its effects are published and
// its job is acked (rule 3). Its calls carry the revision that was acked.
func TestReadCommitIsWrittenAgain(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ctx := within(t, 20*time.Second)
	seq := b.publish("p.c", "", job.HeaderScript, "start")
	g := b.committed(ctx, seq)
	before, revision := b.commitOf(ctx, "c")
	r, n := b.noting()
	acked := 0
	g.delivered, g.applied = 2, func(uint64) { acked++ }
	if err := r.advance(ctx, g); err != nil || acked != 1 {
		t.Fatalf("%v, acked %d times", err, acked)
	}
	after, now := b.commitOf(ctx, "c")
	equal(t, "first of what was written", n.written[0], "commit")
	equal(t, "writes", len(n.written), 1+len(before.Outbox))
	equal(t, "attempt", after.Attempt, before.Attempt)
	equal(t, "commit that it repeats", after.Repeats, revision)
	equal(t, "state", string(after.State), string(before.State))
	equal(t, "effects", len(after.Outbox), len(before.Outbox))
	err := b.pool.QueuedCalls(ctx, "c", func(m job.Message) bool {
		var call job.Call
		if err := json.Unmarshal(m.Data, &call); err != nil {
			t.Error(err)
		}
		equal(t, "revision of call "+call.ID, call.Revision, now)
		return true
	})
	if err != nil {
		t.Error(err)
	}
	if err := r.advance(ctx, g); err != nil || acked != 2 {
		t.Errorf("%v, acked %d times", err, acked)
	}
	equal(t, "writes of what is known to stand", len(n.written), 1+len(before.Outbox))
}

// TestCommitIsTakenBack: of a commit that was read from a server which then lost it nothing is published, and its job is not
// acked, but run (rule 3).
func TestCommitIsTakenBack(t *testing.T) {
	t.Parallel()
	for name, applied := range map[string]uint64{"the job's own": 0, "a later one": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			ctx := within(t, 20*time.Second)
			seq := b.publish("p.c", "", job.HeaderScript, "next")
			lost := job.Commit{
				Version: job.Version, State: []byte("{}"), Applied: seq + applied, Attempt: "x", Report: job.Report{Sequence: seq + applied, Worker: "gone"},
				Outbox: []job.Effect{{Kind: job.EffectJob, Job: &job.Dispatched{To: "p.other", Caller: "p.c", Script: "next"}}},
			}
			r, n := b.noting()
			r.stream = &takenBack{journal: n, reads: 1, entry: stream.Entry{Revision: 1, Over: b.pool.Connection(), Data: encode(lost)}}
			acked := 0
			g := goal{name: "c", target: seq, delivered: 2, applied: func(uint64) { acked++ },
				yield: func() error { return nil }, away: here, brief: here, begun: new(uint64)}
			if err := r.advance(ctx, g); err != nil || acked == 0 {
				t.Fatalf("%v, acked %d times", err, acked)
			}
			c, _ := b.commitOf(ctx, "c")
			equal(t, "job", c.Report.Sequence, seq)
			equal(t, "outcome", c.Report.Outcome, job.OutcomeDone)
			equal(t, "commit that it repeats", c.Repeats, 0)
			equal(t, "writes", len(n.written), 1)
		})
	}
}

// TestLeftToItsWorker: a job that another worker has applied, and was handed out once, is left to that worker: it is about to
// ack it. One that comes again is not.
func TestLeftToItsWorker(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ctx := within(t, 20*time.Second)
	g := b.committed(ctx, b.publish("p.c", "", job.HeaderScript, "start"))
	r, n := b.noting()
	r.judge.worker = "another"
	if err := r.advance(ctx, g); !errors.Is(err, errGone) {
		t.Fatalf("%v, want the delivery left", err)
	}
	equal(t, "writes", len(n.written), 0)
	acked := 0
	g.delivered, g.applied = 2, func(uint64) { acked++ }
	if err := r.advance(ctx, g); err != nil || acked != 1 {
		t.Fatalf("%v, acked %d times", err, acked)
	}
	equal(t, "commits", n.commits(), 1)
}

// TestLaterAckProves: what was read stands once a later commit was acked over the same connection, whatever its context.
func TestLaterAckProves(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ctx := within(t, 20*time.Second)
	g := b.committed(ctx, b.publish("p.c", "", job.HeaderScript, "start"))
	r, n := b.noting()
	other := g
	other.name, other.target, other.applied = "other", b.publish("p.other", "", job.HeaderScript, "next"), func(uint64) {}
	if err := r.advance(ctx, other); err != nil {
		t.Fatal(err)
	}
	acked := 0
	g.delivered, g.applied = 2, func(uint64) { acked++ }
	if err := r.advance(ctx, g); err != nil || acked != 1 {
		t.Fatalf("%v, acked %d times", err, acked)
	}
	equal(t, "commits", n.commits(), 1) // that of the other context
}

// TestAckedBase: an ack says nothing of what was read over another connection, nor of what came after it.
func TestAckedBase(t *testing.T) {
	var a acked
	a.add(stream.Base{Revision: 7, Over: 2})
	a.add(stream.Base{Revision: 9, Over: 1}) // of a connection that is gone
	for b, want := range map[stream.Base]bool{
		{Revision: 7, Over: 2}: true, {Revision: 6, Over: 2}: true, {Revision: 8, Over: 2}: false,
		{Revision: 6, Over: 1}: false, {Revision: 6, Over: 3}: false, {Revision: 12}: true,
	} {
		equal(t, "stands", a.covers(b), want)
	}
}

// TestStandingForCalls: what a call is given up for is written again, and nothing where the context has changed since.
func TestStandingForCalls(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ctx := within(t, 20*time.Second)
	_ = b.committed(ctx, b.publish("p.c", "", job.HeaderScript, "start"))
	read, err := b.pool.ContextFromLeader(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	r, n := b.noting()
	if err := r.standing(ctx, "c", read); err != nil {
		t.Fatal(err)
	}
	if err := r.standing(ctx, "c", read); err != nil {
		t.Fatal(err)
	}
	equal(t, "writes", len(n.written), 1)
	r, n = b.noting()
	if err := r.standing(ctx, "c", read); !errors.Is(err, stream.ErrConflict) {
		t.Errorf("%v, want a conflict", err)
	}
	equal(t, "writes", len(n.written), 0)
}

// skipping is a journal whose server has lost its disk: it passes over a job that it can't read any more, and its connection is lost
// before the next commit is sent.
type skipping struct {
	journal
	skips    uint64 // sequence that is passed over, once
	lost     bool   // the connection that the head was read over
	refusals int
}

func (s *skipping) Connection() uint64 {
	if s.lost {
		return s.journal.Connection() + 1
	}
	return s.journal.Connection()
}

func (s *skipping) NextJob(ctx context.Context, name string, from uint64) (job.Message, error) {
	m, err := s.journal.NextJob(ctx, name, from)
	if err != nil || m.Sequence != s.skips || s.lost {
		return m, err
	}
	m, err = s.journal.NextJob(ctx, name, m.Sequence+1)
	s.lost = true
	return m, err
}

func (s *skipping) Commit(ctx context.Context, name string, data []byte, on stream.Base) (uint64, error) {
	if on.Over != 0 && on.Over != s.Connection() {
		s.refusals++
		return 0, stream.ErrConflict
	}
	on.Over = 0 // the bed's connection is the same
	return s.journal.Commit(ctx, name, data, on)
}

// TestHeadOfAnotherConnection: a head that was read over a connection which is lost by then is not committed on, although the
// commit before it stands: the server may have passed over a job that it has again now (rule 3).
func TestHeadOfAnotherConnection(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ctx := within(t, time.Minute)
	r, _ := b.process(-2, false)
	s := &skipping{journal: b.pool}
	r.stream, r.outbox.stream = s, s
	var acked []uint64
	advance := func(seq uint64) error {
		return r.advance(ctx, goal{
			name: "a", target: seq, delivered: 1, applied: func(seq uint64) { acked = append(acked, seq) },
			yield: func() error { return nil }, away: here, brief: here, begun: new(uint64),
		})
	}
	first := b.publish("p.a", "", job.HeaderScript, "next")
	if err := advance(first); err != nil { // what it commits stands
		t.Fatal(err)
	}
	second, third := b.publish("p.a", "", job.HeaderScript, "next"), b.publish("p.a", "", job.HeaderScript, "next")
	s.skips = second
	if err := advance(third); err != nil {
		t.Fatal(err)
	}
	if want := []uint64{first, second, third}; !slices.Equal(slices.Compact(acked), want) {
		t.Errorf("jobs %v took effect, want %v", acked, want)
	}
	equal(t, "commits over the connection that was lost", s.refusals, 1)
}
