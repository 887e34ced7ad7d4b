package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/thence-dev/thence/internal/crash"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// A held context's jobs stay on the stream until an operator decides. Whoever is handed one gives it back for a while;
// a wake job, published when the context goes on, makes workers look at once.
//
// A context is held by an operator's commit, or by a worker's where a job failed whose script's failures hold (see
// Config.HoldOn). Such a job has not ended: nothing of it is applied, it is the next job of its context still, and it
// runs once more when the context goes on, in its place. Or it is skipped, when the operator gives it up.

// heldFor is how long a job of a held context is given back for: the longer, the more often it came.
func heldFor(delivered uint64) time.Duration {
	return min(30*time.Second<<min(delivered-1, 4), 5*time.Minute)
}

// errHeld says that a context's jobs wait for an operator.
var errHeld = errors.New("the context is held")

// neverHold are reasons that don't hold a context: of messages that anyone may have sent, and of jobs that would be
// run once more for nothing.
var neverHold = []string{job.ReasonMalformed, job.ReasonForged, job.ReasonDeadline, job.ReasonPoison}

// holds tells whether a job that ended so holds its context instead.
func (j *judge) holds(r job.Report) bool {
	if r.Outcome != job.OutcomeDead || slices.Contains(neverHold, r.Error.Reason) {
		return false
	}
	return slices.Contains(j.holdOn, "*") || slices.Contains(j.holdOn, r.Script)
}

// skips tells whether an operator gave the job up.
func skips(old job.Commit, head job.Message) bool {
	return old.Skip != nil && old.Skip.Sequence == head.Sequence
}

// hold records that the head failed and holds its context. failed is the commit that would have ended it. The letter
// that says so is stored first, so that none is missing: where this process ends in between, or loses the race, whoever
// runs the job next writes its own in the same place.
func (r *rounds) hold(ctx context.Context, g goal, v view, head job.Message, failed job.Commit) error {
	f := flush{job.Address{Pool: r.pool, Context: g.name}, failed, v.base.Revision, head, false}
	if err := g.away(func() error { return r.outbox.tellHeld(ctx, f) }); err != nil {
		return err
	}
	why := failed.Report.Error
	c := v.commit
	c.Version, c.Tries, c.Skip, c.Deed, c.Repeats = job.Version, nil, nil, nil, 0
	if c.State == nil {
		c.State = []byte("{}")
	}
	c.Renewed = head.Sequence
	c.Held = &job.Held{Since: r.judge.now().UTC(), By: r.judge.worker, Sequence: head.Sequence, Job: failed.Report.Job, Error: shortened(why)}
	encoded, err := job.Encode(c)
	if err != nil {
		return err
	}
	crash.Here(crash.HoldBefore)
	_, err = r.commit(ctx, g.name, encoded, v.base)
	if errors.Is(err, stream.ErrConflict) {
		r.stats.lostRaces.Add(1)
		return nil // whoever was first has run it, or held it
	} else if err != nil {
		return err
	}
	crash.Here(crash.HoldAfter)
	r.views.forget(g.name)
	r.log.Warn("a failed job holds its context", "context", g.name, "job_id", failed.Report.Job, "script", failed.Report.Script,
		"reason", why.Reason, "error", why.String())
	return nil
}

// shortened is what a context keeps of an error. It has to fit beside the largest commit there may be, for which verdicts leave
// room; the letter has the rest.
func shortened(e *job.Error) *job.Error {
	return &job.Error{Reason: e.Reason, Message: cut(e.Message, 512), Script: e.Script, Line: e.Line, Column: e.Column}
}

// tellHeld publishes the letter of a job that is about to hold its context.
func (o *outbox) tellHeld(ctx context.Context, f flush) error {
	e := f.commit.Outbox[0]
	letter := o.letter(f, *f.commit.Report.Error, f.applied.Copy())
	letter.Held, letter.Call, letter.Source = true, e.Call, e.Source
	f.commit.Outbox = []job.Effect{{Kind: job.EffectDead}}
	return o.insistOn(ctx, f, 0, o.deadMessage(f.address, fmt.Sprint(f.commit.Applied), letter), &patience{began: o.now()})
}

// setAside gives a held context's deliveries back for a while, and ends its lane.
func (in *intake) setAside(l *lane) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, w := range l.waiting {
		in.try(w.GiveBack(heldFor(w.Delivered)))
		in.release(l, w)
	}
	l.waiting = nil
	delete(in.lanes, l.name)
}
