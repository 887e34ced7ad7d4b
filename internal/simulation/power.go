package simulation

import (
	"fmt"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// When the power fails, the disk is gone before the server is. What a stream was being sent then is in the server's memory and
// perhaps on the disk: it is read by whoever asks, is acked to nobody, and may be gone when the server is back. The same holds
// for the first message that a stream is sent after that, but for the disk, which has none of it. Then the stream takes no more.
// A sequence that is gone is given to the next message.

// power takes the server's power: its disk at once, itself a little later.
func (w *World) power() {
	s := w.server
	if !s.up || s.failing {
		return
	}
	after := between(w.rng, time.Millisecond, 4*time.Second)
	w.note("server", "has no disk", "", 0, 0, "for "+after.Round(time.Millisecond).String())
	s.failing, s.underWay = true, true
	if chance(w.rng, 0.4) { // so may be what an operator writes
		w.cancel()
		s.contexts.keeps = false
	}
	for _, r := range w.ready() {
		if r.writes && chance(w.rng, 0.7) {
			w.unpark(r)
			w.failed(r, w.carryOut(r, underWay))
		}
	}
	s.underWay = false
	w.agenda.at(time.Now().Add(after), func() {
		s.takeBack()
		w.restart(true)
	})
}

// underWay is what was being written when the disk was gone.
const underWay fate = "under way"

// failed lets a process hear that something could not be stored, or nothing at all.
func (w *World) failed(r *request, a answer) {
	if a.err != nil && chance(w.rng, 0.5) {
		w.reply(r, a)
		return
	}
	w.timeOut(r)
}

// fail is a write to a disk that is gone.
func (s *server) fail(q *queue, m job.Message) error {
	if q.unsynced == nil && q != s.dead && m.Get("Nats-Schedule") == "" {
		q.unsynced = q.store(m, time.Now())
		q.keeps = s.underWay && chance(s.world.rng, 0.5)
		delete(q.ids, m.Get(job.HeaderID))
	}
	return errUnavailable
}

// takeBack is what is found on the disk when the server is back: what it had in memory alone is gone, and what it had told
// nobody of may be there.
func (s *server) takeBack() {
	s.failing = false
	for _, q := range []*queue{s.contexts, s.jobs, s.calls} {
		m := q.unsynced
		if q.unsynced = nil; m == nil {
			continue
		}
		s.world.note("server", "had no ack for", m.Subject, m.Sequence, 0, fmt.Sprintf("keeps it %v", q.keeps))
		if q.keeps {
			s.keep(q, m)
		} else {
			q.takeBack(m)
		}
	}
}

// keep makes a message that was read before it was on the disk one like the others.
func (s *server) keep(q *queue, m *message) {
	if id := m.Get(job.HeaderID); id != "" {
		q.ids[id] = remembered{m.Time, m}
	}
	if q == s.contexts {
		s.world.oracle.committed(m.Subject[strings.LastIndex(m.Subject, ".")+1:], m.Sequence, m.Data)
		return
	}
	s.world.oracle.stored(q, m)
}
