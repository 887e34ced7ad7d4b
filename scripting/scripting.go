// Package scripting compiles and runs Tengo scripts as pure functions: a script, the facts of its job and the
// context's state go in; a new state, the effects that the script asked for, its output and its result come out.
// Nothing here knows NATS, HTTP, a clock, a file or the environment.
//
// The same input gives the same outcome, byte for byte: time and randomness come from the job, and maps are walked,
// printed and encoded in key order. So a job can be run again later, exactly, from its context's history.
//
// A script never waits. What it asks of the outside world (an HTTP call, a job for another context) is recorded as an
// [Effect] in the order in which it was asked, and carried out by the caller of Run once the outcome is stored.
//
// Scripts are Tengo 2.17, with differences that a script's author should know. Maps are in key order. Ints and floats
// stay apart in JSON: 2 is an int and 2.0 a float, both ways; an int that does not fit into 64 bits becomes a float.
// Arrays, slices and immutable values are copies that share nothing. data is the job's data in the script that runs
// (not in those that it imports), print writes a line to the output, and secret("name") stands for a secret that the
// script never sees. What import offers is fixed: context, job, http, flow, log, stripe and openapi are Thence's; text,
// math, json, times, rand, fmt, base64, hex and enum are Tengo's, without what would reach outside the job; and the
// library's scripts import each other by name. An imported script is evaluated once, before the script that imports it.
//
// Start with [NewLibrary], hand the library to [NewEngine], and call [Engine.Run] for each job. Values cross this
// package's border as JSON bytes, so that a [Runner] may as well sit in another process.
package scripting

import (
	"context"
	"time"
)

// A Runner runs scripts. [Engine] runs them in this process.
type Runner interface {
	// Run runs one script to its end, and returns its outcome, or an *[Error] that says what is wrong with the script,
	// or ctx's error when ctx ended first. With an *Error the outcome may be there too; it then has nothing but what
	// the script printed before it failed. Run is safe for concurrent use. in is not kept.
	Run(ctx context.Context, in Input) (*Outcome, error)
}

// A Script names what to run.
type Script struct {
	Name   string // a script of the library; with Source, the name that its errors show
	Source string // Tengo source that came with the job; empty: the library's script called Name
}

// Input is all that a run depends on.
type Input struct {
	Script Script
	Job    Job
	State  []byte // the context's state, a JSON object; empty: {}
	Limits Limits // zero fields take the defaults

	Library *Library // whose scripts can be named and imported; nil: the Runner's own

	Measure bool // Outcome.Usage is wanted
}

// Job is what a script can learn about its job, by import("job").
type Job struct {
	ID       string
	Sequence uint64 // the job's place in its stream; ids of calls and dispatched jobs are "<sequence>-<index>"
	Worker   string // the pool's name
	Context  string
	Caller   string
	Parent   string    // id of the job that asked for this one, if any
	Time     time.Time // when the stream took the job; the script's only clock
	Data     []byte    // JSON; empty: undefined
	Response []byte    // JSON; set when the job is a call's answer
	Failure  []byte    // JSON; set when the job is a call's failure
	Tag      []byte    // JSON; what the call was tagged with

	Operation string // set when the job is what came of a call: the call's Operation
	Calls     []byte // JSON; the context's open calls, in the order of their ids: [{"id": ..., "operation": ..., "tag": ..., "due": ...}]; empty: none
}

// Limits bound one run.
type Limits struct {
	Time    time.Duration // compiling and running, of the CPU in a sandbox and by the clock in an Engine; default 1s
	Allocs  int64         // objects that the script may make; default 2,000,000
	Source  int           // bytes of source; default 64 KiB
	State   int           // bytes of state as JSON; default 256 KiB
	Output  int           // bytes of output, cut beyond that; default 64 KiB
	Effects int           // how many effects; default 1,000
	Outbox  int           // bytes of all effects together (bodies, data, headers); default 384 KiB
	Result  int           // bytes of the result as JSON; default 64 KiB
}

// Outcome is what a script that ran to its end leaves behind.
type Outcome struct {
	State     []byte // JSON object, keys in order; never nil
	Result    []byte // JSON, what the script gave to job.result; nil when it gave nothing
	Output    string // what it printed and logged
	OutputCut bool   // Output was cut at Limits.Output
	Effects   []Effect
	Cancelled []string // ids of Job.Calls that are to be closed; a call that this run asked for says so itself

	Usage *Usage // with Input.Measure only, and then of runs that failed as well; their State is 0
}

// Usage is what a run took of its limits: counts and bytes as [Limits] has them. Time and Memory were measured, and are
// not the same for the same input.
type Usage struct {
	Time    time.Duration
	Memory  int64 // bytes on the heap, dead ones included, the most that was seen; 0 when unknown, as in an Engine
	Allocs  int64
	Source  int
	State   int
	Output  int
	Effects int
	Outbox  int
	Result  int
}

// Effect is one thing that a script asked for. Exactly one field is set.
type Effect struct {
	Call     *Call
	Dispatch *Dispatch
}

// Call is an HTTP request to be made after the outcome is stored; or a timer, whose URL is "timer:" and the time at which it
// is due (RFC 3339), and whose Body is the data of the job that it brings.
type Call struct {
	ID             string // "<job sequence>-<index of the effect>", as the script saw it
	Operation      string // "create_payment_intent" for an API's operation; empty for a plain HTTP call
	Method         string // upper case
	URL            string // absolute, http or https, with the query; of a timer or a part of a stored body its own
	Header         []Header
	Body           []byte
	Timeout        time.Duration // for one try; zero: the service's default
	IdempotencyKey string        // the script's own; empty: made by the performer
	Then           string        // script that takes the answer; empty: none
	Catch          string        // script that takes the failure; empty: none
	Tag            []byte        // JSON; nil: none
	Cancelled      bool          // the script took it back: it is not to be made; it keeps its place, as later ids count on it
}

// Header is one line of a request's header. With Secret the line's value is Value (a prefix such as "Bearer ") followed
// by the secret of that name, put in where the request is sent.
type Header struct {
	Name   string `json:"name"`
	Value  string `json:"value,omitempty"`
	Secret string `json:"secret,omitempty"`
}

// Dispatch is a job for this or another context.
type Dispatch struct {
	ID      string // "<job sequence>-<index of the effect>", as the script saw it
	Worker  string // pool; empty: this one
	Context string // empty: this one
	Script  string // library script; empty with Source
	Source  string
	Data    []byte // JSON; nil: undefined
}
