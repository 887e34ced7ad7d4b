// Package operator is what a person does when things went wrong: retry, edit and drop dead letters; pause, resume,
// cancel and reset contexts.
//
// It keeps the protocol's rules. A change to a context is a commit of the operator's own, on the revision that the
// leader has; it changes nothing but what it is about, as the outbox that is stored in the context may not be published
// yet, and it carries a Deed that says who did what. When a worker commits first, the operator reads again and tries
// again. A retried letter is a new job at the end of its context's line: it names the old one as its parent, and its
// Nats-Msg-Id is made of the letter, so that a retry which was cut off can be run again and nothing runs twice.
//
// Each act is in the order that leaves something to see wherever it is cut off: a letter is removed after its job is
// stored, a timer after its call is closed, and workers are woken last. Whoever runs the same command again completes it.
package operator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Operator acts on one pool. It keeps no connection and no goroutine.
type Operator struct {
	pool *stream.Pool
	by   string
	now  func() time.Time
	keys *job.Keyring // once they were needed
}

// Longest texts that a deed carries into a context. Commits leave room for them below the server's largest message.
const (
	maxBy  = 200
	maxWhy = 1000
)

// New returns the operator of a pool; by is who acts, such as ada@laptop.
func New(pool *stream.Pool, by string) (*Operator, error) {
	if by == "" || len(by) > maxBy {
		return nil, fmt.Errorf("who acts: want a name of 1 to %d bytes, got %d", maxBy, len(by))
	}
	return &Operator{pool: pool, by: by, now: time.Now}, nil
}

// Deeds, as contexts record them.
const (
	deedPause  = "pause"
	deedResume = "resume"
	deedRetry  = "retry"
	deedDrop   = "drop"
	deedCancel = "cancel"
	deedReset  = "reset"
)

// amend commits a change to a context. change is handed the context as it is, and is called again when a worker was
// faster; its error ends the attempt and nothing is changed.
func (o *Operator) amend(ctx context.Context, name, what string, change func(old job.Commit, next *draft) error) error {
	for {
		entry, err := o.pool.ContextFromLeader(ctx, name)
		if err != nil {
			return err
		}
		old, next, err := open(entry)
		if err != nil {
			return fmt.Errorf("context %s.%s: %w", o.pool.Name, name, err)
		}
		next.deed = job.Deed{What: what, By: o.by, Time: o.now().UTC()}
		if err := change(old, next); err != nil {
			return err
		}
		next.set("deed", next.deed)
		next.remove("repeats")
		data, err := next.encode()
		if err != nil {
			return err
		}
		_, err = o.pool.Commit(ctx, name, data, entry.Base())
		var refusal *stream.Refusal
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refusal):
			return err
		case !errors.Is(err, stream.ErrConflict):
			return fmt.Errorf("%s %s.%s: it is not known whether that took effect; look at the context, and run it again: %w",
				what, o.pool.Name, name, err)
		}
		select { // as workers do: who tries again at once loses against a busy context again
		case <-time.After(10*time.Millisecond + rand.N(40*time.Millisecond)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wake makes workers look at a context at once. It is not needed for what was done to take effect: they look by
// themselves after a while.
func (o *Operator) wake(ctx context.Context, name string) error {
	return o.pool.Publish(ctx, job.Message{
		Subject: job.Address{Pool: o.pool.Name, Context: name}.String(),
		Header:  map[string][]string{job.HeaderType: {job.TypeWake}},
	})
}

// keyring reads the installation's keys when they are needed first.
func (o *Operator) keyring(ctx context.Context) (job.Keyring, error) {
	if o.keys == nil {
		keys, err := o.pool.ReadKeys(ctx)
		if errors.Is(err, stream.ErrNone) {
			return keys, errors.New("there are no keys to prove a job's origin with: a worker makes them when it starts first")
		}
		if err != nil {
			return keys, err
		}
		o.keys = &keys
	}
	return *o.keys, nil
}
