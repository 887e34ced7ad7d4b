package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

func (a *app) contexts() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "context",
		Short: "Look at contexts, pause and resume them, cancel their calls",
		Example: `  thence context list payments --open
  thence context get payments.cus_42
  thence context watch payments.cus_42
  thence context pause payments.cus_42 --why "wrong price, see INC-7"
  thence context resume payments.cus_42`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.contextGet(), a.contextList(), a.contextHistory(), a.contextWatch(), a.contextPause(), a.contextResume(), a.contextCancel(), a.contextReset())
	return cmd
}

func (a *app) contextGet() *cobra.Command {
	var revision uint64
	cmd := &cobra.Command{
		Use:   "get POOL.CONTEXT",
		Short: "Print a context's state, open calls and last job",
		Example: `  thence context get payments.cus_42
  thence context get payments.cus_42 --revision 1207`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContext(args[0], func(p *stream.Pool, at job.Address) error {
				entry, err := readContext(cmd.Context(), p, at, revision)
				if err != nil {
					return orNoPool(cmd.Context(), p, err)
				}
				c, err := job.DecodeCommit(entry.Data)
				if err != nil {
					return err
				}
				return a.printContext(at, entry, c)
			})
		},
	}
	cmd.Flags().Uint64Var(&revision, "revision", 0, "as it was at this revision, if it is kept still (default: the last)")
	return cmd
}

// readContext reads a context's last commit, or the one of a revision.
func readContext(ctx context.Context, p *stream.Pool, at job.Address, revision uint64) (stream.Entry, error) {
	if revision > 0 {
		entry, err := p.ContextAt(ctx, at.Context, revision)
		if errors.Is(err, stream.ErrNone) || err == nil && entry.Data == nil {
			err = fmt.Errorf("context %s has no revision %d any more: `thence context history %s --json` shows those that are kept", at, revision, at)
		}
		return entry, err
	}
	entry, err := p.Context(ctx, at.Context)
	if err == nil && entry.Data == nil {
		err = fmt.Errorf("context %s has no commit: no job of it has taken effect yet", at)
	}
	return entry, err
}

func (a *app) contextHistory() *cobra.Command {
	return &cobra.Command{
		Use:     "history POOL.CONTEXT",
		Short:   "Print a context's last jobs, oldest first (64 are kept)",
		Example: `  thence context history payments.cus_42`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContext(args[0], func(p *stream.Pool, at job.Address) error {
				entries, err := p.History(cmd.Context(), at.Context)
				if err != nil {
					return err
				}
				return a.printHistory(at, entries)
			})
		},
	}
}

// withContext connects for a command that is about one context.
func (a *app) withContext(arg string, fn func(*stream.Pool, job.Address) error) error {
	at, err := job.ParseAddress(arg)
	if err == nil {
		err = at.Valid()
	}
	if err != nil {
		return usageError{err}
	}
	return a.withPool(at.Pool, func(p *stream.Pool) error { return fn(p, at) })
}

// orNoPool is err, or when the pool does not exist an error that says so.
func orNoPool(ctx context.Context, p *stream.Pool, err error) error {
	if exists, lookErr := p.PoolExists(ctx, p.Name); lookErr != nil || exists {
		return err
	}
	return fmt.Errorf("no worker pool named %s on this server: start one with `thence worker --pool %s`, or make it with `thence init --pool %s`",
		p.Name, p.Name, p.Name)
}

// withPool connects for a command that is about one pool.
func (a *app) withPool(pool string, fn func(*stream.Pool) error) error {
	if err := job.ValidPool(pool); err != nil {
		return usageError{err}
	}
	nc, err := a.connect("cli")
	if err != nil {
		return err
	}
	defer nc.Close()
	p, err := stream.Open(nc, pool)
	if err != nil {
		return err
	}
	return fn(p)
}

func (a *app) printContext(at job.Address, entry stream.Entry, c job.Commit) error {
	if a.json {
		return a.printJSON(struct {
			Context  string                  `json:"context"`
			Revision uint64                  `json:"revision"`
			Time     time.Time               `json:"time"`
			State    json.RawMessage         `json:"state"`
			Held     *job.Held               `json:"held,omitempty"`
			Skip     *job.Skip               `json:"skip,omitempty"`
			Tries    *job.Tries              `json:"tries,omitempty"`
			Deed     *job.Deed               `json:"deed,omitempty"`
			Calls    map[string]job.OpenCall `json:"open_calls,omitempty"`
			Last     job.Report              `json:"last_job"`
		}{at.String(), entry.Revision, entry.Time, c.State, c.Held, c.Skip, c.Tries, c.Deed, c.Calls, c.Report})
	}
	a.printf("%s at revision %d, %s\n", at, entry.Revision, entry.Time.UTC().Format(time.RFC3339))
	for _, l := range standing(at, c) {
		a.printf("%s\n", plain(l))
	}
	a.printf("\nstate:\n")
	if err := a.printJSON(c.State); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(c.Calls)) {
		call := c.Calls[id]
		a.printf("\nopen %s, then %s, catch %s\n", plain(named(id, call)), plain(orDash(call.Then)), plain(orDash(call.Catch)))
	}
	if c.Report.Job == "" {
		a.printf("\nno job of it has taken effect yet\n")
		return nil
	}
	a.printf("\nlast job:\n")
	if isMark(c) || c.Deed != nil {
		entry.Time = c.Report.Started // the revision's time is that of what was done since
	}
	c.Deed, c.Held = nil, nil // so that it is shown as the job's
	return a.table(jobColumns, [][]string{line(entry, c)})
}

// named is what an open call or a timer is called in a sentence.
func named(id string, c job.OpenCall) string {
	if !c.Due.IsZero() {
		return fmt.Sprintf("timer %s, due at %s", id, c.Due.UTC().Format(time.RFC3339))
	}
	return strings.TrimSpace(fmt.Sprintf("call %s to %s %s", id, c.Service, c.Operation))
}

// standing says what a context waits for, and what was done to it last.
func standing(at job.Address, c job.Commit) []string {
	var lines []string
	if h := c.Held; h != nil && h.Sequence != 0 {
		lines = append(lines, fmt.Sprintf("held since %s by worker %s, for its job %s that failed: %s", h.Since.UTC().Format(time.RFC3339), h.By, h.Job, brief(h.Error.String())),
			fmt.Sprintf("  thence dead show %s.%d", at, h.Sequence))
	} else if h != nil {
		lines = append(lines, fmt.Sprintf("held since %s by %s: %s", h.Since.UTC().Format(time.RFC3339), h.By, orDash(h.Why)),
			fmt.Sprintf("  thence context resume %s", at))
	}
	if s := c.Skip; s != nil {
		lines = append(lines, fmt.Sprintf("job %d is to end unrun: it was dropped", s.Sequence))
	}
	if t := c.Tries; t != nil {
		lines = append(lines, fmt.Sprintf("job %d was begun %d times by workers that did not come back", t.Sequence, t.Count))
	}
	if d := c.Deed; d != nil {
		lines = append(lines, fmt.Sprintf("%s by %s at %s", d.What, d.By, d.Time.UTC().Format(time.RFC3339)))
	}
	return lines
}

// jobColumns are those of line.
var jobColumns = []string{"time", "job", "caller", "script", "outcome", "took", "asked for"}

// revision is a commit with its place in the bucket.
type revision struct {
	Revision uint64    `json:"revision"`
	Time     time.Time `json:"time"`
	job.Commit
}

func (a *app) printHistory(at job.Address, entries []stream.Entry) error {
	revisions := []revision{}
	var lines [][]string
	for _, e := range entries {
		if e.Data == nil {
			continue
		}
		c, err := job.DecodeCommit(e.Data)
		if err != nil {
			return err
		}
		if repeats(c) {
			continue
		}
		revisions = append(revisions, revision{e.Revision, e.Time, c})
		lines = append(lines, line(e, c))
	}
	if a.json {
		return a.printJSON(revisions)
	}
	if len(lines) == 0 {
		a.notef("no job of %s has taken effect yet\n", at)
		return nil
	}
	return a.table(jobColumns, lines)
}

// isMark tells whether a commit is a worker's that ends no job: it counts tries, holds the context for a job that failed, or
// says once more what was read. All the rest is then as the job before left it.
func isMark(c job.Commit) bool {
	return c.Tries != nil || c.Repeats != 0 || c.Held != nil && c.Held.Sequence != 0
}

// repeats tells whether a commit shows nothing that the one before it does not: it is the job before it, while the next is under
// suspicion, or was written again by a worker that had only read it.
func repeats(c job.Commit) bool { return c.Deed == nil && (c.Tries != nil || c.Repeats != 0) }

// wakes tells a job that runs nothing, and has workers look at the context: an operator's acts end with one.
func wakes(r job.Report) bool { return r.Outcome == job.OutcomeDone && r.Script == "" && r.Call == "" }

// line is a commit in one line of a table: a job, an operator's deed, or a job that holds its context.
func line(e stream.Entry, c job.Commit) []string {
	at := e.Time.UTC().Format("2006-01-02T15:04:05.000Z")
	if d := c.Deed; d != nil {
		why := ""
		if c.Held != nil {
			why = c.Held.Why
		}
		if len(d.Calls) > 0 {
			why = "call " + strings.Join(d.Calls, ", ")
		}
		return []string{at, "-", d.By, "-", "(" + d.What + ")", "-", orDash(why)}
	}
	if h := c.Held; h != nil && h.Sequence != 0 {
		return []string{at, h.Job, h.By, orDash(h.Error.Script), "held: " + h.Error.Reason, "-", "-"}
	}
	r := c.Report
	outcome := r.Outcome
	if r.Error != nil {
		outcome += ": " + r.Error.Reason
	}
	if wakes(r) {
		outcome = "(wake)"
	}
	return []string{
		at, r.Job, orDash(r.Caller), orDash(r.Script), outcome, fmt.Sprintf("%.1fms", r.Took), orDash(strings.Join(askedFor(c), ", ")),
	}
}

// askedFor names what a job's outbox holds.
func askedFor(c job.Commit) []string {
	var asked []string
	for i, e := range c.Outbox {
		switch {
		case e.Cancelled: // it stands among the cancelled ones
		case e.Request != nil:
			name := c.Calls[job.EffectID(c.Applied, i)].Operation
			if name == "" {
				name = e.Request.Method + " " + e.Request.URL
			}
			asked = append(asked, name)
		case e.Job != nil && e.Job.Script != "":
			asked = append(asked, "job "+e.Job.Script+" for "+e.Job.To)
		case e.Job != nil:
			asked = append(asked, "job for "+e.Job.To)
		}
	}
	if ids := c.Report.Cancelled; len(ids) > 0 {
		asked = append(asked, "cancel "+strings.Join(ids, " "))
	}
	return asked
}

// table prints aligned columns.
func (a *app) table(head []string, lines [][]string) error {
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	for _, l := range slices.Concat([][]string{upper(head)}, lines) {
		for i, cell := range l {
			l[i] = plain(cell)
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(strings.Join(l, "\t"), "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

func upper(head []string) []string {
	up := make([]string, len(head))
	for i, h := range head {
		up[i] = strings.ToUpper(h)
	}
	return up
}
