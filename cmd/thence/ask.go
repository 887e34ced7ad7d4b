package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/mattn/go-isatty"
)

// interactive tells whether there is somebody to ask: standard input is a terminal.
func (a *app) interactive() bool {
	f, ok := a.stdin.(interface{ Fd() uintptr })
	return ok && isatty.IsTerminal(f.Fd())
}

// confirm asks whether to do what is named, unless it is said to be agreed. Where nobody can be asked it is a usage
// error. Without an error and an agreement the command ends.
func (a *app) confirm(agreed bool, what string) (bool, error) {
	if agreed {
		return true, nil
	}
	if !a.interactive() {
		return false, usageError{fmt.Errorf("would %s, and there is no terminal to ask on: say --yes", what)}
	}
	a.notef("%s? [y/N] ", what)
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && line == "" {
		return false, fmt.Errorf("no answer: nothing was done: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	a.notef("nothing was done\n")
	return false, nil
}
