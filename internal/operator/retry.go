package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Result is what was done about one letter.
type Result struct {
	ID       string `json:"id"`                 // the letter's
	Did      Did    `json:"did"`                //
	Job      string `json:"job,omitempty"`      // the new job
	Subject  string `json:"subject,omitempty"`  // where it went
	Sequence uint64 `json:"sequence,omitempty"` // its place there
	Repeat   bool   `json:"repeat,omitempty"`   // the stream has had it since an attempt before this one
	Note     string `json:"note,omitempty"`
}

// Did is what was done.
type Did string

// What can be done about a letter.
const (
	Retried Did = "retried" // a new job is on the stream, and the letter is removed
	Resumed Did = "resumed" // its context goes on, and begins with the job, and the letter is removed
	Removed Did = "removed" // the letter is removed
	Skipped Did = "skipped" // its context goes on without the job, which becomes an ordinary letter
)

// A Refused letter can't be treated as it was asked: nothing was done.
type Refused struct {
	ID, Why, Do string
}

func (r *Refused) Error() string { return fmt.Sprintf("%s: %s: %s", r.ID, r.Why, r.Do) }

func (l Letter) refuse(do, why string, args ...any) error {
	return &Refused{ID: l.ID, Why: fmt.Sprintf(why, args...), Do: strings.ReplaceAll(do, "ID", l.ID)}
}

// What to do about letters that can't be retried.
const (
	doEdit   = "give it a body that can be run with `thence dead edit ID`, or drop it"
	doSubmit = "look at it with `thence dead show ID`, submit a job in its place with `thence submit`, and drop it with `thence dead drop ID`"
	doDrop   = "drop it with `thence dead drop ID`"
)

// Retry runs a letter's job again. An ordinary letter becomes a new job at the end of its context's line; a letter that
// holds its context lets it go on, beginning with the job. Its error is a *Refused, or wraps ErrGone, when nothing was
// done; after any other it may be run again.
func (o *Operator) Retry(ctx context.Context, l Letter) (Result, error) {
	if l.Held {
		return o.release(ctx, l)
	}
	return o.publish(ctx, l, nil)
}

// RetryWith is Retry with another content. A letter that holds its context is refused.
func (o *Operator) RetryWith(ctx context.Context, l Letter, c Content) (Result, error) {
	if l.Held {
		return Result{}, l.refuseEdit()
	}
	return o.publish(ctx, l, &c)
}

func (l Letter) refuseEdit() error {
	return l.refuse("mend what it met (push the script, put the state right) and run `thence dead retry ID`; or drop it with "+
		"`thence dead drop ID`, and edit the letter that it leaves",
		"it holds its context, and runs again in its place as it was published")
}

// CheckRetry returns what Retry would refuse, or RetryWith where another content is given. It changes nothing.
func (o *Operator) CheckRetry(ctx context.Context, l Letter, edited *Content) error {
	if l.Held && edited != nil {
		return l.refuseEdit()
	}
	if l.Held {
		return nil
	}
	keys, err := o.keyring(ctx)
	if err != nil {
		return err
	}
	_, err = l.again(keys, edited)
	return err
}

// publish puts the letter's job on the stream again, and then removes the letter.
func (o *Operator) publish(ctx context.Context, l Letter, edited *Content) (Result, error) {
	keys, err := o.keyring(ctx)
	if err != nil {
		return Result{}, err
	}
	m, err := l.again(keys, edited)
	if err != nil {
		return Result{}, err
	}
	if err := o.stands(ctx, l); err != nil {
		return Result{}, err
	}
	sequence, repeat, err := o.pool.PublishJob(ctx, m)
	if errors.Is(err, stream.ErrNoStream) {
		return Result{}, l.refuse("make the pool with `thence init --pool NAME`, or drop the letter with `thence dead drop ID`", "there is no pool that takes %s", m.Subject)
	}
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", l.ID, err)
	}
	r := Result{ID: l.ID, Did: Retried, Job: m.Get(job.HeaderID), Subject: m.Subject, Sequence: sequence, Repeat: repeat}
	if repeat {
		r.Note = "an attempt before this one had stored the job; what was edited since is not in it"
		if edited == nil {
			r.Note = "an attempt before this one had stored the job"
		}
	}
	if _, err := o.pool.RemoveDead(ctx, l.sequence); err != nil {
		return r, fmt.Errorf("%s: its job %s is on the stream, but the letter is there still; retry it once more to remove it: %w", l.ID, r.Job, err)
	}
	return r, nil
}

// release lets a context go on that a failed job holds. The job is the next one still, and runs with the scripts as
// they are now.
func (o *Operator) release(ctx context.Context, l Letter) (Result, error) {
	r := Result{ID: l.ID, Did: Resumed, Job: l.Job, Subject: l.at.String(), Sequence: l.Message.Sequence}
	held, err := o.letGo(ctx, l, deedRetry, func(_ job.Held, next *draft) { next.remove("held") })
	if err != nil {
		return r, err
	}
	if !held {
		return o.stale(ctx, l)
	}
	err = o.clear(ctx, l, &r)
	return r, err
}

// skip lets a context go on without the job that holds it.
func (o *Operator) skip(ctx context.Context, l Letter) (Result, error) {
	held, err := o.letGo(ctx, l, deedDrop, func(h job.Held, next *draft) {
		next.remove("held")
		next.set("skip", job.Skip{Sequence: h.Sequence, Error: *h.Error}) // the context's own: of the letter's there may be too much to fit
	})
	if err != nil {
		return Result{}, err
	}
	if !held {
		return o.stale(ctx, l)
	}
	return o.skipped(ctx, l), nil
}

func (o *Operator) skipped(ctx context.Context, l Letter) Result {
	r := Result{ID: l.ID, Did: Skipped, Job: l.Job, Note: "it stays among the dead letters, and holds nothing; drop it once more to remove it"}
	o.tryWake(ctx, l.at.Context, &r)
	return r
}

// stale completes what was cut off about a letter that says to hold its context, and does not: its job is to be skipped,
// or its context went on. A letter is written before its context is held, so there may be a moment in which neither is
// so.
func (o *Operator) stale(ctx context.Context, l Letter) (Result, error) {
	entry, err := o.pool.ContextFromLeader(ctx, l.at.Context)
	if err != nil {
		return Result{}, err
	}
	c, _, err := open(entry)
	switch {
	case err != nil:
		return Result{}, err
	case c.Skip != nil && c.Skip.Sequence == l.Message.Sequence:
		return o.skipped(ctx, l), nil
	case c.Applied < l.Message.Sequence && (c.Deed == nil || c.Deed.Time.Before(l.Time)):
		return Result{}, l.refuse("look again in a moment: `thence dead show ID`", "its context is not held; a worker may be about to")
	}
	r := Result{ID: l.ID, Did: Removed, Job: l.Job, Note: "its context went on before"}
	err = o.clear(ctx, l, &r)
	return r, err
}

// letGo changes the context that the letter's job holds, and tells whether it did hold it.
func (o *Operator) letGo(ctx context.Context, l Letter, deed string, change func(job.Held, *draft)) (bool, error) {
	err := o.amend(ctx, l.at.Context, deed, func(old job.Commit, next *draft) error {
		if old.Held == nil || old.Held.Sequence == 0 || old.Held.Sequence != l.Message.Sequence {
			return ErrNotHeld
		}
		change(*old.Held, next)
		return nil
	})
	if errors.Is(err, ErrNotHeld) {
		return false, nil
	}
	return err == nil, err
}

// clear removes the letter of a job that does not hold its context any more, and wakes the context.
func (o *Operator) clear(ctx context.Context, l Letter, r *Result) error {
	if _, err := o.pool.RemoveDead(ctx, l.sequence); err != nil {
		return fmt.Errorf("%s: its context goes on, but the letter is there still; drop it: %w", l.ID, err)
	}
	o.tryWake(ctx, l.at.Context, r)
	return nil
}

func (o *Operator) tryWake(ctx context.Context, name string, r *Result) {
	if err := o.wake(ctx, name); err != nil {
		r.Note = strings.TrimPrefix(r.Note+"; workers find out after a while, as they can't be told: "+err.Error(), "; ")
	}
}

// Drop removes a letter. One that holds its context lets it go on without its job: a worker ends the job unrun, and the
// letter that tells of it stays, as an ordinary one.
func (o *Operator) Drop(ctx context.Context, l Letter) (Result, error) {
	if l.Held {
		return o.skip(ctx, l)
	}
	there, err := o.pool.RemoveDead(ctx, l.sequence)
	if err == nil && !there {
		err = l.gone()
	}
	return Result{ID: l.ID, Did: Removed, Job: l.Job}, err
}
