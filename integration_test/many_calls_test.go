package integration_test

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/dispatcher"
)

// manyCallsAtOnce is how many calls TestTenThousandCalls has in flight: fewer are enough to compare by.
var manyCallsAtOnce = flag.Int("calls", 10_000, "calls in flight in TestTenThousandCalls, a multiple of 100")

// waiting is an API that answers nobody until it is told to, in a process of its own: what it does for thousands of calls is
// not what the NATS server, which is in this one, is slowed down by.
type waiting struct {
	URL string
	ca  string        // the field of a service that names the API's certificate, where it has one
	all chan struct{} // closed when as many calls have come as are to

	t      *testing.T
	tell   io.WriteCloser
	counts chan [2]int
}

// waitingAPI is the variable that makes this program one such API: its protocol, http or h2, and how many calls are to come.
const waitingAPI = "THENCE_TEST_WAITING_API"

// newWaiting starts an API of http, or of h2: https that offers HTTP/2.
func newWaiting(t *testing.T, expected int, protocol string) *waiting {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), fmt.Sprintf("%s=%s %d", waitingAPI, protocol, expected)), os.Stderr
	tell, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := &waiting{t: t, tell: tell, all: make(chan struct{}), counts: make(chan [2]int, 1)}
	lines := bufio.NewScanner(said)
	ended := make(chan struct{})
	t.Cleanup(func() { _ = tell.Close(); <-ended; _ = cmd.Wait() })
	lines.Scan()
	w.URL = lines.Text()
	lines.Scan()
	if file := lines.Text(); file != "" {
		w.ca = fmt.Sprintf(", ca: %q", file)
	}
	go func() {
		defer close(ended)
		for lines.Scan() {
			var n [2]int
			if _, err := fmt.Sscan(lines.Text(), &n[0], &n[1]); err == nil {
				w.counts <- n
			} else {
				close(w.all)
			}
		}
	}()
	return w
}

// count is how many requests have come, over how many connections.
func (w *waiting) count() (come, connections int) {
	w.t.Helper()
	w.say("count")
	select {
	case n := <-w.counts:
		return n[0], n[1]
	case <-time.After(10 * time.Second):
		w.t.Fatal("the API does not say how many requests have come")
		return 0, 0
	}
}

// release has all be answered, and those that come later.
func (w *waiting) release() { w.say("release") }

func (w *waiting) say(word string) {
	if _, err := fmt.Fprintln(w.tell, word); err != nil {
		w.t.Error(err)
	}
}

// serveWaiting is what such a process does, until its standard input ends.
func serveWaiting(order string) {
	var protocol string
	var expected int
	if _, err := fmt.Sscan(order, &protocol, &expected); err != nil {
		panic(err)
	}
	var come, connections atomic.Int64
	release := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if come.Add(1) == int64(expected) {
			fmt.Println("all")
		}
		<-release
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	ca := ""
	if server.EnableHTTP2 = protocol == "h2"; server.EnableHTTP2 {
		server.StartTLS()
		f, err := os.CreateTemp("", "ca-*.pem")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.Remove(f.Name()) }()
		if err := errors.Join(pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), f.Close()); err != nil {
			panic(err)
		}
		ca = f.Name()
	} else {
		server.Start()
	}
	fmt.Printf("%s\n%s\n", server.URL, ca)
	for words := bufio.NewScanner(os.Stdin); words.Scan(); {
		if words.Text() == "release" {
			close(release)
		} else {
			fmt.Println(come.Load(), connections.Load())
		}
	}
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
		{"http", 238}, {"h2", 300},
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
`, slow.URL, calls, slow.ca, quick.URL))
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
	_, connections := slow.count()
	t.Logf("%d calls in flight after %s, over %d connections: %d MiB resident, %d before", calls, time.Since(began).Round(time.Second), connections, now, idle)
	held := time.After(30 * time.Second) // past several ack waits
	during := measure(ctx, t, c, quick, "during")
	select {
	case <-held:
	case <-ctx.Done():
	}
	if come, _ := slow.count(); come != calls {
		t.Errorf("%d requests, want %d", come, calls)
	}
	now, peak := resident(t, w)
	if t.Logf("%d MiB resident at the end of the wait, %d at most", now, peak); peak > most {
		t.Errorf("%d MiB resident, want %d at most", peak, most)
	}
	slow.release()
	for i := range calls / callsOfAJob {
		awaitState(ctx, t, c, fmt.Sprint("c", i), func(s struct{ N int }) bool { return s.N == callsOfAJob })
	}
	if come, _ := slow.count(); come != calls {
		t.Errorf("%d requests when all were answered, want %d", come, calls)
	}
	after := measure(ctx, t, c, quick, "after")
	t.Logf("jobs a second: %.0f while the calls waited, %.0f before, %.0f after; calls of another service: %.0f, %.0f, %.0f",
		during.jobs, before.jobs, after.jobs, during.calls, before.calls, after.calls)
}
