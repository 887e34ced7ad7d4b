package integration_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// TestHotContext: a context with 10,000 queued jobs does not keep 100 others waiting, although all of them were
// published after it.
func TestHotContext(t *testing.T) {
	t.Parallel()
	hot := 10_000
	if testing.Short() {
		hot = 4_000
	}
	c := newCluster(t)
	dir := scripts(t, map[string]string{"count": `
context := import("context")
context.set("n", context.get("n", 0) + 1)
`})
	if _, stderr, code := cli(t, "init", "--pool", "p", "--server", c.url()); code != 0 {
		t.Fatal(stderr)
	}
	ctx := within(t, 4*time.Minute)
	nc := c.connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	queue(t, js, "hot", hot)
	for i := range 100 {
		queue(t, js, fmt.Sprintf("small_%d", i), 1)
	}
	for _, name := range []string{"one", "two"} {
		startWorker(t, c, name, "--scripts", dir)
	}
	began := time.Now()
	for i := range 100 {
		waitApplied(ctx, t, js, fmt.Sprintf("small_%d", i), 1)
	}
	small := time.Since(began)
	kv, err := js.KeyValue(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	done := 0
	if e, err := kv.Get(ctx, "hot"); err == nil {
		done = counter(t, e.Value())
	}
	t.Logf("100 small contexts done after %s, the hot one then had done %d of %d", small, done, hot)
	if done > hot*9/10 {
		t.Errorf("the hot context had done %d of %d jobs before the small ones were done", done, hot)
	}
	waitApplied(ctx, t, js, "hot", hot)
	t.Logf("the hot one done after %s", time.Since(began))
	checkEmpty(ctx, t, c)
	t.Logf("all acked after %s", time.Since(began))
}

// queue publishes n jobs of script count to a context.
func queue(t *testing.T, js jetstream.JetStream, context string, n int) {
	t.Helper()
	m := job.Message{Header: map[string][]string{job.HeaderScript: {"count"}}}
	for range n {
		if _, err := js.PublishMsgAsync(natsMessage("p."+context, m), jetstream.WithStallWait(30*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(30 * time.Second):
		t.Fatal("the jobs are not stored after 30 s")
	}
}

// waitApplied waits until a context's counter has reached n.
func waitApplied(ctx context.Context, t *testing.T, js jetstream.JetStream, name string, n int) {
	t.Helper()
	kv, err := js.KeyValue(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	w, err := kv.Watch(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Stop() }()
	got := 0
	for {
		select {
		case e := <-w.Updates():
			if e == nil {
				continue
			}
			if got = counter(t, e.Value()); got >= n {
				return
			}
		case <-ctx.Done():
			t.Fatalf("%s has come to %d of %d: %v", name, got, n, context.Cause(ctx))
		}
	}
}
