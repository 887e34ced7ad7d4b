package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/worker/servicefile"
)

func (a *app) serviceCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with a file of services, as a worker would",
		Long: `Read a file of services as a worker does with --services, and the certificates that it names. It needs no server, and asks for no secret.
All that is wrong is printed with its line, and the exit code is 1.`,
		Example: `  thence service check services.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			services, err := servicefile.Load(args[0])
			if err != nil {
				return fmt.Errorf("%s can't be used:\n%w", args[0], err)
			}
			a.notef("%s is in order; services: %d\n", args[0], len(services))
			return nil
		},
	}
}

func (a *app) serviceSchema() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON schema of the file of services, for editors",
		Example: `  thence service schema > services.schema.json`,
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.printJSON(servicefile.Schema()) },
	}
}
