package wire_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/thence-dev/thence/integration_test/gauntlet/wire"
	"github.com/thence-dev/thence/internal/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bed is a server with a work queue, and a client that reaches it through a proxy.
type bed struct {
	proxy    *wire.Proxy
	nc       *nats.Conn
	js       jetstream.JetStream
	consumer jetstream.Consumer
	direct   jetstream.JetStream // not through the proxy
}

func newBed(t *testing.T) *bed {
	t.Helper()
	server, err := embedded.Start(embedded.Options{Store: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	b := &bed{}
	if b.proxy, err = wire.New(strings.TrimPrefix(server.URL(), "nats://"), rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.proxy.Close)
	b.nc = dial(t, b.proxy.URL())
	b.js = jets(t, b.nc)
	b.direct = jets(t, dial(t, server.URL()))
	ctx := within(t, 10*time.Second)
	s, err := b.direct.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, Retention: jetstream.WorkQueuePolicy})
	if err != nil {
		t.Fatal(err)
	}
	if b.consumer, err = s.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute}); err != nil {
		t.Fatal(err)
	}
	return b
}

func dial(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.PingInterval(50*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func jets(t *testing.T, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func (b *bed) publish(t *testing.T) {
	t.Helper()
	if _, err := b.js.Publish(within(t, 10*time.Second), "s.a", []byte("PUB x 3\r\n")); err != nil {
		t.Fatal(err)
	}
}

// TestPasses: what is not harmed passes as it is, headers and bodies that look like the protocol among it.
func TestPasses(t *testing.T) {
	b := newBed(t)
	sent := &nats.Msg{Subject: "s.a", Header: nats.Header{"Name": {"$JS.ACK."}}, Data: []byte("+ACK\r\nHPUB $JS.ACK.x 1 2\r\n")}
	if _, err := b.js.PublishMsg(within(t, 10*time.Second), sent); err != nil {
		t.Fatal(err)
	}
	got, err := jets(t, b.nc).Stream(within(t, 10*time.Second), "S")
	if err != nil {
		t.Fatal(err)
	}
	m, err := got.GetLastMsgForSubject(within(t, 10*time.Second), "s.a")
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Data) != string(sent.Data) || m.Header.Get("Name") != "$JS.ACK." {
		t.Errorf("got %q %v", m.Data, m.Header)
	}
}

// TestDropAnswers: a publish has no answer, and is stored all the same.
func TestDropAnswers(t *testing.T) {
	b := newBed(t)
	b.proxy.Harm(wire.Harm{DropAnswers: 1})
	if _, err := b.js.Publish(within(t, 200*time.Millisecond), "s.a", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want no answer", err)
	}
	s, err := b.direct.Stream(within(t, 10*time.Second), "S")
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 1 || b.proxy.Counts().DroppedAnswers != 1 {
		t.Errorf("%d messages are stored, want 1; %+v", n, b.proxy.Counts())
	}
}

// TestDropAcks: a delivery is acked, and the server does not know.
func TestDropAcks(t *testing.T) {
	b := newBed(t)
	b.publish(t)
	b.proxy.Harm(wire.Harm{DropAcks: 1})
	c, err := b.js.Consumer(within(t, 10*time.Second), "S", "c")
	if err != nil {
		t.Fatal(err)
	}
	batch, err := c.Fetch(1, jetstream.FetchMaxWait(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() {
		if err := m.DoubleAck(within(t, 200*time.Millisecond)); err == nil {
			t.Error("the ack was answered")
		}
	}
	info, err := b.consumer.Info(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if info.NumAckPending != 1 || b.proxy.Counts().DroppedAcks != 1 {
		t.Errorf("%d are not acked, want 1; %+v", info.NumAckPending, b.proxy.Counts())
	}
}

// TestCut: connections end, and new ones are well. TestHalfOpen: they do not end; the client finds out by itself.
func TestCut(t *testing.T) { reconnects(t, (*wire.Proxy).Cut) }

func TestHalfOpen(t *testing.T) { reconnects(t, (*wire.Proxy).HalfOpen) }

func reconnects(t *testing.T, hurt func(*wire.Proxy)) {
	b := newBed(t)
	b.publish(t)
	back := b.nc.StatusChanged(nats.CONNECTED)
	hurt(b.proxy)
	select {
	case <-back:
	case <-within(t, 10*time.Second).Done():
		t.Fatal("the client does not connect again")
	}
	b.publish(t)
	if c := b.proxy.Counts(); c.Cut+c.HalfOpened == 0 {
		t.Errorf("nothing is counted: %+v", c)
	}
}

// TestDelay: a request takes the time of both ways.
func TestDelay(t *testing.T) {
	b := newBed(t)
	b.proxy.Harm(wire.Harm{Delay: 30 * time.Millisecond})
	began := time.Now()
	b.publish(t)
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("it took %s, want 60ms and more", took)
	}
}
