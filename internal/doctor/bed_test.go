package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bed is a server with a healthy pool p, whose jobs somebody waits for.
type bed struct {
	*testing.T
	nc   *nats.Conn
	js   jetstream.JetStream
	pool *stream.Pool
	o    Options
}

func newBed(t *testing.T) *bed {
	t.Helper()
	t.Parallel()
	server, err := embedded.Start(embedded.Options{Store: t.TempDir(), MaxStore: 64 << 30})
	must(t, err)
	t.Cleanup(server.Close)
	nc, err := server.Connect()
	must(t, err)
	t.Cleanup(nc.Close)
	b := bedOn(t, nc)
	b.make(stream.Options{MaxBytes: 1 << 20})
	return b
}

// bedOn is a bed without a pool.
func bedOn(t *testing.T, nc *nats.Conn) *bed {
	t.Helper()
	js, err := jetstream.New(nc)
	must(t, err)
	return &bed{T: t, nc: nc, js: js, o: Options{Monitor: monitor(t, `{"server_name":"n","jetstream":{"config":{"sync_always":true,"max_storage":1000000000}}}`)}}
}

// ctx bounds every wait of a test.
func (b *bed) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	b.Cleanup(cancel)
	return ctx
}

func (b *bed) make(o stream.Options) {
	b.Helper()
	var err error
	b.pool, err = stream.Ensure(b.ctx(), b.nc, "p", o)
	must(b.T, err)
	_, err = b.pool.Keys(b.ctx(), o)
	must(b.T, err)
}

// monitor is a monitoring port that answers so.
func monitor(t *testing.T, answer string) string {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
	t.Cleanup(web.Close)
	return web.URL + "/varz"
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wait waits for jobs as a worker does, until the test ends.
func (b *bed) wait() {
	b.Helper()
	sub, err := b.nc.SubscribeSync(b.nc.NewInbox())
	must(b.T, err)
	must(b.T, b.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.JOBS_p.workers", sub.Subject, []byte(`{"batch":1,"expires":30000000000}`)))
	must(b.T, b.nc.Flush())
	for { // the server takes the request when it gets to it
		c, err := b.js.Consumer(b.ctx(), "JOBS_p", "workers")
		must(b.T, err)
		if c.CachedInfo().NumWaiting > 0 {
			return
		}
	}
}

func (b *bed) put(name, body string) uint64 {
	b.Helper()
	seq, _, err := b.pool.PublishJob(b.ctx(), job.Message{Subject: "p." + name, Data: []byte(body)})
	must(b.T, err)
	return seq
}

// store writes a context as a worker would.
func (b *bed) store(name string, c job.Commit) {
	b.Helper()
	c.Version, c.State = job.Version, json.RawMessage("{}")
	data, err := job.Encode(c)
	must(b.T, err)
	_, err = b.pool.Commit(b.ctx(), name, data, stream.Base{})
	must(b.T, err)
}

func (b *bed) publish(subject string, header map[string][]string, v any) {
	b.Helper()
	data, err := job.Encode(v)
	must(b.T, err)
	must(b.T, b.pool.Publish(b.ctx(), job.Message{Subject: subject, Header: header, Data: data}))
}

// edit changes a stream's configuration.
func (b *bed) edit(name string, change func(*jetstream.StreamConfig)) {
	b.Helper()
	s, err := b.js.Stream(b.ctx(), name)
	must(b.T, err)
	c := s.CachedInfo().Config
	change(&c)
	_, err = b.js.UpdateStream(b.ctx(), c)
	must(b.T, err)
}

func (b *bed) examine() []Finding {
	b.Helper()
	var all []Finding
	must(b.T, Examine(b.ctx(), b.nc, b.o, func(f Finding) { all = append(all, f) }))
	return all
}

// finds checks that an examination finds something, by a part of its text, and that it says why it matters.
func (b *bed) finds(check string, level Level, text string) {
	b.Helper()
	var have []string
	for _, f := range b.examine() {
		if f.Check == check && f.Level == level && strings.Contains(f.Found, text) {
			if level != OK && level != Unknown && (f.Why == "" || f.Do == "") {
				b.Errorf("%s does not say why it matters and what to do: %+v", check, f)
			}
			return
		}
		have = append(have, fmt.Sprintf("%s %s: %s", f.Level, f.Check, f.Found))
	}
	b.Errorf("want %s of %s with %q, got\n%s", level, check, text, strings.Join(have, "\n"))
}
