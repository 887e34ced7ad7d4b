package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/internal/crash"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/operator"
	"github.com/thence-dev/thence/internal/stream"
)

const crashName = "crash-points"

var crashPoints = fault{
	name:  crashName,
	about: "a worker is killed exactly at a step of the protocol",
	plan:  planCrashPoints,
}

// crashing is how a crash point is reached.
type crashing struct {
	point  crash.Point
	n      int         // the time at which it kills
	first  crash.Point // an earlier worker dies there, so that there is something to find for the next
	stop   bool        // the victim gets SIGTERM
	hurry  bool        // its jobs were handed out before, so that they are suspicious
	rival  bool        // somebody else writes to the contexts meanwhile
	hold   bool        // failed jobs hold their contexts
	later  bool        // its calls come again late enough for their answers to be taken first
	rare   bool        // every worker of the first few can meet it
	shared int         // servers
	many   int         // workers
}

// common are points that every job or call comes by: they kill at the n-th of up to so many.
var common = map[crash.Point]int{
	crash.JobTaken: 60, crash.ContextRead: 60, crash.HeadRead: 60, crash.RunBefore: 60, crash.RunAfter: 60, crash.CommitBefore: 60,
	crash.CommitAfter: 60, crash.OutboxBefore: 30, crash.OutboxAfter: 30, crash.OutboxCall: 10, crash.OutboxJob: 15, crash.OutboxDead: 5,
	crash.OutboxDone: 30, crash.AckBefore: 60, crash.AckAfter: 60,
	crash.CallTaken: 12, crash.CallOpen: 12, crash.CallSent: 12, crash.CallRetryBefore: 3, crash.CallRetryAfter: 3,
	crash.CallAnswerBefore: 10, crash.CallAnswerAfter: 10, crash.CallAckBefore: 10, crash.CallAckAfter: 10,
}

// reach is how to come to a point.
func reach(point crash.Point) crashing {
	c := crashing{point: point, n: common[point]}
	if c.n > 0 {
		return c
	}
	c.n, c.rare = 2, true
	switch point {
	case crash.MarkBefore, crash.MarkAfter:
		c.hurry = true
	case crash.CommitLost:
		c.rival = true
	case crash.HoldBefore, crash.HoldAfter:
		c.hold = true
	case crash.ReflushBefore, crash.ReflushAfter:
		c.first, c.n = crash.CommitAfter, 1
	case crash.CallClosed:
		c.first, c.n, c.later = crash.CallAnswerAfter, 1, true
	case crash.GiveBackBefore:
		c.stop, c.n = true, 2
	}
	return c
}

func planCrashPoints(p planning) []*trial {
	var trials []*trial
	add := func(point crash.Point, workers, replicas int) {
		name := fmt.Sprintf("%s/%s/w%d/r%d", crashName, point, workers, replicas)
		rng := source(p.seed, name+"/plan")
		c := reach(point)
		c.n, c.many, c.shared = 1+rng.IntN(c.n), workers, replicas
		if workers > 1 && !c.rare {
			c.n = 1 + c.n/workers
		}
		limit := 3 * time.Minute
		if c.hold {
			limit = 6 * time.Minute // a job that no other job of its context wakes comes again after half a minute
		}
		trials = append(trials, &trial{
			fault: crashName, name: name, share: replicas, limit: limit, detail: fmt.Sprintf("at time %d", c.n),
			play: func(ctx context.Context, t *trial) error { return t.crash(ctx, c) },
		})
	}
	points := crash.Points
	if p.scale == scaleSmoke {
		points = []crash.Point{crash.CommitAfter, crash.CallSent, crash.AckBefore}
	}
	for _, servers := range pick(p.scale, []int{1}, []int{1}, []int{1, 3}, []int{1, 3}) {
		for _, point := range points {
			for _, workers := range workersFor(p, point, servers) {
				add(point, workers, servers)
			}
		}
	}
	return trials
}

// workersFor is with how many workers a point is met: a full run has both, a smaller one that which the seed draws.
func workersFor(p planning, point crash.Point, servers int) []int {
	both := []int{1, 3}
	if p.scale == scaleFull {
		return both
	}
	return both[source(p.seed, fmt.Sprintf("%s/%s/r%d/workers", crashName, point, servers)).IntN(2):][:1]
}

// crash runs a small workload on workers of which some die at a point, and are replaced.
func (t *trial) crash(ctx context.Context, c crashing) error {
	c.n = max(1, c.n>>t.attempt) // where nobody came to the n-th, somebody may come to an earlier one
	on, err := t.gauntlet.shared(ctx, c.shared)
	if err != nil {
		return err
	}
	s := size{contexts: 12, jobs: 10, mix: everything, repeats: 15}
	if c.hold {
		s = size{contexts: 6, jobs: 5, mix: mix{kindCount: 3, kindHold: 1, kindCall: 1}}
	}
	st, err := t.open(ctx, on, s)
	defer st.close()
	if err != nil {
		return err
	}
	if c.hold {
		st.hold = string(kindHold)
	}
	if err := st.beforeCrash(ctx, c); err != nil {
		return err
	}
	return st.runCrash(ctx, c)
}

// beforeCrash brings the pool to where the point can be met.
func (st *stage) beforeCrash(ctx context.Context, c crashing) error {
	if !c.hurry && !c.stop && c.first == "" {
		return nil
	}
	if err := st.callers.publish(ctx); err != nil {
		return err
	}
	if c.hurry {
		return st.handOut(ctx, 6)
	}
	if c.first == "" {
		return nil
	}
	if c.later {
		if err := st.pool.comeAgain(ctx, job.CallsStream(st.pool.name), stream.CallsConsumer(st.pool.name, "api", inFlight), 4*ackWait); err != nil {
			return err
		}
	}
	w, err := st.startWorker(crash.Variable + "=" + string(c.first) + ":2")
	if err != nil {
		return err
	}
	return st.awaitDeath(ctx, w)
}

// handOut takes every job from the consumer and gives it back, so many times, as workers do that can't begin it.
func (st *stage) handOut(ctx context.Context, times int) error {
	c, err := st.pool.js.Consumer(ctx, job.JobsStream(st.pool.name), stream.JobsConsumer().Durable)
	if err != nil {
		return err
	}
	all := st.load.count()
	for range times {
		for taken := 0; taken < all; {
			batch, err := c.Fetch(all-taken, jetstream.FetchMaxWait(2*time.Second))
			if err != nil {
				return err
			}
			got := 0
			for m := range batch.Messages() {
				got++
				if err := m.Nak(); err != nil {
					return err
				}
			}
			if got == 0 {
				return fmt.Errorf("hand out jobs: got %d of %d", taken, all)
			}
			taken += got
		}
	}
	return nil
}

// awaitDeath waits until a worker has died, or until all is quiet without that.
func (st *stage) awaitDeath(ctx context.Context, workers ...*process) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	dead := make(chan struct{}, len(workers))
	var group errgroup.Group
	for _, w := range workers {
		group.Go(func() error {
			select {
			case <-w.ended:
				dead <- struct{}{}
			case <-watching.Done():
			}
			return nil
		})
	}
	quiet := make(chan error, 1)
	group.Go(func() error { quiet <- st.pool.quiet(watching); return nil })
	var err error
	select {
	case <-dead:
	case err = <-quiet:
	}
	stop()
	_ = group.Wait()
	return err
}

// runCrash starts the victims and, once one is dead, others that know of no crash point.
func (st *stage) runCrash(ctx context.Context, c crashing) error {
	writes, err := st.pool.follow()
	if err != nil {
		return err
	}
	defer writes.stop()
	victims, err := st.startVictims(c)
	if err != nil {
		return err
	}
	publishing, under := errgroup.WithContext(ctx)
	publishing.Go(func() error { return st.callers.publish(under) })
	var beside errgroup.Group
	hurting, stop := context.WithCancel(ctx)
	defer stop()
	if c.rival {
		beside.Go(func() error { return st.rival(hurting) })
	}
	if c.hold {
		beside.Go(func() error { return st.letGo(hurting) })
	}
	if c.stop {
		if err := st.terminate(ctx, writes, victims); err != nil {
			return err
		}
	}
	err = st.awaitDeath(ctx, victims...)
	for range max(1, c.many-1) {
		if _, err := st.startWorker(); err != nil {
			return err
		}
	}
	err = errors.Join(err, publishing.Wait())
	if err == nil && c.hold { // whoever lets the contexts go on has to stay
		err = st.pool.quiet(ctx)
	}
	stop()
	if err := errors.Join(err, beside.Wait()); err != nil {
		st.violate(err.Error())
		return st.keepEvidence(ctx, nil)
	}
	st.countDeaths(victims, c)
	return st.settle(ctx)
}

// startVictims starts the workers that are to die: of three that meet a common point, one, two, or all.
func (st *stage) startVictims(c crashing) ([]*process, error) {
	var victims []*process
	for i := range c.many {
		env := []string{fmt.Sprintf("%s=%s:%d", crash.Variable, c.point, c.n)}
		if i > 0 && !c.rare && !c.stop && st.rng.IntN(2) == 0 {
			env = nil
		}
		w, err := st.startWorker(env...)
		if err != nil {
			return nil, err
		}
		if env != nil {
			victims = append(victims, w)
		}
	}
	return victims, nil
}

// terminate sends SIGTERM to the victims once they are at work.
func (st *stage) terminate(ctx context.Context, writes *progress, victims []*process) error {
	for _, w := range victims {
		if _, err := w.ready(ctx); err != nil && w.alive() {
			return err
		}
	}
	if err := writes.reached(ctx, 1); err != nil {
		return err
	}
	for _, w := range victims {
		w.signal(syscall.SIGTERM)
	}
	return nil
}

// rival writes the contexts anew, unchanged, as operators do who pause and resume them, until ctx ends.
func (st *stage) rival(ctx context.Context) error {
	written := 0
	for ctx.Err() == nil {
		for _, name := range st.load.contexts {
			e, err := st.pool.streams.ContextFromLeader(ctx, name)
			if err != nil || e.Data == nil {
				continue
			}
			if _, err = st.pool.streams.Commit(ctx, name, e.Data, e.Base()); err == nil {
				written++
			}
			if pause(ctx, 5*time.Millisecond) != nil {
				break
			}
		}
	}
	st.tally["contexts written by an operator"] += written
	return nil
}

// letGo lets contexts go on that a failed job holds, without it, until ctx ends.
func (st *stage) letGo(ctx context.Context) error {
	o, err := operator.New(st.pool.streams, "gauntlet")
	if err != nil {
		return err
	}
	t := time.NewTicker(2 * tick)
	defer t.Stop()
	for {
		for letter, err := range o.Letters(ctx, operator.Filter{}) {
			if err != nil || !letter.Held {
				continue
			}
			if _, err := o.Drop(ctx, letter); err == nil {
				st.tally["held contexts let go"]++
			}
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// countDeaths tells whether the point was met.
func (st *stage) countDeaths(victims []*process, c crashing) {
	died := 0
	for _, w := range victims {
		if w.endedBy(syscall.SIGKILL) {
			died++
		}
	}
	st.tally["crashes"] += died
	if died == 0 {
		st.missed = fmt.Sprintf("no worker came to %s", c.point)
	}
}
