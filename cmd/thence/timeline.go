package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// timeline prints what happens as it happens, one line each. It is safe for concurrent use.
type timeline struct {
	mu     sync.Mutex
	out    io.Writer
	colour bool
	began  time.Time
}

// Colours of a terminal.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	faint  = "2"
)

func newTimeline(out io.Writer, colour bool) *timeline {
	return &timeline{out: out, colour: colour, began: time.Now()}
}

// colour tells whether standard output is a terminal that wants colours (see no-color.org).
func (a *app) colour() bool {
	if v, ok := a.lookupEnv("NO_COLOR"); ok && v != "" {
		return false
	}
	f, ok := a.stdout.(interface{ Fd() uintptr })
	return ok && isatty.IsTerminal(f.Fd())
}

func (t *timeline) paint(colour, s string) string {
	if !t.colour {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

func (t *timeline) print(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintln(t.out, s)
}

func (t *timeline) note(format string, args ...any) {
	t.print(t.paint(faint, fmt.Sprintf(format, args...)))
}

// columns of a line: seconds, context, worker, caller, script, outcome, duration, what it asked for.
const columns = "%7s  %-7s %-9s %-7s %-27s %-9s %8s  %s"

func (t *timeline) head() {
	t.print("\n" + t.paint(faint, fmt.Sprintf(columns, "seconds", "context", "worker", "caller", "script", "outcome", "took", "asked for")))
}

func (t *timeline) event(format string, args ...any) {
	t.print(t.paint(yellow, fmt.Sprintf("%7.2f  *** %s", time.Since(t.began).Seconds(), fmt.Sprintf(format, args...))))
}

// follow prints the commits of a context until one leaves no call open.
func (t *timeline) follow(ctx context.Context, pool *stream.Pool, name string) error {
	var problem error
	err := pool.Watch(ctx, name, func(e stream.Entry) bool {
		if e.Data == nil {
			return true
		}
		var c job.Commit
		if c, problem = job.DecodeCommit(e.Data); problem != nil {
			return false
		}
		t.commit(name, e.Time, c)
		return len(c.Calls) > 0
	})
	if problem != nil {
		return problem
	}
	return err
}

func (t *timeline) commit(name string, at time.Time, c job.Commit) {
	r := c.Report
	asked := strings.Join(askedFor(c), ", ")
	if r.Result != nil {
		asked = strings.TrimPrefix(asked+"; result "+string(r.Result), "; ")
	}
	colour := green
	if r.Outcome != job.OutcomeDone || r.Failed != "" {
		colour = red
	}
	seconds := fmt.Sprintf("%.2f", max(0, at.Sub(t.began).Seconds()))
	line := fmt.Sprintf(columns, seconds, name, r.Worker, r.Caller, r.Script, r.Outcome, fmt.Sprintf("%.1fms", r.Took), asked)
	t.print(t.paint(colour, plain(line)))
}

// operationOf is what an open call of a context asks for; empty when there is no such call.
func operationOf(data []byte, call string) string {
	c, err := job.DecodeCommit(data)
	if err != nil {
		return ""
	}
	return c.Calls[call].Operation
}

// stateOf is a context's state in one line.
func stateOf(data []byte) string {
	c, err := job.DecodeCommit(data)
	if err != nil {
		return err.Error()
	}
	return string(c.State)
}
