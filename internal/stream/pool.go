// Package stream is the only room that talks to JetStream. It knows how a worker pool's streams, bucket and consumers
// are made, and offers the few operations that the protocol is written in: read a context, read the next job of a
// context, commit, publish, and take deliveries.
//
// A pool named payments owns seven streams: JOBS_payments (work queue of payments.*), CALLS_payments (work queue with
// message schedules: calls and their timers), DEAD_payments (one message a subject), RATES_payments (a mark for each
// service with a rate), KV_payments (the bucket of contexts, history 64), OBJ_payments-bodies (the object store of
// bodies that are too large for a job), and RELEASES_payments (its scripts). Each refuses new messages when it is full,
// but the calls stream, which workers keep below its bound; none drops old ones but RATES_payments, where only the last
// counts, and the bodies, which have their time.
//
// Reads come in two kinds. A direct get may be answered by a replica that lags; a read from the leader costs twice as
// much and does not. What was read never decides: only a commit on the expected revision does.
package stream

import (
	"context"
	"encoding/json"
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

// MinServer is the oldest NATS server whose work queues, schedules and syncs are good enough.
const MinServer = "2.15.2"

// requestTimeout bounds one request to the server.
const requestTimeout = 5 * time.Second

// Errors that callers branch on.
var (
	ErrNone     = errors.New("no such message")
	ErrConflict = errors.New("the context was changed by another worker")
	ErrNoStream = errors.New("no stream takes the subject")
	ErrUnfit    = errors.New("does not fit")
	ErrFull     = errors.New("the stream is full")
)

// A Refusal is the server's definite no to a message: trying again at once changes nothing.
type Refusal struct {
	Subject string
	Err     *jetstream.APIError
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the stream refuses %q: %s (error %d)%s", r.Subject, r.Err.Description, r.Err.ErrorCode, advice(r.Err))
}

func (r *Refusal) Unwrap() error { return r.Err }

// advice is the next step for the refusals that operators meet.
func advice(e *jetstream.APIError) string {
	switch {
	case strings.Contains(e.Description, "maximum messages exceeded"), strings.Contains(e.Description, "maximum bytes exceeded"):
		return ": it is full; let workers catch up, drop dead letters, or raise max_bytes (nats stream edit)"
	case strings.Contains(e.Description, "message size exceeds"):
		return fmt.Sprintf(": a job is at most %d KiB", job.MaxJob>>10)
	case strings.Contains(e.Description, "insufficient"):
		return ": the server is out of storage; free space and restart it"
	}
	return ""
}

// Pool is a worker pool's streams. It owns no connection and no goroutine; it is safe for concurrent use.
type Pool struct {
	Name string
	nc   *nats.Conn
	js   jetstream.JetStream
	room room
}

// room is what is known of the calls stream's size.
type room struct {
	mu      sync.Mutex
	checked time.Time
	full    error
}

// RoomForCalls returns an error that wraps ErrFull while the calls stream is over its bound. The server can't hold
// that bound itself, since a stream with schedules only ever discards old messages; so it is checked here, at most
// once a second, and may be overrun by what workers publish in that time.
func (p *Pool) RoomForCalls(ctx context.Context) error {
	p.room.mu.Lock()
	due := time.Since(p.room.checked) >= time.Second
	if due {
		p.room.checked = time.Now() // others go by what is known meanwhile
	}
	full := p.room.full
	p.room.mu.Unlock()
	if !due {
		return full
	}
	if now, err := p.callsFull(ctx); err == nil { // else as it was: the publish that follows meets the same, and says so
		full = now
	}
	p.room.mu.Lock()
	p.room.full = full
	p.room.mu.Unlock()
	return full
}

// callsFull looks whether the calls stream is over its bound.
func (p *Pool) callsFull(ctx context.Context) (full, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := p.js.Stream(ctx, job.CallsStream(p.Name))
	if err != nil {
		return nil, err
	}
	info := s.CachedInfo()
	bound, err := strconv.ParseUint(info.Config.Metadata[callsBound], 10, 63)
	if err != nil || info.State.Bytes < bound {
		return nil, nil // without a bound it is never full
	}
	return fmt.Errorf("%w: stream %s holds %d bytes of calls, and its bound (%s in its metadata) is %d: they wait until some are answered",
		ErrFull, info.Config.Name, info.State.Bytes, callsBound, bound), nil
}

// Open returns the pool's streams, unchecked: for those who may read or publish but not manage.
func Open(nc *nats.Conn, name string) (*Pool, error) {
	if err := job.ValidPool(name); err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	return &Pool{Name: name, nc: nc, js: js}, nil
}

// Entry is a context as it was last committed. The zero revision is a context that has no commit yet.
type Entry struct {
	Revision uint64
	Time     time.Time
	Data     []byte // nil: no commit yet, or deleted by an operator
	Over     uint64 // the connection that Context and ContextFromLeader read it over; see Base
}

// Base is what a commit on the entry is written on.
func (e Entry) Base() Base { return Base{e.Revision, e.Over} }

// Base is the revision that a commit is written on.
//
// A revision that was acked stands. One that was only read may be gone when its server comes back from a loss of power, and
// its number is then given to another commit, which nobody could tell from it. So what is written on it goes over the
// connection that it was read over, or nowhere: a server that lost its power has lost that too.
type Base struct {
	Revision uint64
	Over     uint64 // 0: it stands
}

// Connection tells one connection to the server from the next: it is another number after each reconnect, and never 0.
func (p *Pool) Connection() uint64 { return p.nc.Stats().Reconnects + 1 }

// Context reads a context by a direct get, which may be stale.
func (p *Pool) Context(ctx context.Context, name string) (Entry, error) {
	subject := "$JS.API.DIRECT.GET." + job.ContextsStream(p.Name) + "." + job.Address{Pool: p.Name, Context: name}.ContextSubject()
	over := p.Connection()
	e, err := entry(p.direct(ctx, subject, nil))
	e.Over = over
	return e, err
}

// ContextFromLeader reads a context as the stream's leader has it.
func (p *Pool) ContextFromLeader(ctx context.Context, name string) (Entry, error) {
	subject := job.Address{Pool: p.Name, Context: name}.ContextSubject()
	over := p.Connection()
	e, err := entry(p.fromLeader(ctx, job.ContextsStream(p.Name), getRequest{LastFor: subject}))
	e.Over = over
	return e, err
}

func entry(m job.Message, err error) (Entry, error) {
	if errors.Is(err, ErrNone) {
		return Entry{}, nil
	}
	e := Entry{Revision: m.Sequence, Time: m.Time, Data: m.Data}
	if m.Get("KV-Operation") != "" {
		e.Data = nil
	}
	return e, err
}

// NextJob reads the first job of a context at or after sequence from by a direct get, which may be stale. It returns
// ErrNone when there is none.
func (p *Pool) NextJob(ctx context.Context, name string, from uint64) (job.Message, error) {
	body, err := json.Marshal(p.next(name, from))
	if err != nil {
		return job.Message{}, err
	}
	m, err := p.direct(ctx, "$JS.API.DIRECT.GET."+job.JobsStream(p.Name), body)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, errUntold) { // the leader says for certain
		return p.NextJobFromLeader(ctx, name, from)
	}
	return m, err
}

// errUntold says that a direct get's answer does not tell for certain what and where the message is. The server takes
// any bytes for a header block and adds its own lines behind: bytes that end the block early hide them, and may stand
// in for them.
var errUntold = errors.New("the answer's headers are not those that the server wrote")

// NextJobFromLeader is NextJob as the stream's leader has it.
func (p *Pool) NextJobFromLeader(ctx context.Context, name string, from uint64) (job.Message, error) {
	return p.fromLeader(ctx, job.JobsStream(p.Name), p.next(name, from))
}

func (p *Pool) next(name string, from uint64) getRequest {
	return getRequest{Seq: max(1, from), NextFor: job.Address{Pool: p.Name, Context: name}.String()}
}

// LastJob is the sequence of the last job that the pool's stream took.
func (p *Pool) LastJob(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := p.js.Stream(ctx, job.JobsStream(p.Name))
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.LastSeq, nil
}

// Commit writes a context on what it is expected to be, and returns the new revision. It returns ErrConflict when the
// context has another revision, or can't be known to have this one any more; a *Refusal when the stream will not have it; any
// other error leaves open whether it was written.
func (p *Pool) Commit(ctx context.Context, name string, data []byte, on Base) (uint64, error) {
	opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(on.Revision)}
	if on.Over != 0 {
		if !p.nc.IsConnected() || p.Connection() != on.Over { // the client library keeps what it can't send for the next connection
			return 0, fmt.Errorf("%w: it was read over a connection that is gone", ErrConflict)
		}
		opts = append(opts, jetstream.WithRetryAttempts(0))
	}
	subject := job.Address{Pool: p.Name, Context: name}.ContextSubject()
	return p.publish(ctx, job.Message{Subject: subject, Data: data}, opts...)
}

// Publish puts a message on the stream that takes its subject, and returns once the stream has it. A repeat of a
// Nats-Msg-Id counts as success. It returns ErrNoStream or a *Refusal for a definite no.
func (p *Pool) Publish(ctx context.Context, m job.Message) error {
	_, err := p.publish(ctx, m)
	return err
}

func (p *Pool) publish(ctx context.Context, m job.Message, opts ...jetstream.PublishOpt) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	ack, err := p.js.PublishMsg(ctx, &nats.Msg{Subject: m.Subject, Header: nats.Header(m.Header), Data: m.Data}, opts...)
	if err != nil {
		return 0, publishError(m.Subject, err)
	}
	return ack.Sequence, nil
}

func publishError(subject string, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%w %q", ErrNoStream, subject)
	case !errors.As(err, &api):
		return fmt.Errorf("publish to %q: %w", subject, err)
	case api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence, api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant:
		return ErrConflict
	case strings.HasSuffix(api.Description, "exceeded"): // a limit of the stream; the server gives it the code of a store that is down
		return &Refusal{subject, api}
	case api.Code == 503: // no leader, or JetStream on its way up: not an answer about the message
		return fmt.Errorf("publish to %q: %w", subject, err)
	default:
		return &Refusal{subject, api}
	}
}

// PublishJob puts a caller's job on its pool's stream.
func (p *Pool) PublishJob(ctx context.Context, m job.Message) (sequence uint64, duplicate bool, err error) {
	ack, err := p.js.PublishMsg(ctx, &nats.Msg{Subject: m.Subject, Header: nats.Header(m.Header), Data: m.Data})
	if err != nil {
		return 0, false, publishError(m.Subject, err)
	}
	return ack.Sequence, ack.Duplicate, nil
}

// PoolExists tells whether there is a pool of that name.
func (p *Pool) PoolExists(ctx context.Context, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := p.js.Stream(ctx, job.JobsStream(name))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, nil
	}
	return err == nil, err
}

// MaxPayload is the largest message that the server takes.
func (p *Pool) MaxPayload() int { return int(p.nc.MaxPayload()) }

type getRequest struct {
	Seq     uint64 `json:"seq,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
	NextFor string `json:"next_by_subj,omitempty"`
}

// direct asks for a message by ADR-31: the answer is the message itself, its place in headers.
func (p *Pool) direct(ctx context.Context, subject string, body []byte) (job.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	msg, err := p.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return job.Message{}, fmt.Errorf("read %s: %w", subject, err)
	}
	if last(msg.Header, "Nats-Sequence") != "" { // first of all: whoever published the message may have given it a Status
		return stored(msg)
	}
	if msg.Header.Get("Status") == "404" && len(msg.Header) <= 2 && len(msg.Data) == 0 {
		return job.Message{}, ErrNone
	}
	return job.Message{}, fmt.Errorf("read %s: %w (status %q, %q)", subject, errUntold, msg.Header.Get("Status"), msg.Header.Get("Description"))
}

// maxHeaderLines is how many header lines a direct get's answer may have. Each line could be a byte shorter than it is
// counted in whole, and together they must not make room for lines that are hidden.
const maxHeaderLines = 40

// whole tells whether the header that was read is all that was sent.
func whole(msg *nats.Msg) bool {
	size, lines := len("NATS/1.0\r\n\r\n"), 0
	for name, values := range msg.Header {
		for _, v := range values {
			size += len(name) + len(": ") + len(v) + len("\r\n")
			lines++
		}
	}
	return lines <= maxHeaderLines && size == msg.Size()-len(msg.Subject)-len(msg.Reply)-len(msg.Data)
}

// last is the value that the server gave to a header: it adds its own behind those of whoever published the message.
func last(h nats.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// stored undoes the headers that a direct get adds.
func stored(msg *nats.Msg) (job.Message, error) {
	if !whole(msg) {
		return job.Message{}, errUntold
	}
	m := job.Message{Subject: last(msg.Header, "Nats-Subject"), Header: msg.Header, Data: msg.Data}
	var err error
	if m.Sequence, err = strconv.ParseUint(last(msg.Header, "Nats-Sequence"), 10, 64); err != nil {
		return m, fmt.Errorf("direct get: no sequence: %w", err)
	}
	if m.Time, err = time.Parse(time.RFC3339Nano, last(msg.Header, "Nats-Time-Stamp")); err != nil {
		return m, fmt.Errorf("direct get: no time: %w", err)
	}
	for _, name := range []string{"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Num-Pending"} {
		delete(m.Header, name)
	}
	return m, nil
}

// fromLeader reads by the stream API, which only the leader answers. The client library would use a direct get here.
func (p *Pool) fromLeader(ctx context.Context, stream string, get getRequest) (job.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	body, err := json.Marshal(get)
	if err != nil {
		return job.Message{}, err
	}
	msg, err := p.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return job.Message{}, fmt.Errorf("read %s from its leader: %w", stream, err)
	}
	return leaderAnswer(stream, msg.Data)
}

func leaderAnswer(stream string, data []byte) (job.Message, error) {
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return job.Message{}, fmt.Errorf("read %s from its leader: %w", stream, err)
	}
	if e := answer.Error; e != nil && e.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return job.Message{}, ErrNone
	} else if e != nil {
		return job.Message{}, fmt.Errorf("read %s from its leader: %w", stream, e)
	}
	m := job.Message{Subject: answer.Message.Subject, Sequence: answer.Message.Sequence, Time: answer.Message.Time, Data: answer.Message.Data}
	if block := answer.Message.Header; len(block) > 0 {
		header, err := nats.DecodeHeadersMsg(block)
		if err != nil { // the message is what it is: whoever reads it decides what becomes of it
			m.Broken = fmt.Sprintf("its header block can't be read: %v", err)
		}
		m.Header = header
	}
	return m, nil
}
