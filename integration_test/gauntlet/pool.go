package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// ackWait is that of the pools here: a fifth of the default, so that a dead worker's jobs come again soon.
const ackWait = time.Second

// inFlight is how many calls of the recording API a pool makes at a time.
const inFlight = 200

// pool is a worker pool's streams, as seen from outside.
type pool struct {
	name    string
	nc      *nats.Conn
	js      jetstream.JetStream
	streams *stream.Pool

	calls struct { // of quiet
		last  uint64    // sequence of the calls stream
		since time.Time // when it was seen first
	}
}

// makePool makes a pool as a worker would, but for the ack wait. The connection stays the caller's.
func makePool(ctx context.Context, nc *nats.Conn, name string, replicas int, maxBytes int64) (*pool, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	p := &pool{name: name, nc: nc, js: js}
	o := stream.Options{Replicas: replicas, MaxBytes: maxBytes, Services: map[string]int{"api": inFlight}}
	err = insist(ctx, "make pool "+name, func(ctx context.Context) error {
		p.streams, err = stream.Ensure(ctx, nc, name, o)
		if err == nil {
			_, err = p.streams.Keys(ctx, o)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	jobs, calls := stream.JobsConsumer(), stream.CallsConsumer(name, "api", inFlight)
	return p, errors.Join(p.comeAgain(ctx, job.JobsStream(name), jobs, ackWait), p.comeAgain(ctx, job.CallsStream(name), calls, ackWait))
}

// comeAgain sets a consumer's ack wait.
func (p *pool) comeAgain(ctx context.Context, stream string, c jetstream.ConsumerConfig, wait time.Duration) error {
	c.AckWait = wait
	return insist(ctx, "set the ack wait of "+stream, func(ctx context.Context) error {
		_, err := p.js.UpdateConsumer(ctx, stream, c)
		return err
	})
}

// bound sets how many bytes the stream of jobs may hold, as an operator does.
func (p *pool) bound(ctx context.Context, bytes int64) error {
	s, err := p.js.Stream(ctx, job.JobsStream(p.name))
	if err != nil {
		return err
	}
	config := s.CachedInfo().Config
	config.MaxBytes = bytes
	_, err = p.js.UpdateStream(ctx, config)
	return err
}

// remove deletes the pool's streams, for the room that they take.
func (p *pool) remove(ctx context.Context) {
	for _, name := range []string{job.JobsStream(p.name), job.CallsStream(p.name), job.DeadStream(p.name), job.ContextsStream(p.name)} {
		_ = p.js.DeleteStream(ctx, name) // a stream that stays takes room, and nothing else
	}
}

// tick is how often a pool is looked at while it is not quiet.
const tick = 50 * time.Millisecond

// quiet waits until the pool has nothing to do: no job waits or is under way, no call and no timer is on its stream, and
// no job came while we looked. A job is under way until its effects are stored, and a call until its answer is; so
// nothing can begin again by itself. Its error says what was left.
func (p *pool) quiet(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	last := "nobody told what is left"
	for {
		left, err := p.look(ctx)
		switch {
		case left == "" && err == nil:
			return nil
		case err == nil:
			last = left
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("pool %s is not quiet: %s: %w", p.name, last, context.Cause(ctx)), err)
		}
	}
}

// look tells what the pool has to do; empty: nothing.
func (p *pool) look(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	before, left, err := p.openJobs(ctx)
	if err != nil || left != "" {
		return left, err
	}
	calls, err := p.js.Stream(ctx, job.CallsStream(p.name))
	if err != nil {
		return "", err
	}
	if state := calls.CachedInfo().State; state.Msgs > 0 {
		if left, err := p.openCalls(ctx, state.LastSeq); err != nil || left != "" {
			return left, err
		}
	}
	after, left, err := p.openJobs(ctx)
	if err == nil && left == "" && after != before {
		left = "jobs came"
	}
	return left, err
}

// untouched is how long a call stands, while nothing comes to its stream, that nobody waits for any more. It is longer than
// anything that goes on by itself takes.
const untouched = 5 * time.Second

// openCalls tells which calls and timers wait or are under way. One that its consumer knows to be acked is neither: a server that
// has lost its power may show it for ever, as its removal was not on the disk and the ack was. last is the stream's last sequence.
func (p *pool) openCalls(ctx context.Context, last uint64) (left string, err error) {
	timers := 0
	err = p.streams.QueuedCalls(ctx, "", func(m job.Message) bool {
		if m.Get(job.HeaderSchedule) != "" {
			timers++
		}
		return ctx.Err() == nil
	})
	if err != nil || timers > 0 {
		return fmt.Sprintf("%d timers wait", timers), err
	}
	services, err := p.streams.Services(ctx)
	for _, s := range services {
		if s.Waiting > 0 || s.InFlight > 0 {
			return fmt.Sprintf("calls to %s: %d wait, %d are under way", s.Service, s.Waiting, s.InFlight), err
		}
	}
	if p.calls.last != last {
		p.calls.last, p.calls.since = last, time.Now()
	}
	if time.Since(p.calls.since) < untouched {
		return "calls were under way a moment ago", err
	}
	return "", err
}

// openJobs tells which jobs are not acked, and the sequence of the last job that came.
func (p *pool) openJobs(ctx context.Context) (last uint64, left string, err error) {
	jobs, err := p.js.Stream(ctx, job.JobsStream(p.name))
	if err != nil {
		return 0, "", err
	}
	c, err := jobs.Consumer(ctx, stream.JobsConsumer().Durable)
	if err != nil {
		return 0, "", err
	}
	info := c.CachedInfo()
	if info.NumPending > 0 || info.NumAckPending > 0 {
		left = fmt.Sprintf("%d jobs wait, %d are under way", info.NumPending, info.NumAckPending)
	}
	state := jobs.CachedInfo().State
	if left == "" && state.Msgs > 0 && info.Delivered.Stream < state.LastSeq { // the consumer has yet to hear of the last ones
		left = fmt.Sprintf("jobs up to %d wait, %d is handed out", state.LastSeq, info.Delivered.Stream)
	}
	return state.LastSeq, left, nil
}
