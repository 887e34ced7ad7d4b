package stream

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// What tests need that let time pass without waiting for it. The server's clock can't be turned: instead, what waits on it is
// brought forward.

// Standing is how the pool's work queues stand.
type Standing struct {
	Jobs     uint64 // that have not ended
	LastJob  uint64 // sequence
	LastCall uint64 // sequence of what came last to the calls stream
	UnderWay int    // calls that were handed out, and have not ended
	Coming   bool   // a call waits and may be handed out, or a timer is due
}

// Standing looks at the work queues. What it finds of one is later than what it finds of the one before.
func (p *Pool) Standing(ctx context.Context) (Standing, error) {
	var now Standing
	jobs, err := p.js.Stream(ctx, job.JobsStream(p.Name))
	if err != nil {
		return now, err
	}
	now.Jobs, now.LastJob = jobs.CachedInfo().State.Msgs, jobs.CachedInfo().State.LastSeq
	calls, err := p.js.Stream(ctx, job.CallsStream(p.Name))
	if err != nil {
		return now, err
	}
	now.LastCall = calls.CachedInfo().State.LastSeq
	services, err := p.Services(ctx)
	if err != nil {
		return now, err
	}
	for _, s := range services {
		now.UnderWay += s.InFlight
		now.Coming = now.Coming || s.Waiting > 0 && s.PausedUntil.IsZero() && s.InFlight < s.Limit
	}
	return now, p.timers(ctx, func(_ job.Message, due time.Time) error {
		now.Coming = now.Coming || !due.After(time.Now())
		return nil
	})
}

// timers hands the messages that wait on the server's timer to fn, with when they are due, until it returns an error.
func (p *Pool) timers(ctx context.Context, fn func(m job.Message, due time.Time) error) error {
	var failed error
	err := p.QueuedCalls(ctx, "", func(m job.Message) bool {
		at, timer := strings.CutPrefix(m.Get(job.HeaderSchedule), "@at ")
		if !timer {
			return true
		}
		due, err := time.Parse(time.RFC3339Nano, at)
		if err == nil {
			err = fn(m, due)
		}
		failed = err
		return err == nil
	})
	return errors.Join(err, failed)
}

// BringForward makes everything that waits in the pool for its time wait so much less: timers, next tries of calls, and the
// pauses of services. A timer that becomes due meanwhile is left as it is.
func (p *Pool) BringForward(ctx context.Context, by time.Duration) error {
	err := p.timers(ctx, func(m job.Message, due time.Time) error {
		m.Header[job.HeaderSchedule] = []string{"@at " + due.Add(-by).UTC().Format(time.RFC3339Nano)}
		_, err := p.publish(ctx, m, jetstream.WithExpectLastSequencePerSubject(m.Sequence))
		if errors.Is(err, ErrConflict) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	services, err := p.Services(ctx)
	for _, s := range services {
		if s.PausedUntil.IsZero() {
			continue
		}
		if _, perr := p.js.PauseConsumer(ctx, job.CallsStream(p.Name), callsConsumer+s.Service, s.PausedUntil.Add(-by)); perr != nil {
			err = errors.Join(err, perr)
		}
	}
	return err
}
