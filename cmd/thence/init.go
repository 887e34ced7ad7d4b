package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/worker/calls"
)

func (a *app) initialise() *cobra.Command {
	var pool string
	var storage storageFlags
	var services []string
	var maxMsgs int64
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a pool's streams, bucket and consumers",
		Long: `Make what a pool needs on the server, where it is missing, and check what is there. Workers do the same when they start; init is for
those who set up the server with other permissions than the workers have, and before autoscaling.`,
		Example: `  thence init --pool payments --replicas 3 --max-bytes 10737418240`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if pool == "" {
				return usageError{errors.New("--pool is missing: which worker pool?")}
			}
			if err := errors.Join(job.ValidPool(pool), storage.check()); err != nil {
				return usageError{err}
			}
			if maxMsgs < 0 {
				return usageError{fmt.Errorf("--max-msgs %d: want 1 or more, or 0 for no bound", maxMsgs)}
			}
			options, err := initOptions(storage, services)
			if err != nil {
				return err
			}
			options.MaxMsgs = maxMsgs
			nc, err := a.connect("init")
			if err != nil {
				return err
			}
			defer nc.Close()
			p, err := stream.Ensure(cmd.Context(), nc, pool, options)
			if err != nil {
				return err
			}
			if _, err := p.Keys(cmd.Context(), options); err != nil {
				return err
			}
			var asked stream.Options
			if cmd.Flags().Changed("replicas") {
				asked.Replicas = options.Replicas
			}
			if cmd.Flags().Changed("max-bytes") {
				asked.MaxBytes = options.MaxBytes
			}
			if asked.Replicas != 0 || asked.MaxBytes != 0 {
				if err := a.noteUnchanged(cmd.Context(), p, asked); err != nil {
					return err
				}
			}
			made := map[string]string{
				"jobs": job.JobsStream(pool), "calls": job.CallsStream(pool), "dead_letters": job.DeadStream(pool), "rates": job.RatesStream(pool),
				"releases": job.ReleasesStream(pool), "contexts": pool, "bodies": job.BodiesBucket(pool), "keys": job.KeysBucket,
			}
			if a.json {
				return a.printJSON(made)
			}
			a.printf("pool %s is ready: streams %s, %s, %s, %s and %s, buckets %s, %s and %s\n",
				pool, made["jobs"], made["calls"], made["dead_letters"], made["rates"], made["releases"], made["contexts"], made["bodies"], made["keys"])
			return nil
		},
	}
	cmd.Flags().StringVar(&pool, "pool", "", "name of the worker pool")
	cmd.Flags().StringArrayVar(&services, "service", nil, "name of a service beside stripe and default whose calls get a consumer, repeatable")
	storage.register(cmd.Flags())
	cmd.Flags().Int64Var(&maxMsgs, "max-msgs", 0, "jobs that the pool's stream of jobs may hold, if it has to be made (default no bound but --max-bytes)")
	return cmd
}

// noteUnchanged names the streams that were there before, and are not as the flags would make them. What is 0 nobody asked for.
func (a *app) noteUnchanged(ctx context.Context, p *stream.Pool, want stream.Options) error {
	parts, err := p.InspectStreams(ctx)
	if err != nil {
		return err
	}
	bounded := []string{job.JobsStream(p.Name), job.CallsStream(p.Name), job.DeadStream(p.Name)}
	for _, part := range parts {
		if want.Replicas != 0 && part.Replicas != want.Replicas {
			a.notef("%s was there: its replicas stay %d; `nats stream edit %s --replicas %d` changes that\n", part.Name, part.Replicas, part.Name, want.Replicas)
		}
		if want.MaxBytes != 0 && slices.Contains(bounded, part.Name) && part.Bound != uint64(want.MaxBytes) {
			a.notef("%s was there: it may hold %d bytes as before, not %d; docs/operations.md says how to change that\n", part.Name, part.Bound, want.MaxBytes)
		}
	}
	return nil
}

// initOptions are what a pool is made with: a consumer for each built-in service, and for those that are named.
func initOptions(storage storageFlags, services []string) (stream.Options, error) {
	options := storage.options()
	builtin, err := calls.NewServices()
	if err != nil {
		return options, err
	}
	options.Services = builtin.InFlight()
	for _, name := range services {
		if !job.ValidService(name) {
			return options, usageError{fmt.Errorf("--service %q: a name is a-z 0-9 _ -, begins with a letter, and has at most 32 of them", name)}
		}
		options.Services[name] = options.Services[calls.Default]
	}
	return options, nil
}
