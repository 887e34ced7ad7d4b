package main

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
)

// progress counts the writes to a pool's contexts, so that a fault can come when so much work is done, and not after so
// much time.
type progress struct {
	sub *nats.Subscription

	mu      sync.Mutex
	writes  int
	waiting map[int]chan struct{} // by the number that is waited for
}

// follow begins to count. stop ends it.
func (p *pool) follow() (*progress, error) {
	g := &progress{waiting: map[int]chan struct{}{}}
	var err error
	g.sub, err = p.nc.Subscribe("$KV."+p.name+".*", func(*nats.Msg) { g.count(1) })
	return g, err
}

func (g *progress) stop() { _ = g.sub.Unsubscribe() }

// count adds to the writes, and returns how many there are.
func (g *progress) count(more int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writes += more
	for n, done := range g.waiting {
		if g.writes >= n {
			close(done)
			delete(g.waiting, n)
		}
	}
	return g.writes
}

// reached waits for so many writes.
func (g *progress) reached(ctx context.Context, n int) error {
	g.mu.Lock()
	done := g.waiting[n]
	if done == nil {
		done = make(chan struct{})
		if g.writes >= n {
			close(done)
		} else {
			g.waiting[n] = done
		}
	}
	g.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
