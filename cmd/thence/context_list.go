package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

type listFlags struct {
	held, open bool
	limit      int
}

func (a *app) contextList() *cobra.Command {
	var flags listFlags
	cmd := &cobra.Command{
		Use:   "list POOL",
		Short: "List a pool's contexts, those that changed last at the end",
		Example: `  thence context list payments
  thence context list payments --held
  thence context list payments --open --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags.limit < 1 {
				return usageError{fmt.Errorf("--limit %d: want 1 or more", flags.limit)}
			}
			return a.withPool(args[0], func(p *stream.Pool) error { return a.runContextList(cmd.Context(), p, flags) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&flags.held, "held", false, "only those that wait for an operator")
	f.BoolVar(&flags.open, "open", false, "only those with open calls")
	f.IntVar(&flags.limit, "limit", 100, "the most that are shown, those that changed last")
	return cmd
}

// listed is a context in a list.
type listed struct {
	Context  string    `json:"context"`
	Revision uint64    `json:"revision"`
	Time     time.Time `json:"time"`
	Script   string    `json:"script,omitempty"` // of the last job
	Outcome  string    `json:"outcome,omitempty"`
	Calls    int       `json:"open_calls"`
	Held     *job.Held `json:"held,omitempty"`
}

func (a *app) runContextList(ctx context.Context, p *stream.Pool, flags listFlags) error {
	found := []listed{}
	more := false
	var broken error
	err := p.Contexts(ctx, func(name string, e stream.Entry) bool {
		if e.Data == nil {
			return true
		}
		c, err := job.DecodeCommit(e.Data)
		if err != nil {
			broken = fmt.Errorf("context %s.%s: %w", p.Name, name, err)
			return false
		}
		if flags.held && c.Held == nil || flags.open && len(c.Calls) == 0 {
			return true
		}
		if len(found) == flags.limit {
			found, more = found[1:], true
		}
		found = append(found, listed{p.Name + "." + name, e.Revision, e.Time, c.Report.Script, c.Report.Outcome, len(c.Calls), c.Held})
		return true
	})
	if err := errors.Join(err, broken); err != nil {
		return err
	}
	return a.printContexts(p.Name, found, more)
}

func (a *app) printContexts(pool string, found []listed, more bool) error {
	if a.json {
		return a.printJSON(found)
	}
	if len(found) == 0 {
		a.notef("no context of pool %s is so\n", pool)
		return nil
	}
	lines := make([][]string, len(found))
	for i, c := range found {
		held := ""
		if c.Held != nil {
			held = "since " + c.Held.Since.UTC().Format(time.RFC3339) + " by " + c.Held.By
		}
		lines[i] = []string{
			c.Context, c.Time.UTC().Format(time.RFC3339), orDash(c.Script), orDash(c.Outcome), fmt.Sprint(c.Calls), orDash(held),
		}
	}
	if more {
		a.notef("there are more; these are the %d that changed last, see --limit\n", len(found))
	}
	return a.table([]string{"context", "changed", "last script", "outcome", "open calls", "held"}, lines)
}

func (a *app) contextWatch() *cobra.Command {
	var history bool
	var count int
	cmd := &cobra.Command{
		Use:   "watch POOL.CONTEXT",
		Short: "Print a context's jobs as they end, until interrupted",
		Long: `Print a context's jobs as they end, and what operators do to it, one line each; with --json one JSON object a line, as context history
has them. It ends when it is interrupted, or after --count lines.`,
		Example: `  thence context watch payments.cus_42
  thence context watch payments.cus_42 --history --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContext(args[0], func(p *stream.Pool, at job.Address) error {
				return a.runContextWatch(cmd.Context(), p, at, history, count)
			})
		},
	}
	cmd.Flags().BoolVar(&history, "history", false, "begin with the jobs that are kept")
	cmd.Flags().IntVar(&count, "count", 0, "end after so many lines; 0: never")
	return cmd
}

// runContextWatch prints from the history on, or from what comes after it.
func (a *app) runContextWatch(ctx context.Context, p *stream.Pool, at job.Address, show bool, count int) error {
	var broken error
	printed := 0
	err := p.Watch(ctx, at.Context, func(e stream.Entry) bool {
		if e.Revision == 0 { // what follows is new
			show = true
			return true
		}
		if !show || e.Data == nil {
			return true
		}
		var c job.Commit
		if c, broken = job.DecodeCommit(e.Data); broken != nil {
			return false
		}
		if repeats(c) {
			return true
		}
		broken = a.printRevision(e, c)
		printed++
		return broken == nil && printed != count
	})
	if errors.Is(err, context.Canceled) {
		err = nil // that is how it ends
	}
	return errors.Join(err, broken)
}

// printRevision prints a commit in one line.
func (a *app) printRevision(e stream.Entry, c job.Commit) error {
	if !a.json {
		a.printf("%s\n", plain(strings.Join(line(e, c), "  ")))
		return nil
	}
	encoded, err := job.Encode(revision{e.Revision, e.Time, c})
	if err != nil {
		return err
	}
	a.printf("%s\n", compactJSON(encoded))
	return nil
}
