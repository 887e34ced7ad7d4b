package simulation

import (
	"encoding/json"
	"slices"
	"time"
)

// Program is what a simulated job does. A caller sends it as the job's data, so that the oracle knows what has to come
// of it without running anything.
type Program struct {
	Steps []Step `json:"steps,omitempty"`
	Fails bool   `json:"fails,omitempty"` // the script fails once it has asked for its steps
	Kills int    `json:"kills,omitempty"` // so many times its worker dies of it

	Cancels bool `json:"cancels,omitempty"` // it closes every call that the context waits for when it begins
}

// Step is one effect: a job for the context To or, where that is empty, a call, or a timer where it says so.
type Step struct {
	To    string   `json:"to,omitempty"`
	Run   *Program `json:"run,omitempty"`   // of a job
	Then  *Program `json:"then,omitempty"`  // of a call: what the job does that takes its answer
	Catch *Program `json:"catch,omitempty"` // of a call: the same for its failure; nil: nothing takes it

	Cancelled bool `json:"cancelled,omitempty"` // of a call: the job takes it back itself

	After time.Duration `json:"after,omitempty"` // of a timer, which is a call to the service that has the clock: when it is due
}

// Order is the data of a job: what to do, and how many jobs the context had done that asked for it.
type Order struct {
	Program Program `json:"program"`
	After   int     `json:"after"`
}

// Tag is what a call carries to its answer.
type Tag struct {
	Then  *Program `json:"then,omitempty"`
	Catch *Program `json:"catch,omitempty"`
}

// State is a context's state: the sequences of the jobs that it has done, in the order in which it did them, and the
// release that each ran on.
type State struct {
	Ran []uint64 `json:"ran"`
	On  []string `json:"on"`
}

// Scripts that the programs run under.
const (
	Plain   = "plain"   // of jobs
	Brittle = "brittle" // of jobs that fail, and hold their context where the history has that
	Then    = "then"    // of answers
	Catch   = "catch"   // of failures
)

// Service is the API that calls go to, and APIBase the URL of it.
const (
	Service = "api"
	APIBase = "https://api.example.com"
)

// Script is the one that a program runs under, as a job.
func (p *Program) Script() string {
	if p.Fails {
		return Brittle
	}
	return Plain
}

// same tells whether two programs do the same.
func (p *Program) same(q *Program) bool {
	if p == nil || q == nil {
		return p == q
	}
	return p.Fails == q.Fails && p.Kills == q.Kills && p.Cancels == q.Cancels && slices.EqualFunc(p.Steps, q.Steps, func(a, b Step) bool {
		return a.To == b.To && a.Cancelled == b.Cancelled && a.After == b.After && a.Run.same(b.Run) && a.Then.same(b.Then) && a.Catch.same(b.Catch)
	})
}

// encode encodes what is always encodable.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("simulation: " + err.Error())
	}
	return b
}
