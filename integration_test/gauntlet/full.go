package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/integration_test/gauntlet/disk"
)

// No room: the disk under the server is full, or a stream has come to its max_bytes.

var fullDisk = fault{"full-disk", "the server's disk is full for a while; then room is made, and the server is started again", func(p planning) []*trial {
	s := size{contexts: pick(p.scale, 20, 30, 50, 150), jobs: 15, mix: everything, repeats: 10}
	var all []*trial
	for i := range pick(p.scale, 0, 0, 1, 2) {
		full := fmt.Sprintf("full-disk/%d", i+1)
		at := []int{2 + source(p.seed, full+"/plan").IntN(30)} // the second half of the jobs is published while the disk is full
		all = append(all, &trial{
			fault: "full-disk", name: full, limit: 10 * time.Minute, needs: needsRoot, detail: fmt.Sprintf("at %v percent of the commits", at),
			play: func(ctx context.Context, t *trial) error { return t.fullDisk(ctx, at, s) },
		})
	}
	return all
}}

var fullStream = fault{"full-stream", "the stream of jobs comes to its max_bytes; then workers come, and make room", func(p planning) []*trial {
	s := size{contexts: pick(p.scale, 20, 60, 100, 300), jobs: 15, mix: mix{kindCount: 4, kindCall: 1, kindFan: 1}}
	var all []*trial
	for i := range pick(p.scale, 0, 1, 1, 2) {
		all = append(all, &trial{
			fault: "full-stream", name: fmt.Sprintf("full-stream/%d", i+1), limit: 10 * time.Minute, detail: "max_bytes 128 KiB",
			play: func(ctx context.Context, t *trial) error { return t.fullStream(ctx, s) },
		})
	}
	return all
}}

const smallDisk = 96 << 20

func (t *trial) fullDisk(ctx context.Context, at []int, s size) error {
	d, err := disk.NewSmall(ctx, t.dir, smallDisk)
	if err != nil {
		return skip{err}
	}
	defer func() { _ = d.Close() }()
	return t.onDisk(ctx, d, false, s, func(st *stage) error {
		if err := st.startWorkers(ctx, 3); err != nil {
			return err
		}
		st.callers.gate = make(chan struct{})
		return st.run(ctx, func(ctx context.Context, st *stage) error {
			return st.atPlaces(ctx, at, func(ctx context.Context) error { return st.fill(ctx, d) })
		})
	})
}

// fill fills the disk, notes what callers are told, and recovers as docs/operations.md says: make room, and start the
// server again.
func (st *stage) fill(ctx context.Context, d *disk.Disk) error {
	if err := d.Fill(); err != nil {
		return err
	}
	st.tally["disk full"]++
	close(st.callers.gate)
	told, err := st.callers.untilTold(ctx, 20*time.Second)
	if err != nil {
		return err
	}
	if told == "" {
		st.violate("while the disk was full no caller had an error: publishes were accepted")
	} else {
		st.notes = append(st.notes, "callers were told: "+told)
	}
	if err := d.Free(); err != nil {
		return err
	}
	return st.killNodes(ctx, "restarts of the server", st.servers.nodes[0])
}

// untilTold waits until a caller's publish fails, and returns the words; empty: none did in that time. Where the stream
// is full that is a refusal. Where the disk is, the server gives no answer at all (nats-server 2.15.2).
func (c *callers) untilTold(ctx context.Context, patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errNotTold)
	defer cancel()
	c.mu.Lock()
	before := c.refused + c.unknown
	c.mu.Unlock()
	for {
		c.mu.Lock()
		failed, words := c.refused+c.unknown, c.lastErr
		c.mu.Unlock()
		if failed > before {
			return words.Error(), nil
		}
		if err := pause(ctx, 20*time.Millisecond); errors.Is(err, errNotTold) {
			return "", nil
		} else if err != nil {
			return "", err
		}
	}
}

var errNotTold = errors.New("nobody was refused")

func (t *trial) fullStream(ctx context.Context, s size) error {
	return t.onOwn(ctx, 1, false, s, func(st *stage) error {
		if err := st.pool.bound(ctx, 128<<10); err != nil {
			return err
		}
		publishing, under := errgroup.WithContext(ctx)
		publishing.Go(func() error { return st.callers.publish(under) })
		told, err := st.callers.untilTold(ctx, time.Minute)
		switch {
		case err != nil:
			return err
		case told == "":
			t.missed = "the stream did not fill up"
		case !strings.Contains(told, "full"):
			st.violate("callers were not told that the stream is full, but: " + told)
		default:
			t.notes = append(t.notes, "callers were told: "+told)
		}
		if err := st.startWorkers(ctx, 3); err != nil {
			return err
		}
		if err := publishing.Wait(); err != nil {
			return err
		}
		return st.settle(ctx)
	})
}
