package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/stream"
)

func (a *app) scripts() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scripts",
		Short: "Push a pool's scripts as a release, look at releases, and go back to one",
		Example: `  thence scripts push payments ./scripts --note "refunds"
  thence scripts list payments
  thence scripts diff payments 3f2a
  thence scripts rollback payments`,
		Long: `A release is all of a pool's named scripts at one time: those that come with the program, with a directory laid over them. It
never changes, and its name is made of its content. A job of a caller begins on the pool's current release; what follows from it, answers
and jobs that it dispatches in its own context, goes on with the same one. So a push never breaks a flow in flight.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.scriptsPush(), a.scriptsList(), a.scriptsShow(), a.scriptsDiff(), a.scriptsRollback())
	return cmd
}

// turn is an entry of the history of releases as JSON.
type turn struct {
	Release  string    `json:"release"`
	Time     time.Time `json:"time"`
	By       string    `json:"by,omitempty"`
	From     string    `json:"from,omitempty"`
	Note     string    `json:"note,omitempty"`
	Shipped  bool      `json:"shipped,omitempty"`
	Revision uint64    `json:"revision"`
}

func turnOf(t stream.Turn) turn {
	return turn{Release: t.Name, Time: t.Time, By: t.By, From: t.From, Note: t.Note, Shipped: t.Shipped, Revision: t.Revision}
}

// currentRelease is the pool's current release; its name is empty when there is none yet.
func currentRelease(ctx context.Context, p *stream.Pool) (stream.Turn, error) {
	now, err := p.CurrentRelease(ctx)
	if errors.Is(err, stream.ErrNoRelease) {
		return stream.Turn{}, nil
	}
	return now, err
}

// leastPrefix is how many digits of a release's name are enough, if they are of no other.
const leastPrefix = 4

// releaseNamed finds the release that a user means: "current", a name, or the beginning of one in the pool's history.
func releaseNamed(ctx context.Context, p *stream.Pool, word string) (string, error) {
	turns, err := p.ReleaseTurns(ctx)
	switch {
	case err != nil:
		return "", err
	case len(turns) == 0:
		_, err := p.CurrentRelease(ctx) // says so, and what to do
		return "", err
	case word == "current":
		return turns[0].Name, nil
	case len(word) < leastPrefix:
		return "", usageError{fmt.Errorf("release %q: want %d digits of its name or more, or current", word, leastPrefix)}
	}
	found := map[string]bool{}
	for _, t := range turns {
		if strings.HasPrefix(t.Name, word) {
			found[t.Name] = true
		}
	}
	switch names := slices.Sorted(maps.Keys(found)); len(names) {
	case 1:
		return names[0], nil
	case 0:
		return "", fmt.Errorf("release %q: pool %s never ran one of that name: `thence scripts list %s` shows those that it ran", word, p.Name, p.Name)
	default:
		return "", fmt.Errorf("release %q: it may be any of %s: give more digits", word, strings.Join(names, ", "))
	}
}

// changes are how one set of scripts differs from another.
type changes struct {
	Added   []string `json:"added"`
	Changed []string `json:"changed"`
	Removed []string `json:"removed"`
}

func changesBetween(old, now map[string]string) changes {
	c := changes{Added: []string{}, Changed: []string{}, Removed: []string{}}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		source, known := old[name]
		switch {
		case !known:
			c.Added = append(c.Added, name)
		case source != now[name]:
			c.Changed = append(c.Changed, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if _, kept := now[name]; !kept {
			c.Removed = append(c.Removed, name)
		}
	}
	return c
}

func (a *app) printChanges(c changes) {
	for _, kind := range []struct {
		what  string
		names []string
	}{{"added", c.Added}, {"changed", c.Changed}, {"removed", c.Removed}} {
		for _, name := range kind.names {
			a.printf("%-8s %s\n", kind.what, plain(name))
		}
	}
}
