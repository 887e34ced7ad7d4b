package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/worker"
)

// full is a context in which everything is set.
func full() job.Commit {
	return job.Commit{
		Version: job.Version, State: json.RawMessage(`{"n":1}`), Applied: 1795458326797357, Attempt: "a1", Key: "k1", Recent: "AYyMxk1SVRl10ARr",
		Report: job.Report{Job: "order-7", Sequence: 1795458326797357, Outcome: job.OutcomeDone, Output: "<hi> & \u2028"},
		Calls: map[string]job.OpenCall{
			"12-0": {Service: "stripe", Then: "took", Parent: "order-7"}, "12-1": {Service: "default", Then: "inline-1", Parent: "order-7"},
		},
		Outbox:  []job.Effect{{Kind: job.EffectCall, Service: "stripe", Request: &job.Request{Method: "GET", URL: "https://a.example/?x=1&y=<2>"}}},
		Sources: map[string]string{"inline-1": "x := 1"}, Marks: map[string]job.Mark{"p.other": {1, 2, 3}}, Tries: &job.Tries{Sequence: 5, Count: 1},
	}
}

// Each act changes what it is about, says who did it, and leaves everything else byte for byte as it was, what a newer
// worker wrote included.
func TestAmendChangesNothingElse(t *testing.T) {
	b := newBed(t)
	for name, test := range map[string]struct {
		act  func(name string) error
		want func(*job.Commit)
	}{
		"pause":  {func(n string) error { return b.op.Pause(b.ctx(), n, "look at it") }, func(c *job.Commit) { c.Held = &job.Held{By: "ada", Why: "look at it"} }},
		"reset":  {func(n string) error { _, err := b.op.Reset(b.ctx(), n); return err }, func(c *job.Commit) { c.State = json.RawMessage("{}") }},
		"cancel": {func(n string) error { _, err := b.op.Cancel(b.ctx(), n, nil); return err }, func(c *job.Commit) { c.Calls = nil }},
	} {
		before := full()
		data, err := job.Encode(before)
		must(t, err)
		data = append(data[:len(data)-1], []byte(`,"from_the_future":{"b":1,"a":[ 2]}}`)...)
		_, err = b.pool.Commit(b.ctx(), name, data, stream.Base{})
		must(t, err)
		must(t, test.act(name))
		after, raw := b.commit(name)
		if after.Deed == nil || after.Deed.What != name || after.Deed.By != "ada" || time.Since(after.Deed.Time) > time.Minute {
			t.Errorf("%s: the deed is %+v", name, after.Deed)
		}
		if !strings.Contains(string(raw), `"from_the_future":{"b":1,"a":[ 2]}`) {
			t.Errorf("%s: a field of a newer worker is lost: %s", name, raw)
		}
		test.want(&before)
		after.Deed = nil
		if after.Held != nil {
			equal(t, "since is set", after.Held.Since.IsZero(), false)
			after.Held.Since = time.Time{}
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// When a worker commits in between, the operator begins again on what it committed.
func TestAmendAfterAnotherCommit(t *testing.T) {
	b := newBed(t)
	b.store("c", full())
	tries := 0
	err := b.op.amend(b.ctx(), "c", "pause", func(old job.Commit, next *draft) error {
		if tries++; tries <= 2 {
			newer := full()
			newer.Applied = uint64(100 + tries)
			b.store("c", newer)
		}
		next.set("held", job.Held{By: "ada"})
		return nil
	})
	must(t, err)
	c, _ := b.commit("c")
	equal(t, "tries", tries, 3)
	equal(t, "applied", c.Applied, 102)
	if c.Held == nil {
		t.Error("the context is not held")
	}
}

func TestPauseAndResume(t *testing.T) {
	b := newBed(t)
	must(t, b.op.Pause(b.ctx(), "new", "before it begins")) // a context without a commit
	c, _ := b.commit("new")
	if c.Held == nil || string(c.State) != "{}" || c.Applied != 0 || c.Version != job.Version {
		t.Errorf("the first commit is %+v", c)
	}
	var held *HeldError
	if err := b.op.Pause(b.ctx(), "new", "again"); !errors.As(err, &held) || !strings.Contains(err.Error(), "by ada: before it begins") {
		t.Errorf("paused twice: %v", err)
	}
	was, note, err := b.op.Resume(b.ctx(), "new")
	must(t, err)
	equal(t, "why", was.Why, "before it begins")
	equal(t, "note", note, "")
	if c, _ = b.commit("new"); c.Held != nil || c.Deed.What != "resume" {
		t.Errorf("after resume: %+v", c)
	}
	wake := b.stored("new")
	if len(wake) != 1 || wake[0].Get(job.HeaderType) != job.TypeWake || len(wake[0].Data) != 0 {
		t.Errorf("workers are told by %+v", wake)
	}
	for _, name := range []string{"new", "unknown"} {
		if _, _, err := b.op.Resume(b.ctx(), name); !errors.Is(err, ErrNotHeld) {
			t.Errorf("resumed what is not held: %v", err)
		}
	}
	if err := b.op.Pause(b.ctx(), "long", strings.Repeat("x", maxWhy+1)); err == nil {
		t.Error("a reason of any length is taken")
	}
}

// failed is a context that its next job holds, and the job's letter.
func (b *bed) failed(name string, seq uint64) Letter {
	b.Helper()
	c := full()
	c.Applied, c.Held = seq-1, &job.Held{By: "w1", Sequence: seq, Job: "order-8", Error: &job.Error{Reason: "runtime", Message: "no"}}
	b.store(name, c)
	at := job.Address{Pool: "p", Context: name}
	return b.bury(at.String()+strings.TrimPrefix(at.DeadSubject("7"), at.String()+".dead"), job.DeadLetter{
		Error: *c.Held.Error, Job: "order-8", Held: true, Message: job.Original{Sequence: seq, Data: job.Text("x := 1 + undefined")},
	})
}

// A letter that holds its context is retried in its place: no new job.
func TestRetryHeld(t *testing.T) {
	b := newBed(t)
	l := b.failed("c", 7)
	_, err := b.op.RetryWith(b.ctx(), l, Content{Source: []byte("x := 1")})
	b.refused(err, "holds its context")
	r, err := b.op.Retry(b.ctx(), l)
	must(t, err)
	equal(t, "what was done", r.Did, Resumed)
	c, _ := b.commit("c")
	if c.Held != nil || c.Skip != nil || c.Deed.What != "retry" {
		t.Errorf("the context is %+v", c)
	}
	b.gone(l.ID)
	if m := b.stored("c"); len(m) != 1 || m[0].Get(job.HeaderType) != job.TypeWake {
		t.Errorf("on the stream: %+v, want what wakes the context", m)
	}

	// Once more, as if it had been cut off before the letter was removed.
	before, _ := b.commit("c")
	l = b.bury(l.ID, l.DeadLetter)
	r, err = b.op.Retry(b.ctx(), l)
	must(t, err)
	after, _ := b.commit("c")
	equal(t, "note", r.Note, "its context went on before")
	equal(t, "nothing is changed", reflect.DeepEqual(before, after), true)
	b.gone(l.ID)
}

// A worker writes the letter before it holds the context: in between there is nothing to let go.
func TestRetryHeldTooEarly(t *testing.T) {
	b := newBed(t)
	l := b.failed("c", 7)
	c := full()
	c.Applied = 6
	b.store("c", c)
	for _, act := range []func(context.Context, Letter) (Result, error){b.op.Retry, b.op.Drop} {
		_, err := act(b.ctx(), l)
		b.refused(err, "a worker may be about to")
		equal(t, "the letter stays", b.find(l.ID).Sequence(), l.Sequence())
	}
}

// A letter of the job's next failure, which stands where the one that was read stood, is not removed.
func TestRetryHeldThatFailsAgain(t *testing.T) {
	b := newBed(t)
	old := b.failed("c", 7)
	again := b.bury(old.ID, old.DeadLetter)
	if _, err := b.op.Retry(b.ctx(), old); err != nil {
		t.Fatal(err)
	}
	equal(t, "the newer letter", b.find(old.ID).Sequence(), again.Sequence())
}

func TestDropHeld(t *testing.T) {
	b := newBed(t)
	l := b.failed("c", 7)
	for range 2 { // the second time nobody has skipped it yet
		r, err := b.op.Drop(b.ctx(), l)
		must(t, err)
		equal(t, "what was done", r.Did, Skipped)
		c, _ := b.commit("c")
		if c.Held != nil || c.Skip == nil || c.Skip.Sequence != 7 || c.Skip.Error.Reason != "runtime" || c.Deed.What != "drop" {
			t.Errorf("the context is %+v", c)
		}
		equal(t, "the letter stays", b.find(l.ID).Sequence(), l.Sequence())
	}
	l.Held = false // as a worker leaves it
	l = b.bury(l.ID, l.DeadLetter)
	r, err := b.op.Drop(b.ctx(), l)
	must(t, err)
	equal(t, "what was done", r.Did, Removed)
	b.gone(l.ID)
	if _, err := b.op.Drop(b.ctx(), l); !errors.Is(err, ErrGone) {
		t.Errorf("dropped twice: %v", err)
	}
}

// To resume a context that a failed job holds removes that job's letter, and runs the job again.
func TestResumeHeldByJob(t *testing.T) {
	b := newBed(t)
	l := b.failed("c", 7)
	was, _, err := b.op.Resume(b.ctx(), "c")
	must(t, err)
	equal(t, "job", was.Job, "order-8")
	b.gone(l.ID)
}

// Calls are closed before their timers are removed; what is not open is named, and nothing is done.
func TestCancel(t *testing.T) {
	b := newBed(t)
	b.store("c", full())
	at := job.Address{Pool: "p", Context: "c"}
	timer := job.Message{Subject: at.RetrySubject("12-1"), Data: []byte("{}"), Header: map[string][]string{
		"Nats-Schedule": {"@at " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}, "Nats-Schedule-Target": {at.CallSubject("default")},
	}}
	must(t, b.pool.Publish(b.ctx(), timer))
	if _, err := b.op.Cancel(b.ctx(), "c", []string{"12-0", "99-0"}); err == nil || !strings.Contains(err.Error(), "99-0. Nothing was cancelled") {
		t.Errorf("got %v", err)
	}
	if _, err := b.op.Plan(b.ctx(), "c", []string{"99-0"}); err == nil {
		t.Error("a call that is not open can be planned to be cancelled")
	}
	plan, err := b.op.Plan(b.ctx(), "c", []string{"12-1"})
	must(t, err)
	if len(plan) != 1 || plan[0].ID != "12-1" {
		t.Errorf("planned %+v", plan)
	}
	closed, err := b.op.Cancel(b.ctx(), "c", []string{"12-1", "12-1"})
	must(t, err)
	if len(closed) != 1 || closed[0].ID != "12-1" || !closed[0].Timer || closed[0].Service != "default" {
		t.Errorf("got %+v", closed)
	}
	c, _ := b.commit("c")
	if _, open := c.Calls["12-0"]; !open || len(c.Calls) != 1 {
		t.Errorf("open calls: %v", c.Calls)
	}
	equal(t, "the calls that the deed names", strings.Join(c.Deed.Calls, " "), "12-1")
	equal(t, "messages on the calls stream", b.queued(), 0)
	closed, err = b.op.Cancel(b.ctx(), "c", nil)
	must(t, err)
	if len(closed) != 1 || closed[0].ID != "12-0" || closed[0].Timer {
		t.Errorf("got %+v", closed)
	}
	if closed, err = b.op.Cancel(b.ctx(), "c", nil); err != nil || closed != nil {
		t.Errorf("with nothing open: %v, %v", closed, err)
	}
}

func (b *bed) queued() (n int) {
	b.Helper()
	must(b.T, b.pool.QueuedCalls(b.ctx(), "", func(job.Message) bool { n++; return true }))
	return n
}

func TestReset(t *testing.T) {
	b := newBed(t)
	if _, err := b.op.Reset(b.ctx(), "c"); !errors.Is(err, ErrNoCommit) {
		t.Errorf("without a commit: %v", err)
	}
	b.store("c", full())
	open, err := b.op.Reset(b.ctx(), "c")
	must(t, err)
	equal(t, "open calls", open, 2)
}

// The answer of a call that was cancelled is recorded as late.
func TestLateAfterCancel(t *testing.T) {
	b := newBed(t)
	b.work(nil)
	seq := b.put("c", `import("http").post("https://api.example.invalid/x", {then: import("job").script})`, nil)
	b.await("c", ended(seq))
	closed, err := b.op.Cancel(b.ctx(), "c", nil)
	must(t, err)
	if len(closed) != 1 {
		t.Fatalf("closed %v", closed)
	}
	m, err := b.keys.AnswerMessage(job.Address{Pool: "p", Context: "c"}, "default", closed[0].ID, "", job.Answer{Status: 200})
	must(t, err)
	answer, _, err := b.pool.PublishJob(b.ctx(), m)
	must(t, err)
	c := b.await("c", ended(answer))
	equal(t, "outcome", c.Report.Outcome, job.OutcomeLate)
}

// With real workers: a failed job holds its context; retried it runs in its place, before those behind it; dropped it
// ends unrun, and those behind it go on.
func TestHeldByWorker(t *testing.T) {
	for verb, want := range map[string]string{"retry": `["bad","b"]`, "drop": `["b"]`} {
		t.Run(verb, func(t *testing.T) {
			b := newBed(t)
			trail := `c := import("context"); c.set("trail", append(c.get("trail", []), data))`
			hold := func(c *worker.Config) { c.HoldOn = []string{"trail"} }
			stop := b.work(map[string]string{"trail": "if data == \"bad\" { undefined.x() }\n" + trail}, hold)
			script := map[string][]string{job.HeaderScript: {"trail"}}
			bad := b.put("c", `"bad"`, script)
			b.await("c", func(c job.Commit) bool { return c.Held != nil })
			last := b.put("c", `"b"`, script)
			stop()
			b.work(map[string]string{"trail": trail}, hold)
			l := b.find(fmt.Sprintf("p.c.%d", bad))
			equal(t, "held", l.Held, true)
			act := b.op.Retry
			if verb == "drop" {
				act = b.op.Drop
			}
			_, err := act(b.ctx(), l)
			must(t, err)
			c := b.await("c", ended(last))
			var state struct{ Trail json.RawMessage }
			must(t, json.Unmarshal(c.State, &state))
			equal(t, "trail", string(state.Trail), want)
			if verb == "retry" {
				b.gone(l.ID)
			} else {
				equal(t, "held", b.find(l.ID).Held, false)
			}
		})
	}
}
