package worker

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/scripting"
)

// trail appends the job's data to a list in the state. The job whose data is "bad" fails while the library has not
// been mended.
const (
	trail = `
context := import("context")
context.set("trail", append(context.get("trail", []), data))
`
	brittleTrail = `
if data == "bad" { undefined.x() }
` + trail
)

// publishTrail publishes one job for each letter, and returns their sequences.
func (b *bed) publishTrail(data ...string) []uint64 {
	b.t.Helper()
	var sequences []uint64
	for _, d := range data {
		sequences = append(sequences, b.publish("p.c", fmt.Sprintf("%q", d), job.HeaderScript, "trail"))
	}
	return sequences
}

// decide is what an operator's program does: it changes what the context is held for, and wakes the workers.
func (b *bed) decide(change func(*job.Commit)) {
	b.t.Helper()
	ctx := within(b.t, 10*time.Second)
	e, err := b.pool.ContextFromLeader(ctx, "c")
	if err != nil {
		b.t.Fatal(err)
	}
	c := job.Commit{Version: job.Version, State: []byte("{}")}
	if e.Data != nil {
		if c, err = job.DecodeCommit(e.Data); err != nil {
			b.t.Fatal(err)
		}
	}
	change(&c)
	data, err := job.Encode(c)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.pool.Commit(ctx, "c", data, e.Base()); err != nil {
		b.t.Fatal(err)
	}
	b.publish("p.c", "", job.HeaderType, job.TypeWake)
}

func resume(c *job.Commit) { c.Held = nil }

// wantTrail waits until the context's trail has as many steps as wanted, and compares them.
func (b *bed) wantTrail(want ...string) {
	b.t.Helper()
	var got struct{ Trail []string }
	b.awaitCommit("c", func(c job.Commit) bool {
		return json.Unmarshal(c.State, &got) != nil || len(got.Trail) >= len(want)
	})
	if fmt.Sprint(got.Trail) != fmt.Sprint(want) {
		b.t.Errorf("trail %v, want %v", got.Trail, want)
	}
}

// working runs a worker until the function that it returns is called.
func (b *bed) working(c Config) func() {
	stop := b.work(c)
	return func() {
		if err := stop(); err != nil {
			b.t.Error(err)
		}
	}
}

// TestFailureHolds: where a script's failures hold, the failed job and those behind it wait, a letter says so, and when
// the operator has mended the script they run in their order, each once.
func TestFailureHolds(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.config(map[string]string{"trail": brittleTrail})
	c.HoldOn = []string{"trail"}
	stop := b.work(c)
	sequences := b.publishTrail("a", "bad", "b")
	held := b.awaitCommit("c", func(c job.Commit) bool { return c.Held != nil })
	if held.Held.Sequence != sequences[1] || held.Applied != sequences[0] || held.Held.By != "test" || held.Held.Error.Reason != string(scripting.KindRuntime) {
		t.Errorf("held by %+v at %d", held.Held, held.Applied)
	}
	l := b.letter("c", fmt.Sprint(sequences[1]))
	if !l.Held || string(l.Message.Data) != `"bad"` || l.Script != "trail" || l.Revision == 0 {
		t.Errorf("letter %+v", l)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c.Library = mended(t)
	c.Runner = scripting.NewEngine(c.Library)
	defer b.working(c)()
	b.decide(resume)
	b.wantTrail("a", "bad", "b")
}

func mended(t *testing.T) *scripting.Library {
	t.Helper()
	l, err := scripting.NewLibrary(fstest.MapFS{"trail.tengo": &fstest.MapFile{Data: []byte(trail)}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestSkip: a job that holds its context and is given up becomes a dead letter without a second run, and the jobs
// behind it go on.
func TestSkip(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.config(map[string]string{"trail": brittleTrail})
	c.HoldOn = []string{"*"}
	defer b.working(c)()
	sequences := b.publishTrail("a", "bad", "b")
	b.awaitCommit("c", func(c job.Commit) bool { return c.Held != nil })
	b.decide(func(c *job.Commit) {
		c.Skip, c.Held = &job.Skip{Sequence: c.Held.Sequence, Error: *c.Held.Error}, nil
	})
	died := b.await("c", sequences[1])
	if died.Report.Outcome != job.OutcomeDead || died.Report.Error.Reason != string(scripting.KindRuntime) || died.Skip != nil {
		t.Errorf("report %+v, skip %v", died.Report, died.Skip)
	}
	b.wantTrail("a", "b")
	if l := b.letter("c", fmt.Sprint(sequences[1])); l.Held {
		t.Errorf("the letter still says that the job holds its context: %+v", l)
	}
}

// TestPause: an operator's hold keeps jobs on the stream, whatever worker comes, and loses none.
func TestPause(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.config(map[string]string{"trail": trail})
	b.decide(func(c *job.Commit) { c.Held = &job.Held{Since: time.Now(), By: "ada"} })
	paused := b.awaitCommit("c", func(c job.Commit) bool { return c.Held != nil })
	stop := b.work(c)
	sequences := b.publishTrail("a", "b")
	other := b.publish("p.other", `"x"`, job.HeaderScript, "trail")
	b.await("other", other)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	defer b.working(c)()
	e, err := b.pool.ContextFromLeader(within(t, 5*time.Second), "c")
	if err != nil {
		t.Fatal(err)
	}
	if now, err := job.DecodeCommit(e.Data); err != nil || now.Applied != paused.Applied || now.Held == nil {
		t.Errorf("the context moved while it was paused: %+v, %v", now, err)
	}
	b.decide(resume)
	b.await("c", sequences[1])
	b.wantTrail("a", "b")
}

// TestNeverHold: what anyone may send can't hold a context.
func TestNeverHold(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.config(map[string]string{"trail": trail})
	c.HoldOn = []string{"*"}
	defer b.working(c)()
	for name, headers := range map[string][]string{
		"malformed": {job.HeaderScript, "no name"},
		"forged":    {job.HeaderScript, "trail", job.HeaderParent, "somebody"},
		"deadline":  {job.HeaderScript, "trail", job.HeaderDeadline, "2020-01-01T00:00:00Z"},
	} {
		seq := b.publish("p.c", `"x"`, headers...)
		if c := b.await("c", seq); c.Report.Outcome != job.OutcomeDead || c.Held != nil {
			t.Errorf("%s: %+v, held %v", name, c.Report, c.Held)
		}
	}
}
