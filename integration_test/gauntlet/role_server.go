package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/thence-dev/thence/internal/embedded"
)

// roleServer is a NATS server: alone, or one of a cluster.
func roleServer(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o embedded.Options
	var cluster embedded.Cluster
	var routes string
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.Name, "name", "", "name of the server")
	flags.StringVar(&o.Store, "store", "", "directory of the streams")
	flags.StringVar(&o.Listen, "listen", "127.0.0.1:0", "host:port for clients")
	flags.BoolVar(&o.SyncAlways, "always", false, "fsync before every ack")
	flags.Int64Var(&o.MaxStore, "max-store", 64<<30, "bytes that the streams may have")
	flags.StringVar(&cluster.Listen, "cluster", "", "host:port for the other servers")
	flags.StringVar(&routes, "routes", "", "host:port of all servers, with commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.Logger = slog.New(slog.NewJSONHandler(stderr, nil))
	if cluster.Listen != "" {
		cluster.Name, cluster.Routes = "gauntlet", strings.Split(routes, ",")
		o.Cluster = &cluster
	}
	server, err := embedded.Start(o)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, readyWord+server.URL())
	<-ctx.Done()
	server.Close()
	if !errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return nil
}
