package simulation

import (
	"cmp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// consumer hands out a queue's messages.
type consumer struct {
	config  jetstream.ConsumerConfig
	queue   *queue
	next    uint64     // messages from this sequence on were never handed out
	pending []*pending // handed out and not acked, by sequence
}

// pending is a message that was handed out and not acked.
type pending struct {
	sequence  uint64
	delivered uint64
	due       time.Time // when it is handed out again
}

func newConsumer(q *queue, config jetstream.ConsumerConfig) *consumer {
	c := &consumer{config: config, queue: q}
	q.consumers = append(q.consumers, c)
	return c
}

// consumer is the queue's consumer of a name.
func (q *queue) consumer(name string) *consumer {
	for _, c := range q.consumers {
		if c.config.Durable == name {
			return c
		}
	}
	panic("simulation: " + q.config.Name + " has no consumer " + name)
}

func (c *consumer) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(c.pending, seq, func(p *pending, seq uint64) int { return cmp.Compare(p.sequence, seq) })
}

func (c *consumer) drop(seq uint64) {
	if i, ok := c.find(seq); ok {
		c.pending = slices.Delete(c.pending, i, i+1)
	}
}

// overdue are the pending messages that are to be handed out again.
func (c *consumer) overdue(now time.Time) []*pending {
	var due []*pending
	for _, p := range c.pending {
		if !p.due.After(now) && (c.config.MaxDeliver <= 0 || p.delivered < uint64(c.config.MaxDeliver)) {
			due = append(due, p)
		}
	}
	return due
}

// fresh is the first message that was never handed out; nil when there is none, or too many are pending.
func (c *consumer) fresh() *message {
	if c.config.MaxAckPending > 0 && len(c.pending) >= c.config.MaxAckPending {
		return nil
	}
	all := c.queue.all
	from := sort.Search(len(all), func(i int) bool { return all[i].Sequence >= c.next })
	for _, m := range all[from:] {
		if m.there() && matches(c.config.FilterSubject, m.Subject) {
			return m
		}
	}
	return nil
}

// earliest is when something that is pending is next handed out again, or the limit if that comes first.
func (c *consumer) earliest(now, limit time.Time) time.Time {
	for _, p := range c.pending {
		if p.due.After(now) && p.due.Before(limit) {
			limit = p.due
		}
	}
	return limit
}

// take hands a message out, and returns how often that has been done now.
func (c *consumer) take(seq uint64, now time.Time) uint64 {
	i, ok := c.find(seq)
	if !ok {
		c.pending = slices.Insert(c.pending, i, &pending{sequence: seq})
		c.next = max(c.next, seq+1)
	}
	p := c.pending[i]
	p.delivered++
	p.due = now.Add(c.config.AckWait)
	return p.delivered
}

// said takes what a process says about a message, and tells whether that ends the message. Like the server it goes by
// the sequence alone: what was said about an earlier delivery counts for the one that is under way.
func (c *consumer) said(seq uint64, word string, now time.Time) bool {
	i, ok := c.find(seq)
	switch {
	case word == "+ACK":
		return seq < c.next // what was not handed out yet can't be acked
	case !ok:
	case word == "+WPI":
		c.pending[i].due = now.Add(c.config.AckWait)
	case strings.HasPrefix(word, "-NAK"):
		c.pending[i].due = now.Add(nakDelay(word))
	}
	return false
}

func nakDelay(word string) time.Duration {
	_, after, _ := strings.Cut(word, `"delay":`)
	n, err := strconv.ParseInt(strings.TrimSuffix(after, "}"), 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(n)
}
