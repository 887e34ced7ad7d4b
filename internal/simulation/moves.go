package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/thence-dev/thence/internal/stream"
)

// ending is a process that has ended.
type ending struct {
	process *Process
	err     error
}

// bury sees to processes that have ended or are about to.
func (w *World) bury() {
	w.mu.Lock()
	dying, ended := w.dying, w.endings
	w.dying, w.endings = nil, nil
	w.mu.Unlock()
	slices.SortFunc(dying, func(a, b *Process) int { return cmp.Compare(a.number, b.number) })
	slices.SortFunc(ended, func(a, b ending) int { return cmp.Compare(a.process.number, b.process.number) })
	for _, p := range slices.Compact(dying) {
		w.stats.Harms++
		w.crash(p)
	}
	for _, e := range ended {
		w.ended(e)
	}
}

// ended checks why a process ended. One that nobody killed or told to end has a successor; only the deletion of a
// stream is a reason for it.
func (w *World) ended(e ending) {
	p := e.process
	if p.life.dead {
		return
	}
	how := ""
	switch {
	case e.err != nil && p.lostConsumer(): // which of several it lost first is Go's scheduler's to say
		how = "its consumer was deleted"
	case e.err != nil:
		how = e.err.Error()
	}
	w.note(p.Name, "has ended", "", 0, 0, how)
	switch {
	case p.life.ending && e.err == nil:
	case p.lostConsumer():
		if !p.life.ending {
			w.succeed(between(w.rng, 10*time.Millisecond, 10*time.Second))
		}
	default:
		w.violate("a worker goes on until it is told to end", "%s ended: %v", p.Name, e.err)
	}
}

func (p *Process) lostConsumer() bool {
	for _, d := range p.taking {
		select {
		case <-d.lost:
			return true
		default:
		}
	}
	return false
}

// talkers are the processes whose acks are on their way.
func (w *World) talkers() []*Process {
	var talkers []*Process
	for _, p := range w.processes {
		if w.server.up && !w.server.failing && len(p.said) > 0 && (!p.life.stopped || p.said[0].before) {
			talkers = append(talkers, p)
		}
	}
	return talkers
}

// hear takes the next word from a process's connection.
func (w *World) hear(p *Process) {
	w.mu.Lock()
	said := p.said[0]
	p.said = p.said[1:]
	w.mu.Unlock()
	if !w.quiet && chance(w.rng, w.plan.ackLost) {
		w.note(p.Name, "ack is lost", said.reply, 0, 0, said.text)
		return
	}
	w.note(p.Name, "ack", said.reply, 0, 0, said.text)
	w.server.said(said.reply, said.text)
}

// handout is a message that a consumer may hand to a process now.
type handout struct {
	consumer *consumer
	to       *Deliveries
}

func (w *World) handouts() []handout {
	var all []handout
	if !w.server.up || w.server.failing {
		return nil
	}
	now := time.Now()
	for _, c := range w.server.consumers() {
		if c.fresh() == nil && len(c.overdue(now)) == 0 {
			continue
		}
		for _, p := range w.processes {
			for _, d := range p.taking {
				if !p.life.dead && d.takes(c) {
					all = append(all, handout{c, d})
				}
			}
		}
	}
	return all
}

// hand hands a message out: one whose time has come again, or a new one.
func (w *World) hand(h handout) {
	now := time.Now()
	m := h.consumer.fresh()
	if again := h.consumer.overdue(now); len(again) > 0 && (m == nil || chance(w.rng, 0.7)) {
		m = h.consumer.queue.find(again[w.rng.IntN(len(again))].sequence)
	}
	if m == nil {
		return
	}
	p := h.to.process
	delivered := h.consumer.take(m.Sequence, now)
	if !w.quiet && chance(w.rng, w.plan.handoutLost) {
		w.note(p.Name, "hand-out lost", m.Subject, m.Sequence, delivered, "")
		return
	}
	w.note(p.Name, "is handed", m.Subject, m.Sequence, delivered, "")
	w.oracle.handed(p, h.consumer.queue, m)
	reply := fmt.Sprintf("$JS.ACK.%s.%s.%d.%d", h.consumer.queue.config.Name, h.consumer.config.Durable, delivered, m.Sequence)
	h.to.messages <- stream.NewDelivery(m.Message, delivered, reply, p)
}
