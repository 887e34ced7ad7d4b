package stream

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/job"
)

// The client library leaves a goroutine behind where an object is stored so quickly that its publisher ends before that begins.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

// within bounds every wait of a test.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T) *nats.Conn {
	t.Helper()
	server, err := embedded.Start(embedded.Options{Store: t.TempDir(), MaxStore: 16 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// newPool is the pool payments on a server of its own.
func newPool(t *testing.T, o Options) *Pool {
	t.Helper()
	p, err := Ensure(within(t), connect(t), "payments", o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func get[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		ok(t, err)
		return v
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// put publishes a job of the context and returns its sequence.
func (p *Pool) put(t *testing.T, name, body string, header map[string][]string) uint64 {
	t.Helper()
	seq, duplicate, err := p.PublishJob(within(t), job.Message{Subject: p.Name + "." + name, Header: header, Data: []byte(body)})
	ok(t, err)
	if duplicate {
		t.Fatal("a new job was taken for a repeat")
	}
	return seq
}

func (p *Pool) stored(t *testing.T, name string) jetstream.StreamState {
	t.Helper()
	s, err := p.js.Stream(within(t), name)
	ok(t, err)
	return s.CachedInfo().State
}

// pending is how many messages the consumer has handed out and not seen the end of.
func (p *Pool) pending(t *testing.T, stream, consumer string) int {
	t.Helper()
	c, err := p.js.Consumer(within(t), stream, consumer)
	ok(t, err)
	return c.CachedInfo().NumAckPending
}

// acked acks a delivery and waits until the server has taken this ack, and with it all before it.
func (p *Pool) acked(t *testing.T, d *Delivery) error {
	t.Helper()
	_, err := p.nc.RequestWithContext(within(t), d.reply, []byte("+ACK"))
	return err
}

// next takes n deliveries, in the order in which they come.
func (d *Deliveries) next(t *testing.T, n int) []*Delivery {
	t.Helper()
	stop := context.AfterFunc(within(t), d.Stop) // a test fails rather than hangs
	defer stop()
	var all []*Delivery
	for len(all) < n {
		one, err := d.Next()
		if err != nil {
			t.Fatalf("delivery %d of %d: %v", len(all)+1, n, err)
		}
		all = append(all, one)
	}
	return all
}

// close stops deliveries and hands out the rest.
func (d *Deliveries) close(t *testing.T) {
	t.Helper()
	d.Stop()
	for {
		if _, err := d.Next(); err != nil {
			equal(t, "the end of deliveries", err, ErrStopped)
			return
		}
	}
}

func sequences(all []*Delivery) []uint64 {
	var seqs []uint64
	for _, d := range all {
		seqs = append(seqs, d.Message.Sequence)
	}
	slices.Sort(seqs)
	return seqs
}
