package calls

import (
	"context"
	"time"
)

// Clock is what a worker's timers, deadlines and time-outs go by. The machine's is the default; package thencetest has one
// that a test can turn.
type Clock interface {
	// Ahead is how far the clock is ahead of the server's. Scripts see their job's time so much later, and their timers are
	// put on the server so much earlier.
	Ahead() time.Duration

	// WithTimeout is context.WithTimeout by this clock.
	WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc)
}

// MachineClock is the machine's clock, which is taken to be the server's.
type MachineClock struct{}

// Ahead is nothing.
func (MachineClock) Ahead() time.Duration { return 0 }

// WithTimeout is context.WithTimeout.
func (MachineClock) WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d)
}
