package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox"
)

type checkFlags struct {
	scripts, data, state string
	strict               bool
	bounds               scriptFlags
}

func (a *app) check() *cobra.Command {
	var flags checkFlags
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Compile scripts, say what is wrong with them, and what they take of their limits",
		Long: `Compile scripts as a worker would, with the shipped library and the one of --scripts to import from. It needs no server. Each script
that is named literally, as then or catch of a call or for flow.dispatch, must be in the library or among the files. A warning names each
limit of sources of which a script takes 80 % or more: bytes, nesting, constants, variables and the like.

With --data or --state each script also runs once, in a sandbox process like a worker's: what it asks for is not done. It prints what
the run took of each limit, and warns from 80 %. Memory is the most that was seen on the heap, with what was not collected yet.`,
		Example: `  thence check scripts/*.tengo
  thence check scripts/*.tengo --strict
  thence check checkout.tengo --data order.json --state context.json --limit time=500ms`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runCheck(cmd.Context(), flags, args) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.scripts, "scripts", "", "directory of library scripts that the files import")
	f.StringVar(&flags.data, "data", "", "run each script once, with the JSON of this file as its data")
	f.StringVar(&flags.state, "state", "", "run each script once, with the JSON object of this file as its context's state")
	f.BoolVar(&flags.strict, "strict", false, "end with exit code 1 when there are warnings")
	flags.bounds.registerLimits(f)
	return cmd
}

func (a *app) runCheck(ctx context.Context, flags checkFlags, files []string) error {
	limits, memory, err := flags.bounds.bounds()
	if err != nil {
		return usageError{err}
	}
	library, err := openLibrary(flags.scripts)
	if err != nil {
		return err
	}
	c := checker{engine: scripting.NewEngine(library), limits: limits.WithDefaults(), memory: max(memory, sandbox.LeastMemory)}
	if flags.data != "" || flags.state != "" {
		if err := c.load(flags); err != nil {
			return err
		}
		s, err := sandbox.New(library, sandbox.Options{Children: 1, Memory: memory, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return fmt.Errorf("scripts can't be run safely: %w", err)
		}
		defer func() { _ = s.Close() }()
		c.runner = s
	}
	for _, file := range files {
		c.siblings = append(c.siblings, scriptIn(file))
	}
	var all []checked
	for _, file := range files {
		one, err := c.check(ctx, file)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	if err := a.printChecked(all); err != nil {
		return err
	}
	return c.verdict(all, flags.strict)
}

// checker checks one file after the other.
type checker struct {
	engine *scripting.Engine
	runner scripting.Runner // nil: nothing runs
	limits scripting.Limits
	memory int64
	data   []byte
	state  []byte
	ran    int // how many it has run

	siblings []string // names of the scripts that are checked
}

// checked is what check says of one file.
type checked struct {
	File     string             `json:"file"`
	OK       bool               `json:"ok"`
	Error    *scripting.Error   `json:"error,omitempty"`
	More     []*scripting.Error `json:"more_errors,omitempty"` // of names that are not there, each after the first
	Warnings []measure          `json:"warnings,omitempty"`
	Usage    []measure          `json:"usage,omitempty"` // when it ran
}

// load reads what the scripts run on.
func (c *checker) load(flags checkFlags) (err error) {
	for _, from := range []struct {
		flag, file string
		to         *[]byte
	}{{"--data", flags.data, &c.data}, {"--state", flags.state, &c.state}} {
		if from.file == "" {
			continue
		}
		if *from.to, err = os.ReadFile(from.file); err != nil {
			return usageError{fmt.Errorf("%s: %w", from.flag, err)}
		}
		if !json.Valid(*from.to) {
			return usageError{fmt.Errorf("%s %s: the file is not JSON", from.flag, from.file)}
		}
	}
	return nil
}

// scriptIn is the name of the script that a file has.
func scriptIn(file string) string { return strings.TrimSuffix(filepath.Base(file), ".tengo") }

// check compiles a file, and runs it when it is asked to.
func (c *checker) check(ctx context.Context, file string) (checked, error) {
	one := checked{File: file}
	source, err := os.ReadFile(file)
	if err != nil {
		return one, unreadable(file, err)
	}
	if len(source) == 0 {
		one.Error = &scripting.Error{Kind: scripting.KindCompile, Script: scriptIn(file), Message: "the file is empty"}
		return one, nil
	}
	script := scripting.Script{Name: scriptIn(file), Source: string(source)}
	bounds, err := c.engine.Inspect(script, c.limits)
	one.Warnings = near(ofSource(bounds))
	if err == nil {
		err = c.engine.CheckNames(script, c.siblings...)
	}
	if err == nil && c.runner != nil {
		one.Usage, err = c.run(ctx, script)
		one.Warnings = append(one.Warnings, near(one.Usage)...)
	}
	if err != nil && !errors.As(err, &one.Error) {
		return one, fmt.Errorf("%s: %w", file, err)
	}
	one.OK, one.More = err == nil, others(err)
	return one, nil
}

// unreadable is the error of a file that can't be read.
func unreadable(file string, err error) error {
	if info, statErr := os.Stat(file); statErr == nil && info.IsDir() {
		return usageError{fmt.Errorf("%s is a directory: want its files, as in %s", file, filepath.Join(file, "*.tengo"))}
	}
	return err
}

// others are the scripts' errors that err joins, without the first.
func others(err error) (all []*scripting.Error) {
	joined, ok := err.(interface{ Unwrap() []error }) // what CheckNames has joined
	if !ok {
		return nil
	}
	for _, err := range joined.Unwrap()[1:] {
		var one *scripting.Error
		if errors.As(err, &one) {
			all = append(all, one)
		}
	}
	return all
}

// run runs a script once, and tells what it took, also when it failed. Each run is a pool's of its own, so that the sandbox does
// not hold against one file what another has done.
func (c *checker) run(ctx context.Context, script scripting.Script) ([]measure, error) {
	c.ran++
	out, err := c.runner.Run(ctx, scripting.Input{Script: script, State: c.state, Limits: c.limits, Measure: true,
		Job: scripting.Job{ID: "check", Sequence: 1, Worker: fmt.Sprintf("check-%d", c.ran), Context: "check", Caller: "check", Time: time.Now().UTC(), Data: c.data}})
	if out == nil || out.Usage == nil {
		return nil, err
	}
	return ofRun(out.Usage, c.limits, c.memory), err
}

func (c *checker) verdict(all []checked, strict bool) error {
	bad, warned := 0, 0
	for _, one := range all {
		if !one.OK {
			bad++
		}
		if len(one.Warnings) > 0 {
			warned++
		}
	}
	switch {
	case bad > 0 && c.runner == nil:
		return fmt.Errorf("%d of %d scripts do not compile, or name scripts that are not there", bad, len(all))
	case bad > 0:
		return fmt.Errorf("%d of %d scripts do not compile, or fail", bad, len(all))
	case warned > 0 && strict:
		return fmt.Errorf("%d of %d scripts are near a limit (--strict)", warned, len(all))
	}
	return nil
}
