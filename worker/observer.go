package worker

import (
	"time"

	"github.com/thence-dev/thence/scripting/sandbox"
	"github.com/thence-dev/thence/worker/calls"
)

// Observer hears of what a worker does, as it happens: for metrics. Its methods are called by many goroutines, on the
// way of the work, and must not block.
type Observer interface {
	// JobEnded says that a job's commit is stored. The outcome is done, dead, duplicate or late, the reason a dead
	// letter's and else empty. The job waited from when it was published until it was begun, and took the rest.
	JobEnded(outcome, reason string, waited, took time.Duration)

	// CommitTried says what became of a write to a context: stored; conflict, when another worker was first; or unknown,
	// when it was refused or not answered, and the context is read again.
	CommitTried(result string)

	// OutboxWaits says that effects could not be published at once, and that a context waits for them. ended is called
	// when it does no longer.
	OutboxWaits() (ended func())

	calls.Observer
}

// What CommitTried tells.
const (
	commitStored   = "stored"
	commitConflict = "conflict"
	commitUnknown  = "unknown"
)

// silent is the Observer of a worker that nobody observes.
type silent struct{ calls.Unobserved }

func (silent) JobEnded(string, string, time.Duration, time.Duration) {}
func (silent) CommitTried(string)                                    {}
func (silent) OutboxWaits() func()                                   { return func() {} }

// Sandbox tells what the sandbox that Run started has done. ok is false while there is none: before the worker is
// ready, and where the program brought a Runner of its own.
func (w *Worker) Sandbox() (s sandbox.Stats, ok bool) {
	select {
	case <-w.ready:
	default:
		return s, false
	}
	box, ok := w.config.Runner.(*sandbox.Sandbox)
	if !ok {
		return s, false
	}
	return box.Stats(), true
}
