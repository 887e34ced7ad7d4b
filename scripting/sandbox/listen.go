package sandbox

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

const (
	mostTries  = 3                     // runs of a job that were cut short by the death of its child, and were not its own fault
	spawnPause = 50 * time.Millisecond // before another try, doubled each time up to spawnMost
	spawnMost  = 5 * time.Second
)

// admit takes a child in that is ready. The lock is held.
func (s *Sandbox) admit(p *process) {
	s.processes = append(s.processes, p)
	s.stats.Started++
	s.running.Go(func() { s.listen(p) })
}

// replace starts another child in the background. The lock is held, and the sandbox not closed.
func (s *Sandbox) replace() {
	s.running.Go(s.start)
}

// start starts a child, however often it has to try. Jobs that wait while there is no child at all fail with the reason;
// they are not to blame, and may be run again.
func (s *Sandbox) start() {
	for pause := spawnPause; ; pause = min(2*pause, spawnMost) {
		p, err := s.spawner.start(s.options.Memory, s.frames)
		if err == nil {
			s.join(p)
			return
		}
		s.options.Logger.Error("sandbox process not started", "error", err, "again_in", pause)
		s.mu.Lock()
		s.failing = true
		if len(s.processes) == 0 {
			for _, q := range []*fairQueue{&s.quick, &s.others} {
				q.each(func(t *task) {
					q.remove(t)
					t.finish(nil, err)
				})
			}
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
	send := s.dispatch()
	s.mu.Unlock()
	flush(send)
}

// listen takes a child's answers until its end, and deals with that.
func (s *Sandbox) listen(p *process) {
	var batch []wire.Done
	for {
		kind, body, err := p.reader.Next()
		if err == nil && kind != wire.KindDone {
			err = fmt.Errorf("%w: its kind is %d", wire.ErrFormat, kind)
		}
		if err == nil {
			var d wire.Done
			d, err = wire.ParseDone(bytes.Clone(body))
			batch = append(batch, d)
		}
		if err == nil && p.reader.Buffered() {
			continue
		}
		if err == nil {
			err = s.settle(p, batch)
		}
		if err != nil {
			s.bury(p, err)
			return
		}
		clear(batch)
		batch = batch[:0]
	}
}

// settle ends the jobs that a child has answered.
func (s *Sandbox) settle(p *process, batch []wire.Done) error {
	s.mu.Lock()
	for i := range batch {
		if err := s.answered(p, &batch[i]); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	if p.retired && len(p.jobs) == 0 {
		p.in.Close() // it ends by itself
	}
	send := s.dispatch()
	s.mu.Unlock()
	flush(send)
	return nil
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
	if p.jobs = slices.Delete(p.jobs, 0, 1); len(p.jobs) == 0 {
		p.alone = false
	}
	p.since = time.Now()
	p.retired = p.retired || d.Retire
	s.stats.Jobs++
	known := t.conduct.quick()
	if t.conduct.ran(d.Took); !known && t.conduct.quick() {
		s.promote(t.key)
	}
	var err error
	if d.Err != nil { // not a nil *Error in an error
		err = d.Err
	}
	t.finish(d.Outcome, err)
	return nil
}

// promote moves the waiting jobs of a script that has turned out to be quick.
func (s *Sandbox) promote(key string) {
	s.others.each(func(t *task) {
		if t.key == key {
			s.others.remove(t)
			s.quick.push(t)
		}
	})
}

// bury deals with the end of a child: the job that was running is to blame, unless nobody is; those that waited behind
// it, and those whose answers were lost with it, run again.
func (s *Sandbox) bury(p *process, lost error) {
	s.mu.Lock()
	s.processes = slices.DeleteFunc(s.processes, func(q *process) bool { return q == p })
	if !s.closed {
		s.replace()
	}
	s.mu.Unlock()
	end := p.end(lost)
	p.outbox.drains.Wait()
	s.mu.Lock()
	why, running := end.cause(), p.page.running().Load()
	if p.killed != "" {
		why, running = death{kind: p.killed, detail: "killed"}, p.guilty
	}
	if !s.closed {
		s.report(p, why, running)
	}
	for _, t := range slices.Backward(p.jobs) {
		s.bereave(t, why, t.number == running)
	}
	p.jobs = nil
	p.close()
	send := s.dispatch()
	s.mu.Unlock()
	flush(send)
}

// bereave decides what becomes of a job whose child has died.
func (s *Sandbox) bereave(t *task, why death, ran bool) {
	t.tries++
	innocent := !ran || why.kind == "" || why.kind == abandoned
	switch {
	case t.left:
	case s.closed:
		t.finish(nil, ErrClosed)
	case innocent && t.tries <= mostTries:
		s.stats.Repeated++
		s.queueOf(t).pushFront(t)
	default:
		if innocent {
			why = death{KindCrash, fmt.Sprintf("%d processes died before its end, %s", t.tries, why.detail)}
		}
		now := time.Now()
		t.conduct.strike(now)
		if t.in.Job.Caller != "" {
			s.callers.get(t.in.Job.Caller).strike(now)
		}
		s.count(why.kind)
		t.finish(nil, why.blame(t.in.Script, &s.options, t.in.Limits.Time))
	}
}

func (s *Sandbox) count(kind scripting.ErrorKind) {
	if s.stats.Killed == nil {
		s.stats.Killed = map[scripting.ErrorKind]uint64{}
	}
	s.stats.Killed[kind]++
}

// report tells the log of a child that did not end by itself.
func (s *Sandbox) report(p *process, why death, running uint64) {
	if p.retired && len(p.jobs) == 0 || why.kind == abandoned {
		return
	}
	args := []any{"cause", string(why.kind), "detail", why.detail, "pid", p.proc.Pid}
	for _, t := range p.jobs {
		if t.number == running {
			args = append(args, "script", shown(t.in.Script), "job_id", t.in.Job.ID, "context", t.in.Job.Context,
				"caller", t.in.Job.Caller)
		}
	}
	s.options.Logger.Warn("sandbox process died", args...)
}
