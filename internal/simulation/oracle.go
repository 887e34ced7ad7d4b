package simulation

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// oracle holds what happened against what may happen. It reads messages and commits for itself.
type oracle struct {
	world   *World
	lines   map[string]*contextLine
	effects map[string]*effect // by "<context>.<sequence>-<index>"
	keys    map[string]string  // idempotency keys, and the call that each belongs to
	strays  map[uint64]bool    // sequences of jobs whose context can't be, and whether their letter is there
	deaths  map[uint64]int     // of processes, by the job that they died of
	forging bool               // what is stored now is forged

	cancelling string // the call that an operator is about to close
}

// contextLine is one context.
type contextLine struct {
	name string
	jobs []*accepted // in the order of the stream
	last kept

	renewed uint64 // sequence of the last job that failed and held the context
}

// accepted is a job that the stream took.
type accepted struct {
	sequence uint64
	identity string // of two jobs with the same one, one takes effect
	order    Order
	answer   *outcome // of the call that it answers
	wake     bool
	forged   bool
	skipped  bool // an operator gave it up
	gone     bool // with a stream that was deleted, and with it what stood for its effects

	ended  string // its outcome, once there is a commit that says so
	reason string // why it is dead
	owes   int    // effects

	least   uint64 // revision of the oldest turn that a process went by when it came
	release string // that it ran on, or had to
}

// outcome is what an answer says.
type outcome struct {
	Failure *struct {
		Type string `json:"type"`
	} `json:"failure"`
	Tag json.RawMessage `json:"tag"`
}

// effect is what a commit owes.
type effect struct {
	kind      string
	by        *accepted
	context   string
	index     int
	stored    int       // how often its stream took it
	attempt   int       // of a call: the highest that was put on a timer
	requests  int       // of a call
	first     time.Time // of these
	key       string    // of a call
	answered  bool      // an answer was stored
	cancelled bool      // it went with a stream that was deleted
	withdrawn bool      // the job that asked for this call took it back
	closed    bool      // a later job, or an operator, closed this call
	due       time.Time // of a timer
}

// kept is what the oracle reads of a commit.
type kept struct {
	State   State                      `json:"state"`
	Applied uint64                     `json:"applied"`
	Calls   map[string]json.RawMessage `json:"calls"`
	Outbox  []struct {
		Kind      string `json:"kind"`
		Cancelled bool   `json:"cancelled"`
		Request   struct {
			URL string `json:"url"`
		} `json:"request"`
	} `json:"outbox"`
	Held *struct {
		Sequence uint64 `json:"sequence"`
	} `json:"held"`
	Skip *struct {
		Sequence uint64 `json:"sequence"`
	} `json:"skip"`
	Report struct {
		Sequence uint64 `json:"sequence"`
		Outcome  string `json:"outcome"`
		Error    *struct {
			Reason string `json:"reason"`
		} `json:"error"`
	} `json:"report"`
}

func newOracle(w *World) *oracle {
	return &oracle{
		world: w, lines: map[string]*contextLine{}, effects: map[string]*effect{}, keys: map[string]string{}, strays: map[uint64]bool{}, deaths: map[uint64]int{},
	}
}

func (o *oracle) line(name string) *contextLine {
	if o.lines[name] == nil {
		o.lines[name] = &contextLine{name: name}
	}
	return o.lines[name]
}

func (l *contextLine) find(seq uint64) *accepted {
	for _, a := range l.jobs {
		if a.sequence == seq {
			return a
		}
	}
	return nil
}

// held tells whether a context is.
func (o *oracle) held() bool {
	for _, l := range o.lines {
		if l.last.Held != nil {
			return true
		}
	}
	return false
}

// stored takes a message that a stream has taken.
func (o *oracle) stored(q *queue, m *message) {
	part := strings.Split(m.Subject, ".")
	switch {
	case q == o.world.server.jobs:
		o.accepted(part[1], m)
	case len(part) == 4 && part[2] == "dead":
		o.buried(part[1], part[3], m)
	case len(part) == 4:
		o.called(part[1], m)
	}
}

// accepted takes a job.
func (o *oracle) accepted(name string, m *message) {
	w := o.world
	w.stats.Jobs++
	if name == strayContext {
		o.strays[m.Sequence] = false
		return
	}
	a := &accepted{sequence: m.Sequence, identity: fmt.Sprint("sequence ", m.Sequence), forged: o.forging, least: w.releases.least(w)}
	l := o.line(name)
	l.jobs = append(l.jobs, a)
	source, call, id := m.Get(job.HeaderSource), m.Get(job.HeaderCall), m.Get(job.HeaderID)
	switch {
	case a.forged:
	case call != "":
		a.identity, a.answer = "answer "+call, new(outcome)
		o.read(m, a.answer)
		o.answered(name, call)
	case source != "" && m.Get(job.HeaderType) == job.TypeAnswer:
		a.identity, a.answer = "effect "+source, new(outcome)
		o.read(m, a.answer)
		o.published(strings.TrimPrefix(source, Pool+"."), job.EffectJob)
	case source != "":
		a.identity = "effect " + source
		o.read(m, &a.order)
		o.published(strings.TrimPrefix(source, Pool+"."), job.EffectJob)
	case m.Get(job.HeaderType) == job.TypeWake:
		a.wake = true
	default:
		if id != "" {
			a.identity = "id " + id
		}
		o.read(m, &a.order)
	}
}

func (o *oracle) read(m *message, v any) {
	if err := json.Unmarshal(m.Data, v); err != nil {
		o.world.violate("messages can be read", "%s %d: %v", m.Subject, m.Sequence, err)
	}
}

// published takes an effect: it has to be one that a commit owes.
func (o *oracle) published(key, kind string) *effect {
	e := o.effects[key]
	if e == nil || e.kind != kind {
		o.world.violate("no effect of what is not committed", "%s %s was published, and no commit owes it", kind, key)
		return &effect{by: &accepted{}}
	}
	if e.withdrawn {
		o.world.violate("a call that its job took back is not published", "call %s", key)
	}
	e.stored++
	return e
}

func (o *oracle) answered(name, call string) {
	e := o.effects[name+"."+call]
	if e == nil || e.kind != job.EffectCall {
		o.world.violate("no effect of what is not committed", "an answer came to call %s of %s, which no commit opened", call, name)
		return
	}
	if time.Now().Before(e.due) {
		o.world.violate("a timer is not early", "timer %s of %s came at %s, and is due at %s", call, name, time.Now(), e.due)
	}
	e.answered = true
}

// letter is what the oracle reads of a dead letter.
type letter struct {
	Held bool `json:"held"`
}

// buried takes a dead letter.
func (o *oracle) buried(name, id string, m *message) {
	var seq uint64
	if _, err := fmt.Sscan(id, &seq); err != nil {
		o.world.violate("a dead letter is that of a dead job", "%s", m.Subject)
		return
	}
	if strings.HasPrefix(name, "invalid-") {
		if _, known := o.strays[seq]; !known {
			o.world.violate("a dead letter is that of a dead job", "%s", m.Subject)
		}
		o.strays[seq] = true
		return
	}
	var l letter
	o.read(m, &l)
	if l.Held {
		return
	}
	o.published(fmt.Sprintf("%s.%d-0", name, seq), job.EffectDead)
}

// callMessage is what the oracle reads of a call.
type callMessage struct {
	ID      string `json:"id"`
	Attempt int    `json:"attempt"`
}

// called takes a call's message, or the timer of its next try.
func (o *oracle) called(name string, m *message) {
	var c callMessage
	o.read(m, &c)
	if c.Attempt == 0 {
		o.world.stats.Calls++
	}
	e := o.published(name+"."+c.ID, job.EffectCall)
	e.attempt = max(e.attempt, c.Attempt)
}

// acked takes the end of a message.
func (o *oracle) acked(q *queue, m *message) {
	w, part := o.world, strings.Split(m.Subject, ".")
	if q == w.server.calls {
		o.callAcked(part[1], m)
		return
	}
	if part[1] == strayContext {
		if !o.strays[m.Sequence] {
			w.violate("nothing is acked that had no effect", "job %d of a context that can't be has no dead letter", m.Sequence)
		}
		return
	}
	l := o.line(part[1])
	a := l.find(m.Sequence)
	switch {
	case a == nil || a.ended == "":
		w.violate("nothing is acked that had no effect", "job %d of %s", m.Sequence, part[1])
	default:
		if e := o.owed(l, a); e != "" {
			w.violate("effects come before the ack", "job %d of %s was acked while effect %s was owed", m.Sequence, part[1], e)
		}
	}
}

// callAcked takes the end of a call's message: it was answered, or is on a timer, or closed.
func (o *oracle) callAcked(name string, m *message) {
	var c callMessage
	o.read(m, &c)
	e := o.effects[name+"."+c.ID]
	if _, open := o.line(name).last.Calls[c.ID]; e != nil && open && !e.answered && e.attempt <= c.Attempt {
		o.world.violate("a call's message stays until its answer is stored", "call %s of %s, try %d", c.ID, name, c.Attempt+1)
	}
}

// deleted takes the end of a stream, with what was on it.
func (o *oracle) deleted(q *queue) {
	for _, m := range q.all {
		if !m.there() {
			continue
		}
		part := strings.Split(m.Subject, ".")
		if q == o.world.server.jobs {
			if a := o.line(part[1]).find(m.Sequence); a != nil {
				a.gone = true
			}
			if _, stray := o.strays[m.Sequence]; stray {
				o.strays[m.Sequence] = true // nobody owes a letter of it any more
			}
			continue
		}
		var c callMessage
		o.read(m, &c)
		if e := o.effects[part[1]+"."+c.ID]; e != nil {
			e.cancelled = true
		}
	}
}

// victim is a context with one of its open calls, if it has any, and an effect of somebody, for a forger.
func (o *oracle) victim() (name, call, effect string) {
	effect = pick(o.world, o.effects)
	if effect == "" {
		return "", "", ""
	}
	name = o.effects[effect].context
	return name, pick(o.world, o.line(name).last.Calls), Pool + "." + effect
}
