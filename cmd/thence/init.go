package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

func (a *app) initialise() *cobra.Command {
	var pool string
	var storage storageFlags
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
			nc, err := a.connect("init")
			if err != nil {
				return err
			}
			defer nc.Close()
			p, err := stream.Ensure(cmd.Context(), nc, pool, storage.options())
			if err != nil {
				return err
			}
			if _, err := p.Keys(cmd.Context(), storage.options()); err != nil {
				return err
			}
			made := map[string]string{
				"jobs": job.JobsStream(pool), "calls": job.CallsStream(pool), "dead_letters": job.DeadStream(pool), "contexts": pool, "keys": job.KeysBucket,
			}
			if a.json {
				return a.printJSON(made)
			}
			a.printf("pool %s is ready: streams %s, %s and %s, buckets %s and %s\n",
				pool, made["jobs"], made["calls"], made["dead_letters"], made["contexts"], made["keys"])
			return nil
		},
	}
	cmd.Flags().StringVar(&pool, "pool", "", "name of the worker pool")
	storage.register(cmd.Flags())
	return cmd
}
