package main

import "github.com/spf13/cobra"

func (a *app) service() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Look at the services that a pool calls, pause them, check their file, and make modules of outside APIs",
		Example: `  thence service list payments
  thence service pause payments stripe --for 10m
  thence service show stripe payment_intents.create
  thence service check services.yaml
  thence service import orders.yaml --name acme --out scripts`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.serviceList(), a.servicePause(), a.serviceResume(), a.serviceImport(), a.serviceShow(), a.serviceCheck(), a.serviceSchema())
	return cmd
}
