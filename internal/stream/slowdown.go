package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// Slowdown says why fewer calls to a service are handed out than its MaxInFlight allows. It stands in the metadata of the
// service's consumer, beside the limit that it explains, so that one update changes both.
//
// Consumers have no compare-and-set: of two updates on the same state the later one stands, whole. What is lost is one
// step up or one pause; the next call that ends makes it again. An update never goes by what was known before: it reads
// the consumer first.
type Slowdown struct {
	By          string    `json:"by"`              // ByBreaker, ByAPI or ByOperator: who asked for the last pause
	Since       time.Time `json:"since"`           // when the service was first slowed down
	Until       time.Time `json:"until"`           // the end of the last pause
	Times       int       `json:"times"`           // how often the breaker has opened since then
	Limit       int       `json:"limit"`           // what the consumer's max_ack_pending was set to; another value is an operator's
	MaxInFlight int       `json:"max_in_flight"`   // what it goes back to
	After       uint64    `json:"after"`           // calls handed out up to here began before the last pause
	Done        uint64    `json:"done"`            // how many calls had ended when the limit was set
	Error       string    `json:"error,omitempty"` // what the last failure said; it holds no secret
}

// Who paused a service.
const (
	ByBreaker  = "breaker"
	ByAPI      = "api"
	ByOperator = "operator"
)

// slowdownKey names the slowdown in a consumer's metadata.
const slowdownKey = "thence_slowdown"

// Service tells how the pool's calls to one service stand.
func (p *Pool) Service(ctx context.Context, service string) (ServiceState, error) {
	c, err := p.callsOf(ctx, service)
	if err != nil {
		return ServiceState{}, err
	}
	return serviceState(c.CachedInfo()), nil
}

// ChangeCalls reads how the calls to a service stand, and has change change Limit, PausedUntil and Slowdown of it. What
// becomes of that is written if change returns true, and returned. A PausedUntil is never taken away.
//
// A pause and the rest are two writes, as the server takes no pause with an update. The pause is the first: nothing is handed
// out in between, and others find the service paused. Who dies in between leaves a pause that ends by itself.
func (p *Pool) ChangeCalls(ctx context.Context, service string, change func(*ServiceState) bool) (ServiceState, bool, error) {
	c, err := p.callsOf(ctx, service)
	if err != nil {
		return ServiceState{}, false, err
	}
	s := serviceState(c.CachedInfo())
	before := s.PausedUntil
	if !change(&s) {
		return s, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if !s.PausedUntil.Equal(before) {
		if _, err := p.js.PauseConsumer(ctx, job.CallsStream(p.Name), callsConsumer+service, s.PausedUntil); err != nil {
			return s, false, fmt.Errorf("pause the calls to %s: %w", service, err)
		}
	}
	config, err := s.onto(c.CachedInfo().Config)
	if err != nil {
		return s, false, err
	}
	updated, err := p.js.UpdateConsumer(ctx, job.CallsStream(p.Name), config)
	if err != nil {
		return s, false, setupError(fmt.Sprintf("consumer %s of stream %s", config.Durable, job.CallsStream(p.Name)), err)
	}
	return serviceState(updated.CachedInfo()), true, nil
}

// LimitCalls sets how many of the pool's calls to one service may be under way at a time, over all workers. Where more
// are, they end; no new one begins until there are fewer. While the service is slowed down it is the limit that it goes
// back to.
func (p *Pool) LimitCalls(ctx context.Context, service string, maxInFlight int) error {
	if _, err := p.ensureConsumer(ctx, job.CallsStream(p.Name), CallsConsumer(p.Name, service, maxInFlight)); err != nil {
		return err
	}
	_, _, err := p.ChangeCalls(ctx, service, func(s *ServiceState) bool {
		if s.MaxInFlight == maxInFlight && s.byRate == nil {
			return false
		}
		s.byRate = nil
		s.limit(maxInFlight)
		return true
	})
	return err
}

// limit sets how many calls may be in flight when nothing slows the service down; -1 is any number, as an operator may have it.
func (s *ServiceState) limit(most int) {
	if s.MaxInFlight = most; s.Slowdown == nil {
		s.Limit = most
		return
	}
	if s.Slowdown.MaxInFlight = most; most > 0 {
		s.Limit = min(s.Limit, most)
	}
}

func (p *Pool) callsOf(ctx context.Context, service string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c, err := p.js.Consumer(ctx, job.CallsStream(p.Name), callsConsumer+service)
	return c, p.serviceError(ctx, service, err)
}

// slowdownOf reads the slowdown that a consumer's metadata hold, and tells whether it holds: where the limit is not the one
// that was set with it, an operator has set another, and that counts.
func slowdownOf(c jetstream.ConsumerConfig) (s Slowdown, holds bool) {
	text, there := c.Metadata[slowdownKey]
	if !there || json.Unmarshal([]byte(text), &s) != nil {
		return Slowdown{}, false
	}
	return s, s.Limit == c.MaxAckPending
}

// onto writes the state's limit and slowdown onto a consumer's configuration.
func (s ServiceState) onto(c jetstream.ConsumerConfig) (jetstream.ConsumerConfig, error) {
	c.MaxAckPending = s.Limit
	metadata := map[string]string{}
	maps.Copy(metadata, c.Metadata)
	c.Metadata = metadata
	delete(metadata, slowdownKey)
	delete(metadata, rateLimitKey)
	if s.byRate != nil {
		text, err := json.Marshal(s.byRate)
		if err != nil {
			return c, err
		}
		metadata[rateLimitKey] = string(text)
	}
	if s.Slowdown == nil {
		return c, nil
	}
	s.Slowdown.Limit = s.Limit
	text, err := json.Marshal(s.Slowdown)
	if err != nil {
		return c, err
	}
	metadata[slowdownKey] = string(text)
	return c, nil
}
