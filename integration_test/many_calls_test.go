package integration_test

import (
	"context"
	"encoding/pem"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/dispatcher"
)

// manyCallsAtOnce is how many calls TestTenThousandCalls has in flight: fewer are enough to compare by.
var manyCallsAtOnce = flag.Int("calls", 10_000, "calls in flight in TestTenThousandCalls, a multiple of 100")

// waiting is an API that answers nobody until as many have come as are to, and then for as long as it is told to.
type waiting struct {
	*httptest.Server
	expected    int
	mu          sync.Mutex
	come        int
	connections int
	all         chan struct{} // closed when all have come
	release     chan struct{}
}

// newWaiting serves http, or h2: https that offers HTTP/2.
func newWaiting(t *testing.T, expected int, protocol string) *waiting {
	t.Helper()
	w := &waiting{expected: expected, all: make(chan struct{}), release: make(chan struct{})}
	w.Server = httptest.NewUnstartedServer(w)
	w.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if s == http.StateNew {
			w.connections++
		}
	}
	w.EnableHTTP2 = protocol == "h2"
	if protocol == "http" {
		w.Start()
	} else {
		w.StartTLS()
	}
	t.Cleanup(w.Close)
	return w
}

// ServeHTTP implements http.Handler.
func (w *waiting) ServeHTTP(http.ResponseWriter, *http.Request) {
	w.mu.Lock()
	if w.come++; w.come == w.expected {
		close(w.all)
	}
	w.mu.Unlock()
	<-w.release
}

// counts are how many requests have come, over how many connections.
func (w *waiting) counts() (come, connections int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.come, w.connections
}

// ca is the field of a service that names the API's certificate, where it has one.
func (w *waiting) ca(t *testing.T) string {
	t.Helper()
	certificate := w.Certificate()
	if certificate == nil {
		return ""
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(", ca: %q", file)
}

var memory = regexp.MustCompile(`Vm(RSS|HWM):\s+(\d+) kB`)

// resident is how much memory a process has, and had at most, in MiB.
func resident(t *testing.T, p *process) (now, peak int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	mib := map[string]int{}
	for _, line := range memory.FindAllStringSubmatch(string(status), -1) {
		kib, err := strconv.Atoi(line[2])
		if err != nil {
			t.Fatal(err)
		}
		mib[line[1]] = kib >> 10
	}
	return mib["RSS"], mib["HWM"]
}

// pace is how many jobs, and calls of an API that answers at once, a worker does a second.
type pace struct{ jobs, calls float64 }

// measure has a worker run 10,000 jobs of 20 contexts, and then make 2,000 calls to quick.
func measure(ctx context.Context, t *testing.T, c *cluster, quick *api, round string) (p pace) {
	t.Helper()
	const contexts, jobs, calls = 20, 10_000, 2000
	d, err := dispatcher.New(c.connect(), dispatcher.Config{Worker: "p", Caller: "test"})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var group errgroup.Group
	for i := range contexts {
		group.Go(func() error {
			var last dispatcher.Receipt
			for range jobs / contexts {
				var err error
				if last, err = d.Dispatch(ctx, dispatcher.Job{Context: fmt.Sprint(round, i), Script: "count"}); err != nil {
					return err
				}
			}
			_, err := d.Await(ctx, last)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	p.jobs = jobs / time.Since(began).Seconds()
	quick.mu.Lock()
	asked := len(quick.asked)
	quick.mu.Unlock()
	began = time.Now()
	answered := quick.reached(asked + calls)
	for i := range calls / callsOfAJob {
		dispatch(t, c, dispatcher.Job{Context: fmt.Sprint(round, "calls", i), Script: "many", Data: quick.URL})
	}
	awaitSignal(ctx, t, answered)
	p.calls = calls / time.Since(began).Seconds()
	return p
}

// callsOfAJob is how many calls the script "many" makes.
const callsOfAJob = 100

// TestTenThousandCalls: one worker process has 10,000 calls in flight to an API that does not answer for 30 s, each sent
// once and answered once, while jobs run and another service is called. It says how much memory that takes, and holds it
// to a bound; and at what pace the rest goes on, beside that of before. It is run with -long (make calls-long).
func TestTenThousandCalls(t *testing.T) {
	if !*long {
		t.Skip("it takes minutes and 20,000 sockets: run it with -long")
	}
	for _, test := range []struct {
		protocol string
		most     int // MiB resident
	}{
		{"http", 350}, {"h2", 450},
	} {
		t.Run(test.protocol, func(t *testing.T) { manyCalls(t, test.protocol, test.most) })
	}
}

func manyCalls(t *testing.T, protocol string, most int) {
	calls := *manyCallsAtOnce
	c, slow, quick := newCluster(t), newWaiting(t, calls, protocol), newAPI(t, 0)
	file := servicesFile(t, "", fmt.Sprintf(`services:
  slow: {url: %q, allow_private: true, max_in_flight: %d, timeout: {total: 10m}%s}
  quick: {url: %q, allow_private: true}
`, slow.URL, calls, slow.ca(t), quick.URL))
	w := startWorker(t, c, "w", "--services", file, "--scripts", scripts(t, map[string]string{
		"many":  fmt.Sprintf(`http := import("http"); for i := 0; i < %d; i++ { http.post(data, {json: {n: i}, then: "count"}) }`, callsOfAJob),
		"count": `context := import("context"); context.set("n", context.get("n", 0) + 1)`,
	}))
	ctx := within(t, 10*time.Minute)
	before := measure(ctx, t, c, quick, "before")
	idle, _ := resident(t, w)
	began := time.Now()
	for i := range calls / callsOfAJob {
		dispatch(t, c, dispatcher.Job{Context: fmt.Sprint("c", i), Script: "many", Data: slow.URL})
	}
	awaitSignal(ctx, t, slow.all)
	now, _ := resident(t, w)
	_, connections := slow.counts()
	t.Logf("%d calls in flight after %s, over %d connections: %d MiB resident, %d before", calls, time.Since(began).Round(time.Second), connections, now, idle)
	held := time.After(30 * time.Second) // past several ack waits
	during := measure(ctx, t, c, quick, "during")
	select {
	case <-held:
	case <-ctx.Done():
	}
	if come, _ := slow.counts(); come != calls {
		t.Errorf("%d requests, want %d", come, calls)
	}
	now, peak := resident(t, w)
	if t.Logf("%d MiB resident at the end of the wait, %d at most", now, peak); peak > most {
		t.Errorf("%d MiB resident, want %d at most", peak, most)
	}
	close(slow.release)
	for i := range calls / callsOfAJob {
		awaitState(ctx, t, c, fmt.Sprint("c", i), func(s struct{ N int }) bool { return s.N == callsOfAJob })
	}
	if come, _ := slow.counts(); come != calls {
		t.Errorf("%d requests when all were answered, want %d", come, calls)
	}
	after := measure(ctx, t, c, quick, "after")
	t.Logf("jobs a second: %.0f while the calls waited, %.0f before, %.0f after; calls of another service: %.0f, %.0f, %.0f",
		during.jobs, before.jobs, after.jobs, during.calls, before.calls, after.calls)
}
