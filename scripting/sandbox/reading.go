package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

// One goroutine at a time reads a child's answers: the one for which process.read is set. Of a job that is handed at once
// to a child which has no other it is the caller itself, until it has its own answer: no goroutine has to be woken between
// the pipe and the caller. Any other time it is one that runs listen, for as long as the child has jobs. Nobody reads
// from a child without jobs; attend hears of its end.

// attend waits for a child's end, and until that was dealt with.
func (s *Sandbox) attend(p *process) {
	p.words()
	s.mu.Lock()
	p.gone = true
	read := p.read
	p.read = true
	s.mu.Unlock()
	if !read {
		s.listen(p)
	}
	<-p.buried
}

// readFor has somebody read the answers of a child that is handed a task: the task's caller, if that is here to do so.
// The lock is held.
func (s *Sandbox) readFor(p *process, t *task, caller bool) {
	switch {
	case p.read:
		return
	case caller:
		t.reads = p
		if t.conduct.brief() && s.idleBut(p) {
			p.pipe.until = time.Now().Add(briefRun)
		}
	default:
		s.running.Go(func() { s.listen(p) })
	}
	p.read = true
}

// idleBut tells whether no child but p has jobs, and this program more than one core: then one of them has nothing better
// to do than to look for an answer that is expected in a moment. To put it to sleep and to wake it takes longer than most
// scripts do.
func (s *Sandbox) idleBut(p *process) bool {
	return s.cores > 1 && !slices.ContainsFunc(s.processes, func(q *process) bool { return q != p && len(q.jobs) > 0 })
}

// listen takes a child's answers while it has jobs, and deals with its end.
func (s *Sandbox) listen(p *process) {
	for {
		done, err := s.take(p, nil)
		if errors.Is(err, os.ErrDeadlineExceeded) { // a caller's, which came when that read no more
			err = p.out.SetReadDeadline(time.Time{})
		}
		if err != nil {
			s.bury(p, err)
			return
		}
		if done {
			return
		}
	}
}

// readOwn takes a child's answers for the caller of a task, until that has its own or waits no longer. What else is to
// come is left to others.
func (s *Sandbox) readOwn(ctx context.Context, t *task) {
	p := t.reads
	stop := context.AfterFunc(ctx, func() { _ = p.out.SetReadDeadline(longAgo) })
	defer stop()
	for {
		done, err := s.take(p, t)
		if errors.Is(err, os.ErrDeadlineExceeded) { // another caller's, or this one's
			if err = p.out.SetReadDeadline(time.Time{}); err == nil && ctx.Err() != nil {
				s.running.Go(func() { s.listen(p) })
				return
			}
		}
		if err != nil {
			s.running.Go(func() { s.bury(p, err) })
			return
		}
		if done {
			return
		}
	}
}

// longAgo is a deadline by which nobody reads any longer.
var longAgo = time.Unix(1, 0)

// take waits for a child's answers, and ends their jobs. It tells whether that is all that its caller is to read, which
// is the caller of t, or, with nil, listen: from then on the child's answers are another's.
func (s *Sandbox) take(p *process, t *task) (done bool, err error) {
	for {
		d, err := p.next()
		if err != nil {
			return false, err
		}
		if p.batch = append(p.batch, d); !p.reader.Buffered() {
			return s.settle(p, t)
		}
	}
}

// next waits for a child's next answer.
func (p *process) next() (wire.Done, error) {
	kind, body, err := p.reader.Next()
	if err != nil {
		return wire.Done{}, err
	}
	if kind != wire.KindDone {
		return wire.Done{}, fmt.Errorf("%w: its kind is %d", wire.ErrFormat, kind)
	}
	return wire.ParseDone(bytes.Clone(body))
}

// settle ends the jobs that a child has answered, and passes on who reads, see take.
func (s *Sandbox) settle(p *process, t *task) (done bool, err error) {
	s.mu.Lock()
	for i := range p.batch {
		if err := s.answered(p, &p.batch[i]); err != nil {
			s.mu.Unlock()
			return false, err
		}
	}
	clear(p.batch)
	p.batch = p.batch[:0]
	if p.retired && len(p.jobs) == 0 {
		p.in.Close() // it ends by itself
	}
	send := s.dispatch(nil)
	switch {
	case len(p.jobs) == 0 && !p.gone:
		p.read, done = false, true
	case t != nil && t.over:
		done = true
		s.running.Go(func() { s.listen(p) })
	}
	s.mu.Unlock()
	flush(send)
	return done, nil
}
