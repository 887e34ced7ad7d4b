package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/worker/calls"
)

// judge decides what becomes of a job. It is the one place where a job's fate is decided: run, dead, duplicate or late,
// each of which is a commit. It touches nothing but the scripts' runner and the question whether a pool exists.
type judge struct {
	worker     string // this process, in reports
	keys       job.Keyring
	services   *calls.Declared
	runner     scripting.Runner
	limits     scripting.Limits
	libraries  libraries
	poolExists func(context.Context, string) (bool, error)
	maxCommit  int
	holdOn     []string
	allow      allowed
	now        func() time.Time
	clock      calls.Clock // of scripts and deadlines
}

// Sizes that a commit is held to, beside those of scripting.Limits; together they stay below NATS' max_payload of 1
// MiB.
const (
	maxOutbox  = 384 << 10
	maxSources = 128 << 10
	maxEffect  = job.MaxJob - 8<<10 // leaves room for headers
	maxTag     = 8 << 10            // of a call
	maxMessage = 4 << 10            // of an error's text
	deathRoom  = 128 << 10          // what a dead letter's commit may need beside what the context keeps
)

// trial is one job before the judge.
type trial struct {
	message job.Message
	job     job.Job
	old     job.Commit
	next    job.Commit    // what the commit will be if all goes well
	call    *job.OpenCall // the call that the job answers
	release string        // that the job runs on; empty until it is known
	outbox  int           // bytes of next.Outbox
	dropped bool          // the input is left out of the report, for want of room
	began   time.Time
}

// verdict is the commit that ends the job, whatever is known of it before it runs.
func (j *judge) verdict(ctx context.Context, m job.Message, old job.Commit, tries int) (job.Commit, []byte, error) {
	switch {
	case skips(old, m):
		return j.unrun(m, old, &death{old.Skip.Error})
	case tries > maxTries:
		return j.unrun(m, old, dead(job.ReasonPoison, "the job was begun %d times, and each time its worker did not come back", tries-1))
	default:
		return j.decide(ctx, m, old)
	}
}

// decide returns the commit that ends the job, and its encoded form. An error means that nothing was decided: ctx
// ended, or the server did not answer.
func (j *judge) decide(ctx context.Context, m job.Message, old job.Commit) (job.Commit, []byte, error) {
	t := &trial{message: m, old: old, next: successor(old, m), began: j.now()}
	outcome, err := j.try(ctx, t)
	var d *death
	if errors.As(err, &d) {
		return j.bury(t, d)
	} else if err != nil {
		return job.Commit{}, nil, err
	}
	encoded, d := j.close(t, outcome)
	if d != nil {
		return j.bury(t, d)
	}
	return t.next, encoded, nil
}

// unrun is decide for a job that is not to be begun again.
func (j *judge) unrun(m job.Message, old job.Commit, d *death) (job.Commit, []byte, error) {
	t := &trial{message: m, old: old, next: successor(old, m), began: j.now()}
	var err error
	if t.job, err = job.Parse(m); err == nil && j.checkOrigin(t) == nil {
		t.recognise()
	}
	return j.bury(t, d)
}

// bury closes the job as a dead letter. What is only there to be looked at gives way until the commit fits: close keeps
// enough room for the rest in every commit that changes what the context keeps.
func (j *judge) bury(t *trial, d *death) (job.Commit, []byte, error) {
	t.die(d)
	var tooLarge *death
	for _, drop := range []func(){
		func() {},
		func() { t.dropped, t.next.Report.Output, t.next.Report.OutputCut = true, "", true },
		func() { d.why.Trace, d.why.Code, d.why.Message = nil, "", cut(d.why.Message, 512) },
		func() { t.next.Outbox[0].Call, t.next.Outbox[0].Source = nil, "" },
		func() { t.next.Outbox = t.next.Outbox[:1] },
		func() { t.next.Marks = withoutOldest(t.next.Marks, job.MaxMarks/2) },
	} {
		drop()
		var encoded []byte
		if encoded, tooLarge = j.close(t, job.OutcomeDead); tooLarge == nil {
			return t.next, encoded, nil
		}
	}
	return job.Commit{}, nil, fmt.Errorf("the dead letter of job %s does not fit: %w", t.job.ID, tooLarge)
}

// close fills in the report and encodes the commit.
func (j *judge) close(t *trial, outcome string) ([]byte, *death) {
	t.next.Key = j.keys.Signing()
	t.report(j, outcome)
	sources := 0
	for _, s := range t.next.Sources {
		sources += len(s)
	}
	if sources > maxSources {
		return nil, dead(job.ReasonTooLarge, "the context would keep %d bytes of inline source for open calls, at most %d are allowed", sources, maxSources)
	}
	encoded, err := job.Encode(t.next)
	if err != nil {
		return nil, dead(job.ReasonTooLarge, "the outcome can't be encoded: %v", err)
	}
	if len(encoded) > j.maxCommit {
		return nil, dead(job.ReasonTooLarge, "the outcome has %d bytes, at most %d are allowed", len(encoded), j.maxCommit)
	}
	if outcome != job.OutcomeDead && len(encoded) > j.maxCommit-deathRoom {
		return encoded, j.leavesRoom(t)
	}
	return encoded, nil
}

// leavesRoom refuses what the context would keep when the commit of a dead letter would no longer fit beside it.
func (j *judge) leavesRoom(t *trial) *death {
	kept := t.next
	kept.Outbox, kept.Report = nil, job.Report{}
	encoded, err := job.Encode(kept)
	if err == nil && len(encoded) > j.maxCommit-deathRoom {
		return dead(job.ReasonTooLarge, "the context would keep %d bytes (state, open calls and their tags, sources, marks), at most %d are allowed",
			len(encoded), j.maxCommit-deathRoom)
	}
	return nil
}

// successor is old with nothing done yet by m. The maps are its own.
func successor(old job.Commit, m job.Message) job.Commit {
	next := old
	next.Version = job.Version
	next.Applied, next.Attempt = m.Sequence, strconv.FormatUint(rand.Uint64(), 36)
	next.Outbox, next.Tries, next.Report = nil, nil, job.Report{}
	next.Held, next.Skip, next.Deed, next.Renewed, next.Repeats = nil, nil, nil, 0, 0
	if next.State == nil {
		next.State = []byte("{}")
	}
	return next
}

// try takes the job through everything that may end it, in the order in which a forger, a repeat or a mistake is met.
func (j *judge) try(ctx context.Context, t *trial) (outcome string, err error) {
	t.job, err = job.Parse(t.message)
	if err != nil {
		return "", dead(job.ReasonMalformed, "%v", err)
	}
	if err := j.checkOrigin(t); err != nil {
		return "", err
	}
	if outcome := t.recognise(); outcome != "" {
		return outcome, nil
	}
	if now := j.now().Add(j.clock.Ahead()); !t.job.Deadline.IsZero() && now.After(t.job.Deadline) {
		return "", dead(job.ReasonDeadline, "the job's deadline was %s, and it began at %s",
			t.job.Deadline.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return job.OutcomeDone, j.run(ctx, t)
}

// checkOrigin refuses a message that claims to come from a worker and can't prove it.
func (j *judge) checkOrigin(t *trial) error {
	claims := ""
	switch {
	case t.job.Call != "":
		claims = "answers call " + t.job.Call
	case t.job.Origin.Valid():
		claims = "is the effect " + t.job.Origin.String()
	case t.job.Parent != "":
		claims = "has a parent"
	case t.job.Release != "":
		claims = "belongs to the release " + t.job.Release
	case j.services.Services().Has(t.job.Caller):
		claims = "comes from the service " + t.job.Caller
	default:
		return nil
	}
	if err := j.keys.Verify(t.message); err != nil {
		return dead(job.ReasonForged, "the message says that it %s, but %v", claims, err)
	}
	return nil
}
