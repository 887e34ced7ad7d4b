package sandbox

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

// endTime is how long a child may take to end by itself after its last word.
const endTime = 200 * time.Millisecond

// ending is how a child ended.
type ending struct {
	lost   error // what the listener met
	status syscall.WaitStatus
	killed bool   // by end, since it did not end by itself
	text   string // what the child wrote to its standard error: what the Go runtime had to say
}

// end waits for a child of which nothing more is wanted, and returns how it ended. A child that gives up says why, so it
// gets a moment for that; then it is killed. What is left in the pipe of its answers is nobody's: it is not looked at.
func (p *process) end(lost error) ending {
	var late atomic.Bool
	timer := time.AfterFunc(endTime, func() {
		late.Store(true)
		_ = p.proc.Kill()
	})
	defer timer.Stop()
	_ = p.err.SetReadDeadline(time.Now().Add(2 * endTime))
	e := ending{lost: lost, text: p.words()}
	if state, err := p.proc.Wait(); err == nil {
		e.status, _ = state.Sys().(syscall.WaitStatus)
	}
	e.killed = late.Load()
	return e
}

// lastWords reads what a child says at its end, and waits for that: before its end it has nothing to say.
func (p *process) lastWords() string {
	const most = 64 << 10
	text, _ := io.ReadAll(io.LimitReader(p.err, most))
	return string(text)
}

// note is the line in which the child says why it ended, for the log.
func (e ending) note() string {
	for line := range strings.Lines(e.text) {
		for _, start := range []string{"fatal error: ", "panic: ", "runtime: ", childName + ": "} {
			if strings.HasPrefix(line, start) {
				return strings.ToValidUTF8(strings.TrimSpace(line), "")
			}
		}
	}
	return ""
}

// runtimeText is what the Go runtime has said of its own: a panic's value may hold anything, and what follows it too.
func (e ending) runtimeText() (text string, panicked bool) {
	if strings.HasPrefix(e.text, "panic: ") {
		return "", true
	}
	text, _, panicked = strings.Cut(e.text, "\npanic: ")
	return text, panicked
}

// cause tells why a child ended. A death without a kind is nobody's fault: the child was killed from outside, as by an
// operator, or by a kernel that is out of memory.
func (e ending) cause() death {
	text, panicked := e.runtimeText()
	has := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(text, t) })
	}
	d := death{kind: KindCrash, detail: e.note()}
	switch {
	case has("stack exceeds", "stack overflow"):
		d.kind = KindStack
	case has("out of memory", "cannot allocate memory", "failed to create new OS thread", "newosproc", "pthread_create failed",
		"ThreadSanitizer failed to allocate"): // the last in a program built with -race
		d.kind = KindMemory
	case panicked:
		d.says = "a panic in the engine, outside of the script"
	case has("fatal error: "):
		d.says = "a fatal error of the Go runtime"
	case e.killed && errors.Is(e.lost, wire.ErrFormat):
		d.says = wire.ErrFormat.Error()
	case e.killed:
		d.says = "it closed its pipe"
	case e.status.Signaled() && e.status.Signal() == syscall.SIGKILL:
		d.kind, d.detail = "", "killed from outside"
	case e.status.Signaled():
		d.says = "signal: " + e.status.Signal().String()
	default:
		d.says = fmt.Sprintf("exit status %d", e.status.ExitStatus())
	}
	if d.detail == "" {
		d.detail = fmt.Sprintf("%s; %v", d.says, e.lost)
	}
	return d
}
