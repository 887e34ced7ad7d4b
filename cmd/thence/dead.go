package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
)

func (a *app) dead() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "Look at dead letters: what could not run, and why",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.deadList(), a.deadShow())
	return cmd
}

func (a *app) deadList() *cobra.Command {
	return &cobra.Command{
		Use:   "list POOL[.CONTEXT]",
		Short: "List dead letters, oldest first",
		Example: `  thence dead list payments
  thence dead list payments.cus_42 --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			at := job.Address{Pool: args[0]}
			if strings.Contains(args[0], ".") {
				var err error
				if at, err = job.ParseAddress(args[0]); err != nil {
					return usageError{err}
				}
			}
			return a.withPool(at.Pool, func(p *stream.Pool) error {
				letters, err := readLetters(p, cmd, at.Context)
				if err != nil {
					return err
				}
				return a.printLetters(letters)
			})
		},
	}
}

// letter is a dead letter with its id: <pool>.<context>.<sequence>.
type letter struct {
	ID string `json:"id"`
	job.DeadLetter
}

func readLetters(p *stream.Pool, cmd *cobra.Command, context string) ([]letter, error) {
	letters := []letter{}
	var broken error
	err := p.DeadLetters(cmd.Context(), context, func(m job.Message) bool {
		l, err := decodeLetter(m)
		broken = errors.Join(broken, err)
		letters = append(letters, l)
		return true
	})
	return letters, errors.Join(err, broken)
}

func decodeLetter(m job.Message) (letter, error) {
	l := letter{ID: strings.Replace(m.Subject, ".dead.", ".", 1)}
	if err := json.Unmarshal(m.Data, &l.DeadLetter); err != nil {
		return l, fmt.Errorf("dead letter %s can't be read: %w", l.ID, err)
	}
	return l, nil
}

func (a *app) printLetters(letters []letter) error {
	if a.json {
		return a.printJSON(letters)
	}
	if len(letters) == 0 {
		a.notef("no dead letters\n")
		return nil
	}
	var lines [][]string
	for _, l := range letters {
		lines = append(lines, []string{l.Time.UTC().Format(time.RFC3339), l.ID, orDash(l.Script), l.Error.Reason, brief(l.Error.String())})
	}
	return a.table([]string{"time", "id", "script", "reason", "error"}, lines)
}

func (a *app) deadShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show POOL.CONTEXT.SEQUENCE",
		Short:   "Print a dead letter whole: reason, place in the script, and the original message",
		Example: `  thence dead show payments.cus_42.1764000000000017`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			part := strings.Split(args[0], ".")
			if len(part) != 3 {
				return usageError{fmt.Errorf("%q: want POOL.CONTEXT.SEQUENCE, as `thence dead list` prints it", args[0])}
			}
			at, err := job.ParseAddress(part[0] + "." + part[1])
			if err != nil {
				return usageError{err}
			}
			return a.withPool(at.Pool, func(p *stream.Pool) error {
				m, err := p.Dead(cmd.Context(), at, part[2])
				if errors.Is(err, stream.ErrNone) {
					return fmt.Errorf("there is no dead letter %s: see `thence dead list %s`", args[0], at.Pool)
				}
				if err != nil {
					return orNoPool(cmd.Context(), p, err)
				}
				l, err := decodeLetter(m)
				if err != nil {
					return err
				}
				return a.printLetter(l)
			})
		},
	}
}

func (a *app) printLetter(l letter) error {
	if a.json {
		return a.printJSON(l)
	}
	a.printf("dead letter %s\n", plain(l.ID))
	a.printf("job         %s, caller %s, script %s, release %s\n", plain(l.Job), plain(orDash(l.Caller)), plain(orDash(l.Script)), plain(orDash(l.Release)))
	a.printf("time        %s, on worker %s\n", l.Time.UTC().Format(time.RFC3339Nano), plain(orDash(l.Worker)))
	a.printf("reason      %s\n", plain(l.Error.Reason))
	a.printf("error       %s\n", explain(scriptError(l.Error)))
	m := l.Message
	a.printf("\noriginal message on %s, sequence %d, %s\n", plain(m.Subject), m.Sequence, m.Time.UTC().Format(time.RFC3339Nano))
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		for _, value := range m.Header[name] {
			a.printf("  %s: %s\n", plain(name), plain(value))
		}
	}
	a.printf("\n%s\n", plainText(string(m.Data)))
	return nil
}

// scriptError is a dead letter's error in the form that shows the script's line.
func scriptError(e job.Error) scripting.Error {
	out := scripting.Error{Script: e.Script, Line: e.Line, Column: e.Column, Message: e.Message, Code: e.Code}
	for _, f := range e.Trace {
		out.Trace = append(out.Trace, scripting.Frame(f))
	}
	return out
}
