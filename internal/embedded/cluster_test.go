package embedded_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/embedded"
)

// TestCluster: three servers are one cluster, which makes a stream of three replicas.
func TestCluster(t *testing.T) {
	var routes []string
	var listeners []net.Listener
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		routes = append(routes, l.Addr().String())
	}
	for _, l := range listeners { // all at once, so that the ports differ
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var last *embedded.Server
	for i, listen := range routes {
		last = start(t, embedded.Options{
			Store: t.TempDir(), Listen: "127.0.0.1:0", Name: fmt.Sprintf("n%d", i),
			Cluster: &embedded.Cluster{Name: "c", Listen: listen, Routes: routes},
		})
	}
	nc, err := nats.Connect(last.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := replicated(ctx, t, js)
	if n := len(s.CachedInfo().Cluster.Replicas); n != 2 {
		t.Errorf("the stream has %d replicas beside its leader, want 2", n)
	}
}

// replicated makes a stream as soon as the cluster has a leader.
func replicated(ctx context.Context, t *testing.T, js jetstream.JetStream) jetstream.Stream {
	t.Helper()
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		s, err := js.CreateStream(try, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: 3})
		cancel()
		if err == nil {
			return s
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestClusterAddress(t *testing.T) {
	_, err := embedded.Start(embedded.Options{Store: t.TempDir(), Cluster: &embedded.Cluster{Name: "c", Listen: "nowhere"}})
	if err == nil || !strings.Contains(err.Error(), `"nowhere": want host:port`) {
		t.Errorf("got %v", err)
	}
}

// TestLogger: what the server says goes to the logger.
func TestLogger(t *testing.T) {
	var text locked
	start(t, embedded.Options{Store: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&text, nil))}).Close()
	if !strings.Contains(text.String(), "Starting nats-server") {
		t.Errorf("got %q", text.String())
	}
}

// locked is a buffer for several goroutines.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
