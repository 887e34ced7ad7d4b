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
	KindRefused scripting.ErrorKind = "refused"      // it, or its caller, has ended processes before, and must wait
)

// Errors of Run that say nothing about the script: the job can be run again later.
var (
	// ErrBusy says that too many jobs wait already, most of them of the same caller.
	ErrBusy = errors.New("too many scripts wait for a sandbox process: run more workers, or raise sandbox.Options.Queue")
	// ErrClosed says that the sandbox was closed before the script had run.
	ErrClosed = errors.New("the sandbox is closed")
)

var errNoMain = errors.New("scripts cannot run in a sandbox: this program does not call sandbox.Main(); " +
	"call it first thing in main (in a test, in TestMain)")

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

func engineFailed(s scripting.Script, what string) *scripting.Error {
	return &scripting.Error{Kind: KindCrash, Script: shown(s), Message: "the script engine failed: " + what}
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
	detail string              // for the log, and for a crash's message
}

// blame is the error of the job that was running when a child died.
func (d death) blame(s scripting.Script, o *Options, limit time.Duration) *scripting.Error {
	e := &scripting.Error{Kind: d.kind, Script: shown(s)}
	switch d.kind {
	case KindMemory:
		e.Message = memoryLimit(o.Memory).Message
	case KindStack:
		e.Message = fmt.Sprintf("the script overran the stack of %d MiB: its calls or its values nest too deeply", maxStack>>20)
	case scripting.KindTimeLimit:
		e.Message = fmt.Sprintf("the script ran for longer than its time limit of %s, in one step that cannot be "+
			"interrupted, and was killed", limit)
	default:
		e.Kind = KindCrash
		e.Message = "the script ended the process that ran it (" + d.detail + "): please report it, with the script"
	}
	return e
}
