package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// ready gives the tree of commands what all of them share: examples first in their help, errors that say what to do, completion.
// Those that cobra makes by itself (completion, help) are no exception: a name that they don't know is a mistake, and no success.
func (a *app) ready(root *cobra.Command) {
	root.SetUsageTemplate(examplesFirst(root.UsageTemplate()))
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	if c := commandOf(root, "completion"); c != nil {
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	wrapArgs(root)
	if c := commandOf(root, "help"); c != nil {
		c.Args = knownCommand
	}
	a.complete(root)
}

func commandOf(root *cobra.Command, name string) *cobra.Command {
	for _, c := range root.Commands() {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

// knownCommand refuses to help with a command that is not there.
func knownCommand(help *cobra.Command, args []string) error {
	found, rest, err := help.Root().Find(args)
	if err != nil {
		return usageError{err}
	}
	if len(rest) > 0 && found.HasSubCommands() {
		return usageError{argsError(found, rest)}
	}
	return nil
}

// examplesFirst moves the examples of cobra's template in front of the usage line.
func examplesFirst(template string) string {
	const examples = "{{if .HasExample}}\n\nExamples:\n{{.Example}}{{end}}"
	before, after, found := strings.Cut(template, examples)
	if !found {
		return template
	}
	return "{{if .HasExample}}Examples:\n{{.Example}}\n\n{{end}}" + before + after
}
