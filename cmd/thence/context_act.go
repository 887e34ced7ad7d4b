package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/operator"
	"github.com/thence-dev/thence/internal/stream"
)

// deed is what --json prints of an act on a context.
type deed struct {
	Context   string               `json:"context"`
	Did       string               `json:"did"`
	Held      *job.Held            `json:"held,omitempty"`      // what resume ended
	Cancelled []operator.Cancelled `json:"cancelled,omitempty"` // by cancel
	OpenCalls int                  `json:"open_calls,omitempty"`
	Note      string               `json:"note,omitempty"`
}

// onContext connects for a command that acts on a context.
func (a *app) onContext(cmd *cobra.Command, arg, by string, fn func(o *operator.Operator, at job.Address) error) error {
	return a.withContext(arg, func(p *stream.Pool, at job.Address) error {
		o, err := operator.New(p, a.who(by))
		if err != nil {
			return usageError{err}
		}
		if err := fn(o, at); err != nil {
			return orNoPool(cmd.Context(), p, err)
		}
		return nil
	})
}

// byFlag is who acts.
func byFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("by", "", "who acts, as the context records it (default: user@host)")
}

// tell prints what was done, as JSON or in words.
func (a *app) tell(d deed, format string, args ...any) error {
	if a.json {
		return a.printJSON(d)
	}
	a.printf("%s\n", plain(fmt.Sprintf(format, args...)))
	if d.Note != "" {
		a.notef("%s\n", plain(d.Note))
	}
	return nil
}

func (a *app) contextPause() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pause POOL.CONTEXT",
		Short: "Hold a context's jobs without losing them",
		Long: `Hold a context: its jobs, and the answers of its calls, stay on the stream until it is resumed. A job that is under way is thrown away
before it takes effect, and runs again then. Calls that were asked for before are made all the same. A context that has no job yet
can be paused too.`,
		Example: `  thence context pause payments.cus_42 --why "wrong price, see INC-7"`,
		Args:    cobra.ExactArgs(1),
	}
	by, why := byFlag(cmd), cmd.Flags().String("why", "", "why, for those who find it paused")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.onContext(cmd, args[0], *by, func(o *operator.Operator, at job.Address) error {
			err := o.Pause(cmd.Context(), at.Context, *why)
			var held *operator.HeldError
			if errors.As(err, &held) {
				return a.tell(deed{Context: at.String(), Did: "nothing", Held: &held.Held}, "%s: %v; nothing is changed", at, held)
			}
			if err != nil {
				return err
			}
			return a.tell(deed{Context: at.String(), Did: "pause"}, "%s is paused: its jobs wait on the stream. Let it go on with `thence context resume %s`", at, at)
		})
	}
	return cmd
}

func (a *app) contextResume() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume POOL.CONTEXT",
		Short: "Let a context go on that was paused, or that a failed job holds",
		Long: `Let a context go on. Its jobs run in their order. Where a failed job holds it, that job runs first, once more, with the scripts as
they are now, as with thence dead retry; to go on without it, use thence dead drop.`,
		Example: `  thence context resume payments.cus_42`,
		Args:    cobra.ExactArgs(1),
	}
	by := byFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.onContext(cmd, args[0], *by, func(o *operator.Operator, at job.Address) error {
			held, note, err := o.Resume(cmd.Context(), at.Context)
			if errors.Is(err, operator.ErrNotHeld) {
				return fmt.Errorf("%s is not held: nothing is changed", at)
			}
			if err != nil {
				return err
			}
			d := deed{Context: at.String(), Did: "resume", Held: &held, Note: note}
			if held.Sequence != 0 {
				return a.tell(d, "%s goes on, and begins with job %s that failed", at, held.Job)
			}
			return a.tell(d, "%s goes on", at)
		})
	}
	return cmd
}

func (a *app) contextCancel() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cancel POOL.CONTEXT [CALL...]",
		Short: "Close a context's open calls and timers: all, or those that are named",
		Long: `Close open calls: those that wait are not made any more, and the timers of their next tries are removed. A call that is being made is
not recalled; its answer is recorded as late, and no script runs on it. Neither then nor catch of a closed call runs.`,
		Example: `  thence context cancel payments.cus_42
  thence context cancel payments.cus_42 1764000000000017-0`,
		Args: cobra.MinimumNArgs(1),
	}
	by := byFlag(cmd)
	yes := cmd.Flags().BoolP("yes", "y", false, "don't ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.onContext(cmd, args[0], *by, func(o *operator.Operator, at job.Address) error {
			if len(args) == 1 {
				if ok, err := a.confirm(*yes, fmt.Sprintf("cancel all open calls of %s", at)); !ok {
					return err
				}
			}
			closed, err := o.Cancel(cmd.Context(), at.Context, args[1:])
			if err != nil {
				return err
			}
			return a.printCancelled(at, closed)
		})
	}
	return cmd
}

func (a *app) printCancelled(at job.Address, closed []operator.Cancelled) error {
	if a.json {
		return a.printJSON(deed{Context: at.String(), Did: "cancel", Cancelled: closed})
	}
	if len(closed) == 0 {
		a.notef("%s has no open calls\n", at)
		return nil
	}
	for _, c := range closed {
		timer := ""
		if c.Timer && c.Due.IsZero() {
			timer = "; its next try waited on a timer, which is removed"
		}
		a.printf("cancelled %s\n", plain(named(c.ID, c.OpenCall)+timer))
	}
	return nil
}

func (a *app) contextReset() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset POOL.CONTEXT",
		Short: "Empty a context's state",
		Long: `Make a context's state {}. What was there stays in the context's history for its next 63 commits. Open calls stay, and so does what keeps
repeats from running twice: the jobs that it has taken do not run again.`,
		Example: `  thence context reset payments.cus_42`,
		Args:    cobra.ExactArgs(1),
	}
	by := byFlag(cmd)
	yes := cmd.Flags().BoolP("yes", "y", false, "don't ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.onContext(cmd, args[0], *by, func(o *operator.Operator, at job.Address) error {
			if ok, err := a.confirm(*yes, fmt.Sprintf("empty the state of %s", at)); !ok {
				return err
			}
			open, err := o.Reset(cmd.Context(), at.Context)
			if errors.Is(err, operator.ErrNoCommit) {
				return fmt.Errorf("%s has no state: no job of it has taken effect yet", at)
			}
			if err != nil {
				return err
			}
			d := deed{Context: at.String(), Did: "reset", OpenCalls: open}
			if open > 0 {
				return a.tell(d, "the state of %s is {}. %d of its calls are open still, and their answers will run; cancel them with `thence context cancel %s`", at, open, at)
			}
			return a.tell(d, "the state of %s is {}", at)
		})
	}
	return cmd
}
