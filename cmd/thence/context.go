package main

import (
	"context"
	"encoding/json"
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
		Short: "Look at contexts",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.contextGet(), a.contextHistory())
	return cmd
}

func (a *app) contextGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get POOL.CONTEXT",
		Short:   "Print a context's state, open calls and last job",
		Example: `  thence context get payments.cus_42`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContext(args[0], func(p *stream.Pool, at job.Address) error {
				entry, err := p.Context(cmd.Context(), at.Context)
				if err != nil {
					return orNoPool(cmd.Context(), p, err)
				}
				if entry.Data == nil {
					return fmt.Errorf("context %s has no commit: no job of it has taken effect yet", at)
				}
				c, err := job.DecodeCommit(entry.Data)
				if err != nil {
					return err
				}
				return a.printContext(at, entry, c)
			})
		},
	}
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
			Calls    map[string]job.OpenCall `json:"open_calls,omitempty"`
			Last     job.Report              `json:"last_job"`
		}{at.String(), entry.Revision, entry.Time, c.State, c.Calls, c.Report})
	}
	a.printf("%s at revision %d, %s\n\nstate:\n", at, entry.Revision, entry.Time.UTC().Format(time.RFC3339))
	if err := a.printJSON(c.State); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(c.Calls)) {
		call := c.Calls[id]
		a.printf("\nopen call %s to %s\n", plain(id), plain(strings.TrimSpace(fmt.Sprintf("%s %s, then %s, catch %s",
			call.Service, orDash(call.Operation), orDash(call.Then), orDash(call.Catch)))))
	}
	a.printf("\nlast job:\n")
	return a.table(jobColumns, [][]string{line(entry, c)})
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
		if c.Tries != nil {
			continue // the job before it, while the next is under suspicion
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

// line is a commit in one line of a table.
func line(e stream.Entry, c job.Commit) []string {
	r := c.Report
	outcome := r.Outcome
	if r.Error != nil {
		outcome += ": " + r.Error.Reason
	}
	return []string{
		e.Time.UTC().Format("2006-01-02T15:04:05.000Z"), r.Job, orDash(r.Caller), orDash(r.Script), outcome,
		fmt.Sprintf("%.1fms", r.Took), orDash(strings.Join(askedFor(c), ", ")),
	}
}

// askedFor names what a job's outbox holds.
func askedFor(c job.Commit) []string {
	var asked []string
	for i, e := range c.Outbox {
		switch {
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
