package worker

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
)

// adopts is a worker that starts on the bed with a script of its own; it returns the release that it finds, and its log.
func (b *bed) adopts(l *scripting.Library, shipped bool) (stream.Turn, string) {
	b.t.Helper()
	var log bytes.Buffer
	now, err := Adopt(within(b.t, time.Minute), b.pool, l, shipped, "worker-1", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		b.t.Fatal(err)
	}
	return now, log.String()
}

// pushes makes a library the pool's current release, as an operator does.
func (b *bed) pushes(l *scripting.Library) {
	b.t.Helper()
	ctx := within(b.t, time.Minute)
	if err := b.pool.StoreRelease(ctx, ReleaseOf(l)); err != nil {
		b.t.Fatal(err)
	}
	now, err := b.pool.CurrentRelease(ctx)
	if err != nil && !errors.Is(err, stream.ErrNoRelease) {
		b.t.Fatal(err)
	}
	if _, err := b.pool.TurnRelease(ctx, stream.Turn{Name: l.Release(), By: "ada"}, now.Revision); err != nil {
		b.t.Fatal(err)
	}
}

func versionOf(t *testing.T, n int) *scripting.Library {
	return library(t, map[string]string{"main": fmt.Sprintf("print(%d)", n), "empty": ""})
}

// TestReleaseNames: the name that a library has is the one that the stream checks.
func TestReleaseNames(t *testing.T) {
	for _, scripts := range []map[string]string{nil, {"a": ""}, {"b": "print(`é`)", "a": "x := 1\n", "B": " "}} {
		l := library(t, scripts)
		if r := ReleaseOf(l); r.Name != job.ReleaseName(scripts) || job.ReleaseName(r.Scripts) != r.Name {
			t.Errorf("%v: the library's release is %s, the stream's %s", scripts, r.Name, job.ReleaseName(scripts))
		}
	}
}

func TestAdoptScripts(t *testing.T) {
	b := newBed(t)
	one, two := versionOf(t, 1), versionOf(t, 2)
	if now, log := b.adopts(one, false); now.Name != one.Release() || now.By != "worker-1" || strings.Contains(log, "WARN") {
		t.Errorf("with no release before: %+v\n%s", now, log)
	}
	first, _ := b.adopts(one, false)
	if now, _ := b.adopts(two, false); now.Name != two.Release() || now.Revision <= first.Revision {
		t.Errorf("new scripts: the pool runs %+v", now)
	}
	now, log := b.adopts(one, false)
	if now.Name != two.Release() || !strings.Contains(log, "WARN") || !strings.Contains(log, "thence scripts rollback p "+one.Release()) {
		t.Errorf("scripts that were current before: the pool runs %+v\n%s", now, log)
	}
}

func TestAdoptShipped(t *testing.T) {
	b := newBed(t)
	old, newer, chosen, newest := versionOf(t, 1), versionOf(t, 2), versionOf(t, 3), versionOf(t, 4)
	for _, c := range []struct {
		what string
		mine *scripting.Library
		want *scripting.Library
	}{{"none before", old, old}, {"a newer program", newer, newer}, {"an older program", old, newer}} {
		if now, log := b.adopts(c.mine, true); now.Name != c.want.Release() || !now.Shipped || strings.Contains(log, "WARN") {
			t.Errorf("%s: the pool runs %+v, want %s\n%s", c.what, now, c.want.Release(), log)
		}
	}
	b.pushes(chosen)
	if now, log := b.adopts(newest, true); now.Name != chosen.Release() || strings.Contains(log, "WARN") {
		t.Errorf("shipped scripts took the place of pushed ones: %+v\n%s", now, log)
	}
	if now, _ := b.adopts(nil, false); now.Name != chosen.Release() {
		t.Errorf("a worker without scripts runs %+v", now)
	}
}

func TestAdoptNothing(t *testing.T) {
	b := newBed(t)
	if _, err := Adopt(within(t, time.Minute), b.pool, nil, true, "worker-1", quiet()); !errors.Is(err, stream.ErrNoRelease) {
		t.Errorf("no scripts and no release: %v", err)
	}
}

// TestAdoptAtOnce: of workers that start at once with different scripts each runs what the pool runs, once all are there.
func TestAdoptAtOnce(t *testing.T) {
	b := newBed(t)
	ctx := within(t, time.Minute)
	var all sync.WaitGroup
	for n := range 6 {
		mine := versionOf(t, n/2)
		all.Go(func() {
			if _, err := Adopt(ctx, b.pool, mine, n%3 == 0, fmt.Sprint("worker-", n), quiet()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	turns, err := b.pool.ReleaseTurns(ctx)
	if err != nil || len(turns) == 0 {
		t.Fatalf("%d turns, %v", len(turns), err)
	}
	seen := map[string]bool{}
	for _, turn := range turns {
		if seen[turn.Name] {
			t.Errorf("a worker turned the pool back to %s", turn.Name)
		}
		seen[turn.Name] = true
	}
}

// TestAdoptLost: whoever was too late with a directory leaves the pool with the one that won, unless what won was shipped.
func TestAdoptLost(t *testing.T) {
	for _, shipped := range []bool{true, false} {
		b := newBed(t)
		won, mine := versionOf(t, 1), versionOf(t, 2)
		b.adopts(won, shipped)
		var log bytes.Buffer
		a := adoption{pool: b.pool, mine: ReleaseOf(mine), by: "late", log: slog.New(slog.NewTextHandler(&log, nil)), lost: true}
		now, err := a.try(within(t, time.Minute))
		if err != nil || (now.Name == mine.Release()) != shipped || strings.Contains(log.String(), "WARN") == shipped {
			t.Errorf("lost to shipped scripts: %v; the pool runs %+v, %v\n%s", shipped, now, err, log.String())
		}
	}
}
