// Package modules holds what a script may use: the built-in functions, and the modules that it may import, one file a
// module.
//
// All of it works on one [Run], the state of one execution: the facts of its job, the context's state, and what the
// script has asked for so far. Modules are made once for a VM and read the run in hand through [Run], so that a VM can
// be used again: call [Run.Start] before each execution and read State, Result, Output and Effects after it.
//
// A function that refuses its arguments ends the script with a Go error, which names the function; one whose outcome
// depends on data (text.parse_int, json.decode, base64.decode) returns an error value, as Tengo's own do.
package modules

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// Job is what a script can learn about its job. Data, Response, Failure, Tag and Calls are JSON; empty is undefined.
type Job struct {
	ID        string
	Sequence  uint64
	Worker    string
	Context   string
	Caller    string
	Parent    string
	Operation string
	Script    string
	Time      time.Time
	Data      []byte
	Response  []byte
	Failure   []byte
	Tag       []byte
	Calls     []byte
}

// Limits bound what a run leaves behind, in bytes; Effects is a count.
type Limits struct {
	Source, State, Output, Effects, Outbox, Result int
}

// Call is an HTTP request that the script asked for.
type Call struct {
	ID, Operation, Method, URL string
	Header                     []Header
	Body                       []byte
	Timeout                    time.Duration
	IdempotencyKey             string
	Then, Catch                string
	Tag                        []byte
	Cancelled                  bool
}

// Header is one line of a request's header; with Secret, its value goes on with the secret of that name.
type Header struct{ Name, Value, Secret string }

// Dispatch is a job that the script asked for.
type Dispatch struct {
	ID, Worker, Context, Script, Source string
	Data                                []byte
}

// Effect is a call or a dispatch.
type Effect struct {
	Call     *Call
	Dispatch *Dispatch
}

// Scripts is the library that names in calls refer to.
type Scripts interface {
	Has(name string) bool
	Names() []string
}

// LimitError says that a run went over one of its limits.
type LimitError struct {
	What       string
	Got, Limit int
}

func (e *LimitError) Error() string {
	if e.What == "effects" {
		return fmt.Sprintf("the script asks for %d calls and jobs, more than the limit of %d", e.Got, e.Limit)
	}
	return fmt.Sprintf("the %s has %d bytes, more than the limit of %d", e.What, e.Got, e.Limit)
}

// Run is the state of one execution. It is for one goroutine at a time.
type Run struct {
	// Stopped, if it is set, tells whether the execution has been stopped. Functions that may take long ask it.
	Stopped func() bool

	job     Job
	limits  Limits
	scripts Scripts

	state   state
	result  []byte
	out     output
	effects []Effect
	outbox  int
	open    openCalls
	facts   map[string]tengo.Object // decoded parts of the job
	rng     *rand.Rand
	keys    map[string]string // names of the secrets that configure has named, by API
}

// Start makes the run ready for an execution. It keeps none of its arguments' bytes after Finish.
func (r *Run) Start(job Job, state []byte, limits Limits, scripts Scripts) {
	facts := r.facts
	clear(facts)
	*r = Run{Stopped: r.Stopped, job: job, limits: limits, scripts: scripts, facts: facts}
	r.state.source = state
	r.out.limit = limits.Output
}

// Finish forgets the execution.
func (r *Run) Finish() { r.Start(Job{}, nil, Limits{}, nil) }

// State returns the context's state after the execution, as JSON.
func (r *Run) State() ([]byte, error) {
	b, err := r.state.encode()
	if err != nil {
		return nil, err
	}
	if len(b) > r.limits.State {
		return nil, &LimitError{"state", len(b), r.limits.State}
	}
	return b, nil
}

// Result returns what the script gave to job.result as JSON, or nil.
func (r *Run) Result() []byte { return r.result }

// Output returns what the script printed, and whether that was cut.
func (r *Run) Output() (string, bool) { return r.out.text.String(), r.out.cut }

// Effects returns what the script asked for, in order.
func (r *Run) Effects() []Effect { return r.effects }

// Cancelled returns the ids of the context's open calls that the script closed, in the order in which it did.
func (r *Run) Cancelled() []string { return r.open.closed }

// Data returns the job's data as a value; a script may change it, and sees the change in job.data as well.
func (r *Run) Data() (tengo.Object, error) { return r.fact("data", r.job.Data) }

// fact decodes a part of the job when it is first asked for.
func (r *Run) fact(name string, json []byte) (tengo.Object, error) {
	if len(json) == 0 {
		return tengo.UndefinedValue, nil
	}
	if o, ok := r.facts[name]; ok {
		return o, nil
	}
	o, err := value.Decode(json)
	if err != nil {
		return nil, fmt.Errorf("job.%s: %w", name, err)
	}
	if r.facts == nil {
		r.facts = map[string]tengo.Object{}
	}
	r.facts[name] = o
	return o, nil
}

func (r *Run) stopped() bool { return r.Stopped != nil && r.Stopped() }

// nextID is the id of the next effect.
func (r *Run) nextID() string { return fmt.Sprintf("%d-%d", r.job.Sequence, len(r.effects)) }

// ask adds an effect of size bytes.
func (r *Run) ask(e Effect, size int) error {
	if n := len(r.effects) + 1; n > r.limits.Effects {
		return &LimitError{"effects", n, r.limits.Effects}
	}
	if r.outbox += size; r.outbox > r.limits.Outbox {
		return &LimitError{"outbox", r.outbox, r.limits.Outbox}
	}
	r.effects = append(r.effects, e)
	return nil
}
