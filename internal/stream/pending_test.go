package stream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/nats-io/nats.go/jetstream"
)

// silent is a consumer whose server leaves so many questions unanswered.
type silent struct {
	jetstream.Consumer
	questions int
}

func (s *silent) Info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	if s.questions--; s.questions >= 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &jetstream.ConsumerInfo{NumPending: 0}, nil
}

// TestNothingPending: a question that a server leaves unanswered is asked again, and not for ever.
func TestNothingPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if none, err := nothingPending(t.Context(), &silent{questions: 3}); !none || err != nil {
			t.Errorf("asked again: none %t, %v", none, err)
		}
		if _, err := nothingPending(t.Context(), &silent{questions: 100}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("never answered: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := nothingPending(ctx, &silent{questions: 100}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}
