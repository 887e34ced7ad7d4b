package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/scripting"
)

type submitFlags struct {
	script, data, id, caller, deadline string
	wait, waitFlow                     bool
	timeout                            time.Duration
}

func (a *app) submit() *cobra.Command {
	var flags submitFlags
	cmd := &cobra.Command{
		Use:   "submit POOL.CONTEXT [FILE]",
		Short: "Dispatch a job, and with --wait see what came of it",
		Long: `Dispatch a job: a Tengo file (- for standard input), or a library script by --script. It prints the receipt, or with --wait
the result once the job has taken effect: that and nothing else goes to standard output. What the script printed goes to standard error.
With --wait-flow it waits for the whole flow: until no call of the context is open and no job of it waits. The result is then the last one that
a job of the flow gave. A job that becomes a dead letter ends the command with exit code 1, and so does a wait that takes too long.`,
		Example: `  thence submit payments.cus_42 main.tengo --wait
  thence submit payments.cus_42 --script checkout --data '{"amount": 2000}' --wait
  thence submit payments.cus_42 --script checkout --data @order.json --wait-flow --timeout 2m
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
	f.BoolVar(&flags.waitFlow, "wait-flow", false, "wait until all that the job leads to in its context has ended")
	f.DurationVar(&flags.timeout, "timeout", 30*time.Second, "how long to wait with --wait and --wait-flow; 0 for ever")
	return cmd
}

func (a *app) runSubmit(ctx context.Context, flags submitFlags, args []string) error {
	if err := flags.check(args); err != nil {
		return usageError{err}
	}
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
	if flags.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, flags.timeout)
		defer cancel()
	}
	receipt, err := d.Dispatch(ctx, j)
	var noFile *fs.PathError
	if errors.Is(err, dispatcher.ErrInvalid) && !errors.As(err, &noFile) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	switch {
	case flags.waitFlow:
		return a.awaitFlow(ctx, d, receipt, flags.timeout)
	case flags.wait:
		return a.await(ctx, d, receipt, flags.timeout)
	}
	return a.printReceipt(receipt)
}

// check finds what is wrong with the flags before anything is read.
func (f submitFlags) check(args []string) error {
	file := len(args) == 2
	switch {
	case file && f.script != "":
		return fmt.Errorf("a file (%s) and --script %s: want one of them", args[1], f.script)
	case !file && f.script == "":
		return errors.New("nothing to run: want a file, - for standard input, or --script NAME")
	case file && args[1] == "-" && f.data == "@-":
		return errors.New("script and data can't both come from standard input")
	case f.timeout < 0:
		return fmt.Errorf("--timeout %s: want 0s or more", f.timeout)
	}
	return nil
}

// job is what the flags ask for.
func (a *app) job(flags submitFlags, args []string) (dispatcher.Job, error) {
	to, err := job.ParseAddress(args[0])
	if err != nil {
		return dispatcher.Job{}, usageError{err}
	}
	j := dispatcher.Job{ID: flags.id, Worker: to.Pool, Context: to.Context, Caller: flags.caller, Script: flags.script}
	if j.Caller == "" {
		j.Caller = userName()
	}
	if j.Deadline, err = deadline(flags.deadline, time.Now()); err != nil {
		return j, err
	}
	if j.Source, j.File, err = a.source(args[1:]); err != nil {
		return j, err
	}
	data, err := a.data(flags.data)
	if data != nil {
		j.Data = data
	}
	return j, err
}

// source reads standard input, or names the file; both are empty when there is no argument.
func (a *app) source(args []string) (source, file string, err error) {
	if len(args) == 0 {
		return "", "", nil
	}
	if args[0] != "-" {
		return "", args[0], nil
	}
	raw, err := io.ReadAll(a.stdin)
	if err != nil {
		return "", "", fmt.Errorf("standard input: %w", err)
	}
	if strings.TrimSpace(string(raw)) == "" {
		return "", "", usageError{errors.New("nothing to run: standard input is empty")}
	}
	return string(raw), "", nil
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
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return nil, usageError{fmt.Errorf("--data: not JSON: %w (a text goes in quotes: '\"text\"')", err)}
	}
	return raw, nil
}

func (a *app) printReceipt(r dispatcher.Receipt) error {
	if a.json {
		return a.printJSON(r)
	}
	if r.Duplicate {
		a.printf("job %s is a repeat and changes nothing: pool %s had a job of this id, in this context or another, as %d\n", plain(r.ID), r.Worker, r.Sequence)
		return nil
	}
	a.printf("job %s is accepted in %s.%s as %d\n", plain(r.ID), r.Worker, r.Context, r.Sequence)
	return nil
}

func (a *app) await(ctx context.Context, d *dispatcher.Dispatcher, r dispatcher.Receipt, timeout time.Duration) error {
	report, err := d.Await(ctx, r)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return a.notEnded(r, timeout)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("stopped waiting; job %s is accepted and goes on", r.ID)
	}
	var dead *dispatcher.JobError
	if err != nil && !errors.As(err, &dead) {
		return err
	}
	if perr := a.printReport(r, report); perr != nil {
		return perr
	}
	if dead != nil {
		return deadError(r, report)
	}
	return nil
}

// notEnded is the error of a wait that took too long. Only the context knows whether it is held.
func (a *app) notEnded(r dispatcher.Receipt, timeout time.Duration) error {
	at := r.Worker + "." + r.Context
	if a.denied.Load() {
		return fmt.Errorf("job %s is accepted in %s as %d; whether it has ended these credentials may not see, as the server says above", r.ID, at, r.Sequence)
	}
	if r.Duplicate {
		return fmt.Errorf("job %s is a repeat, and has not ended in %s after %s: an id is unique in the pool; was it given to a job of another context? "+
			"If not: is a worker of pool %s running? `thence context get %s` says whether the context is held", r.ID, at, timeout, r.Worker, at)
	}
	return fmt.Errorf("job %s is accepted, but has not ended after %s: is a worker of pool %s running? `thence context get %s` says whether the context is held",
		r.ID, timeout, r.Worker, at)
}

// deadError says why a job is dead, and where to look.
func deadError(r dispatcher.Receipt, report dispatcher.Report) error {
	dead := report.Error
	return fmt.Errorf("job %s is a dead letter (%s): %s\n\nsee `thence dead show %s.%s.%d`", dead.Job, dead.Reason,
		explain(scripting.Error{Script: dead.Script, Line: dead.Line, Column: dead.Column, Message: dead.Message, Code: dead.Code}),
		r.Worker, r.Context, report.Sequence)
}

// printReport prints the result alone on standard output, or with --json the whole report.
func (a *app) printReport(r dispatcher.Receipt, report dispatcher.Report) error {
	if a.json {
		return a.printJSON(outcomeOf(r, report))
	}
	a.notef("%s", plainText(report.Output))
	if report.Result != nil {
		a.printf("%s\n", compactJSON(report.Result))
	}
	switch report.Status {
	case dispatcher.Done:
		a.notef("job %s is done in %s.%s after %s\n", plain(r.ID), r.Worker, r.Context, report.Took)
	case dispatcher.Duplicate:
		a.notef("job %s changed nothing in %s.%s: a job of this id had taken effect before\n", plain(r.ID), r.Worker, r.Context)
	}
	return nil
}

// outcome is a receipt and what came of it.
type outcome struct {
	dispatcher.Receipt
	Status   dispatcher.Status `json:"status"`
	Script   string            `json:"script,omitempty"`
	Release  string            `json:"release,omitempty"`
	Process  string            `json:"process,omitempty"` // that ran it
	Started  time.Time         `json:"started,omitzero"`
	Took     float64           `json:"took_ms"`
	Output   string            `json:"output,omitempty"`
	Result   json.RawMessage   `json:"result,omitempty"`
	Revision uint64            `json:"revision,omitempty"`
	Error    *job.Error        `json:"error,omitempty"`
}

func outcomeOf(r dispatcher.Receipt, report dispatcher.Report) outcome {
	o := outcome{
		Receipt: r, Status: report.Status, Script: report.Script, Release: report.Release, Process: report.Worker, Started: report.Started,
		Took: float64(report.Took.Microseconds()) / 1000, Output: report.Output, Result: report.Result, Revision: report.Revision,
	}
	if e := report.Error; e != nil {
		o.Error = &job.Error{Reason: e.Reason, Message: e.Message, Script: e.Script, Line: e.Line, Column: e.Column, Code: e.Code}
	}
	return o
}
