package calls

import (
	"context"

	"github.com/thence-dev/thence/internal/crash"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// underway is a call from its first look to its answer, and all that is kept of it meanwhile: a worker may have ten
// thousand of them that wait.
type underway struct {
	by       *serving
	delivery *stream.Delivery // its message without header and data: call has what is needed of them
	address  job.Address
	call     job.Call
	try      *try
	ended    func(outcome string) // tells the observer, once
}

// prepare takes a call up to its try, once it has its slot in the service's rate. It returns nil when there is nothing to
// send, and the call's message is done with, or given back as taking has ended.
//
// The try itself belongs on another goroutine. The stack of this one has grown by what it read, and a stack does not
// shrink enough while somebody waits deep in net/http.
func (p *Performer) prepare(taking, ctx context.Context, by *serving, d *stream.Delivery) *underway {
	u := &underway{by: by, delivery: d}
	slot, err := by.pacer.wait(taking)
	if err != nil {
		p.let(taking, by, d, err)
		return nil
	}
	if send, err := p.look(ctx, u); !send {
		by.pacer.giveBack(slot)
		p.let(taking, by, d, err)
		return nil
	}
	u.ended = p.config.Observer.CallSent(by.service.Name)
	if by.service.Name == Body {
		u.try = p.beginPart(ctx, by.client, &u.call)
	} else {
		u.try = by.client.begin(ctx, &u.call)
	}
	return u
}

// look tells whether a call is to be sent. Where it is not and there is no error, the call's message has served: the
// answer is on the stream, or the call is closed. Any error leaves the message for another time.
func (p *Performer) look(ctx context.Context, u *underway) (send bool, err error) {
	s, m := u.by.service, &u.delivery.Message
	if u.address, u.call, err = p.read(*m); err != nil {
		return false, p.bury(ctx, *m, err)
	}
	m.Header, m.Data = nil, nil
	a, call := u.address, &u.call
	if call.First.IsZero() { // whoever was handed it, or another copy of it, may have sent it, at the earliest when it was published
		call.First = m.Time.UTC()
	}
	if postponed, err := p.postpone(ctx, u.by, a, *call); postponed || err != nil {
		return false, err
	}
	looked := p.now()
	open, err := p.open(ctx, a, call)
	if err != nil {
		return false, err
	}
	if !open {
		crash.Here(crash.CallClosed)
		p.config.Logger.Debug("call is closed, not sent", "context", a.Context, "call", call.ID)
		return false, nil
	}
	crash.Here(crash.CallOpen)
	if s.Name == job.Timer {
		return false, p.fire(ctx, a, *call, m.Time)
	}
	if p.now().Sub(call.First) > s.MaxAge {
		return false, p.answer(ctx, a, *call, outcomeUnknown(*call, s.MaxAge))
	}
	if s.Never {
		switch first, err := p.claim(ctx, a, *call); {
		case err != nil:
			return false, err
		case !first:
			return false, p.answer(ctx, a, *call, begunBefore(*call))
		}
	}
	call.Attempt++
	p.config.Logger.Debug("call is sent", "context", a.Context, "service", s.Name, "call", call.ID, "attempt", call.Attempt, "looked", looked)
	return true, nil
}

// finish ends a call whose try has ended, and its message.
func (p *Performer) finish(taking, ctx context.Context, u *underway) {
	p.let(taking, u.by, u.delivery, p.settle(ctx, u))
}

// settle ends a try. What came of it is stored before the service is slowed down: that takes requests to the server, and a
// worker that ends meanwhile must not lose an answer that it has. When settle returns nil the call's message has served; any
// error leaves it for another time.
func (p *Performer) settle(ctx context.Context, u *underway) error {
	got := u.try.end()
	if ctx.Err() != nil {
		u.ended("given_back")
		return ctx.Err()
	}
	u.ended(got.outcome(u.call.Attempt >= u.by.service.Attempts))
	crash.Here(crash.CallSent)
	p.logTry(u.address, u.call, got)
	err := p.store(ctx, u, got)
	p.slowDown(ctx, u.by, u.delivery, got)
	return err
}

// store puts on the stream what came of a try: the answer, or the timer of the next try.
func (p *Performer) store(ctx context.Context, u *underway, got result) error {
	s := u.by.service
	if got.retry && u.call.Attempt < s.Attempts {
		return p.retryLater(ctx, u.address, u.call, s, got)
	}
	return p.answer(ctx, u.address, u.call, got.answer)
}
