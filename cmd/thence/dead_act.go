package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/operator"
	"github.com/thence-dev/thence/internal/stream"
)

// actFlags are those of a command that does the same to many letters.
type actFlags struct {
	which       filterFlags
	all, dryRun bool
	yes         bool
	rate        int
	by          string
}

// act is such a command.
type act struct {
	verb string // in the infinitive
	flag actFlags
	do   func(*operator.Operator, context.Context, operator.Letter) (operator.Result, error)
	try  func(*operator.Operator, context.Context, operator.Letter) error // says what do would refuse; nil: nothing
}

func (a *app) deadRetry() *cobra.Command {
	c := &act{verb: "retry", do: (*operator.Operator).Retry, try: func(o *operator.Operator, ctx context.Context, l operator.Letter) error {
		return o.CheckRetry(ctx, l, nil)
	}}
	return a.actCommand(c, &cobra.Command{
		Short: "Run dead letters again",
		Long: `Run dead letters again: by their ids, or all of a pool or a context that the flags name.

A letter becomes a new job at the end of its context's line, with the old job as its parent, no deadline, and the scripts as they
are now; then the letter is removed. An answer is told to its script again. A letter that holds its context lets it go on, and its
job runs first, in its place. When a retry is cut off, run it again: a letter whose job is on the stream already is recognised,
as any caller's repeat is.`,
		Example: `  thence dead retry payments.cus_42.1764000000000017
  thence dead retry payments --script checkout --reason runtime --dry-run
  thence dead retry payments --newer 1h --rate 10 --yes
  thence dead retry payments.cus_42 --all`,
	})
}

func (a *app) deadDrop() *cobra.Command {
	c := &act{verb: "drop", do: (*operator.Operator).Drop}
	return a.actCommand(c, &cobra.Command{
		Short: "Remove dead letters",
		Long: `Remove dead letters: by their ids, or all of a pool or a context that the flags name. A letter is a copy; its job's report stays in
the context's history.

A letter that holds its context lets it go on without its job: a worker ends the job unrun, with the error it had, and its letter
stays as one that holds nothing. Drop that one too when it is not needed.`,
		Example: `  thence dead drop payments.cus_42.1764000000000017
  thence dead drop payments --older 720h --dry-run
  thence dead drop payments --reason deadline --yes`,
	})
}

func (a *app) actCommand(c *act, cmd *cobra.Command) *cobra.Command {
	cmd.Use = c.verb + " POOL.CONTEXT.SEQUENCE... | POOL[.CONTEXT]"
	cmd.Args = cobra.MinimumNArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if c.flag.rate < 1 || c.flag.rate > 100_000 {
			return usageError{fmt.Errorf("--rate %d: want 1 to 100000 a second", c.flag.rate)}
		}
		if _, _, err := operator.ParseID(args[0]); err == nil {
			return a.actOnIDs(cmd.Context(), c, args)
		}
		if len(args) > 1 {
			return usageError{fmt.Errorf("%q: want ids, as `thence dead list` prints them, or one POOL[.CONTEXT]", args[0])}
		}
		return a.actOnMany(cmd.Context(), c, args[0])
	}
	f := cmd.Flags()
	c.flag.which.register(f)
	f.BoolVar(&c.flag.all, "all", false, "all letters of the pool or the context")
	f.BoolVar(&c.flag.dryRun, "dry-run", false, "count them by reason and script, name those that would be refused, and do nothing")
	f.BoolVarP(&c.flag.yes, "yes", "y", false, "don't ask")
	f.IntVar(&c.flag.rate, "rate", 100, "at most so many a second")
	f.StringVar(&c.flag.by, "by", "", "who acts, as contexts record it (default: user@host)")
	return cmd
}

// actOnIDs does it to the letters that are named, pool by pool, at the rate that was asked for.
func (a *app) actOnIDs(ctx context.Context, c *act, ids []string) error {
	if c.flag.all || c.flag.which != (filterFlags{}) {
		return usageError{fmt.Errorf("ids and filters: want one of them; with filters give POOL[.CONTEXT] (%q is an id)", ids[0])}
	}
	var pools []string
	of := map[string][]string{}
	for _, id := range ids {
		at, _, err := operator.ParseID(id)
		if err != nil {
			return usageError{err}
		}
		if of[at.Pool] == nil {
			pools = append(pools, at.Pool)
		}
		of[at.Pool] = append(of[at.Pool], id)
	}
	if len(ids) == 1 {
		return a.withPool(pools[0], func(p *stream.Pool) error { return a.actOnID(ctx, c, p, ids[0]) })
	}
	failed := 0
	for _, pool := range pools {
		err := a.withPool(pool, func(p *stream.Pool) error {
			n, err := a.actOnEach(ctx, c, p, of[pool])
			failed += n
			return err
		})
		if err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("could not %s %s of %d", c.verb, letters(failed), len(ids))
	}
	return nil
}

// actOnEach does it to letters of one pool. What it can't do to one it names, counts, and goes on.
func (a *app) actOnEach(ctx context.Context, c *act, p *stream.Pool, ids []string) (failed int, err error) {
	pace := time.NewTicker(time.Second / time.Duration(c.flag.rate))
	defer pace.Stop()
	for _, id := range ids {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return failed, ctx.Err()
		}
		switch err := a.actOnID(ctx, c, p, id); {
		case leaves(err):
			failed++
			a.notef("%s\n", plain(err.Error()))
		case err != nil:
			return failed, err
		}
	}
	return failed, nil
}

func (a *app) actOnID(ctx context.Context, c *act, p *stream.Pool, id string) error {
	o, l, err := a.letter(ctx, p, id, c.flag.by)
	if err != nil {
		return err
	}
	if c.flag.dryRun {
		if err := c.refuses(ctx, o, l); err != nil {
			return err
		}
		a.printf("would %s %s: %s, script %s\n", c.verb, plain(l.ID), plain(l.Error.Reason), plain(orDash(l.Script)))
		return nil
	}
	r, err := c.do(o, ctx, l)
	if err != nil {
		return err
	}
	return a.printResult(r)
}

// leaves tells whether an error is about one letter, so that others can go on.
func leaves(err error) bool {
	var refused *operator.Refused
	return errors.As(err, &refused) || errors.Is(err, operator.ErrGone)
}

// actOnMany does it to all letters that the filters take: it counts them first, and asks.
func (a *app) actOnMany(ctx context.Context, c *act, where string) error {
	pool, filter, err := c.flag.which.read(where, time.Now())
	if err != nil {
		return err
	}
	a.noteReason(c.flag.which.reason)
	if filter.All() && !c.flag.all {
		return usageError{fmt.Errorf("which dead letters of %s? Want filters such as --reason or --newer, or --all", where)}
	}
	return a.withOperator(pool, c.flag.by, func(o *operator.Operator) error {
		count, err := o.Count(ctx, filter)
		if err != nil {
			return err
		}
		if c.flag.dryRun {
			if err := a.printCount(where, count); err != nil {
				return err
			}
			filter.Through = count.Through
			return a.tryAll(ctx, c, o, filter)
		}
		if count.Total == 0 {
			a.notef("no dead letters\n")
			return nil
		}
		a.notef("%s", countText(where, count))
		if ok, err := a.confirm(c.flag.yes, fmt.Sprintf("%s %s", c.verb, letters(count.Total))); !ok {
			return err
		}
		filter.Through = count.Through
		return a.actOnAll(ctx, c, o, filter, count.Total)
	})
}

// refuses says what the act would refuse of a letter.
func (c *act) refuses(ctx context.Context, o *operator.Operator, l operator.Letter) error {
	if c.try == nil {
		return nil
	}
	return c.try(o, ctx, l)
}

// tryAll names the letters that the act would refuse.
func (a *app) tryAll(ctx context.Context, c *act, o *operator.Operator, f operator.Filter) error {
	if c.try == nil || f.Through == 0 {
		return nil
	}
	refused := 0
	for l, err := range o.Letters(ctx, f) {
		if err != nil {
			return err
		}
		switch err := c.try(o, ctx, l); {
		case leaves(err):
			refused++
			a.notef("%s\n", plain(err.Error()))
		case err != nil:
			return err
		}
	}
	if refused > 0 {
		return fmt.Errorf("could not %s %s: see above for what to do about each", c.verb, letters(refused))
	}
	return nil
}

// actOnAll goes through the letters at the rate that was asked for. What it can't do to one it names, and goes on.
func (a *app) actOnAll(ctx context.Context, c *act, o *operator.Operator, f operator.Filter, total int) error {
	pace := time.NewTicker(time.Second / time.Duration(c.flag.rate))
	defer pace.Stop()
	done, refused := map[operator.Did]int{}, 0
	told := time.Now()
	n := 0
	for l, err := range o.Letters(ctx, f) {
		if err != nil {
			return fmt.Errorf("after %d of %s: %w. Run it again to go on", n, letters(total), err)
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
			return fmt.Errorf("after %d of %s: %w. Run it again to go on", n, letters(total), ctx.Err())
		}
		r, err := c.do(o, ctx, l)
		switch {
		case errors.Is(err, operator.ErrGone): // somebody else was faster
		case leaves(err):
			refused++
			a.notef("%s\n", plain(err.Error()))
		case err != nil:
			return fmt.Errorf("after %d of %s: %w. Run it again to go on", n, letters(total), err)
		default:
			done[r.Did]++
			if err := a.printLine(r); err != nil {
				return err
			}
		}
		if n++; time.Since(told) >= time.Second {
			told = time.Now()
			a.notef("%d of %d\n", n, total)
		}
	}
	a.notef("%s\n", summary(done))
	if refused > 0 {
		return fmt.Errorf("could not %s %s: see above for what to do about each", c.verb, letters(refused))
	}
	return nil
}

func summary(done map[operator.Did]int) string {
	var parts []string
	for _, did := range []operator.Did{operator.Retried, operator.Resumed, operator.Removed} {
		if done[did] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", did, done[did]))
		}
	}
	switch n := done[operator.Skipped]; {
	case n == 1:
		parts = append(parts, "dropped 1 job that held its context; the letter stays, and holds nothing")
	case n > 1:
		parts = append(parts, fmt.Sprintf("dropped %d jobs that held their contexts; the letters stay, and hold nothing", n))
	}
	if len(parts) == 0 {
		return "nothing was done"
	}
	return strings.Join(parts, ", ")
}

// printLine prints one of many results, as JSON in one line; for people the summary is enough.
func (a *app) printLine(r operator.Result) error {
	if !a.json {
		return nil
	}
	line, err := json.Marshal(r)
	a.printf("%s\n", plainJSON(line))
	return err
}

func (a *app) printResult(r operator.Result) error {
	if a.json {
		return a.printLine(r)
	}
	text := "removed " + r.ID
	switch r.Did {
	case operator.Retried:
		text = fmt.Sprintf("retried %s as job %s on %s, sequence %d", r.ID, r.Job, r.Subject, r.Sequence)
	case operator.Resumed:
		text = fmt.Sprintf("resumed %s: job %s runs next, in its place", r.Subject, r.Job)
	case operator.Skipped:
		text = fmt.Sprintf("dropped the job of %s: its context goes on without it", r.ID)
	}
	if r.Note != "" {
		text += " (" + r.Note + ")"
	}
	a.printf("%s\n", plain(text))
	return nil
}
