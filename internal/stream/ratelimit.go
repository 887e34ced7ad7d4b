package stream

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go/jetstream"
)

// rateLimit says that a consumer's limit was set since its service has a rate, which could make no use of more calls. It
// stands in the consumer's metadata, so that whoever finds the service without a rate can take it back.
type rateLimit struct {
	Limit  int `json:"limit"`  // what was set; where the consumer has another, an operator has set that
	Before int `json:"before"` // what it goes back to
}

// rateLimitKey names it there.
const rateLimitKey = "thence_rate_limit"

func rateLimitOf(c jetstream.ConsumerConfig) *rateLimit {
	var r rateLimit
	text, there := c.Metadata[rateLimitKey]
	if !there || json.Unmarshal([]byte(text), &r) != nil {
		return nil
	}
	return &r
}

// LimitByRate has a service be handed no more calls at a time than its rate can make use of, over all workers. With a useful
// of 0, of a service without a rate, it takes that back: the limit from before counts again, unless an operator has set
// another meanwhile. usual is the limit from before where the consumer was made with the useful one.
func (p *Pool) LimitByRate(ctx context.Context, service string, useful, usual int) error {
	_, _, err := p.ChangeCalls(ctx, service, func(s *ServiceState) bool {
		if useful == 0 {
			return s.forgetRate()
		}
		return s.limitByRate(useful, usual)
	})
	return err
}

func (s *ServiceState) limitByRate(useful, usual int) bool {
	r := s.byRate
	if r != nil && r.Limit == useful && s.MaxInFlight == useful {
		return false
	}
	before := s.MaxInFlight
	switch {
	case r != nil && r.Limit == before: // the rate was another
		before = r.Before
	case before == useful:
		before = usual
	}
	s.byRate = &rateLimit{useful, before}
	s.limit(useful)
	return true
}

func (s *ServiceState) forgetRate() bool {
	r := s.byRate
	if r == nil {
		return false
	}
	if s.byRate = nil; s.MaxInFlight == r.Limit {
		s.limit(r.Before)
	}
	return true
}
