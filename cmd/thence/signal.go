package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilSignal returns a context that the first SIGINT or SIGTERM ends, and with it what runs, in order. A second signal
// ends the process at once. stop ends both.
func untilSignal(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals, stopped := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		defer close(stopped)
		if _, open := <-signals; open {
			cancel()
			if _, open := <-signals; open {
				os.Exit(exitFailure)
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		<-stopped
		cancel()
	}
}
