package integration_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/thence-dev/thence/dispatcher"
)

// rolled counts in its context, and asks the API under a number that no other job has.
var rolled = map[string]string{
	"ask": `
context := import("context")
http := import("http")
context.set("asked", context.get("asked", 0) + 1)
http.post(data.api + "/slow", {json: {context: data.context, n: context.get("asked")}, then: "answered", catch: "failed"})
`,
	"answered": callScripts["answered"],
	"failed":   callScripts["failed"],
}

// TestRollingUpdate does with worker processes what a Deployment with maxUnavailable 0 does with pods, while jobs keep
// coming: start a new one, probe it until it is ready, stop an old one, kill it should its time run out. No job is lost
// or takes effect twice, and calls under way end within the grace period or are handed over, under the same key.
func TestRollingUpdate(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	remote := newAPI(t, 400*time.Millisecond)
	run := func(name, grace string) *pod {
		return startPod(t, c, name, "--scripts", scripts(t, rolled), "--service", "api="+remote.URL, "--grace", grace)
	}
	patient, hasty := run("old-patient", "20s"), run("old-hasty", "100ms") // calls end in the one, and are handed over by the other
	ctx := within(t, 2*time.Minute)
	patient.awaitReady(ctx, t)
	hasty.awaitReady(ctx, t)
	jobs := startLoad(ctx, t, c, remote.URL)
	awaitSignal(ctx, t, remote.reached(10))
	var replaced []*pod
	for i, old := range []*pod{patient, hasty} {
		by := run(fmt.Sprintf("new-%d", i), "20s")
		by.awaitReady(ctx, t)
		replaced = append(replaced, by)
		old.replace(t, 30*time.Second)
		awaitSignal(ctx, t, remote.reached(remote.count()+10)) // the others go on
	}
	sent := jobs.end()
	total := 0
	for name, n := range sent {
		awaitState(ctx, t, c, name, func(s asks) bool { return s.Answered >= n })
		awaitState(ctx, t, c, name, func(s asks) bool { return s.Asked == n && s.Answered == n && s.Failed == nil })
		total += n
	}
	remote.checkKeys(t, total)
	again := remote.count() - total
	t.Logf("%d jobs, each with a call; %d calls were handed over and sent again under their keys", total, again)
	if again == 0 {
		t.Error("no call was under way in the worker that stopped at once: nothing was handed over")
	}
	checkMetrics(t, replaced, total)
}

// checkMetrics checks that a worker's metrics are there, and that together they count no more than there was.
func checkMetrics(t *testing.T, pods []*pod, total int) {
	t.Helper()
	for _, p := range pods {
		status, text := p.get(t, "/metrics")
		if status != http.StatusOK || !strings.Contains(text, `thence_ready{pool="p"} 1`) || !strings.Contains(text, `thence_jobs_total{outcome="done",pool="p",reason=""}`) {
			t.Errorf("%s: status %d\n%s", p.name, status, text)
		}
		if strings.Contains(text, `outcome="dead"`) || !strings.Contains(text, `thence_stream_messages{pool="p",stream="dead_letters"} 0`) {
			t.Errorf("%s counts dead letters of %d good jobs:\n%s", p.name, total, text)
		}
	}
}

func (a *api) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked)
}

// pod is a worker process with probes.
type pod struct {
	*process
	address string
}

// startPod starts a worker as Kubernetes does, and does not wait for it.
func startPod(t *testing.T, c *cluster, name string, args ...string) *pod {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"worker", "--pool", "p", "--name", name, "--server", c.url(), "--log", "json", "--http", address}, args...)
	return &pod{start(t, name, nil, args...), address}
}

// probe is one probe of the kubelet: whether the status is below 400.
func (p *pod) probe(path string) (bool, error) {
	resp, err := http.Get("http://" + p.address + path)
	if err != nil {
		return false, err
	}
	return resp.StatusCode < 400, resp.Body.Close()
}

func (p *pod) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	resp, err := http.Get("http://" + p.address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// awaitReady probes the worker until it is ready. It is alive as soon as it answers.
func (p *pod) awaitReady(ctx context.Context, t *testing.T) {
	t.Helper()
	period := time.NewTicker(20 * time.Millisecond)
	defer period.Stop()
	for {
		if ready, err := p.probe("/readyz"); err == nil {
			if alive, err := p.probe("/healthz"); err != nil || !alive {
				t.Fatalf("%s answers, and is not alive: %v", p.name, err)
			}
			if ready {
				return
			}
		}
		select {
		case <-period.C:
		case <-p.ended:
			t.Fatalf("%s has ended\n%s", p.name, p.output())
		case <-ctx.Done():
			t.Fatalf("%s: %v\n%s", p.name, context.Cause(ctx), p.output())
		}
	}
}

// replace is SIGTERM, and SIGKILL when the time is up, which fails the test. While it drains, the worker is alive and
// not ready.
func (p *pod) replace(t *testing.T, within time.Duration) {
	t.Helper()
	stopping := p.logged("worker is stopping")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-stopping:
		if ready, err := p.probe("/readyz"); err == nil && ready {
			t.Errorf("%s is ready although it was told to stop", p.name)
		}
	case <-p.ended:
	}
	select {
	case <-p.ended:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s: exit code %d\n%s", p.name, code, p.output())
		}
	case <-time.After(within):
		p.kill()
		t.Errorf("%s was killed: it did not stop within %s\n%s", p.name, within, p.output())
	}
}

// load publishes jobs to ten contexts in turn until end is called.
type load struct {
	stop context.CancelFunc
	done sync.WaitGroup
	sent map[string]int
}

func startLoad(ctx context.Context, t *testing.T, c *cluster, url string) *load {
	t.Helper()
	d, err := dispatcher.New(c.connect(), dispatcher.Config{Worker: "p", Caller: "load"})
	if err != nil {
		t.Fatal(err)
	}
	loading, stop := context.WithCancel(ctx)
	l := &load{stop: stop, sent: map[string]int{}}
	l.done.Go(func() {
		period := time.NewTicker(10 * time.Millisecond)
		defer period.Stop()
		for n := 0; ; n++ {
			select {
			case <-period.C:
			case <-loading.Done():
				return
			}
			name := fmt.Sprintf("c%d", n%10)
			if _, err := d.Dispatch(ctx, dispatcher.Job{Context: name, Script: "ask", Data: map[string]any{"api": url, "context": name}}); err != nil {
				t.Errorf("a job is not accepted during the update: %v", err)
				return
			}
			l.sent[name]++
		}
	})
	t.Cleanup(func() { l.end() })
	return l
}

// end stops the load, and returns how many jobs each context was sent.
func (l *load) end() map[string]int {
	l.stop()
	l.done.Wait()
	return maps.Clone(l.sent)
}

// TestMetricsAreDescribed: the page for operators names every metric of a running worker, and no others.
func TestMetricsAreDescribed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w := startPod(t, c, "w")
	w.awaitReady(within(t, time.Minute), t)
	_, text := w.get(t, "/metrics")
	_, page := blocks(t, "docs/operations.md")
	var there []string
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "# TYPE thence_"); ok {
			there = append(there, "thence_"+strings.Fields(rest)[0])
		}
	}
	if len(there) < 15 {
		t.Fatalf("a running worker shows %d metrics of ours: %q", len(there), there)
	}
	for _, name := range there {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/operations.md does not name the metric %s", name)
		}
	}
	others := []string{"thence_call_tries_total", "thence_call_try_duration_seconds", "thence_calls_in_flight", "thence_sandbox_kills_total", // once there is a call, or a kill
		"thence_max_bytes"} // of a stream's metadata
	for _, part := range strings.Split(page, "`thence_")[1:] {
		name, _, _ := strings.Cut("thence_"+part, "`")
		if !slices.Contains(there, name) && !slices.Contains(others, name) {
			t.Errorf("docs/operations.md names the metric %s, which a running worker does not have", name)
		}
	}
}
