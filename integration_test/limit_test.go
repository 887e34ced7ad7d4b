package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/dispatcher"
)

// crowded is an API that counts how many requests it has at once.
type crowded struct {
	*httptest.Server
	mu         sync.Mutex
	now, most  int
	total      int
	began, was time.Time
	busy       time.Duration // requests times time
	done       chan struct{} // closed when all have come
}

func newCrowded(t *testing.T, takes time.Duration, all int) *crowded {
	t.Helper()
	c := &crowded{done: make(chan struct{})}
	c.Server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		c.step(1, all)
		<-time.After(takes)
		c.step(-1, all) // before the answer is written: who has it may send the next
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *crowded) step(by, all int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.began.IsZero() {
		c.began, c.was = now, now
	}
	c.busy += time.Duration(c.now) * now.Sub(c.was)
	c.was = now
	c.now += by
	c.most = max(c.most, c.now)
	if by < 0 {
		if c.total++; c.total == all {
			close(c.done)
		}
	}
}

// servicesFile writes a file of services and returns its path. It takes the place of one that is there.
func servicesFile(t *testing.T, path, text string) string {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "services.yaml")
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLimitHoldsOverWorkers: a service's max_in_flight holds over all processes of a pool, and is made use of.
func TestLimitHoldsOverWorkers(t *testing.T) {
	t.Parallel()
	const limit, calls, contexts = 10, 2000, 20
	c, remote := newCluster(t), newCrowded(t, 50*time.Millisecond, calls)
	file := servicesFile(t, "", fmt.Sprintf("services:\n  api: {url: %q, allow_private: true, max_in_flight: %d}\n", remote.URL, limit))
	dir := scripts(t, map[string]string{"many": fmt.Sprintf(`
http := import("http")
for i := 0; i < %d; i++ { http.get(data + "/" + string(i)) }`, calls/contexts)})
	for i := range 4 {
		startWorker(t, c, fmt.Sprint("w", i), "--services", file, "--scripts", dir)
	}
	for i := range contexts {
		dispatch(t, c, dispatcher.Job{Context: fmt.Sprint("c", i), Script: "many", Data: remote.URL})
	}
	awaitSignal(within(t, 2*time.Minute), t, remote.done)
	remote.mu.Lock()
	defer remote.mu.Unlock()
	average := float64(remote.busy) / float64(remote.was.Sub(remote.began))
	t.Logf("%d calls in %s: %d at once at most, %.1f on average", remote.total, remote.was.Sub(remote.began).Round(time.Millisecond), remote.most, average)
	if remote.most != limit {
		t.Errorf("the API had %d requests at once, want %d and no more", remote.most, limit)
	}
	if average < limit/3 {
		t.Errorf("the API had %.1f requests at once on average: the limit is not made use of", average)
	}
}

// TestServicesFileIsFollowed: a file of services that changes counts without a restart; one that can't be used does not.
func TestServicesFileIsFollowed(t *testing.T) {
	t.Parallel()
	c, remote := newCluster(t), newAPI(t, 0)
	file := servicesFile(t, "", "services:\n  other: {url: https://other.example}\n  default: off\n")
	w := startWorker(t, c, "w", "--services", file, "--scripts", scripts(t, map[string]string{"ask": `http := import("http"); http.post(data, {json: {}})`}))
	ctx := within(t, time.Minute)
	d, err := dispatcher.New(c.connect(), dispatcher.Config{Worker: "p", Caller: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		r, err := d.Dispatch(ctx, dispatcher.Job{Context: "c", Script: "ask", Data: remote.URL + "/x"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Await(ctx, r)
		return err
	}
	if err := ask(); err == nil || !strings.Contains(err.Error(), "no service owns "+remote.URL) {
		t.Errorf("a URL of no service while default is off: %v", err)
	}
	refused := w.logged("the services can't be read again: those from before stay")
	servicesFile(t, file, "services:\n  api: {url: "+remote.URL+", allow_privat: true}\n")
	w.await(refused)
	read := w.logged("services are read again")
	servicesFile(t, file, "services:\n  api: {url: "+remote.URL+", allow_private: true, max_in_flight: 7}\n  default: off\n")
	w.await(read)
	if err := ask(); err != nil {
		t.Errorf("once it is declared: %v", err)
	}
	awaitSignal(ctx, t, remote.reached(1))
	read = w.logged("services are read again")
	servicesFile(t, file, "services:\n  api: {url: "+remote.URL+", allow_private: true, max_in_flight: 3}\n  default: off\n")
	w.await(read)
	if err := ask(); err != nil {
		t.Error(err)
	}
	awaitSignal(ctx, t, remote.reached(2))
	js, err := jetstream.New(c.connect())
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.Consumer(ctx, "CALLS_p", "call_api")
	if err != nil {
		t.Fatal(err)
	}
	if most := consumer.CachedInfo().Config.MaxAckPending; most != 3 {
		info, _ := json.Marshal(consumer.CachedInfo().Config)
		t.Errorf("max_ack_pending is %d, want what the file says: %s", most, info)
	}
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, w.output())
	}
}
