package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/integration_test/gauntlet/disk"
	"github.com/thence-dev/thence/internal/job"
)

// The power fails: the server's disk is shut down under it, and what was not synced is gone.

var powerLoss = fault{"power-loss", "the disk loses its power under the only server, again and again; sync_interval: always", func(p planning) []*trial {
	return planPower(p, "power-loss", pick(p.scale, 0, 1, 1, 3), func(at []int, s size) func(context.Context, *trial) error {
		return func(ctx context.Context, t *trial) error { return t.powerLoss(ctx, at, s) }
	})
}}

var powerLossControl = fault{"power-loss-control", "the same at the default sync_interval, which must lose something: else the test shows nothing", func(p planning) []*trial {
	return planPower(p, "power-loss-control", pick(p.scale, 0, 1, 1, 2), func(_ []int, s size) func(context.Context, *trial) error {
		return func(ctx context.Context, t *trial) error { return t.powerLossControl(ctx, s) }
	})
}}

const diskSize = 1 << 30 // of a sparse file

func planPower(p planning, name string, trials int, play func([]int, size) func(context.Context, *trial) error) []*trial {
	var all []*trial
	for i := range trials {
		full := fmt.Sprintf("%s/%d", name, i+1)
		at := places(source(p.seed, full+"/plan"), pick(p.scale, 1, 2, 3, 6))
		s := size{contexts: pick(p.scale, 20, 30, 50, 150), jobs: 15, mix: everything, repeats: 10}
		all = append(all, &trial{
			fault: name, name: full, limit: 10 * time.Minute, needs: needsRoot, detail: fmt.Sprintf("at %v percent of the commits", at), play: play(at, s),
		})
	}
	return all
}

// onDisk plays on one server whose store is on a disk.
func (t *trial) onDisk(ctx context.Context, d *disk.Disk, always bool, s size, play func(*stage) error) error {
	on, err := newServers(t.dir, t.gauntlet.binary, 1, always)
	if err != nil {
		return err
	}
	on.nodes[0].store = filepath.Join(d.Dir, "store")
	defer on.end()
	if err := on.start(ctx); err != nil {
		return err
	}
	st, err := t.open(ctx, on, s)
	defer st.close()
	if err != nil {
		return err
	}
	return play(st)
}

func (t *trial) powerLoss(ctx context.Context, at []int, s size) (err error) {
	d, err := disk.NewExt4(ctx, t.dir, diskSize)
	if err != nil {
		return skip{err}
	}
	defer func() { _ = d.Close() }()
	return t.onDisk(ctx, d, true, s, func(st *stage) error {
		if err := st.startWorkers(ctx, 3); err != nil {
			return err
		}
		st.again = true
		return st.run(ctx, func(ctx context.Context, st *stage) error {
			return st.atPlaces(ctx, at, func(ctx context.Context) error { return st.failPower(ctx, d) })
		})
	})
}

// failPower cuts the power, and has it come back.
func (st *stage) failPower(ctx context.Context, d *disk.Disk) error {
	server := st.servers.nodes[0]
	if err := d.CutPower(); err != nil {
		return err
	}
	server.proc.kill()
	st.tally["losses of power"]++
	if err := d.Remount(ctx); err != nil {
		return err
	}
	if err := st.servers.restart(ctx, server); err != nil {
		return err
	}
	return st.servers.awaitStreams(ctx)
}

// powerLossControl cuts the power while jobs are published, and counts what of the accepted ones is left.
func (t *trial) powerLossControl(ctx context.Context, s size) error {
	d, err := disk.NewExt4(ctx, t.dir, diskSize)
	if err != nil {
		return skip{err}
	}
	defer func() { _ = d.Close() }()
	return t.onDisk(ctx, d, false, s, func(st *stage) error {
		if err := d.Sync(); err != nil { // so that the streams themselves are there
			return err
		}
		if err := st.callers.publish(ctx); err != nil {
			return err
		}
		if err := st.failPower(ctx, d); err != nil {
			return err
		}
		left, err := st.stillThere(ctx)
		if err != nil {
			return err
		}
		t.tally.add(tally{"jobs accepted": len(st.callers.acked), "accepted jobs lost, as expected": len(st.callers.acked) - left})
		if left == len(st.callers.acked) {
			t.missed = "nothing was lost at the default sync_interval: that nothing is lost at always shows nothing"
		}
		return nil
	})
}

// stillThere counts the accepted jobs that are on the stream. Nobody has worked on them.
func (st *stage) stillThere(ctx context.Context) (int, error) {
	on, err := st.pool.leftOver(ctx, math.MaxUint64)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	left := 0
	for _, m := range on {
		if st.callers.acked[m.Header.Get(job.HeaderID)] > 0 {
			left++
		}
	}
	return left, err
}
