package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/stream"
)

// forGood is a pause that does not end by itself.
const forGood = 100 * 365 * 24 * time.Hour

func (a *app) serviceList() *cobra.Command {
	return &cobra.Command{
		Use:   "list POOL",
		Short: "List a pool's services: calls in flight and waiting, the limit, the breaker, and until when they are paused",
		Example: `  thence service list payments
  thence service list payments --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(args[0], func(p *stream.Pool) error {
				all, err := p.Services(cmd.Context())
				if err != nil {
					return err
				}
				return a.printServices(all)
			})
		},
	}
}

func (a *app) printServices(all []stream.ServiceState) error {
	if a.json {
		return a.printJSON(all)
	}
	var lines [][]string
	for _, s := range all {
		lines = append(lines, []string{
			plain(s.Service), strconv.Itoa(s.InFlight), strconv.FormatUint(s.Waiting, 10), limitOf(s), s.Breaker, pausedUntil(s),
		})
	}
	return a.table([]string{"service", "in flight", "waiting", "limit", "breaker", "paused until"}, lines)
}

// pausedUntil is the end of a service's pause, and who made it.
func pausedUntil(s stream.ServiceState) string {
	if s.PausedUntil.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%s (%s)", endOfPause(s.PausedUntil), s.PausedBy)
}

func endOfPause(t time.Time) string {
	if time.Until(t) > forGood/2 {
		return "it is resumed"
	}
	return t.Format(time.RFC3339)
}

func (a *app) servicePause() *cobra.Command {
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "pause POOL SERVICE",
		Short: "Have no worker begin calls to a service, until it is resumed or for a time",
		Long: `Have no worker of a pool begin calls to a service. Calls under way end, later ones wait on the server, and jobs go on.
A service that is paused for longer already stays so.`,
		Example: `  thence service pause payments stripe
  thence service pause payments stripe --for 10m`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lasts <= 0 {
				return usageError{errors.New("--for: want more than 0s")}
			}
			until := time.Now().Add(lasts)
			return a.withPool(args[0], func(p *stream.Pool) error {
				changed, err := p.PauseCalls(cmd.Context(), args[1], until)
				switch {
				case err != nil:
					return err
				case !changed:
					return fmt.Errorf("%s is paused for longer already: see `thence service list %s`, and resume it first", args[1], args[0])
				}
				a.notef("%s is paused until %s\n", args[1], endOfPause(until))
				return nil
			})
		},
	}
	cmd.Flags().DurationVar(&lasts, "for", forGood, "how long, such as 10m (default until it is resumed)")
	cmd.Flags().Lookup("for").DefValue = "0s" // as none: the text says what it is
	return cmd
}

func (a *app) serviceResume() *cobra.Command {
	return &cobra.Command{
		Use:   "resume POOL SERVICE",
		Short: "Let workers call a paused service again",
		Long: `Let workers call a paused service again, whoever paused it. One that its API or the breaker paused is called by one call at
first, and by more as calls succeed.`,
		Example: `  thence service resume payments stripe`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(args[0], func(p *stream.Pool) error {
				resumed, err := p.ResumeCalls(cmd.Context(), args[1])
				switch {
				case err != nil:
					return err
				case !resumed:
					a.notef("%s is not paused\n", args[1])
				default:
					a.notef("%s is called again\n", args[1])
				}
				return nil
			})
		},
	}
}
