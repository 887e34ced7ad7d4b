package simulation

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// queue is a stream as its leader has it, with what its replicas have seen of it. Messages that were removed stay, so
// that a replica can show what it still has.
type queue struct {
	config    jetstream.StreamConfig
	last      uint64                // sequence
	subjects  map[string][]*message // by subject, oldest first
	all       []*message
	bytes     int64
	edits     int    // messages stored and removed
	replicas  [2]int // of the edits, how many each replica has seen
	former    int    // of the edits, how many a former leader has seen that is asked still; 0: there is none
	ids       map[string]remembered
	unsynced  *message // the last one, where the disk was gone before it was on it
	keeps     bool     // the disk has it
	consumers []*consumer
}

type message struct {
	job.Message
	stored  int // which edit stored it
	removed int // which edit removed it; 0: none
}

// remembered is a Nats-Msg-Id inside the window.
type remembered struct {
	at      time.Time
	message *message
}

func newQueue(config jetstream.StreamConfig) *queue {
	q := &queue{config: config, subjects: map[string][]*message{}, ids: map[string]remembered{}}
	if config.FirstSeq > 0 {
		q.last = config.FirstSeq - 1
	}
	return q
}

// shown tells whether a reader that has seen so many edits has the message.
func (m *message) shown(edits int) bool {
	return m.stored <= edits && (m.removed == 0 || m.removed > edits)
}

func (m *message) there() bool { return m.removed == 0 }

func (m *message) size() int64 {
	n := len(m.Subject) + len(m.Data) + 64
	for name, values := range m.Header {
		n += len(name) + len(values[0])
	}
	return int64(n)
}

// lastSeen is the last sequence that a reader knows who has seen so many edits.
func (q *queue) lastSeen(edits int) uint64 {
	for i := len(q.all) - 1; i >= 0; i-- {
		if q.all[i].stored <= edits {
			return q.all[i].Sequence
		}
	}
	return max(1, q.config.FirstSeq) - 1
}

// lastOf is the sequence of the last message on a subject; 0 when there is none.
func (q *queue) lastOf(subject string) uint64 {
	if m := q.lastShown(subject, q.edits); m != nil {
		return m.Sequence
	}
	return 0
}

func (q *queue) lastShown(subject string, edits int) *message {
	on := q.subjects[subject]
	for i := len(on) - 1; i >= 0; i-- {
		if on[i].shown(edits) {
			return on[i]
		}
	}
	return nil
}

func (q *queue) nextShown(subject string, from uint64, edits int) *message {
	for _, m := range q.subjects[subject] {
		if m.Sequence >= from && m.shown(edits) {
			return m
		}
	}
	return nil
}

// refuses says why the stream does not take a message; nil when it does.
func (q *queue) refuses(m job.Message) error {
	size := (&message{Message: m}).size()
	no := func(description string) error {
		return &stream.Refusal{Subject: m.Subject, Err: &jetstream.APIError{Code: 400, ErrorCode: 10077, Description: description}}
	}
	switch {
	case q.config.MaxMsgSize > 0 && size > int64(q.config.MaxMsgSize):
		return no("message size exceeds maximum allowed")
	case q.config.MaxBytes > 0 && q.config.Discard == jetstream.DiscardNew && q.bytes+size > q.config.MaxBytes:
		return no("maximum bytes exceeded")
	}
	return nil
}

// known finds the message that had this id, inside the window.
func (q *queue) known(id string, now time.Time) *message {
	r, ok := q.ids[id]
	if !ok || id == "" || now.Sub(r.at) > q.config.Duplicates {
		return nil
	}
	return r.message
}

// store appends a message. A message beyond what the stream keeps of a subject pushes out the oldest there.
func (q *queue) store(m job.Message, now time.Time) *message {
	q.last++
	q.edits++
	m.Sequence, m.Time = q.last, now.UTC()
	stored := &message{Message: m, stored: q.edits}
	q.subjects[m.Subject] = append(q.subjects[m.Subject], stored)
	q.all = append(q.all, stored)
	q.bytes += stored.size()
	if id := m.Get(job.HeaderID); id != "" {
		q.ids[id] = remembered{now, stored}
	}
	for q.config.Discard == jetstream.DiscardOld && q.config.MaxBytes > 0 && q.bytes > q.config.MaxBytes {
		q.removeOldest()
	}
	if q.config.MaxMsgsPerSubject == 1 {
		for _, old := range q.subjects[m.Subject] {
			if old != stored && old.there() {
				q.remove(old)
			}
		}
	}
	return stored
}

// clear removes what is on a subject.
func (q *queue) clear(subject string) {
	for _, m := range q.subjects[subject] {
		if m.there() {
			q.remove(m)
		}
	}
}

func (q *queue) removeOldest() {
	for _, m := range q.all {
		if m.there() {
			q.remove(m)
			return
		}
	}
}

func (q *queue) remove(m *message) {
	q.edits++
	m.removed = q.edits
	q.bytes -= m.size()
	for _, c := range q.consumers {
		c.drop(m.Sequence)
	}
}

// takeBack removes the last message as if it had never been, and gives its sequence to the next.
func (q *queue) takeBack(m *message) {
	on := q.subjects[m.Subject]
	q.subjects[m.Subject] = on[:len(on)-1]
	q.all = q.all[:len(q.all)-1]
	q.last = m.Sequence - 1
	q.bytes -= m.size()
}

// find is the message with a sequence, if it is there still.
func (q *queue) find(seq uint64) *message {
	for i := len(q.all) - 1; i >= 0; i-- {
		if m := q.all[i]; m.Sequence == seq && m.there() {
			return m
		}
	}
	return nil
}

// forget is what a restart does to the window: it is read back from the messages that are there. Acked messages of a
// work queue are not.
func (q *queue) forget() {
	for id, r := range q.ids {
		if !r.message.there() {
			delete(q.ids, id)
		}
	}
}

// count is how many messages are there.
func (q *queue) count() int {
	n := 0
	for _, m := range q.all {
		if m.there() {
			n++
		}
	}
	return n
}

// matches tells whether a subject fits a filter. An empty filter fits all.
func matches(filter, subject string) bool {
	if filter == "" {
		return true
	}
	for {
		f, restF, moreF := strings.Cut(filter, ".")
		s, restS, moreS := strings.Cut(subject, ".")
		if f != "*" && f != s || moreF != moreS {
			return false
		}
		if !moreF {
			return true
		}
		filter, subject = restF, restS
	}
}

func notFound(subject string) error { return fmt.Errorf("%w %q", stream.ErrNoStream, subject) }
