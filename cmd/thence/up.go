package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/embedded"
)

func (a *app) up() *cobra.Command {
	var flags workerFlags
	var listen, store string
	var syncAlways bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a NATS server and a worker in this process, for development",
		Long: `Run a NATS server with file storage and a worker, in one process, on this machine. What is stored stays in --store and is
there again next time. Other workers and callers can join on the address that it prints.

The scripts of --scripts become the pool's current release at once, and again whenever one of them is changed; without --scripts the pool runs
what was pushed last.`,
		Example: `  thence up --pool payments --scripts ./scripts`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runUp(cmd.Context(), flags, embedded.Options{Store: store, Listen: listen, SyncAlways: syncAlways})
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:4222", "address of the NATS server; port 0 for a free one. There is no authentication: keep it on loopback")
	f.StringVar(&store, "store", "thence-data", "directory of the streams")
	f.BoolVar(&syncAlways, "sync-always", false, "fsync before every ack, as production should")
	flags.register(f, "main", true)
	return cmd
}

func (a *app) runUp(ctx context.Context, flags workerFlags, options embedded.Options) error {
	log, err := a.logger()
	if err != nil {
		return err
	}
	config, declared, err := a.workerConfig(flags, log)
	if err != nil {
		return err
	}
	shown, err := flags.show(ctx, &config)
	if err != nil {
		return err
	}
	defer shown.end()
	if options.Store, err = filepath.Abs(options.Store); err != nil {
		return err
	}
	unlock, err := lockStore(options.Store)
	if err != nil {
		return err
	}
	defer unlock()
	server, err := embedded.Start(options)
	if err != nil {
		return err
	}
	defer server.Close()
	nc, err := server.Connect(nats.Name("thence up"))
	if err != nil {
		return fmt.Errorf("connect to the embedded server: %w", err)
	}
	defer nc.Close()
	a.greet(flags.pool, server.URL(), options)
	if flags.scripts != "" {
		unfollow, err := a.live(ctx, nc, flags, &config)
		if err != nil {
			return err
		}
		defer unfollow()
	}
	return runWorker(ctx, nc, config, declared, shown)
}

// greet says how to use what was started, and how durable it is.
func (a *app) greet(pool, url string, o embedded.Options) {
	durability := "fsync every 2 minutes: a killed process loses nothing, a power cut may lose the last 2 minutes (--sync-always loses none)"
	if o.SyncAlways {
		durability = "fsync before every ack: a power cut loses nothing that was accepted"
	}
	at := ""
	if url != defaultServer {
		at = " -s " + url
	}
	a.notef(`NATS %s    store %s
durability: %s

publish a job:
  thence submit %s.cus_42 main.tengo --wait%s
  nats pub %s.cus_42 --jetstream --no-templates 'print("hi")'%s
look at it:
  thence context history %s.cus_42%s

`, url, plain(o.Store), durability, pool, at, pool, at, pool, at)
}
