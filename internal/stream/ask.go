package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/job"
)

// WorkerServices is what a worker says when it is asked about the services that it calls.
type WorkerServices struct {
	Worker   string       `json:"worker"`
	Services []ServiceUse `json:"services"`
}

// ServiceUse is what a worker knows of its own calls to a service. No text of it holds a secret.
type ServiceUse struct {
	Service     string    `json:"service"`
	Rate        string    `json:"rate,omitempty"` // as it is declared
	InFlight    int       `json:"in_flight"`      // under way in this worker, those that wait for their slot included
	AwaitSlot   int       `json:"await_slot"`     // of them, those that wait for their slot in the rate
	Seconds     int       `json:"seconds"`        // how far back the next two count
	Tries       int       `json:"tries"`          // that the API answered, or failed to
	Failed      int       `json:"failed"`         // of them, by connection, time-out or 5xx
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
}

// Waits for answers of workers: for the first, and for the next after one.
const (
	firstAnswer = time.Second
	nextAnswer  = 150 * time.Millisecond
)

// AskWorkers asks all workers of the pool at once about the services that they call, and returns what they say, by
// worker. It waits for no more once they have been silent for a while: nobody knows how many there are.
func (p *Pool) AskWorkers(ctx context.Context) ([]WorkerServices, error) {
	answers, err := p.nc.SubscribeSync(job.ToldSubject(p.Name, uuid.NewString()))
	if err != nil {
		return nil, fmt.Errorf("ask the workers of pool %s: %w", p.Name, err)
	}
	defer func() { _ = answers.Unsubscribe() }() // fails when the connection is closed, and then the subscription is too
	if err := p.nc.PublishRequest(job.AskSubject(p.Name), answers.Subject, nil); err != nil {
		return nil, fmt.Errorf("ask the workers of pool %s: %w", p.Name, err)
	}
	var all []WorkerServices
	for wait := firstAnswer; ; wait = nextAnswer {
		one, more, err := nextAnswerOf(ctx, answers, wait)
		if err != nil || !more {
			slices.SortFunc(all, func(a, b WorkerServices) int { return cmp.Compare(a.Worker, b.Worker) })
			return all, err
		}
		all = append(all, one)
	}
}

// nextAnswerOf waits for an answer. more is false when none came in time, or nobody is there to give one.
func nextAnswerOf(ctx context.Context, answers *nats.Subscription, wait time.Duration) (one WorkerServices, more bool, err error) {
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	m, err := answers.NextMsgWithContext(within)
	switch {
	case ctx.Err() != nil:
		return one, false, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders): // no more, or nobody listens
		return one, false, nil
	case err != nil:
		return one, false, fmt.Errorf("ask workers: %w", err)
	}
	if err := json.Unmarshal(m.Data, &one); err != nil {
		return one, false, fmt.Errorf("a worker's answer can't be read: %w", err)
	}
	return one, true, nil
}

// AnswerAsked answers whoever asks the pool's workers, until ctx ends.
func (p *Pool) AnswerAsked(ctx context.Context, answer func() WorkerServices) error {
	asked := make(chan *nats.Msg, 64)
	sub, err := p.nc.ChanSubscribe(job.AskSubject(p.Name), asked)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", job.AskSubject(p.Name), err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails when the connection is closed, and then the subscription is too
	for {
		select {
		case m := <-asked:
			if !strings.HasPrefix(m.Reply, job.ToldSubject(p.Name, "")) {
				continue
			}
			data, err := json.Marshal(answer())
			if err != nil {
				return err
			}
			_ = m.Respond(data) // who asked may be gone; nobody else waits for it
		case <-ctx.Done():
			return nil
		}
	}
}
