package scripting

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/compile"
	"github.com/thence-dev/thence/scripting/internal/modules"
	"github.com/thence-dev/thence/scripting/internal/value"
)

// Engine runs scripts in this process: those of its library, or of another that the input brings, and sources that come
// with a job. What it has compiled it keeps: of a library for as long as that is in use. A script can take much memory
// before its time is over; an Engine is for scripts whose authors are trusted, and package sandbox for all others.
type Engine struct {
	lib    *Library
	inline cache
}

var _ Runner = (*Engine)(nil)

// NewEngine makes an engine for a library. nil is a library without scripts.
func NewEngine(lib *Library) *Engine {
	if lib == nil {
		lib = &Library{}
	}
	return &Engine{lib: lib}
}

// InlineName is the name of a script that came with its job: "inline-" and the first 16 hex digits of the SHA-256 of
// its source. It is job.script in such a script, and the only name besides those of the library that its calls may
// give as then or catch.
func InlineName(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "inline-" + hex.EncodeToString(sum[:8])
}

// Check compiles a script without running it. The error is an *[Error].
func (e *Engine) Check(s Script) error {
	_, _, err := e.lib.program(s, Limits{}.WithDefaults(), &e.inline)
	return err
}

// Run runs one script, as [Runner] says. The script sees data and state only as copies. A ctx that is cancelled with an
// *[Error] as its cause ends the run with that error, put where the script was.
func (e *Engine) Run(ctx context.Context, in Input) (*Outcome, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	start := time.Now()
	in.Limits = in.Limits.WithDefaults()
	lib := in.Library
	if lib == nil {
		lib = e.lib
	}
	p, name, err := lib.program(in.Script, in.Limits, &e.inline)
	if err != nil {
		return nil, err
	}
	left := in.Limits.Time - time.Since(start)
	if left <= 0 {
		return nil, &Error{Kind: KindTimeLimit, Script: shown(in.Script), Message: timeMessage(in.Limits) + " for compiling"}
	}
	m := p.machine(in.Limits.Allocs)
	m.run.Start(jobOf(in.Job, name), in.State, in.Limits.forModules(), lib)
	out, err := p.run(ctx, m, in, left)
	if in.Measure && out != nil {
		out.Usage = m.usage(in, out, time.Since(start))
	}
	if err == nil && time.Since(start) < slow {
		p.keep(m)
	}
	return out, err
}

// run runs a script in a machine, which then still has what the run has left.
func (p *program) run(ctx context.Context, m *machine, in Input, left time.Duration) (out *Outcome, err error) {
	if p.Data {
		if m.own[0], err = m.run.Data(); err != nil {
			return nil, &Error{Kind: KindRuntime, Script: shown(in.Script), Message: err.Error()}
		}
	}
	if end := m.execute(ctx, left); !end.clean() {
		return printed(m.run), p.explain(ctx, m, end, shown(in.Script), in.Limits)
	}
	if out, err = outcome(m.run); err != nil {
		return printed(m.run), scriptError(err, shown(in.Script), in.Limits)
	}
	return out, nil
}

// program finds or compiles a script; name is what job.script will be.
func (l *Library) program(s Script, limits Limits, inline *cache) (p *program, name string, err error) {
	if s.Source == "" {
		get, ok := l.programs[s.Name]
		if !ok {
			return nil, "", &Error{Kind: KindUnknownScript, Script: s.Name,
				Message: fmt.Sprintf("there is no script %q in the library%s", s.Name, compile.Suggest(s.Name, l.names))}
		}
		p, err = get()
		return p, s.Name, err
	}
	if len(s.Source) > limits.Source {
		return nil, "", scriptError(&modules.LimitError{What: "source", Got: len(s.Source), Limit: limits.Source},
			shown(s), limits)
	}
	return inline.get(l, s)
}

// shown is the name by which errors call a script.
func shown(s Script) string {
	if s.Name == "" {
		return InlineName(s.Source)
	}
	return s.Name
}

func jobOf(j Job, script string) modules.Job {
	return modules.Job{ID: j.ID, Sequence: j.Sequence, Worker: j.Worker, Context: j.Context, Caller: j.Caller,
		Parent: j.Parent, Script: script, Time: j.Time, Data: j.Data, Response: j.Response, Failure: j.Failure, Tag: j.Tag,
		Operation: j.Operation, Calls: j.Calls}
}

// printed is what is left of a run that failed.
func printed(r *modules.Run) *Outcome {
	text, cut := r.Output()
	return &Outcome{Output: text, OutputCut: cut}
}

func outcome(r *modules.Run) (*Outcome, error) {
	state, err := r.State()
	if err != nil {
		return nil, err
	}
	out := &Outcome{State: state, Result: r.Result(), Cancelled: r.Cancelled()}
	out.Output, out.OutputCut = r.Output()
	for _, e := range r.Effects() {
		out.Effects = append(out.Effects, effectOf(e))
	}
	return out, nil
}

func effectOf(e modules.Effect) Effect {
	if e.Dispatch != nil {
		d := Dispatch(*e.Dispatch)
		return Effect{Dispatch: &d}
	}
	c := e.Call
	call := &Call{ID: c.ID, Operation: c.Operation, Method: c.Method, URL: c.URL, Body: c.Body, Timeout: c.Timeout,
		IdempotencyKey: c.IdempotencyKey, Then: c.Then, Catch: c.Catch, Tag: c.Tag, Cancelled: c.Cancelled}
	for _, h := range c.Header {
		call.Header = append(call.Header, Header(h))
	}
	return Effect{Call: call}
}

// explain makes an error of how a VM ended.
func (p *program) explain(ctx context.Context, m *machine, end ending, script string, limits Limits) error {
	switch {
	case end.panicked != nil:
		return panicError(end.panicked, script, limits).at(p.Where(m.vm))
	case end.failure != nil && !end.overtime && !end.cancelled:
		trace, cause := p.Trace(end.failure)
		return scriptError(cause, script, limits).at(trace)
	case end.cancelled:
		return p.cancelled(ctx, m, script)
	}
	e := &Error{Kind: KindTimeLimit, Script: script, Message: timeMessage(limits)}
	return e.at(p.Where(m.vm))
}

// cancelled is ctx's error, or its cause when that is an *Error, put where the script was.
func (p *program) cancelled(ctx context.Context, m *machine, script string) error {
	var cause *Error
	if !errors.As(context.Cause(ctx), &cause) {
		return ctx.Err()
	}
	e := *cause
	e.Script = script
	return e.at(p.Where(m.vm))
}

func timeMessage(l Limits) string {
	return fmt.Sprintf("the script ran for longer than its time limit of %s", l.Time)
}

// scriptError makes an error, still without its place, of one that Tengo or a module returned.
func scriptError(err error, script string, limits Limits) *Error {
	e := &Error{Kind: KindRuntime, Script: script, Message: message(err)}
	var limit *modules.LimitError
	switch {
	case errors.As(err, &limit):
		e.Kind = KindLimit
	case errors.Is(err, tengo.ErrObjectAllocLimit):
		e.Kind = KindLimit
		e.Message = fmt.Sprintf("the script made more than %d values, the limit of allocs", limits.Allocs)
	}
	return e
}

// message says it better than Tengo where Tengo is terse.
func message(err error) string {
	s := err.Error()
	for _, say := range []struct{ from, to string }{
		{"not callable: ", "cannot call "},
		{"not iterable: ", "cannot iterate over "},
		{"not index-assignable: ", "cannot set a member of "},
	} {
		if rest, ok := strings.CutPrefix(s, say.from); ok {
			return say.to + rest
		}
	}
	switch {
	case s == "invalid index type: string":
		return s + ": only a map has members by name; a text and an array have them by number"
	case errors.Is(err, tengo.ErrStackOverflow):
		return "functions call each other too deeply: more than 1,000 levels"
	case errors.Is(err, tengo.ErrStringLimit), errors.Is(err, tengo.ErrBytesLimit):
		return fmt.Sprintf("a string or bytes would be longer than %d bytes", value.MaxString)
	}
	const most = 1000
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return escaped(s)
}

// panicError makes an error of what a VM panicked with: our own values say what it is, Tengo's arithmetic and stack
// leave it to Go.
func panicError(panicked any, script string, limits Limits) *Error {
	err, ok := panicked.(error)
	if !ok {
		return &Error{Kind: KindRuntime, Script: script, Message: escaped(fmt.Sprint(panicked))}
	}
	var fault runtime.Error
	if !errors.As(err, &fault) {
		return scriptError(err, script, limits)
	}
	e := &Error{Kind: KindRuntime, Script: script, Message: "the script failed: " + fault.Error()}
	switch s := fault.Error(); {
	case strings.Contains(s, "divide by zero"):
		e.Message = "division by zero"
	case strings.Contains(s, "index out of range"):
		e.Message = "the script needs too much of the stack: calls nest too deeply, or have too many arguments"
	}
	return e
}
