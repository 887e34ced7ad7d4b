package worker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
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
)

// The client library leaves a goroutine behind where an object is stored so quickly that its publisher ends before that begins.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

// bed is a server with a pool, and a connection to it.
type bed struct {
	t      *testing.T
	store  string
	listen string
	server *embedded.Server
	nc     *nats.Conn
	pool   *stream.Pool
	keys   job.Keyring
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, store: t.TempDir()}
	b.start()
	t.Cleanup(b.close)
	return b
}

// newListeningBed is a bed that others can reach over TCP.
func newListeningBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, store: t.TempDir(), listen: "127.0.0.1:0"}
	b.start()
	t.Cleanup(b.close)
	return b
}

func (b *bed) start() {
	b.t.Helper()
	var err error
	if b.server, err = embedded.Start(embedded.Options{Store: b.store, Listen: b.listen, MaxStore: 64 << 30}); err != nil {
		b.t.Fatal(err)
	}
	if b.nc, err = b.server.Connect(nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})); err != nil {
		b.t.Fatal(err)
	}
	ctx := within(b.t, 10*time.Second)
	if b.pool, err = stream.Ensure(ctx, b.nc, "p", stream.Options{}); err != nil {
		b.t.Fatal(err)
	}
	if b.keys, err = b.pool.Keys(ctx, stream.Options{}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) close() {
	b.nc.Close()
	b.server.Close()
}

// restart makes the server forget what it only knows in memory.
func (b *bed) restart() {
	b.close()
	b.start()
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func library(t *testing.T, scripts map[string]string) *scripting.Library {
	t.Helper()
	files := fstest.MapFS{}
	for name, source := range scripts {
		files[name+".tengo"] = &fstest.MapFile{Data: []byte(source)}
	}
	l, err := scripting.NewLibrary(files)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// quiet is a logger for tests, which speaks when THENCE_TEST_LOG is set.
func quiet() *slog.Logger {
	if os.Getenv("THENCE_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// only is one library, in the place of a pool's releases.
type only struct{ library *scripting.Library }

func (o only) of(context.Context, string) (*scripting.Library, error) { return o.library, nil }

// config is that of a worker of the bed.
func (b *bed) config(scripts map[string]string) Config {
	lib := library(b.t, scripts)
	return Config{
		Conn: b.nc, Pool: "p", Library: lib, Runner: scripting.NewEngine(lib), Name: "test", Logger: quiet(), Grace: 5 * time.Second,
		Secrets: func(string) (string, bool) { return "", false }, DispatchPools: []string{"*"},
	}
}

// work runs a worker until the function it returns is called, which waits for its end.
func (b *bed) work(c Config) (stop func() error) {
	b.t.Helper()
	w, err := New(c)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	done := false
	stop = func() error {
		if done {
			return nil
		}
		done = true
		cancel()
		return <-ended
	}
	b.t.Cleanup(func() { _ = stop() })
	return stop
}

// publish puts a message on the jobs stream and returns its sequence.
func (b *bed) publish(subject, body string, header ...string) uint64 {
	b.t.Helper()
	m := job.Message{Subject: subject, Data: []byte(body), Header: map[string][]string{}}
	for i := 0; i < len(header); i += 2 {
		m.Header[header[i]] = append(m.Header[header[i]], header[i+1])
	}
	seq, _, err := b.pool.PublishJob(within(b.t, 5*time.Second), m)
	if err != nil {
		b.t.Fatal(err)
	}
	return seq
}

// await waits until a context has applied the job at seq, and returns the commit that did.
func (b *bed) await(name string, seq uint64) job.Commit {
	b.t.Helper()
	return b.awaitCommit(name, func(c job.Commit) bool { return c.Report.Sequence == seq })
}

// awaitCommit waits for a commit of the context that fits.
func (b *bed) awaitCommit(name string, fits func(job.Commit) bool) job.Commit {
	b.t.Helper()
	var got job.Commit
	err := b.pool.Watch(within(b.t, time.Minute), name, func(e stream.Entry) bool {
		if e.Data == nil {
			return true
		}
		c, err := job.DecodeCommit(e.Data)
		if err != nil {
			b.t.Error(err)
		}
		got = c
		return !fits(c)
	})
	if err != nil {
		b.t.Fatalf("context %s: %v; last: %+v", name, err, got.Report)
	}
	return got
}

// letter waits for a dead letter, which follows its job's commit.
func (b *bed) letter(name, id string) job.DeadLetter {
	b.t.Helper()
	at := job.Address{Pool: b.pool.Name, Context: name}
	coming, err := b.nc.SubscribeSync(at.DeadSubject(id))
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = coming.Unsubscribe() }()
	var data []byte
	for ctx := within(b.t, 10*time.Second); data == nil; {
		m, err := b.pool.Dead(ctx, at, id)
		if err == nil {
			data = m.Data
			break
		}
		if !errors.Is(err, stream.ErrNone) {
			b.t.Fatalf("dead letter %s of %s: %v", id, name, err)
		}
		// It may have passed before the subscription, and be stored after the read: then nothing comes, and the next
		// look finds it.
		if msg, err := coming.NextMsg(100 * time.Millisecond); err == nil {
			data = msg.Data
		}
	}
	var l job.DeadLetter
	if err := json.Unmarshal(data, &l); err != nil {
		b.t.Fatal(err)
	}
	return l
}

// letters counts the pool's dead letters.
func (b *bed) letters() int {
	b.t.Helper()
	n := 0
	if err := b.pool.DeadLetters(within(b.t, 5*time.Second), "", func(job.Message) bool { n++; return true }); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// state decodes a commit's state.
func state[T any](t *testing.T, c job.Commit) T {
	t.Helper()
	var s T
	if err := json.Unmarshal(c.State, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s: %q does not say %q", what, text, p)
		}
	}
}

var errCrash = errors.New("the process is killed here")

// runnerFunc is a runner whose every run ends the process that it is in.
type runnerFunc func()

func (f runnerFunc) Run(context.Context, scripting.Input) (*scripting.Outcome, error) {
	f()
	return nil, errCrash
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
