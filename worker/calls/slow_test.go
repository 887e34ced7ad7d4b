package calls

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// spy tells of every change of how fast a service is called.
type spy struct {
	Pacing
	changes chan stream.ServiceState
}

func (s *spy) ChangeCalls(ctx context.Context, service string, change func(*stream.ServiceState) bool) (stream.ServiceState, bool, error) {
	state, changed, err := s.Pacing.ChangeCalls(ctx, service, change)
	if changed {
		s.changes <- state
	}
	return state, changed, err
}

// until waits for a change after which something holds.
func (s *spy) until(t *testing.T, r *rig, holds func(stream.ServiceState) bool) stream.ServiceState {
	t.Helper()
	for {
		select {
		case state := <-s.changes:
			if holds(state) {
				return state
			}
		case <-r.ctx.Done():
			t.Fatal("what was waited for does not come to be")
		}
	}
}

// workers runs so many performers of a pool, as on as many machines.
func (r *rig) workers(t *testing.T, n int, services ...Service) (*spy, []func()) {
	t.Helper()
	s := &spy{r.pool, make(chan stream.ServiceState, 1000)}
	var stops []func()
	for range n {
		p := r.performer(t, services...)
		p.config.Pacing = s
		stops = append(stops, run(t, p))
	}
	return s, stops
}

// busy is an API that refuses its first request, and then whatever comes before it wants to be asked again.
type busy struct {
	mu     sync.Mutex
	asked  []time.Time
	again  time.Time
	early  int // requests that came too early
	status int
}

const busyFor = 2 * time.Second

func (b *busy) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, time.Now())
	if len(b.asked) == 1 {
		b.again = time.Now().Add(busyFor)
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(b.status)
		return
	}
	if time.Now().Before(b.again.Add(-100 * time.Millisecond)) { // the answer was on its way for a while
		b.early++
	}
	w.Write([]byte("ok"))
}

// TestRetryAfterPausesThePool: when an API asks to be left alone for a while, no worker of the pool calls it, and calls of
// other services go on. Afterwards calls begin one by one, and then as many at a time as before.
func TestRetryAfterPausesThePool(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		r := newRig(t)
		api := &busy{status: status}
		url, free := serve(t, api), serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) }))
		pool, _ := r.workers(t, 2,
			Service{Name: "busy", URL: url, AllowPrivate: true, Backoff: time.Millisecond, MaxWait: time.Millisecond, MaxInFlight: 4},
			Service{Name: "free", URL: free, AllowPrivate: true})
		first := r.open(t, "a", "busy", job.Request{Method: "GET", URL: url})
		paused := pool.until(t, r, func(s stream.ServiceState) bool { return s.PausedBy == stream.ByAPI })
		equal(t, "limit", paused.Limit, 1)
		equal(t, "breaker", paused.Breaker, stream.BreakerClosed)
		until := time.Now().Add(paused.PausedUntil.Sub(paused.Now))
		var others []*opened
		for _, name := range []string{"b", "c", "d", "e"} {
			others = append(others, r.open(t, name, "busy", job.Request{Method: "GET", URL: url}))
		}
		equal(t, "status of another service", r.open(t, "f", "free", job.Request{Method: "GET", URL: free}).answer(t).Status, 200)
		equal(t, "attempts of the first", first.answer(t).Attempts, 2)
		for _, o := range others {
			equal(t, "attempts of the others", o.answer(t).Attempts, 1)
		}
		equal(t, "they were answered after the pause", time.Now().After(until.Add(-slack)), true)
		equal(t, "then", pool.until(t, r, func(s stream.ServiceState) bool { return s.Slowdown == nil }).Limit, 4)
		api.mu.Lock()
		equal(t, "requests", len(api.asked), 6)
		equal(t, "requests during the pause", api.early, 0)
		api.mu.Unlock()
	}
}

// TestRetryAfterIsFollowed: a call waits for as long as its API asks, in seconds or until a date, also where that is longer
// than the service's own longest wait; the pool waits for an hour at most. A wait that the call would be too old after is
// none: what the API said is the answer.
func TestRetryAfterIsFollowed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		header string
		wait   time.Duration // of the call; 0: it ends
		pause  time.Duration // of the pool; 0: none
	}{
		"seconds":         {429, "120", 2 * time.Minute, 2 * time.Minute},
		"a date":          {503, time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat), 10 * time.Minute, 10 * time.Minute},
		"hours":           {429, "10800", 3 * time.Hour, time.Hour},
		"another status":  {500, "120", 2 * time.Minute, 0},
		"not asked":       {429, "", time.Second, 0},
		"after its time":  {429, "36000", 0, time.Hour},
		"a negative time": {429, "-5", time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", test.header)
				w.WriteHeader(test.status)
			}))
			stop := run(t, r.performer(t, Service{Name: "acme", URL: url, AllowPrivate: true, Backoff: time.Second, MaxWait: time.Second, MaxAge: 5 * time.Hour}))
			o := r.open(t, "a", "acme", job.Request{Method: "GET", URL: url})
			if test.wait == 0 {
				equal(t, "status", o.failure(t, job.FailureHTTP, 1).Status, test.status)
			} else {
				near(t, "the call's wait", time.Until(r.timer(t)), test.wait)
			}
			stop() // the pool is slowed down after what came of the call is stored
			s := must(r.pool.Service(r.ctx, "acme"))(t)
			if test.pause == 0 {
				equal(t, "paused until", s.PausedUntil, time.Time{})
				return
			}
			near(t, "the pool's pause", s.PausedUntil.Sub(s.Now), test.pause)
		})
	}
}

// stuck is a Pacing whose changes are not answered, as while the API has no leader.
type stuck struct {
	Pacing
	asked chan struct{}
}

func (s stuck) ChangeCalls(ctx context.Context, _ string, _ func(*stream.ServiceState) bool) (stream.ServiceState, bool, error) {
	s.asked <- struct{}{}
	<-ctx.Done()
	return stream.ServiceState{}, false, ctx.Err()
}

// TestAnswerBeforeTheBrake: a worker that ends while it changes how fast a service is called has stored what the API answered.
func TestAnswerBeforeTheBrake(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	s := Service{Name: "bank", URL: url, AllowPrivate: true, Never: true}
	p := r.performer(t, s)
	pacing := stuck{r.pool, make(chan struct{}, 1)}
	p.config.Pacing, p.config.Grace = pacing, time.Millisecond
	stop := run(t, p)
	o := r.open(t, "c", "bank", job.Request{Method: "POST", URL: url})
	<-pacing.asked
	stop()
	run(t, r.performer(t, s)) // is handed the call, if that was given back
	equal(t, "status", o.failure(t, job.FailureHTTP, 1).Status, http.StatusTooManyRequests)
}

// near wants a time that is as long as another, less what a test takes and a date leaves out.
func near(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got > want+slack || got < want*3/4-5*time.Second {
		t.Errorf("%s: got %s, want %s", what, got, want)
	}
}

// timer waits for the timer of a call's next try, and returns when it is due.
func (r *rig) timer(t *testing.T) time.Time {
	t.Helper()
	for {
		due := ""
		ok(t, r.pool.QueuedCalls(r.ctx, "", func(m job.Message) bool { due = m.Get("Nats-Schedule"); return due == "" }))
		if due != "" {
			return must(time.Parse("@at "+time.RFC3339Nano, due))(t)
		}
	}
}

// leaderless is a Pacing that fails once to change how fast a service is called, as while the consumer has no leader.
type leaderless struct {
	Pacing
	failed sync.Once
}

func (l *leaderless) ChangeCalls(ctx context.Context, service string, change func(*stream.ServiceState) bool) (s stream.ServiceState, changed bool, err error) {
	err = context.DeadlineExceeded
	l.failed.Do(func() { change = nil })
	if change == nil {
		return s, false, err
	}
	return l.Pacing.ChangeCalls(ctx, service, change)
}

// TestPauseIsTriedAgain: a pause that an API asks for is made although the consumer had no leader at first.
func TestPauseIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	seen := &spy{&leaderless{Pacing: r.pool}, make(chan stream.ServiceState, 10)}
	p := r.performer(t, Service{Name: "busy", URL: url, AllowPrivate: true})
	p.config.Pacing = seen
	run(t, p)
	r.open(t, "a", "busy", job.Request{Method: "GET", URL: url})
	equal(t, "paused by", seen.until(t, r, func(stream.ServiceState) bool { return true }).PausedBy, stream.ByAPI)
}
