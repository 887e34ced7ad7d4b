package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// BenchmarkPublish is what deploy/README.md says of an fsync before each ack: publishes a second, 64 at a time, to a stream of
// one replica and to one of three. All servers are on this machine, and share its disk.
func BenchmarkPublish(b *testing.B) {
	const callers = 64
	for _, replicas := range []int{1, 3} {
		b.Run(fmt.Sprintf("R%d", replicas), func(b *testing.B) {
			ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
			defer cancel()
			js := syncedCluster(ctx, b, replicas)
			if err := publishSynced(ctx, js); err != nil { // the stream has a leader then
				b.Fatal(err)
			}
			var group errgroup.Group
			b.ResetTimer()
			for i := range callers {
				group.Go(func() error {
					for range b.N/callers + min(1, max(0, b.N%callers-i)) {
						if err := publishSynced(ctx, js); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if err := group.Wait(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "publishes/s")
		})
	}
}

// publishSynced publishes until it is acknowledged: what comes while a stream has no leader is not answered.
func publishSynced(ctx context.Context, js jetstream.JetStream) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := js.Publish(attempt, "published", make([]byte, 100))
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// syncedCluster starts n servers with sync_interval: always, and makes a stream of n replicas that takes what is published
// on "published".
func syncedCluster(ctx context.Context, b *testing.B, n int) jetstream.JetStream {
	b.Helper()
	routes := make([]*url.URL, n)
	for i := range routes {
		routes[i] = &url.URL{Scheme: "nats", Host: freeAddress(b)}
	}
	var first *server.Server
	for i, route := range routes {
		o := &server.Options{
			ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
			JetStream: true, StoreDir: b.TempDir(), SyncAlways: true,
		}
		if n > 1 {
			at, err := net.ResolveTCPAddr("tcp", route.Host)
			if err != nil {
				b.Fatal(err)
			}
			o.Cluster, o.Routes = server.ClusterOpts{Name: "bench", Host: "127.0.0.1", Port: at.Port}, routes
		}
		ns, err := server.NewServer(o)
		if err != nil {
			b.Fatal(err)
		}
		ns.Start()
		b.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
		if !ns.ReadyForConnections(time.Minute) {
			b.Fatal("the server is not ready")
		}
		if first == nil {
			first = ns
		}
	}
	nc, err := nats.Connect(first.ClientURL())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	for period := time.NewTicker(50 * time.Millisecond); ; { // until the cluster has a leader, and all of its peers
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second) // without a leader nobody answers
		_, err := js.CreateStream(attempt, jetstream.StreamConfig{Name: "published", Subjects: []string{"published"}, Replicas: n})
		cancel()
		if err == nil {
			period.Stop()
			return js
		}
		select {
		case <-period.C:
		case <-ctx.Done():
			b.Fatal(errors.Join(context.Cause(ctx), err))
		}
	}
}

// freeAddress is one on which nobody listens.
func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
