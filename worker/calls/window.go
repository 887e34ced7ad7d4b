package calls

import "time"

// panes is how many parts a window has: it forgets one part at a time.
const panes = 10

// window counts how tries ended within the last while. It is not safe for concurrent use.
type window struct {
	lasts time.Duration
	panes [panes]pane
}

// pane counts what ended in one part of a window's time.
type pane struct {
	began         time.Time
	tries, failed int
}

func (w *window) part() time.Duration { return max(1, w.lasts/panes) }

// add counts a try that ended now.
func (w *window) add(now time.Time, failed bool) {
	began := now.Truncate(w.part())
	p := &w.panes[int(began.UnixNano()/int64(w.part()))%panes]
	if !p.began.Equal(began) {
		*p = pane{began: began}
	}
	p.tries++
	if failed {
		p.failed++
	}
}

// count is how many tries ended within the window, and how many of them failed.
func (w *window) count(now time.Time) (tries, failed int) {
	oldest := now.Truncate(w.part()).Add(-(panes - 1) * w.part())
	for _, p := range w.panes {
		if !p.began.Before(oldest) {
			tries, failed = tries+p.tries, failed+p.failed
		}
	}
	return tries, failed
}

func (w *window) clear() { w.panes = [panes]pane{} }
