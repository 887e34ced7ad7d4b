package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
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
	if term, _ := a.lookupEnv("TERM"); term == "dumb" {
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

// width is what a line of the timeline is made for.
const width = 120

// columns of a line: seconds, context, job, worker, caller, script, outcome, duration, what it asked for. A second line
// begins under the script. A job is shown by the last digits of its sequence, with which the ids of its calls begin.
const (
	columns = "%7s  %-7s %-7s %-8s %-6s %-25s %-7s %7s  %s"
	below   = 7 + 2 + 7 + 1 + 7 + 1 + 8 + 1 + 6 + 1
	asked   = below + 25 + 1 + 7 + 1 + 7 + 2
)

func (t *timeline) head() {
	t.print("\n" + t.paint(faint, fmt.Sprintf(columns, "seconds", "context", "job", "worker", "caller", "script", "outcome", "took", "asked for")))
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
	switch {
	case c.Deed != nil:
		t.event("%s: %s by %s", plain(name), plain(c.Deed.What), plain(c.Deed.By))
		return
	case isMark(c) && c.Held != nil && c.Repeats == 0:
		t.event("%s: held for job %s: %s", plain(name), plain(c.Held.Job), plain(brief(c.Held.Error.String())))
		return
	case isMark(c):
		return // the job before it once more
	}
	colour := green
	if c.Report.Outcome != job.OutcomeDone || c.Report.Failed != "" {
		colour = red
	}
	lines := commitLines(name, fmt.Sprintf("%.2f", max(0, at.Sub(t.began).Seconds())), c)
	for i := range lines {
		lines[i] = t.paint(colour, lines[i])
	}
	t.print(strings.Join(lines, "\n"))
}

// commitLines are a commit in one line, and what came of it below.
func commitLines(name, seconds string, c job.Commit) []string {
	r := c.Report
	lines := []string{plain(strings.TrimRight(fmt.Sprintf(columns, seconds, name, brieflyJob(r.Sequence), r.Worker, r.Caller, r.Script, r.Outcome,
		fmt.Sprintf("%.1fms", r.Took), cut(strings.Join(askedFor(c), ", "), width-asked)), " "))}
	came := ""
	switch {
	case r.Error != nil:
		came = r.Error.Reason + ": " + brief(r.Error.String())
	case r.Result != nil:
		came = "result " + compactJSON(r.Result)
	default:
		return lines
	}
	for _, l := range wrap(came, width-below) {
		lines = append(lines, strings.Repeat(" ", below)+plain(l))
	}
	return lines
}

func brieflyJob(sequence uint64) string { return fmt.Sprintf("…%06d", sequence%1e6) }

// operationOf is what an open call of a context asks for; empty when there is no such call.
func operationOf(data []byte, call string) string {
	c, err := job.DecodeCommit(data)
	if err != nil {
		return ""
	}
	return c.Calls[call].Operation
}

// stateLines are a context's state, a key a line.
func stateLines(data []byte) ([]string, error) {
	c, err := job.DecodeCommit(data)
	if err != nil {
		return nil, err
	}
	var state map[string]json.RawMessage
	if err := json.Unmarshal(c.State, &state); err != nil {
		return nil, fmt.Errorf("the state is no object: %w", err)
	}
	const indent = 24
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(state)) {
		for i, part := range wrap(compactJSON(state[key]), width-indent) {
			label := ""
			if i == 0 {
				label = "  " + plain(key)
			}
			lines = append(lines, fmt.Sprintf("%-*s%s", indent, label, part))
		}
	}
	return lines, nil
}
