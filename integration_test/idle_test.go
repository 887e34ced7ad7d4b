package integration_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

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
	sub, err := c.connect().Subscribe(">", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if !strings.HasPrefix(m.Subject, "_INBOX.") { // answers
			asked[m.Subject]++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	<-time.After(30 * time.Second)
	mu.Lock()
	defer mu.Unlock()
	total := 0
	for subject, n := range asked {
		total += n
		if !strings.HasPrefix(subject, "$JS.API.CONSUMER.MSG.NEXT.") || n > 2 {
			t.Errorf("%d requests on %s", n, subject)
		}
	}
	t.Logf("%d requests in 30 s: %v", total, asked)
}
