package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"
)

// app is what every command has: the process's surroundings, and the flags that all of them share.
type app struct {
	lookupEnv func(string) (string, bool)
	stdin     io.Reader
	stdout    io.Writer
	stderr    io.Writer

	noting sync.Mutex // held while notef writes
	ended  bool

	connection connection
	denied     atomic.Bool // the server has said that something is not permitted
	deaf       atomic.Bool // that was to listen
	json       bool
	logFormat  string
	logLevel   string
}

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// usageError is a mistake in how the program was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run is the program. It returns its exit code.
func run(ctx context.Context, args []string, lookupEnv func(string) (string, bool), stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{lookupEnv: lookupEnv, stdin: stdin, stdout: stdout, stderr: stderr}
	defer a.end()
	ctx, stop := untilSignal(ctx)
	defer stop()
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	err = a.orDenied(err)
	a.notef("thence: %s\n", plainText(err.Error()))
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "thence",
		Short: "Durable jobs in Tengo on NATS JetStream",
		Long: `Thence runs Tengo scripts as durable jobs on NATS JetStream. A script that calls an HTTP API
does not wait: the call goes out in the background, and its answer comes back as a new
job in the same context. Nothing polls.`,
		Example: `  thence demo                                        see a payment flow run, and survive a kill
  thence up --pool payments                          a server and a worker on this machine
  thence submit payments.cus_42 main.tengo --wait    run a script, and see what came of it
  thence context get payments.cus_42                 what is known of a context
  thence submit payments.cus_42 --script checkout --data @order.json --wait-flow
                                                     run a flow to its end
  thence context watch payments.cus_42               see its jobs as they end
  thence dead list payments                          what could not run, and why
  thence doctor                                      look whether all is well`,
		Version:       versions()["thence"],
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			_, err := a.logger() // a mistake in its flags counts also where nothing is logged
			return err
		},
	}
	root.SetVersionTemplate("thence {{.Version}}\n")
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w: see `%s --help`", err, cmd.CommandPath())}
	})
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print data as JSON")
	flags.StringVar(&a.logFormat, "log", "text", "form of the log on standard error: text or json")
	flags.StringVar(&a.logLevel, "log-level", "info", "lowest level that is logged: debug, info, warn or error")
	a.connection.flags(flags)
	root.AddCommand(a.demo(), a.up(), a.worker(), a.initialise(), a.submit(), a.contexts(), a.call(), a.dead(), a.doctor(), a.check(), a.scripts(), a.service(), a.version())
	a.ready(root)
	return root
}

// wrapArgs makes every command's complaint about its arguments a usage error that says what to do.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if check(cmd, args) == nil {
				return nil
			}
			return usageError{argsError(cmd, args)}
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}

func argsError(cmd *cobra.Command, args []string) error {
	if !cmd.HasSubCommands() {
		return fmt.Errorf("want `%s`, got %d arguments: see `%s --help`", cmd.UseLine(), len(args), cmd.CommandPath())
	}
	meant := ""
	cmd.SuggestionsMinimumDistance = 2
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		meant = "did you mean " + strings.Join(s, " or ") + "? "
	}
	return fmt.Errorf("there is no command %q: %ssee `%s --help`", args[0], meant, cmd.CommandPath())
}

// logger writes to standard error, in the form that the flags ask for.
func (a *app) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %q: want debug, info, warn or error", a.logLevel)}
	}
	options := &slog.HandlerOptions{Level: level}
	switch a.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(a.stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.stderr, options)), nil
	}
	return nil, usageError{fmt.Errorf("--log %q: want text or json", a.logFormat)}
}

// printJSON prints one value on standard output, indented.
func (a *app) printJSON(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := a.stdout.Write(plainJSON(b.Bytes()))
	return err
}

func (a *app) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(a.stdout, format, args...)
}

// notef is for people, and goes beside the data. What a connection says after the command's end goes nowhere.
func (a *app) notef(format string, args ...any) {
	a.noting.Lock()
	defer a.noting.Unlock()
	if !a.ended {
		_, _ = fmt.Fprintf(a.stderr, format, args...)
	}
}

// end has nothing be written from now on.
func (a *app) end() {
	a.noting.Lock()
	defer a.noting.Unlock()
	a.ended = true
}
