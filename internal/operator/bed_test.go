package operator

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bed is a server with the pool p, and an operator ada of it.
type bed struct {
	*testing.T
	nc   *nats.Conn
	pool *stream.Pool
	keys job.Keyring
	op   *Operator
}

func newBed(t *testing.T) *bed {
	t.Helper()
	t.Parallel()
	server, err := embedded.Start(embedded.Options{Store: t.TempDir(), MaxStore: 64 << 30})
	must(t, err)
	t.Cleanup(server.Close)
	nc, err := server.Connect(nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	must(t, err)
	t.Cleanup(nc.Close)
	b := &bed{T: t, nc: nc}
	b.pool, err = stream.Ensure(b.ctx(), nc, "p", stream.Options{})
	must(t, err)
	b.keys, err = b.pool.Keys(b.ctx(), stream.Options{})
	must(t, err)
	b.op, err = New(b.pool, "ada")
	must(t, err)
	return b
}

// ctx bounds every wait of a test.
func (b *bed) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	b.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// work runs a worker until the test ends, or the function it returns is called.
func (b *bed) work(scripts map[string]string, change ...func(*worker.Config)) (stop func()) {
	b.Helper()
	files := fstest.MapFS{}
	for name, source := range scripts {
		files[name+".tengo"] = &fstest.MapFile{Data: []byte(source)}
	}
	library, err := scripting.NewLibrary(files)
	must(b.T, err)
	c := worker.Config{Conn: b.nc, Pool: "p", Library: library, Runner: scripting.NewEngine(library), Name: "test", Logger: slog.New(slog.DiscardHandler), Grace: time.Second}
	for _, f := range change {
		f(&c)
	}
	w, err := worker.New(c)
	must(b.T, err)
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			b.Errorf("the worker: %v", err)
		}
	}
	b.Cleanup(stop)
	return stop
}

// put publishes a message as a caller does, and returns its sequence.
func (b *bed) put(name, body string, header map[string][]string) uint64 {
	b.Helper()
	seq, _, err := b.pool.PublishJob(b.ctx(), job.Message{Subject: "p." + name, Header: header, Data: []byte(body)})
	must(b.T, err)
	return seq
}

// await waits for the first commit of a context that satisfies a condition.
func (b *bed) await(name string, ok func(job.Commit) bool) job.Commit {
	b.Helper()
	var c job.Commit
	err := b.pool.Watch(b.ctx(), name, func(e stream.Entry) bool {
		if e.Data == nil {
			return true
		}
		var err error
		c, err = job.DecodeCommit(e.Data)
		must(b.T, err)
		return !ok(c)
	})
	if err != nil {
		b.Fatalf("context %s did not get there: %v; it is %+v", name, err, c)
	}
	return c
}

func ended(seq uint64) func(job.Commit) bool {
	return func(c job.Commit) bool { return c.Applied >= seq }
}

// commit is a context as the leader has it.
func (b *bed) commit(name string) (job.Commit, []byte) {
	b.Helper()
	e, err := b.pool.ContextFromLeader(b.ctx(), name)
	must(b.T, err)
	c, err := job.DecodeCommit(e.Data)
	must(b.T, err)
	return c, e.Data
}

// store writes a context as a worker would.
func (b *bed) store(name string, c job.Commit) {
	b.Helper()
	e, err := b.pool.ContextFromLeader(b.ctx(), name)
	must(b.T, err)
	c.Version = job.Version
	if c.State == nil {
		c.State = json.RawMessage("{}")
	}
	data, err := job.Encode(c)
	must(b.T, err)
	_, err = b.pool.Commit(b.ctx(), name, data, e.Base())
	must(b.T, err)
}

// bury publishes a dead letter as a worker would.
func (b *bed) bury(id string, l job.DeadLetter) Letter {
	b.Helper()
	at, name, err := ParseID(id)
	must(b.T, err)
	if l.Context == "" {
		l.Context = at.String()
	}
	if l.Message.Subject == "" {
		l.Message.Subject = at.String()
	}
	body, err := job.Encode(l)
	must(b.T, err)
	must(b.T, b.pool.Publish(b.ctx(), job.Message{Subject: at.String() + ".dead." + name, Data: body}))
	return b.find(id)
}

func (b *bed) find(id string) Letter {
	b.Helper()
	l, err := b.op.Find(b.ctx(), id)
	must(b.T, err)
	return l
}

// gone checks that a letter is not there.
func (b *bed) gone(id string) {
	b.Helper()
	if _, err := b.op.Find(b.ctx(), id); !errors.Is(err, ErrGone) {
		b.Errorf("letter %s: got %v, want that it is gone", id, err)
	}
}

// stored are the jobs of a context that are on the stream, in order.
func (b *bed) stored(name string) []job.Message {
	b.Helper()
	var all []job.Message
	for from := uint64(1); ; {
		m, err := b.pool.NextJobFromLeader(b.ctx(), name, from)
		if errors.Is(err, stream.ErrNone) {
			return all
		}
		must(b.T, err)
		all = append(all, m)
		from = m.Sequence + 1
	}
}

// refused checks that nothing was done about a letter, and that the error says why.
func (b *bed) refused(err error, want string) {
	b.Helper()
	var r *Refused
	if !errors.As(err, &r) || !strings.Contains(err.Error(), want) {
		b.Errorf("got %v, want a refusal with %q", err, want)
	}
}
