package worker

import (
	"cmp"
	"fmt"
	"maps"
	"strings"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/scripting"
)

// death is a job that can't run, and why. Its context keeps the state that it had.
type death struct{ why job.Error }

func (d *death) Error() string { return d.why.Message }

func dead(reason, format string, args ...any) *death {
	return &death{job.Error{Reason: reason, Message: cut(fmt.Sprintf(format, args...), maxMessage)}}
}

// cut shortens a text to at most n bytes and an ellipsis.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// die makes the next commit that of a dead letter: the state as it was, nothing asked for but the letter itself and,
// when an answer is dead, its call's error script (rule 16).
func (t *trial) die(d *death) {
	kept := t.next
	t.next = successor(t.old, t.message)
	t.next.Attempt = kept.Attempt
	t.next.Marks, t.next.Recent = kept.Marks, kept.Recent
	t.next.Report.Error = &d.why
	t.next.Report.Output, t.next.Report.OutputCut = kept.Report.Output, kept.Report.OutputCut
	t.next.Outbox = []job.Effect{{Kind: job.EffectDead}}
	if t.call == nil {
		return
	}
	t.next.Outbox[0].Call, t.next.Outbox[0].Source = t.call, t.script().Source
	t.next.Calls = maps.Clone(t.old.Calls)
	delete(t.next.Calls, t.job.Call)
	t.next.Sources = keepSources(t.next.Calls, t.old.Sources, scripting.Script{})
	if t.call.Catch == "" || t.job.Answer.Failure != nil {
		return
	}
	t.next.Outbox = append(t.next.Outbox, t.scriptFailed(d))
}

// scriptFailed is the job that tells a call's error script that its response script failed.
func (t *trial) scriptFailed(d *death) job.Effect {
	a := t.job.Answer
	told := &job.Answer{
		Status: a.Status, Header: a.Header, Attempts: a.Attempts, Duration: a.Duration, Stored: a.Stored,
		Tag: t.call.Tag, Operation: t.call.Operation,
		Failure: &job.Failure{Type: job.FailureScript, Code: d.why.Reason, Message: cut(d.why.String(), maxMessage)},
		Source:  t.old.Sources[t.call.Catch],
	}
	if len(a.Body) <= job.MaxKept {
		told.Body = a.Body
	}
	to := &job.Dispatched{To: t.job.Address.String(), Caller: t.call.Service, Release: cmp.Or(t.release, t.call.Release), Answer: told}
	if told.Source == "" {
		to.Script = t.call.Catch
	}
	return job.Effect{Kind: job.EffectJob, Job: to}
}
