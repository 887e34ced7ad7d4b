package integration_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/dispatcher"
)

// waiting is an API that answers nobody until as many have come as are to, and then for as long as it is told to.
type waiting struct {
	*httptest.Server
	mu      sync.Mutex
	come    int
	all     chan struct{} // closed when all have come
	release chan struct{}
}

func newWaiting(t *testing.T, all int) *waiting {
	t.Helper()
	w := &waiting{all: make(chan struct{}), release: make(chan struct{})}
	w.Server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		w.mu.Lock()
		if w.come++; w.come == all {
			close(w.all)
		}
		w.mu.Unlock()
		<-w.release
	}))
	t.Cleanup(w.Close)
	return w
}

var residentSet = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// resident is how much memory a process has, in MiB.
func resident(t *testing.T, p *process) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	kib, err := strconv.Atoi(residentSet.FindStringSubmatch(string(status))[1])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// TestTenThousandCalls: one worker process has 10,000 calls in flight to an API that does not answer, each sent once,
// while jobs run and another service is called. It says how much memory that takes, and holds it to a bound. It is run
// with -long (make calls-long).
func TestTenThousandCalls(t *testing.T) {
	if !*long {
		t.Skip("it takes minutes and 20,000 sockets: run it with -long")
	}
	const calls, each, most = 10_000, 100, 1000
	c, slow, quick := newCluster(t), newWaiting(t, calls), newAPI(t, 0)
	file := servicesFile(t, "", fmt.Sprintf(`services:
  slow: {url: %q, allow_private: true, max_in_flight: %d, timeout: {total: 10m}}
  quick: {url: %q, allow_private: true}
`, slow.URL, calls, quick.URL))
	w := startWorker(t, c, "w", "--services", file, "--scripts", scripts(t, map[string]string{
		"many":  fmt.Sprintf(`http := import("http"); for i := 0; i < %d; i++ { http.post(data, {json: {n: i}}) }`, each),
		"ask":   `http := import("http"); http.post(data, {json: {}})`,
		"count": `context := import("context"); context.set("n", context.get("n", 0) + 1)`,
	}))
	before := resident(t, w)
	ctx := within(t, 10*time.Minute)
	began := time.Now()
	for i := range calls / each {
		dispatch(t, c, dispatcher.Job{Context: fmt.Sprint("c", i), Script: "many", Data: slow.URL})
	}
	awaitSignal(ctx, t, slow.all)
	t.Logf("%d calls in flight after %s: %d MiB resident, %d before", calls, time.Since(began).Round(time.Second), resident(t, w), before)

	d, err := dispatcher.New(c.connect(), dispatcher.Config{Worker: "p", Caller: "test"})
	if err != nil {
		t.Fatal(err)
	}
	const jobs = 1000
	began = time.Now()
	var last dispatcher.Receipt
	for range jobs {
		if last, err = d.Dispatch(ctx, dispatcher.Job{Context: "counter", Script: "count"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Await(ctx, last); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d jobs of one context meanwhile in %s", jobs, time.Since(began).Round(time.Millisecond))
	began = time.Now()
	dispatch(t, c, dispatcher.Job{Context: "other", Script: "ask", Data: quick.URL})
	awaitSignal(ctx, t, quick.reached(1))
	t.Logf("a call of another service meanwhile went out after %s", time.Since(began).Round(time.Millisecond))
	if now := resident(t, w); now > most {
		t.Errorf("%d MiB resident, want %d at most", now, most)
	}
	select {
	case <-time.After(30 * time.Second): // past several ack waits: they are held, and not sent again
	case <-ctx.Done():
	}
	slow.mu.Lock()
	if slow.come != calls {
		t.Errorf("%d requests, want %d", slow.come, calls)
	}
	slow.mu.Unlock()
	close(slow.release)
	for i := range calls / each {
		awaitState(ctx, t, c, fmt.Sprint("c", i), func(struct{}) bool { return true })
	}
}
