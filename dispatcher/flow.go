package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Flow is what came of a job and of all that it led to in its context: the answers of its calls, the jobs that it
// dispatched to its own context, and so on until nothing is left. What it dispatched to other contexts is not part of it.
type Flow struct {
	Jobs     []Report        // the context's jobs from the flow's first on, in order, as far as their reports are kept
	State    json.RawMessage // the context's, once all of them had ended
	Revision uint64          // that the context then had
}

// Result is what the last job that gave a result gave; nil: none did.
func (f Flow) Result() json.RawMessage {
	for _, r := range slices.Backward(f.Jobs) {
		if r.Result != nil {
			return r.Result
		}
	}
	return nil
}

// ErrDeleted is wrapped when a context was deleted while a flow went on in it: its open calls are forgotten, so that
// nobody can tell when it would have ended.
var ErrDeleted = errors.New("the context was deleted while its flow went on")

// OpenError says what a flow still waits for. It is what AwaitFlow returns when its ctx ends first, and wraps ctx's error.
type OpenError struct {
	Context string // <pool>.<context>
	Waits   []string
	Err     error
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("the flow in %s has not ended (%v): it waits for %s", e.Context, e.Err, strings.Join(e.Waits, "; "))
}

func (e *OpenError) Unwrap() error { return e.Err }

// AwaitFlow waits until the flow that a job began has ended: the job has, no call and no timer of its context is open, and
// no job waits on its subject. It hands each job's report to each, which may be nil, as soon as there is one. When a job of the
// flow is dead it returns the whole flow, and the first such job's *JobError; a flow goes on after a job that died.
//
// A context is one line of work, so other jobs in it, and their calls, are waited for as well. Nothing is asked again
// and again: AwaitFlow watches the context, and asks for the next job on its subject only where a commit leaves nothing
// open. It ends with an *OpenError when ctx does, and can be called anew. A job for the own context that the stream refused until
// it was given up (ten minutes) is a dead letter without a commit: such a flow is awaited until ctx ends, so give ctx an end.
func (d *Dispatcher) AwaitFlow(ctx context.Context, r Receipt, each func(Report)) (Flow, error) {
	if err := r.check(); err != nil {
		return Flow{}, err
	}
	pool, err := d.pool(r.Worker)
	if err != nil {
		return Flow{}, err
	}
	f := &following{pool: pool, receipt: r, each: each}
	err = pool.Watch(ctx, r.Context, func(e stream.Entry) bool { return f.see(ctx, e) })
	switch {
	case ctx.Err() != nil && !f.ended:
		return f.flow, &OpenError{Context: f.address().String(), Waits: f.waits(), Err: ctx.Err()}
	case err != nil || f.err != nil:
		return f.flow, errors.Join(err, f.err)
	}
	for _, report := range f.flow.Jobs {
		if report.Error != nil {
			return f.flow, report.Error
		}
	}
	return f.flow, nil
}

// following is one AwaitFlow.
type following struct {
	pool    *stream.Pool
	receipt Receipt
	each    func(Report)

	flow    Flow
	live    bool       // the history has been seen: what comes now is new
	last    job.Commit // seen
	present bool       // there is a last commit, which nobody has deleted
	next    uint64     // job that waits on the subject, when it was last asked for; 0: none
	ended   bool
	err     error
}

func (f *following) address() job.Address {
	return job.Address{Pool: f.receipt.Worker, Context: f.receipt.Context}
}

// see takes an entry of the context, and tells whether to wait for more.
func (f *following) see(ctx context.Context, e stream.Entry) bool {
	switch {
	case e.Revision == 0:
		f.live = true
	case e.Data == nil:
		f.present, f.flow.Revision = false, e.Revision
	default:
		if f.last, f.err = job.DecodeCommit(e.Data); f.err != nil {
			return false
		}
		f.present, f.flow.Revision, f.flow.State = true, e.Revision, f.last.State
		f.collect(e.Revision)
	}
	if f.live && f.flow.Revision != 0 {
		f.ended, f.err = f.look(ctx)
	}
	return !f.ended && f.err == nil
}

// collect keeps the commit's report, if it is of the flow. A commit that ends no job repeats the report before it.
func (f *following) collect(revision uint64) {
	sequence := f.last.Report.Sequence
	if sequence < f.receipt.Sequence || len(f.flow.Jobs) > 0 && sequence <= f.flow.Jobs[len(f.flow.Jobs)-1].Sequence {
		return
	}
	report := reportOf(f.last.Report, revision)
	f.flow.Jobs = append(f.flow.Jobs, report)
	if f.each != nil {
		f.each(report)
	}
}

// look decides by the last commit and by what waits on the subject whether the flow has ended.
func (f *following) look(ctx context.Context) (ended bool, err error) {
	if !f.present {
		return false, f.lookDeleted(ctx)
	}
	if f.last.Applied < f.receipt.Sequence || len(f.last.Calls) > 0 || f.ownJob() {
		return false, nil
	}
	if f.next, err = f.nextJob(ctx, f.last.Applied+1); err != nil || f.next != 0 {
		return false, err
	}
	// Nothing waited behind this commit. It was the last one then, if it is now; else the next one is on its way here.
	var now stream.Entry
	err = insist(ctx, func() error {
		now, err = f.pool.ContextFromLeader(ctx, f.receipt.Context)
		return err
	})
	return err == nil && now.Revision == f.flow.Revision, err
}

// lookDeleted is look for a context that was deleted: only a flow whose first job has not run goes on.
func (f *following) lookDeleted(ctx context.Context) error {
	var err error
	if f.next, err = f.nextJob(ctx, f.receipt.Sequence); err != nil || f.next == f.receipt.Sequence {
		return err
	}
	return fmt.Errorf("job %s of %s: %w", f.receipt.ID, f.address(), ErrDeleted)
}

// nextJob is the sequence of the first job of the context at or after from; 0: there is none.
func (f *following) nextJob(ctx context.Context, from uint64) (uint64, error) {
	var m job.Message
	err := insist(ctx, func() (err error) {
		m, err = f.pool.NextJobFromLeader(ctx, f.receipt.Context, from)
		return err
	})
	if errors.Is(err, stream.ErrNone) {
		return 0, nil
	}
	return m.Sequence, err
}

// insist asks a leader, and when it can't be reached some times more: there may be an election.
func insist(ctx context.Context, ask func() error) error {
	for pause := 200 * time.Millisecond; ; pause *= 4 {
		err := ask()
		if err == nil || errors.Is(err, stream.ErrNone) {
			return err
		}
		if pause > time.Second {
			return fmt.Errorf("await a flow: %w: may this user read the pool's streams? subjects.md has the permissions", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ownJob tells whether the last commit dispatched a job to its own context, which may not be on the subject yet. Those of
// the commits before it are: a context's effects are published before its next commit.
func (f *following) ownJob() bool {
	own := f.address().String()
	return slices.ContainsFunc(f.last.Outbox, func(e job.Effect) bool { return e.Job != nil && e.Job.To == own })
}

// waits says what the flow waits for, as far as it has been seen.
func (f *following) waits() []string {
	var waits []string
	if !f.present || f.last.Applied < f.receipt.Sequence {
		waits = append(waits, fmt.Sprintf("its job %s, which has not run%s", f.receipt.ID, f.whyNotRun()))
	}
	if !f.present {
		return waits
	}
	if h := f.last.Held; h != nil {
		waits = append(waits, fmt.Sprintf("an operator: the context is held since %s by %s, see `thence context resume %s`",
			h.Since.UTC().Format("2006-01-02T15:04:05Z"), h.By, f.address()))
	}
	for _, id := range slices.Sorted(maps.Keys(f.last.Calls)) {
		c := f.last.Calls[id]
		if !c.Due.IsZero() {
			waits = append(waits, fmt.Sprintf("timer %s, which is due at %s", id, c.Due.UTC().Format(time.RFC3339)))
			continue
		}
		waits = append(waits, strings.TrimSpace(fmt.Sprintf("the answer of call %s to %s %s", id, c.Service, c.Operation)))
	}
	if f.ownJob() {
		waits = append(waits, "a job that it dispatched to its own context")
	}
	if f.next > f.last.Applied && len(f.last.Calls) == 0 {
		waits = append(waits, fmt.Sprintf("job %d on its subject", f.next))
	}
	return shortened(waits)
}

// whyNotRun asks what may keep the flow's job from running, where the context does not tell.
func (f *following) whyNotRun() string {
	switch {
	case f.present && f.last.Held != nil:
		return ""
	case f.receipt.Duplicate:
		return fmt.Sprintf(": its id was taken; was that by a job of another context, or is no worker of pool %s running?", f.receipt.Worker)
	}
	return fmt.Sprintf(": is a worker of pool %s running?", f.receipt.Worker)
}

const maxWaits = 5

// shortened is a list without its tail, if it is a long one.
func shortened(list []string) []string {
	if len(list) <= maxWaits {
		return list
	}
	return append(list[:maxWaits:maxWaits], fmt.Sprintf("%d more", len(list)-maxWaits))
}
