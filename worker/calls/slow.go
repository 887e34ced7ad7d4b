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
	Marks
}

// slowDown draws the pool's conclusions from how a try ended. An API that asks to be left alone is, by all workers; one that
// fails too often as well; and one that is well again after that is handed more calls, step by step. It is a favour to the
// API and no promise: where it fails, each call waits for itself.
func (p *Performer) slowDown(ctx context.Context, by *serving, d *stream.Delivery, got result) {
	if p.config.Pacing == nil {
		return
	}
	failed, rises := by.brake.ended(endOf(got), d.HandedOut, why(got), p.now())
	wait := min(got.after, longestPause)
	switch status := got.answer.Status; {
	case wait > 0 && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable):
		if by.brake.asks(p.now().Add(wait)) || failed > 0 || rises {
			p.repace(ctx, by, asking(wait, why(got)))
		}
	case failed > 0:
		p.repace(ctx, by, by.service.Breaker.opening(failed, why(got), p.config.Jitter))
	case rises:
		p.repace(ctx, by, raising)
	}
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
func (p *Performer) repace(ctx context.Context, by *serving, change func(*stream.ServiceState) bool) {
	defer by.brake.looked()
	log := p.config.Logger.With("service", by.service.Name)
	s, changed, err := p.config.Pacing.ChangeCalls(ctx, by.service.Name, change)
	switch {
	case err != nil:
		log.Warn("how fast a service is called can't be changed", "error", err)
		return
	case !changed:
	case s.Slowdown == nil:
		log.Info("service is called as before it was slowed down", "max_in_flight", s.MaxInFlight)
	case s.PausedUntil.IsZero():
		log.Info("service answers again: more calls are handed out", "limit", s.Limit, "max_in_flight", s.MaxInFlight)
	default:
		log.Warn("service is paused for the whole pool", "by", s.PausedBy, "wait", s.PausedUntil.Sub(s.Now).Round(time.Millisecond), "error", s.Slowdown.Error)
	}
	by.brake.learn(s, p.now())
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
				p.learn(ctx, by)
			}
		}
	})
}

// learn learns how a service stands.
func (p *Performer) learn(ctx context.Context, by *serving) {
	s, err := p.config.Pacing.Service(ctx, by.service.Name)
	if err != nil {
		p.config.Logger.Debug("how a service stands can't be learned", "service", by.service.Name, "error", err)
		return
	}
	by.brake.learn(s, p.now())
}
