package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/internal/job"
)

// trial is one run of one fault: a pool of its own, a workload, what is done to the processes meanwhile, and the check
// of what it all came to. What it does is drawn from its random source alone, which comes of the seed and its name.
type trial struct {
	fault  string
	name   string
	share  int           // servers of this number are shared with other trials; 0: it has its own
	alone  bool          // nothing else runs meanwhile
	limit  time.Duration // how long it may take
	needs  func() error  // why it can't be run here; nil: it always can
	play   func(ctx context.Context, t *trial) error
	detail string // what the plan drew

	gauntlet *gauntlet
	rng      *rand.Rand
	dir      string
	host     string // where the API listens; default: loopback
	room     int64  // bytes of each of the pool's streams; default: maxBytes
	tally    tally
	broken   []string // violations
	notes    []string // what there is to say beside the figures
	missed   string   // why the fault did not happen, though all else is well
	attempt  int      // how often it was run before, without its fault
}

// source is the random source of a trial.
func source(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, name)
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// stage is a trial's pool with its workers and its callers.
type stage struct {
	*trial
	servers *servers
	pool    *pool
	api     *api
	load    *workload
	callers *callers
	workers []*process
	started int
	through string        // where workers reach NATS; empty: directly
	within  []string      // how workers are started, in a network namespace
	hold    string        // a script whose failure holds its context
	oldWord time.Duration // how long a leader may be cut off, or stopped, and go on to answer
	again   bool          // everything is published once more in the end

	lastOnly bool // of contexts only the last commit is looked at: there are too many
}

// open makes a trial's pool on servers that run, its API and its callers. close ends all of it.
func (t *trial) open(ctx context.Context, on *servers, s size) (*stage, error) {
	st := &stage{trial: t, servers: on, load: plan(t.rng, s)}
	err := st.prepare(ctx)
	return st, err
}

// maxBytes bounds the streams of a pool. The server sets room aside for all of it.
const maxBytes = 64 << 20

func (st *stage) prepare(ctx context.Context) error {
	nc, err := connect(st.servers.url())
	if err != nil {
		return err
	}
	if st.pool, err = makePool(ctx, nc, "p_"+st.slug(), st.servers.replicas(), cmp.Or(st.room, maxBytes)); err != nil {
		nc.Close()
		return err
	}
	if st.api, err = startAPI(cmp.Or(st.host, "127.0.0.1")+":0", filepath.Join(st.dir, "requests.jsonl")); err != nil {
		return err
	}
	st.callers, err = newCallers(nc, st.pool.name, st.load, st.api.url)
	return err
}

// slug is the trial's name, and its attempt, as a pool or a folder can have it.
func (t *trial) slug() string {
	name := t.name
	if t.attempt > 0 {
		name = fmt.Sprintf("%s again %d", t.name, t.attempt)
	}
	s := strings.Map(func(r rune) rune {
		if strings.ContainsRune("./ ", r) {
			return '_'
		}
		return r
	}, name)
	if len(s) > 28 {
		s = fmt.Sprintf("%s%08x", s[:20], digest(name))
	}
	return s
}

// close ends what open and startWorker began.
func (st *stage) close() {
	for _, w := range st.workers {
		w.kill()
	}
	if st.api != nil {
		_ = st.api.close() // its log is complete: every entry is written when it is made
	}
	if st.pool != nil {
		if len(st.broken) == 0 && st.share > 0 {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			st.pool.remove(ctx)
			cancel()
		}
		st.pool.nc.Close()
	}
}

// startWorker starts one more worker and does not wait for it. env may name a crash point.
func (st *stage) startWorker(env ...string) (*process, error) {
	st.started++
	name := fmt.Sprintf("w%d", st.started)
	through := st.through
	if through == "" {
		through = st.servers.url()
	}
	args := []string{workerRole, "-pool", st.pool.name, "-name", name, "-server", through, "-api", st.api.url}
	if st.hold != "" {
		args = append(args, "-hold", st.hold)
	}
	w, err := start(launch{name: name, dir: st.dir, within: st.within, binary: st.gauntlet.binary, args: args, env: env})
	if err == nil {
		st.workers = append(st.workers, w)
	}
	return w, err
}

// startWorkers starts n workers and waits until they take jobs.
func (st *stage) startWorkers(ctx context.Context, n int) error {
	for range n {
		if _, err := st.startWorker(); err != nil {
			return err
		}
	}
	for _, w := range st.workers[len(st.workers)-n:] {
		if _, err := w.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// replace kills the i-th worker and starts another in its place.
func (st *stage) replace(i int) error {
	st.workers[i].kill()
	w, err := st.startWorker()
	if err != nil {
		return err
	}
	st.workers[i] = w
	st.workers = st.workers[:len(st.workers)-1]
	st.tally["kill -9 of a worker"]++
	return nil
}

// run publishes the workload while hurt does its worst, waits until all is quiet, and checks. hurt may be nil.
func (st *stage) run(ctx context.Context, hurt func(context.Context, *stage) error) error {
	group, under := errgroup.WithContext(ctx)
	group.Go(func() error { return st.callers.publish(under) })
	if hurt != nil {
		group.Go(func() error { return hurt(under, st) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if st.again {
		if err := st.callers.republish(ctx); err != nil {
			return err
		}
	}
	return st.settle(ctx)
}

// settle waits until all is quiet, ends the workers, and checks.
func (st *stage) settle(ctx context.Context) error {
	if err := st.pool.quiet(ctx); err != nil {
		st.violate(err.Error())
		return st.keepEvidence(ctx, nil)
	}
	for _, w := range st.workers {
		// One that has only just been started may not know what SIGTERM means yet.
		if err := w.stop(20 * time.Second); err != nil && !w.endedBy(syscall.SIGKILL) && !w.endedBy(syscall.SIGTERM) {
			st.violate(fmt.Sprintf("worker %s: %v", w.name, err))
		}
	}
	return st.check(ctx)
}

// check reads what there is to see, and compares it with what must be.
func (st *stage) check(ctx context.Context) error {
	var r *records
	err := insist(ctx, "read what the pool came to", func(context.Context) (err error) {
		r, err = st.pool.readRecords(ctx, st.lastOnly)
		return err
	})
	if err != nil {
		return err
	}
	calls, err := st.pool.js.Stream(ctx, job.CallsStream(st.pool.name))
	if err != nil {
		return err
	}
	if n := calls.CachedInfo().State.Msgs; n > 0 {
		st.tally.add(tally{"acked calls that the server shows still": int(n)})
	}
	sent, err := readSends(st.dir)
	if err != nil {
		return err
	}
	broken, got := check(r, st.load.outcome(), st.callers.acked, tries{st.api.requests(), sent, st.oldWord})
	st.tally.add(got)
	st.tally.add(tally{
		"jobs accepted": len(st.callers.acked), "publishes without an answer": st.callers.unknown, "publishes refused": st.callers.refused,
		"publishes repeated": st.callers.repeats, "publishes answered as duplicates": st.callers.repeated,
	})
	for _, b := range broken {
		st.violate(b)
	}
	if len(st.broken) > 0 {
		return st.keepEvidence(ctx, r)
	}
	return nil
}

func (t *trial) violate(what string) { t.broken = append(t.broken, what) }

// keepEvidence writes what the pool has to show beside the logs. The folder stays when something was broken.
func (st *stage) keepEvidence(ctx context.Context, r *records) error {
	if r == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		var err error
		if r, err = st.pool.readRecords(ctx, st.lastOnly); err != nil {
			return fmt.Errorf("read the evidence: %w", err)
		}
	}
	type revision struct {
		Revision uint64     `json:"revision"`
		Time     time.Time  `json:"time"`
		Commit   job.Commit `json:"commit"`
	}
	contexts := map[string][]revision{}
	for name, all := range r.contexts {
		for _, e := range all {
			contexts[name] = append(contexts[name], revision{e.revision, e.time, e.commit})
		}
	}
	return errors.Join(
		writeJSON(filepath.Join(st.dir, "contexts.json"), contexts),
		writeJSON(filepath.Join(st.dir, "dead.json"), r.dead),
		writeJSON(filepath.Join(st.dir, "left.json"), r.left),
		writeJSON(filepath.Join(st.dir, "acked.json"), st.callers.acked),
		os.WriteFile(filepath.Join(st.dir, "violations.txt"), []byte(strings.Join(st.broken, "\n")+"\n"), 0o600),
	)
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o600)
}
