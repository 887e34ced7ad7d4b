package simulation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Pool is the name of the simulated worker pool.
const Pool = "p"

// server is JetStream with one pool on it, made as package stream makes it. It is used by the scheduler alone.
type server struct {
	world *World
	up    bool

	failing  bool // its disk is gone, and it goes on without
	underWay bool // what is written now was being written when that began

	jobs, calls, dead, contexts *queue
}

// keptCommits is how many commits of a context its bucket keeps.
const keptCommits = 64

func newServer(w *World) *server {
	s := &server{world: w, up: true}
	s.makeJobs()
	s.makeCalls()
	_, _, dead := stream.Streams(Pool, stream.Options{})
	s.dead = newQueue(dead)
	s.contexts = newQueue(jetstream.StreamConfig{
		Name: job.ContextsStream(Pool), Subjects: []string{"$KV." + Pool + ".*"}, MaxMsgsPerSubject: keptCommits, Discard: jetstream.DiscardNew,
	})
	return s
}

func (s *server) makeJobs() {
	jobs, _, _ := stream.Streams(Pool, stream.Options{})
	s.jobs = newQueue(jobs)
	newConsumer(s.jobs, stream.JobsConsumer())
}

func (s *server) makeCalls() {
	_, calls, _ := stream.Streams(Pool, stream.Options{})
	s.calls = newQueue(calls)
	newConsumer(s.calls, stream.CallsConsumer(Pool, Service, s.world.plan.inFlight))
	newConsumer(s.calls, stream.CallsConsumer(Pool, job.Timer, s.world.plan.inFlight))
}

func (s *server) queues() []*queue { return []*queue{s.jobs, s.calls, s.dead, s.contexts} }

func (s *server) consumers() []*consumer { return slices.Concat(s.jobs.consumers, s.calls.consumers) }

func (s *server) queueOf(subject string) *queue {
	for _, q := range s.queues() {
		for _, filter := range q.config.Subjects {
			if matches(filter, subject) {
				return q
			}
		}
	}
	return nil
}

// publish stores a message, or recognises it. A schedule takes the place of an older one on its subject.
func (s *server) publish(m job.Message) (*message, error) {
	q := s.queueOf(m.Subject)
	if q == nil {
		return nil, notFound(m.Subject)
	}
	now := time.Now()
	if known := q.known(m.Get(job.HeaderID), now); known != nil {
		return known, nil
	}
	if err := q.refuses(m); err != nil {
		return nil, err
	}
	if s.failing {
		return nil, s.fail(q, m)
	}
	schedule := m.Get("Nats-Schedule")
	if schedule != "" && q.config.AllowMsgSchedules {
		q.clear(m.Subject)
	}
	stored := q.store(m, now)
	if q != s.contexts {
		s.world.oracle.stored(q, stored)
	}
	if schedule != "" && q.config.AllowMsgSchedules {
		s.arm(stored, schedule)
	}
	return stored, nil
}

// arm enters a schedule into the agenda.
func (s *server) arm(m *message, schedule string) {
	at, err := time.Parse(time.RFC3339Nano, strings.TrimPrefix(schedule, "@at "))
	if err != nil {
		s.world.violate("schedules can be read", "%s: %v", m.Subject, err)
		return
	}
	s.world.agenda.at(at.Add(between(s.world.rng, time.Millisecond, 250*time.Millisecond)), func() { s.fire(m) })
}

// fire puts a schedule's message on its target, without the headers that are the schedule's and without its id.
func (s *server) fire(m *message) {
	if !m.there() {
		return
	}
	if !s.up || s.failing {
		s.world.agenda.at(time.Now().Add(time.Second), func() { s.fire(m) })
		return
	}
	due := job.Message{Subject: m.Get("Nats-Schedule-Target"), Data: m.Data, Header: map[string][]string{
		"Nats-Scheduler": {m.Subject}, "Nats-Schedule-Next": {"purge"},
	}}
	for name, values := range m.Header {
		if !strings.HasPrefix(name, "Nats-") {
			due.Header[name] = values
		}
	}
	s.calls.remove(m)
	stored := s.calls.store(due, time.Now())
	s.world.note("server", "timer", due.Subject, stored.Sequence, m.Sequence, "")
}

// commit writes a context on an expected revision.
func (s *server) commit(name string, data []byte, revision uint64) (uint64, error) {
	subject := job.Address{Pool: Pool, Context: name}.ContextSubject()
	if s.contexts.lastOf(subject) != revision {
		return 0, stream.ErrConflict
	}
	m := job.Message{Subject: subject, Data: data}
	if err := s.contexts.refuses(m); err != nil {
		return 0, err
	}
	if s.failing {
		return 0, s.fail(s.contexts, m)
	}
	stored := s.contexts.store(m, time.Now())
	s.world.oracle.committed(name, stored.Sequence, data)
	return stored.Sequence, nil
}

// context reads a context as somebody has it who has seen so many edits.
func (s *server) context(name string, edits int) stream.Entry {
	m := s.contexts.lastShown(job.Address{Pool: Pool, Context: name}.ContextSubject(), edits)
	if m == nil {
		return stream.Entry{}
	}
	return stream.Entry{Revision: m.Sequence, Time: m.Time, Data: m.Data}
}

func (s *server) nextJob(name string, from uint64, edits int) (job.Message, error) {
	subject := job.Address{Pool: Pool, Context: name}.String()
	m := s.jobs.nextShown(subject, from, edits)
	for m != nil && s.failing && chance(s.world.rng, 0.3) { // where it stands can't be read any more, and is passed over
		m = s.jobs.nextShown(subject, m.Sequence+1, edits)
	}
	if m == nil {
		return job.Message{}, stream.ErrNone
	}
	return m.Message, nil
}

// said takes what a process says about a delivery.
func (s *server) said(reply, word string) {
	part := strings.Split(reply, ".") // $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>
	if len(part) != 6 {
		s.world.violate("acks can be read", "%q", reply)
		return
	}
	var seq uint64
	_, _ = fmt.Sscan(part[5], &seq)
	q := s.jobs
	if part[2] == s.calls.config.Name {
		q = s.calls
	}
	if !q.consumer(part[3]).said(seq, word, time.Now()) {
		return
	}
	if m := q.find(seq); m != nil {
		q.remove(m)
		s.world.oracle.acked(q, m)
	}
}

// restart makes the server go away and come back: what it knew only in memory is forgotten.
func (s *server) restart(away time.Duration, forgets bool) {
	s.up = false
	s.world.agenda.at(time.Now().Add(away), func() {
		s.up = true
		s.world.note("server", "is back", "", 0, 0, "")
		for _, q := range s.queues() {
			if forgets {
				q.forget()
			}
			for _, c := range q.consumers {
				for _, p := range c.pending {
					if chance(s.world.rng, 0.5) {
						p.due = time.Now()
					}
				}
			}
		}
	})
}

// errTimeout is what a process sees when no answer comes.
var errTimeout = fmt.Errorf("the simulated server did not answer: %w", context.DeadlineExceeded)
