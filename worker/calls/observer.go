package calls

import (
	"slices"

	"github.com/thence-dev/thence/internal/job"
)

// Observer hears of the tries of calls, as they happen: for metrics. Its methods are called by many goroutines, and must
// not block.
type Observer interface {
	// CallSent says that a try begins. ended is called when it is over: answered; retry, when it failed and there will be
	// another; given_back, when the worker stopped before there was an answer; else the type of the final failure, where it is
	// one of ours or Stripe's, and else other: an API may name any number of types.
	CallSent(service string) (ended func(outcome string))
}

// Unobserved is the Observer of those whom nobody observes.
type Unobserved struct{}

// CallSent implements [Observer].
func (Unobserved) CallSent(string) func(string) { return func(string) {} }

// outcome is what a try came to, as an Observer hears it.
func (r result) outcome(last bool) string {
	switch {
	case r.retry && !last:
		return "retry"
	case r.answer.Failure == nil:
		return "answered"
	case slices.Contains(knownFailures, r.answer.Failure.Type):
		return r.answer.Failure.Type
	}
	return "other"
}

var knownFailures = []string{
	job.FailureTimeout, job.FailureConnection, job.FailureHTTP, job.FailureTooLarge, job.FailureBlocked, job.FailureUnknown, job.FailureRejected,
	job.FailureGone, "api_error", "card_error", "idempotency_error", "invalid_request_error",
}
