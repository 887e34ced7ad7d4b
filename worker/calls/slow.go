package calls

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/thence-dev/thence/internal/stream"
)

// Pacing is how fast the pool calls its services, as their consumers and rate marks have it. *stream.Pool is one.
type Pacing interface {
	// Service tells how the calls to a service stand.
	Service(ctx context.Context, service string) (stream.ServiceState, error)
	// ChangeCalls reads how they stand, and changes it where change says so.
	ChangeCalls(ctx context.Context, service string, change func(*stream.ServiceState) bool) (stream.ServiceState, bool, error)
	// WatchCalls tells of a service that was paused or goes on, or of all with an empty name, until ctx ends.
	WatchCalls(ctx context.Context, told func(service string)) error
	// LimitByRate bounds the calls in flight of a service by what its rate can make use of, or takes that back with 0.
	LimitByRate(ctx context.Context, service string, useful, usual int) error
	Marks
}

// slowDown draws the pool's conclusions from how a try ended. An API that asks to be left alone is, by all workers; one that
// fails too often as well; and one that is well again after that is handed more calls, step by step. It is a favour to the
// API and no promise: where it fails, each call waits for itself.
func (p *Performer) slowDown(ctx context.Context, by *serving, d *stream.Delivery, got result) {
	if p.config.Pacing == nil {
		return
	}
	if change := p.conclusion(by, d, got); change != nil {
		defer by.brake.looked()
		for try := 1; p.repace(ctx, by, change) != nil && try < repaces && ctx.Err() == nil; try++ { // which says so in the log
			_ = pause(ctx, firstLook) // its error is that of ctx
		}
	}
}

// repaces is how often it is tried to change how fast a service is called. A consumer whose leader has stepped down answers
// nobody until it has another: the first request may wait in vain.
const repaces = 3

// conclusion is what is to change of how a service is called, now that a try has ended so; nil: nothing.
func (p *Performer) conclusion(by *serving, d *stream.Delivery, got result) func(*stream.ServiceState) bool {
	failed, rises := by.brake.ended(endOf(got), d.HandedOut, why(got), p.now())
	wait := min(got.after, longestPause)
	switch status := got.answer.Status; {
	case wait > 0 && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable):
		if by.brake.asks(p.now().Add(wait)) || failed > 0 || rises {
			return asking(wait, why(got))
		}
	case failed > 0:
		return by.service.Breaker.opening(failed, why(got), p.config.Jitter)
	case rises:
		return raising
	}
	return nil
}

// why is what a failed try says, without a secret.
func why(got result) string {
	f := got.answer.Failure
	switch {
	case f == nil:
		return ""
	case got.answer.Status != 0:
		return fmt.Sprintf("%d: %s", got.answer.Status, cut(f.Message, maxSlowdownError))
	default:
		return f.Type + ": " + cut(f.Message, maxSlowdownError)
	}
}

// repace changes how fast a service is called, and learns how that is now, changed or not.
func (p *Performer) repace(ctx context.Context, by *serving, change func(*stream.ServiceState) bool) error {
	log := p.config.Logger.With("service", by.service.Name)
	s, changed, err := p.config.Pacing.ChangeCalls(ctx, by.service.Name, change)
	switch {
	case err != nil:
		log.Warn("how fast a service is called can't be changed", "error", err)
		return err
	case !changed:
	case s.Slowdown == nil:
		log.Info("service is called as before it was slowed down", "max_in_flight", s.MaxInFlight)
	case s.PausedUntil.IsZero():
		log.Info("service answers again: more calls are handed out", "limit", s.Limit, "max_in_flight", s.MaxInFlight)
	default:
		log.Warn("service is paused for the whole pool", "by", s.PausedBy, "wait", s.PausedUntil.Sub(s.Now).Round(time.Millisecond), "error", s.Slowdown.Error)
	}
	by.brake.learn(s, p.now())
	return nil
}

// listen learns of pauses that other workers and operators make, until ctx ends.
func (p *Performer) listen(ctx context.Context) error {
	return p.config.Pacing.WatchCalls(ctx, func(service string) {
		names := []string{service}
		if service == "" {
			names = p.servedNames()
		}
		for _, name := range names {
			if by := p.served(name); by != nil {
				by.lookAgain()
			}
		}
	})
}

// lookAgain has keepLearning learn how the service stands.
func (s *serving) lookAgain() {
	select {
	case s.look <- struct{}{}:
	default: // it is about to
	}
}

// Waits before it is tried again to learn how a service stands: doubled each time.
const (
	firstLook   = 100 * time.Millisecond
	longestLook = 10 * time.Second
)

// keepLearning learns how a service stands whenever that may have changed, until ctx ends. What fails is tried again: nobody
// may say a second time that the service is paused.
func (p *Performer) keepLearning(ctx context.Context, by *serving) error {
	for {
		select {
		case <-by.look:
		case <-ctx.Done():
			return nil
		}
		for wait := firstLook; p.heed(ctx, by) != nil && ctx.Err() == nil; wait = min(2*wait, longestLook) {
			_ = pause(ctx, wait) // its error is that of ctx
		}
	}
}

// settles is how long a pause stands without a reason before it counts as an operator's: a worker writes the pause first, and
// why right after.
const settles = time.Second

// heed learns how a service stands. The first worker that learns of an operator's pause slows the service down, so that it is
// not called by all at once afterwards.
func (p *Performer) heed(ctx context.Context, by *serving) error {
	s, err := p.learn(ctx, by)
	if err != nil || !held(&s) {
		return err
	}
	if err := pause(ctx, settles); err != nil {
		return err
	}
	if s, err = p.learn(ctx, by); err != nil || !held(&s) {
		return err
	}
	return p.repace(ctx, by, holding)
}

// learn learns how a service stands.
func (p *Performer) learn(ctx context.Context, by *serving) (stream.ServiceState, error) {
	s, err := p.config.Pacing.Service(ctx, by.service.Name)
	if err != nil {
		p.config.Logger.Debug("how a service stands can't be learned", "service", by.service.Name, "error", err)
		return s, err
	}
	by.brake.learn(s, p.now())
	return s, nil
}
