package thencetest

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/stream"
)

// clock is the worker's clock in a test: the machine's, and what the test has let pass beside. It is safe for concurrent
// use.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
	tries map[*try]struct{}
}

// Ahead is how much the test has let pass.
func (c *clock) Ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead
}

// try is the time that a try of a call may take.
type try struct {
	context.Context //nolint:containedctx // it is a context itself
	cancel          context.CancelCauseFunc
	due             time.Time // by the clock
	timer           *time.Timer
	done            chan struct{}
}

// WithTimeout is context.WithTimeout by the clock.
func (c *clock) WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	t := &try{done: make(chan struct{})}
	t.Context, t.cancel = context.WithCancelCause(ctx)
	context.AfterFunc(t.Context, func() { close(t.done) })
	c.mu.Lock()
	defer c.mu.Unlock()
	t.due = time.Now().Add(c.ahead + d)
	t.timer = time.AfterFunc(d, t.expire)
	c.tries[t] = struct{}{}
	return t, func() { c.end(t) }
}

func (c *clock) end(t *try) {
	c.mu.Lock()
	delete(c.tries, t)
	c.mu.Unlock()
	t.timer.Stop()
	t.cancel(context.Canceled)
}

func (t *try) expire() { t.cancel(context.DeadlineExceeded) }

// Done is a channel of its own: whoever derives a context asks Err how this one ended, and does not look into what is
// below it.
func (t *try) Done() <-chan struct{} { return t.done }

// Err is that of a context with a deadline.
func (t *try) Err() error {
	select {
	case <-t.done:
		return context.Cause(t.Context)
	default:
		return nil
	}
}

// underWay is how many tries have begun and not ended.
func (c *clock) underWay() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.tries)
}

// pass lets time pass, and ends the tries that take too long by then.
func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
	for t := range c.tries {
		if now := time.Now().Add(c.ahead); !t.due.After(now) {
			t.expire()
		} else {
			t.timer.Reset(t.due.Sub(now))
		}
	}
}

// Now is the time by the pool's clock: the machine's, and what [Pool.Advance] has let pass.
func (p *Pool) Now() time.Time { return time.Now().Add(p.clock.Ahead()) }

// Advance lets time pass without waiting for it. It first waits until the pool is at rest: no job that has not ended, and no
// call that could begin. Then all that waits for its time waits so much less: jobs that were dispatched for later, next tries
// of calls, calls whose answer does not come (they time out), services that are paused. Scripts see the time of jobs that
// come from then on so much later, and deadlines of jobs are that much nearer.
//
// It does not wait for what comes of it: Await does, or the next Advance. A timer that is set by then counts from the new
// time: a script that sets its next timer each day takes an Advance for each day.
func (p *Pool) Advance(d time.Duration) {
	p.t.Helper()
	if d < 0 {
		p.t.Fatalf("thencetest: time does not go back: Advance(%s)", d)
	}
	p.rest()
	p.clock.pass(d)
	p.must(p.stream.BringForward(p.t.Context(), d))
}

// rest waits until the pool is at rest.
func (p *Pool) rest() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), p.wait)
	defer cancel()
	moves, end := p.moves()
	defer end()
	for {
		first, rests := p.look(ctx)
		if rests {
			if second, still := p.look(ctx); still && first == second {
				return
			}
		}
		select {
		case <-moves:
		case <-time.After(50 * time.Millisecond): // the server's own doings are on no subject
		case <-ctx.Done():
			p.t.Fatalf("thencetest: the pool does not come to rest within %s: %d jobs have not ended, %d calls are under way, %d of them were sent",
				p.wait, first.Jobs, first.UnderWay, p.clock.underWay())
		}
	}
}

// moves are messages to the pool, and words on those that were handed out, until end is called.
func (p *Pool) moves() (moves chan *nats.Msg, end func()) {
	p.t.Helper()
	moves = make(chan *nats.Msg, 64)
	jobs, err := p.conn.ChanSubscribe(poolName+".>", moves)
	p.must(err)
	acks, err := p.conn.ChanSubscribe("$JS.ACK.>", moves)
	p.must(err)
	return moves, func() {
		_, _ = jobs.Unsubscribe(), acks.Unsubscribe() // they fail when the connection is closed, and then these are too
	}
}

// look looks whether the pool is at rest now.
func (p *Pool) look(ctx context.Context) (stream.Standing, bool) {
	p.t.Helper()
	now, err := p.stream.Standing(ctx)
	if ctx.Err() == nil {
		p.must(err)
	}
	tries := p.clock.underWay()
	return now, err == nil && now.Jobs == 0 && !now.Coming && now.UnderWay == tries && (p.foreign || p.asking() == tries)
}

// asking is how many requests the test's services have not answered.
func (p *Pool) asking() int {
	n := 0
	for _, s := range p.services {
		s.mu.Lock()
		n += s.asking
		s.mu.Unlock()
	}
	return n
}
