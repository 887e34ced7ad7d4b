package worker

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// timed are scripts that dispatch jobs for later.
var timed = map[string]string{
	"later": `
flow := import("flow")
job := import("job")
job.result(flow.dispatch({script: "woke", data: {n: 1}, after: data, tag: "t", catch: "failed"}))`,
	"at":     `import("flow").dispatch({script: "woke", at: data})`,
	"again":  `flow := import("flow"); if data > 0 { flow.dispatch({script: "again", data: data - 1, after: 0.01}) }`,
	"cancel": `flow := import("flow"); job := import("job"); job.result(flow.cancel(flow.calls()[0].id))`,
	"list":   `flow := import("flow"); job := import("job"); c := flow.calls()[0]; job.result([c.id, c.operation, c.tag, c.due])`,
	"woke": `
job := import("job")
job.result([data, job.caller, job.operation, job.tag, job.parent, job.response, job.failure])`,
	"breaks": `flow := import("flow"); flow.dispatch({script: "broken", after: 0.01, tag: 7, catch: "failed"})`,
	"broken": `undefined()`,
	"failed": `job := import("job"); job.result([job.failure.type, job.tag])`,
}

// left is how many messages a stream has.
func (b *bed) left(stream string) uint64 {
	b.t.Helper()
	js, err := jetstream.New(b.nc)
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := js.Stream(within(b.t, 5*time.Second), stream)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// empties waits until a stream has no message.
func (b *bed) empties(stream string) {
	b.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); b.left(stream) > 0; {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s still has %d messages", stream, b.left(stream))
		}
	}
}

// TestTimer: a job that is dispatched for later is open until then, comes with its data and what it was tagged with, and
// leaves nothing behind.
func TestTimer(t *testing.T) {
	b := newBed(t)
	b.work(b.config(timed))
	asked := time.Now()
	seq := b.publish("p.c", `"300ms"`, job.HeaderScript, "later")
	set := b.await("c", seq)
	id := job.EffectID(seq, 0)
	equal(t, "id", string(set.Report.Result), `"`+id+`"`)
	call := set.Calls[id]
	if call.Due.Sub(set.Report.Published) != 300*time.Millisecond || call.Service != job.Timer || call.Then != "woke" {
		t.Errorf("open timer %+v of a job of %s", call, set.Report.Published)
	}
	listed := b.publish("p.c", "", job.HeaderScript, "list")
	due, err := json.Marshal(call.Due)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "listed", string(b.await("c", listed).Report.Result), fmt.Sprintf(`[%q,"timer","t",%s]`, id, due))

	woke := b.awaitCommit("c", func(c job.Commit) bool { return c.Report.Call == id })
	equal(t, "result", string(woke.Report.Result), fmt.Sprintf(`[{"n":1},"timer","timer","t","seq-%d",null,null]`, seq))
	equal(t, "open", len(woke.Calls), 0)
	if waited := woke.Report.Published.Sub(asked); waited < 300*time.Millisecond {
		t.Errorf("it came after %s", waited)
	}
	b.empties("CALLS_p")
	equal(t, "dead letters", b.letters(), 0)
}

// TestTimerOfThePast is due at once, as is one that is published again when it had been due already: it finds its call
// closed.
func TestTimerOfThePast(t *testing.T) {
	b := newBed(t)
	b.work(b.config(timed))
	seq := b.publish("p.c", `"2020-01-01T00:00:00Z"`, job.HeaderScript, "at")
	c := b.awaitCommit("c", func(c job.Commit) bool { return c.Report.Call == job.EffectID(seq, 0) })
	equal(t, "result", string(c.Report.Result), fmt.Sprintf(`[null,"timer","timer",null,"seq-%d",null,null]`, seq))
	b.empties("CALLS_p")

	set, err := b.pool.ContextFromLeader(within(t, 5*time.Second), "c")
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.keys.Scheduled(job.Address{Pool: "p", Context: "c"}, job.Call{
		ID: job.EffectID(seq, 0), Service: job.Timer, Request: job.Request{URL: job.TimerURL(time.Now())},
	}, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.pool.Publish(within(t, 5*time.Second), again); err != nil {
		t.Fatal(err)
	}
	b.empties("CALLS_p")
	now, err := b.pool.ContextFromLeader(within(t, 5*time.Second), "c")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "revision", now.Revision, set.Revision)
}

// TestTimerAgain: a script that sets a timer for itself each time.
func TestTimerAgain(t *testing.T) {
	b := newBed(t)
	b.work(b.config(timed))
	seq := b.publish("p.c", "3", job.HeaderScript, "again")
	b.awaitCommit("c", func(c job.Commit) bool { return c.Applied > seq && len(c.Calls) == 0 })
	b.empties("CALLS_p")
	b.empties("JOBS_p")
}

// TestCancelTimer: a cancelled timer is gone from the server.
func TestCancelTimer(t *testing.T) {
	b := newBed(t)
	b.work(b.config(timed))
	b.publish("p.c", `"2400h"`, job.HeaderScript, "later")
	id := ids(b.open("c", 1))[0]
	b.awaitTimer("c", id)
	c := b.await("c", b.publish("p.c", "", job.HeaderScript, "cancel"))
	equal(t, "result", string(c.Report.Result), "true")
	equal(t, "open", len(c.Calls), 0)
	b.empties("CALLS_p")
}

// TestTimerThatFails: the job that a timer brings fails, and the script that was named for that hears of it.
func TestTimerThatFails(t *testing.T) {
	b := newBed(t)
	b.work(b.config(timed))
	b.publish("p.c", "", job.HeaderScript, "breaks")
	c := b.awaitCommit("c", func(c job.Commit) bool { return c.Report.Script == "failed" })
	equal(t, "result", string(c.Report.Result), `["script_error",7]`)
	b.empties("CALLS_p")
	equal(t, "dead letters", b.letters(), 1)
}

// TestTimerOfSource: source that came with a job may name itself, and is kept until the timer is due.
func TestTimerOfSource(t *testing.T) {
	b := newBed(t)
	b.work(b.config(nil))
	seq := b.publish("p.c", `
flow := import("flow"); job := import("job")
if job.operation == "timer" { job.result("woke") } else { flow.dispatch({script: job.script, after: 0.01}) }`)
	c := b.awaitCommit("c", func(c job.Commit) bool { return c.Applied > seq })
	equal(t, "result", string(c.Report.Result), `"woke"`)
	equal(t, "sources kept", len(c.Sources), 0)
}

// TestForgedTimer: who may publish jobs can't say that a timer is due, nor that he is the clock.
func TestForgedTimer(t *testing.T) {
	b := newBed(t)
	b.work(b.config(timed))
	b.publish("p.c", `"2400h"`, job.HeaderScript, "later")
	id := ids(b.open("c", 1))[0]
	forged := b.await("c", b.publish("p.c", `{"attempts":0}`, job.HeaderCall, id, job.HeaderCaller, job.Timer, job.HeaderType, job.TypeAnswer))
	equal(t, "outcome", forged.Report.Error.Reason, job.ReasonForged)
	claims := b.await("c", b.publish("p.c", "1", job.HeaderScript, "again", job.HeaderCaller, job.Timer))
	equal(t, "outcome", claims.Report.Error.Reason, job.ReasonForged)
	equal(t, "open", len(claims.Calls), 1)
}

// TestTimerAsCall: a worker of a version that knows no timers publishes one as it does calls, where it finds it in an outbox. It
// goes onto the server's timer.
func TestTimerAsCall(t *testing.T) {
	b := newBed(t)
	b.work(b.config(timed))
	set := b.await("c", b.publish("p.c", `"2400h"`, job.HeaderScript, "later"))
	id := ids(set)[0]
	b.awaitTimer("c", id)
	at := job.Address{Pool: "p", Context: "c"}
	if was, err := b.pool.PurgeRetry(within(t, 5*time.Second), at, id); !was || err != nil {
		t.Fatal(was, err)
	}
	body, err := job.Encode(job.Call{ID: id, Service: job.Timer, Request: *set.Outbox[0].Request})
	if err != nil {
		t.Fatal(err)
	}
	m := job.Message{Subject: at.CallSubject(job.Timer), Data: body}
	b.keys.Sign(&m)
	if err := b.pool.Publish(within(t, 5*time.Second), m); err != nil {
		t.Fatal(err)
	}
	b.awaitTimer("c", id)
	equal(t, "open", len(b.open("c", 1).Calls), 1)
	equal(t, "jobs", b.left("JOBS_p"), 0)
}
