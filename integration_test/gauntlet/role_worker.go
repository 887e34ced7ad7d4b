package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/crash"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/worker"
)

//go:embed scripts
var scripts embed.FS

// The service of the recording API. Tries are many, as a fault may take several of one call; waits are short, so that a
// round does not consist of them.
const (
	apiTimeout  = 700 * time.Millisecond
	apiAttempts = 30
	apiBackoff  = 40 * time.Millisecond
	apiMaxWait  = 400 * time.Millisecond
)

// scriptTime is more than the scripts need by far: a machine that all of this keeps busy may let a process wait for
// seconds, and the limit is one of time passed.
const scriptTime = 5 * time.Second

// roleWorker is a worker of a pool, as `thence worker` runs one.
func roleWorker(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if os.Getenv(crash.Variable) != "" && !crash.Enabled {
		return fmt.Errorf("%s is set, but this program was built without the tag crashpoints", crash.Variable)
	}
	var servers, api, hold string
	var c worker.Config
	flags := flag.NewFlagSet("worker", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.Pool, "pool", "", "name of the pool")
	flags.StringVar(&c.Name, "name", "", "name of this process")
	flags.StringVar(&servers, "server", "", "URLs of NATS, with commas")
	flags.StringVar(&api, "api", "", "URL of the recording API")
	flags.StringVar(&hold, "hold", "", "a script whose failure holds its context")
	flags.DurationVar(&c.Grace, "grace", 5*time.Second, "how long work under way may take to end after SIGTERM")
	if err := flags.Parse(args); err != nil {
		return err
	}
	c.Logger = slog.New(newSends(stderr))
	c.Limits = scripting.Limits{Time: scriptTime}
	if hold != "" {
		c.HoldOn = []string{hold}
	}
	c.Services = []worker.Service{{
		Name: "api", URL: api, AllowPrivate: true, Timeout: apiTimeout, Attempts: apiAttempts, Backoff: apiBackoff, MaxWait: apiMaxWait,
	}}
	return runWorker(ctx, c, servers, stdout)
}

func runWorker(ctx context.Context, c worker.Config, servers string, stdout io.Writer) error {
	sources, err := fs.Sub(scripts, "scripts")
	if err != nil {
		return err
	}
	if c.Library, err = scripting.NewLibrary(sources); err != nil {
		return err
	}
	c.Runner = scripting.NewEngine(c.Library) // what is hurt here is the protocol
	if c.Conn, err = connect(servers); err != nil {
		return err
	}
	defer c.Conn.Close()
	w, err := worker.New(c)
	if err != nil {
		return err
	}
	go func() {
		select {
		case <-w.Ready():
			fmt.Fprintln(stdout, readyWord+c.Name)
		case <-ctx.Done():
		}
	}()
	return w.Run(ctx)
}

// connect opens a connection that outlives its servers' absence, and finds a dead one out soon.
func connect(servers string) (*nats.Conn, error) {
	if strings.TrimSpace(servers) == "" {
		return nil, errors.New("no server to connect to")
	}
	return nats.Connect(servers, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.ReconnectJitter(20*time.Millisecond, 20*time.Millisecond), nats.Timeout(2*time.Second),
		nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
}
