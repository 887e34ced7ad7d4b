package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/operator"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
)

func (a *app) dead() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "Look at dead letters (what could not run, and why), retry and drop them",
		Example: `  thence dead list payments --reason runtime
  thence dead show payments.cus_42.1764000000000017
  thence dead retry payments.cus_42.1764000000000017
  thence dead retry payments --script checkout --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.deadList(), a.deadShow(), a.deadRetry(), a.deadEdit(), a.deadDrop())
	return cmd
}

func (a *app) deadList() *cobra.Command {
	var which filterFlags
	var count bool
	cmd := &cobra.Command{
		Use:   "list POOL[.CONTEXT]",
		Short: "List dead letters, oldest first",
		Example: `  thence dead list payments
  thence dead list payments --reason runtime --newer 1h
  thence dead list payments --count
  thence dead list payments.cus_42 --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pool, filter, err := which.read(args[0], time.Now())
			if err != nil {
				return err
			}
			a.noteReason(which.reason)
			return a.withOperator(pool, "", func(o *operator.Operator) error {
				if count {
					c, err := o.Count(cmd.Context(), filter)
					if err != nil {
						return err
					}
					return a.printCount(args[0], c)
				}
				return a.listLetters(cmd.Context(), o, filter)
			})
		},
	}
	which.register(cmd.Flags())
	cmd.Flags().BoolVar(&count, "count", false, "count them by reason and script, in place of a list")
	return cmd
}

func (a *app) listLetters(ctx context.Context, o *operator.Operator, f operator.Filter) error {
	letters := []operator.Letter{}
	var broken []string
	for l, err := range o.Letters(ctx, f) {
		if err != nil {
			return err
		}
		if l.Broken != "" {
			broken = append(broken, l.ID)
		}
		letters = append(letters, l)
	}
	if err := a.printLetters(letters); err != nil || len(broken) == 0 {
		return err
	}
	return fmt.Errorf("%d of the letters can't be read: %s. No worker wrote them so; drop them with `thence dead drop`",
		len(broken), strings.Join(broken, ", "))
}

func (a *app) printLetters(letters []operator.Letter) error {
	if a.json {
		return a.printJSON(letters)
	}
	if len(letters) == 0 {
		a.notef("no dead letters\n")
		return nil
	}
	var lines [][]string
	for _, l := range letters {
		reason, why := l.Error.Reason, l.Error.String()
		switch {
		case l.Broken != "":
			reason, why = "(broken)", l.Broken
		case l.Held:
			reason += " (held)"
		}
		lines = append(lines, []string{l.Time.UTC().Format(time.RFC3339), l.ID, orDash(l.Script), reason, brief(why)})
	}
	return a.table([]string{"time", "id", "script", "reason", "error"}, lines)
}

// printCount prints how many letters there are, by reason and script.
func (a *app) printCount(where string, c operator.Count) error {
	if a.json {
		return a.printJSON(countOf(c))
	}
	a.printf("%s", countText(where, c))
	return nil
}

// counted is a count as --json prints it.
type counted struct {
	Total int      `json:"total"`
	Held  int      `json:"held"`
	Kinds []aCount `json:"kinds"`
}

type aCount struct {
	operator.Kind
	Count int `json:"count"`
}

// countOf sorts a count, the largest first.
func countOf(c operator.Count) counted {
	out := counted{Total: c.Total, Held: c.Held, Kinds: []aCount{}}
	for kind, n := range c.Kinds {
		out.Kinds = append(out.Kinds, aCount{kind, n})
	}
	slices.SortFunc(out.Kinds, func(x, y aCount) int {
		return cmp.Or(y.Count-x.Count, strings.Compare(x.Reason, y.Reason), strings.Compare(x.Script, y.Script))
	})
	return out
}

// maxKinds is how many kinds of letter a count for people names.
const maxKinds = 20

func countText(where string, c operator.Count) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s", letters(c.Total), where)
	if c.Held > 0 {
		fmt.Fprintf(&b, ", %d of which hold their context", c.Held)
	}
	b.WriteString("\n")
	for i, k := range countOf(c).Kinds {
		if i == maxKinds {
			fmt.Fprintf(&b, "%8s  and %d other kinds\n", "", len(c.Kinds)-maxKinds)
			break
		}
		fmt.Fprintf(&b, "%8d  %s, script %s\n", k.Count, plain(orDash(k.Reason)), plain(orDash(k.Script)))
	}
	return b.String()
}

func letters(n int) string { return many(n, "dead letter") }

func (a *app) deadShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show POOL.CONTEXT.SEQUENCE",
		Short: "Print a dead letter whole: reason, place in the script, and the original message",
		Example: `  thence dead show payments.cus_42.1764000000000017
  thence dead show payments.cus_42.1764000000000017 --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withLetter(cmd.Context(), args[0], "", func(_ *operator.Operator, l operator.Letter) error { return a.printLetter(l) })
		},
	}
}

// withLetter connects for a command that is about one letter.
func (a *app) withLetter(ctx context.Context, id, by string, fn func(*operator.Operator, operator.Letter) error) error {
	at, _, err := operator.ParseID(id)
	if err != nil {
		return usageError{err}
	}
	return a.withPool(at.Pool, func(p *stream.Pool) error {
		o, l, err := a.letter(ctx, p, id, by)
		if err != nil {
			return err
		}
		return fn(o, l)
	})
}

// letter finds a letter by its id, for somebody who acts.
func (a *app) letter(ctx context.Context, p *stream.Pool, id, by string) (*operator.Operator, operator.Letter, error) {
	o, err := operator.New(p, a.who(by))
	if err != nil {
		return nil, operator.Letter{}, usageError{err}
	}
	l, err := o.Find(ctx, id)
	if err != nil {
		return nil, l, orNoPool(ctx, p, err)
	}
	return o, l, nil
}

// withOperator connects for a command that acts on a pool.
func (a *app) withOperator(pool, by string, fn func(*operator.Operator) error) error {
	return a.withPool(pool, func(p *stream.Pool) error {
		o, err := operator.New(p, a.who(by))
		if err != nil {
			return usageError{err}
		}
		return fn(o)
	})
}

// who is the person who acts, as contexts record it.
func (a *app) who(by string) string {
	if by != "" {
		return by
	}
	host, _ := os.Hostname()
	return userName() + "@" + host
}

func (a *app) printLetter(l operator.Letter) error {
	if l.Broken != "" {
		return fmt.Errorf("dead letter %s can't be read: %s", l.ID, l.Broken)
	}
	if a.json {
		return a.printJSON(l)
	}
	a.printf("dead letter %s\n", plain(l.ID))
	if l.Held {
		a.printf("held        the job has not ended: it holds %s until it is retried or dropped\n", plain(l.Context))
	}
	a.printf("job         %s, caller %s, script %s, release %s\n", plain(l.Job), plain(orDash(l.Caller)), plain(orDash(l.Script)), plain(orDash(l.Release)))
	a.printf("time        %s, on worker %s\n", l.Time.UTC().Format(time.RFC3339Nano), plain(orDash(l.Worker)))
	a.printf("reason      %s\n", plain(l.Error.Reason))
	a.printf("error       %s\n", explain(scriptError(l.Error)))
	if l.Revision > 0 {
		a.printf("state       what it ran on: thence context get %s --revision %d\n", plain(l.Context), l.Revision)
	}
	if c := l.Call; c != nil {
		a.printf("call        to %s, %s, of job %s, tag %s\n", plain(c.Service), plain(orDash(c.Operation)), plain(c.Parent), orDash(compactJSON(c.Tag)))
	}
	m := l.Message
	a.printf("\noriginal message on %s, sequence %d, %s\n", plain(m.Subject), m.Sequence, m.Time.UTC().Format(time.RFC3339Nano))
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		for _, value := range m.Header[name] {
			a.printf("  %s: %s\n", plain(name), plain(value))
		}
	}
	a.printf("\n%s\n", plainText(string(m.Data)))
	if l.Source != "" {
		a.printf("\nthe script that took it, %s:\n\n%s\n", plain(l.Script), plainText(l.Source))
	}
	return nil
}

// scriptError is a dead letter's error in the form that shows the script's line.
func scriptError(e job.Error) scripting.Error {
	out := scripting.Error{Script: e.Script, Line: e.Line, Column: e.Column, Message: e.Message, Code: e.Code}
	for _, f := range e.Trace {
		out.Trace = append(out.Trace, scripting.Frame(f))
	}
	return out
}
