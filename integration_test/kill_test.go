package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/job"
)

// The scripts of the kill test. Every fifth job of a context makes a call, whose answer is counted; every tenth sends a
// job to another context. A job that meets a state other than its predecessor's leaves a trace of it.
var killScripts = map[string]string{
	"count": `
context := import("context")
flow := import("flow")
http := import("http")
job := import("job")
n := context.get("n", 0)
if data.i != n {
	context.set("disorder", append(context.get("disorder", []), [n, data.i]))
}
context.set("n", n + 1)
if n % 5 == 0 {
	http.post(data.api + "/calls", {json: {context: job.context, i: data.i}, then: "answered", catch: "failed"})
}
if n % 10 == 0 {
	flow.dispatch({context: "sum", script: "add", data: {from: job.context, i: data.i}})
}
`,
	"answered": `
context := import("context")
seen := context.get("seen", {})
key := string(data.i)
seen[key] = seen[key] ? seen[key] + 1 : 1
context.set("seen", seen)
`,
	"failed": `
context := import("context")
job := import("job")
context.set("failed", job.failure)
`,
	"add": `
context := import("context")
context.set("sum", context.get("sum", 0) + 1)
`,
}

// killSize is how much the kill test does.
type killSize struct {
	contexts, jobs int // jobs of each context
	kills          int
	patience       time.Duration
}

// TestKill: nothing is lost, nothing happens twice, and each context's order is kept, while one of two workers is
// killed again and again and the server is restarted once. Callers publish some jobs twice.
func TestKill(t *testing.T) {
	t.Parallel()
	size := killSize{contexts: 200, jobs: 25, kills: 5, patience: 2 * time.Minute}
	switch {
	case *long:
		size = killSize{contexts: 500, jobs: 200, kills: 40, patience: 25 * time.Minute}
	case testing.Short():
		size = killSize{contexts: 50, jobs: 20, kills: 2, patience: 2 * time.Minute}
	}
	c := newCluster(t)
	remote := newAPI(t, 15*time.Millisecond)
	args := []string{"--scripts", scripts(t, killScripts), "--service", "api=" + remote.URL}
	steady := startWorker(t, c, "steady", args...)
	victim := startWorker(t, c, "victim-0", args...)
	ctx := within(t, size.patience)

	began := time.Now()
	progress := follow(ctx, t, c, size)
	var published errgroup.Group
	published.Go(func() error { return publish(ctx, c.connect(), remote.URL, size) })
	calls := size.contexts * ((size.jobs + 4) / 5)
	for k := range size.kills {
		awaitSignal(ctx, t, remote.reached(calls*(2*k+1)/(2*size.kills)))
		victim.kill()
		victim = startWorker(t, c, fmt.Sprintf("victim-%d", k+1), args...)
		if k == size.kills/2 {
			c.restart()
		}
	}
	if err := published.Wait(); err != nil {
		t.Fatal(err)
	}
	awaitSignal(ctx, t, progress.complete)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("steady:\n%s\nvictim:\n%s", steady.output(), victim.output())
		}
	})
	took := time.Since(began)
	progress.check(t, remote)
	checkEmpty(ctx, t, c)
	for _, p := range []*process{steady, victim} {
		if code := p.stop(); code != 0 {
			t.Errorf("%s: exit code %d\n%s", p.name, code, p.output())
		}
	}
	t.Logf("%d jobs in %d contexts, %d calls sent as %d requests, %d kills, 1 server restart: %s",
		size.contexts*size.jobs, size.contexts, calls, len(remote.asked), size.kills, took.Round(time.Millisecond))
}

// publish dispatches the jobs, each context's in order, every seventh twice. While the server is away it tries again
// under the same id.
func publish(ctx context.Context, nc *nats.Conn, api string, size killSize) error {
	d, err := dispatcher.New(nc, dispatcher.Config{Worker: "p", Caller: "test"})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	const lines = 16
	for line := range lines {
		group.Go(func() error {
			for i := range size.jobs {
				for c := line; c < size.contexts; c += lines {
					j := dispatcher.Job{ID: fmt.Sprintf("job-%d-%d", c, i), Context: contextName(c), Script: "count", Data: map[string]any{"i": i, "api": api}}
					if err := insist(ctx, d, j, i%7 == 0); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func insist(ctx context.Context, d *dispatcher.Dispatcher, j dispatcher.Job, twice bool) error {
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := d.Dispatch(try, j)
		cancel()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, dispatcher.ErrInvalid):
			return err
		case err == nil && !twice:
			return nil
		case err == nil:
			twice = false
		}
	}
}

func contextName(c int) string { return fmt.Sprintf("cus_%d", c) }

func awaitSignal(ctx context.Context, t *testing.T, signal <-chan struct{}) {
	t.Helper()
	select {
	case <-signal:
	case <-ctx.Done():
		t.Fatal(context.Cause(ctx))
	}
}

// progress is what the contexts have come to, as their commits tell.
type progress struct {
	size     killSize
	complete chan struct{}

	mu     sync.Mutex
	state  map[string]killState
	reason map[string]int // outcomes
}

type killState struct {
	N        int
	Sum      int
	Seen     map[string]int
	Disorder json.RawMessage
	Failed   json.RawMessage
}

// follow watches every commit of the pool. Each is seen once, in order.
func follow(ctx context.Context, t *testing.T, c *cluster, size killSize) *progress {
	t.Helper()
	p := &progress{size: size, complete: make(chan struct{}), state: map[string]killState{}, reason: map[string]int{}}
	js, err := jetstream.New(c.connect())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var watching sync.WaitGroup
	watching.Go(func() {
		for e := range w.Updates() {
			if e != nil && p.see(t, e) {
				close(p.complete)
				return
			}
		}
	})
	t.Cleanup(func() { _ = w.Stop(); watching.Wait() })
	return p
}

// see takes a commit in, and tells whether everything is done.
func (p *progress) see(t *testing.T, e jetstream.KeyValueEntry) bool {
	c, err := job.DecodeCommit(e.Value())
	if err != nil {
		t.Error(err)
		return true
	}
	var s killState
	if err := json.Unmarshal(c.State, &s); err != nil {
		t.Error(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state[e.Key()] = s
	p.reason[c.Report.Outcome]++
	return p.done()
}

func (p *progress) done() bool {
	if p.state["sum"].Sum < p.size.contexts*((p.size.jobs+9)/10) {
		return false
	}
	for c := range p.size.contexts {
		if s := p.state[contextName(c)]; s.N < p.size.jobs || len(s.Seen) < (p.size.jobs+4)/5 {
			return false
		}
	}
	return true
}

// check holds the promise against what is stored and what the API saw.
func (p *progress) check(t *testing.T, remote *api) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if got, want := p.state["sum"].Sum, p.size.contexts*((p.size.jobs+9)/10); got != want {
		t.Errorf("sum is %d, want %d: a job from another context was lost or taken twice", got, want)
	}
	for c := range p.size.contexts {
		s := p.state[contextName(c)]
		if s.N != p.size.jobs || s.Disorder != nil || s.Failed != nil {
			t.Errorf("%s: n is %d, want %d; out of order: %s; failed: %s", contextName(c), s.N, p.size.jobs, s.Disorder, s.Failed)
		}
		for i, times := range s.Seen {
			if times != 1 {
				t.Errorf("%s: the answer of call %s was handled %d times", contextName(c), i, times)
			}
		}
	}
	if n := p.reason[job.OutcomeDead]; n > 0 {
		t.Errorf("%d dead letters", n)
	}
	remote.checkKeys(t, p.size.contexts*((p.size.jobs+4)/5))
}

// checkKeys checks that each call was sent under one key, and no two calls under the same.
func (a *api) checkKeys(t *testing.T, calls int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	keyOf := map[string]string{}
	for _, r := range a.asked {
		if old, ok := keyOf[r.Body]; ok && old != r.Key {
			t.Errorf("call %s was sent under two keys, %s and %s", r.Body, old, r.Key)
		}
		keyOf[r.Body] = r.Key
	}
	if len(keyOf) != calls || len(a.byKey) != calls {
		t.Errorf("%d different calls under %d keys, want %d", len(keyOf), len(a.byKey), calls)
	}
}

// checkEmpty waits until no job and no call is left to be handed out or acked. What a stream still holds then was acked while the server
// went down, before it was removed: the server knows it as acked, so it must have taken effect.
func checkEmpty(ctx context.Context, t *testing.T, c *cluster) {
	t.Helper()
	js, err := jetstream.New(c.connect())
	if err != nil {
		t.Fatal(err)
	}
	acked := make(chan struct{}, 1)
	sub, err := c.connect().Subscribe("$JS.ACK.>", func(*nats.Msg) {
		select {
		case acked <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for _, name := range []string{job.JobsStream("p"), job.CallsStream("p")} {
		for left := open(ctx, t, js, name); left > 0; left = open(ctx, t, js, name) {
			select {
			case <-acked:
			case <-time.After(time.Second): // an ack may have come between the look and the subscription
			case <-ctx.Done():
				t.Fatalf("%d messages are left on %s: %s", left, name, leftOver(t, js, name))
			}
		}
	}
	if n := messages(ctx, t, js, job.JobsStream("p")); n > 0 {
		checkApplied(ctx, t, js)
	}
	for _, name := range []string{job.CallsStream("p"), job.DeadStream("p")} {
		if n := messages(ctx, t, js, name); n > 0 {
			t.Errorf("%d messages are left on %s: %s", n, name, leftOver(t, js, name))
		}
	}
}

// open counts what a stream's consumers have to hand out, or have handed out and not seen acked.
func open(ctx context.Context, t *testing.T, js jetstream.JetStream, stream string) int {
	t.Helper()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	consumers, left := s.ListConsumers(ctx), 0
	for info := range consumers.Info() {
		left += int(info.NumPending) + info.NumAckPending
	}
	if consumers.Err() != nil {
		t.Fatal(consumers.Err())
	}
	return left
}

// checkApplied checks that every job which the stream still holds has taken effect.
func checkApplied(ctx context.Context, t *testing.T, js jetstream.JetStream) {
	t.Helper()
	s, err := js.Stream(ctx, job.JobsStream("p"))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			continue // removed
		}
		at, err := job.ParseAddress(m.Subject)
		if err != nil {
			t.Fatal(err)
		}
		e, err := kv.Get(ctx, at.Context)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := job.DecodeCommit(e.Value()); err != nil || c.Applied < seq {
			t.Errorf("job %d of %s is acked, but has not taken effect: %s", seq, at, leftOver(t, js, job.JobsStream("p")))
		}
		t.Logf("job %d of %s has taken effect and is acked, but the server has not removed it", seq, at)
	}
}

func messages(ctx context.Context, t *testing.T, js jetstream.JetStream, stream string) uint64 {
	t.Helper()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// leftOver describes the first message that a stream still holds, and how far its context and its consumers are.
func leftOver(t *testing.T, js jetstream.JetStream, stream string) string {
	t.Helper()
	ctx := within(t, 10*time.Second)
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return err.Error()
	}
	m, err := s.GetMsg(ctx, s.CachedInfo().State.FirstSeq)
	if err != nil {
		return err.Error()
	}
	text := fmt.Sprintf("sequence %d on %s, %v %s", m.Sequence, m.Subject, m.Header, m.Data)
	for info := range s.ListConsumers(ctx).Info() {
		text += fmt.Sprintf("\nconsumer %s: %d pending, %d unacked, %d redelivered, %d waiting, floor %d",
			info.Name, info.NumPending, info.NumAckPending, info.NumRedelivered, info.NumWaiting, info.AckFloor.Stream)
	}
	if a, err := job.ParseAddress(m.Subject); err == nil {
		if kv, err := js.KeyValue(ctx, a.Pool); err == nil {
			if e, err := kv.Get(ctx, a.Context); err == nil {
				text += "\n" + string(e.Value())
			}
		}
	}
	return text
}
