package sandbox

import (
	"container/list"
	"time"
)

const (
	remembered = 4096        // scripts, and callers, of whom a sandbox knows how they behaved
	strikeTime = time.Minute // two deaths within it are one too many
	pauseFirst = time.Minute // of a first refusal; each further one lasts twice as long
	pauseMost  = 16 * time.Minute
	shortRun   = 20 * time.Millisecond
	shortRuns  = 3  // in a row, until a script is known to be quick
	shortMost  = 64 // that count
)

// conduct is how a script, or a caller, has behaved in this sandbox.
type conduct struct {
	key      string
	short    int       // runs that were short; a long one takes half of them away
	struck   time.Time // when it last ended a process
	refusals int
	until    time.Time // it is refused until then
}

// ran counts a run that came to an end.
func (c *conduct) ran(took time.Duration) {
	if took > shortRun {
		c.short /= 2
	} else if c.short < shortMost {
		c.short++
	}
}

// quick tells whether the script is known to take little time, and to let its process live.
func (c *conduct) quick() bool { return c.short >= shortRuns }

// strike counts a process that it ended.
func (c *conduct) strike(now time.Time) {
	c.short = 0
	if c.struck.IsZero() || now.Sub(c.struck) > strikeTime {
		c.struck = now
		return
	}
	c.until = now.Add(min(pauseFirst<<c.refusals, pauseMost))
	c.refusals = min(c.refusals+1, 10)
	c.struck = time.Time{}
}

// refused tells whether it has to wait.
func (c *conduct) refused(now time.Time) bool { return now.Before(c.until) }

// records keeps the conduct of those seen last. The zero records is empty.
type records struct {
	byKey map[string]*list.Element
	seen  list.List // of *conduct, the latest in front
}

// get returns a key's conduct, and begins one when there is none.
func (r *records) get(key string) *conduct {
	if at, ok := r.byKey[key]; ok {
		r.seen.MoveToFront(at)
		return at.Value.(*conduct)
	}
	if r.byKey == nil {
		r.byKey = map[string]*list.Element{}
	}
	c := &conduct{key: key}
	r.byKey[key] = r.seen.PushFront(c)
	if len(r.byKey) > remembered {
		oldest := r.seen.Remove(r.seen.Back()).(*conduct)
		delete(r.byKey, oldest.key)
	}
	return c
}
