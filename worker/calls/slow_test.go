package calls

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

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
// other services go on.
func TestRetryAfterPausesThePool(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		r := newRig(t)
		api := &busy{status: status}
		url, free := serve(t, api), serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) }))
		services := []Service{{Name: "busy", URL: url, AllowPrivate: true, Backoff: time.Millisecond}, {Name: "free", URL: free, AllowPrivate: true}}
		paused := make(chan time.Time, 10)
		for range 2 { // two workers
			p := r.performer(t, services...)
			p.config.Pause = func(ctx context.Context, service string, until time.Time) (bool, error) {
				changed, err := r.pool.PauseCalls(ctx, service, until)
				if changed {
					paused <- until
				}
				return changed, err
			}
			run(t, p)
		}
		first := r.open(t, "a", "busy", job.Request{Method: "GET", URL: url})
		until := <-paused
		var others []*opened
		for _, name := range []string{"b", "c", "d", "e"} {
			others = append(others, r.open(t, name, "busy", job.Request{Method: "GET", URL: url}))
		}
		equal(t, "status of another service", r.open(t, "f", "free", job.Request{Method: "GET", URL: free}).answer(t).Status, 200)
		equal(t, "attempts of the first", first.answer(t).Attempts, 2)
		for _, o := range others {
			equal(t, "attempts of the others", o.answer(t).Attempts, 1)
		}
		equal(t, "they were answered after the pause", time.Now().After(until), true)
		api.mu.Lock()
		equal(t, "requests", len(api.asked), 6)
		equal(t, "requests during the pause", api.early, 0)
		api.mu.Unlock()
	}
}

// TestSlowDownOnlyWhereAsked: without Retry-After, or with a status that says nothing about load, nobody is paused.
func TestSlowDownOnlyWhereAsked(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		status int
		after  time.Duration
		want   time.Duration // of the pause; 0: none
	}{{429, 0, 0}, {500, time.Minute, 0}, {409, time.Minute, 0}, {429, time.Minute, time.Minute}, {503, time.Hour, 5 * time.Minute}} {
		var got time.Duration
		r := result{after: test.after, answer: job.Answer{Status: test.status}}
		p := New(Config{Logger: slog.New(slog.DiscardHandler), Pause: func(_ context.Context, _ string, until time.Time) (bool, error) {
			got = until.Sub(now)
			return true, nil
		}})
		p.now = func() time.Time { return now }
		p.slowDown(t.Context(), Service{Name: "a"}.withDefaults(), r)
		equal(t, http.StatusText(test.status), got, test.want)
	}
}
