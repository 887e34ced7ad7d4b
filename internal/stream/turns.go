package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// Turn is an entry of a pool's history of releases: which became the current one, when, by whom, and why. The last one
// says which is the current one now. None is ever removed.
type Turn struct {
	Name     string    `json:"release"`
	Time     time.Time `json:"-"`                 // the server's, when it took the turn
	By       string    `json:"by,omitempty"`      // the worker, or who ran the command
	From     string    `json:"from,omitempty"`    // what turned it: "push ./scripts", "rollback", "worker ./scripts"
	Note     string    `json:"note,omitempty"`    // in the words of who did
	Shipped  bool      `json:"shipped,omitempty"` // it has only the shipped scripts, and a worker pushed it
	Revision uint64    `json:"-"`
}

// ErrTurned is that somebody else has turned the pool to another release meanwhile.
var ErrTurned = errors.New("another release became the current one meanwhile")

// CurrentRelease tells which release is the pool's current one, as the stream's leader has it. It returns an error that
// wraps ErrNoRelease when there is none yet.
func (p *Pool) CurrentRelease(ctx context.Context) (Turn, error) {
	m, err := p.fromLeader(ctx, job.ReleasesStream(p.Name), getRequest{LastFor: job.TurnsSubject(p.Name)})
	if errors.Is(err, ErrNone) {
		return Turn{}, fmt.Errorf("pool %s has %w yet: push one with `thence scripts push`, or start a worker", p.Name, ErrNoRelease)
	}
	if err != nil {
		return Turn{}, p.releasesError(ctx, err)
	}
	return turnOf(m)
}

func turnOf(m job.Message) (Turn, error) {
	t := Turn{Time: m.Time.UTC(), Revision: m.Sequence}
	if err := json.Unmarshal(m.Data, &t); err != nil {
		return t, fmt.Errorf("message %d on %s can't be read: %w", m.Sequence, m.Subject, err)
	}
	return t, nil
}

// TurnRelease makes a release that is stored the current one, where the turn of revision expect still is the last; 0:
// where there is none. It returns the turn with its time and revision. It returns an error that wraps ErrTurned when
// there is another one, and ErrNoRelease when no such release is stored.
func (p *Pool) TurnRelease(ctx context.Context, to Turn, expect uint64) (Turn, error) {
	if _, err := p.releaseHead(ctx, to.Name); err != nil {
		return Turn{}, err
	}
	data, err := json.Marshal(to)
	if err != nil {
		return Turn{}, err
	}
	seq, err := p.publish(ctx, job.Message{Subject: job.TurnsSubject(p.Name), Data: data}, jetstream.WithExpectLastSequencePerSubject(expect))
	if errors.Is(err, ErrConflict) {
		return Turn{}, fmt.Errorf("turn pool %s to release %s: %w", p.Name, to.Name, ErrTurned)
	}
	if err != nil {
		return Turn{}, p.releasesError(ctx, err)
	}
	m, err := p.fromLeader(ctx, job.ReleasesStream(p.Name), getRequest{Seq: seq})
	if err != nil { // it is turned: only the time of it is not known
		to.Revision, to.Time = seq, time.Now()
		return to, nil //nolint:nilerr // the turn has been made
	}
	return turnOf(m)
}

// ReleaseTurns returns the pool's history of releases, the newest first.
func (p *Pool) ReleaseTurns(ctx context.Context) ([]Turn, error) {
	var all []Turn
	if _, err := p.CurrentRelease(ctx); errors.Is(err, ErrNoRelease) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var bad error
	err := p.scan(ctx, job.ReleasesStream(p.Name), jetstream.ConsumerConfig{FilterSubject: job.TurnsSubject(p.Name)}, func(m job.Message) bool {
		t, err := turnOf(m)
		bad = err
		all = append(all, t)
		return err == nil
	})
	slices.Reverse(all)
	return all, errors.Join(err, bad)
}

// Waits of who follows turns.
const (
	turnsHeartbeat = 5 * time.Second  // how often the server says that it is there
	turnsRetry     = time.Second      // after a failure
	turnsInactive  = 30 * time.Second // after which the server removes a consumer that nobody listens to
)

// WatchRelease hands the pool's current release to heard, and then each turn in the order in which they are made, until
// ctx ends; turns that are made while the server is away may be left out but for the last. While there is no release it
// waits for one. heard is called by one goroutine, this one. It returns an error only when the connection is closed.
//
// The server pushes turns: nothing polls. Where it has been silent for too long, or the connection was lost, it begins
// again, with what is the current one by then.
func (p *Pool) WatchRelease(ctx context.Context, heard func(Turn)) error {
	w := &turnWatch{pool: p, heard: heard, heartbeat: turnsHeartbeat}
	return w.run(ctx)
}

// turnWatch is who follows a pool's turns.
type turnWatch struct {
	pool      *Pool
	heard     func(Turn)
	heartbeat time.Duration
	back      chan nats.Status // the connection is there again, or will never be
	last      uint64           // revision of the last turn that was heard
}

func (w *turnWatch) run(ctx context.Context) error {
	nc := w.pool.nc
	w.back = nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer nc.RemoveStatusListener(w.back)
	for {
		err := w.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case nc.IsClosed():
			return fmt.Errorf("follow the releases of pool %s: %w", w.pool.Name, nats.ErrConnectionClosed)
		case err != nil:
			w.wait(ctx)
		}
	}
}

func (w *turnWatch) hear(t Turn) {
	if t.Revision > w.last {
		w.last = t.Revision
		w.heard(t)
	}
}

// wait waits until it is worth another try.
func (w *turnWatch) wait(ctx context.Context) {
	retry := time.NewTimer(turnsRetry)
	defer retry.Stop()
	select {
	case <-retry.C:
	case <-ctx.Done():
	}
}

// follow hears turns until the server is silent, the connection is back after it was lost, or ctx ends. The consumer is
// there before the current turn is read, so that none falls between.
func (w *turnWatch) follow(ctx context.Context) error {
	turns := make(chan *nats.Msg, 64)
	sub, err := w.pool.nc.ChanSubscribe(w.pool.nc.NewInbox(), turns)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails when the connection is closed, and then the subscription is too
	if err := w.push(ctx, sub.Subject); err != nil {
		return err
	}
	current, err := w.pool.CurrentRelease(ctx)
	if err == nil {
		w.hear(current)
	} else if !errors.Is(err, ErrNoRelease) {
		return err
	}
	return w.listen(ctx, turns)
}

func (w *turnWatch) listen(ctx context.Context, turns <-chan *nats.Msg) error {
	most := 3 * w.heartbeat
	silence := time.NewTimer(most)
	defer silence.Stop()
	for {
		select {
		case msg := <-turns:
			silence.Reset(most)
			m, ok := pushed(msg)
			if !ok {
				continue
			}
			t, err := turnOf(m)
			if err != nil { // who made it can't be told; the current one stays what it was
				continue
			}
			w.hear(t)
		case <-w.back:
			return nil
		case <-silence.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pushed is the message of a stream that a consumer has pushed; ok is false for a word of the server's own.
func pushed(msg *nats.Msg) (m job.Message, ok bool) {
	if msg.Reply == "" {
		return m, false
	}
	meta, err := msg.Metadata()
	if err != nil {
		return m, false
	}
	return job.Message{Subject: msg.Subject, Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Header: msg.Header, Data: msg.Data}, true
}

// push has the server push new turns to a subject.
func (w *turnWatch) push(ctx context.Context, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	name := w.pool.Name
	_, err := w.pool.js.CreatePushConsumer(ctx, job.ReleasesStream(name), jetstream.ConsumerConfig{
		FilterSubject: job.TurnsSubject(name), DeliverSubject: subject, DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckNonePolicy,
		IdleHeartbeat: w.heartbeat, InactiveThreshold: turnsInactive, MemoryStorage: true, Replicas: 1,
	})
	return err
}
