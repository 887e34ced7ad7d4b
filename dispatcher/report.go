package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Status is how far a job has come.
type Status string

// A job is pending until it ends in one of the other ways, and then stays so.
const (
	Pending   Status = "pending"
	Done      Status = "done"
	Dead      Status = "dead"      // it could not run; see Report.Error
	Duplicate Status = "duplicate" // its id was taken before, and that job's outcome stands
	Late      Status = "late"      // the answer of a call that was not open any more; it changed nothing
)

// Report is what is known of a job.
type Report struct {
	ID       string
	Sequence uint64 // the job's place in the pool's stream
	Status   Status
	Caller   string          // who says to have published it; of an answer the service, which is proven
	Call     string          // the call that it answered, if it is an answer
	Failed   string          // how that call failed, by type, if it did
	Script   string          // what ran; of inline source "inline-" and a part of its digest
	Release  string          // of the script library
	Worker   string          // the process that ran it
	Started  time.Time       // by that process's clock
	Took     time.Duration   // from then to the end of the script
	Output   string          // what the script printed and logged
	Result   json.RawMessage // what it gave to job.result; nil: nothing
	Revision uint64          // of the context in the pool's bucket, once the job had taken effect
	Error    *JobError       // of a dead job
}

// JobError says why a job is dead. It is what Await returns for one.
type JobError struct {
	Job     string
	Reason  string // such as "runtime", "compile", "unknown_script", "malformed", "deadline"
	Message string
	Script  string // where in the scripts, if it was there
	Line    int
	Column  int
	Code    string // the line itself
}

func (e *JobError) Error() string {
	where := ""
	if e.Script != "" && e.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d: ", e.Script, e.Line, e.Column)
	}
	return fmt.Sprintf("job %s is a dead letter (%s): %s%s", e.Job, e.Reason, where, e.Message)
}

// ErrGone is wrapped when a job has ended but its report is no longer kept: a context keeps its last 64.
var ErrGone = errors.New("the job's report is no longer kept")

// Await waits until the job has ended, and returns its report: at once when it already has. For a dead job it returns
// the report and a *JobError. It watches the context and asks nothing again and again; it ends with ctx's error when
// ctx does, and can be called anew.
func (d *Dispatcher) Await(ctx context.Context, r Receipt) (Report, error) {
	report, err := d.look(ctx, r, true)
	if err == nil && report.Error != nil {
		return report, report.Error
	}
	return report, err
}

// Status returns what is known of the job now. A dead job is no error here.
func (d *Dispatcher) Status(ctx context.Context, r Receipt) (Report, error) {
	return d.look(ctx, r, false)
}

// look goes through the context's history for the job's report, and with wait through what comes after.
func (d *Dispatcher) look(ctx context.Context, r Receipt, wait bool) (Report, error) {
	if err := r.check(); err != nil {
		return Report{}, err
	}
	pool, err := d.pool(r.Worker)
	if err != nil {
		return Report{}, err
	}
	report := Report{ID: r.ID, Sequence: r.Sequence, Status: Pending}
	var stop error
	err = pool.Watch(ctx, r.Context, func(e stream.Entry) bool {
		if e.Revision == 0 {
			return wait
		}
		if e.Data == nil {
			return true
		}
		var c job.Commit
		if c, stop = job.DecodeCommit(e.Data); stop != nil {
			return false
		}
		switch {
		case c.Report.Sequence == r.Sequence:
			report = reportOf(c.Report, e.Revision)
			return false
		case c.Applied > r.Sequence:
			report, stop = fromDeadLetter(ctx, pool, r)
			return false
		}
		return true
	})
	return report, errors.Join(err, stop)
}

// check tells why nothing can be learnt by this receipt; nil when something can.
func (r Receipt) check() error {
	if err := (job.Address{Pool: r.Worker, Context: r.Context}).Valid(); err != nil {
		return fmt.Errorf("%w: receipt: %w", ErrInvalid, err)
	}
	if r.Sequence == 0 {
		return fmt.Errorf("%w: receipt: it has no sequence: it is not from Dispatch", ErrInvalid)
	}
	return nil
}

func reportOf(r job.Report, revision uint64) Report {
	out := Report{
		ID: r.Job, Sequence: r.Sequence, Status: Done, Caller: r.Caller, Call: r.Call, Failed: r.Failed,
		Script: r.Script, Release: r.Release, Worker: r.Worker, Started: r.Started,
		Took: time.Duration(r.Took * float64(time.Millisecond)), Output: r.Output, Result: r.Result, Revision: revision,
	}
	switch r.Outcome {
	case job.OutcomeDead:
		out.Status = Dead
		out.Error = jobError(r.Job, r.Error)
	case job.OutcomeDuplicate:
		out.Status = Duplicate
	case job.OutcomeLate:
		out.Status = Late
	}
	return out
}

func jobError(id string, e *job.Error) *JobError {
	if e == nil {
		return &JobError{Job: id, Message: "no reason is recorded"}
	}
	return &JobError{Job: id, Reason: e.Reason, Message: e.Message, Script: e.Script, Line: e.Line, Column: e.Column, Code: e.Code}
}

// fromDeadLetter is for a job whose report is no longer kept: dead letters are kept longer.
func fromDeadLetter(ctx context.Context, pool *stream.Pool, r Receipt) (Report, error) {
	a := job.Address{Pool: r.Worker, Context: r.Context}
	m, err := pool.Dead(ctx, a, fmt.Sprint(r.Sequence))
	if errors.Is(err, stream.ErrNone) {
		return Report{}, fmt.Errorf("job %s of %s: %w", r.ID, a, ErrGone)
	}
	if err != nil {
		return Report{}, err
	}
	var letter job.DeadLetter
	if err := json.Unmarshal(m.Data, &letter); err != nil {
		return Report{}, fmt.Errorf("dead letter %s: %w", m.Subject, err)
	}
	return Report{
		ID: letter.Job, Sequence: r.Sequence, Status: Dead, Caller: letter.Caller, Script: letter.Script, Release: letter.Release, Worker: letter.Worker, Started: letter.Time,
		Error: jobError(letter.Job, &letter.Error),
	}, nil
}
