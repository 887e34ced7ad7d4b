package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// ServiceState is how a pool's calls to one service stand.
type ServiceState struct {
	Service     string    `json:"service"`
	InFlight    int       `json:"in_flight"`     // handed to workers
	Waiting     uint64    `json:"waiting"`       // to be handed out; those on a retry's timer are not among them
	Limit       int       `json:"limit"`         // how many may be in flight now
	MaxInFlight int       `json:"max_in_flight"` // how many may be when nothing slows the service down
	PausedUntil time.Time `json:"paused_until,omitzero"`
	PausedBy    string    `json:"paused_by,omitempty"` // ByOperator, ByAPI or ByBreaker
	Breaker     string    `json:"breaker"`             // BreakerClosed, BreakerOpen or BreakerHalfOpen
	Slowdown    *Slowdown `json:"slowdown,omitempty"`  // nil: none

	byRate *rateLimit // of the consumer's metadata; nil: the limit is not there for a rate's sake

	Now       time.Time `json:"-"` // the server's clock
	HandedOut uint64    `json:"-"` // messages that were ever handed out, repeats included
	Done      uint64    `json:"-"` // of them, those that are not in flight any more
}

// What a breaker is.
const (
	BreakerClosed   = "closed"
	BreakerOpen     = "open"      // the API failed too often: nothing is handed out
	BreakerHalfOpen = "half-open" // one call is handed out, and more as calls succeed
)

// callsConsumer begins the names of the consumers of calls.
const callsConsumer = "call_"

// Services tells how the calls to each of the pool's services stand, by name.
func (p *Pool) Services(ctx context.Context) ([]ServiceState, error) {
	s, err := p.js.Stream(ctx, job.CallsStream(p.Name))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, p.noPool()
	}
	if err != nil {
		return nil, err
	}
	var all []ServiceState
	consumers := s.ListConsumers(ctx)
	for info := range consumers.Info() {
		if strings.HasPrefix(info.Name, callsConsumer) {
			all = append(all, serviceState(info))
		}
	}
	slices.SortFunc(all, func(a, b ServiceState) int { return cmp.Compare(a.Service, b.Service) })
	return all, consumers.Err()
}

func serviceState(info *jetstream.ConsumerInfo) ServiceState {
	s := ServiceState{
		Service: strings.TrimPrefix(info.Name, callsConsumer), InFlight: info.NumAckPending, Waiting: info.NumPending,
		Limit: info.Config.MaxAckPending, MaxInFlight: info.Config.MaxAckPending, Breaker: BreakerClosed,
		Now: info.TimeStamp, HandedOut: info.Delivered.Consumer, Done: info.Delivered.Consumer - uint64(info.NumAckPending),
	}
	s.byRate = rateLimitOf(info.Config)
	slowed, holds := slowdownOf(info.Config)
	if info.Paused && info.Config.PauseUntil != nil {
		s.PausedUntil, s.PausedBy = info.Config.PauseUntil.UTC(), ByOperator
		if s.PausedUntil.Equal(slowed.Until) {
			s.PausedBy = slowed.By
		}
	}
	if !holds {
		return s
	}
	s.Slowdown, s.MaxInFlight = &slowed, slowed.MaxInFlight
	if slowed.Times > 0 {
		s.Breaker = BreakerHalfOpen
		if s.PausedBy == ByBreaker {
			s.Breaker = BreakerOpen
		}
	}
	return s
}

// PauseCalls keeps the pool's calls to a service from being handed out until then, unless they are kept for longer
// already. Those under way end; those that wait, wait on the server, and nobody polls. It tells whether it changed
// anything.
func (p *Pool) PauseCalls(ctx context.Context, service string, until time.Time) (bool, error) {
	c, err := p.callsOf(ctx, service)
	if err != nil {
		return false, err
	}
	if serviceState(c.CachedInfo()).PausedUntil.Compare(until) >= 0 {
		return false, nil
	}
	_, err = p.js.PauseConsumer(ctx, job.CallsStream(p.Name), callsConsumer+service, until)
	return err == nil, p.serviceError(ctx, service, err)
}

// resumeIn is what is left of a pause that is ended by hand: long enough for the request to reach the server before that.
const resumeIn = 250 * time.Millisecond

// ResumeCalls has a service's calls handed out again; where it is slowed down, one at first. It tells whether they were
// paused, and returns once they are not any more.
//
// A server that is told to resume does not look whether a worker waits for calls, until it sends it the next heartbeat,
// seconds later. At the end of a pause it does look, so this makes the pause a short one.
func (p *Pool) ResumeCalls(ctx context.Context, service string) (bool, error) {
	s, err := p.Service(ctx, service)
	if err != nil || s.PausedUntil.IsZero() {
		return false, err
	}
	until := s.Now.Add(min(resumeIn, s.PausedUntil.Sub(s.Now)))
	paused, err := p.js.PauseConsumer(ctx, job.CallsStream(p.Name), callsConsumer+service, until)
	if err != nil {
		return false, p.serviceError(ctx, service, err)
	}
	select {
	case <-time.After(paused.PauseRemaining):
		return true, nil
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

// serviceError says that there is no such service, where that is what is wrong, and which there are.
func (p *Pool) serviceError(ctx context.Context, service string, err error) error {
	if !errors.Is(err, jetstream.ErrConsumerNotFound) && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	all, lerr := p.Services(ctx)
	if lerr != nil {
		return lerr
	}
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.Service
	}
	return fmt.Errorf("the pool %s has no service %s; it has: %s", p.Name, service, strings.Join(names, ", "))
}
