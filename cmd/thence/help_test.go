package main

import (
	"testing"

	"github.com/spf13/cobra"
)

// Every command shows how it is called; version and those that cobra makes have nothing to show.
func TestExamples(t *testing.T) {
	var look func(*cobra.Command)
	look = func(c *cobra.Command) {
		switch c.Name() {
		case "version", "completion", "help":
			return
		}
		if !c.Hidden && !c.HasExample() {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	look((&app{}).root())
}
