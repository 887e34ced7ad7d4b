package integration_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/job"
)

// interrupted is an API that does not answer until it is told to, but on /large, and fails what it is asked first on /flaky.
type interrupted struct {
	*httptest.Server
	open chan struct{}

	mu   sync.Mutex
	keys map[string]map[string]int // by path
}

func newInterrupted(t *testing.T) *interrupted {
	t.Helper()
	a := &interrupted{open: make(chan struct{}), keys: map[string]map[string]int{}}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *interrupted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	a.mu.Lock()
	if a.keys[r.URL.Path] == nil {
		a.keys[r.URL.Path] = map[string]int{}
	}
	a.keys[r.URL.Path][r.Header.Get("Idempotency-Key")]++
	a.mu.Unlock()
	select {
	case <-a.open:
		_, _ = io.WriteString(w, "{}")
		return
	default:
	}
	switch r.URL.Path {
	case "/large":
		_, _ = w.Write(make([]byte, 300<<10))
	case "/flaky":
		w.WriteHeader(http.StatusBadGateway)
	default:
		<-r.Context().Done() // whoever asked is killed
	}
}

// backedUp is what the backup's scripts leave behind.
var backedUp = map[string]string{
	"count":    `context := import("context"); context.set("n", context.get("n", 0) + 1)`,
	"fails":    `x := 1 + undefined`,
	"ask":      `import("http").post(data.url, {json: {}, then: "answered"})`,
	"answered": `context := import("context"); context.set("n", context.get("n", 0) + 1)`,
}

// TestBackup follows docs/operations.md: a pool's worker is killed in the middle of all that it does, the pool is copied and
// restored on a new server, and another worker goes on. What was there is done, and nothing of it twice.
func TestBackup(t *testing.T) {
	buildNATS(t)
	t.Parallel()
	ctx := within(t, 5*time.Minute)
	remote := newInterrupted(t)
	from := newCluster(t)
	work := func(c *cluster) *process {
		w := start(t, "payments", nil, "worker", "--pool", "payments", "--server", c.url(), "--log", "json", "--scripts", scripts(t, backedUp),
			"--service", "api="+remote.URL)
		w.await(w.ready)
		return w
	}
	old := work(from)
	at := func(name string) job.Address { return job.Address{Pool: "payments", Context: name} }
	submit := func(c *cluster, name, id, script, path string) {
		d, err := dispatcher.New(c.connect(), dispatcher.Config{Worker: "payments", Context: name})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Dispatch(ctx, dispatcher.Job{ID: id, Script: script, Data: map[string]any{"url": remote.URL + path}}); err != nil {
			t.Fatal(err)
		}
	}
	submit(from, "failed", "fails", "fails", "")
	awaitCommit(ctx, t, from, at("failed"), func(c job.Commit) bool { return c.Report.Error != nil })
	submit(from, "hangs", "hangs", "ask", "/hangs")
	submit(from, "flaky", "flaky", "ask", "/flaky")
	remote.asked(ctx, t, "/hangs", "/flaky")
	for i := range 50 {
		submit(from, "counts", fmt.Sprint("before-", i), "count", "")
	}
	old.kill()
	for i := range 50 { // callers go on
		submit(from, "counts", fmt.Sprint("after-", i), "count", "")
	}

	to := newCluster(t)
	copyPool(ctx, t, from, to)
	close(remote.open)
	work(to)
	n := func(want int) func(job.Commit) bool {
		return func(c job.Commit) bool { return len(c.State) > 0 && stateN(t, c) >= want }
	}
	awaitCommit(ctx, t, to, at("counts"), n(100))
	awaitCommit(ctx, t, to, at("hangs"), n(1))
	awaitCommit(ctx, t, to, at("flaky"), n(1))
	for i := range 50 { // recognised
		submit(to, "counts", fmt.Sprint("before-", i), "count", "")
	}
	submit(to, "counts", "last", "count", "")
	last := awaitCommit(ctx, t, to, at("counts"), func(c job.Commit) bool { return c.Report.Job == "last" })
	if got := stateN(t, last); got != 101 {
		t.Errorf("%d jobs took effect, want 101", got)
	}
	remote.once(t)
	if out, errs, code := cli(t, "dead", "list", "payments", "--server", to.url()); code != 0 || strings.Count(out, "payments.failed") != 1 {
		t.Errorf("dead letters: exit code %d\n%s%s", code, out, errs)
	}
}

// asked waits until both paths were asked.
func (a *interrupted) asked(ctx context.Context, t *testing.T, paths ...string) {
	t.Helper()
	for period := time.NewTicker(20 * time.Millisecond); ; {
		a.mu.Lock()
		missing := 0
		for _, p := range paths {
			if len(a.keys[p]) == 0 {
				missing++
			}
		}
		a.mu.Unlock()
		if missing == 0 {
			period.Stop()
			return
		}
		select {
		case <-period.C:
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		}
	}
}

// once checks that each call went out again, under the key that it had.
func (a *interrupted) once(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for path, keys := range a.keys {
		for key, n := range keys {
			if len(keys) != 1 || n < 2 || key == "" {
				t.Errorf("%s: keys %v, want one, of two tries or more", path, keys)
			}
		}
	}
}

// copyPool runs the page's commands.
func copyPool(ctx context.Context, t *testing.T, from, to *cluster) {
	t.Helper()
	s := newShell(t, from)
	all, _ := blocks(t, "docs/operations.md")
	copied := map[string]int{}
	for _, b := range all {
		if b.info != "backup by nats" && b.info != "restore by nats" {
			continue
		}
		if b.info == "restore by nats" {
			dir := s.dir
			s = newShell(t, to)
			s.dir = dir
		}
		for _, command := range b.commands() {
			s.run(ctx, t, command)
			copied[b.info]++
		}
	}
	streams := 0
	js, err := jetstream.New(from.connect())
	if err != nil {
		t.Fatal(err)
	}
	for name := range js.StreamNames(ctx).Name() {
		if name != job.RatesStream("payments") {
			streams++
		}
	}
	if copied["backup by nats"] != streams || copied["restore by nats"] != streams {
		t.Fatalf("the page copies %v, want each of %d streams", copied, streams)
	}
}
