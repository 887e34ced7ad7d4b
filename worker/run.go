package worker

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/scripting"
)

// script is what the job runs; the zero Script when it runs nothing.
func (t *trial) script() scripting.Script {
	switch {
	case t.call != nil && t.job.Answer.Failure != nil:
		return t.scriptNamed(t.call.Catch)
	case t.call != nil:
		return t.scriptNamed(t.call.Then)
	case t.job.Source != "":
		return inline(t.job.Source, t.job.Name)
	default:
		return scripting.Script{Name: t.job.Script}
	}
}

// scriptNamed finds a script by a name that an open call carries: inline source is kept beside it.
func (t *trial) scriptNamed(name string) scripting.Script {
	if source, ok := t.old.Sources[name]; ok {
		return inline(source, "")
	}
	return scripting.Script{Name: name}
}

func inline(source, name string) scripting.Script {
	if name == "" {
		name = "main"
	}
	return scripting.Script{Name: name, Source: source}
}

// run runs the job's script and makes its outcome part of the next commit.
func (j *judge) run(ctx context.Context, t *trial) error {
	script := t.script()
	if script.Name == "" { // an answer that no script takes: closing the call is all there is to do
		t.next.Sources = keepSources(t.next.Calls, t.old.Sources, script)
		return nil
	}
	if d := j.allow.run(script); d != nil {
		return d
	}
	library, err := j.library(ctx, t)
	if err != nil {
		return err
	}
	out, err := j.runner.Run(ctx, scripting.Input{Script: script, Library: library, Job: t.facts(j.clock.Ahead()), State: t.old.State, Limits: j.limits})
	if out != nil {
		t.next.Report.Output, t.next.Report.OutputCut = out.Output, out.OutputCut
	}
	var failed *scripting.Error
	if errors.As(err, &failed) {
		return &death{scriptError(failed)}
	} else if err != nil {
		return err
	}
	t.next.State, t.next.Report.Result = out.State, out.Result
	if err := j.fillOutbox(ctx, t, script, out); err != nil {
		return err
	}
	t.next.Sources = keepSources(t.next.Calls, t.old.Sources, script)
	return nil
}

func scriptError(e *scripting.Error) job.Error {
	err := job.Error{
		Reason: string(e.Kind), Message: cut(e.Message, maxMessage), Script: e.Script, Line: e.Line, Column: e.Column, Code: cut(e.Code, 512),
	}
	for _, f := range e.Trace {
		err.Trace = append(err.Trace, job.Frame{Script: f.Script, Line: f.Line, Column: f.Column})
	}
	return err
}

// keepSources keeps the inline source that open calls name, and no other.
func keepSources(open map[string]job.OpenCall, old map[string]string, ran scripting.Script) map[string]string {
	var kept map[string]string
	keep := func(name string) {
		source, ok := old[name]
		if !ok && ran.Source != "" && name == scripting.InlineName(ran.Source) {
			source, ok = ran.Source, true
		}
		if !ok {
			return
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[name] = source
	}
	for _, c := range open {
		keep(c.Then)
		keep(c.Catch)
	}
	return kept
}

// openFact is an open call as a script sees it.
type openFact struct {
	ID        string          `json:"id"`
	Operation string          `json:"operation,omitempty"`
	Tag       json.RawMessage `json:"tag,omitempty"`
	Due       time.Time       `json:"due,omitzero"`
}

// openFacts are the open calls of a context, in the order in which they were asked for.
func openFacts(open map[string]job.OpenCall) []openFact {
	facts := make([]openFact, 0, len(open))
	for _, id := range slices.SortedFunc(maps.Keys(open), job.CompareEffects) {
		facts = append(facts, openFact{id, open[id].Operation, open[id].Tag, open[id].Due})
	}
	return facts
}

// facts are what the script can learn about its job; its clock is so far ahead of the server's.
func (t *trial) facts(ahead time.Duration) scripting.Job {
	f := scripting.Job{
		ID: t.job.ID, Sequence: t.message.Sequence, Worker: t.job.Address.Pool, Context: t.job.Address.Context,
		Caller: t.job.Caller, Parent: t.job.Parent, Time: t.message.Time.Add(ahead), Data: t.job.Data,
	}
	if len(t.next.Calls) > 0 {
		f.Calls = encode(openFacts(t.next.Calls))
	}
	a := t.job.Answer
	if a == nil {
		return f
	}
	f.Tag, f.Operation = a.Tag, a.Operation
	if t.call != nil {
		f.Tag, f.Parent, f.Operation = t.call.Tag, t.call.Parent, t.call.Operation
	}
	f.Data, f.Response, f.Failure = answerFacts(a)
	return f
}
