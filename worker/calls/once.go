package calls

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// sentFor is how long it is remembered that a call was about to be sent: longer than any worker that holds its message
// may be stopped for.
const sentFor = 7 * 24 * time.Hour

// Sent says that a call which is never tried twice was about to be sent.
type Sent struct {
	Service string    `json:"service"`
	Time    time.Time `json:"time"`
}

// claim makes it known that a call is about to be sent, before its only try (rule 13). Of all that ever do so for one
// call, the stream lets one be the first; the others must not send it. Where the stream does not answer, nothing is
// sent: whoever is handed the call next finds out.
func (p *Performer) claim(ctx context.Context, a job.Address, call job.Call) (first bool, err error) {
	body, err := job.Encode(Sent{call.Service, p.now().UTC()})
	if err != nil {
		return false, err
	}
	err = p.config.Streams.Publish(ctx, job.Message{Subject: a.SentSubject(call.ID), Data: body, Header: map[string][]string{
		"Nats-Expected-Last-Subject-Sequence": {"0"},
		"Nats-TTL":                            {sentFor.String()},
	}})
	if errors.Is(err, stream.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// begunBefore is the answer to a call that somebody was about to send, and of which no more is known.
func begunBefore(call job.Call) job.Answer {
	return job.Answer{Failure: &job.Failure{
		Type:    job.FailureUnknown,
		Message: fmt.Sprintf("a worker was about to send it and did not come back; %s is not sent a call twice", call.Service),
	}}
}
