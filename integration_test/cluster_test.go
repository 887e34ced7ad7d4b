package integration_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/stream"
)

// three are the servers of a cluster, each of which can be ended and started again.
type three struct {
	*cluster
	options []embedded.Options
	servers []*embedded.Server // nil: it is down
}

func newThree(t *testing.T) *three {
	t.Helper()
	var free []net.Listener
	var addresses []string
	for range 6 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		free, addresses = append(free, l), append(addresses, l.Addr().String())
	}
	for _, l := range free { // all at once, so that the ports differ
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	clients, routes := addresses[:3], addresses[3:]
	c := &three{cluster: &cluster{t: t, listen: strings.Join(clients, ",nats://")}, servers: make([]*embedded.Server, 3)}
	for i := range 3 {
		c.options = append(c.options, embedded.Options{
			Store: t.TempDir(), Listen: clients[i], MaxStore: 8 << 30, Name: fmt.Sprint("n", i),
			Cluster: &embedded.Cluster{Name: "three", Listen: routes[i], Routes: routes},
		})
		c.up(i)
		t.Cleanup(func() { c.down(i) })
	}
	c.init()
	return c
}

func (c *three) up(i int) {
	c.t.Helper()
	var err error
	if c.servers[i], err = embedded.Start(c.options[i]); err != nil {
		c.t.Fatal(err)
	}
}

func (c *three) down(i int) {
	if s := c.servers[i]; s != nil {
		s.Close()
	}
	c.servers[i] = nil
}

// init makes what the pool needs, as soon as the cluster has elected who does.
func (c *three) init() {
	c.t.Helper()
	ctx, nc := within(c.t, time.Minute), c.connect()
	try := func() error { // a request to a cluster without a leader has no answer
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := stream.Ensure(ctx, nc, "p", stream.Options{Replicas: 3, Services: map[string]int{"api": 10}})
		return err
	}
	for err := try(); err != nil; err = try() {
		if ctx.Err() != nil {
			c.t.Fatal(err)
		}
	}
}

// leads is the number of the server that leads a stream's consumer.
func (c *three) leads(ctx context.Context, name, consumer string) int {
	c.t.Helper()
	js, err := jetstream.New(c.connect())
	if err != nil {
		c.t.Fatal(err)
	}
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		found, err := js.Consumer(try, name, consumer)
		cancel()
		if err != nil || found.CachedInfo().Cluster == nil {
			continue
		}
		leader := found.CachedInfo().Cluster.Leader
		if at := slices.IndexFunc(c.options, func(o embedded.Options) bool { return o.Name == leader }); at >= 0 && c.servers[at] != nil {
			return at
		}
	}
	c.t.Fatalf("%s of %s has no leader", consumer, name)
	return 0
}

// arrivals are an API's requests: when they came, how many were there at once, and how many calls they belong to.
type arrivals struct {
	mu        sync.Mutex
	came      []time.Time
	now, most int
	keys      map[string]bool
	reached   map[int]chan struct{} // by calls
}

// ServeHTTP implements http.Handler.
func (a *arrivals) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	a.step(r, 1)
	<-time.After(30 * time.Millisecond)
	a.step(r, -1)
}

func (a *arrivals) step(r *http.Request, by int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now += by
	a.most = max(a.most, a.now)
	if by < 0 {
		return
	}
	a.came = append(a.came, time.Now())
	if key := r.Header.Get("Idempotency-Key"); !a.keys[key] {
		a.keys[key] = true
		if reached, ok := a.reached[len(a.keys)]; ok {
			close(reached)
		}
	}
}

// crowd finds requests that came closer together than a rate allows, if there are any. A request may be late to its slot, by as much
// as half a second.
func (a *arrivals) crowd(rate float64) (n int, within time.Duration, found bool) {
	for i := range a.came {
		for j := i + 1; j < len(a.came); j++ {
			n, within = j-i+1, a.came[j].Sub(a.came[i])
			if float64(n) > rate*(within.Seconds()+0.5)+1 {
				return n, within, true
			}
		}
	}
	return 0, 0, false
}

// TestLimitsOverLeaders: max_in_flight and rate of a service hold while the servers that keep them go and come, and every call is
// answered.
func TestLimitsOverLeaders(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers, which elect a leader three times")
	}
	t.Parallel()
	const calls, each, limit, rate = 300, 20, 4, 40
	c := newThree(t)
	some, half, all := make(chan struct{}), make(chan struct{}), make(chan struct{})
	a := &arrivals{keys: map[string]bool{}, reached: map[int]chan struct{}{calls / 4: some, calls / 2: half, calls: all}}
	remote := httptest.NewServer(a)
	t.Cleanup(remote.Close)
	file := servicesFile(t, "", fmt.Sprintf("services:\n  api: {url: %q, allow_private: true, max_in_flight: %d, rate: {calls: %d/s}}\n", remote.URL, limit, rate))
	dir := scripts(t, map[string]string{
		"many":  fmt.Sprintf(`http := import("http"); for i := 0; i < %d; i++ { http.post(data, {json: {n: i}, then: "count"}) }`, each),
		"count": `context := import("context"); context.set("n", context.get("n", 0) + 1)`,
	})
	for i := range 2 {
		startWorker(t, c.cluster, fmt.Sprint("w", i), "--services", file, "--scripts", dir)
	}
	ctx := within(t, 3*time.Minute)
	for i := range calls / each {
		dispatch(t, c.cluster, dispatcher.Job{Context: fmt.Sprint("c", i), Script: "many", Data: remote.URL})
	}
	awaitSignal(ctx, t, some)
	first := c.leads(ctx, "CALLS_p", "call_api")
	c.down(first)
	awaitSignal(ctx, t, half)
	c.up(first)
	second := c.leads(ctx, "CALLS_p", "call_api")
	c.down(second)
	c.up(second)
	awaitSignal(ctx, t, all)
	for i := range calls / each {
		awaitState(ctx, t, c.cluster, fmt.Sprint("c", i), func(s struct{ N int }) bool { return s.N == each })
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.most > limit {
		t.Errorf("the API had %d requests at once, want %d at most", a.most, limit)
	}
	if n, within, found := a.crowd(rate); found {
		t.Errorf("%d requests came within %s, at a rate of %d/s", n, within, rate)
	}
	t.Logf("%d requests for %d calls within %s, %d at once at most, while server %d went and came, then %d", len(a.came), calls,
		a.came[len(a.came)-1].Sub(a.came[0]).Round(time.Millisecond), a.most, first, second)
}

// TestBodyWithoutOneServer: a body that is too large for a job is stored, and read in parts, while one server of three is down.
func TestBodyWithoutOneServer(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	t.Parallel()
	c := newThree(t)
	const lines = 40_000
	remote := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("thirty bytes, the newline too\n", lines))
	}))
	t.Cleanup(remote.Close)
	file := servicesFile(t, "", fmt.Sprintf("services:\n  api: {url: %q, allow_private: true, response_limit: 4MiB}\n", remote.URL))
	startWorker(t, c.cluster, "w", "--services", file, "--scripts", scripts(t, map[string]string{"export": `
http := import("http")
job := import("job")
context := import("context")
text := import("text")
again := {then: job.script, catch: job.script}
answer := job.response
if job.failure {
	context.set("failed", job.failure)
} else if !answer {
	http.get(data, again)
} else if answer.status == 200 {
	http.part(answer.stored, 0, 262144, again)
} else {
	context.set("lines", context.get("lines", 0) + text.count(data, "\n"))
	if answer.stored.next { http.part(answer.stored, answer.stored.next, 262144, again) }
}`}))
	ctx := within(t, 2*time.Minute)
	c.down(c.leads(ctx, "CALLS_p", "call_api"))
	dispatch(t, c.cluster, dispatcher.Job{Context: "c", Script: "export", Data: remote.URL})
	awaitState(ctx, t, c.cluster, "c", func(s struct{ Lines int }) bool { return s.Lines == lines })
}
