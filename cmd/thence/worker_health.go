package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/monitor"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/worker"
)

// shown is a worker's probes and metrics, where --http asks for them.
type shown struct {
	monitor *monitor.Monitor
	end     func() // closes the listener, and waits for what answers on it
}

// show begins to answer probes and scrapes, before there is a connection to NATS: a worker that waits for one is alive.
// It is not ready from the moment on in which ctx ends, and answers on until end is called, so that the drain is seen.
func (w workerFlags) show(ctx context.Context, config *worker.Config) (*shown, error) {
	if w.http == "" {
		return &shown{end: func() {}}, nil
	}
	listener, err := net.Listen("tcp", w.http)
	if err != nil {
		return nil, fmt.Errorf("--http %s: %w: choose another address", w.http, err)
	}
	m := monitor.New(w.pool, versions())
	config.Observer = m
	config.Logger.Info("probes and metrics are served", "address", listener.Addr().String())
	forget := context.AfterFunc(ctx, m.Drain)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var served sync.WaitGroup
	served.Go(func() { serve(serving, m, listener, config.Logger) })
	return &shown{m, func() { forget(); stop(); served.Wait() }}, nil
}

// serve answers until ctx ends. A worker does not stop for want of its probes; Kubernetes sees to it.
func serve(ctx context.Context, m *monitor.Monitor, l net.Listener, log *slog.Logger) {
	if err := m.Serve(ctx, l, log); err != nil {
		log.Error("probes and metrics have ended", "error", err)
	}
}

// watch shows a worker that is about to run.
func (s *shown) watch(nc *nats.Conn, pool string, w *worker.Worker) error {
	if s.monitor == nil {
		return nil
	}
	streams, err := stream.Open(nc, pool)
	if err != nil {
		return err
	}
	s.monitor.Watch(monitor.Source{Ready: w.Ready(), Connected: nc.IsConnected, Sandbox: w.Sandbox, Inspect: streams.Inspect})
	return nil
}
