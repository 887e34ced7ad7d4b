package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// gauntlet is one run of many trials.
type gauntlet struct {
	options
	binary string // this program, built with crash points
	log    *slog.Logger

	mu     sync.Mutex
	pool   map[int]*servers // shared by trials, by their number
	shares map[int]int      // trials that have yet to end, by the number of the servers that they share
}

// options are what the command line says.
type options struct {
	seed     uint64
	scale    scale
	faults   []string // names; empty: all
	out      string
	built    string // a binary with crash points; empty: it is built
	parallel int
	verbose  bool
}

// prepare makes the folder, and builds what the roles run.
func (g *gauntlet) prepare(ctx context.Context) error {
	if err := os.MkdirAll(g.out, 0o750); err != nil {
		return err
	}
	g.pool, g.shares = map[int]*servers{}, map[int]int{}
	if g.built != "" {
		g.binary = g.built
		return nil
	}
	g.binary = filepath.Join(g.out, "gauntlet.crashpoints")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "crashpoints", "-o", g.binary, "github.com/thence-dev/thence/integration_test/gauntlet")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build this program with crash points: %w: run it inside the module, or give -binary\n%s", err, text)
	}
	return nil
}

// shared are servers that trials use together: one, or a cluster of three. The first who asks starts them.
func (g *gauntlet) shared(ctx context.Context, n int) (*servers, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.pool[n]; s != nil {
		return s, nil
	}
	s, err := newServers(filepath.Join(g.out, fmt.Sprintf("shared-%d", n)), g.binary, n, false)
	if err != nil {
		return nil, err
	}
	g.pool[n] = s
	err = s.start(ctx)
	return s, err
}

// leave ends the servers that so many shared, once the last of their trials has ended.
func (g *gauntlet) leave(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shares[n]--
	if s := g.pool[n]; s != nil && g.shares[n] == 0 {
		s.end()
		for _, one := range s.nodes {
			_ = os.RemoveAll(one.store) // it takes room, and nothing else
		}
		delete(g.pool, n)
	}
}

// end removes what nobody needs any more.
func (g *gauntlet) end() {
	if g.built == "" {
		_ = os.Remove(g.binary)
	}
}

// plan are the trials of the faults that were asked for, always the same for a seed and a scale.
func (o options) plan() ([]*trial, error) {
	var trials []*trial
	known := map[string]bool{}
	for _, f := range faults {
		known[f.name] = true
		if len(o.faults) > 0 && !contains(o.faults, f.name) {
			continue
		}
		trials = append(trials, f.plan(planning{o.seed, o.scale})...)
	}
	for _, name := range o.faults {
		if !known[strings.SplitN(name, "/", 2)[0]] {
			return nil, fmt.Errorf("no fault is called %q: -list shows them", name)
		}
	}
	return selected(trials, o.faults), nil
}

// contains tells whether a fault, or a trial of it, is among the names.
func contains(names []string, fault string) bool {
	for _, n := range names {
		if n == fault || strings.HasPrefix(n, fault+"/") {
			return true
		}
	}
	return false
}

// selected keeps the trials that are named, by a fault's name or by the beginning of their own.
func selected(trials []*trial, names []string) []*trial {
	if len(names) == 0 {
		return trials
	}
	var some []*trial
	for _, t := range trials {
		for _, n := range names {
			if t.fault == n || t.name == n || strings.HasPrefix(t.name, strings.TrimSuffix(n, "/")+"/") {
				some = append(some, t)
				break
			}
		}
	}
	return some
}

// run runs the trials, some side by side, and those that want the machine for themselves at the end.
func (g *gauntlet) run(ctx context.Context, trials []*trial) []result {
	results := make([]result, len(trials))
	for _, t := range trials {
		g.shares[t.share]++
	}
	var together errgroup.Group
	together.SetLimit(max(1, g.parallel))
	for i, t := range trials {
		if !t.alone {
			together.Go(func() error { results[i] = g.try(ctx, t); return nil })
		}
	}
	_ = together.Wait()
	for i, t := range trials {
		if t.alone {
			results[i] = g.try(ctx, t)
		}
	}
	return results
}

// try runs one trial.
func (g *gauntlet) try(ctx context.Context, t *trial) result {
	began := time.Now()
	t.gauntlet, t.tally = g, tally{}
	defer g.leave(t.share)
	r := result{Fault: t.fault, Trial: t.name, Plan: t.detail}
	var err error
	for attempt := range attempts {
		t.rng, t.attempt, t.missed = source(g.seed, t.name), attempt, ""
		t.dir = filepath.Join(g.out, t.slug())
		if err = g.play(ctx, t); err != nil || t.missed == "" || len(t.broken) > 0 {
			break
		}
	}
	r.Took, r.Figures, r.Notes, r.Violations, r.Missed = time.Since(began).Seconds(), t.tally, t.notes, t.broken, t.missed
	var skipped skip
	switch {
	case errors.As(err, &skipped):
		r.Skipped = skipped.Error()
	case ctx.Err() != nil: // what it came to by then shows nothing
		r = result{Fault: t.fault, Trial: t.name, Plan: t.detail, Took: r.Took, Skipped: "the run was interrupted"}
	case err != nil:
		r.Failed = err.Error()
	}
	if r.ok() && r.Skipped == "" {
		_ = os.RemoveAll(t.dir) // the logs of what went well take room, and nothing else
	}
	g.tell(r)
	return r
}

// attempts is how often a trial is run whose fault does not come: some depend on who is quicker.
const attempts = 4

func (g *gauntlet) play(ctx context.Context, t *trial) error {
	if ctx.Err() != nil {
		return skip{context.Cause(ctx)}
	}
	if t.needs != nil {
		if err := t.needs(); err != nil {
			return skip{err}
		}
	}
	if err := os.MkdirAll(t.dir, 0o750); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.limit, fmt.Errorf("the trial's %s are over", t.limit))
	defer cancel()
	return t.play(ctx, t)
}

// skip says why a trial was not run.
type skip struct{ error }

func (s skip) Unwrap() error { return s.error }

// tell logs how a trial ended: what went well when it is asked for, all else in any case.
func (g *gauntlet) tell(r result) {
	attrs := []any{"trial", r.Trial, "seconds", fmt.Sprintf("%.1f", r.Took)}
	switch {
	case r.Skipped != "":
		g.log.Warn("skipped", append(attrs, "why", r.Skipped)...)
	case !r.ok():
		g.log.Error("trial has failed", append(attrs, "violations", len(r.Violations), "first", first(r.Violations), "error", r.Failed)...)
	case r.Missed != "":
		g.log.Warn("the fault did not come", append(attrs, "why", r.Missed)...)
	case g.verbose:
		g.log.Info("held", attrs...)
	}
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}
