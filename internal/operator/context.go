package operator

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// HeldError says that a context was held before, and since when.
type HeldError struct{ Held job.Held }

func (e *HeldError) Error() string { return "the context is held since " + describe(e.Held) }

// describe is a hold in words.
func describe(h job.Held) string {
	s := h.Since.UTC().Format("2006-01-02T15:04:05Z") + " by " + h.By
	if h.Why != "" {
		s += ": " + h.Why
	}
	if h.Sequence != 0 {
		s += ", for its job " + h.Job + " that failed"
	}
	return s
}

// Errors that callers branch on.
var (
	ErrNotHeld  = errors.New("the context is not held")
	ErrNoCommit = errors.New("the context has no commit: no job of it has taken effect yet")
)

// Pause holds a context: its jobs stay on the stream until it is resumed. The job that is under way when it takes effect is
// thrown away and runs again then. It returns a *HeldError for a context that is held, whose hold stays as it is.
func (o *Operator) Pause(ctx context.Context, name, why string) error {
	if len(why) > maxWhy {
		return fmt.Errorf("why: want at most %d bytes, got %d", maxWhy, len(why))
	}
	return o.amend(ctx, name, deedPause, func(old job.Commit, next *draft) error {
		if old.Held != nil {
			return &HeldError{*old.Held}
		}
		next.set("held", job.Held{Since: o.now().UTC(), By: o.by, Why: why})
		return nil
	})
}

// Resume lets a context go on, and returns what held it, and a note when workers could not be told. It returns
// ErrNotHeld for a context that is not held.
func (o *Operator) Resume(ctx context.Context, name string) (held job.Held, note string, err error) {
	letter, err := o.heldLetter(ctx, name)
	if err != nil {
		return held, "", err
	}
	err = o.amend(ctx, name, deedResume, func(old job.Commit, next *draft) error {
		if old.Held == nil {
			return ErrNotHeld
		}
		held = *old.Held
		next.remove("held")
		return nil
	})
	if err != nil {
		return held, "", err
	}
	if letter != 0 {
		if _, err := o.pool.RemoveDead(ctx, letter); err != nil {
			return held, "", fmt.Errorf("%s.%s goes on, but the letter of its job %d is there still; drop it: %w", o.pool.Name, name, held.Sequence, err)
		}
	}
	var r Result
	o.tryWake(ctx, name, &r)
	return held, r.Note, nil
}

// heldLetter finds the letter of the job that holds a context, by its sequence in the stream of dead letters; 0: there
// is none. It is looked for before the context goes on, so that a letter of the job's next failure is not meant.
func (o *Operator) heldLetter(ctx context.Context, name string) (uint64, error) {
	entry, err := o.pool.ContextFromLeader(ctx, name)
	if err != nil || entry.Data == nil {
		return 0, err
	}
	c, err := job.DecodeCommit(entry.Data)
	if err != nil || c.Held == nil || c.Held.Sequence == 0 {
		return 0, err
	}
	at := job.Address{Pool: o.pool.Name, Context: name}
	m, err := o.pool.DeadFromLeader(ctx, at.DeadSubject(fmt.Sprint(c.Held.Sequence)))
	if errors.Is(err, stream.ErrNone) {
		return 0, nil
	}
	if err != nil || !read(m).Held {
		return 0, err
	}
	return m.Sequence, nil
}

// Cancelled is a call that was closed.
type Cancelled struct {
	ID string `json:"id"`
	job.OpenCall
	Timer bool `json:"timer"` // its next try waited on a timer, which is removed
}

// Cancel closes open calls of a context: those of the ids, or all when there is no id. A call that waits is not sent any
// more; one that is being sent is not recalled, and its answer will be late. It returns the calls that it closed, none when
// none was open.
func (o *Operator) Cancel(ctx context.Context, name string, ids []string) ([]Cancelled, error) {
	var closed []Cancelled
	err := o.amend(ctx, name, deedCancel, func(old job.Commit, next *draft) error {
		which, err := openCalls(old.Calls, ids)
		if err != nil {
			return err
		}
		if len(which) == 0 {
			return errNothing
		}
		left := maps.Clone(old.Calls)
		closed = closed[:0]
		for _, id := range which {
			closed = append(closed, Cancelled{ID: id, OpenCall: old.Calls[id]})
			delete(left, id)
		}
		if next.set("calls", left); len(left) == 0 {
			next.remove("calls")
		}
		next.deed.Calls = which
		return nil
	})
	if errors.Is(err, errNothing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	at := job.Address{Pool: o.pool.Name, Context: name}
	for i := range closed {
		if closed[i].Timer, err = o.pool.PurgeRetry(ctx, at, closed[i].ID); err != nil {
			return closed, fmt.Errorf("the calls are closed and will not be sent, but a timer is left that wakes one for nothing: %w", err)
		}
	}
	return closed, nil
}

var errNothing = errors.New("there is nothing to change")

// Reset empties a context's state, and returns how many calls it leaves open. What keeps repeats from running twice stays.
// It returns ErrNoCommit for a context that has no state yet.
func (o *Operator) Reset(ctx context.Context, name string) (openCalls int, err error) {
	err = o.amend(ctx, name, deedReset, func(old job.Commit, next *draft) error {
		if old.Attempt == "" && old.Applied == 0 && old.Deed == nil {
			return ErrNoCommit
		}
		openCalls = len(old.Calls)
		next.set("state", struct{}{})
		return nil
	})
	return openCalls, err
}
