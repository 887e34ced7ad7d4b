package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing/synctest"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Worker runs a worker process until ctx ends. What it returns ends the process; another one is started in its place.
type Worker func(ctx context.Context, p *Process) error

// World is one history. Its scheduler is the goroutine that calls Run.
type World struct {
	seed   uint64
	plan   plan
	rng    *rand.Rand // the scheduler's alone
	worker Worker
	keys   job.Keyring

	trace     *trace
	agenda    agenda
	server    *server
	oracle    *oracle
	callers   callers
	releases  releases
	processes []*Process
	timer     *time.Timer
	quiet     bool // no more harm
	over      bool // no more processes
	broken    *Violation
	stats     Stats

	mu        sync.Mutex // guards what goroutines of processes touch
	round     uint64
	parked    []*request // sorted
	dying     []*Process
	endings   []ending
	callsFull error
	losses    uint64 // of the server, with all connections to it
	mended    bool
	knock     chan struct{} // has something when a request was parked or an ack said
}

// Violation is an invariant that did not hold.
type Violation struct {
	Invariant string
	Detail    string
}

// Stats says what a history was made of.
type Stats struct {
	Moves, Jobs, Commits, Calls, Requests, Harms, Turns int

	Time time.Duration // of the history, until the end of its quiet part
}

// Report is what came of a history.
type Report struct {
	Seed      uint64
	Violation *Violation // nil: every invariant held
	Hash      uint64     // of the trace
	Stats     Stats
	world     *World
}

// Trace is the last part of what happened, for people.
func (r Report) Trace(lines int) string { return r.world.trace.text(lines) }

// epoch is when histories begin. Sequences are the time in microseconds, and the worker refuses those of long ago.
var epoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// Run makes the history of a seed. It has to be called in a bubble of testing/synctest, and returns when every process
// has ended.
func Run(seed uint64, keys job.Keyring, worker Worker) Report {
	w := &World{seed: seed, keys: keys, worker: worker, rng: rand.New(rand.NewPCG(seed, 0x7468656e6365)), knock: make(chan struct{}, 1)}
	w.timer = time.NewTimer(time.Until(epoch))
	<-w.timer.C
	w.trace = newTrace(time.Now())
	w.plan = newPlan(w.rng)
	w.oracle = newOracle(w)
	w.server = newServer(w)
	w.releases.begin(w)
	for range w.plan.processes {
		w.spawn()
	}
	w.callers.begin(w)
	w.stir()
	w.settle()
	if w.broken == nil {
		w.oracle.judge()
	}
	w.stats.Time = time.Since(epoch)
	w.end()
	return Report{Seed: seed, Violation: w.broken, Hash: w.trace.sum.Sum64(), Stats: w.stats, world: w}
}

// violate records the first invariant that did not hold. The history ends with it.
func (w *World) violate(invariant, format string, args ...any) {
	if w.broken == nil {
		w.broken = &Violation{invariant, fmt.Sprintf(format, args...)}
		w.note("oracle", "VIOLATION", invariant, 0, 0, w.broken.Detail)
	}
}

func (w *World) note(who, what, where string, number, and uint64, how string) {
	w.trace.add(line{who: who, what: what, where: where, number: number, and: and, how: how})
}

// ring tells the scheduler that there is something to do. The caller holds mu.
func (w *World) ring() {
	select {
	case w.knock <- struct{}{}:
	default:
	}
}

// stir lets the history run with harm, until its moves are used up or nothing is left to do.
func (w *World) stir() {
	for w.stats.Moves < w.plan.moves && w.broken == nil && !w.settled() {
		w.step()
		w.stats.Moves++
	}
}

// recovery is how long everything may take to come to its end once the harm has.
const recovery = 15 * time.Minute

// settle ends the harm and waits until nothing is left to do.
func (w *World) settle() {
	w.pass(time.Millisecond)
	w.quiet = true
	w.mend()
	w.note("world", "is quiet", "", 0, 0, "")
	limit := time.Now().Add(recovery)
	for w.broken == nil && !w.settled() {
		if !w.callers.done() {
			limit = time.Now().Add(recovery)
		} else if time.Now().After(limit) {
			w.oracle.stuck()
			return
		}
		w.step()
		w.stats.Moves++
	}
}

// settled tells whether all is done: nothing is on its way, and nothing waits.
func (w *World) settled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.parked) > 0 || !w.callers.done() || !w.server.up || w.server.failing || w.oracle.held() {
		return false
	}
	for _, p := range w.processes {
		if len(p.said) > 0 && !p.life.dead {
			return false
		}
	}
	return w.server.jobs.count() == 0 && w.server.calls.count() == 0
}

// end stops every process and waits for it.
func (w *World) end() {
	w.pass(time.Millisecond)
	w.over = true
	for _, p := range w.processes {
		if w.broken != nil {
			w.kill(p)
		} else if !p.life.ended {
			p.life.ending = true
			p.kill()
		}
	}
	for limit := time.Now().Add(time.Hour); w.alive(); {
		w.step()
		if time.Now().After(limit) {
			buf := make([]byte, 1<<20)
			panic(fmt.Sprintf("simulation: seed %d: a process does not end\n%s\n%s", w.seed, w.trace.text(50), buf[:runtime.Stack(buf, true)]))
		}
	}
}

func (w *World) alive() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.processes {
		if !p.life.ended {
			return true
		}
	}
	return false
}

// spawn starts a process, unless the history is at its end.
func (w *World) spawn() {
	if w.over {
		return
	}
	ctx, kill := context.WithCancel(context.Background())
	p := &Process{world: w, number: len(w.processes), kill: kill, killed: make(chan struct{}), handed: map[string]*try{},
		turned: make(chan stream.Turn, 1), goesBy: uint64(len(w.releases.turns) - 1)}
	p.Name = fmt.Sprintf("worker-%d", p.number)
	w.mu.Lock()
	w.processes = append(w.processes, p)
	w.mu.Unlock()
	w.note(p.Name, "starts", "", 0, 0, "")
	go func() {
		err := w.worker(ctx, p)
		w.mu.Lock()
		defer w.mu.Unlock()
		p.life.ended = true
		w.endings = append(w.endings, ending{p, err})
		w.ring()
	}()
}

// step makes one move.
func (w *World) step() {
	w.pass(time.Duration(10+w.rng.IntN(200)) * time.Microsecond)
	w.mu.Lock()
	w.round++
	w.mu.Unlock()
	w.bury()
	if do := w.agenda.due(time.Now()); do != nil {
		do()
		return
	}
	if !w.quiet && chance(w.rng, w.plan.harm) {
		w.harm()
		return
	}
	w.choose()
}

// choose makes one of the moves that there are.
func (w *World) choose() {
	ready, talkers, handouts := w.ready(), w.talkers(), w.handouts()
	weights := []int{len(ready) * w.plan.request, len(talkers) * w.plan.ack, len(handouts) * w.plan.handout, w.plan.time}
	if weights[0]+weights[1]+weights[2] == 0 {
		w.idle(w.nextEvent())
		return
	}
	if w.quiet {
		weights[3] = 0
	}
	switch w.draw(weights) {
	case 0:
		w.perform(w.pick(ready))
	case 1:
		w.hear(talkers[w.rng.IntN(len(talkers))])
	case 2:
		w.hand(handouts[w.rng.IntN(len(handouts))])
	default:
		w.idle(time.Now().Add(between(w.rng, time.Millisecond, 8*time.Second)))
	}
}

// draw draws an index by its weight.
func (w *World) draw(weights []int) int {
	sum := 0
	for _, n := range weights {
		sum += n
	}
	x := w.rng.IntN(sum)
	for i, n := range weights {
		if x < n {
			return i
		}
		x -= n
	}
	return 0
}

// pick chooses a request. Those of a slow process are mostly passed over.
func (w *World) pick(ready []*request) *request {
	r := ready[w.rng.IntN(len(ready))]
	for range 3 {
		if r.process.number%w.plan.processes == w.plan.slow && !w.quiet {
			r = ready[w.rng.IntN(len(ready))]
		}
	}
	return r
}

// nextEvent is when something happens by itself, if no process does anything first.
func (w *World) nextEvent() time.Time {
	t := w.agenda.next(time.Now().Add(time.Minute))
	if !w.server.up || w.server.failing {
		return t
	}
	for _, c := range w.server.consumers() {
		t = c.earliest(time.Now(), t)
	}
	if soon := time.Now().Add(time.Millisecond); t.Before(soon) {
		t = soon
	}
	return t
}

// pass lets a little time go by, and waits until every goroutine is parked or asleep.
func (w *World) pass(d time.Duration) {
	w.timer.Reset(d)
	<-w.timer.C
	synctest.Wait()
}

// idle waits until a time, or until a process wants something.
func (w *World) idle(until time.Time) {
	select {
	case <-w.knock:
	default:
	}
	w.mu.Lock()
	waiting := len(w.ready()) > 0
	w.mu.Unlock()
	if waiting { // time goes by while requests are under way
		w.pass(min(time.Until(until), time.Second))
		return
	}
	w.timer.Reset(time.Until(until))
	select {
	case <-w.timer.C:
	case <-w.knock:
		w.timer.Stop()
	}
	synctest.Wait()
}

// Add adds what another history was made of.
func (s *Stats) Add(other Stats) {
	s.Moves += other.Moves
	s.Jobs += other.Jobs
	s.Commits += other.Commits
	s.Calls += other.Calls
	s.Requests += other.Requests
	s.Harms += other.Harms
	s.Turns += other.Turns
	s.Time += other.Time
}
