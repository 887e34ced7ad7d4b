// Package monitor shows one worker process to those who watch over it: Kubernetes, by probes, and Prometheus, by
// metrics. It is an HTTP handler with three paths.
//
//	/healthz  200 as long as the process can answer. It never asks NATS: a restart would not bring NATS back.
//	/readyz   200 while the worker takes jobs; else 503 and a line that says why not.
//	/metrics  Prometheus' text format
//
// A [Monitor] is made before there is a connection, since a worker that waits for NATS is alive. It is the worker's
// Observer, told of the worker by [Monitor.Watch] once that is there, and by [Monitor.Drain] that it is told to stop.
//
// Metrics come from two places. What this process does is counted as it happens, and adds up over processes. What the
// pool's streams hold is asked of the server when somebody scrapes, and is the same from each worker of a pool: take
// the max over them. No metric has a context or a job as a label: there is no bound on how many of those there are.
//
// There is no authentication. What is shown are names of services, counts and times, and nothing of any job's data.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting/sandbox"
)

// Source is what a Monitor asks about a worker. All fields must be given.
type Source struct {
	Ready     <-chan struct{}                              // closed once the worker takes jobs
	Connected func() bool                                  // to NATS
	Sandbox   func() (sandbox.Stats, bool)                 // false: there is none
	Inspect   func(context.Context) ([]stream.Part, error) // the pool's streams
}

// Monitor shows a worker. It is safe for concurrent use.
type Monitor struct {
	activity
	registry *prometheus.Registry
	source   atomic.Pointer[Source]
	draining atomic.Bool
}

// New makes the monitor of a worker of a pool. The versions are labels of thence_build_info.
func New(pool string, versions map[string]string) *Monitor {
	m := &Monitor{activity: newActivity(), registry: prometheus.NewRegistry()}
	ours := prometheus.WrapRegistererWith(prometheus.Labels{"pool": pool}, m.registry)
	m.register(ours)
	ours.MustRegister(buildInfo(versions), m.readyGauge(), &sandboxCollector{m}, newPoolCollector(m, pool))
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Watch tells the monitor of its worker, whose process it is from now on.
func (m *Monitor) Watch(s Source) { m.source.Store(&s) }

// Drain says that the worker was told to stop: it is not ready from now on.
func (m *Monitor) Drain() { m.draining.Store(true) }

// NotReady says why the worker takes no jobs; empty: it does.
func (m *Monitor) NotReady() string {
	s := m.source.Load()
	switch {
	case m.draining.Load():
		return "the worker is stopping"
	case s == nil:
		return "the worker waits for NATS"
	case !s.Connected():
		return "NATS is away"
	}
	select {
	case <-s.Ready:
		return ""
	default:
		return "the worker is setting up its pool"
	}
}

// Handler answers probes and scrapes.
func (m *Monitor) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := m.NotReady(); why != "" {
			answer(w, http.StatusServiceUnavailable, why)
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2}))
	return mux
}

func answer(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, line+"\n") // whoever asked may be gone
}

// Serve answers on a listener until ctx ends, and closes it.
func (m *Monitor) Serve(ctx context.Context, l net.Listener, log *slog.Logger) error {
	server := &http.Server{
		Handler: m.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve probes and metrics on %s: %w", l.Addr(), err)
	}
	return nil
}

func (m *Monitor) readyGauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "thence_ready", Help: "1 while this worker takes jobs, as /readyz has it."}, func() float64 {
		if m.NotReady() != "" {
			return 0
		}
		return 1
	})
}

func buildInfo(versions map[string]string) prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "thence_build_info", Help: "1; the labels are what this worker was built from."},
		[]string{"version", "goversion", "tengo", "nats_go"})
	g.WithLabelValues(versions["thence"], versions["go"], versions["tengo"], versions["nats.go"]).Set(1)
	return g
}
