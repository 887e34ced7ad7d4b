package stream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// Why not the client library's ordered consumer: a server of a cluster answers that it has made a consumer before all the
// others know of it, so that the first pull may get lost. That consumer then waits for an answer until the server takes it
// away, after five minutes.

const (
	scanBatch    = 256              // messages asked for at a time
	scanWait     = time.Second      // for them to come
	scanTries    = 10               // consumers in a row that may hand out nothing, although they should
	scanInactive = 10 * time.Second // after which the server removes a consumer that nobody uses; one that is missed is made anew
)

// scan is a walk through what a stream held when it began, over as many consumers as that takes.
type scan struct {
	pool   *Pool
	stream string
	config jetstream.ConsumerConfig
	last   uint64 // where the stream ended when the walk began
	at     uint64 // the last sequence that was handed over
	fn     func(job.Message) bool
}

// scan hands fn the messages that a stream holds when it is called, oldest first, as the consumer's filter and deliver policy
// select them, until fn returns false.
func (p *Pool) scan(ctx context.Context, stream string, config jetstream.ConsumerConfig, fn func(job.Message) bool) error {
	s, err := p.js.Stream(ctx, stream)
	if err != nil {
		return p.readError(ctx, stream, err)
	}
	config.AckPolicy, config.MemoryStorage, config.Replicas, config.InactiveThreshold = jetstream.AckNonePolicy, true, 1, scanInactive
	w := &scan{pool: p, stream: stream, config: config, last: s.CachedInfo().State.LastSeq, fn: fn}
	if config.DeliverPolicy == jetstream.DeliverLastPerSubjectPolicy {
		w.last = math.MaxUint64 // what was written since then takes the place of what was there
	}
	return w.run(ctx)
}

func (s *scan) run(ctx context.Context) error {
	var err error
	for failed := 0; failed < scanTries; {
		var done bool
		at := s.at
		done, err = s.walk(ctx)
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case s.at > at:
			failed = 0
		case failed > 0 && !errors.Is(err, errNothing):
			return fmt.Errorf("read stream %s: %w", s.stream, err) // it may not be read, or not now
		default:
			failed++
		}
	}
	return fmt.Errorf("read stream %s: it does not hand out what it has: %w", s.stream, err)
}

// errNothing is that nothing came of what a consumer has to hand out.
var errNothing = errors.New("no message came")

// walk goes on with a consumer of its own, until all was handed over or something is wrong with that.
func (s *scan) walk(ctx context.Context) (done bool, err error) {
	config := s.config
	if s.at > 0 && config.DeliverPolicy == jetstream.DeliverAllPolicy {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, s.at+1
	}
	try, cancel := context.WithTimeout(ctx, requestTimeout)
	c, err := s.pool.js.CreateConsumer(try, s.stream, config)
	cancel()
	if err != nil {
		return false, err
	}
	pending := c.CachedInfo().NumPending // what comes after it was made is not counted, and is left out
	for next := uint64(1); pending > 0; {
		var n int
		n, pending, err = s.take(c, next, pending)
		switch {
		case err == nil && s.at >= s.last:
			return true, nil
		case err != nil:
			return errors.Is(err, errEnough), err
		case n == 0: // removed meanwhile; or lost
			return false, errNothing
		}
		next += uint64(n)
	}
	return true, nil
}

// errEnough is that fn wants no more.
var errEnough = errors.New("enough")

// take hands over one batch. next is the consumer's own sequence of its first message: one that is missing was lost on its way.
func (s *scan) take(c jetstream.Consumer, next, pending uint64) (n int, left uint64, err error) {
	batch, err := c.Fetch(int(min(pending, scanBatch)), jetstream.FetchMaxWait(scanWait))
	if err != nil {
		return 0, pending, err
	}
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err != nil {
			return n, pending, err
		}
		if meta.Sequence.Consumer != next+uint64(n) {
			return n, pending, errNothing
		}
		n++
		pending = min(pending-1, meta.NumPending)
		if meta.Sequence.Stream <= s.at {
			continue // by an earlier consumer
		}
		if meta.Sequence.Stream > s.last {
			return n, 0, nil
		}
		s.at = meta.Sequence.Stream
		if !s.fn(job.Message{Subject: msg.Subject(), Sequence: s.at, Time: meta.Timestamp, Header: msg.Headers(), Data: msg.Data()}) {
			return n, 0, errEnough
		}
	}
	return n, pending, batch.Error()
}
