package sandbox

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

// inFlight is how many jobs a child has at a time, while all are quick: enough that it need not wait for the parent.
const inFlight = 16

// inFlightBytes is how large the jobs together may be to which another is added.
const inFlightBytes = 256 << 10

// submit lets a task wait for its turn, which may be now.
func (s *Sandbox) submit(t *task) error {
	s.mu.Lock()
	if err := s.admitTask(t); err != nil {
		s.mu.Unlock()
		return err
	}
	s.queueOf(t).push(t)
	send := s.dispatch(t)
	s.mu.Unlock()
	flush(send)
	return nil
}

func (s *Sandbox) admitTask(t *task) error {
	if s.closed {
		return ErrClosed
	}
	t.conduct = s.conductOf(t)
	if err := s.refusal(t, t.queued); err != nil {
		s.stats.Refused++
		s.forget(t)
		return err
	}
	if !s.makeRoom(t.context()) {
		s.stats.Busy++
		s.forget(t)
		return ErrBusy
	}
	return nil
}

// conductOf finds what is known of a task's script. Of a name that the library does not have nothing is kept.
func (s *Sandbox) conductOf(t *task) *conduct {
	if t.in.Script.Source == "" && !t.in.Library.Has(t.in.Script.Name) {
		return &conduct{users: 1}
	}
	return s.recordsOf(t).get(t.key, t.owner())
}

// recordsOf are those that a task's script belongs to.
func (s *Sandbox) recordsOf(t *task) *records {
	if t.in.Script.Source == "" {
		return &s.named
	}
	return &s.scripts
}

// refusal is the error of a task whose script has ended processes in its context before, or others have there. Of such
// a context the unknown sources are refused; those that are known to be quick go on, and the library's scripts, each of
// which answers for itself. No context pays for what a script does in another.
func (s *Sandbox) refusal(t *task, now time.Time) error {
	until, who := s.docket.until(scriptKey(t)), "this script has"
	if t.in.Job.Context != "" {
		who = fmt.Sprintf("this script has, in the context %q,", t.in.Job.Context)
	}
	if !until.After(now) && t.in.Script.Source != "" && t.in.Job.Context != "" && !t.conduct.quick() {
		until, who = s.docket.until(contextKey(t)), fmt.Sprintf("scripts in the context %q have", t.in.Job.Context)
	}
	if !until.After(now) {
		return nil
	}
	return &scripting.Error{Kind: KindRefused, Script: shown(t.in.Script), Message: fmt.Sprintf("%s ended two sandbox "+
		"processes within %s, and is refused until %s: mend it, then submit it again", who, strikeTime, until.UTC().Format(time.RFC3339))}
}

// makeRoom tells whether one more job of a context may wait. In a full queue the context with the most has to give way,
// if it would still have no fewer than this one.
func (s *Sandbox) makeRoom(context string) bool {
	if s.waiting() < s.options.Queue {
		return true
	}
	var most *line
	own := 0
	for _, q := range s.queues() {
		if l := q.longest(); l != nil && (most == nil || l.size > most.size) {
			most = l
		}
		own += q.waiting(context)
	}
	if most == nil || most.size < own+2 {
		return false
	}
	t := most.last()
	s.holder(t).remove(t)
	s.finish(t, nil, ErrBusy)
	s.stats.Busy++
	return true
}

func (s *Sandbox) queues() [3]*fairQueue { return [...]*fairQueue{&s.quick, &s.others, &s.kept} }

func (s *Sandbox) waiting() int { return s.quick.len() + s.others.len() + s.kept.len() }

// queueOf is where a task is to wait.
func (s *Sandbox) queueOf(t *task) *fairQueue {
	switch {
	case s.inQuarantine(t):
		return &s.kept
	case t.solo || !t.conduct.quick():
		return &s.others
	}
	return &s.quick
}

// inQuarantine tells whether a task's script runs one at a time.
func (s *Sandbox) inQuarantine(t *task) bool { return s.docket.until(sharedKey(t)).After(t.queued) }

// withdraw takes a task back whose caller waits no longer. One that runs goes on for a moment, see check.
func (s *Sandbox) withdraw(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.left = true
	if t.line != nil {
		s.holder(t).remove(t)
		s.finish(t, nil, nil)
	}
}

// holder is the queue in which a task waits; its script may be better known now than when it was put there.
func (s *Sandbox) holder(t *task) *fairQueue {
	root := t.line
	for root.parent != nil {
		root = root.parent
	}
	for _, q := range s.queues() {
		if root == &q.root {
			return q
		}
	}
	panic("sandbox: a task waits in no queue")
}

// clearQueues ends all that wait.
func (s *Sandbox) clearQueues(why error) {
	for _, q := range s.queues() {
		q.each(func(t *task) {
			q.remove(t)
			s.finish(t, nil, why)
		})
	}
}

// dispatch hands tasks to children that have room, and returns the children that have something to be sent. own is the
// task whose caller calls, or nil.
func (s *Sandbox) dispatch(own *task) (send []*process) {
	for q := s.lonely(); q != nil; q = s.lonely() {
		p := s.free()
		if p == nil {
			break
		}
		s.keptTurn = q == &s.others
		if t := s.next(q); t != nil {
			p.alone, p.kept = true, q == &s.kept
			send = s.hand(p, t, t == own, send)
		}
	}
	for s.quick.len() > 0 {
		p := s.roomy()
		if p == nil {
			break
		}
		if t := s.next(&s.quick); t != nil {
			send = s.hand(p, t, t == own, send)
		}
	}
	return send
}

// lonely is the queue from which the next task comes that is to run alone. Those in quarantine take turns with the
// others, and wait while one of them runs.
func (s *Sandbox) lonely() *fairQueue {
	kept := s.kept.len() > 0 && !slices.ContainsFunc(s.processes, func(p *process) bool { return p.kept })
	switch {
	case kept && (s.keptTurn || s.others.len() == 0):
		return &s.kept
	case s.others.len() > 0:
		return &s.others
	}
	return nil
}

// free is a child for a script that is not known to be quick: one without jobs, as long as another one stays that is not
// held by such a script.
func (s *Sandbox) free() *process {
	var found *process
	shared := 0
	for _, p := range s.processes {
		if p.alone || p.retired {
			continue
		}
		shared++
		if len(p.jobs) == 0 {
			found = p
		}
	}
	if shared < 2 && !s.failing {
		return nil
	}
	return found
}

// roomy is the child that has the fewest jobs of those that quick scripts share: as many as there are cores.
func (s *Sandbox) roomy() *process {
	var found *process
	shared := 0
	for _, p := range s.processes {
		if p.alone || p.retired {
			continue
		}
		if found == nil || len(p.jobs) < len(found.jobs) {
			found = p
		}
		if shared++; shared == s.options.Children {
			break
		}
	}
	if found != nil && (len(found.jobs) >= inFlight || found.size >= inFlightBytes) {
		return nil
	}
	return found
}

// next takes the next task of a queue, or nil when it has to be refused now.
func (s *Sandbox) next(q *fairQueue) *task {
	t := q.pop()
	now := time.Now()
	if err := s.refusal(t, now); err != nil {
		s.stats.Refused++
		s.finish(t, nil, err)
		return nil
	}
	wait := now.Sub(t.queued)
	t.waited += wait
	s.stats.Wait += wait
	s.stats.WaitMost = max(s.stats.WaitMost, wait)
	return t
}

// hand puts a task into a child's outbox, and adds the child to those that have something to be sent.
func (s *Sandbox) hand(p *process, t *task, own bool, send []*process) []*process {
	p.last++
	told := false
	err := p.outbox.add(len(p.jobs) == 0, func(buf []byte) (_ []byte, err error) {
		buf, told, err = p.frames(buf, t)
		return buf, err
	})
	if told && err == nil {
		s.stats.Libraries++
	}
	if err != nil {
		p.sources.forget(t.key) // it was not told, or may not have been
		if told {
			p.shelf.forget(t.in.Library)
		}
		s.finish(t, nil, engineFailed(t.in.Script, err.Error()))
		p.idle()
		return send
	}
	t.number = p.last
	p.size += t.size
	if len(p.jobs) == 0 {
		p.run = progress{number: p.run.number}
	}
	p.jobs = append(p.jobs, t)
	s.readFor(p, t, own)
	s.watch()
	for _, q := range send {
		if q == p {
			return send
		}
	}
	return append(send, p)
}

// idle lets a child without jobs be shared again.
func (p *process) idle() {
	if len(p.jobs) == 0 {
		p.alone, p.kept = false, false
	}
}

// frames appends what a child must read to run a task as its next job, and tells whether a library is part of it.
func (p *process) frames(buf []byte, t *task) (_ []byte, told bool, err error) {
	var at wire.Place
	if buf, at.Library, told, err = p.library(buf, t.in.Library); err != nil {
		return buf, told, err
	}
	if t.in.Script.Source != "" {
		var fresh bool
		if at.Source, fresh = p.sources.slot(t.key); fresh {
			if buf, err = wire.AppendDefine(buf, at.Source, t.in.Script.Source); err != nil {
				return buf, told, err
			}
		}
	}
	buf, err = wire.AppendRun(buf, p.last, at, *t.input)
	return buf, told, err
}

// flush sends what was put into outboxes. While a child has other jobs to do it lets goroutines go first that are about
// to add some more: then one write is enough for all.
func flush(send []*process) {
	for _, p := range send {
		if !p.outbox.waits() {
			runtime.Gosched()
		}
		p.outbox.flush()
	}
}
