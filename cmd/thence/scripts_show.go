package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/stream"
)

func (a *app) scriptsList() *cobra.Command {
	return &cobra.Command{
		Use:   "list POOL",
		Short: "List which releases a pool ran, and since when, the current one at the end",
		Example: `  thence scripts list payments
  thence scripts list payments --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(args[0], func(p *stream.Pool) error { return a.listTurns(cmd.Context(), p) })
		},
	}
}

func (a *app) listTurns(ctx context.Context, p *stream.Pool) error {
	turns, err := p.ReleaseTurns(ctx)
	if err != nil {
		return err
	}
	slices.Reverse(turns)
	if a.json {
		all := make([]turn, len(turns))
		for i, t := range turns {
			all[i] = turnOf(t)
		}
		return a.printJSON(all)
	}
	if len(turns) == 0 {
		a.notef("pool %s has no release yet: push one with `thence scripts push %s DIR`, or start a worker\n", p.Name, p.Name)
		return nil
	}
	lines := make([][]string, len(turns))
	for i, t := range turns {
		state := ""
		if i == len(turns)-1 {
			state = "current"
		}
		lines[i] = []string{t.Name, t.Time.UTC().Format(time.RFC3339), orDash(t.By), orDash(t.From), orDash(state), orDash(cut(t.Note, 60))}
	}
	return a.table([]string{"release", "since", "by", "from", "state", "note"}, lines)
}

func (a *app) scriptsShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show POOL [RELEASE [SCRIPT]]",
		Short: "List a release's scripts, or print one of them",
		Example: `  thence scripts show payments
  thence scripts show payments 3f2a
  thence scripts show payments current checkout`,
		Args: cobra.RangeArgs(1, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(args[0], func(p *stream.Pool) error {
				release := "current"
				if len(args) > 1 {
					release = args[1]
				}
				return a.showRelease(cmd.Context(), p, release, strings.Join(args[min(2, len(args)):], ""))
			})
		},
	}
}

// stored is a release as show prints it.
type stored struct {
	Release string       `json:"release"`
	Scripts []scriptSize `json:"scripts"`
}

type scriptSize struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
}

// showRelease lists a release's scripts, or prints the one that is named.
func (a *app) showRelease(ctx context.Context, p *stream.Pool, word, script string) error {
	name, err := releaseNamed(ctx, p, word)
	if err != nil {
		return err
	}
	r, err := p.LoadRelease(ctx, name)
	if err != nil {
		return err
	}
	if script != "" {
		return a.printScript(p.Name, r, script)
	}
	s := stored{Release: r.Name}
	lines := make([][]string, 0, len(r.Scripts))
	for _, name := range slices.Sorted(maps.Keys(r.Scripts)) {
		s.Scripts = append(s.Scripts, scriptSize{name, len(r.Scripts[name])})
		lines = append(lines, []string{name, fmt.Sprint(len(r.Scripts[name]))})
	}
	if a.json {
		return a.printJSON(s)
	}
	a.notef("release %s of pool %s: %d scripts\n", r.Name, p.Name, len(s.Scripts))
	return a.table([]string{"script", "bytes"}, lines)
}

func (a *app) printScript(pool string, r stream.Release, script string) error {
	source, ok := r.Scripts[script]
	if !ok {
		return fmt.Errorf("release %s has no script %q: see `thence scripts show %s %s`", r.Name, script, pool, r.Name)
	}
	if a.json {
		return a.printJSON(map[string]string{"release": r.Name, "name": script, "source": source})
	}
	a.printf("%s\n", plainSource(strings.TrimSuffix(source, "\n")))
	return nil
}
