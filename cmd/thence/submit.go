package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/job"
)

type submitFlags struct {
	script, data, id, caller, deadline string
	wait                               bool
	timeout                            time.Duration
}

func (a *app) submit() *cobra.Command {
	var flags submitFlags
	cmd := &cobra.Command{
		Use:   "submit POOL.CONTEXT [FILE]",
		Short: "Dispatch a job, and with --wait see what came of it",
		Long: `Dispatch a job: a Tengo file (- for standard input), or a library script by --script. It prints the receipt, or with --wait
the result once the job has taken effect.`,
		Example: `  thence submit payments.cus_42 main.tengo --wait
  thence submit payments.cus_42 --script checkout --data '{"amount": 2000}' --wait
  thence submit payments.cus_42 --script checkout --data @order.json --id order-77`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runSubmit(cmd.Context(), flags, args) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.script, "script", "", "library script to run, in place of a file")
	f.StringVar(&flags.data, "data", "", "the script's data as JSON; @FILE reads a file, @- standard input")
	f.StringVar(&flags.id, "id", "", "the job's id: submitting it again changes nothing (default: a new UUID)")
	f.StringVar(&flags.caller, "caller", "", "who submits (default: the user's name)")
	f.StringVar(&flags.deadline, "deadline", "", "a job that has not begun by then becomes a dead letter: RFC 3339, or a duration from now")
	f.BoolVar(&flags.wait, "wait", false, "wait until the job has taken effect")
	f.DurationVar(&flags.timeout, "timeout", 30*time.Second, "how long to wait")
	return cmd
}

func (a *app) runSubmit(ctx context.Context, flags submitFlags, args []string) error {
	j, err := a.job(flags, args)
	if err != nil {
		return err
	}
	nc, err := a.connect("submit")
	if err != nil {
		return err
	}
	defer nc.Close()
	d, err := dispatcher.New(nc, dispatcher.Config{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, flags.timeout)
	defer cancel()
	receipt, err := d.Dispatch(ctx, j)
	if errors.Is(err, dispatcher.ErrInvalid) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if !flags.wait {
		return a.printReceipt(receipt)
	}
	return a.await(ctx, d, receipt, flags.timeout)
}

func (a *app) job(flags submitFlags, args []string) (dispatcher.Job, error) {
	to, err := job.ParseAddress(args[0])
	if err != nil {
		return dispatcher.Job{}, usageError{err}
	}
	j := dispatcher.Job{ID: flags.id, Worker: to.Pool, Context: to.Context, Caller: flags.caller, Script: flags.script}
	if j.Caller == "" {
		j.Caller = userName()
	}
	if len(args) == 2 && args[1] == "-" {
		source, err := io.ReadAll(a.stdin)
		if err != nil {
			return j, err
		}
		j.Source = string(source)
	} else if len(args) == 2 {
		j.File = args[1]
	}
	if j.Deadline, err = deadline(flags.deadline, time.Now()); err != nil {
		return j, err
	}
	data, err := a.data(flags.data)
	if data != nil {
		j.Data = data
	}
	return j, err
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "thence"
}

// deadline reads a time, or a duration from now.
func deadline(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usageError{fmt.Errorf("--deadline %q: want a time such as 2026-01-02T15:04:05Z, or a duration such as 90s", s)}
	}
	return t, nil
}

// data reads the argument of --data; nil when there is none.
func (a *app) data(arg string) (json.RawMessage, error) {
	var raw []byte
	var err error
	switch {
	case arg == "":
		return nil, nil
	case arg == "@-":
		raw, err = io.ReadAll(a.stdin)
	case strings.HasPrefix(arg, "@"):
		raw, err = os.ReadFile(arg[1:])
	default:
		raw = []byte(arg)
	}
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	if !json.Valid(raw) {
		return nil, usageError{fmt.Errorf("--data: not JSON (a text goes in quotes: '\"text\"')")}
	}
	return raw, nil
}

func (a *app) printReceipt(r dispatcher.Receipt) error {
	if a.json {
		return a.printJSON(r)
	}
	repeat := ""
	if r.Duplicate {
		repeat = " (a repeat: the stream had a job of this id)"
	}
	a.printf("job %s is accepted in %s.%s as %d%s\n", r.ID, r.Worker, r.Context, r.Sequence, repeat)
	return nil
}

func (a *app) await(ctx context.Context, d *dispatcher.Dispatcher, r dispatcher.Receipt, timeout time.Duration) error {
	report, err := d.Await(ctx, r)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("job %s is accepted, but has not ended after %s: is a worker of pool %s running?", r.ID, timeout, r.Worker)
	}
	var dead *dispatcher.JobError
	if err != nil && !errors.As(err, &dead) {
		return err
	}
	if a.json {
		if perr := a.printJSON(report); perr != nil {
			return perr
		}
		return err
	}
	a.notef("%s", report.Output)
	if report.Result != nil {
		a.printf("%s\n", report.Result)
	}
	if err == nil {
		a.notef("job %s is %s in %s.%s after %s\n", r.ID, report.Status, r.Worker, r.Context, report.Took)
	}
	return err
}
