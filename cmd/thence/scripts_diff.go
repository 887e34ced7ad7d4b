package main

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/worker"
)

func (a *app) scriptsDiff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff POOL A [B]",
		Short: "Show how the scripts of two releases differ",
		Long: `Show how the scripts of release A become those of release B, the current one unless another is named. Each may be a few digits of
its name, "current", or a directory, which stands for what a push of it would be.`,
		Example: `  thence scripts diff payments 3f2a
  thence scripts diff payments 3f2a 9c01
  thence scripts diff payments current ./scripts`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(args[0], func(p *stream.Pool) error {
				to := "current"
				if len(args) == 3 {
					to = args[2]
				}
				return a.diffReleases(cmd.Context(), p, args[1], to)
			})
		},
	}
}

// difference is how one script differs between two releases.
type difference struct {
	Script string `json:"script"`
	Diff   string `json:"diff"`
}

func (a *app) diffReleases(ctx context.Context, p *stream.Pool, from, to string) error {
	old, err := releaseOrDirectory(ctx, p, from)
	if err != nil {
		return err
	}
	now, err := releaseOrDirectory(ctx, p, to)
	if err != nil {
		return err
	}
	all := scriptDiffs(old, now)
	if a.json {
		return a.printJSON(all)
	}
	for _, d := range all {
		a.printf("%s", plainSource(d.Diff))
	}
	if len(all) == 0 {
		a.notef("no difference: both are release %s\n", now.Name)
	}
	return nil
}

// releaseOrDirectory is a release that is stored, or what a push of a directory would be.
func releaseOrDirectory(ctx context.Context, p *stream.Pool, word string) (stream.Release, error) {
	if info, err := os.Stat(word); err == nil && info.IsDir() {
		library, err := overlay(word, word)
		if err != nil {
			return stream.Release{}, err
		}
		return worker.ReleaseOf(library), nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return stream.Release{}, err
	}
	name, err := releaseNamed(ctx, p, word)
	if err != nil {
		return stream.Release{}, err
	}
	return p.LoadRelease(ctx, name)
}

// scriptDiffs are those of the scripts that are not the same, in the order of their names. A script that one release
// does not have is empty there.
func scriptDiffs(old, now stream.Release) []difference {
	names := slices.Sorted(maps.Keys(old.Scripts))
	for name := range now.Scripts {
		names = append(names, name)
	}
	slices.Sort(names)
	all := []difference{}
	for _, name := range slices.Compact(names) {
		text := diff.Diff(old.Name+"/"+name, []byte(old.Scripts[name]), now.Name+"/"+name, []byte(now.Scripts[name]))
		if len(text) > 0 {
			all = append(all, difference{name, string(text)})
		}
	}
	return all
}
