package stream

import (
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// TestLimitByRate: the limit that a rate needs gives way to the one from before when the rate goes; an operator's, set
// meanwhile, and the file's stay.
func TestLimitByRate(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{MaxBytes: 1 << 20, Services: map[string]int{"acme": 64, "new": 30}})
	limited := func(service string, useful, want int) {
		t.Helper()
		ok(t, p.LimitByRate(within(t), service, useful, 1000))
		equal(t, service+"'s limit", get(p.Service(within(t), service))(t).MaxInFlight, want)
	}
	limited("acme", 0, 64) // nothing to take back
	limited("acme", 30, 30)
	limited("acme", 30, 30)
	limited("acme", 40, 40) // another rate
	limited("acme", 0, 64)
	limited("new", 30, 30) // made so: what there was before is not known
	limited("new", 0, 1000)

	limited("acme", 30, 30)
	edit(t, p, "acme", 20)
	limited("acme", 0, 20)
	limited("acme", 30, 30)
	ok(t, p.LimitCalls(within(t), "acme", 30)) // the file says the same
	limited("acme", 0, 30)

	limited("acme", 20, 20)
	get(p.PauseCalls(within(t), "acme", time.Now().Add(time.Hour)))(t)
	_, _, err := p.ChangeCalls(within(t), "acme", slow(ByBreaker, 2*time.Hour))
	ok(t, err)
	limited("acme", 0, 30)
	s := get(p.Service(within(t), "acme"))(t)
	equal(t, "limit of one that is slowed down", s.Limit, 1)
	equal(t, "its breaker", s.Breaker, BreakerOpen)

	get(p.ResumeCalls(within(t), "new"))(t)
	edit(t, p, "new", -1) // any number
	limited("new", 30, 30)
	_, _, err = p.ChangeCalls(within(t), "new", slow(ByBreaker, time.Hour))
	ok(t, err)
	limited("new", 0, -1)
	equal(t, "limit of one that is slowed down, and had none before", get(p.Service(within(t), "new"))(t).Limit, 1)
}

// edit sets a limit as an operator does.
func edit(t *testing.T, p *Pool, service string, limit int) {
	t.Helper()
	c := get(p.js.Consumer(within(t), job.CallsStream(p.Name), "call_"+service))(t)
	config := c.CachedInfo().Config
	config.MaxAckPending = limit
	get(p.js.UpdateConsumer(within(t), job.CallsStream(p.Name), config))(t)
}
