package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/worker"
)

// turnFlags are those of what makes another release the current one.
type turnFlags struct {
	note, by string
	dryRun   bool
}

func (f *turnFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.note, "note", "", "why, for the history")
	cmd.Flags().StringVar(&f.by, "by", "", "who acts, for the history (default: user@host)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would change, and change nothing")
}

func (a *app) scriptsPush() *cobra.Command {
	var flags turnFlags
	cmd := &cobra.Command{
		Use:   "push POOL DIR",
		Short: "Make the scripts of a directory the pool's current release",
		Long: `Lay the *.tengo files of a directory over the scripts that come with this program, and make the whole the pool's current release.
All of them must compile, and each script that is imported, or named literally as then or catch of a call or for flow.dispatch, must be
among them. Jobs of callers run the new release from now on; flows in flight end on the one that they began with. A push that is
interrupted changes nothing, and can be repeated.`,
		Example: `  thence scripts push payments ./scripts --note "refunds"
  thence scripts push payments ./scripts --dry-run`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			library, err := overlay(args[1], args[1])
			if err != nil {
				return err
			}
			return a.withPool(args[0], func(p *stream.Pool) error {
				return a.runPush(cmd.Context(), p, worker.ReleaseOf(library), "push "+args[1], flags)
			})
		},
	}
	flags.register(cmd)
	return cmd
}

// turned is what push and rollback say of what they did.
type turned struct {
	Release string `json:"release"`
	Before  string `json:"before,omitempty"` // the release that was the current one
	Turned  bool   `json:"turned"`
	changes
}

func (a *app) runPush(ctx context.Context, p *stream.Pool, r stream.Release, from string, flags turnFlags) error {
	now, old, err := currentScripts(ctx, p)
	if err != nil {
		return err
	}
	done := turned{Release: r.Name, Before: now.Name, changes: changesBetween(old, r.Scripts)}
	if !flags.dryRun {
		if err := p.StoreRelease(ctx, r); err != nil { // also mends what is there, but damaged
			return err
		}
	}
	return a.turnTo(ctx, p, now, done, from, flags)
}

// currentScripts are the pool's current release and its scripts: those that are shipped where there is none yet, and none
// of one that is damaged.
func currentScripts(ctx context.Context, p *stream.Pool) (stream.Turn, map[string]string, error) {
	now, err := currentRelease(ctx, p)
	if err != nil {
		return now, nil, err
	}
	if now.Name == "" {
		shipped, err := openLibrary("")
		if err != nil {
			return now, nil, err
		}
		return now, worker.ReleaseOf(shipped).Scripts, nil
	}
	r, err := p.LoadRelease(ctx, now.Name)
	if errors.Is(err, stream.ErrDamaged) {
		err = nil
	}
	return now, r.Scripts, err
}

// turnTo makes a release that is stored the current one, unless it is already, or flags say no; and says what it did.
func (a *app) turnTo(ctx context.Context, p *stream.Pool, now stream.Turn, done turned, from string, flags turnFlags) error {
	if done.Release != now.Name && !flags.dryRun {
		_, err := p.TurnRelease(ctx, stream.Turn{Name: done.Release, By: a.who(flags.by), From: from, Note: flags.note}, now.Revision)
		if errors.Is(err, stream.ErrTurned) {
			return fmt.Errorf("%w: look at `thence scripts list %s`, and try again if it is still right", err, p.Name)
		}
		if err != nil {
			return err
		}
		done.Turned = true
	}
	if a.json {
		return a.printJSON(done)
	}
	a.printTurned(p.Name, now, done)
	return nil
}

func (a *app) printTurned(pool string, now stream.Turn, done turned) {
	a.printChanges(done.changes)
	switch {
	case done.Release == now.Name:
		a.printf("release %s is the current one of pool %s already: nothing to do\n", done.Release, pool)
	case !done.Turned:
		a.printf("release %s would be the current one of pool %s, in place of %s\n", done.Release, pool, orDash(done.Before))
	case done.Before == "":
		a.printf("release %s is the current one of pool %s\n", done.Release, pool)
	default:
		a.printf("release %s is the current one of pool %s: jobs of callers run it from now on, and flows that began on %s end on it\n",
			done.Release, pool, done.Before)
	}
}
