package calls

import (
	"sync"
	"time"

	"github.com/thence-dev/thence/internal/stream"
)

// brake is what one worker knows of how a service is slowed down, and of how its own tries ended. What it knows may be old:
// it only says when to look at the consumer, which decides.
type brake struct {
	breaker Breaker

	mu        sync.Mutex
	ends      window
	looking   bool             // somebody reads or changes the consumer
	asking    bool             // and somebody because the API asks to
	learned   time.Time        // by the server's clock, when what follows was so
	slow      *stream.Slowdown // nil: nothing slows the service down, as far as is known
	limit     int
	pauseEnds time.Time // by the clock of this worker
	succeeded int       // since the consumer was last looked at

	recent    window // for those who ask; it is never cleared
	lastError string
	lastFail  time.Time
}

// recentTime is how far back the numbers count that a worker tells of its tries.
const recentTime = time.Minute

func newBrake(b Breaker) *brake {
	return &brake{breaker: b, ends: window{lasts: b.Window}, recent: window{lasts: recentTime}}
}

// learn takes over how a service's calls stand, unless something newer is known.
func (b *brake) learn(s stream.ServiceState, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.Now.Before(b.learned) {
		return
	}
	b.learned, b.pauseEnds = s.Now, time.Time{}
	if !s.PausedUntil.IsZero() {
		b.pauseEnds = now.Add(s.PausedUntil.Sub(s.Now))
	}
	if s.Slowdown != nil && (b.slow == nil || b.slow.After != s.Slowdown.After) {
		b.ends.clear() // what failed before the pause does not count after it
	}
	if s.Slowdown == nil || b.slow == nil || s.Limit != b.limit {
		b.succeeded = 0
	}
	b.slow, b.limit = s.Slowdown, s.Limit
}

// ended counts the end of a try, and tells whether the consumer is to be looked at: since so many tries failed that the
// breaker may be to open, which is 0 where it is not, or since more calls may be handed out. Who is told so calls looked
// afterwards. A call that was handed out before the last pause says nothing about how the API is now.
func (b *brake) ended(how end, handedOut uint64, why string, now time.Time) (failed int, rises bool) {
	if how == endsNeither {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if how != endsWell {
		b.lastError, b.lastFail = why, now
	}
	if how == endsBusy {
		return 0, false
	}
	b.recent.add(now, how == endsBadly)
	if b.slow != nil && handedOut <= b.slow.After {
		return 0, false
	}
	b.ends.add(now, how == endsBadly)
	if how == endsBadly {
		failed = b.tooMany(now)
	} else if b.slow != nil {
		b.succeeded++
		rises = b.succeeded >= max(1, b.limit/8) // others see ends, too: the consumer says how many there were
	}
	if b.looking {
		return 0, false
	}
	b.looking = failed > 0 || rises
	return failed, rises
}

// tooMany is how many tries failed, where that is enough for the breaker to open as far as is known, and else 0.
func (b *brake) tooMany(now time.Time) int {
	tries, failed := b.ends.count(now)
	if b.breaker.Off || failed < b.breaker.enough(b.slow, b.limit) || 2*failed < tries {
		return 0
	}
	return failed
}

// asks tells whether a pause that an API asks for is to be made: since none that is as long is known.
func (b *brake) asks(until time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asking || !b.pauseEnds.Add(slack).Before(until) {
		return false
	}
	b.asking = true
	return true
}

// slack is how much two pauses may differ that count as the same: answers of one moment each ask for their own.
const slack = 100 * time.Millisecond

// looked ends what ended or asks began.
func (b *brake) looked() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.looking, b.asking, b.succeeded = false, false, 0
}

// paused is the end of the pause that is known to last, or zero.
func (b *brake) paused(now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pauseEnds.After(now) {
		return b.pauseEnds
	}
	return time.Time{}
}

// use adds what is known of this worker's tries.
func (b *brake) use(u *stream.ServiceUse, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u.Seconds = int(recentTime.Seconds())
	u.Tries, u.Failed = b.recent.count(now)
	u.LastError, u.LastErrorAt = b.lastError, b.lastFail
}
