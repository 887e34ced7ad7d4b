package sandbox

import (
	"fmt"
	"runtime"
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
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	t.conduct = s.scripts.get(t.key)
	if err := s.refusal(t, t.queued); err != nil {
		s.stats.Refused++
		s.mu.Unlock()
		return err
	}
	if !s.makeRoom(t.in.Job.Caller) {
		s.stats.Busy++
		s.mu.Unlock()
		return ErrBusy
	}
	s.enqueue(t)
	send := s.dispatch()
	s.mu.Unlock()
	flush(send)
	return nil
}

// refusal is the error of a task whose script or caller has ended processes before. A caller's scripts that are known
// to be quick go on, and the library's: anybody can give another's name as his own.
func (s *Sandbox) refusal(t *task, now time.Time) error {
	who, until := "", time.Time{}
	switch caller := s.callers.get(t.in.Job.Caller); {
	case t.conduct.refused(now):
		who, until = "this script has", t.conduct.until
	case t.in.Job.Caller != "" && caller.refused(now) && !t.conduct.quick() && t.in.Script.Source != "":
		who, until = fmt.Sprintf("scripts of the caller %q have", t.in.Job.Caller), caller.until
	default:
		return nil
	}
	return &scripting.Error{Kind: KindRefused, Script: shown(t.in.Script), Message: fmt.Sprintf("%s ended two sandbox "+
		"processes within %s, and is refused until %s: mend it, then submit it again", who, strikeTime, until.UTC().Format(time.RFC3339))}
}

// makeRoom tells whether one more job of a caller may wait. In a full queue the caller with the most has to give way.
func (s *Sandbox) makeRoom(caller string) bool {
	if s.quick.len()+s.others.len() < s.options.Queue {
		return true
	}
	q := &s.others
	if s.quick.len() > q.len() {
		q = &s.quick
	}
	t := q.last(caller)
	if t == nil {
		return false
	}
	q.remove(t)
	t.finish(nil, ErrBusy)
	s.stats.Busy++
	return true
}

func (s *Sandbox) queueOf(t *task) *fairQueue {
	if t.conduct.quick() {
		return &s.quick
	}
	return &s.others
}

func (s *Sandbox) enqueue(t *task) { s.queueOf(t).push(t) }

// withdraw takes a task back whose caller waits no longer. One that runs goes on for a moment, see check.
func (s *Sandbox) withdraw(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.left = true
	if t.line != nil {
		s.holder(t).remove(t)
		t.over = true
	}
}

// holder is the queue in which a task waits; its script may be better known now than when it was put there.
func (s *Sandbox) holder(t *task) *fairQueue {
	root := t.line
	for root.parent != nil {
		root = root.parent
	}
	if root == &s.quick.root {
		return &s.quick
	}
	return &s.others
}

// dispatch hands tasks to children that have room, and returns the children that have something to be sent.
func (s *Sandbox) dispatch() (send []*process) {
	for s.others.len() > 0 {
		p := s.free()
		if p == nil {
			break
		}
		if t := s.next(&s.others); t != nil {
			p.alone = true
			send = s.hand(p, t, send)
		}
	}
	for s.quick.len() > 0 {
		p := s.roomy()
		if p == nil {
			break
		}
		if t := s.next(&s.quick); t != nil {
			send = s.hand(p, t, send)
		}
	}
	return send
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
		t.finish(nil, err)
		return nil
	}
	wait := now.Sub(t.queued)
	s.stats.Wait += wait
	s.stats.WaitMost = max(s.stats.WaitMost, wait)
	return t
}

// hand puts a task into a child's outbox, and adds the child to those that have something to be sent.
func (s *Sandbox) hand(p *process, t *task, send []*process) []*process {
	p.last++
	err := p.outbox.add(len(p.jobs) == 0, func(buf []byte) ([]byte, error) { return p.frames(buf, t) })
	if err != nil {
		t.finish(nil, engineFailed(t.in.Script, err.Error()))
		p.alone = p.alone && len(p.jobs) > 0
		return send
	}
	t.number = p.last
	p.size += t.size
	if len(p.jobs) == 0 {
		p.seen, p.since = 0, time.Now()
	}
	p.jobs = append(p.jobs, t)
	s.watch()
	for _, q := range send {
		if q == p {
			return send
		}
	}
	return append(send, p)
}

// frames appends what a child must read to run a task as its next job.
func (p *process) frames(buf []byte, t *task) (_ []byte, err error) {
	slot := 0
	if t.in.Script.Source != "" {
		var fresh bool
		if slot, fresh = p.sources.slot(t.key); fresh {
			if buf, err = wire.AppendDefine(buf, slot, t.in.Script.Source); err != nil {
				return buf, err
			}
		}
	}
	return wire.AppendRun(buf, p.last, slot, *t.input)
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
