// Package bench measures the whole path of a job beside raw JetStream, in one process and one run, so that the ratio
// means something on any machine.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox"
	"github.com/thence-dev/thence/worker"
)

// contexts is how many contexts the jobs are spread over.
const contexts = 200

// BenchmarkPath takes each job all the way: dispatched, its script run on its context's state, committed, acked. ratio
// is the speed beside that of raw JetStream, publish-consume-ack of the same messages by as many callers on a work
// queue of the same kind. The worker runs its scripts in this process, and then in child processes.
func BenchmarkPath(b *testing.B) {
	raw := timed(b, "raw", runRaw)
	compare(b, "ratio", raw, timed(b, "thence", func(b *testing.B, publisher, nc *nats.Conn, n int) {
		runThence(b, publisher, nc, n, true)
	}))
	compare(b, "ratio-sandboxed", raw, timed(b, "sandboxed", func(b *testing.B, publisher, nc *nats.Conn, n int) {
		runThence(b, publisher, nc, n, false)
	}))
}

func TestMain(m *testing.M) {
	sandbox.Main()
	os.Exit(m.Run())
}

func compare(b *testing.B, name string, raw, other time.Duration) {
	if raw > 0 && other > 0 {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(raw.Seconds()/other.Seconds(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// timed runs one side, and returns its time for one job.
func timed(b *testing.B, name string, run func(b *testing.B, publisher, nc *nats.Conn, n int)) (perJob time.Duration) {
	b.Run(name, func(b *testing.B) {
		s, err := embedded.Start(embedded.Options{Store: b.TempDir(), MaxStore: 64 << 30})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		publisher, nc := connect(b, s), connect(b, s)
		defer publisher.Close()
		defer nc.Close()
		if _, err := stream.Ensure(b.Context(), nc, "p", stream.Options{}); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.ResetTimer()
		run(b, publisher, nc, b.N)
		b.StopTimer()
		perJob = b.Elapsed() / time.Duration(b.N)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
	return perJob
}

func connect(b *testing.B, s *embedded.Server) *nats.Conn {
	nc, err := s.Connect()
	if err != nil {
		b.Fatal(err)
	}
	return nc
}

// callers is how many callers publish side by side, each waiting for the stream's ack before its next job, as
// dispatcher.Dispatch does.
const callers = 64

// publish publishes n jobs, those of a context in order.
func publish(b *testing.B, n int, job func(ctx context.Context, i int) error) {
	var group errgroup.Group
	for c := range callers {
		group.Go(func() error {
			for i := c; i < n; i += callers {
				if err := job(b.Context(), i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Error(err)
	}
}

func runRaw(b *testing.B, publisher, nc *nats.Conn, n int) {
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	c, err := js.Consumer(b.Context(), "JOBS_p", "workers")
	if err != nil {
		b.Fatal(err)
	}
	iter, err := c.Messages(jetstream.PullMaxMessages(256))
	if err != nil {
		b.Fatal(err)
	}
	defer iter.Stop()
	callers, err := jetstream.New(publisher)
	if err != nil {
		b.Fatal(err)
	}
	go publish(b, n, func(ctx context.Context, i int) error {
		header := nats.Header{"Nats-Msg-Id": {fmt.Sprintf("job-%d", i)}, "Thence-Script": {"count"}, "Content-Type": {"application/json"}}
		_, err := callers.PublishMsg(ctx, &nats.Msg{Subject: fmt.Sprintf("p.cus_%d", i%contexts), Header: header, Data: []byte(`{"amount":2000}`)})
		return err
	})
	for range n {
		m, err := iter.Next()
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Ack(); err != nil {
			b.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(time.Minute); err != nil {
		b.Fatal(err)
	}
}

func runThence(b *testing.B, publisher, nc *nats.Conn, n int, inProcess bool) {
	library, err := scripting.NewLibrary(fstest.MapFS{"count.tengo": &fstest.MapFile{Data: []byte(`
context := import("context")
context.set("jobs", context.get("jobs", 0) + 1)
context.set("total", context.get("total", 0) + data.amount)
`)}})
	if err != nil {
		b.Fatal(err)
	}
	c := worker.Config{Conn: nc, Pool: "p", Library: library, Logger: slog.New(slog.DiscardHandler)}
	if inProcess {
		c.Runner = scripting.NewEngine(library)
	}
	w, err := worker.New(c)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	d, err := dispatcher.New(publisher, dispatcher.Config{Worker: "p"})
	if err != nil {
		b.Fatal(err)
	}
	publish(b, n, func(ctx context.Context, i int) error {
		_, err := d.Dispatch(ctx, dispatcher.Job{
			ID: fmt.Sprintf("job-%d", i), Context: fmt.Sprintf("cus_%d", i%contexts), Script: "count", Data: json.RawMessage(`{"amount":2000}`),
		})
		return err
	})
	for tick := time.NewTicker(time.Millisecond); w.Stats().Jobs < uint64(n); {
		<-tick.C
	}
	b.StopTimer()
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
