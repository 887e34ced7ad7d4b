package simulation

import (
	"fmt"
	"slices"
	"strings"

	"github.com/thence-dev/thence/internal/job"
)

// judge checks, once all is quiet, what has to have come of the history.
func (o *oracle) judge() {
	for _, name := range o.world.plan.contexts {
		l := o.line(name)
		o.judgeEnds(l)
		o.judgeState(l)
		o.judgeCalls(l)
	}
	for seq, there := range o.strays {
		if !there {
			o.world.violate("each job ends once", "job %d of a context that can't be has no dead letter", seq)
		}
	}
}

// effective tells whether the job counts: it was run, or would have been.
func (a *accepted) effective() bool { return a.ended == job.OutcomeDone || a.ended == job.OutcomeDead }

// judgeEnds checks that of the jobs that are the same one took effect, the first, and all others were recognised. Where
// the first went with its stream, a repeat may take its place, or be too late for that.
func (o *oracle) judgeEnds(l *contextLine) {
	taken, gone := map[string]*accepted{}, map[string]bool{}
	for _, a := range l.jobs {
		if a.ended == "" {
			gone[a.identity] = true
			if !a.gone {
				o.world.violate("each job ends once", "job %d of %s (%s) has not ended", a.sequence, l.name, a.identity)
			}
			continue
		}
		first := taken[a.identity]
		switch {
		case first == nil && !a.effective() && (gone[a.identity] || o.orphaned(a) || o.answersClosed(l, a)):
		case first == nil && !a.effective():
			o.world.violate("each job takes effect once", "job %d of %s (%s) was taken for %s, and was the first", a.sequence, l.name, a.identity, a.ended)
		case first != nil && a.effective():
			o.world.violate("each job takes effect once", "jobs %d and %d of %s (%s) both took effect", first.sequence, a.sequence, l.name, a.identity)
		case first == nil:
			taken[a.identity] = a
			o.judgeOutcome(l, a)
		}
	}
}

// orphaned tells whether the job is an effect of one that went with its stream: what stood for the order of its effects
// went with it.
func (o *oracle) orphaned(a *accepted) bool {
	key, is := strings.CutPrefix(a.identity, "effect "+Pool+".")
	return is && o.effects[key] != nil && o.effects[key].by.gone
}

// answersClosed tells whether the job answers a call that somebody cancelled.
func (o *oracle) answersClosed(l *contextLine, a *accepted) bool {
	call, answers := strings.CutPrefix(a.identity, "answer ")
	e := o.effects[l.name+"."+call]
	return answers && e != nil && e.closed
}

// judgeOutcome checks how a job ended, by what it was to do.
func (o *oracle) judgeOutcome(l *contextLine, a *accepted) {
	w, p := o.world, o.program(l, a)
	switch {
	case a.forged:
		if a.reason != job.ReasonForged {
			w.violate("what is forged is a dead letter", "job %d of %s is %s (%s)", a.sequence, l.name, a.ended, a.reason)
		}
	case a.skipped && a.ended != job.OutcomeDead:
		w.violate("a job that was given up is a dead letter", "job %d of %s is %s", a.sequence, l.name, a.ended)
	case a.reason == job.ReasonPoison:
		if o.deaths[a.sequence] < 5 && w.stats.Harms < 5 {
			w.violate("only what kills workers is poison", "job %d of %s, after %d deaths and %d harms", a.sequence, l.name, o.deaths[a.sequence], w.stats.Harms)
		}
	case p == nil || !p.Fails:
		if a.ended != job.OutcomeDone {
			w.violate("a job that can run is done", "job %d of %s is %s (%s)", a.sequence, l.name, a.ended, a.reason)
		}
		o.judgeEffects(l, a, p)
	case a.ended == job.OutcomeDone && !w.plan.holds:
		w.violate("a job that fails is a dead letter", "job %d of %s is done", a.sequence, l.name)
	case a.ended == job.OutcomeDone:
		o.judgeEffects(l, a, p)
	default:
		o.judgeScriptFailed(l, a)
	}
	if !a.gone {
		o.judgeLetter(l, a)
	}
}

// program is what a job was to do; nil when it was to do nothing.
func (o *oracle) program(l *contextLine, a *accepted) *Program {
	switch {
	case a.forged || a.wake:
		return nil
	case a.answer == nil:
		return &a.order.Program
	}
	s := o.stepOf(l, a)
	if a.answer.Failure != nil {
		return s.Catch
	}
	return s.Then
}

// stepOf is the call that a job answers, as the job had it that asked for it.
func (o *oracle) stepOf(l *contextLine, a *accepted) Step {
	var seq uint64
	var index int
	if n, _ := fmt.Sscanf(a.identity, "answer %d-%d", &seq, &index); n == 2 {
		if p := o.program(l, l.find(seq)); p != nil && index < len(p.Steps) {
			return p.Steps[index]
		}
		return Step{}
	}
	// A response script that failed: its error script is told by the effect that stands behind its letter.
	if n, _ := fmt.Sscanf(a.identity, "effect "+Pool+"."+l.name+".%d-%d", &seq, &index); n == 2 {
		if failed := l.find(seq); failed != nil && failed.answer != nil {
			return Step{Catch: o.stepOf(l, failed).Catch}
		}
	}
	return Step{}
}

// judgeEffects checks that what a job asked for is there, as it asked for it.
func (o *oracle) judgeEffects(l *contextLine, a *accepted, p *Program) {
	if p == nil || a.gone {
		return
	}
	if len(p.Steps) != a.owes {
		o.world.violate("every effect of what is committed", "job %d of %s asked for %d, and its commit owes %d", a.sequence, l.name, len(p.Steps), a.owes)
		return
	}
	for i, s := range p.Steps {
		key := fmt.Sprintf("%s.%d-%d", l.name, a.sequence, i)
		if o.effects[key].withdrawn != s.Cancelled {
			o.world.violate("a call that its job took back is not published", "call %s is taken back: %v, want %v", key, !s.Cancelled, s.Cancelled)
		}
		if o.effects[key].stored == 0 && !s.Cancelled {
			o.world.violate("every effect of what is committed", "%s was never published", key)
		}
		if s.To != "" {
			o.judgeDispatched(l, a, s, key)
		}
	}
}

// judgeDispatched checks that a job came to its context as it was asked for.
func (o *oracle) judgeDispatched(l *contextLine, by *accepted, s Step, key string) {
	after := slices.Index(l.last.State.Ran, by.sequence)
	for _, a := range o.line(s.To).jobs {
		if a.identity != "effect "+Pool+"."+key || a.forged {
			continue
		}
		if !a.order.Program.same(s.Run) || a.order.After != after {
			o.world.violate("every effect of what is committed", "%s came as another one: after %d jobs, and there were %d", key, a.order.After, after)
		}
	}
}

// judgeScriptFailed checks that where a response's script failed, the call's error script is told.
func (o *oracle) judgeScriptFailed(l *contextLine, a *accepted) {
	want := 1
	if a.answer != nil && a.answer.Failure == nil && o.stepOf(l, a).Catch != nil {
		want = 2
	}
	if a.owes != want {
		o.world.violate("a response's failure is told to the error script", "job %d of %s owes %d effects, want %d", a.sequence, l.name, a.owes, want)
	}
}

// judgeLetter checks that a dead job has its letter, and no other job one.
func (o *oracle) judgeLetter(l *contextLine, a *accepted) {
	subject := letterOf(l.name, a.sequence)
	there := o.world.server.dead.lastOf(subject) != 0
	if there != (a.ended == job.OutcomeDead) && (!o.world.plan.holds || !there) {
		o.world.violate("a dead job has a dead letter", "job %d of %s is %s; letter: %v", a.sequence, l.name, a.ended, there)
	}
	copies := 0
	for _, m := range o.world.server.dead.subjects[subject] {
		if m.there() {
			copies++
		}
	}
	if copies > 1 {
		o.world.violate("a dead job has a dead letter", "job %d of %s has %d of them", a.sequence, l.name, copies)
	}
}

// judgeState checks that the state is what the jobs that are done make of it, in the order of the stream, once each.
func (o *oracle) judgeState(l *contextLine) {
	var want []uint64
	for _, a := range l.jobs {
		if a.ended == job.OutcomeDone && o.program(l, a) != nil {
			want = append(want, a.sequence)
		}
	}
	if !slices.Equal(want, l.last.State.Ran) {
		o.world.violate("the state is that of the jobs in order, once each", "context %s has %v, want %v", l.name, l.last.State.Ran, want)
	}
}

// judgeCalls checks that no call is left open whose answer could have come.
func (o *oracle) judgeCalls(l *contextLine) {
	for id := range l.last.Calls {
		if e := o.effects[l.name+"."+id]; e == nil || !e.cancelled && !e.by.gone && !o.answerGone(l, id) {
			o.world.violate("every call is answered", "call %s of %s is open", id, l.name)
		}
	}
}

// answerGone tells whether an answer went with a stream that was deleted.
func (o *oracle) answerGone(l *contextLine, call string) bool {
	return slices.ContainsFunc(l.jobs, func(a *accepted) bool { return a.gone && a.identity == "answer "+call })
}

// stuck says what has not come to its end.
func (o *oracle) stuck() {
	s := o.world.server
	detail := fmt.Sprintf("%d jobs and %d calls are left %s after the last harm", s.jobs.count(), s.calls.count(), recovery)
	for _, q := range []*queue{s.jobs, s.calls} {
		for _, m := range q.all {
			if m.there() {
				detail += fmt.Sprintf("; %s %d", m.Subject, m.Sequence)
			}
		}
	}
	o.world.violate("everything comes to its end", "%s", detail)
}
