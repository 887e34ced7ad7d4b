package integration_test

import (
	"context"
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/job"
)

var callScripts = map[string]string{
	"ask": `
context := import("context")
http := import("http")
context.set("asked", context.get("asked", 0) + 1)
http.post(data.api + "/slow", {json: {n: context.get("asked")}, then: "answered", catch: "failed"})
`,
	"answered": `context := import("context"); context.set("answered", context.get("answered", 0) + 1)`,
	"failed":   `context := import("context"); job := import("job"); context.set("failed", job.failure)`,
	"count":    `context := import("context"); context.set("n", context.get("n", 0) + 1)`,
}

type asks struct {
	Asked, Answered, N int
	Failed             json.RawMessage
}

// TestStopHandsOver: a worker that gets SIGTERM lets its call end within the grace period when it can, gives it back
// when it can't, and exits 0; another worker takes the call over at once, under the same Idempotency-Key.
func TestStopHandsOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	remote := newAPI(t, 3*time.Second)
	args := []string{"--scripts", scripts(t, callScripts), "--service", "api=" + remote.URL}
	first := startWorker(t, c, "first", append(args, "--grace", "200ms")...)
	ctx := within(t, time.Minute)
	keepCallsFor(ctx, t, c, "api", time.Hour) // only what is given back is handed out again
	dispatch(t, c, dispatcher.Job{Context: "c", Script: "ask", Data: map[string]any{"api": remote.URL}})
	awaitSignal(ctx, t, remote.reached(1))
	second := startWorker(t, c, "second", args...)
	if code := first.stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, first.output())
	}
	awaitSignal(ctx, t, remote.reached(2))
	awaitState(ctx, t, c, "c", func(s asks) bool { return s.Answered == 1 })
	remote.checkKeys(t, 1)
	if code := second.stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, second.output())
	}
}

// keepCallsFor sets the ack wait of a service's consumer.
func keepCallsFor(ctx context.Context, t *testing.T, c *cluster, service string, wait time.Duration) {
	t.Helper()
	js, err := jetstream.New(c.connect())
	if err != nil {
		t.Fatal(err)
	}
	calls, err := js.Consumer(ctx, job.CallsStream("p"), "call_"+service)
	if err != nil {
		t.Fatal(err)
	}
	config := calls.CachedInfo().Config
	config.AckWait = wait
	if _, err := js.UpdateConsumer(ctx, job.CallsStream("p"), config); err != nil {
		t.Fatal(err)
	}
}

// TestStopLetsCallsEnd: within the grace period a call under way is answered, and only then does the worker exit.
func TestStopLetsCallsEnd(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	remote := newAPI(t, 500*time.Millisecond)
	args := []string{"--scripts", scripts(t, callScripts), "--service", "api=" + remote.URL}
	first := startWorker(t, c, "first", args...)
	ctx := within(t, time.Minute)
	dispatch(t, c, dispatcher.Job{Context: "c", Script: "ask", Data: map[string]any{"api": remote.URL}})
	awaitSignal(ctx, t, remote.reached(1))
	if code := first.stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, first.output())
	}
	startWorker(t, c, "second", args...)
	awaitState(ctx, t, c, "c", func(s asks) bool { return s.Answered == 1 })
	if n := len(remote.byKey); n != 1 || len(remote.asked) != 1 {
		t.Errorf("%d requests, want 1", len(remote.asked))
	}
}

// TestSecondSignal: a second signal ends the wait, and nothing is lost by it.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	remote := newAPI(t, 2*time.Second)
	args := []string{"--scripts", scripts(t, callScripts), "--service", "api=" + remote.URL}
	first := startWorker(t, c, "first", append(args, "--grace", "10m", "--log-level", "debug")...)
	ctx := within(t, time.Minute)
	dispatch(t, c, dispatcher.Job{Context: "c", Script: "ask", Data: map[string]any{"api": remote.URL}})
	awaitSignal(ctx, t, remote.reached(1))
	stopping := first.logged("worker is stopping")
	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	first.await(stopping)
	if code := first.stop(); code == 0 { // it would be 0 had the call been waited for
		t.Errorf("exit code %d, want the second signal to end it at once", code)
	}
	startWorker(t, c, "second", args...)
	awaitState(ctx, t, c, "c", func(s asks) bool { return s.Answered == 1 })
	remote.checkKeys(t, 1)
}

// TestServerAway: while NATS is away a worker waits, says so once, and goes on by itself. A worker that is started
// before the server waits for it too.
func TestServerAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	dir := scripts(t, callScripts)
	w := startWorker(t, c, "steady", "--scripts", dir)
	ctx := within(t, time.Minute)
	dispatch(t, c, dispatcher.Job{Context: "c", Script: "count"})
	awaitState(ctx, t, c, "c", func(s asks) bool { return s.N == 1 })
	away, back := w.logged("NATS is away; waiting for it"), w.logged("NATS is back")
	c.server.Close()
	w.await(away)
	early := start(t, "early", nil, "worker", "--pool", "p", "--name", "early", "--server", "nats://"+c.listen, "--log", "json", "--scripts", dir)
	early.await(early.logged("no NATS server yet; waiting for it"))
	c.start()
	w.await(back)
	early.await(early.ready)
	dispatch(t, c, dispatcher.Job{Context: "c", Script: "count"})
	awaitState(ctx, t, c, "c", func(s asks) bool { return s.N == 2 })
	if n := strings.Count(w.output(), "NATS is away"); n != 1 {
		t.Errorf("the worker said %d times that NATS is away\n%s", n, w.output())
	}
}

// TestOneFile: one file holds a whole flow, by naming itself as the script that takes the answer.
func TestOneFile(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	remote := newAPI(t, 0)
	startWorker(t, c, "worker", "--service", "api="+remote.URL)
	ctx := within(t, time.Minute)
	dispatch(t, c, dispatcher.Job{Context: "c", Source: `
context := import("context")
http := import("http")
job := import("job")
if job.response {
	context.set("answered", data.question)
} else {
	http.post("` + remote.URL + `/ask", {json: {question: 42}, then: job.script, catch: job.script})
	context.set("asked", true)
}
`})
	awaitState(ctx, t, c, "c", func(s struct {
		Asked    bool
		Answered int
	}) bool {
		return s.Asked && s.Answered == 42
	})
	js, err := jetstream.New(c.connect())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	e, err := kv.Get(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	if last, err := job.DecodeCommit(e.Value()); err != nil || len(last.Sources) != 0 || len(last.Calls) != 0 {
		t.Errorf("source is kept although no call is open: %v, %v", last.Sources, err)
	}
}
