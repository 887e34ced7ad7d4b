package sandbox

import (
	"container/list"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

// task is one call of Run. Its fields below the first blank line belong to the sandbox's lock, but for the result, which
// Run may read once done is closed.
type task struct {
	in     scripting.Input
	key    string // of the script: see keyOf
	input  *[]byte
	size   int // of the input
	queued time.Time
	done   chan struct{}

	conduct *conduct // of the script; nil before submit, and once the task is over
	line    *line    // where it waits; nil when it does not
	place   *list.Element
	reads   *process      // the child whose answers its caller reads; nil if others do
	number  uint64        // in the child that it was sent to
	deaths  int           // of children in which it was
	solo    bool          // it runs alone from now on
	waited  time.Duration // for its turns
	spent   time.Duration // CPU time of its runs, as the parent saw it
	left    bool          // Run has returned
	over    bool
	outcome *scripting.Outcome
	err     error
}

var inputs = sync.Pool{New: func() any { return new([]byte) }}

// inputRoom is what a frame needs beside a task's input.
const inputRoom = 64

func (s *Sandbox) newTask(in scripting.Input) (*task, error) {
	in.Limits = in.Limits.WithDefaults()
	if in.Library == nil {
		in.Library = s.own()
	}
	if n := len(in.Script.Source); n > in.Limits.Source {
		return nil, &scripting.Error{Kind: scripting.KindLimit, Script: shown(in.Script),
			Message: fmt.Sprintf("the source has %d bytes, more than the limit of %d", n, in.Limits.Source)}
	}
	t := &task{in: in, queued: time.Now(), done: make(chan struct{}), key: keyOf(in)}
	t.input = inputs.Get().(*[]byte)
	*t.input = wire.AppendInput((*t.input)[:0], &in)
	t.size = len(*t.input)
	if n := t.size + inputRoom; n > wire.MaxFrame {
		t.release()
		return nil, &scripting.Error{Kind: scripting.KindLimit, Script: shown(in.Script),
			Message: fmt.Sprintf("the job's data and the context's state have %d bytes together, more than the limit of %d", n, wire.MaxFrame)}
	}
	return t, nil
}

// keyOf tells scripts apart by what they are. A script that a new release mends has a key of its own, and does not answer
// for what the broken one did; one that is the same in both has one key.
func keyOf(in scripting.Input) string {
	if in.Script.Source == "" {
		return "library " + in.Script.Name + " " + in.Library.Content(in.Script.Name)
	}
	sum := sha256.Sum256([]byte(in.Script.Source))
	return string(sum[:])
}

// release gives the task's buffer back, once the task has left the sandbox.
func (t *task) release() {
	if cap(*t.input) <= 256<<10 {
		inputs.Put(t.input)
	}
}

// context is the context of a task's job, whose name nobody can take who may not publish there.
func (t *task) context() string { return t.in.Job.Worker + "." + t.in.Job.Context }

// owner is to whom the records of its script belong.
func (t *task) owner() string {
	if t.in.Script.Source == "" {
		return ofLibrary
	}
	return t.context()
}

// finish ends a task, once.
func (s *Sandbox) finish(t *task, out *scripting.Outcome, err error) {
	if t.over {
		return
	}
	t.over, t.outcome, t.err = true, out, err
	s.forget(t)
	close(t.done)
}

// forget gives back what is kept for a task that is over.
func (s *Sandbox) forget(t *task) {
	if t.conduct != nil {
		s.recordsOf(t).release(t.conduct)
		t.conduct = nil
	}
}
