package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// RateMark says how far a service's rate is used up, for all workers of the pool: the next call's slot begins at Next.
// It is written by compare-and-set, so that each slot is given out once.
type RateMark struct {
	Next     time.Time `json:"next"` // by the clock of the server that leads the stream
	Revision uint64    `json:"-"`    // zero: there is no mark yet
}

// Rates is the stream of a pool's rate marks as Ensure would make it: one small message a service, the last.
func Rates(pool string, o Options) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: job.RatesStream(pool), Subjects: []string{job.RateSubject(pool, "*")}, Description: "Thence: rates of the services of the worker pool " + pool,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, MaxMsgsPerSubject: 1, MaxBytes: 1 << 20, MaxMsgSize: 1 << 10,
		Storage: jetstream.FileStorage, Replicas: o.withDefaults().Replicas, Duplicates: 2 * time.Minute,
	}
}

func fitsRates(c jetstream.StreamConfig) string {
	switch {
	case c.Retention != jetstream.LimitsPolicy:
		return fmt.Sprintf("its retention is %s, want limits", c.Retention)
	case c.MaxMsgsPerSubject != 1:
		return fmt.Sprintf("it keeps %d messages a subject, want 1", c.MaxMsgsPerSubject)
	}
	return ""
}

// RateMark reads a service's mark from the stream's leader; the zero mark when there is none.
func (p *Pool) RateMark(ctx context.Context, service string) (RateMark, error) {
	m, err := p.fromLeader(ctx, job.RatesStream(p.Name), getRequest{LastFor: job.RateSubject(p.Name, service)})
	if errors.Is(err, ErrNone) {
		return RateMark{}, nil
	}
	if err != nil {
		return RateMark{}, err
	}
	var mark RateMark
	err = json.Unmarshal(m.Data, &mark) // whatever stands there is replaced: a mark is about the next second
	if mark.Revision = m.Sequence; err != nil {
		mark.Next = time.Time{}
	}
	return mark, nil
}

// SetRateMark writes a service's mark over the one of its revision, and returns it with the new one. It returns
// ErrConflict when somebody else has written meanwhile; after any other error nobody knows whether it was written.
func (p *Pool) SetRateMark(ctx context.Context, service string, mark RateMark) (RateMark, error) {
	data, err := json.Marshal(mark)
	if err != nil {
		return mark, err
	}
	m := job.Message{Subject: job.RateSubject(p.Name, service), Data: data}
	mark.Revision, err = p.publish(ctx, m, jetstream.WithExpectLastSequencePerSubject(mark.Revision))
	return mark, err
}

// RateClock is the time by the clock of the server that leads the stream of rate marks.
func (p *Pool) RateClock(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := p.js.Stream(ctx, job.RatesStream(p.Name))
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for the time: %w", err)
	}
	return s.CachedInfo().TimeStamp, nil
}
