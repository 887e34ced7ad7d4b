package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// Delivery is a message that a consumer handed to this process, until it is acked or its ack wait ends.
type Delivery struct {
	Message   job.Message
	Delivered uint64 // how often it was handed out, this time included

	reply string
	nc    *nats.Conn
}

// Ack ends the message. It is best effort: when it is lost the message comes again. It may follow a GiveBack.
func (d *Delivery) Ack() error { return d.nc.Publish(d.reply, []byte("+ACK")) }

// Working begins the message's ack wait anew.
func (d *Delivery) Working() error { return d.nc.Publish(d.reply, []byte("+WPI")) }

// GiveBack lets the message be handed out again, to anyone, after delay.
func (d *Delivery) GiveBack(delay time.Duration) error {
	if delay <= 0 {
		return d.nc.Publish(d.reply, []byte("-NAK"))
	}
	return d.nc.Publish(d.reply, []byte(`-NAK {"delay":`+strconv.FormatInt(int64(delay), 10)+`}`))
}

// Deliveries hands out a consumer's messages. It is used by one goroutine, but for Stop.
type Deliveries struct {
	AckWait time.Duration // as the consumer has it

	iter jetstream.MessagesContext
	nc   *nats.Conn
}

// ErrStopped is returned by Next after Stop.
var ErrStopped = errors.New("deliveries stopped")

// Jobs opens the deliveries of the pool's jobs, at most batch of them ahead. Who opens them stops them.
func (p *Pool) Jobs(ctx context.Context, batch int) (*Deliveries, error) {
	return p.deliveries(ctx, job.JobsStream(p.Name), jetstream.ConsumerConfig{Durable: workers, MaxAckPending: maxAckPending}, batch)
}

// Calls opens the deliveries of the pool's calls to one service. The pool as a whole has at most maxInFlight of them out, over all
// workers; it is set when the consumer is made.
func (p *Pool) Calls(ctx context.Context, service string, maxInFlight, batch int) (*Deliveries, error) {
	return p.deliveries(ctx, job.CallsStream(p.Name), jetstream.ConsumerConfig{
		Durable: "call_" + service, FilterSubject: p.Name + ".*.call." + service, MaxAckPending: maxInFlight,
	}, batch)
}

func (p *Pool) deliveries(ctx context.Context, stream string, config jetstream.ConsumerConfig, batch int) (*Deliveries, error) {
	c, err := p.ensureConsumer(ctx, stream, config)
	if err != nil {
		return nil, err
	}
	iter, err := c.Messages(jetstream.PullMaxMessages(batch), jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return nil, fmt.Errorf("consumer %s of stream %s: %w", config.Durable, stream, err)
	}
	return &Deliveries{c.CachedInfo().Config.AckWait, iter, p.nc}, nil
}

// Next waits for a message. It returns ErrStopped once Stop was called and all that had arrived is handed out; any
// other error ends the deliveries too.
func (d *Deliveries) Next() (*Delivery, error) {
	msg, err := d.iter.Next()
	if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
		return nil, ErrStopped
	}
	if err != nil {
		return nil, err
	}
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("delivery on %s: %w", msg.Subject(), err)
	}
	return &Delivery{
		Message: job.Message{
			Subject: msg.Subject(), Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Header: msg.Headers(), Data: msg.Data(),
		},
		Delivered: meta.NumDelivered, reply: msg.Reply(), nc: d.nc,
	}, nil
}

// Stop asks for no more. Next goes on until what has arrived is handed out.
func (d *Deliveries) Stop() { d.iter.Drain() }
