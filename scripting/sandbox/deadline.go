package sandbox

import (
	"slices"
	"time"

	"github.com/thence-dev/thence/scripting"
)

const (
	checkEvery = 5 * time.Millisecond
	// grace is how much longer than its time limit a script may run before its child is killed. The child stops most
	// scripts itself; it needs a moment for that, and more of it on a busy machine.
	grace = 250 * time.Millisecond
	// abandonedTime is how long a job goes on whose caller waits no longer.
	abandonedTime = 100 * time.Millisecond
	abandoned     = scripting.ErrorKind("abandoned")
)

// watch has check run while children have jobs. The lock is held.
func (s *Sandbox) watch() {
	if !s.watching {
		s.watching = true
		time.AfterFunc(checkEvery, s.check)
	}
}

// check looks at every child: one whose job is past its time is killed; what waits behind a job that is not short after
// all is taken back, and runs elsewhere.
func (s *Sandbox) check() {
	s.mu.Lock()
	s.watching = false
	now := time.Now()
	for _, p := range s.processes {
		if len(p.jobs) > 0 {
			s.watch()
			s.checkProcess(p, now)
		}
	}
	send := s.dispatch()
	s.mu.Unlock()
	flush(send)
}

func (s *Sandbox) checkProcess(p *process, now time.Time) {
	running := p.page.running().Load()
	if running != p.seen {
		p.seen, p.since = running, now
	}
	at := slices.IndexFunc(p.jobs, func(t *task) bool { return t.number == running })
	t := p.jobs[max(at, 0)]
	took := now.Sub(p.since)
	switch {
	case took > t.in.Limits.Time+grace:
		p.kill(scripting.KindTimeLimit, running)
	case t.left && at == 0 && took > abandonedTime:
		p.kill(abandoned, running)
	case took > shortRun && at == 0 && !p.alone:
		p.alone = true
		s.takeBack(p)
	}
}

func (p *process) kill(why scripting.ErrorKind, guilty uint64) {
	if p.killed == "" {
		p.killed, p.guilty = why, guilty
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
		if !t.left {
			s.stats.Repeated++
			s.queueOf(t).pushFront(t)
		}
	}
	p.jobs = slices.Delete(p.jobs, 1, len(p.jobs))
}
