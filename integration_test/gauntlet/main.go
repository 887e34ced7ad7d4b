// Gauntlet runs real worker processes on real NATS servers, hurts them in the ways in which production does, and then
// holds the promise against what NATS and the API have to show: every accepted job ended once, each context's jobs took
// effect in order, each dead letter that must be there is there, every call was answered once and was sent under one
// key, nothing is left over.
//
//	go run ./integration_test/gauntlet -scale small
//	go run ./integration_test/gauntlet -list
//	go run ./integration_test/gauntlet -faults kill-server,crash-points/commit.after -seed 7 -v
//
// It is a test program, and no part of what is shipped. It plays all the roles: the one that is started is the
// orchestrator, which builds itself once more with the tag crashpoints and starts that as servers and workers. A fault
// is a named way to hurt; a trial is one run of a fault with a pool of its own. What a trial does (its workload, where
// processes are killed, after how much work) is drawn from the seed; what the machine makes of it is not the same twice.
//
// Where to begin: fault.go has the list of faults, trial.go what a trial is made of, check.go the promise.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The hidden first arguments that make this program something else than the orchestrator.
const (
	serverRole = "role-server"
	workerRole = "role-worker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run returns the exit code: 0 all held, 1 something was broken, 2 the command line was wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	roles := map[string]func(context.Context, []string, io.Writer, io.Writer) error{serverRole: roleServer, workerRole: roleWorker}
	if len(args) > 0 && roles[args[0]] != nil {
		if err := roles[args[0]](ctx, args[1:], stdout, stderr); err != nil {
			fmt.Fprintf(stderr, "%s: %v\n", args[0], err)
			return 1
		}
		return 0
	}
	o, list, err := readOptions(args, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "gauntlet: %v\n", err)
		return 2
	}
	trials, err := o.plan()
	if err != nil {
		fmt.Fprintf(stderr, "gauntlet: %v\n", err)
		return 2
	}
	if list {
		printPlan(stdout, trials)
		return 0
	}
	return orchestrate(ctx, o, trials, args, stdout, stderr)
}

func readOptions(args []string, stderr io.Writer) (o options, list bool, err error) {
	var names, size string
	flags := flag.NewFlagSet("gauntlet", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&o.seed, "seed", 1, "what the plan is drawn from")
	flags.StringVar(&size, "scale", string(scaleSmall), "how much is done: smoke, small, ci or full")
	flags.StringVar(&names, "faults", "", "faults to run, or trials by the beginning of their names, with commas; default: all")
	flags.StringVar(&o.out, "out", "", "folder of report.json, report.md, and all logs and stores of what failed; default: a new one")
	flags.StringVar(&o.built, "binary", "", "this program, built with -tags crashpoints; default: it is built")
	flags.IntVar(&o.parallel, "parallel", 4, "trials side by side")
	flags.BoolVar(&list, "list", false, "show the plan, and run nothing")
	flags.BoolVar(&o.verbose, "v", false, "tell of every trial, not only of those that fail")
	if err := flags.Parse(args); err != nil {
		return o, false, err
	}
	if flags.NArg() > 0 {
		return o, false, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.scale, err = readScale(size); err != nil {
		return o, false, err
	}
	if names != "" {
		o.faults = strings.Split(names, ",")
	}
	return o, list, nil
}

func readScale(name string) (scale, error) {
	for _, s := range scales {
		if name == string(s) {
			return s, nil
		}
	}
	return "", fmt.Errorf("-scale %q: want one of %v", name, scales)
}

func printPlan(w io.Writer, trials []*trial) {
	for _, f := range faults {
		fmt.Fprintf(w, "%s: %s\n", f.name, f.about)
		for _, t := range trials {
			if t.fault == f.name {
				fmt.Fprintf(w, "  %-48s %s\n", t.name, t.detail)
			}
		}
	}
}

// orchestrate runs the trials, writes the report, and says how it went.
func orchestrate(ctx context.Context, o options, trials []*trial, args []string, stdout, stderr io.Writer) int {
	began := time.Now()
	if o.out == "" {
		dir, err := os.MkdirTemp("", "gauntlet-")
		if err != nil {
			fmt.Fprintf(stderr, "gauntlet: %v\n", err)
			return 1
		}
		o.out = dir
	}
	var err error
	if o.out, err = filepath.Abs(o.out); err != nil {
		fmt.Fprintf(stderr, "gauntlet: %v\n", err)
		return 1
	}
	g := &gauntlet{options: o, log: slog.New(slog.NewTextHandler(stderr, nil))}
	if err := g.prepare(ctx); err != nil {
		fmt.Fprintf(stderr, "gauntlet: %v\n", err)
		return 1
	}
	defer g.end()
	results := g.run(ctx, trials)
	r := report{
		Command: strings.Join(append([]string{"go run ./integration_test/gauntlet"}, args...), " "), Seed: o.seed, Scale: o.scale,
		Began: began, Took: time.Since(began).Seconds(), Machine: machine(), Results: results,
	}
	if err := r.write(o.out); err != nil {
		fmt.Fprintf(stderr, "gauntlet: %v\n", err)
		return 1
	}
	fmt.Fprintf(stdout, "%s\nThe report is in %s.\n", r.markdown(), o.out)
	if !r.ok() || ctx.Err() != nil {
		return 1
	}
	return 0
}
