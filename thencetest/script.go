package thencetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/scripting"
)

// Job is one run of one script, without a server.
type Job struct {
	Script  string // a library script, or
	Source  string // Tengo source
	Scripts fs.FS  // .tengo files, laid over the shipped scripts

	Data    any // what the script gets as data; JSON as it stands
	State   any // the context's; nil: empty
	Tag     any // of a call's answer
	Context string
	Caller  string
	Time    time.Time // the script's clock; default: the first of January 2026
}

// Failure is how a call failed, as job.failure shows it.
type Failure struct {
	Type     string `json:"type"` // such as "http_error", "timeout", "outcome_unknown", or the API's own
	Code     string `json:"code"`
	Message  string `json:"message"`
	Status   int    `json:"status"`
	Attempts int    `json:"attempts"`
	Body     string `json:"body"`
}

// Timer is a job that a script has dispatched for later.
type Timer struct {
	ID     string
	Due    time.Time
	Script string
	Data   json.RawMessage // nil: none
	Tag    json.RawMessage // nil: none

	call scripting.Call
}

// Outcome is what a script left behind.
type Outcome struct {
	State  json.RawMessage
	Result json.RawMessage // what it gave to job.result; nil: nothing
	Output string          // what it printed and logged
	Calls  []scripting.Call
	Jobs   []scripting.Dispatch
	Timers []Timer          // jobs that it dispatched for later
	Err    *scripting.Error // why it failed; the state is then as it was

	t       TB
	input   scripting.Input
	scripts *scripting.Engine
}

// Run runs a script. It ends the test when there is no such script, or the library does not compile; a script that fails
// does not: see Outcome.Err.
func Run(t TB, j Job) *Outcome {
	t.Helper()
	library, err := libraryOf(j.Scripts)
	if err != nil {
		t.Fatalf("thencetest: %v", err)
	}
	if j.Time.IsZero() {
		j.Time = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if j.Context == "" {
		j.Context = "test"
	}
	return run(t, scripting.NewEngine(library), scripting.Input{
		Script: scripting.Script{Name: j.Script, Source: j.Source},
		State:  encode(t, "state", j.State),
		Job: scripting.Job{
			ID: "job-1", Sequence: 1, Worker: poolName, Context: j.Context, Caller: j.Caller, Time: j.Time,
			Data: encode(t, "data", j.Data), Tag: encode(t, "tag", j.Tag),
		},
	})
}

func run(t TB, engine *scripting.Engine, in scripting.Input) *Outcome {
	t.Helper()
	out, err := engine.Run(t.Context(), in)
	o := &Outcome{t: t, input: in, scripts: engine, State: in.State}
	if !errors.As(err, &o.Err) && err != nil {
		t.Fatalf("thencetest: %v", err)
	}
	if o.Err != nil && (o.Err.Kind == scripting.KindUnknownScript || o.Err.Kind == scripting.KindCompile) {
		t.Fatalf("thencetest: %v", o.Err)
	}
	if out != nil {
		o.Output = out.Output
	}
	if o.Err != nil {
		return o
	}
	o.State, o.Result = out.State, out.Result
	for _, e := range out.Effects {
		o.take(e)
	}
	return o
}

func (o *Outcome) take(e scripting.Effect) {
	if e.Call == nil {
		o.Jobs = append(o.Jobs, *e.Dispatch)
		return
	}
	due, err := job.ParseTimerURL(e.Call.URL)
	if err != nil {
		o.Calls = append(o.Calls, *e.Call)
		return
	}
	c := *e.Call
	o.Timers = append(o.Timers, Timer{ID: c.ID, Due: due, Script: c.Then, Data: c.Body, Tag: c.Tag, call: c})
}

// Fire runs the script of timer i, counted from 0, at the time at which it is due, with the state as this outcome left it.
func (o *Outcome) Fire(i int) *Outcome {
	o.t.Helper()
	if i < 0 || i >= len(o.Timers) {
		o.t.Fatalf("thencetest: there is no timer %d: the script set %d%s", i, len(o.Timers), o.failed())
	}
	timer := o.Timers[i]
	in := o.follow(timer.call, timer.Script)
	in.Job.Caller, in.Job.Time, in.Job.Data = job.Timer, timer.Due, timer.Data
	return run(o.t, o.scripts, in)
}

// Answer runs the script that takes the answer of call i, counted from 0, with the state as this outcome left it. body
// is the answer's: a text as it stands, anything else as JSON.
func (o *Outcome) Answer(i int, body any) *Outcome {
	o.t.Helper()
	text, isText := body.(string)
	if !isText {
		text = string(encode(o.t, "answer", body))
	}
	in := o.next(i, func(c scripting.Call) string { return c.Then })
	in.Job.Data = dataOf(text)
	response := map[string]any{
		"status": 200, "headers": map[string]string{"content-type": "application/json"}, "body": text, "attempts": 1, "duration_ms": 1,
	}
	if !utf8.ValidString(text) {
		response["base64"] = []byte(text)
	}
	in.Job.Response = encode(o.t, "response", response)
	return run(o.t, o.scripts, in)
}

// Fail runs the script that takes the failure of call i, counted from 0, with the state as this outcome left it.
func (o *Outcome) Fail(i int, f Failure) *Outcome {
	o.t.Helper()
	f.Attempts = max(f.Attempts, 1)
	in := o.next(i, func(c scripting.Call) string { return c.Catch })
	in.Job.Failure, in.Job.Data = encode(o.t, "failure", f), dataOf(f.Body)
	return run(o.t, o.scripts, in)
}

// dataOf is a body as the script's data: JSON, or text; nil when there is none.
func dataOf(body string) []byte {
	if body == "" || json.Valid([]byte(body)) {
		return []byte(body)
	}
	quoted, err := json.Marshal(strings.ToValidUTF8(body, "\uFFFD"))
	if err != nil {
		panic("thencetest: " + err.Error()) // a text always encodes
	}
	return quoted
}

// next is the job that comes of a call.
func (o *Outcome) next(i int, script func(scripting.Call) string) scripting.Input {
	o.t.Helper()
	if i < 0 || i >= len(o.Calls) {
		o.t.Fatalf("thencetest: there is no call %d: the script asked for %d%s", i, len(o.Calls), o.failed())
	}
	c := o.Calls[i]
	name := script(c)
	if name == "" {
		o.t.Fatalf("thencetest: call %d (%s %s) names no script for this", i, c.Method, c.URL)
	}
	return o.follow(c, name)
}

// follow is the job that a script runs for, which takes what came of a call.
func (o *Outcome) follow(c scripting.Call, name string) scripting.Input {
	in := scripting.Input{Script: scripting.Script{Name: name}, State: o.State, Job: o.input.Job}
	if name == scripting.InlineName(o.input.Script.Source) {
		in.Script = o.input.Script
	}
	in.Job.ID, in.Job.Sequence = "answer-"+c.ID, in.Job.Sequence+1
	in.Job.Parent, in.Job.Operation, in.Job.Tag = o.input.Job.ID, c.Operation, c.Tag
	in.Job.Response, in.Job.Failure, in.Job.Caller = nil, nil, "default"
	if strings.HasPrefix(c.URL, "https://api.stripe.com/") {
		in.Job.Caller = "stripe"
	}
	return in
}

// failed says how the script failed, if it did.
func (o *Outcome) failed() string {
	if o.Err == nil {
		return ""
	}
	return fmt.Sprintf(", and failed: %v", o.Err)
}

// WantState fails the test unless the state is this JSON.
func (o *Outcome) WantState(want string) {
	o.t.Helper()
	wantJSON(o.t, "state"+o.failed(), o.State, want)
}

// WantResult fails the test unless the result is this JSON.
func (o *Outcome) WantResult(want string) {
	o.t.Helper()
	wantJSON(o.t, "result"+o.failed(), o.Result, want)
}
