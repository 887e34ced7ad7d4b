package integration_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

const longPull = "$JS.API.CONSUMER.MSG.NEXT."

// begun waits until a worker has asked for nothing but jobs and calls for a while: at its start it looks at services and releases.
func begun(t *testing.T, others <-chan string) {
	t.Helper()
	ctx := within(t, time.Minute)
	for last := "nothing"; ; {
		select {
		case last = <-others:
		case <-time.After(3 * time.Second):
			return
		case <-ctx.Done():
			t.Fatalf("the worker asks again and again, the last time on %s", last)
		}
	}
}

// TestNothingPolls: what an idle worker asks of the server in 30 seconds are long pulls, a few a consumer, and nothing
// else.
func TestNothingPolls(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 30 seconds: run without -short")
	}
	t.Parallel()
	c := newCluster(t)
	startWorker(t, c, "idle")
	var mu sync.Mutex
	asked := map[string]int{}
	others := make(chan string, 1024)
	sub, err := c.connect().Subscribe(">", func(m *nats.Msg) {
		if strings.HasPrefix(m.Subject, "_INBOX.") { // answers
			return
		}
		mu.Lock()
		defer mu.Unlock()
		asked[m.Subject]++
		if !strings.HasPrefix(m.Subject, longPull) {
			others <- m.Subject
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	begun(t, others)
	mu.Lock()
	clear(asked)
	mu.Unlock()
	<-time.After(30 * time.Second)
	mu.Lock()
	defer mu.Unlock()
	total := 0
	for subject, n := range asked {
		total += n
		if !strings.HasPrefix(subject, longPull) || n > 2 {
			t.Errorf("%d requests on %s", n, subject)
		}
	}
	t.Logf("%d requests in 30 s: %v", total, asked)
}
