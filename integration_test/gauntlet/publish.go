package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/stream"
)

// callers publish a workload, and write down what the server acked: that is what was accepted.
type callers struct {
	load *workload
	api  string
	d    *dispatcher.Dispatcher
	gate chan struct{} // the second half of the contexts is published to once it is closed; nil: at once

	mu       sync.Mutex
	acked    map[string]uint64 // by task: the sequence of its first ack
	publishs int               // tries
	unknown  int               // tries that ended without an answer
	refused  int               // tries that ended with a refusal
	repeats  int               // publishes of what was acked before
	repeated int               // acks that said "duplicate"
	lastErr  error
}

func newCallers(nc *nats.Conn, pool string, load *workload, api string) (*callers, error) {
	d, err := dispatcher.New(nc, dispatcher.Config{Worker: pool, Caller: "gauntlet"})
	return &callers{load: load, api: api, d: d, acked: map[string]uint64{}}, err
}

// lines is how many contexts are published to at a time.
const lines = 16

// publish publishes every task until it is acked, a context's one after the other, so that their order on the stream is
// that of the workload. What was acked is published again as often as the task says.
func (c *callers) publish(ctx context.Context) error {
	return c.each(ctx, func(ctx context.Context, t task) error {
		for n := 0; n <= t.repeats; n++ {
			if err := c.insist(ctx, t); err != nil {
				return err
			}
		}
		return nil
	})
}

// republish publishes everything once more.
func (c *callers) republish(ctx context.Context) error { return c.each(ctx, c.insist) }

func (c *callers) each(ctx context.Context, do func(context.Context, task) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for line := range lines {
		group.Go(func() error {
			for n := line; n < len(c.load.contexts); n += lines {
				if err := c.pass(ctx, n); err != nil {
					return err
				}
				for _, t := range c.load.tasks[c.load.contexts[n]] {
					if err := do(ctx, t); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// pass waits at the gate, if the n-th context lies behind it.
func (c *callers) pass(ctx context.Context, n int) error {
	if c.gate == nil || n < len(c.load.contexts)/2 {
		return nil
	}
	select {
	case <-c.gate:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// insist publishes a task until it is acked.
func (c *callers) insist(ctx context.Context, t task) error {
	for {
		err := c.try(ctx, t)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, dispatcher.ErrInvalid):
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("publish %s: %w (%w)", t.id, err, context.Cause(ctx))
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// try publishes a task once.
func (c *callers) try(ctx context.Context, t task) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	receipt, err := c.d.Dispatch(ctx, c.load.job(t, c.api))
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.acked[t.id]
	c.publishs++
	switch {
	case err != nil && isRefusal(err):
		c.refused++
		c.lastErr = err
	case err != nil:
		c.unknown++
		c.lastErr = err
	case known:
		c.repeats++
	default:
		c.acked[t.id] = receipt.Sequence
	}
	if err == nil && receipt.Duplicate {
		c.repeated++
	}
	return err
}

// isRefusal tells a definite no from a failure to get an answer.
func isRefusal(err error) bool {
	var no *stream.Refusal
	return errors.As(err, &no) || errors.Is(err, dispatcher.ErrNoPool)
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
