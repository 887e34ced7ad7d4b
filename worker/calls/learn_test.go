package calls

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// deaf is a Pacing that can't be asked how a service stands for so many times.
type deaf struct {
	Pacing
	refuses atomic.Int64
	asked   chan stream.ServiceState // what it told, when it did
}

func (d *deaf) Service(ctx context.Context, service string) (stream.ServiceState, error) {
	if d.refuses.Add(-1) >= 0 {
		return stream.ServiceState{}, errors.New("nobody answers")
	}
	s, err := d.Pacing.Service(ctx, service)
	if err == nil && service == "acme" {
		select {
		case d.asked <- s:
		default: // enough was told
		}
	}
	return s, err
}

// silent tells of nothing: neither of pauses nor of connections.
type silent struct{ *deaf }

func (silent) WatchCalls(ctx context.Context, _ func(string)) error {
	<-ctx.Done()
	return nil
}

// TestLearnAgain: a worker that can't learn at first how a service stands asks again, until it knows, though nobody tells it of
// anything.
func TestLearnAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pacing := &deaf{Pacing: r.pool, asked: make(chan stream.ServiceState, 1)}
	pacing.refuses.Store(9) // the four services ask once each as they begin, and then again
	p := r.performer(t, Service{Name: "acme", URL: "https://api.acme.example"})
	p.config.Pacing = silent{pacing}
	run(t, p)
	select {
	case <-pacing.asked:
	case <-r.ctx.Done():
		t.Fatal("nobody asks again")
	}
}

// TestToldAndDeaf: a pause that a worker is told of once, and can't learn about at first, is learned all the same.
func TestToldAndDeaf(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pacing := &deaf{Pacing: r.pool, asked: make(chan stream.ServiceState, 100)}
	p := r.performer(t, Service{Name: "acme", URL: "https://api.acme.example"})
	p.config.Pacing = pacing
	run(t, p)
	<-pacing.asked // as it begins
	pacing.refuses.Store(3)
	must(r.pool.PauseCalls(r.ctx, "acme", time.Now().Add(time.Hour)))(t)
	for {
		select {
		case s := <-pacing.asked:
			if s.PausedBy == stream.ByOperator {
				return
			}
		case <-r.ctx.Done():
			t.Fatal("the pause is not learned")
		}
	}
}

// halfway is a Pacing that a breaker's pause meets between its two writes: the second comes while somebody looks again, or is
// about to write.
type halfway struct {
	Pacing
	reason func()
	looks  atomic.Int64
	ended  chan struct{} // closed once the second write is there, and who met it has gone on
	once   sync.Once
}

func (h *halfway) Service(ctx context.Context, service string) (stream.ServiceState, error) {
	s, err := h.Pacing.Service(ctx, service)
	if err != nil || service != "acme" || !held(&s) || h.looks.Add(1) == 1 {
		return s, err
	}
	defer h.once.Do(func() { close(h.ended) })
	h.reason()
	return h.Pacing.Service(ctx, service)
}

func (h *halfway) ChangeCalls(ctx context.Context, service string, change func(*stream.ServiceState) bool) (stream.ServiceState, bool, error) {
	defer h.once.Do(func() { close(h.ended) })
	return h.Pacing.ChangeCalls(ctx, service, func(s *stream.ServiceState) bool {
		changes := change(s)
		h.reason()
		return changes
	})
}

// TestPausesAreTwoWrites: a pause whose reason is not written yet is not taken for an operator's, which would have the reason
// lost.
func TestPausesAreTwoWrites(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.performer(t, Service{Name: "acme", URL: "https://api.acme.example"})
	var until time.Time
	half := &halfway{Pacing: r.pool, ended: make(chan struct{}), reason: func() {
		_, _, err := r.pool.ChangeCalls(r.ctx, "acme", func(s *stream.ServiceState) bool {
			s.Slowdown = &stream.Slowdown{By: stream.ByBreaker, Until: until, Times: 1, MaxInFlight: s.Limit}
			s.Limit = 1
			return true
		})
		if err != nil {
			t.Error(err)
		}
	}}
	p.config.Pacing = half
	run(t, p)
	until = time.Now().Add(time.Hour).UTC()
	must(r.js.PauseConsumer(r.ctx, "CALLS_payments", "call_acme", until))(t)
	select {
	case <-half.ended:
	case <-r.ctx.Done():
		t.Fatal("nobody looks at the pause again")
	}
	s := must(r.pool.Service(r.ctx, "acme"))(t)
	equal(t, "breaker", s.Breaker, stream.BreakerOpen)
	equal(t, "paused by", s.PausedBy, stream.ByBreaker)
}

// TestAfterAnOperatorsPause: when an operator's pause ends, by hand or by itself, one call is handed out, and more as they succeed, up
// to as many as before.
func TestAfterAnOperatorsPause(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"resumed", "by itself"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			api := newGate(t)
			pool, _ := r.workers(t, 2, Service{Name: "acme", URL: api.url, AllowPrivate: true, MaxInFlight: 4})
			must(r.pool.PauseCalls(r.ctx, "acme", time.Now().Add(time.Hour)))(t)
			slowed := pool.until(t, r, func(s stream.ServiceState) bool { return s.Slowdown != nil })
			equal(t, "by", slowed.Slowdown.By, stream.ByOperator)
			equal(t, "limit", slowed.Limit, 1)
			equal(t, "breaker", slowed.Breaker, stream.BreakerClosed)
			all := r.openMany(t, 8, "acme", api.url)
			if name == "resumed" {
				must(r.pool.ResumeCalls(r.ctx, "acme"))(t)
			} else { // the hour is over soon
				must(r.js.PauseConsumer(r.ctx, "CALLS_payments", "call_acme", time.Now().Add(time.Second)))(t)
			}
			// That one waits at the API means that no other is there until it is let go: the limit is the server's.
			api.let(t, r, 1)
			equal(t, "limit after the first", pool.until(t, r, func(s stream.ServiceState) bool { return s.Limit > 1 }).Limit, 2)
			api.let(t, r, 7)
			equal(t, "limit in the end", pool.until(t, r, func(s stream.ServiceState) bool { return s.Slowdown == nil }).Limit, 4)
			for _, o := range all {
				equal(t, "status", o.answer(t).Status, http.StatusOK)
			}
			if most := api.most.Load(); most > 4 {
				t.Errorf("%d calls at a time, want 4 at most", most)
			}
		})
	}
}

// gate is an API that answers when it is told to.
type gate struct {
	url     string
	come    chan struct{}
	answer  chan struct{}
	now     atomic.Int64
	most    atomic.Int64
	alone   atomic.Bool // the first was let go: others may be there
	crowded atomic.Bool // there was another beside the first
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{come: make(chan struct{}, 100), answer: make(chan struct{})}
	g.url = serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n := g.now.Add(1)
		defer g.now.Add(-1)
		for old := g.most.Load(); n > old && !g.most.CompareAndSwap(old, n); old = g.most.Load() {
		}
		if n > 1 && !g.alone.Load() {
			g.crowded.Store(true)
		}
		g.come <- struct{}{}
		select {
		case <-g.answer:
		case <-req.Context().Done():
		}
		_, _ = w.Write([]byte("ok"))
	}))
	return g
}

// let waits for n requests, one after another or together, and answers each.
func (g *gate) let(t *testing.T, r *rig, n int) {
	t.Helper()
	for range n {
		select {
		case <-g.come:
		case <-r.ctx.Done():
			t.Fatal("no request comes")
		}
		if g.crowded.Load() {
			t.Error("several calls began at once after the pause")
		}
		g.alone.Store(true)
		g.answer <- struct{}{}
	}
}

// TestRateTakenOut: a rate without a limit bounds the calls in flight by what it can use; taken out of the file, the limit from
// before counts again, on a live reload as after a restart, unless an operator has set another meanwhile.
func TestRateTakenOut(t *testing.T) {
	t.Parallel()
	rated := Service{Name: "acme", URL: "https://api.acme.example", Rate: Rate{Calls: 10, Per: time.Second}}
	plain := Service{Name: "acme", URL: "https://api.acme.example"}
	r := newRig(t)
	limit := func() int { return must(r.pool.Service(r.ctx, "acme"))(t).Limit }
	awaits := func(want int) {
		t.Helper()
		for limit() != want {
			if r.ctx.Err() != nil {
				t.Fatalf("the limit is %d, want %d", limit(), want)
			}
		}
	}
	p := r.performer(t, rated)
	stop := run(t, p)
	equal(t, "limit by the rate", limit(), 306)
	p.config.Services.Change(must(NewServices(plain))(t)) // a live reload
	awaits(1000)
	p.config.Services.Change(must(NewServices(rated))(t))
	awaits(306)
	stop()

	stop = run(t, r.performer(t, plain)) // a restart
	equal(t, "limit without the rate", limit(), 1000)
	stop()
	r.edit(t, "acme", 50)
	stop = run(t, r.performer(t, rated))
	equal(t, "limit by the rate", limit(), 306)
	stop()
	stop = run(t, r.performer(t, plain))
	equal(t, "the operator's limit again", limit(), 50)
	stop()
	stop = run(t, r.performer(t, rated))
	r.edit(t, "acme", 20)
	stop()
	run(t, r.performer(t, plain))
	equal(t, "the operator's limit, set beside the rate", limit(), 20)
}

// edit sets a consumer's limit as an operator does.
func (r *rig) edit(t *testing.T, service string, limit int) {
	t.Helper()
	c := must(r.js.Consumer(r.ctx, "CALLS_payments", "call_"+service))(t)
	config := c.CachedInfo().Config
	config.MaxAckPending = limit
	must(r.js.UpdateConsumer(r.ctx, "CALLS_payments", config))(t)
}

// broken is a store that is away.
type broken struct {
	Bodies
	err  error // nil: it says nothing until the call's time is over
	over context.CancelFunc
}

func (b broken) KeepBody(ctx context.Context, _ job.Address, _ string, head job.Answer, _ io.Reader) (job.Answer, error) {
	if b.err == nil {
		b.over()
		return head, ctx.Err()
	}
	return head, b.err
}

// TestStoreAwayIsNotTheAPIs: where a body can't be stored the call is tried again, and the API's breaker hears nothing of it.
func TestStoreAwayIsNotTheAPIs(t *testing.T) {
	t.Parallel()
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2*maxInline)) }))
	for name, test := range map[string]struct {
		err error
		typ string
	}{
		"refused": {errors.New("not so"), job.FailureConnection}, "silent": {nil, job.FailureTimeout},
	} {
		s := Service{Name: "acme", URL: url, AllowPrivate: true, ResponseLimit: 1 << 20}.withDefaults()
		ctx, over := context.WithCancel(t.Context())
		a := alone(s, nil)
		a.bodies = broken{err: test.err, over: over}
		c := newClient(s, a)
		got := c.send(ctx, job.Call{Request: job.Request{Method: http.MethodGet, URL: url}})
		over()
		c.close()
		if got.answer.Failure == nil || got.answer.Failure.Type != test.typ || !got.retry {
			t.Fatalf("%s: got %+v, %+v", name, got, got.answer.Failure)
		}
		equal(t, name+": for the breaker it ends", endOf(got), endsNeither)
	}
}

// TestReadAwayIsNotTheAPIs: a part of a body that can't be read now is read later, and opens no breaker.
func TestReadAwayIsNotTheAPIs(t *testing.T) {
	t.Parallel()
	p := New(Config{Bodies: unreadable{}})
	got := p.readPart(t.Context(), job.Call{Request: job.Request{URL: "body:7-2?offset=0&length=9"}})
	equal(t, "tried again", got.retry, true)
	equal(t, "for the breaker it ends", endOf(got), endsNeither)
}

type unreadable struct{ Bodies }

func (unreadable) ReadBody(context.Context, job.Address, string, int64, int) ([]byte, job.Stored, error) {
	return nil, job.Stored{}, errors.New("nobody answers")
}
