package main

import (
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/operator"
	"github.com/thence-dev/thence/internal/stream"
)

func (a *app) call() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "call",
		Short: "Look at the calls and timers that contexts wait for, and cancel them",
		Example: `  thence call list payments
  thence call list payments cus_42
  thence call cancel payments cus_42 1764000000000017-0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.callList(), a.callCancel())
	return cmd
}

func (a *app) callList() *cobra.Command {
	return &cobra.Command{
		Use:   "list POOL [CONTEXT]",
		Short: "Print the open calls and timers of a pool, or of one of its contexts",
		Long: `Print the calls that contexts wait for: where each is (queued: it waits for its service or is being made; timer: its next try waits),
since when, how many of its tries have ended, and its tag. A call whose answer is on its way is shown as unknown. A timer that a script
has set is a call to the service timer, and is shown with when it is due.`,
		Example: `  thence call list payments
  thence call list payments cus_42 --json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) == 2 {
				name = args[1]
			}
			if err := validCallArgs(args[0], name); err != nil {
				return err
			}
			return a.withPool(args[0], func(p *stream.Pool) error {
				o, err := operator.New(p, a.who(""))
				if err != nil {
					return err
				}
				calls, err := o.Calls(cmd.Context(), name)
				if err != nil && len(calls) == 0 {
					return orNoPool(cmd.Context(), p, err)
				}
				return errors.Join(a.printCalls(args, calls), err) // what could be read is shown
			})
		},
	}
}

// validCallArgs checks the names that a command got; an empty context is none.
func validCallArgs(pool, name string) error {
	err := job.ValidPool(pool)
	if err == nil && name != "" {
		err = job.ValidContext(name)
	}
	if err != nil {
		return usageError{err}
	}
	return nil
}

func (a *app) printCalls(args []string, calls []operator.OpenCall) error {
	if a.json {
		if calls == nil {
			calls = []operator.OpenCall{}
		}
		return a.printJSON(calls)
	}
	if len(calls) == 0 {
		a.notef("no open calls: %s\n", job.Address{Pool: args[0], Context: append(args, "*")[1]})
		return nil
	}
	lines := make([][]string, len(calls))
	for i, c := range calls {
		lines[i] = []string{
			c.Context, c.ID, c.Service, orDash(c.Operation), where(c), orDash(ageOf(c.Since)), strconv.Itoa(c.Tries), orDash(compactJSON(c.Tag)),
		}
	}
	return a.table([]string{"context", "call", "service", "operation", "where", "age", "tries", "tag"}, lines)
}

func where(c operator.OpenCall) string {
	if c.Next.IsZero() {
		return c.Where
	}
	return c.Where + ", next " + c.Next.UTC().Format(time.RFC3339)
}

// ageOf is how long ago a time was, by this machine's clock; empty for the zero time.
func ageOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return max(0, time.Since(t)).Round(time.Second).String()
}

func (a *app) callCancel() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cancel POOL CONTEXT ID...",
		Short: "Close open calls by their ids",
		Long: `Close open calls: those that wait are not made any more, and the timers of their next tries are removed. A call that is being made is
not recalled; its answer is recorded as late, and no script runs on it. Neither then nor catch of a closed call runs. When one of the
ids is not open, nothing is cancelled. To close all open calls of a context, use thence context cancel.`,
		Example: `  thence call cancel payments cus_42 1764000000000017-0 --dry-run
  thence call cancel payments cus_42 1764000000000017-0 --by ada`,
		Args: cobra.MinimumNArgs(3),
	}
	by := byFlag(cmd)
	dryRun := cmd.Flags().Bool("dry-run", false, "show what would be closed, and close nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := validCallArgs(args[0], args[1]); err != nil {
			return err
		}
		at := job.Address{Pool: args[0], Context: args[1]}
		return a.onContext(cmd, at.String(), *by, func(o *operator.Operator, at job.Address) error {
			if *dryRun {
				return a.planCancel(cmd, o, at, args[2:])
			}
			closed, err := o.Cancel(cmd.Context(), at.Context, args[2:])
			if err != nil {
				return err
			}
			return a.printCancelled(at, closed)
		})
	}
	return cmd
}

// planCancel prints what would be cancelled.
func (a *app) planCancel(cmd *cobra.Command, o *operator.Operator, at job.Address, ids []string) error {
	plan, err := o.Plan(cmd.Context(), at.Context, ids)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(deed{Context: at.String(), Did: "nothing", Cancelled: plan})
	}
	for _, c := range plan {
		a.printf("would cancel %s\n", plain(named(c.ID, c.OpenCall)))
	}
	return nil
}
