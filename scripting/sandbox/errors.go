package sandbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

// Kinds of script errors that only a sandbox has, beside those of package scripting. Like all script errors they are
// final: the script would do the same again.
const (
	KindMemory  scripting.ErrorKind = "memory_limit" // the script needed more than Options.Memory
	KindStack   scripting.ErrorKind = "stack_limit"  // it overran the stack of the process that ran it
	KindCrash   scripting.ErrorKind = "crash"        // it ended the process that ran it in another way
	KindRefused scripting.ErrorKind = "refused"      // it, or others in its context, have ended processes before, and must wait
)

// Errors of Run that say nothing about the script: the job can be run again later.
var (
	// ErrBusy says that too many jobs wait already, most of them in the same context.
	ErrBusy = errors.New("too many scripts wait for a sandbox process: run more workers, or raise sandbox.Options.Queue")
	// ErrInterrupted says that processes ended under the job again and again, and not by its doing.
	ErrInterrupted = errors.New("the sandbox processes that ran the script were ended, and not by the script")
	// ErrClosed says that the sandbox was closed before the script had run.
	ErrClosed = errors.New("the sandbox is closed")
)

var errNoMain = errors.New("scripts cannot run in a sandbox: this program does not call sandbox.Main(); " +
	"call it first thing in main (in a test, in TestMain)")

var errNoParent = errors.New("this is a process of a worker's sandbox, which only a worker can start")

// shown is the name by which errors call a script.
func shown(s scripting.Script) string {
	if s.Name == "" {
		return scripting.InlineName(s.Source)
	}
	return s.Name
}

func memoryLimit(memory int64) *scripting.Error {
	return &scripting.Error{Kind: KindMemory, Message: fmt.Sprintf("the script needed more memory than its limit of "+
		"%d MiB: keep less at a time, or raise the pool's limit", memory>>20)}
}

func timeLimit(limit time.Duration) *scripting.Error {
	return &scripting.Error{Kind: scripting.KindTimeLimit, Message: timeMessage(limit)}
}

func timeMessage(limit time.Duration) string {
	return fmt.Sprintf("the script ran for longer than its time limit of %s%s", limit, ofCPU)
}

// killedMessage is for a script that had to be killed.
func killedMessage(limit time.Duration) string {
	return timeMessage(limit) + ", in one step that cannot be interrupted, and was killed"
}

func engineFailed(s scripting.Script, what string) *scripting.Error {
	return &scripting.Error{Kind: KindCrash, Script: shown(s), Message: "the script engine failed: " + what}
}

func interrupted(deaths int, why death) error {
	return fmt.Errorf("%w (%d times, at last: %s): look at what ends them, and whether the machine has CPU and memory for them", ErrInterrupted, deaths, why.detail)
}

// tooLarge is for an outcome that does not fit into a frame.
func tooLarge(d *wire.Done, err error) *scripting.Error {
	e := &scripting.Error{Kind: scripting.KindLimit, Message: "the script's outcome is too large: " + err.Error()}
	if d.Err != nil {
		e.Kind, e.Script = d.Err.Kind, d.Err.Script
	}
	return e
}

// death is why a child ended.
type death struct {
	kind   scripting.ErrorKind // "" when nobody knows, or nobody is to blame
	says   string              // for the error of a job: never a text of the child's, which may have it of another job
	detail string              // for the log
}

// innocent tells whether no job is to blame.
func (d death) innocent() bool { return d.kind == "" || d.kind == abandoned || d.kind == stalled }

// blame is the error of the job that a child died of.
func (d death) blame(s scripting.Script, o *Options) *scripting.Error {
	e := &scripting.Error{Kind: d.kind, Script: shown(s), Message: d.says}
	switch d.kind {
	case KindMemory:
		e.Message = memoryLimit(o.Memory).Message
	case KindStack:
		e.Message = fmt.Sprintf("the script overran the stack of %d MiB: its calls or its values nest too deeply", maxStack>>20)
	case KindCrash:
		e.Message = "the script ended the process that ran it (" + d.says + "): please report it, with the script"
	}
	return e
}
