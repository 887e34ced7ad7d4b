package calls

import (
	"errors"
	"net/http"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Breaker says when a service that fails is left alone by the whole pool. Each worker counts the ends of its own tries.
// When enough of them failed, nothing is handed out to anybody for a while, then one call: the probe. If it fails,
// nothing is for twice as long; if it succeeds, two calls may be in flight, then four, up to the service's limit.
type Breaker struct {
	Off      bool          // it never opens
	Failures int           // of one worker within Window, and half of its tries there, that open it; default 10: more than one call tries
	Window   time.Duration // default 30s
	MaxPause time.Duration // the longest wait for the next probe; the first is 1s; default 1m
}

func (b Breaker) withDefaults() Breaker {
	if b.Failures == 0 {
		b.Failures = 10
	}
	if b.Window == 0 {
		b.Window = 30 * time.Second
	}
	if b.MaxPause == 0 {
		b.MaxPause = time.Minute
	}
	return b
}

func (b Breaker) validate() error {
	if min(b.Window, b.MaxPause) < 0 || b.Failures < 0 {
		return errors.New("breaker: no time and no number can be negative")
	}
	return nil
}

// firstPause is how long nothing is handed out after the breaker opens for the first time.
const firstPause = time.Second

// longestPause bounds what an API may ask the pool to wait: for longer than that nobody leaves it alone unasked. When it
// is over, one call asks again.
const longestPause = time.Hour

// maxSlowdownError bounds the text of the last failure in a consumer's metadata, in bytes.
const maxSlowdownError = 200

// end is how a try ended, for the breaker.
type end int

const (
	endsNeither end = iota // it says nothing about how the API is: it was not sent
	endsBusy               // 429: nor does that the API has too much to do
	endsWell               // the API answered, a refusal included
	endsBadly              // by connection, time-out or 5xx
)

func endOf(got result) end {
	f := got.answer.Failure
	switch status := got.answer.Status; {
	case got.ours:
		return endsNeither
	case status == http.StatusTooManyRequests:
		return endsBusy
	case status >= 500 && status != http.StatusNotImplemented:
		return endsBadly
	case f == nil:
		return endsWell
	case f.Type == job.FailureConnection, f.Type == job.FailureTimeout, f.Type == job.FailureUnknown:
		return endsBadly
	case status == 0: // refused before it was sent
		return endsNeither
	default:
		return endsWell
	}
}

// slowed begins a slowdown where there is none, and has one call at a time handed out after a pause.
func slowed(s *stream.ServiceState, by string, wait time.Duration, why string) {
	if s.Slowdown == nil {
		s.Slowdown = &stream.Slowdown{Since: s.Now.UTC(), MaxInFlight: s.Limit}
	}
	s.PausedUntil = s.Now.Add(wait).UTC()
	s.Limit = 1
	d := s.Slowdown
	d.By, d.Until, d.After, d.Done, d.Error = by, s.PausedUntil, s.HandedOut, s.Done, cut(why, maxSlowdownError)
}

// enough is how many failures open the breaker. While a slowdown has few calls handed out, few are enough.
func (b Breaker) enough(slow *stream.Slowdown, limit int) int {
	if slow != nil && limit > 0 {
		return min(b.Failures, limit)
	}
	return b.Failures
}

// opening opens the breaker for so many failures, unless the service is paused by then: somebody else was first. Whether
// they are enough is asked again: the slowdown for which they seemed to be may long be over.
func (b Breaker) opening(failed int, why string, jitter func(time.Duration) time.Duration) func(*stream.ServiceState) bool {
	return func(s *stream.ServiceState) bool {
		if !s.PausedUntil.IsZero() || failed < b.enough(s.Slowdown, s.Limit) {
			return false
		}
		times := 1
		if s.Slowdown != nil {
			times += s.Slowdown.Times
		}
		slowed(s, stream.ByBreaker, b.pause(times, jitter), why)
		s.Slowdown.Times = times
		return true
	}
}

// pause is how long the breaker stays open for the times-th time in a row: a second, doubled each time up to MaxPause, three
// quarters to the whole of it at random.
func (b Breaker) pause(times int, jitter func(time.Duration) time.Duration) time.Duration {
	d := min(firstPause, b.MaxPause)
	for range times - 1 {
		if d = min(2*d, b.MaxPause); d == b.MaxPause {
			break
		}
	}
	return d - jitter(d/4+1)
}

// asking pauses a service for as long as the API asks to, unless it is for longer already.
func asking(wait time.Duration, why string) func(*stream.ServiceState) bool {
	return func(s *stream.ServiceState) bool {
		if !s.PausedUntil.Add(slack).Before(s.Now.Add(wait)) {
			return false
		}
		slowed(s, stream.ByAPI, wait, why)
		return true
	}
}

// held tells whether an operator's pause is all that slows a service down which may be called by several at a time. So it looks
// too between the two writes of a worker's pause.
func held(s *stream.ServiceState) bool {
	return s.PausedBy == stream.ByOperator && s.Slowdown == nil && s.Limit != 1
}

// holding has calls begin one by one after an operator's pause, as after any other. The operator's own rights don't reach
// so far; the worker's do.
func holding(s *stream.ServiceState) bool {
	if !held(s) {
		return false
	}
	s.Slowdown = &stream.Slowdown{
		By: stream.ByOperator, Since: s.Now.UTC(), Until: s.PausedUntil, MaxInFlight: s.Limit, After: s.HandedOut, Done: s.Done,
	}
	s.Limit = 1
	return true
}

// raising doubles how many calls may be in flight, once as many as may be now have ended since that was set, the one included
// at whose end this is asked. With the last step the slowdown is over.
func raising(s *stream.ServiceState) bool {
	d := s.Slowdown
	if d == nil || !s.PausedUntil.IsZero() || s.Limit > 1 && s.Done+1 < d.Done+uint64(s.Limit) {
		return false
	}
	next := 2 * s.Limit
	if d.MaxInFlight > 0 && next >= d.MaxInFlight || d.MaxInFlight <= 0 && next > unlimited {
		s.Limit, s.Slowdown = d.MaxInFlight, nil
		return true
	}
	s.Limit, d.Done = next, s.Done+1
	return true
}

// unlimited is the limit from which on a consumer without one, as an operator may set it, goes back to that.
const unlimited = 1024
