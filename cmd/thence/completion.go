package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/stream"
)

// completionTimeout bounds what a shell waits for when somebody presses tab. Tests, which have time, make it longer.
var completionTimeout = time.Second

// complete has every command's first argument completed that is, or begins with, a pool's name. Contexts are not: there
// may be millions.
func (a *app) complete(c *cobra.Command) {
	_, argument, _ := strings.Cut(c.Use, " ")
	if strings.HasPrefix(argument, "POOL") {
		behind := ""
		if strings.HasPrefix(argument, "POOL.") {
			behind = "."
		}
		c.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			return a.completePool(cmd.Context(), args, begun, behind)
		}
	}
	for _, sub := range c.Commands() {
		a.complete(sub)
	}
}

// completePool returns the pools that begin so, each with what comes behind it. Where the server can't be asked there are
// none: a shell is no place for an error. From the second argument on files are completed.
func (a *app) completePool(ctx context.Context, args []string, begun, behind string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	if strings.Contains(begun, ".") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	nc, err := a.connectWithin("completion", completionTimeout)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer nc.Close()
	pools, err := stream.Pools(ctx, nc)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var fit []string
	for _, pool := range pools {
		if strings.HasPrefix(pool, begun) {
			fit = append(fit, pool+behind)
		}
	}
	directive := cobra.ShellCompDirectiveNoFileComp
	if behind != "" {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return fit, directive
}
