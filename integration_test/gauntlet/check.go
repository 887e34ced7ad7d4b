package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// tally is what a round came to, in numbers.
type tally map[string]int

func (t tally) add(other tally) {
	for k, n := range other {
		t[k] += n
	}
}

// check holds the promise against what NATS and the API have to show. It returns what was broken, a line each, and the
// round's numbers.
func check(r *records, want outcome, acked map[string]uint64, tries tries) (broken []string, got tally) {
	c := &checking{records: r, want: want, accepted: map[string][]string{}, answered: map[string]time.Time{}, got: tally{}}
	for id := range acked {
		name := id[:strings.LastIndex(id, "-")]
		c.accepted[name] = append(c.accepted[name], id)
	}
	for _, name := range slices.Sorted(maps.Keys(want.states)) {
		c.state(name)
	}
	for _, name := range slices.Sorted(maps.Keys(r.contexts)) {
		if want.states[name] == nil {
			c.say("context %s is there, and nobody published to it", name)
		}
		c.timeline(name)
		c.deadLetters(name)
	}
	c.leftOver()
	c.api(tries.asked)
	c.late(tries)
	return c.broken, c.got
}

// checking is a check under way.
type checking struct {
	*records
	want     outcome
	accepted map[string][]string // ids of jobs, by context
	broken   []string
	got      tally

	answered map[string]time.Time // when a call's answer was recorded, by context and call
}

func (c *checking) say(format string, args ...any) {
	c.broken = append(c.broken, fmt.Sprintf(format, args...))
}

// state compares a context's state with what it must be: every accepted job once, in order, every answer once.
func (c *checking) state(name string) {
	last, ok := c.last(name)
	want := c.want.states[name]
	if !ok {
		if want.N > 0 || len(c.want.dead[name]) > 0 || len(want.Added)+len(want.Hops) > 0 {
			c.say("context %s has no commit", name)
		}
		return
	}
	var have state
	if err := json.Unmarshal(last.State, &have); err != nil {
		c.say("context %s: its state can't be read: %v", name, err)
		return
	}
	if d := want.differs(have); d != "" {
		c.say("context %s: %s", name, d)
	}
	if n := len(last.Calls); n > 0 {
		c.say("context %s has %d open calls, and nothing is under way", name, n)
	}
	if last.Held != nil {
		c.say("context %s is held", name)
	}
}

// timeline checks the history that the bucket keeps: jobs in the stream's order, none of them done twice.
func (c *checking) timeline(name string) {
	done := map[string]uint64{}
	var before uint64
	for _, e := range c.runs(name) {
		r := e.commit.Report
		c.got["commits"]++
		c.got["commits "+r.Outcome]++
		if r.Sequence != e.commit.Applied || r.Sequence <= before {
			c.say("context %s, revision %d: job %d came after job %d", name, e.revision, r.Sequence, before)
		}
		before = r.Sequence
		if r.Outcome == job.OutcomeDuplicate || r.Outcome == job.OutcomeLate {
			continue
		}
		if old, twice := done[r.Job]; twice {
			c.say("context %s: job %s took effect twice, as sequence %d and %d", name, r.Job, old, r.Sequence)
		}
		done[r.Job] = r.Sequence
		c.noteAnswer(name, e)
	}
	c.ended(name, done)
}

// ended checks that every job that was acked has an end, where the history tells.
func (c *checking) ended(name string, done map[string]uint64) {
	if !c.whole(name) {
		c.got["contexts with more history than is kept"]++
		return
	}
	for _, id := range c.accepted[name] {
		if done[id] == 0 {
			c.say("context %s: job %s was accepted, and has no end", name, id)
		}
	}
}

// noteAnswer notes when the answer of a call was recorded.
func (c *checking) noteAnswer(name string, e entry) {
	if r := e.commit.Report; r.Call != "" {
		c.answered[name+"/"+r.Call] = e.time
	}
}

// deadLetters checks that each that must be there is, once, and no other.
func (c *checking) deadLetters(name string) {
	want := map[string]int{}
	for _, who := range c.want.dead[name] {
		want[who]++
	}
	have := map[string]int{}
	for _, letter := range c.dead[name] {
		c.got["dead letters"]++
		who := deadTask(letter.Job)
		if letter.Call != nil {
			var tag request
			_ = json.Unmarshal(letter.Call.Tag, &tag) // what is no tag of ours is named as it can't be
			who = deadAnswer(name, tag.I)
		}
		have[who]++
		if want[who] == 0 {
			c.say("context %s: a dead letter that nobody expects: %s: %s: %s", name, letter.Job, letter.Error.Reason, letter.Error.String())
		}
	}
	for who, n := range want {
		if have[who] != n {
			c.say("context %s: %d dead letters of %s, want %d", name, have[who], who, n)
		}
	}
}

// leftOver looks at jobs that are on the stream although no consumer knows of them. One that took effect was acked while
// the server went down, and is in nobody's way; any other is lost.
func (c *checking) leftOver() {
	for _, m := range c.left {
		at, err := job.ParseAddress(m.Subject)
		if err != nil {
			c.say("message %d on %s: %v", m.Sequence, m.Subject, err)
			continue
		}
		if last, ok := c.last(at.Context); !ok || last.Applied < m.Sequence {
			c.say("job %d of %s is left on the stream, and has not taken effect", m.Sequence, at)
			continue
		}
		c.got["jobs acked and not removed by the server"]++
	}
}

// api checks what the API was asked: one key a call, one call a key, every call at least once, none after its answer.
func (c *checking) api(asked []request) {
	keyOf, callOf := map[call]string{}, map[string]call{}
	for _, r := range asked {
		at := call{r.Context, r.I}
		c.got["requests"]++
		if !c.want.calls[at] {
			c.say("the API was asked for %s %d, and no job asked for that", r.Context, r.I)
		}
		if old, ok := keyOf[at]; ok && old != r.Key {
			c.say("call %s %d was sent under two keys, %s and %s", r.Context, r.I, old, r.Key)
		}
		if old, ok := callOf[r.Key]; ok && old != at {
			c.say("key %s is that of two calls, %s %d and %s %d", r.Key, old.context, old.i, at.context, at.i)
		}
		keyOf[at], callOf[r.Key] = r.Key, at
	}
	for at := range c.want.calls {
		if keyOf[at] == "" {
			c.say("call %s %d was never sent", at.context, at.i)
		}
	}
	c.got["calls"] += len(c.want.calls)
}

// tries are what is known of the tries of calls.
type tries struct {
	asked []request     // by the API
	sent  []send        // by the workers
	grace time.Duration // how long after an answer was recorded a leader may not know it
}

// storing is how long a commit may be on its way from the time that it is stamped with to all who are asked for it.
const storing = 500 * time.Millisecond

// late checks that no try began that could know that its answer is recorded: that the worker did not even begin to ask
// whether the call is open when its answer was. One that asked before, and sent later, could not know it. Nor could one
// that asked a leader which was cut off, or stopped, and did not know it either. Both are counted.
func (c *checking) late(t tries) {
	for _, s := range t.sent {
		recorded, ok := c.answered[s.Context+"/"+s.Call]
		if !ok || !s.Time.After(recorded) {
			continue
		}
		switch after := s.Looked.Sub(recorded); {
		case after <= storing:
			c.got["repeats under the same key: looked before the answer was recorded, sent after"]++
		case after <= t.grace:
			c.got["repeats under the same key: on the word of a leader that did not know the answer"]++
		default:
			c.say("call %s of %s was sent again by %s, which began to ask whether it is open %s after its answer was recorded", s.Call, s.Context, s.Worker, after)
		}
	}
}
