package calls

// Observer hears of the tries of calls, as they happen: for metrics. Its methods are called by many goroutines, and must
// not block.
type Observer interface {
	// CallSent says that a try begins. ended is called when it is over: answered; retry, when it failed and there will be
	// another; given_back, when the worker stopped before there was an answer; else the type of the final failure.
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
	case r.answer.Failure != nil:
		return r.answer.Failure.Type
	}
	return "answered"
}
