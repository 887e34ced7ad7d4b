package simulation

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/thence-dev/thence/internal/job"
)

// committed takes a context's new commit.
func (o *oracle) committed(name string, revision uint64, data []byte) {
	w, l := o.world, o.line(name)
	w.stats.Commits++
	var c kept
	if err := json.Unmarshal(data, &c); err != nil {
		w.violate("commits can be read", "context %s, revision %d: %v", name, revision, err)
		return
	}
	old := l.last
	l.last = c
	if c.Held != nil && old.Held == nil {
		l.renewed = max(l.renewed, c.Held.Sequence)
		o.holds(l, c)
	}
	if old.Held != nil && c.Held == nil {
		o.goesOn(l, old.Held.Sequence)
	}
	if c.Applied == old.Applied {
		want := maps.Clone(old.Calls)
		o.close(l, want, o.cancelling)
		if !slices.Equal(c.State.Ran, old.State.Ran) || !sameKeys(c.Calls, want) {
			w.violate("only a job or an operator changes a context", "context %s, revision %d", name, revision)
		}
		return
	}
	a := l.find(c.Applied)
	switch {
	case old.Held != nil:
		w.violate("a held context waits", "job %d of %s ended while its context was held", c.Applied, name)
	case c.Applied < old.Applied:
		w.violate("order", "context %s went from job %d back to %d", name, old.Applied, c.Applied)
	case a == nil:
		w.violate("a commit ends a job", "context %s, revision %d: nobody accepted job %d", name, revision, c.Applied)
	default:
		o.inOrder(l, a, old)
		a.skipped = old.Skip != nil && old.Skip.Sequence == a.sequence
		o.end(l, a, c)
		o.ranOn(l, a, c.State)
		o.opened(l, a, old, c)
	}
}

// opened checks that a job left those calls open that it had to: those that were, but for the one that it answered and
// those that it cancelled, and those that it asked for.
func (o *oracle) opened(l *contextLine, a *accepted, old, c kept) {
	want := maps.Clone(old.Calls)
	if want == nil {
		want = map[string]json.RawMessage{}
	}
	call, answers := strings.CutPrefix(a.identity, "answer ")
	if _, open := want[call]; answers && a.effective() && !open {
		o.world.violate("an answer to a closed call has no effect", "job %d of %s answers call %s, and is %s", a.sequence, l.name, call, a.ended)
	}
	if a.effective() {
		delete(want, call)
	}
	p := o.program(l, a)
	if p != nil && a.ended == job.OutcomeDone {
		if p.Cancels {
			o.close(l, want, slices.Collect(maps.Keys(want))...)
		}
		for i, s := range p.Steps {
			if s.To == "" && !s.Cancelled {
				want[job.EffectID(a.sequence, i)] = nil
			}
		}
	}
	if !sameKeys(c.Calls, want) {
		o.world.violate("a job opens and closes the calls that it is to", "job %d of %s leaves %d calls open, want %d", a.sequence, l.name, len(c.Calls), len(want))
	}
}

// close takes open calls away that are cancelled.
func (o *oracle) close(l *contextLine, open map[string]json.RawMessage, calls ...string) {
	for _, call := range calls {
		if e := o.effects[l.name+"."+call]; e != nil {
			e.closed = true
		}
		delete(open, call)
	}
}

func sameKeys(a, b map[string]json.RawMessage) bool {
	return slices.Equal(slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)))
}

// holds takes a commit that holds a context. Where it is for a job that failed, its letter has to be there.
func (o *oracle) holds(l *contextLine, c kept) {
	if failed := c.Held.Sequence; failed != 0 && o.world.server.dead.lastOf(letterOf(l.name, failed)) == 0 {
		o.world.violate("a job that holds its context has a letter", "job %d of %s", failed, l.name)
	}
}

// goesOn takes a commit that lets a context go on. A job that failed runs on what is current from then on.
func (o *oracle) goesOn(l *contextLine, failed uint64) {
	if a := l.find(failed); a != nil {
		a.least = o.world.releases.least(o.world)
	}
}

func letterOf(name string, seq uint64) string {
	return job.Address{Pool: Pool, Context: name}.DeadSubject(fmt.Sprint(seq))
}

// inOrder checks that all before a job has ended, effects included.
func (o *oracle) inOrder(l *contextLine, a *accepted, old kept) {
	for _, b := range l.jobs {
		if b.sequence < a.sequence && b.ended == "" && !b.gone {
			o.world.violate("order", "job %d of %s ended before job %d", a.sequence, l.name, b.sequence)
		}
	}
	if b := l.find(old.Applied); b != nil && !b.gone {
		if e := o.owed(l, b); e != "" {
			o.world.violate("effects come before the context's next commit", "job %d of %s was committed while effect %s was owed", a.sequence, l.name, e)
		}
	}
}

// end records how a job ended.
func (o *oracle) end(l *contextLine, a *accepted, c kept) {
	if a.ended != "" {
		o.world.violate("a job ends once", "job %d of %s: %s, and then %s", a.sequence, l.name, a.ended, c.Report.Outcome)
	}
	a.ended, a.owes = c.Report.Outcome, len(c.Outbox)
	if c.Report.Error != nil {
		a.reason = c.Report.Error.Reason
	}
	for i, e := range c.Outbox {
		due, _ := job.ParseTimerURL(e.Request.URL) // of a call it is no time, and zero
		o.effects[fmt.Sprintf("%s.%d-%d", l.name, a.sequence, i)] = &effect{kind: e.Kind, by: a, context: l.name, index: i, withdrawn: e.Cancelled, due: due}
	}
}

// owed is the first effect of a job that was not stored; empty when all were.
func (o *oracle) owed(l *contextLine, a *accepted) string {
	for i := range a.owes {
		key := fmt.Sprintf("%s.%d-%d", l.name, a.sequence, i)
		if e := o.effects[key]; e.stored == 0 && !e.withdrawn {
			return key
		}
	}
	return ""
}
