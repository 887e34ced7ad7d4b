package sandbox

import "time"

const (
	strikeTime  = time.Minute // two deaths within it are one too many
	pauseFirst  = time.Minute // of a first refusal; each further one lasts twice as long
	pauseMost   = 16 * time.Minute
	mostStrikes = 4096 // that are remembered
)

// strikes is how often somebody, or something, has ended processes.
type strikes struct {
	last     time.Time // zero: none that still counts
	by       string    // whose the last was
	refusals int
	until    time.Time // it is refused until then
}

// add counts a process that was ended. With by only the second strike of another counts.
func (s *strikes) add(now time.Time, by string) {
	if s.last.IsZero() || now.Sub(s.last) > strikeTime || by != "" && by == s.by {
		s.last, s.by = now, by
		return
	}
	s.until = now.Add(min(pauseFirst<<s.refusals, pauseMost))
	s.refusals = min(s.refusals+1, 10)
	s.last = time.Time{}
}

// forgotten is when all is as if it had never been.
func (s *strikes) forgotten() time.Time {
	end := s.until.Add(pauseMost)
	if counts := s.last.Add(strikeTime); counts.After(end) {
		return counts
	}
	return end
}

// docket keeps strikes by key: of scripts each in its context, of contexts, and, by contexts, of scripts wherever they
// run. Entries cost whoever makes them a process, of which those of sources are at most two a minute in one context. The
// zero docket is empty.
type docket map[string]*strikes

func scriptKey(t *task) string  { return "script " + t.key + " " + t.context() }
func contextKey(t *task) string { return "context " + t.context() }
func sharedKey(t *task) string  { return "shared " + t.key }

// strike counts the death of a process against the task that was alone in it.
func (d *docket) strike(t *task, now time.Time) {
	d.entry(scriptKey(t), now).add(now, "")
	d.entry(sharedKey(t), now).add(now, t.context())
	d.entry(contextKey(t), now).add(now, "")
}

// until is when the pause of a key ends; it is past when there is none.
func (d *docket) until(key string) time.Time {
	if s, ok := (*d)[key]; ok {
		return s.until
	}
	return time.Time{}
}

// entry returns a key's strikes, and begins them when there are none. When there are too many, those that are over make
// room, else the one that would be over first.
func (d *docket) entry(key string, now time.Time) *strikes {
	if s, ok := (*d)[key]; ok {
		return s
	}
	if *d == nil {
		*d = docket{}
	}
	if len(*d) >= mostStrikes {
		d.makeRoom(now)
	}
	s := &strikes{}
	(*d)[key] = s
	return s
}

func (d *docket) makeRoom(now time.Time) {
	first := ""
	for key, s := range *d {
		if !s.forgotten().After(now) {
			delete(*d, key)
		} else if f, ok := (*d)[first]; !ok || s.forgotten().Before(f.forgotten()) {
			first = key
		}
	}
	if len(*d) >= mostStrikes {
		delete(*d, first)
	}
}
