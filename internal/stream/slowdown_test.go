package stream

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/job"
)

// slow pauses the calls to a service for a while, one at a time being handed out then.
func slow(by string, d time.Duration) func(*ServiceState) bool {
	return func(s *ServiceState) bool {
		if s.Slowdown == nil {
			s.Slowdown = &Slowdown{MaxInFlight: s.Limit}
		}
		s.PausedUntil, s.Limit = s.Now.Add(d), 1
		s.Slowdown.By, s.Slowdown.Until = by, s.PausedUntil
		s.Slowdown.Times++
		return true
	}
}

// faster doubles the limit of a service that is slowed down.
func faster(s *ServiceState) bool {
	if s.Slowdown == nil {
		return false
	}
	if s.Limit = min(2*s.Limit, s.MaxInFlight); s.Limit == s.MaxInFlight {
		s.Slowdown = nil
	}
	return true
}

// TestSlowdown: what slows a service down stands in its consumer, and is told from what operators do to that.
func TestSlowdown(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{MaxBytes: 1 << 20, Services: map[string]int{"acme": 64}})
	change := func(fn func(*ServiceState) bool) ServiceState {
		t.Helper()
		s, _, err := p.ChangeCalls(within(t), "acme", fn)
		ok(t, err)
		read := get(p.Service(within(t), "acme"))(t)
		equal(t, "limit as it is read again", read.Limit, s.Limit)
		return read
	}
	s := change(slow(ByBreaker, time.Hour))
	equal(t, "limit", s.Limit, 1)
	equal(t, "limit to go back to", s.MaxInFlight, 64)
	equal(t, "breaker", s.Breaker, BreakerOpen)
	equal(t, "paused by", s.PausedBy, ByBreaker)

	ok(t, p.LimitCalls(within(t), "acme", 32)) // the file has changed
	s = change(func(*ServiceState) bool { return false })
	equal(t, "limit", s.Limit, 1)
	equal(t, "limit to go back to", s.MaxInFlight, 32)

	get(p.PauseCalls(within(t), "acme", time.Now().Add(2*time.Hour)))(t)
	s = get(p.Service(within(t), "acme"))(t)
	equal(t, "paused by", s.PausedBy, ByOperator)
	get(p.ResumeCalls(within(t), "acme"))(t)
	s = get(p.Service(within(t), "acme"))(t)
	equal(t, "breaker", s.Breaker, BreakerHalfOpen)
	equal(t, "limit of one that goes on", s.Limit, 1)

	for _, want := range []int{2, 4, 8, 16, 32} {
		s = change(faster)
		equal(t, "limit", s.Limit, want)
	}
	equal(t, "breaker", s.Breaker, BreakerClosed)
	equal(t, "slowdown", s.Slowdown, nil)

	change(slow(ByAPI, time.Hour))
	c := get(p.js.Consumer(within(t), job.CallsStream(p.Name), "call_acme"))(t)
	config := c.CachedInfo().Config
	config.MaxAckPending = 5
	get(p.js.UpdateConsumer(within(t), job.CallsStream(p.Name), config))(t)
	s = get(p.Service(within(t), "acme"))(t)
	equal(t, "limit that an operator has set", s.Limit, 5)
	equal(t, "limit to go back to", s.MaxInFlight, 5)
	equal(t, "slowdown", s.Slowdown, nil)
	equal(t, "paused by", s.PausedBy, ByAPI)
}

// TestSlowdownRaces: consumers have no compare-and-set. Of updates that meet one stands, whole: limit and slowdown fit
// together, and the limit to go back to is never lost.
func TestSlowdownRaces(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{MaxBytes: 1 << 20, Services: map[string]int{"acme": 64}})
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 30 {
				change := faster
				if (i+worker)%5 == 0 {
					change = slow(ByBreaker, time.Millisecond)
				}
				s, _, err := p.ChangeCalls(within(t), "acme", change)
				if err != nil || s.MaxInFlight != 64 || s.Slowdown == nil && s.Limit != 64 {
					t.Errorf("got %+v, %v", s, err)
				}
			}
		})
	}
	group.Wait()
	for { // whoever calls the service goes on from what is left
		s, changed, err := p.ChangeCalls(within(t), "acme", faster)
		ok(t, err)
		if !changed {
			equal(t, "limit in the end", s.Limit, 64)
			return
		}
	}
}

// TestWatchCalls: the server tells when a pause begins and when it ends, whoever made it, and what was missed while the
// connection was away is made known.
func TestWatchCalls(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{MaxBytes: 1 << 20, Services: map[string]int{"acme": 7}})
	ctx, stop := context.WithCancel(within(t))
	heard, ended := make(chan string, 10), make(chan error, 1)
	go func() { ended <- p.WatchCalls(ctx, func(service string) { heard <- service }) }()
	hear := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-heard:
				if got == want {
					return
				}
			case <-ctx.Done():
				t.Fatalf("nothing is heard, want %q", want)
			}
		}
	}
	for began := false; !began; { // it listens some time after it was begun
		get(p.PauseCalls(ctx, "acme", time.Now().Add(200*time.Millisecond)))(t)
		select {
		case <-heard:
			began = true
		case <-time.After(300 * time.Millisecond):
		}
	}
	get(p.PauseCalls(ctx, "acme", time.Now().Add(500*time.Millisecond)))(t)
	hear("acme") // that it begins; or how an earlier one ended, which the loop above may have left
	hear("acme")
	ok(t, p.nc.ForceReconnect())
	hear("")
	stop()
	ok(t, <-ended)
}

// TestRateMark: a mark is written by whoever saw the last one, and by nobody else.
func TestRateMark(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{MaxBytes: 1 << 20})
	mark := get(p.RateMark(within(t), "acme"))(t)
	equal(t, "no mark", mark, RateMark{})
	now := get(p.RateClock(within(t)))(t)
	if off := time.Since(now); off < -time.Second || off > 10*time.Second {
		t.Errorf("the server's clock is off by %s", off)
	}
	first := get(p.SetRateMark(within(t), "acme", RateMark{Next: now}))(t)
	if _, err := p.SetRateMark(within(t), "acme", RateMark{Next: now}); !errors.Is(err, ErrConflict) {
		t.Errorf("a second first mark: got %v", err)
	}
	second := get(p.SetRateMark(within(t), "acme", RateMark{Next: now.Add(time.Second), Revision: first.Revision}))(t)
	read := get(p.RateMark(within(t), "acme"))(t)
	equal(t, "revision", read.Revision, second.Revision)
	equal(t, "next", read.Next.Equal(now.Add(time.Second)), true)
	equal(t, "another service's", get(p.RateMark(within(t), "other"))(t), RateMark{})
	equal(t, "marks that are kept", p.stored(t, "RATES_payments").Msgs, 1)
}

// TestAskWorkers: all workers answer, at once, who asks; and nowhere but where answers belong.
func TestAskWorkers(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{MaxBytes: 1 << 20})
	equal(t, "workers", len(get(p.AskWorkers(within(t)))(t)), 0)
	ctx, stop := context.WithCancel(within(t))
	var group sync.WaitGroup
	for _, name := range []string{"b", "a"} {
		group.Go(func() {
			if err := p.AnswerAsked(ctx, func() WorkerServices { return WorkerServices{name, []ServiceUse{{Service: "acme", Tries: 3}}} }); err != nil {
				t.Error(err)
			}
		})
	}
	var all []WorkerServices
	for len(all) < 2 { // they listen some time after they were begun
		all = get(p.AskWorkers(ctx))(t)
	}
	equal(t, "names", all[0].Worker+all[1].Worker, "ab")
	equal(t, "tries", all[0].Services[0].Tries, 3)
	elsewhere := get(p.nc.SubscribeSync("payments.cus_42"))(t)
	ok(t, p.nc.PublishRequest(job.AskSubject("payments"), "payments.cus_42", nil))
	get(p.AskWorkers(ctx))(t) // they have seen the one before
	if m, err := elsewhere.NextMsg(time.Nanosecond); !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("a worker published %v on a subject that it was asked to, %v", m, err)
	}
	stop()
	group.Wait()
}
