package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/doctor"
	"github.com/thence-dev/thence/internal/job"
)

func (a *app) doctor() *cobra.Command {
	var o doctor.Options
	var all bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at a deployment as it stands: what is wrong, why it matters, what to do",
		Long: `Look at the servers, the pools' streams, consumers and contexts, the calls and the dead letters, and at what the credentials in use
permit. It changes nothing. Each finding is ok, a warning (it works, and may not for long), a problem, or unknown from here. The exit
code is 1 when there is a problem.`,
		Example: `  thence doctor
  thence doctor --pool payments --monitor http://127.0.0.1:8222/varz
  thence doctor --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkDoctor(o); err != nil {
				return usageError{err}
			}
			if all {
				o.Sample = -1
			}
			return a.examine(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.Pools, "pool", nil, "worker pool to look at, repeatable (default: all)")
	f.StringVar(&o.Monitor, "monitor", "", "URL of a server's /varz, for what no client is told: sync_interval, storage")
	f.DurationVar(&o.Stuck, "stuck", 5*time.Minute, "how long a context may stand still with jobs to run")
	f.IntVar(&o.Sample, "sample", 10_000, "contexts, calls and letters of a pool that are looked at")
	f.BoolVar(&all, "all", false, "look at every context, call and letter, whatever --sample says")
	return cmd
}

func checkDoctor(o doctor.Options) error {
	if o.Stuck <= 0 {
		return fmt.Errorf("--stuck %s: want more than 0s", o.Stuck)
	}
	if o.Sample < 1 {
		return fmt.Errorf("--sample %d: want 1 or more, or --all", o.Sample)
	}
	for _, pool := range o.Pools {
		if err := job.ValidPool(pool); err != nil {
			return err
		}
	}
	return nil
}

// examine prints findings as they are made; as JSON all at the end.
func (a *app) examine(cmd *cobra.Command, o doctor.Options) error {
	nc, err := a.connect("doctor")
	if err != nil {
		return err
	}
	defer nc.Close()
	findings := []doctor.Finding{}
	err = doctor.Examine(cmd.Context(), nc, o, func(f doctor.Finding) {
		findings = append(findings, f)
		if !a.json {
			a.printFinding(f)
		}
	})
	if err != nil {
		return err
	}
	counts := map[doctor.Level]int{}
	for _, f := range findings {
		counts[f.Level]++
	}
	if a.json {
		if err := a.printJSON(findings); err != nil {
			return err
		}
	} else {
		a.printf("\n%d ok, %d unknown, %s, %s\n", counts[doctor.OK], counts[doctor.Unknown],
			many(counts[doctor.Warning], "warning"), many(counts[doctor.Problem], "problem"))
	}
	if n := counts[doctor.Problem]; n > 0 {
		return errors.New("something is wrong: see the problems above")
	}
	return nil
}

// printFinding prints one finding: a line, and below it why it matters and what to do.
func (a *app) printFinding(f doctor.Finding) {
	where := f.Check
	if f.Pool != "" {
		where = f.Pool + " " + f.Check
	}
	level := fmt.Sprintf("%-8s", f.Level)
	paint := newTimeline(a.stdout, a.colour()).paint
	switch f.Level {
	case doctor.OK:
		level = paint(green, level)
	case doctor.Problem:
		level = paint(red, level)
	case doctor.Warning:
		level = paint(yellow, level)
	case doctor.Unknown:
		level = paint(faint, level)
	}
	a.printf("%s %-22s %s\n", level, plain(where), plain(f.Found))
	if f.Level == doctor.OK {
		return
	}
	for _, l := range []struct{ label, text string }{{"why", f.Why}, {"do", f.Do}} {
		if l.text != "" {
			a.printf("%-8s %-22s %3s: %s\n", "", "", l.label, plain(l.text))
		}
	}
}
