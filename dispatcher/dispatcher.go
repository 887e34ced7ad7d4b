// Package dispatcher puts jobs on a worker pool's stream, and learns what became of them. It is the callers' library; a
// worker is not needed to dispatch, only the pool's stream.
//
//	d, err := dispatcher.New(nc, dispatcher.Config{Caller: "shop", Worker: "payments"})
//	receipt, err := d.Dispatch(ctx, dispatcher.Job{Context: "cus_42", Script: "checkout", Data: order})
//	report, err := d.Await(ctx, receipt)
//
// Dispatch returns once the stream has the job: from then on it will end exactly once, as done or as a dead letter. The
// job's id is what makes a repeat harmless: dispatching a job again under the same id, after a time-out say, changes
// nothing inside the stream's dedupe window of two minutes, nor later while fewer than 256 jobs of that context came
// between. The window is the whole pool's: an id that was used for one context is a repeat in another, so ids are
// unique in the pool.
package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Config holds what a dispatcher's jobs have in common. All of it may be left out.
type Config struct {
	Caller  string // who dispatches, as reports show it; not checked by anyone
	Worker  string // pool of jobs that name none
	Context string // context of jobs that name none
}

// Dispatcher dispatches jobs. It owns neither a connection nor a goroutine, and is safe for concurrent use.
type Dispatcher struct {
	nc     *nats.Conn
	config Config
	pools  sync.Map // of *stream.Pool, by name
}

// New makes a dispatcher. The connection stays the caller's, who closes it.
func New(nc *nats.Conn, c Config) (*Dispatcher, error) {
	if nc == nil {
		return nil, errors.New("dispatcher: the connection is nil")
	}
	return &Dispatcher{nc: nc, config: c}, nil
}

// Job is a job to be dispatched. Exactly one of Script, Source and File is given.
type Job struct {
	ID       string    // default: a UUID of version 7; unique in the pool. A job keeps its id when it is dispatched again
	Worker   string    // the pool; default: the dispatcher's
	Context  string    // default: the dispatcher's
	Caller   string    // default: the dispatcher's
	Script   string    // name of a library script
	Source   string    // Tengo source
	File     string    // path of a file with Tengo source
	Data     any       // what the script gets as data: anything that encoding/json encodes; json.RawMessage as it is; nil: none
	Deadline time.Time // a job that has not begun by then becomes a dead letter; zero: none
	Trace    string    // W3C traceparent; empty: none
}

// Receipt shows that a job was accepted. It can be stored, and used by any dispatcher of the same server.
type Receipt struct {
	ID        string `json:"id"`
	Worker    string `json:"worker"`
	Context   string `json:"context"`
	Sequence  uint64 `json:"sequence"`            // the job's place in the pool's stream
	Duplicate bool   `json:"duplicate,omitempty"` // the stream had a job of this id already; Sequence is that one's
}

// Errors that callers branch on.
var (
	// ErrNoPool is wrapped when no stream takes the job's subject.
	ErrNoPool = errors.New("no worker pool")
	// ErrInvalid is wrapped when a job can't be dispatched as it is. Nothing was published.
	ErrInvalid = errors.New("invalid job")
)

// Dispatch publishes a job and returns once its stream has stored it. When it fails with neither ErrInvalid nor
// ErrNoPool, it may have been stored all the same: dispatch it again under the same id. Give such jobs an ID of your
// own, as the default is a new one each time.
func (d *Dispatcher) Dispatch(ctx context.Context, j Job) (Receipt, error) {
	j = d.withDefaults(j)
	m, err := j.message()
	if err != nil {
		return Receipt{}, err
	}
	pool, err := d.pool(j.Worker)
	if err != nil {
		return Receipt{}, err
	}
	if size := messageSize(m); size > job.MaxJob {
		return Receipt{}, fmt.Errorf("%w: it has %d bytes, at most %d are allowed: keep large data elsewhere and send its address", ErrInvalid, size, job.MaxJob)
	}
	seq, duplicate, err := pool.PublishJob(ctx, m)
	if errors.Is(err, stream.ErrNoStream) {
		return Receipt{}, fmt.Errorf("%w named %s: nothing takes %q; start a worker, or run `thence init --pool %s`", ErrNoPool, j.Worker, m.Subject, j.Worker)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return Receipt{}, fmt.Errorf("dispatch job %s: the server has not answered, so the job may be accepted or not: dispatch it again under this id, "+
			"as a repeat is recognised. If that goes on, `thence doctor` looks at the server, whose disk may be full: %w", j.ID, err)
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("dispatch job %s: %w", j.ID, err)
	}
	return Receipt{ID: j.ID, Worker: j.Worker, Context: j.Context, Sequence: seq, Duplicate: duplicate}, nil
}

// pool returns the streams of a worker pool.
func (d *Dispatcher) pool(name string) (*stream.Pool, error) {
	if p, ok := d.pools.Load(name); ok {
		return p.(*stream.Pool), nil
	}
	p, err := stream.Open(d.nc, name)
	if err == nil {
		d.pools.Store(name, p)
	}
	return p, err
}

func (d *Dispatcher) withDefaults(j Job) Job {
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&j.Worker, d.config.Worker)
	fill(&j.Context, d.config.Context)
	fill(&j.Caller, d.config.Caller)
	if j.ID == "" {
		j.ID = uuid.Must(uuid.NewV7()).String()
	}
	return j
}

// message turns the API's job into the wire's, and checks that a worker will be able to read it.
func (j Job) message() (job.Message, error) {
	to := job.Address{Pool: j.Worker, Context: j.Context}
	if err := to.Valid(); err != nil {
		return job.Message{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	m := job.Message{Subject: to.String(), Header: map[string][]string{job.HeaderID: {j.ID}}}
	set := func(name, value string) {
		if value != "" {
			m.Header[name] = []string{value}
		}
	}
	set(job.HeaderCaller, j.Caller)
	set(job.HeaderScript, j.Script)
	set(job.HeaderTrace, j.Trace)
	if !j.Deadline.IsZero() {
		set(job.HeaderDeadline, j.Deadline.UTC().Format(time.RFC3339Nano))
	}
	typ, body, err := j.body()
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	set(job.HeaderType, typ)
	m.Data = body
	return m, j.check(m)
}

// check reads the message as a worker will, and tells what would arrive otherwise than it was given.
func (j Job) check(m job.Message) error {
	read, err := job.Parse(m)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for name, values := range m.Header {
		if strings.TrimSpace(values[0]) != values[0] {
			return fmt.Errorf("%w: header %s: %q has space at its ends", ErrInvalid, name, values[0])
		}
	}
	if read.Trace != j.Trace {
		return fmt.Errorf("%w: trace %q: want a W3C traceparent", ErrInvalid, j.Trace)
	}
	return nil
}

func (j Job) body() (typ string, body []byte, err error) {
	given := 0
	for _, s := range []string{j.Script, j.Source, j.File} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return "", nil, fmt.Errorf("want exactly one of Script, Source and File, got %d", given)
	}
	var data []byte
	if j.Data != nil {
		if data, err = job.Encode(j.Data); err != nil {
			return "", nil, fmt.Errorf("data: %w", err)
		}
	}
	if j.Script != "" {
		if data == nil {
			return "", nil, nil
		}
		return job.TypeJSON, data, nil
	}
	source, name, err := j.source()
	if err != nil {
		return "", nil, err
	}
	body, err = job.Encode(job.Inline{Source: source, Name: name, Data: data})
	return job.TypeInline, body, err
}

func (j Job) source() (source, name string, err error) {
	if j.File == "" {
		return j.Source, "", nil
	}
	b, err := os.ReadFile(j.File)
	if err != nil {
		return "", "", err
	}
	if !utf8.Valid(b) {
		return "", "", fmt.Errorf("%s is not UTF-8", j.File)
	}
	return string(b), filepath.Base(j.File), nil
}

// messageSize is what the stream will count.
func messageSize(m job.Message) int {
	size := len("NATS/1.0\r\n\r\n") + len(m.Data)
	for name, values := range m.Header {
		for _, v := range values {
			size += len(name) + len(v) + len(": \r\n")
		}
	}
	return size
}
