package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/worker"
)

// scriptsEvery is how often the directory of scripts is looked at. What changed is pushed once it has been the same for
// so long: an editor may be in the middle of it.
const scriptsEvery = 500 * time.Millisecond

// livePush makes what a directory has a pool's current release, as it changes.
type livePush struct {
	pool *stream.Pool
	dir  string
	by   string
	log  *slog.Logger

	files map[string]string // as they were pushed last, or found unfit
	seen  map[string]string // as they were looked at last
	said  string            // the error of the last look, which the log has
}

// live pushes the scripts of --scripts, whatever the pool runs, and follows them until the function that it returns is
// called. They become those of the worker. The pool's streams are made where they are missing.
func (a *app) live(ctx context.Context, nc *nats.Conn, flags workerFlags, config *worker.Config) (end func(), err error) {
	pool, err := stream.Ensure(ctx, nc, flags.pool, flags.storage.options())
	if err != nil {
		return nil, err
	}
	l := &livePush{pool: pool, dir: flags.scripts, by: a.who(""), log: config.Logger.With("pool", flags.pool, "scripts", flags.scripts)}
	files, err := tengoFiles(l.dir)
	if err != nil {
		return nil, err
	}
	if config.Library, err = l.push(ctx, files); err != nil {
		return nil, err
	}
	following, stop := context.WithCancel(ctx)
	var follow sync.WaitGroup
	follow.Go(func() { l.follow(following) })
	return func() { stop(); follow.Wait() }, nil
}

// follow pushes again whenever a script of the directory has changed, until ctx ends. Scripts that can't be used change
// nothing; the log says so each time that they become so.
func (l *livePush) follow(ctx context.Context) {
	tick := time.NewTicker(scriptsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		l.say(ctx, l.look(ctx))
	}
}

// say logs an error, unless the look before had the same.
func (l *livePush) say(ctx context.Context, err error) {
	switch {
	case err == nil:
		l.said = ""
	case l.said != err.Error() && ctx.Err() == nil:
		l.said = err.Error()
		l.log.Error("the scripts can't be pushed again: the release from before stays", "error", err)
	}
}

func (l *livePush) look(ctx context.Context) error {
	files, err := tengoFiles(l.dir)
	before := l.seen
	l.seen = files
	if err != nil || maps.Equal(files, l.files) || !maps.Equal(files, before) {
		return err
	}
	_, err = l.push(ctx, files)
	return err
}

// push makes the directory's scripts the current release. files are what it had just before.
func (l *livePush) push(ctx context.Context, files map[string]string) (*scripting.Library, error) {
	library, err := openLibrary(l.dir)
	if err != nil {
		l.files = files // not again, until they change
		return nil, err
	}
	r := worker.ReleaseOf(library)
	if err := l.pool.StoreRelease(ctx, r); err != nil {
		return nil, err
	}
	if err := l.turn(ctx, r.Name); err != nil {
		return nil, err
	}
	l.files = files
	return library, nil
}

func (l *livePush) turn(ctx context.Context, name string) error {
	for {
		now, err := currentRelease(ctx, l.pool)
		if err != nil || now.Name == name {
			return err
		}
		_, err = l.pool.TurnRelease(ctx, stream.Turn{Name: name, By: l.by, From: "up " + l.dir}, now.Revision)
		if err == nil {
			l.log.Info("the scripts are pushed", "release", name, "before", now.Name)
		}
		if !errors.Is(err, stream.ErrTurned) {
			return err
		}
	}
}

// tengoFiles are the scripts at a directory's root, by file name.
func tengoFiles(dir string) (map[string]string, error) {
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("--scripts %s: %w", dir, err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".tengo") {
			continue
		}
		source, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("--scripts %s: %w", dir, err)
		}
		files[e.Name()] = string(source)
	}
	return files, nil
}
