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
	key    string // of the script: equal for equal sources
	input  *[]byte
	size   int // of the input
	queued time.Time
	done   chan struct{}

	conduct *conduct // of the script
	line    *line    // where it waits; nil when it does not
	place   *list.Element
	number  uint64 // in the child that it was sent to
	tries   int
	left    bool // Run has returned
	over    bool
	outcome *scripting.Outcome
	err     error
}

var inputs = sync.Pool{New: func() any { return new([]byte) }}

// inputRoom is what a frame needs beside a task's input.
const inputRoom = 64

func newTask(in scripting.Input) (*task, error) {
	in.Limits = in.Limits.WithDefaults()
	if n := len(in.Script.Source); n > in.Limits.Source {
		return nil, &scripting.Error{Kind: scripting.KindLimit, Script: shown(in.Script),
			Message: fmt.Sprintf("the source has %d bytes, more than the limit of %d", n, in.Limits.Source)}
	}
	t := &task{in: in, queued: time.Now(), done: make(chan struct{}), key: "library " + in.Script.Name}
	if in.Script.Source != "" {
		sum := sha256.Sum256([]byte(in.Script.Source))
		t.key = string(sum[:])
	}
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

// release gives the task's buffer back, once the task has left the sandbox.
func (t *task) release() {
	if cap(*t.input) <= 256<<10 {
		inputs.Put(t.input)
	}
}

// finish ends a task, once. The sandbox's lock is held.
func (t *task) finish(out *scripting.Outcome, err error) {
	if !t.over {
		t.over, t.outcome, t.err = true, out, err
		close(t.done)
	}
}
