package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
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
	services   calls.Services
	runner     scripting.Runner
	limits     scripting.Limits
	release    string
	poolExists func(context.Context, string) (bool, error)
	maxCommit  int
	now        func() time.Time
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

// trial is one job before the judge.
type trial struct {
	message job.Message
	job     job.Job
	old     job.Commit
	next    job.Commit    // what the commit will be if all goes well
	call    *job.OpenCall // the call that the job answers
	outbox  int           // bytes of next.Outbox
	dropped bool          // the input is left out of the report, for want of room
	began   time.Time
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

// poisoned is decide for a job that is not to be begun again.
func (j *judge) poisoned(m job.Message, old job.Commit, tries int) (job.Commit, []byte, error) {
	t := &trial{message: m, old: old, next: successor(old, m), began: j.now()}
	var err error
	if t.job, err = job.Parse(m); err == nil && j.checkOrigin(t) == nil {
		t.recognise()
	}
	return j.bury(t, dead(job.ReasonPoison, "the job was begun %d times, and each time its worker did not come back", tries))
}

// bury closes the job as a dead letter. What is only there to be looked at gives way until the commit fits: close keeps
// enough room for the rest in every commit that changes what the context keeps.
func (j *judge) bury(t *trial, d *death) (job.Commit, []byte, error) {
	t.die(d)
	var tooLarge *death
	for _, drop := range []func(){
		func() {},
		func() { t.dropped, t.next.Report.Output, t.next.Report.OutputCut = true, "", true },
		func() { t.next.Outbox = t.next.Outbox[:1] },
		func() { d.why.Trace, d.why.Code, d.why.Message = nil, "", cut(d.why.Message, 512) },
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
	if d := t.job.Deadline; !d.IsZero() && j.now().After(d) {
		return "", dead(job.ReasonDeadline, "the job's deadline was %s, and it began at %s",
			d.Format(time.RFC3339), j.now().UTC().Format(time.RFC3339))
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
	case j.services.Has(t.job.Caller):
		claims = "comes from the service " + t.job.Caller
	default:
		return nil
	}
	if err := j.keys.Verify(t.message); err != nil {
		return dead(job.ReasonForged, "the message says that it %s, but %v", claims, err)
	}
	return nil
}

// recognise finds jobs that took effect before, and answers of calls that are closed. What it returns ends the job.
func (t *trial) recognise() string {
	switch {
	case t.job.Call != "":
		call, open := t.old.Calls[t.job.Call]
		if !open {
			return job.OutcomeLate
		}
		t.call = &call
		t.next.Calls = maps.Clone(t.old.Calls)
		delete(t.next.Calls, t.job.Call)
	case t.job.Origin.Valid():
		return t.mark()
	case t.job.CallerID != "":
		return t.remember()
	}
	return ""
}

// mark records the effect that the job is, unless it or a later one of its source was taken before (rule 6).
func (t *trial) mark() string {
	source, o := t.job.Origin.Address.String(), t.job.Origin
	last, known := t.old.Marks[source]
	if known && (o.Sequence < last[0] || o.Sequence == last[0] && uint64(o.Index) <= last[1]) {
		return job.OutcomeDuplicate
	}
	marks := maps.Clone(t.old.Marks)
	if marks == nil {
		marks = map[string]job.Mark{}
	}
	marks[source] = job.Mark{o.Sequence, uint64(o.Index), t.message.Sequence}
	if len(marks) > job.MaxMarks {
		delete(marks, longestUnused(marks))
	}
	t.next.Marks = marks
	return ""
}

func longestUnused(marks map[string]job.Mark) (oldest string) {
	for source, m := range marks {
		if oldest == "" || m[2] < marks[oldest][2] {
			oldest = source
		}
	}
	return oldest
}

// digestLen is the length of a remembered id.
const digestLen = 16

// remember records the caller's id, unless it is among the recent ones.
func (t *trial) remember() string {
	id, recent := job.Digest(t.job.CallerID), t.old.Recent
	for i := 0; i+digestLen <= len(recent); i += digestLen {
		if recent[i:i+digestLen] == id {
			return job.OutcomeDuplicate
		}
	}
	if len(recent) >= job.MaxRecent*digestLen {
		recent = recent[len(recent)-(job.MaxRecent-1)*digestLen:]
	}
	t.next.Recent = recent + id
	return ""
}

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
	out, err := j.runner.Run(ctx, scripting.Input{Script: script, Job: t.facts(), State: t.old.State, Limits: j.limits})
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
	if err := j.fillOutbox(ctx, t, script, out.Effects); err != nil {
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

// fillOutbox turns what the script asked for into the effects and open calls of the commit.
func (j *judge) fillOutbox(ctx context.Context, t *trial, ran scripting.Script, effects []scripting.Effect) error {
	if len(effects) == 0 {
		return nil
	}
	t.next.Calls = maps.Clone(t.next.Calls)
	for _, e := range effects {
		var err error
		if e.Call != nil {
			err = j.addCall(t, e.Call)
		} else {
			err = j.addDispatch(ctx, t, ran, e.Dispatch)
		}
		if err != nil {
			return err
		}
	}
	if len(t.next.Calls) > job.MaxCalls {
		return dead(job.ReasonTooLarge, "the context would have %d open calls, at most %d are allowed", len(t.next.Calls), job.MaxCalls)
	}
	return nil
}

func (j *judge) addCall(t *trial, c *scripting.Call) error {
	service, err := j.services.For(c.URL)
	if err != nil {
		return dead(job.ReasonService, "call %s: %v", c.ID, err)
	}
	if len(c.Tag) > maxTag {
		return dead(job.ReasonTooLarge, "call %s: its tag has %d bytes, at most %d are allowed: keep more in the context's state", c.ID, len(c.Tag), maxTag)
	}
	request := &job.Request{Method: c.Method, URL: c.URL, Body: c.Body, Timeout: c.Timeout, IdempotencyKey: c.IdempotencyKey}
	for _, h := range c.Header {
		request.Header = append(request.Header, job.HeaderLine(h))
	}
	if t.next.Calls == nil {
		t.next.Calls = map[string]job.OpenCall{}
	}
	t.next.Calls[c.ID] = job.OpenCall{
		Service: service.Name, Operation: c.Operation, Then: c.Then, Catch: c.Catch, Tag: c.Tag, Parent: t.job.ID,
	}
	return t.add(job.Effect{Kind: job.EffectCall, Service: service.Name, Request: request})
}

func (j *judge) addDispatch(ctx context.Context, t *trial, ran scripting.Script, d *scripting.Dispatch) error {
	to := t.job.Address
	if d.Worker != "" {
		to.Pool = d.Worker
	}
	if d.Context != "" {
		to.Context = d.Context
	}
	if err := to.Valid(); err != nil {
		return dead(job.ReasonMalformed, "dispatch %s: %v", d.ID, err)
	}
	if to.Pool != t.job.Address.Pool {
		switch ok, err := j.poolExists(ctx, to.Pool); {
		case err != nil:
			return fmt.Errorf("look for worker pool %s: %w", to.Pool, err)
		case !ok:
			return dead(job.ReasonNoPool, "dispatch %s: no worker pool named %s", d.ID, to.Pool)
		}
	}
	out := &job.Dispatched{To: to.String(), Caller: t.job.Address.String(), Script: d.Script, Source: d.Source, Data: d.Data}
	if ran.Source != "" && d.Script == scripting.InlineName(ran.Source) {
		out.Script, out.Source = "", ran.Source
	}
	return t.add(job.Effect{Kind: job.EffectJob, Job: out})
}

func (t *trial) add(e job.Effect) error {
	encoded, err := job.Encode(e)
	if err != nil {
		return dead(job.ReasonTooLarge, "effect %d can't be encoded: %v", len(t.next.Outbox), err)
	}
	if len(encoded) > maxEffect {
		return dead(job.ReasonTooLarge, "effect %d has %d bytes, at most %d are allowed", len(t.next.Outbox), len(encoded), maxEffect)
	}
	if t.outbox += len(encoded); t.outbox > maxOutbox {
		return dead(job.ReasonTooLarge, "what the job asked for has %d bytes, at most %d are allowed", t.outbox, maxOutbox)
	}
	t.next.Outbox = append(t.next.Outbox, e)
	return nil
}

// facts are what the script can learn about its job.
func (t *trial) facts() scripting.Job {
	f := scripting.Job{
		ID: t.job.ID, Sequence: t.message.Sequence, Worker: t.job.Address.Pool, Context: t.job.Address.Context,
		Caller: t.job.Caller, Parent: t.job.Parent, Time: t.message.Time, Data: t.job.Data,
	}
	a := t.job.Answer
	if a == nil {
		return f
	}
	f.Tag = a.Tag
	if t.call != nil {
		f.Tag, f.Parent = t.call.Tag, t.call.Parent
	}
	f.Data, f.Response, f.Failure = answerFacts(a)
	return f
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
		Status: a.Status, Header: a.Header, Attempts: a.Attempts, Duration: a.Duration, Tag: t.call.Tag,
		Failure: &job.Failure{Type: job.FailureScript, Code: d.why.Reason, Message: cut(explain(d.why), maxMessage)},
		Source:  t.old.Sources[t.call.Catch],
	}
	if len(a.Body) <= job.MaxKept {
		told.Body = a.Body
	}
	to := &job.Dispatched{To: t.job.Address.String(), Caller: t.call.Service, Answer: told}
	if told.Source == "" {
		to.Script = t.call.Catch
	}
	return job.Effect{Kind: job.EffectJob, Job: to}
}

// explain is an error in one line.
func explain(e job.Error) string {
	if e.Script == "" || e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Script, e.Line, e.Column, e.Message)
}

// report fills in what is known of the run.
func (t *trial) report(j *judge, outcome string) {
	r := &t.next.Report
	*r = job.Report{Output: r.Output, OutputCut: r.OutputCut, Result: r.Result, Error: r.Error}
	if outcome == job.OutcomeDead {
		r.Result = nil
	} else {
		r.Error = nil
	}
	if outcome == job.OutcomeDuplicate || outcome == job.OutcomeLate {
		r.Output, r.OutputCut, r.Result = "", false, nil
	} else {
		r.Script, r.Release = t.scriptLabel(), j.release
	}
	r.Job, r.Sequence, r.Outcome = t.job.ID, t.message.Sequence, outcome
	if r.Job == "" {
		r.Job = fmt.Sprintf("seq-%d", t.message.Sequence)
	}
	r.Caller, r.Parent, r.Call, r.Trace = t.job.Caller, t.job.Parent, t.job.Call, t.job.Trace
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
