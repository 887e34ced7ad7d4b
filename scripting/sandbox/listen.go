package sandbox

import (
	"fmt"
	"slices"
	"time"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

const (
	soloAfter  = 2                     // deaths of children under a job, until it runs alone
	mostDeaths = 4                     // until it is handed back
	spawnPause = 50 * time.Millisecond // before another try, doubled each time up to spawnMost
	spawnMost  = 5 * time.Second
)

// admit takes a child in that is ready. The lock is held.
func (s *Sandbox) admit(p *process) {
	s.processes = append(s.processes, p)
	s.stats.Started++
	s.running.Go(func() { s.attend(p) })
}

// replace starts another child in the background. The lock is held, and the sandbox not closed.
func (s *Sandbox) replace() {
	s.running.Go(s.start)
}

// start starts a child, however often it has to try. Jobs that wait while there is no child at all fail with the reason;
// they are not to blame, and may be run again.
func (s *Sandbox) start() {
	for pause := spawnPause; ; pause = min(2*pause, spawnMost) {
		p, err := s.startChild()
		if err == nil {
			s.join(p)
			return
		}
		s.options.Logger.Error("sandbox process not started", "error", err, "again_in", pause)
		s.mu.Lock()
		s.failing = true
		if len(s.processes) == 0 {
			s.clearQueues(err)
		}
		s.mu.Unlock()
		select {
		case <-s.quit:
			return
		case <-time.After(pause):
		}
	}
}

func (s *Sandbox) join(p *process) {
	s.mu.Lock()
	s.failing = false
	if s.closed {
		s.mu.Unlock()
		_ = p.proc.Kill()
		p.end(ErrClosed)
		p.close()
		return
	}
	s.admit(p)
	send := s.dispatch(nil)
	s.mu.Unlock()
	flush(send)
}

// answered ends one job. A child answers in order, and nothing that it was not asked; only what was taken back too late
// may come.
func (s *Sandbox) answered(p *process, d *wire.Done) error {
	if len(p.jobs) == 0 || p.jobs[0].number != d.Number {
		if d.Number > p.taken {
			return fmt.Errorf("%w: it answers job %d, which is not the next", wire.ErrFormat, d.Number)
		}
		return nil
	}
	t := p.jobs[0]
	p.size -= t.size
	took := d.Took
	if p.alone && p.run.number == t.number {
		took = max(took, p.run.spent) // in one long step the child's watch may not come to look
	}
	t.spent += took
	p.jobs = slices.Delete(p.jobs, 0, 1)
	p.idle()
	p.run = progress{number: p.run.number}
	p.retired = p.retired || d.Retire
	s.stats.Jobs++
	known := t.conduct.quick()
	if t.conduct.ran(took); !known && t.conduct.quick() {
		s.sort(t.key)
	}
	var err error
	if d.Err != nil { // not a nil *Error in an error
		err = d.Err
	}
	s.finish(t, d.Outcome, err)
	return nil
}

// sort moves the waiting jobs of a script to where they belong by now.
func (s *Sandbox) sort(key string) {
	for _, q := range s.queues() {
		q.each(func(t *task) {
			if t.key != key {
				return
			}
			if to := s.queueOf(t); to != q {
				q.remove(t)
				to.push(t)
			}
		})
	}
}

// bury deals with the end of a child: if it had one job, that is to blame, unless nobody is; else its jobs run again.
func (s *Sandbox) bury(p *process, lost error) {
	s.mu.Lock()
	s.processes = slices.DeleteFunc(s.processes, func(q *process) bool { return q == p })
	if !s.closed {
		s.replace()
	}
	p.look(time.Now(), 0)
	s.mu.Unlock()
	why := p.end(lost).cause()
	p.outbox.close()
	s.mu.Lock()
	if p.killed != nil {
		why = *p.killed
	}
	if !s.closed {
		s.report(p, why)
	}
	jobs := p.jobs
	p.jobs = nil
	for _, t := range slices.Backward(jobs) {
		ran := t.number == p.run.number
		if ran {
			t.spent += p.run.spent
		}
		s.bereave(t, why, ran, len(jobs) == 1)
	}
	p.close()
	close(p.buried)
	send := s.dispatch(nil)
	s.mu.Unlock()
	flush(send)
}

// bereave decides what becomes of a job whose child has died. Which of its jobs a child was running is known from the
// child only, and so is what it has done: a job is held to account for what happens while it is the only one.
func (s *Sandbox) bereave(t *task, why death, ran, only bool) {
	t.deaths++
	switch {
	case t.left || s.closed:
		s.finish(t, nil, ErrClosed)
	case !why.innocent() && only && (ran || t.deaths > soloAfter):
		s.strike(t)
		s.count(why.kind)
		s.finish(t, nil, why.blame(t.in.Script, &s.options))
	case t.deaths >= mostDeaths:
		s.finish(t, nil, interrupted(t.deaths, why))
	default:
		t.solo = t.solo || t.deaths >= soloAfter || ran && !why.innocent()
		s.again(t)
	}
}

// strike counts the end of a process against a task, and, when its script gets into quarantine by that, has those wait
// there that wait already.
func (s *Sandbox) strike(t *task) {
	s.docket.strike(t, time.Now())
	t.conduct.short = 0
	s.sort(t.key)
}

func (s *Sandbox) count(kind scripting.ErrorKind) {
	if s.stats.Killed == nil {
		s.stats.Killed = map[scripting.ErrorKind]uint64{}
	}
	s.stats.Killed[kind]++
}

// report tells the log of a child that did not end by itself.
func (s *Sandbox) report(p *process, why death) {
	if p.retired && len(p.jobs) == 0 || why.kind == abandoned {
		return
	}
	if why.innocent() {
		s.stats.Lost++
	}
	args := []any{"cause", string(why.kind), "detail", why.detail, "pid", p.proc.Pid, "jobs", len(p.jobs)}
	if len(p.jobs) == 1 {
		t := p.jobs[0]
		args = append(args, "script", shown(t.in.Script), "job_id", t.in.Job.ID, "context", t.in.Job.Context, "caller", t.in.Job.Caller)
	}
	s.options.Logger.Warn("sandbox process died", args...)
}
