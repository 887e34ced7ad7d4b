package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/stream"
)

func (a *app) scriptsRollback() *cobra.Command {
	var flags turnFlags
	cmd := &cobra.Command{
		Use:   "rollback POOL [RELEASE]",
		Short: "Make a former release the pool's current one again",
		Long: `Make a release that the pool ran before the current one again; without a name the one before the current one. A few
digits of a name are enough. Jobs of callers run it from now on. Flows in flight end on the release that they began with, also on the one
that is rolled back: what it did wrong shows in ` + "`thence dead list`" + `.`,
		Example: `  thence scripts rollback payments
  thence scripts rollback payments 3f2a --note "refunds fail"
  thence scripts rollback payments --dry-run`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(args[0], func(p *stream.Pool) error {
				return a.runRollback(cmd.Context(), p, strings.Join(args[1:], ""), flags)
			})
		},
	}
	flags.register(cmd)
	return cmd
}

// rolledBack is how the history calls a rollback.
const rolledBack = "rollback"

func (a *app) runRollback(ctx context.Context, p *stream.Pool, word string, flags turnFlags) error {
	now, old, err := currentScripts(ctx, p)
	if err != nil {
		return err
	}
	name, err := rollbackTo(ctx, p, word)
	if err != nil {
		return err
	}
	r, err := p.LoadRelease(ctx, name) // all of it must be there
	if err != nil {
		return err
	}
	return a.turnTo(ctx, p, now, turned{Release: name, Before: now.Name, changes: changesBetween(old, r.Scripts)}, rolledBack, flags)
}

// rollbackTo is the release that a user wants to go back to.
func rollbackTo(ctx context.Context, p *stream.Pool, word string) (string, error) {
	if word != "" {
		return releaseNamed(ctx, p, word)
	}
	turns, err := p.ReleaseTurns(ctx)
	if err != nil {
		return "", err
	}
	if len(turns) == 0 {
		return releaseNamed(ctx, p, "current") // says so
	}
	if before := beforeCurrent(turns); before != "" {
		return before, nil
	}
	return "", fmt.Errorf("pool %s ran no release before %s: see `thence scripts list %s`", p.Name, turns[0].Name, p.Name)
}

// beforeCurrent is the release that was the current one before the present one, of a history with the newest first. What
// was rolled back does not count: a second rollback goes further back, and not forward again.
func beforeCurrent(turns []stream.Turn) string {
	for turns[0].From == rolledBack {
		name := turns[0].Name
		i := slices.IndexFunc(turns[1:], func(t stream.Turn) bool { return t.Name == name })
		if i < 0 {
			break
		}
		turns = turns[1+i:]
	}
	for _, t := range turns {
		if t.Name != turns[0].Name {
			return t.Name
		}
	}
	return ""
}
