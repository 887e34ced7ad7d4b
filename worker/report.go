package worker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/scripting"
)

// report fills in what is known of the run.
func (t *trial) report(j *judge, outcome string) {
	r := &t.next.Report
	*r = job.Report{Output: r.Output, OutputCut: r.OutputCut, Result: r.Result, Error: r.Error, Cancelled: r.Cancelled}
	if outcome == job.OutcomeDead {
		r.Result = nil
	} else {
		r.Error = nil
	}
	if outcome == job.OutcomeDuplicate || outcome == job.OutcomeLate {
		r.Output, r.OutputCut, r.Result = "", false, nil
	} else {
		r.Script, r.Release = t.scriptLabel(), t.release
	}
	r.Job, r.Sequence, r.Outcome = t.job.ID, t.message.Sequence, outcome
	if r.Job == "" {
		r.Job = fmt.Sprintf("seq-%d", t.message.Sequence)
	}
	// Of a message that could not be read they are as they came.
	r.Caller, r.Parent, r.Call, r.Trace = cut(t.job.Caller, 256), cut(t.job.Parent, 512), cut(t.job.Call, 64), t.job.Trace
	r.Script, r.Job = cut(r.Script, 256), cut(r.Job, 512)
	if t.call != nil {
		r.Parent, r.Operation = t.call.Parent, t.call.Operation
	}
	if a := t.job.Answer; a != nil && a.Failure != nil {
		r.Failed = a.Failure.Type
	}
	r.Published, r.Started, r.Worker = t.message.Time, t.began.UTC(), j.worker
	r.Took = float64(j.now().Sub(t.began).Microseconds()) / 1000
	r.Input = t.input()
}

// scriptLabel is what the job's script is called in reports.
func (t *trial) scriptLabel() string {
	if t.job.Address.Context == "" || t.job.Source == "" && t.job.Script == "" && t.call == nil {
		return ""
	}
	if s := t.script(); s.Source == "" || s.Name != "main" {
		return s.Name
	}
	return scripting.InlineName(t.script().Source)
}

// input is what the job ran on, or its size and digest when that is too much to keep.
func (t *trial) input() *job.Input {
	in := &job.Input{Data: t.job.Data, Source: t.job.Source, Answer: t.job.Answer}
	if t.job.Answer != nil {
		in.Source = ""
	}
	size := len(t.message.Data)
	switch {
	case size == 0:
		return nil
	case !t.dropped && size <= job.MaxKept && (in.Data != nil || in.Source != "" || in.Answer != nil):
		return in
	default:
		sum := sha256.Sum256(t.message.Data)
		return &job.Input{Size: size, SHA256: hex.EncodeToString(sum[:])}
	}
}
