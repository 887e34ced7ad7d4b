package dispatcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// history is one context as a worker would write it.
type history struct {
	rig
	name     string
	revision uint64
}

func (h *history) commit(rep job.Report) {
	h.Helper()
	rep.Worker = "w1"
	data := must(job.Encode(job.Commit{Version: job.Version, State: json.RawMessage(`{}`), Applied: rep.Sequence, Report: rep}))(h)
	h.revision = must(h.pool.Commit(h.ctx, h.name, data, stream.Base{Revision: h.revision}))(h)
}

func (h *history) receipt(sequence uint64) dispatcher.Receipt {
	return dispatcher.Receipt{ID: fmt.Sprint("job-", sequence), Worker: "payments", Context: h.name, Sequence: sequence}
}

func TestAwaitAPastJob(t *testing.T) {
	t.Parallel()
	h := &history{rig: newRig(t), name: "a"}
	started := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	h.commit(job.Report{
		Job: "job-5", Sequence: 5, Outcome: job.OutcomeDone, Script: "checkout", Release: "r1", Started: started, Took: 1.5, Output: "hi\n",
		Result: json.RawMessage(`{"n":1}`),
	})
	h.commit(job.Report{Job: "job-6", Sequence: 6, Outcome: job.OutcomeDead, Error: &job.Error{
		Reason: "runtime", Message: "index out of bounds", Script: "checkout", Line: 3, Column: 7, Code: "a[9]",
	}})
	h.commit(job.Report{Job: "job-7", Sequence: 7, Outcome: job.OutcomeDuplicate})
	h.commit(job.Report{Job: "job-8", Sequence: 8, Outcome: job.OutcomeDead, Error: &job.Error{Reason: "malformed", Message: "no"}})

	done := must(h.Await(h.ctx, h.receipt(5)))(t)
	equal(t, "id", done.ID, "job-5")
	equal(t, "status", done.Status, dispatcher.Done)
	equal(t, "result", string(done.Result), `{"n":1}`)
	equal(t, "output", done.Output, "hi\n")
	equal(t, "took", done.Took, 1500*time.Microsecond)
	equal(t, "started", done.Started, started)
	equal(t, "what ran it", done.Script+" "+done.Release+" "+done.Worker, "checkout r1 w1")
	equal(t, "revision", done.Revision, 1)

	report, err := h.Await(h.ctx, h.receipt(6))
	var dead *dispatcher.JobError
	if !errors.As(err, &dead) {
		t.Fatalf("got %v, want a *JobError", err)
	}
	equal(t, "dead", err.Error(), "job job-6 is a dead letter (runtime): checkout:3:7: index out of bounds")
	equal(t, "the line", dead.Code, "a[9]")
	equal(t, "status of the dead", report.Status, dispatcher.Dead)
	_, err = h.Await(h.ctx, h.receipt(8))
	equal(t, "dead elsewhere", err.Error(), "job job-8 is a dead letter (malformed): no")
	equal(t, "a repeat", must(h.Await(h.ctx, h.receipt(7)))(t).Status, dispatcher.Duplicate)

	for sequence, want := range map[uint64]dispatcher.Status{5: dispatcher.Done, 6: dispatcher.Dead, 7: dispatcher.Duplicate, 9: dispatcher.Pending} {
		equal(t, fmt.Sprint("status of ", sequence), must(h.Status(h.ctx, h.receipt(sequence)))(t).Status, want)
	}
}

func TestAwaitWakes(t *testing.T) {
	t.Parallel()
	h := &history{rig: newRig(t), name: "a"}
	equal(t, "status", must(h.Status(h.ctx, h.receipt(2)))(t).Status, dispatcher.Pending)
	h.commit(job.Report{Job: "job-1", Sequence: 1, Outcome: job.OutcomeDone})
	before := h.nc.Stats().OutMsgs
	type outcome struct {
		report dispatcher.Report
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		report, err := h.Await(h.ctx, h.receipt(3))
		ended <- outcome{report, err}
	}()
	h.commit(job.Report{Job: "job-2", Sequence: 2, Outcome: job.OutcomeDone})
	h.commit(job.Report{Job: "job-3", Sequence: 3, Outcome: job.OutcomeDone, Result: json.RawMessage(`3`)})
	got := <-ended
	if got.err != nil || string(got.report.Result) != "3" {
		t.Errorf("got %+v", got)
	}
	if sent := h.nc.Stats().OutMsgs - before; sent > 12 {
		t.Errorf("%d messages were sent: does it poll?", sent)
	}
}

// A job that a worker begins under suspicion is counted in its context by a commit that repeats the last report: that
// is not its end.
func TestAwaitSkipsCountedTries(t *testing.T) {
	t.Parallel()
	h := &history{rig: newRig(t), name: "a"}
	h.commit(job.Report{Job: "job-1", Sequence: 1, Outcome: job.OutcomeDone})
	h.commit(job.Report{Job: "job-1", Sequence: 1, Outcome: job.OutcomeDone})
	equal(t, "status", must(h.Status(h.ctx, h.receipt(2)))(t).Status, dispatcher.Pending)
	h.commit(job.Report{Job: "job-2", Sequence: 2, Outcome: job.OutcomeDone})
	equal(t, "then", must(h.Await(h.ctx, h.receipt(2)))(t).Status, dispatcher.Done)
}

func TestReportsThatAreGone(t *testing.T) {
	t.Parallel()
	h := &history{rig: newRig(t), name: "a"}
	for sequence := uint64(1); sequence <= 66; sequence++ {
		h.commit(job.Report{Job: fmt.Sprint("job-", sequence), Sequence: sequence, Outcome: job.OutcomeDone})
	}
	equal(t, "the oldest that is kept", must(h.Await(h.ctx, h.receipt(3)))(t).Status, dispatcher.Done)
	for name, look := range map[string]func(context.Context, dispatcher.Receipt) (dispatcher.Report, error){"Await": h.Await, "Status": h.Status} {
		_, err := look(h.ctx, h.receipt(2))
		if !errors.Is(err, dispatcher.ErrGone) || err.Error() != "job job-2 of payments.a: the job's report is no longer kept" {
			t.Errorf("%s: got %v, want ErrGone", name, err)
		}
	}
	letter := must(job.Encode(job.DeadLetter{
		Error: job.Error{Reason: "compile", Message: "no"}, Job: "job-1", Context: "payments.a", Script: "s", Worker: "w0",
	}))(t)
	if err := h.pool.Publish(h.ctx, job.Message{Subject: "payments.a.dead.1", Data: letter}); err != nil {
		t.Fatal(err)
	}
	report, err := h.Await(h.ctx, h.receipt(1))
	var dead *dispatcher.JobError
	if !errors.As(err, &dead) || dead.Reason != "compile" {
		t.Errorf("got %v, want a *JobError", err)
	}
	equal(t, "status", report.Status, dispatcher.Dead)
	equal(t, "worker", report.Worker, "w0")
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx, cancel := context.WithTimeout(r.ctx, 20*time.Millisecond)
	defer cancel()
	receipt := must(r.Dispatch(r.ctx, dispatcher.Job{Source: "x"}))(t)
	report, err := r.Await(ctx, receipt)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
	equal(t, "status", report.Status, dispatcher.Pending)
}

func TestAwaitRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, test := range map[string]struct {
		receipt dispatcher.Receipt
		want    string
	}{
		"nothing":  {dispatcher.Receipt{}, `invalid job: receipt: worker pool "": a name is 1 to 32 of a-z A-Z 0-9 _ -`},
		"wildcard": {dispatcher.Receipt{Worker: "payments", Context: ">", Sequence: 1}, `invalid job: receipt: context ">": a name is 1 to 128 of a-z A-Z 0-9 _ = / -`},
		"sequence": {dispatcher.Receipt{Worker: "payments", Context: "a"}, `invalid job: receipt: it has no sequence: it is not from Dispatch`},
	} {
		if _, err := r.Await(r.ctx, test.receipt); !errors.Is(err, dispatcher.ErrInvalid) || err.Error() != test.want {
			t.Errorf("%s: got  %v\nwant %s", name, err, test.want)
		}
	}
	if _, err := r.pool.Commit(r.ctx, "a", []byte("no commit"), stream.Base{}); err != nil {
		t.Fatal(err)
	}
	_, err := r.Await(r.ctx, dispatcher.Receipt{Worker: "payments", Context: "a", Sequence: 1})
	if err == nil || err.Error() != "the context's value is no commit: invalid character 'o' in literal null (expecting 'u')" {
		t.Errorf("got %v", err)
	}
}
