package sandbox

import (
	"fmt"
	"slices"
	"time"

	"github.com/thence-dev/thence/scripting"
)

const (
	checkEvery = 5 * time.Millisecond
	// checkLate is the most that counts as having passed between two looks: when this process stands still as well,
	// that is no fault of the children.
	checkLate = 100 * time.Millisecond
	// grace is how much longer than its time limit a script may compute before its child is killed. The child stops
	// most scripts itself, and needs a moment for that.
	grace = 250 * time.Millisecond
	// A script may stand still for stallFactor times its time limit, and for stallLeast at least; then its child is
	// killed. It does not stand still when it has computed for a part in stallPart of its limit: on a machine that is
	// overloaded it takes long, and ends all the same.
	stallFactor = 10
	stallLeast  = 5 * time.Second
	stallPart   = 100
	// longest is the time limit beyond which there is none.
	longest = 365 * 24 * time.Hour
	// abandonedTime is how long a job goes on whose caller waits no longer.
	abandonedTime = 100 * time.Millisecond
)

// Why the sandbox kills a child for no fault of its job's.
const (
	abandoned = scripting.ErrorKind("abandoned")
	stalled   = scripting.ErrorKind("stalled") // the machine did not let it compute
)

// progress is what was seen of the job that a child runs.
type progress struct {
	number uint64        // the highest that the child has said to run
	since  time.Time     // when this job was first seen; zero before the first look
	passed time.Duration // since then, as far as this process was there to see
	used   time.Duration // CPU time of the child at since
	beats  uint64        // of the child's watch at since
	spent  time.Duration // CPU time since then, when last looked
	moved  time.Duration // what spent was when the job was last seen to go on, and
	still  time.Duration // what has passed since
}

// watch has check run while children have jobs. The lock is held.
func (s *Sandbox) watch() {
	if !s.watching {
		s.watching, s.checked = true, time.Now()
		time.AfterFunc(checkEvery, s.check)
		wakeMonitor()
	}
}

// check looks at every child: what waits behind a job that is not short after all is taken back, and runs elsewhere; a
// child whose job is past its time is killed. Once the sandbox is closed all are, and nothing waits.
func (s *Sandbox) check() {
	s.mu.Lock()
	s.watching = false
	if s.closed {
		s.mu.Unlock()
		return
	}
	now := time.Now()
	passed := min(now.Sub(s.checked), checkLate)
	for _, p := range s.processes {
		if len(p.jobs) > 0 {
			s.watch()
			s.checkProcess(p, now, passed)
		}
	}
	send := s.dispatch(nil)
	s.mu.Unlock()
	flush(send)
}

func (s *Sandbox) checkProcess(p *process, now time.Time, passed time.Duration) {
	used, exact := p.look(now, passed)
	if !exact {
		used = p.run.passed
	}
	at := slices.IndexFunc(p.jobs, func(t *task) bool { return t.number == p.run.number })
	t := p.jobs[max(at, 0)]
	limit := min(t.in.Limits.Time, longest)
	patience := max(stallFactor*limit, stallLeast)
	p.run.goesOn(passed, limit/stallPart)
	switch waited := now.Sub(p.run.since); {
	case at == 0 && !p.alone && waited > shortRun: // before any of the others: no neighbour is to die with the child
		p.alone = true
		s.takeBack(p)
	case used > limit+grace:
		p.kill(death{kind: scripting.KindTimeLimit, says: killedMessage(limit)})
	case p.run.still > patience:
		p.kill(death{kind: stalled, detail: p.run.String()})
	case p.run.passed > patience && p.waits():
		p.kill(death{kind: scripting.KindTimeLimit, detail: p.run.String(), says: fmt.Sprintf("the script stood still for %s, while it used %s of CPU time, "+
			"and was killed", p.run.passed.Round(time.Second), used.Round(time.Millisecond))})
	case t.left && at == 0 && waited > abandonedTime:
		p.kill(death{kind: abandoned})
	}
}

// look brings p.run up to date, and returns the CPU time that the child has used for its job. The child may lie about
// which job that is, but only forward, and not beyond those that it has.
func (p *process) look(now time.Time, passed time.Duration) (used time.Duration, exact bool) {
	cpu, exact := cpuTime(p.proc.Pid)
	running := min(p.page.running().Load(), p.last)
	if running > p.run.number || p.run.since.IsZero() {
		p.run = progress{number: max(running, p.run.number), since: now, used: cpu, beats: p.page.beats().Load()}
	} else {
		p.run.passed += passed
	}
	p.run.spent = max(p.run.spent, cpu-p.run.used)
	return p.run.spent, exact
}

// goesOn counts how long the job has not been seen to compute for least.
func (r *progress) goesOn(passed, least time.Duration) {
	if r.still += passed; r.spent-r.moved >= max(least, time.Microsecond) {
		r.moved, r.still = r.spent, 0
	}
}

func (r *progress) String() string {
	return fmt.Sprintf("it stood still: %s of CPU time within %s", r.spent.Round(time.Millisecond), r.passed.Round(time.Millisecond))
}

// waits tells whether a job that has not used its time waits for what will never come. The child's watch looks at its
// heap as ever then; on a machine that does not let the child compute, and beside a script that does, it could not.
func (p *process) waits() bool {
	due := uint64(p.run.passed / watchEvery)
	beats := p.page.beats().Load() - p.run.beats
	return due/4 < beats && beats < 2*due
}

func (p *process) kill(why death) {
	if p.killed == nil {
		p.killed = &why
		_ = p.proc.Kill()
	}
}

// takeBack puts the jobs that wait in a child behind the one that runs into the queue again, in their order.
func (s *Sandbox) takeBack(p *process) {
	if len(p.jobs) < 2 {
		return
	}
	p.taken = p.last
	p.page.skip().Store(p.taken)
	for _, t := range slices.Backward(p.jobs[1:]) {
		p.size -= t.size
		if t.left {
			s.finish(t, nil, nil)
		} else {
			s.again(t)
		}
	}
	p.jobs = slices.Delete(p.jobs, 1, len(p.jobs))
}

// again puts a task that had its turn before all others. In a sandbox that is closed there are no turns any more.
func (s *Sandbox) again(t *task) {
	if s.closed {
		s.finish(t, nil, ErrClosed)
		return
	}
	s.stats.Repeated++
	t.queued = time.Now()
	s.queueOf(t).pushFront(t)
}
