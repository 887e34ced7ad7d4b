package calls

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/internal/stripefake"
)

// The client library leaves a goroutine behind where an object is stored so quickly that its publisher ends before that begins.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

// rig is a pool named payments with its keys, an imitation of Stripe, and all that was published and logged.
type rig struct {
	ctx  context.Context //nolint:containedctx // bounds every wait of a test
	nc   *nats.Conn
	js   jetstream.JetStream
	pool *stream.Pool
	keys job.Keyring
	fake *stripefake.Server
	url  string // of the imitation

	secrets map[string]string
	next    atomic.Uint64
	seen    *record
}

// record keeps everything that passes a server, and what is logged.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *record) has(s string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(r.text.String(), s)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // tests beside this one have their turns within it
	t.Cleanup(cancel)
	server := must(embedded.Start(embedded.Options{Store: t.TempDir(), MaxStore: 16 << 30}))(t)
	t.Cleanup(server.Close)
	nc := must(server.Connect())(t)
	t.Cleanup(nc.Close)
	r := &rig{ctx: ctx, nc: nc, js: must(jetstream.New(nc))(t), seen: &record{}, secrets: map[string]string{"stripe_key": "sk_test_rig"}}
	watcher := must(server.Connect())(t)
	t.Cleanup(watcher.Close)
	for _, subject := range []string{"payments.>", "$KV.>", "$JS.>"} { // not the inboxes: to the server, who listens there wants deliveries
		must(watcher.Subscribe(subject, func(m *nats.Msg) {
			for name, values := range m.Header {
				_, _ = r.seen.Write([]byte(name + ": " + strings.Join(values, ",") + "\n"))
			}
			_, _ = r.seen.Write(append([]byte(m.Subject+"\n"), m.Data...))
		}))(t)
	}
	ok(t, watcher.Flush())
	r.pool = must(stream.Ensure(ctx, nc, "payments", stream.Options{MaxBytes: 64 << 20}))(t)
	r.keys = must(r.pool.Keys(ctx, stream.Options{}))(t)
	r.fake = stripefake.New(stripefake.Options{Key: "sk_test_rig"})
	r.url = serve(t, r.fake)
	t.Cleanup(r.fake.Close)
	return r
}

func serve(t *testing.T, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// stripe is the imitation as a service, with short waits, and no breaker: it fails as it is told to. The server's timers are no finer than 250 ms.
func (r *rig) stripe() Service {
	return Service{Name: "stripe", Endpoint: r.url, AllowPrivate: true, Backoff: 10 * time.Millisecond, Attempts: 3, Breaker: Breaker{Off: true}}
}

func (r *rig) performer(t *testing.T, services ...Service) *Performer {
	t.Helper()
	return New(Config{
		Streams: r.pool, Stands: func(context.Context, string, stream.Entry) error { return nil },
		Take: func(ctx context.Context, s Service) (Deliveries, error) {
			return r.pool.Calls(ctx, s.Name, s.MaxInFlight, Batch)
		},
		Pacing: r.pool, Bodies: r.pool, Keys: r.keys, Services: Declare(must(NewServices(services...))(t)), Grace: 10 * time.Second,
		Secrets: func(name string) (string, bool) { value, ok := r.secrets[name]; return value, ok },
		Logger:  slog.New(slog.NewTextHandler(r.seen, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
}

// run runs a performer until the test ends, or the returned function is called, which waits for it.
func run(t *testing.T, p *Performer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	ok(t, p.Open(ctx))
	go func() { ended <- p.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// opened is a call that a context waits for.
type opened struct {
	*rig
	address  job.Address
	call     job.Call
	message  job.Message
	revision uint64
	answers  *nats.Subscription
}

// prepare makes a call's message as a worker's outbox does, and listens for the answer. The context does not have it
// yet.
func (r *rig) prepare(t *testing.T, name, service string, request job.Request, edits ...func(*job.Call)) *opened {
	t.Helper()
	origin := job.Origin{Address: job.Address{Pool: "payments", Context: name}, Sequence: r.next.Add(1), Index: 2}
	o := &opened{rig: r, address: origin.Address}
	o.call = job.Call{
		ID: origin.ID(), Service: service, Key: r.keys.IdempotencyKey(r.keys.Signing(), origin), Parent: "job-1", Request: request, Trace: "00-1-2-01",
	}
	for _, edit := range edits {
		edit(&o.call)
	}
	o.message = job.Message{Subject: origin.CallSubject(service), Header: map[string][]string{
		job.HeaderID: {r.keys.MessageID(r.keys.Signing(), job.EffectCall, origin)},
	}}
	o.answers = must(r.nc.SubscribeSync(origin.Address.String()))(t)
	return o
}

// commit writes the context with the call open or not, and publish its message with that revision, signed.
func (o *opened) commit(t *testing.T, open bool) {
	t.Helper()
	c := job.Commit{Version: job.Version, State: []byte("{}"), Applied: o.next.Load(), Calls: map[string]job.OpenCall{}}
	if open {
		c.Calls[o.call.ID] = job.OpenCall{Service: o.call.Service, Parent: "job-1"}
	}
	o.revision = must(o.pool.Commit(o.ctx, o.address.Context, must(job.Encode(c))(t), stream.Base{Revision: o.revision}))(t)
}

func (o *opened) publish(t *testing.T) {
	t.Helper()
	o.call.Revision = o.revision
	o.message.Data = must(job.Encode(o.call))(t)
	o.keys.Sign(&o.message)
	ok(t, o.pool.Publish(o.ctx, o.message))
}

func (r *rig) open(t *testing.T, name, service string, request job.Request, edits ...func(*job.Call)) *opened {
	t.Helper()
	o := r.prepare(t, name, service, request, edits...)
	o.commit(t, true)
	o.publish(t)
	return o
}

// answer waits for the call's answer, and checks what every answer has.
func (o *opened) answer(t *testing.T) job.Answer {
	t.Helper()
	got, err := o.answers.NextMsgWithContext(o.ctx)
	if err != nil {
		t.Fatalf("no answer to call %s of %s: %v", o.call.ID, o.address, err)
	}
	m := job.Message{Subject: got.Subject, Header: got.Header, Data: got.Data}
	ok(t, o.keys.Verify(m))
	j := must(job.Parse(m))(t)
	equal(t, "caller", j.Caller, o.call.Service)
	equal(t, "call", j.Call, o.call.ID)
	equal(t, "trace", j.Trace, "00-1-2-01")
	return *j.Answer
}

// failure waits for an answer that is one.
func (o *opened) failure(t *testing.T, typ string, attempts int) job.Answer {
	t.Helper()
	a := o.answer(t)
	if a.Failure == nil {
		t.Fatalf("no failure: status %d, body %s", a.Status, a.Body)
	}
	equal(t, "type of failure ("+a.Failure.Message+")", a.Failure.Type, typ)
	equal(t, "attempts", a.Attempts, attempts)
	return a
}

func (r *rig) info(t *testing.T, name string) *jetstream.StreamInfo {
	t.Helper()
	s, err := r.js.Stream(r.ctx, name)
	ok(t, err)
	return s.CachedInfo()
}

// settle waits until the calls stream holds n messages; each look is a word to the server and back.
func (r *rig) settle(t *testing.T, n uint64) {
	t.Helper()
	for r.info(t, "CALLS_payments").State.Msgs != n {
		if r.ctx.Err() != nil {
			t.Fatalf("the calls stream holds %d messages, want %d", r.info(t, "CALLS_payments").State.Msgs, n)
		}
	}
}

// dead waits for the first dead letter of a context.
func (r *rig) dead(t *testing.T, name string) (letter job.Original) {
	t.Helper()
	place := strings.Split(job.Address{Pool: "payments", Context: name}.DeadSubject("x"), ".")[1]
	for {
		err := r.pool.DeadLetters(r.ctx, place, func(m job.Message) bool {
			letter = job.Original{Subject: m.Subject, Data: m.Data}
			return false
		})
		ok(t, err)
		if letter.Subject != "" {
			return letter
		}
	}
}

func post(path string, form string, header ...job.HeaderLine) job.Request {
	return job.Request{Method: http.MethodPost, URL: "https://api.stripe.com" + path, Body: job.Text(form), Header: append([]job.HeaderLine{
		{Name: "Authorization", Value: "Bearer ", Secret: "stripe_key"}, {Name: "Content-Type", Value: "application/x-www-form-urlencoded"},
	}, header...)}
}

// of matches the requests of one call, whichever try.
func (o *opened) of(r stripefake.Request) bool { return r.IdempotencyKey == o.call.Key }

func (o *opened) requests(t *testing.T, n int) []stripefake.Request {
	t.Helper()
	got := must(o.fake.WaitFor(o.ctx, o.of, n))(t)
	equal(t, "requests", len(got), n)
	return got
}
