package worker

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// cancelling are scripts that ask for calls and take them back.
var cancelling = map[string]string{
	"ask":    `http := import("http"); http.get(data, {tag: "slow", then: "took", catch: "took"})`,
	"took":   `context := import("context"); context.set("took", context.get("took", 0) + 1)`,
	"cancel": `flow := import("flow"); job := import("job"); n := 0; for c in flow.calls() { if c.tag == data && flow.cancel(c.id) { n++ } }; job.result(n)`,
	"change": `
http := import("http")
flow := import("flow")
job := import("job")
first := http.get(data + "first", {then: "took"})
http.get(data + "second", {then: "took"})
job.result([flow.cancel(first), flow.cancel(first)])
`,
	"fails": `flow := import("flow"); for c in flow.calls() { flow.cancel(c.id) }; undefined()`,
}

// asking is a bed with an API and a worker that may call it.
func asking(t *testing.T, api http.HandlerFunc, change ...func(*Config)) (b *bed, url string) {
	t.Helper()
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	b = newBed(t)
	c := b.config(cancelling)
	c.Services = []Service{{Name: "api", URL: server.URL, AllowPrivate: true, Backoff: time.Hour, MaxWait: time.Hour}}
	for _, f := range change {
		f(&c)
	}
	b.work(c)
	return b, server.URL + "/"
}

// open waits for a commit with so many open calls.
func (b *bed) open(name string, calls int) job.Commit {
	b.t.Helper()
	return b.awaitCommit(name, func(c job.Commit) bool { return len(c.Calls) == calls })
}

// queued are the subjects of a context's calls and timers.
func (b *bed) queued(name string) (subjects []string) {
	b.t.Helper()
	err := b.pool.QueuedCalls(within(b.t, 10*time.Second), name, func(m job.Message) bool {
		subjects = append(subjects, m.Subject)
		return true
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return subjects
}

// awaitTimer waits until the only thing that is queued of a context is the timer of a call's next try.
func (b *bed) awaitTimer(name, call string) {
	b.t.Helper()
	want := []string{job.Address{Pool: "p", Context: name}.RetrySubject(call)}
	for deadline := time.Now().Add(20 * time.Second); !slices.Equal(b.queued(name), want); {
		if time.Now().After(deadline) {
			b.t.Fatalf("queued: %q, want %q", b.queued(name), want)
		}
	}
}

// TestCancel: a script closes an open call whose next try waits: its timer is gone, and the report says so.
func TestCancel(t *testing.T) {
	b, url := asking(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	b.publish("p.c", url, job.HeaderScript, "ask")
	id := ids(b.open("c", 1))[0]
	b.awaitTimer("c", id)
	other := b.publish("p.c", "other", job.HeaderScript, "cancel")
	equal(t, "with another tag", string(b.await("c", other).Report.Result), "0")
	seq := b.publish("p.c", "slow", job.HeaderScript, "cancel")
	c := b.await("c", seq)
	equal(t, "result", string(c.Report.Result), "1")
	equal(t, "open calls", len(c.Calls), 0)
	if !slices.Equal(c.Report.Cancelled, []string{id}) {
		t.Errorf("the report says %q were cancelled, want %q", c.Report.Cancelled, id)
	}
	b.await("c", b.publish("p.c", "slow", job.HeaderScript, "cancel")) // the timer was removed before this job
	if left := b.queued("c"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func ids(c job.Commit) (all []string) {
	for id := range c.Calls {
		all = append(all, id)
	}
	return all
}

// TestCancelWhileSent: a try that is under way is not cut, and its answer is late: nothing runs on it.
func TestCancelWhileSent(t *testing.T) {
	begun, answer := make(chan struct{}), make(chan struct{})
	b, url := asking(t, func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-answer
		_, _ = w.Write([]byte("ok"))
	})
	b.publish("p.c", url, job.HeaderScript, "ask")
	<-begun
	c := b.await("c", b.publish("p.c", "slow", job.HeaderScript, "cancel"))
	equal(t, "result", string(c.Report.Result), "1")
	close(answer)
	late := b.awaitCommit("c", func(c job.Commit) bool { return c.Report.Outcome == job.OutcomeLate })
	equal(t, "state", string(late.State), "{}")
}

// TestCancelOwn: a call that the same job takes back is never published, and the calls behind it keep their ids.
func TestCancelOwn(t *testing.T) {
	var first, second atomic.Int64
	b, url := asking(t, func(_ http.ResponseWriter, r *http.Request) {
		map[string]*atomic.Int64{"/first": &first, "/second": &second}[r.URL.Path].Add(1)
	})
	seq := b.publish("p.c", url, job.HeaderScript, "change")
	c := b.await("c", seq)
	equal(t, "result", string(c.Report.Result), "[true,false]")
	if own := job.EffectID(seq, 0); len(c.Calls) > 0 && c.Calls[own].Service != "" || !slices.Equal(c.Report.Cancelled, []string{own}) {
		t.Errorf("open: %v; cancelled: %q", c.Calls, c.Report.Cancelled)
	}
	answered := b.awaitCommit("c", func(c job.Commit) bool { return c.Report.Call == job.EffectID(seq, 1) })
	equal(t, "state", string(answered.State), `{"took":1}`)
	equal(t, "requests to the first", first.Load(), 0)
	equal(t, "requests to the second", second.Load(), 1)
}

// TestDeadCancelsNothing: a script that fails has asked for nothing, and taken nothing back.
func TestDeadCancelsNothing(t *testing.T) {
	b, url := asking(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	b.publish("p.c", url, job.HeaderScript, "ask")
	id := ids(b.open("c", 1))[0]
	c := b.await("c", b.publish("p.c", "", job.HeaderScript, "fails"))
	equal(t, "outcome", c.Report.Outcome, job.OutcomeDead)
	if c.Calls[id].Service != "api" || len(c.Report.Cancelled) > 0 {
		t.Errorf("open: %v; cancelled: %q", c.Calls, c.Report.Cancelled)
	}
}
