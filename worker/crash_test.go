package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// brittle is a journal that dies at a given operation: before it, or after it with its answer lost. From then on it
// answers nothing, as a process that was killed.
type brittle struct {
	journal
	after bool

	mu   sync.Mutex
	left int // operations until it dies; negative: never
	done int
	dead bool
}

// op performs an operation, unless the process dies.
func (b *brittle) op(do func() error) error {
	b.mu.Lock()
	if b.dead {
		b.mu.Unlock()
		return errCrash
	}
	b.done++
	b.left--
	dies := b.left == -1
	b.dead = dies
	b.mu.Unlock()
	if !dies {
		return do()
	}
	if b.after {
		_ = do() // it happened, and nobody hears how it went
	}
	return errCrash
}

func (b *brittle) kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead = true
}

func (b *brittle) Context(ctx context.Context, name string) (e stream.Entry, err error) {
	err = b.op(func() error { e, err = b.journal.Context(ctx, name); return err })
	return e, err
}

func (b *brittle) NextJob(ctx context.Context, name string, from uint64) (m job.Message, err error) {
	err = b.op(func() error { m, err = b.journal.NextJob(ctx, name, from); return err })
	return m, err
}

func (b *brittle) Commit(ctx context.Context, name string, data []byte, on stream.Base) (got uint64, err error) {
	err = b.op(func() error { got, err = b.journal.Commit(ctx, name, data, on); return err })
	return got, err
}

func (b *brittle) Publish(ctx context.Context, m job.Message) error {
	return b.op(func() error { return b.journal.Publish(ctx, m) })
}

// crashScripts ask for every kind of effect: calls, a job for the same context, a job for another, a timer, and one that fails.
var crashScripts = map[string]string{
	"start": `
context := import("context")
flow := import("flow")
http := import("http")
context.set("n", context.get("n", 0) + 1)
http.post("https://api.example.com/a", {json: {n: 1}})
flow.dispatch({script: "next"})
flow.dispatch({context: "other", script: "next"})
http.post("https://api.example.com/b", {json: {n: 2}})
flow.dispatch({context: "other", script: "next"})
`,
	"next": `
context := import("context")
context.set("n", context.get("n", 0) + 1)
`,
	"later": `flow := import("flow"); flow.dispatch({script: "next", after: "48h"}); flow.dispatch({context: "other", script: "next"})`,
	"fails": `x := undefined; x.y()`,
}

// drive takes contexts as far as there are jobs, as a worker's lanes do. Each ack is an operation at which the process
// may die.
func (b *bed) drive(ctx context.Context, r *rounds, br *brittle) error {
	js, err := jetstream.New(b.nc)
	if err != nil {
		return err
	}
	jobs, err := js.Stream(ctx, job.JobsStream("p"))
	if err != nil {
		return err
	}
	for worked := true; worked; {
		worked = false
		for _, name := range []string{"c", "other", "a"} {
			m, err := b.pool.NextJob(ctx, name, 1)
			if errors.Is(err, stream.ErrNone) {
				continue
			} else if err != nil {
				return err
			}
			worked = true
			var ackErr error
			ack := func(seq uint64) {
				ackErr = errors.Join(ackErr, br.op(func() error {
					err := jobs.DeleteMsg(ctx, seq)
					if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
						return nil // a second ack touches nothing
					}
					return err
				}))
			}
			err = r.advance(ctx, goal{
				name: name, target: m.Sequence, delivered: 1, applied: ack, yield: func() error { return nil }, away: here, brief: here, begun: new(uint64),
			})
			if err := errors.Join(err, ackErr); err != nil {
				return err
			}
		}
	}
	return nil
}

// process is what a worker process knows: nothing but what it reads.
func (b *bed) process(left int, after bool) (*rounds, *brittle) {
	b.t.Helper()
	w, err := New(b.config(crashScripts))
	if err != nil {
		b.t.Fatal(err)
	}
	r := w.rounds(b.pool, b.keys, only{w.config.Library})
	br := &brittle{journal: b.pool, left: left, after: after}
	r.stream, r.outbox.stream = br, br
	r.outbox.pause = func(context.Context, time.Duration) error { return errCrash } // a dead process tries nothing again
	return r, br
}

// TestCrashAtEveryStep kills a worker before and after each of its operations, lets another go on, and checks that
// every job took effect once, and every effect is there once: rules 1, 3, 4, 5, 6 and 7.
func TestCrashAtEveryStep(t *testing.T) {
	steps := crashRun(t, -2, false, false)
	if steps < 20 {
		t.Fatalf("only %d operations", steps)
	}
	for k := range steps {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("operation %d, after %v", k, after), func(t *testing.T) {
				t.Parallel()
				crashRun(t, k, after, k%3 == 0)
			})
		}
	}
}

// crashRun publishes, works until the crash, perhaps restarts the server, which then has forgotten the ids of acked
// messages, works on, and checks.
func crashRun(t *testing.T, left int, after, restart bool) int {
	t.Helper()
	b := newBed(t)
	ctx := within(t, 20*time.Second)
	b.publish("p.c", "", job.HeaderScript, "start", job.HeaderID, "one")
	b.publish("p.c", "", job.HeaderScript, "fails", job.HeaderID, "two")
	b.publish("p.c", "", job.HeaderScript, "start", job.HeaderID, "three")
	b.publish("p.c", "", job.HeaderScript, "later", job.HeaderID, "four")
	first, br := b.process(left, after)
	if err := b.drive(ctx, first, br); err != nil && !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	steps := br.done
	if restart {
		b.restart()
	}
	second, br := b.process(-2, false)
	if err := b.drive(ctx, second, br); err != nil {
		t.Fatal(err)
	}
	b.checkCrash(ctx)
	return steps
}

func (b *bed) checkCrash(ctx context.Context) {
	b.t.Helper()
	for name, want := range map[string]int{"c": 4, "other": 5} {
		c, _ := b.commitOf(ctx, name)
		if s := state[struct{ N int }](b.t, c); s.N != want {
			b.t.Errorf("%s: n is %d, want %d", name, s.N, want)
		}
	}
	if n := b.letters(); n != 1 {
		b.t.Errorf("%d dead letters, want 1", n)
	}
	js, err := jetstream.New(b.nc)
	if err != nil {
		b.t.Fatal(err)
	}
	calls, err := js.Stream(ctx, job.CallsStream("p"))
	if err != nil {
		b.t.Fatal(err)
	}
	if n := calls.CachedInfo().State.Msgs; n != 5 {
		b.t.Errorf("%d calls and timers, want 4 and 1", n)
	}
}

// stale is a journal whose direct reads lag: the first of each kind is answered by a replica that has heard of nothing
// yet.
type stale struct {
	journal
	contexts, jobs int
}

func (s *stale) Context(ctx context.Context, name string) (stream.Entry, error) {
	if s.contexts++; s.contexts == 1 {
		return stream.Entry{}, nil
	}
	return s.journal.Context(ctx, name)
}

func (s *stale) NextJob(ctx context.Context, name string, from uint64) (job.Message, error) {
	if s.jobs++; s.jobs == 1 {
		return job.Message{}, stream.ErrNone
	}
	return s.journal.NextJob(ctx, name, from)
}

// TestStaleReads: reads that lag make a worker ask the leaders; no job is run twice or taken for gone, and nothing is
// acked on them.
func TestStaleReads(t *testing.T) {
	b := newBed(t)
	ctx := within(t, 20*time.Second)
	b.publish("p.c", "", job.HeaderScript, "next")
	first, br := b.process(-2, false)
	if err := b.drive(ctx, first, br); err != nil {
		t.Fatal(err)
	}
	b.publish("p.c", "", job.HeaderScript, "next")
	second, br := b.process(-2, false)
	second.stream = &stale{journal: b.pool}
	if err := b.drive(ctx, second, br); err != nil {
		t.Fatal(err)
	}
	e, err := b.pool.ContextFromLeader(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	c, err := job.DecodeCommit(e.Data)
	if err != nil {
		t.Fatal(err)
	}
	if s := state[struct{ N int }](t, c); s.N != 2 {
		t.Errorf("n is %d, want 2", s.N)
	}
}

// TestGone: a delivery whose job is no longer on the stream is left alone, never acked on a read that may be stale.
func TestGone(t *testing.T) {
	b := newBed(t)
	r, _ := b.process(-2, false)
	acked := false
	err := r.advance(within(t, 10*time.Second), goal{
		name: "c", target: uint64(time.Now().UnixMicro()), delivered: 1, applied: func(uint64) { acked = true },
		yield: func() error { return nil }, away: here, brief: here, begun: new(uint64),
	})
	if !errors.Is(err, errLeave) || acked {
		t.Errorf("error %v, acked %v; want the delivery left", err, acked)
	}
}

// TestAhead: a worker stops with a clear message when a context is ahead of its stream, rather than take new jobs for
// applied ones (rule 2).
func TestAhead(t *testing.T) {
	t.Parallel() // it takes as long as a leader's old word may last
	b := newBed(t)
	ahead, err := job.Encode(job.Commit{Version: job.Version, State: []byte(`{}`), Applied: uint64(time.Now().Add(time.Hour).UnixMicro())})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.pool.Commit(t.Context(), "c", ahead, stream.Base{}); err != nil {
		t.Fatal(err)
	}
	seq := b.publish("p.c", "", job.HeaderScript, "next")
	w, err := New(b.config(crashScripts))
	if err != nil {
		t.Fatal(err)
	}
	err = w.Run(within(t, time.Minute))
	if err == nil {
		t.Fatal("the worker goes on")
	}
	contains(t, "error", err.Error(), "p.c", "JOBS_p", "Nothing was lost")
	if m, err := b.pool.NextJob(t.Context(), "c", 1); err != nil || m.Sequence != seq {
		t.Errorf("the job is gone: %v", err)
	}
}

// TestPoison: a job that workers do not come back from is a dead letter after five of them, and its context goes on
// (rule 8). Being handed out often is no crime: a job that waited long is run.
func TestPoison(t *testing.T) {
	b := newBed(t)
	ctx := within(t, 30*time.Second)
	bad := b.publish("p.c", "", job.HeaderScript, "next")
	b.publish("p.c", "", job.HeaderScript, "next")
	begun := 0
	for i := range maxTries + 1 {
		r, br := b.process(-2, false)
		r.pause = func(context.Context, time.Duration) error { return nil }
		r.judge.runner = runnerFunc(func() { begun++; br.kill() }) // the process dies in the middle of the run
		g := goal{name: "c", target: bad, delivered: suspiciousAfter + 1 + uint64(i), applied: func(uint64) {},
			yield: func() error { return nil }, away: here, brief: here, begun: new(uint64)}
		if err := r.advance(ctx, g); (err == nil) != (i == maxTries) {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	if begun != maxTries {
		t.Errorf("the job was begun %d times, want %d", begun, maxTries)
	}
	l := b.letter("c", fmt.Sprint(bad))
	if l.Error.Reason != job.ReasonPoison {
		t.Errorf("reason %s", l.Error.Reason)
	}
	r, br := b.process(-2, false)
	if err := b.drive(ctx, r, br); err != nil {
		t.Fatal(err)
	}
	e, err := b.pool.ContextFromLeader(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := job.DecodeCommit(e.Data); err != nil || state[struct{ N int }](t, c).N != 1 || c.Tries != nil {
		t.Errorf("state %s, tries %v, %v", c.State, c.Tries, err)
	}
}

// here does it at once: there is one lane, and no slot to give up.
func here(do func() error) error { return do() }

// TestRefusedEffect: an effect that its stream refuses for good becomes a dead letter, and its context goes on. Until
// then it is tried again.
func TestRefusedEffect(t *testing.T) {
	b := newBed(t)
	ctx := within(t, 20*time.Second)
	if _, err := stream.Ensure(ctx, b.nc, "full", stream.Options{MaxBytes: 1}); err != nil {
		t.Fatal(err)
	}
	c := b.config(map[string]string{"send": `
flow := import("flow")
flow.dispatch({worker: "full", context: "a", source: "x := 1"})
flow.dispatch({context: "b", script: "count"})
`, "count": counting["count"]})
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r := w.rounds(b.pool, b.keys, only{w.config.Library})
	r.outbox.givesUp = 300 * time.Millisecond
	tries := 0
	r.outbox.pause = func(ctx context.Context, d time.Duration) error { tries++; return pause(ctx, d) }
	sent := b.publish("p.a", "", job.HeaderScript, "send")
	if err := b.drive(ctx, r, &brittle{left: -2}); err != nil {
		t.Fatal(err)
	}
	l := b.letter("a", job.EffectID(sent, 0))
	if l.Error.Reason != job.ReasonRefused || l.Message.Subject != "full.a" || tries < 2 {
		t.Errorf("dead letter %+v after %d tries", l, tries)
	}
	contains(t, "error", l.Error.Message, "full.a", "raise max_bytes")
	if m, err := b.pool.NextJob(ctx, "b", 1); err != nil {
		t.Errorf("the other effect is not there: %v, %v", m, err)
	}
}

// noJob is a journal whose direct reads of jobs come from a replica that has heard of none.
type noJob struct{ journal }

func (noJob) NextJob(context.Context, string, uint64) (job.Message, error) {
	return job.Message{}, stream.ErrNone
}

// TestStaleReadOfTheApplied: a job that was committed by a worker which died before it published the effects is not
// acked because a replica does not know it: the leader is asked, and the effects are published (rule 4).
func TestStaleReadOfTheApplied(t *testing.T) {
	b := newBed(t)
	ctx := within(t, 20*time.Second)
	seq := b.publish("p.c", "", job.HeaderScript, "start")
	g := func(acked *bool) goal {
		return goal{name: "c", target: seq, delivered: 1, applied: func(uint64) { *acked = true },
			yield: func() error { return nil }, away: here, brief: here, begun: new(uint64)}
	}
	var acked bool
	first, br := b.process(-2, false)
	first.outbox.stream = &brittle{journal: b.pool, left: 0} // dies at the first effect
	if err := first.advance(ctx, g(&acked)); err == nil || acked || br.dead {
		t.Fatalf("%v, acked %v", err, acked)
	}
	second, _ := b.process(-2, false)
	second.stream = noJob{b.pool}
	if err := second.advance(ctx, g(&acked)); err != nil || !acked {
		t.Fatalf("%v, acked %v", err, acked)
	}
	if m, err := b.pool.NextJob(ctx, "other", 1); err != nil {
		t.Errorf("acked, but its effects are not there: %v, %v", m, err)
	}
}
