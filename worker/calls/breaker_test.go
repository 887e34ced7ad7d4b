package calls

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// flaky is an API that fails until it is mended, and remembers when it was asked and by how many at a time.
type flaky struct {
	mu       sync.Mutex
	mended   bool
	asked    []time.Time
	now, max int // requests under way since it was mended
	hold     chan struct{}
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, time.Now())
	if !f.mended {
		f.mu.Unlock()
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	f.now++
	f.max = max(f.max, f.now)
	f.mu.Unlock()
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-r.Context().Done():
		}
	}
	f.mu.Lock()
	f.now--
	f.mu.Unlock()
	w.Write([]byte("ok"))
}

func (f *flaky) mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mended = true
}

// since is how many requests came after a time.
func (f *flaky) since(t time.Time) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(f.asked), func(at time.Time) bool { return at.Before(t) }))
}

func (f *flaky) service(url string) Service {
	return Service{
		Name: "flaky", URL: url, AllowPrivate: true, Backoff: 10 * time.Millisecond, MaxWait: 10 * time.Millisecond, Attempts: 1000, MaxInFlight: 64,
		Breaker: Breaker{Failures: 3, MaxPause: 4 * time.Second},
	}
}

func (r *rig) openMany(t *testing.T, n int, service, url string) []*opened {
	t.Helper()
	var all []*opened
	for i := range n {
		all = append(all, r.open(t, fmt.Sprintf("c%d", i), service, job.Request{Method: "GET", URL: url}))
	}
	return all
}

// TestBreaker: four workers of a pool whose API fails leave it alone together, ask it with one call at a time, after longer and
// longer pauses, and go back to as many calls at a time as before once it is well.
func TestBreaker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	api := &flaky{}
	url := serve(t, api)
	pool, _ := r.workers(t, 4, api.service(url))
	all := r.openMany(t, 150, "flaky", url)
	pauses := map[int]stream.ServiceState{} // as they are told of, which is not the order in which they were made
	for pauses[1].Slowdown == nil || pauses[2].Slowdown == nil || pauses[3].Slowdown == nil {
		s := pool.until(t, r, func(s stream.ServiceState) bool { return s.Slowdown != nil })
		if _, more := pauses[s.Slowdown.Times]; !more {
			pauses[s.Slowdown.Times] = s
		}
	}
	opened, second, third := pauses[1], pauses[2], pauses[3]
	equal(t, "limit", opened.Limit, 1)
	equal(t, "limit to go back to", opened.MaxInFlight, 64)
	equal(t, "error", opened.Slowdown.Error, "500: the API answered 500 Internal Server Error")
	quiet := opened.Slowdown.Until.Add(-firstPause/4 - slack) // another worker, which opened it too, may have left out more
	if wait := third.Slowdown.Until.Sub(second.Slowdown.Until); wait < 3*time.Second-slack {
		t.Errorf("the third pause lasts %s at most, want 3s to 4s", wait)
	}
	if n := api.since(quiet); n < 2 { // a probe ended each of the first two pauses
		t.Errorf("%d requests after the breaker had opened, want 2", n)
	}
	if n := third.Slowdown.After - second.Slowdown.After; n < 1 || n > 3 { // a probe that a slow worker held for too long is handed out again
		t.Errorf("%d calls handed out from the second pause to the third, want 1", n)
	}
	api.mend()
	for _, o := range all {
		equal(t, "status", o.answer(t).Status, 200)
	}
	closed := pool.until(t, r, func(s stream.ServiceState) bool { return s.Slowdown == nil })
	equal(t, "limit in the end", closed.Limit, 64)
	equal(t, "breaker in the end", closed.Breaker, stream.BreakerClosed)
}

// TestRampUp: a service that answers again is handed no more calls at a time than the step it is at allows, however many wait.
func TestRampUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	api := &flaky{hold: make(chan struct{})}
	url := serve(t, api)
	pool, _ := r.workers(t, 4, api.service(url))
	all := r.openMany(t, 60, "flaky", url)
	pool.until(t, r, func(s stream.ServiceState) bool { return s.Breaker == stream.BreakerOpen })
	api.mend()
	for len(pool.changes) > 0 {
		<-pool.changes // two workers may have opened it at once
	}
	for limit := 1; limit < 16; limit *= 2 {
		for raised := false; !raised; {
			select {
			case api.hold <- struct{}{}: // a request ends
			case s := <-pool.changes:
				if raised = s.Limit == 2*limit; s.Limit != limit && !raised { // two workers may have gone up to the one before
					t.Errorf("next limit: got %d, want %d", s.Limit, 2*limit)
				}
			}
		}
		api.mu.Lock()
		equal(t, "more at a time than the limit", api.max > 2*limit, false)
		api.mu.Unlock()
	}
	close(api.hold)
	for _, o := range all {
		equal(t, "status", o.answer(t).Status, 200)
	}
}

// TestBreakerOutlivesItsWorker: a worker that comes after the one which opened the breaker goes on from what that has left.
func TestBreakerOutlivesItsWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	api := &flaky{}
	url := serve(t, api)
	first, stop := r.workers(t, 1, api.service(url))
	all := r.openMany(t, 60, "flaky", url)
	first.until(t, r, func(s stream.ServiceState) bool { return s.Breaker == stream.BreakerOpen })
	stop[0]()
	api.mend()
	second := api.service(url)
	second.MaxInFlight = 8 // and another file, at that
	ok(t, r.pool.LimitCalls(r.ctx, "flaky", 8))
	equal(t, "limit while it is slowed down", must(r.pool.Service(r.ctx, "flaky"))(t).Limit, 1)
	pool, _ := r.workers(t, 1, second)
	for _, o := range all {
		equal(t, "status", o.answer(t).Status, 200)
	}
	equal(t, "limit", pool.until(t, r, func(s stream.ServiceState) bool { return s.Slowdown == nil }).Limit, 8)
}

// TestOperatorsLimitCounts: a limit that an operator sets while a service is slowed down is neither lowered nor raised.
func TestOperatorsLimitCounts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	api := &flaky{}
	url := serve(t, api)
	pool, stop := r.workers(t, 2, api.service(url))
	all := r.openMany(t, 30, "flaky", url)
	pool.until(t, r, func(s stream.ServiceState) bool { return s.Breaker == stream.BreakerOpen })
	for _, stop := range stop {
		stop() // of two changes that meet the later one stands
	}
	api.mend()
	config := must(r.js.Consumer(r.ctx, "CALLS_payments", "call_flaky"))(t).CachedInfo().Config
	config.MaxAckPending = 5
	must(r.js.UpdateConsumer(r.ctx, "CALLS_payments", config))(t)
	r.workers(t, 2, api.service(url))
	for _, o := range all {
		equal(t, "status", o.answer(t).Status, 200)
	}
	s := must(r.pool.Service(r.ctx, "flaky"))(t)
	equal(t, "limit", s.Limit, 5)
	equal(t, "limit without the slowdown", s.MaxInFlight, 5)
	equal(t, "breaker", s.Breaker, stream.BreakerClosed)
}

// TestBreakerOff: a service without a breaker is called on, however it fails.
func TestBreakerOff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	api := &flaky{}
	url := serve(t, api)
	service := api.service(url)
	service.Breaker.Off, service.Attempts = true, 3
	run(t, r.performer(t, service))
	for _, o := range r.openMany(t, 10, "flaky", url) {
		o.failure(t, job.FailureHTTP, 3)
	}
	equal(t, "limit", must(r.pool.Service(r.ctx, "flaky"))(t).Limit, 64)
}

// TestNoSecretInTheMetadata: the last failure stands in the consumer's metadata, for everybody who may look at consumers.
func TestNoSecretInTheMetadata(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.secrets["acme_key"] = "s3cr3t-of-acme"
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"message": "bad " + req.Header.Get("Authorization")}}) // the client may be gone
	}))
	pool, _ := r.workers(t, 1, Service{
		Name: "acme", URL: url, AllowPrivate: true, ErrorMember: true, Auth: Auth{Kind: AuthBearer, Secret: "acme_key"}, Breaker: Breaker{Failures: 1},
	})
	r.open(t, "a", "acme", job.Request{Method: "GET", URL: url})
	s := pool.until(t, r, func(s stream.ServiceState) bool { return s.Breaker == stream.BreakerOpen })
	if !strings.Contains(s.Slowdown.Error, "500: bad") || strings.Contains(s.Slowdown.Error, "s3cr3t") {
		t.Errorf("the metadata say %q", s.Slowdown.Error)
	}
}

func TestEnds(t *testing.T) {
	answered := func(status int, typ string) result {
		r := result{answer: job.Answer{Status: status}}
		if typ != "" {
			r.answer.Failure = &job.Failure{Type: typ}
		}
		return r
	}
	for want, all := range map[end][]result{
		endsWell:    {answered(200, ""), answered(404, job.FailureHTTP), answered(402, "card_error"), answered(501, job.FailureHTTP), answered(200, job.FailureTooLarge)},
		endsBadly:   {answered(500, job.FailureHTTP), answered(503, job.FailureHTTP), answered(0, job.FailureConnection), answered(0, job.FailureTimeout), answered(0, job.FailureUnknown), answered(200, job.FailureConnection)},
		endsBusy:    {answered(429, job.FailureHTTP)},
		endsNeither: {answered(0, job.FailureBlocked), answered(0, job.FailureRejected)},
	} {
		for _, r := range all {
			equal(t, fmt.Sprintf("end of %d %+v", r.answer.Status, r.answer.Failure), endOf(r), want)
		}
	}
}

// TestPauses: pauses double up to the longest, of which up to a quarter is left out at random.
func TestPauses(t *testing.T) {
	b := Breaker{MaxPause: 5 * time.Second}.withDefaults()
	for times, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 5 * time.Second, 1 << 30: 5 * time.Second} {
		equal(t, "longest", b.pause(times, func(time.Duration) time.Duration { return 0 }), want)
		equal(t, "shortest", b.pause(times, func(d time.Duration) time.Duration { return d - 1 }), want-want/4)
	}
}

// TestSlowdownLongOver: what a worker knows of a slowdown may be old. That few failures are enough while it lasts is decided by
// how the consumer is.
func TestSlowdownLongOver(t *testing.T) {
	now := time.Now()
	slow := &stream.Slowdown{After: 10, MaxInFlight: 1000, Limit: 1}
	b := newBrake(Breaker{}.withDefaults())
	b.learn(stream.ServiceState{Now: now, Limit: 1, HandedOut: 10, Slowdown: slow}, now)
	later := now.Add(2 * time.Hour)
	failed, _ := b.ended(endsBadly, 5000, "500", later)
	equal(t, "failures for which the consumer is looked at", failed, 1)
	none := func(time.Duration) time.Duration { return 0 }
	for what, test := range map[string]struct {
		state  stream.ServiceState
		failed int
		opens  bool
	}{
		"one, and it is over":      {stream.ServiceState{Limit: 1000}, failed, false},
		"many, and it is over":     {stream.ServiceState{Limit: 1000}, b.breaker.Failures, true},
		"one, and it is the probe": {stream.ServiceState{Limit: 1, Slowdown: slow}, failed, true},
		"one of four":              {stream.ServiceState{Limit: 4, Slowdown: slow}, failed, false},
		"somebody else was first":  {stream.ServiceState{Limit: 1, Slowdown: slow, PausedUntil: later}, failed, false},
	} {
		test.state.Now = later
		equal(t, what, b.breaker.opening(test.failed, "500", none)(&test.state), test.opens)
	}
}

// TestLastError: what the API said last that was no success is shown, too much to do included, which counts as no failure.
func TestLastError(t *testing.T) {
	now := time.Now()
	b := newBrake(Breaker{})
	var use stream.ServiceUse
	b.ended(endsBadly, 1, "500", now)
	b.ended(endsNeither, 1, "blocked", now)
	b.use(&use, now)
	equal(t, "after a failure", use.LastError, "500")
	b.ended(endsBusy, 1, "429", now)
	b.ended(endsWell, 1, "", now)
	b.use(&use, now)
	equal(t, "after a 429", use.LastError, "429")
	equal(t, "tries", use.Tries, 2)
	equal(t, "failed", use.Failed, 1)
}

// TestWindow: failures count within the window, where they are half of the tries or more.
func TestWindow(t *testing.T) {
	now := time.Now()
	b := newBrake(Breaker{Failures: 3, Window: 10 * time.Second})
	end := func(how end) (opens bool) {
		failed, _ := b.ended(how, 1, "why", now)
		return failed > 0
	}
	equal(t, "one", end(endsBadly), false)
	equal(t, "two", end(endsBadly), false)
	now = now.Add(11 * time.Second)
	equal(t, "one, the others are too old", end(endsBadly), false)
	for range 3 {
		end(endsWell)
	}
	equal(t, "two of five", end(endsBadly), false)
	equal(t, "neither counts", end(endsNeither), false)
	equal(t, "429 does not count", end(endsBusy), false)
	equal(t, "three of six", end(endsBadly), true)
	equal(t, "somebody is looking", end(endsBadly), false)
	b.looked()
	equal(t, "again", end(endsBadly), true)
}
