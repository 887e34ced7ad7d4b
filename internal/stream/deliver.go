package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// Delivery is a message that a consumer handed to this process, until it is acked or its ack wait ends.
type Delivery struct {
	Message   job.Message
	Delivered uint64 // how often it was handed out, this time included
	HandedOut uint64 // how many messages the consumer had handed out to anybody, this time included; 0 in simulations

	reply  string
	server Replies
}

// Replies takes what is said about a delivery, on the subject that came with it. A *nats.Conn does.
type Replies interface {
	Publish(subject string, data []byte) error
}

// NewDelivery makes a delivery of a server that is not NATS: simulations have one.
func NewDelivery(m job.Message, delivered uint64, reply string, server Replies) *Delivery {
	return &Delivery{Message: m, Delivered: delivered, reply: reply, server: server}
}

// Ack ends the message. It is best effort: when it is lost the message comes again. It may follow a GiveBack.
func (d *Delivery) Ack() error { return d.server.Publish(d.reply, []byte("+ACK")) }

// AckFor ends another message of the same consumer, whoever it was handed to. The server goes by the stream's sequence in the
// subject, and passes over what it has not handed out yet: that message still comes.
func (d *Delivery) AckFor(sequence uint64) error {
	if sequence == d.Message.Sequence {
		return d.Ack()
	}
	return d.server.Publish(replyFor(d.reply, sequence), []byte("+ACK"))
}

// replyFor puts another sequence into the subject of an ack (ADR-15): the fourth token behind $JS.ACK, or the sixth where a domain
// and an account's hash come first.
func replyFor(reply string, sequence uint64) string {
	part := strings.Split(reply, ".")
	at := 5
	if len(part) >= 11 {
		at = 7
	}
	part[at] = strconv.FormatUint(sequence, 10)
	return strings.Join(part, ".")
}

// Working begins the message's ack wait anew.
func (d *Delivery) Working() error { return d.server.Publish(d.reply, []byte("+WPI")) }

// GiveBack lets the message be handed out again, to anyone, after delay.
func (d *Delivery) GiveBack(delay time.Duration) error {
	if delay <= 0 {
		return d.server.Publish(d.reply, []byte("-NAK"))
	}
	return d.server.Publish(d.reply, []byte(`-NAK {"delay":`+strconv.FormatInt(int64(delay), 10)+`}`))
}

// Deliveries hands out a consumer's messages. It is used by one goroutine, but for Stop.
//
// It pulls by itself, as the client library takes a message without a body that has a header named Status for a word
// of the server: then whoever may publish jobs could end every worker with one. Here a message is what came with a
// subject to ack it on, which the server alone gives.
type Deliveries struct {
	pool             *Pool
	ackWait          time.Duration
	stream, consumer string
	batch            int
	asked            int  // messages that the server was asked for and has not sent
	resting          bool // nothing is asked for until the timer ends
	draining         bool // stopped, and waiting for what is on its way
	timer            *time.Timer
	messages         chan *nats.Msg
	sub              *nats.Subscription
	status           chan nats.Status
	stop             sync.Once
	stopping         chan struct{} // closed by Stop
	drained          chan struct{} // closed when nothing more can arrive
}

// ErrStopped is returned by Next after Stop.
var ErrStopped = errors.New("the deliveries were stopped, or their connection was closed")

// Times of a pull. Silence means that the pull is lost: the server was to be heard at least every heartbeat.
const (
	pullExpires   = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	silence       = 2*pullHeartbeat + time.Second
	rest          = 500 * time.Millisecond // after a refusal
	drainWait     = 2 * time.Second        // for what is on its way when Stop is called
)

// Jobs opens the deliveries of the pool's jobs, at most batch of them ahead. Who opens them stops them.
func (p *Pool) Jobs(ctx context.Context, batch int) (*Deliveries, error) {
	return p.deliveries(ctx, job.JobsStream(p.Name), JobsConsumer(), batch)
}

// Calls opens the deliveries of the pool's calls to one service. The pool as a whole has at most maxInFlight of them
// out, over all workers; it is set when the consumer is made, and by LimitCalls.
func (p *Pool) Calls(ctx context.Context, service string, maxInFlight, batch int) (*Deliveries, error) {
	return p.deliveries(ctx, job.CallsStream(p.Name), CallsConsumer(p.Name, service, maxInFlight), batch)
}

func (p *Pool) deliveries(ctx context.Context, stream string, config jetstream.ConsumerConfig, batch int) (*Deliveries, error) {
	c, err := p.ensureConsumer(ctx, stream, config)
	if err != nil {
		return nil, err
	}
	d := &Deliveries{
		ackWait: c.CachedInfo().Config.AckWait, pool: p, stream: stream, consumer: config.Durable, batch: max(1, batch),
		timer: time.NewTimer(silence), messages: make(chan *nats.Msg, 4*batch+64), stopping: make(chan struct{}), drained: make(chan struct{}),
	}
	if d.sub, err = p.nc.ChanSubscribe(p.nc.NewInbox(), d.messages); err != nil {
		return nil, fmt.Errorf("consumer %s of stream %s: %w", config.Durable, stream, err)
	}
	var once sync.Once // the library may call it twice, when a drain and an unsubscribe meet
	d.sub.SetClosedHandler(func(string) { once.Do(func() { close(d.drained) }) })
	d.status = p.nc.StatusChanged(nats.CONNECTED)
	return d, nil
}

// AckWait is how long a message may lie without a word, as the consumer has it.
func (d *Deliveries) AckWait() time.Duration { return d.ackWait }

// Next waits for a message. It returns ErrStopped once Stop was called, or the connection closed, and all that had
// arrived is handed out; any other error ends the deliveries too. Unless somebody called Stop, ErrStopped means that
// the connection is closed.
func (d *Deliveries) Next() (*Delivery, error) {
	one, err := d.await()
	if err != nil && !errors.Is(err, ErrStopped) {
		d.Close()
	}
	return one, err
}

func (d *Deliveries) await() (*Delivery, error) {
	stopping := d.stopping
	for {
		if err := d.ask(); err != nil {
			return nil, err
		}
		select {
		case msg := <-d.messages:
			if one, err := d.take(msg); one != nil || err != nil {
				return one, err
			}
		case <-stopping:
			stopping, d.draining = nil, true
			d.timer.Reset(drainWait)
		case <-d.status: // connected again: what was asked for before is forgotten
			d.asked, d.resting = 0, false
		case <-d.timer.C:
			if err := d.timeout(); err != nil {
				return nil, err
			}
		case <-d.drained:
			if one, err := d.remainder(); one != nil || err != nil {
				return one, err
			}
		}
	}
}

// ask asks for more when less than half of a batch is on its way.
func (d *Deliveries) ask() error {
	if d.stopped() || d.resting || d.asked > d.batch/2 || !d.pool.nc.IsConnected() {
		return nil
	}
	n := d.batch - d.asked
	body := fmt.Appendf(nil, `{"batch":%d,"expires":%d,"idle_heartbeat":%d}`, n, pullExpires, pullHeartbeat)
	err := d.pool.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+d.stream+"."+d.consumer, d.sub.Subject, body)
	switch {
	case errors.Is(err, nats.ErrConnectionClosed):
		return nil // then the subscription is closed as well
	case err != nil:
		return fmt.Errorf("consumer %s of stream %s: %w", d.consumer, d.stream, err)
	}
	d.asked += n
	d.timer.Reset(silence)
	return nil
}

func (d *Deliveries) stopped() bool {
	select {
	case <-d.stopping:
		return true
	default:
		return false
	}
}

// take reads what arrived: a message, or a word of the server, for which it returns neither a delivery nor an error.
func (d *Deliveries) take(msg *nats.Msg) (*Delivery, error) {
	if !strings.HasPrefix(msg.Reply, "$JS.ACK.") {
		return nil, d.word(msg.Header)
	}
	if !d.stopped() && !d.resting {
		d.timer.Reset(silence)
	}
	d.asked = max(0, d.asked-1)
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("delivery on %s: %w", msg.Subject, err)
	}
	return &Delivery{
		Message: job.Message{
			Subject: msg.Subject, Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Header: msg.Header, Data: msg.Data,
		},
		Delivered: meta.NumDelivered, HandedOut: meta.Sequence.Consumer, reply: msg.Reply, server: d.pool.nc,
	}, nil
}

// word is what the server says about a pull (ADR-13): a heartbeat, its end, or a refusal.
func (d *Deliveries) word(h nats.Header) error {
	if d.stopped() {
		return nil
	}
	code, text := h.Get("Status"), h.Get("Description")
	left, err := strconv.Atoi(h.Get("Nats-Pending-Messages"))
	switch {
	case code == "100":
		d.timer.Reset(silence)
	case err == nil: // the pull has ended, with so many messages left to send
		d.asked = max(0, d.asked-left)
	case code == "400", strings.EqualFold(text, "Consumer Deleted"):
		return d.ended(text)
	default: // no leader, leadership change, server shutdown, too many pulls
		d.asked, d.resting = 0, true
		d.timer.Reset(rest)
	}
	return nil
}

func (d *Deliveries) ended(why string) error {
	return fmt.Errorf("consumer %s of stream %s: the server says %q", d.consumer, d.stream, strings.ToLower(why))
}

// timeout ends a silence, a rest, or the wait for what was on its way when Stop was called.
func (d *Deliveries) timeout() error {
	if d.draining {
		_ = d.sub.Unsubscribe() // its end is what Next waits for; an error says that it has come
		return nil
	}
	if d.stopped() {
		return nil // the drain has its own time, which begins at once
	}
	d.asked = 0
	d.timer.Reset(silence)
	if !d.resting || !d.pool.nc.IsConnected() {
		return nil
	}
	d.resting = false
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	_, err := d.pool.js.Consumer(ctx, d.stream, d.consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return d.ended(err.Error())
	}
	return nil // whatever else it is, it shows at the next pull
}

// remainder hands out what had arrived before the end.
func (d *Deliveries) remainder() (*Delivery, error) {
	select {
	case msg := <-d.messages:
		return d.take(msg)
	default:
		d.timer.Stop()
		d.pool.nc.RemoveStatusListener(d.status)
		return nil, ErrStopped
	}
}

// Close ends deliveries that nobody has begun to take.
func (d *Deliveries) Close() {
	d.timer.Stop()
	_ = d.sub.Unsubscribe() // fails when the connection is closed, and then the subscription is too
	d.pool.nc.RemoveStatusListener(d.status)
}

// Stop asks for no more. Next goes on until what has arrived is handed out.
func (d *Deliveries) Stop() {
	d.stop.Do(func() {
		close(d.stopping)
		_ = d.sub.Drain() // fails when the connection is closed, and then the subscription is too
	})
}
