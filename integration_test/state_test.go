package integration_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stripefake"
)

// newStripe serves an imitation of Stripe that knows one key, and returns its address.
func newStripe(t *testing.T, key string) string {
	t.Helper()
	fake := stripefake.New(stripefake.Options{Key: key})
	web := httptest.NewServer(fake)
	t.Cleanup(func() { fake.Close(); web.Close() })
	return web.URL
}

// dispatch dispatches a job of pool p.
func dispatch(t *testing.T, c *cluster, j dispatcher.Job) dispatcher.Receipt {
	t.Helper()
	d, err := dispatcher.New(c.connect(), dispatcher.Config{Worker: "p", Caller: "test"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Dispatch(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// awaitState waits until a context's state is as it should be.
func awaitState[T any](ctx context.Context, t *testing.T, c *cluster, name string, fits func(T) bool) {
	t.Helper()
	js, err := jetstream.New(c.connect())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	w, err := kv.Watch(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Stop() }()
	last := "no state"
	for {
		select {
		case e := <-w.Updates():
			if e == nil {
				continue
			}
			var s T
			if last = stateText(t, e.Value(), &s); fits(s) {
				return
			}
		case <-ctx.Done():
			t.Fatalf("context %s: %v; it has come to %s", name, context.Cause(ctx), last)
		}
	}
}

func stateText(t *testing.T, value []byte, into any) string {
	t.Helper()
	c, err := job.DecodeCommit(value)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(c.State, into); err != nil {
		t.Fatal(err)
	}
	return string(c.State)
}
