// Package integration_test holds the tests of the whole system: real NATS servers, real worker processes that are
// killed, the real nats CLI, and APIs on loopback that record what they were asked.
package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/job"
)

var long = flag.Bool("long", false, "run the long forms of tests that have one")

// thence is the path of the program, built once for all tests.
var thence string

func TestMain(m *testing.M) {
	if order := os.Getenv(waitingAPI); order != "" {
		serveWaiting(order)
		return
	}
	flag.Parse()
	dir, err := os.MkdirTemp("", "thence-test-")
	if err != nil {
		panic(err)
	}
	thence = filepath.Join(dir, "thence")
	build := exec.Command("go", "build", "-o", thence, "github.com/thence-dev/thence/cmd/thence")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// cluster is a NATS server whose store and address outlive it.
type cluster struct {
	t      *testing.T
	store  string
	listen string
	server *embedded.Server
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, store: t.TempDir(), listen: "127.0.0.1:0"}
	c.start()
	c.listen = strings.TrimPrefix(c.server.URL(), "nats://")
	t.Cleanup(func() { c.server.Close() })
	return c
}

func (c *cluster) start() {
	c.t.Helper()
	server, err := embedded.Start(embedded.Options{Store: c.store, Listen: c.listen, MaxStore: 64 << 30})
	if err != nil {
		c.t.Fatal(err)
	}
	c.server = server
}

// restart ends the server and starts it again on the same store and address.
func (c *cluster) restart() {
	c.server.Close()
	c.start()
}

// url is the server's, or that of another server that was started at its address.
func (c *cluster) url() string { return "nats://" + c.listen }

// connect returns a connection that outlives the server, closed with the test.
func (c *cluster) connect() *nats.Conn {
	c.t.Helper()
	nc, err := nats.Connect(c.url(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	return nc
}

// process is the program in a process of its own, whose log is read.
type process struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	ready chan struct{}
	ended chan struct{}

	mu   sync.Mutex
	log  []string
	wait map[string]chan struct{} // by a line's message
	err  error
}

// startWorker starts a worker of pool p and waits until it takes jobs.
func startWorker(t *testing.T, c *cluster, name string, args ...string) *process {
	t.Helper()
	args = append([]string{"worker", "--pool", "p", "--name", name, "--server", c.url(), "--log", "json"}, args...)
	p := start(t, name, nil, args...)
	p.await(p.ready)
	return p
}

func start(t *testing.T, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, ready: make(chan struct{}), ended: make(chan struct{}), wait: map[string]chan struct{}{}}
	p.cmd = exec.Command(thence, args...)
	p.cmd.Env = append([]string{"HOME=" + t.TempDir()}, env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(stderr)
	t.Cleanup(func() { p.kill() })
	return p
}

// await waits for a signal of the process, and fails the test when the process ends first.
func (p *process) await(signal <-chan struct{}) {
	p.t.Helper()
	select {
	case <-signal:
	case <-p.ended:
		p.t.Fatalf("%s has ended: %v\n%s", p.name, p.err, p.output())
	case <-time.After(60 * time.Second):
		p.t.Fatalf("%s: nothing after a minute\n%s", p.name, p.output())
	}
}

// logged returns a channel that is closed once the process has logged a line with that message.
func (p *process) logged(message string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wait[message] == nil {
		p.wait[message] = make(chan struct{})
	}
	return p.wait[message]
}

func (p *process) read(log io.Reader) {
	defer close(p.ended)
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct{ Msg string }
		_ = json.Unmarshal(lines.Bytes(), &l) // what is no JSON has no message
		p.mu.Lock()
		p.log = append(p.log, lines.Text())
		if c := p.wait[l.Msg]; c != nil {
			close(c)
			delete(p.wait, l.Msg)
		}
		p.mu.Unlock()
		if l.Msg == "worker is ready" {
			close(p.ready)
		}
	}
	p.err = p.cmd.Wait()
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, "\n")
}

// kill is SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// stop is SIGTERM; it returns the exit code.
func (p *process) stop() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(60 * time.Second):
		p.t.Fatalf("%s does not stop\n%s", p.name, p.output())
	}
	return p.cmd.ProcessState.ExitCode()
}

// cli runs the program to its end, and returns what it printed.
func cli(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), thence, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// scripts writes a script library and returns its directory.
func scripts(t *testing.T, library map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, source := range library {
		if err := os.WriteFile(filepath.Join(dir, name+".tengo"), []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// api is an HTTP API that records what it was asked.
type api struct {
	*httptest.Server
	mu       sync.Mutex
	asked    []asked
	byKey    map[string]int
	watchers []watcher
}

type asked struct {
	Key, Path, Body string
}

type watcher struct {
	n    int
	done chan struct{}
}

// newAPI answers each request with what it was sent, after delay.
func newAPI(t *testing.T, delay time.Duration) *api {
	t.Helper()
	a := &api{byKey: map[string]int{}}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		a.record(asked{r.Header.Get("Idempotency-Key"), r.URL.Path, string(body)})
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *api) record(r asked) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r)
	a.byKey[r.Key]++
	for i := 0; i < len(a.watchers); {
		if len(a.asked) >= a.watchers[i].n {
			close(a.watchers[i].done)
			a.watchers = append(a.watchers[:i], a.watchers[i+1:]...)
			continue
		}
		i++
	}
}

// reached returns a channel that is closed once n requests have come.
func (a *api) reached(n int) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	done := make(chan struct{})
	if len(a.asked) >= n {
		close(done)
	} else {
		a.watchers = append(a.watchers, watcher{n, done})
	}
	return done
}

// within bounds a test's waits.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, fmt.Errorf("the test's %s are over", d))
	t.Cleanup(cancel)
	return ctx
}

// natsMessage is a job's message as the client library has it.
func natsMessage(subject string, m job.Message) *nats.Msg {
	return &nats.Msg{Subject: subject, Header: nats.Header(m.Header), Data: m.Data}
}

// counter is the n of a context's state.
func counter(t *testing.T, value []byte) int {
	t.Helper()
	c, err := job.DecodeCommit(value)
	if err != nil {
		t.Fatal(err)
	}
	var s struct{ N int }
	if err := json.Unmarshal(c.State, &s); err != nil {
		t.Fatal(err)
	}
	return s.N
}
