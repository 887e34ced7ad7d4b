package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/thence-dev/thence/dispatcher"
)

// kind is what a job does beside counting itself.
type kind string

const (
	kindCount  kind = "count"  // nothing
	kindCall   kind = "call"   // asks the API, at /ok
	kindSlow   kind = "slow"   // likewise, at /slow
	kindFlaky  kind = "flaky"  // likewise, at /flaky: the first try fails
	kindRefuse kind = "refuse" // likewise, at /refuse: the error script hears of it
	kindBroken kind = "broken" // asks the API; the script that takes the answer fails
	kindTimer  kind = "timer"  // sets a timer, whose job counts as an answer
	kindFan    kind = "fan"    // sends a job to each of several other contexts
	kindHop    kind = "hop"    // sends a job that goes round a ring of other contexts
	kindFail   kind = "fail"   // fails: a dead letter
	kindHold   kind = "hold"   // fails, and holds its context until an operator lets it go on
)

// mix is how often each kind comes, against the others.
type mix map[kind]int

// everything is the mix of nearly all rounds.
var everything = mix{
	kindCount: 8, kindCall: 4, kindSlow: 2, kindFlaky: 3, kindRefuse: 1, kindBroken: 1, kindTimer: 2, kindFan: 3, kindHop: 2, kindFail: 2,
}

// size is how much a round has to do.
type size struct {
	contexts, jobs int // jobs of each context
	mix            mix
	repeats        int // of a hundred jobs, so many are published more than once
}

// task is one job of a caller.
type task struct {
	id      string
	context string
	i       int // its place among those of its context
	kind    kind
	add     int
	repeats int // how often it is published again although it was acked
}

// workload is what callers publish: each context's tasks in order. It depends on the random source alone.
type workload struct {
	contexts []string
	tasks    map[string][]task
	sinks    []string // contexts that take the jobs of fans
	ring     []string // contexts that take the jobs of hops
}

// hops is how often a hop's job is sent on.
const hops = 4

// plan draws a workload. Every kind of the mix comes at least once in every so many tasks, so that a small workload has
// them all.
func plan(rng *rand.Rand, s size) *workload {
	w := &workload{tasks: map[string][]task{}, sinks: []string{"sink_0", "sink_1", "sink_2"}, ring: []string{"ring_0", "ring_1", "ring_2"}}
	deck := s.mix.deck()
	var hand []kind
	for c := range s.contexts {
		name := fmt.Sprintf("ctx_%d", c)
		w.contexts = append(w.contexts, name)
		for i := range s.jobs {
			if len(hand) == 0 {
				hand = append(hand, deck...)
				rng.Shuffle(len(hand), func(a, b int) { hand[a], hand[b] = hand[b], hand[a] })
			}
			t := task{id: fmt.Sprintf("%s-%d", name, i), context: name, i: i, kind: hand[0], add: 1 + rng.IntN(1000)}
			if rng.IntN(100) < s.repeats {
				t.repeats = 1 + rng.IntN(3)
			}
			hand = hand[1:]
			w.tasks[name] = append(w.tasks[name], t)
		}
	}
	return w
}

// deck is each kind as often as the mix has it, in an order that is the same each time.
func (m mix) deck() []kind {
	var deck []kind
	for _, k := range []kind{kindCount, kindCall, kindSlow, kindFlaky, kindRefuse, kindBroken, kindTimer, kindFan, kindHop, kindFail, kindHold} {
		for range m[k] {
			deck = append(deck, k)
		}
	}
	return deck
}

// count is how many tasks of some kinds there are; of none given, all.
func (w *workload) count(kinds ...kind) int {
	n := 0
	for _, tasks := range w.tasks {
		for _, t := range tasks {
			if len(kinds) == 0 {
				n++
			}
			for _, k := range kinds {
				if t.kind == k {
					n++
				}
			}
		}
	}
	return n
}

// calls tells whether a kind asks the API.
func (k kind) calls() bool {
	switch k {
	case kindCall, kindSlow, kindFlaky, kindRefuse, kindBroken:
		return true
	default:
		return false
	}
}

// commits is about how many commits the workload comes to.
func (w *workload) commits() int {
	return w.count() + w.count(kindCall, kindSlow, kindFlaky, kindRefuse, kindTimer) + 2*w.count(kindBroken) +
		len(w.sinks)*w.count(kindFan) + (hops+1)*w.count(kindHop)
}

// job is a task as the dispatcher takes it.
func (w *workload) job(t task, api string) dispatcher.Job {
	data := map[string]any{"i": t.i, "add": t.add, "kind": t.kind}
	script := "work"
	switch {
	case t.kind == kindHold:
		script = string(kindHold)
	case t.kind.calls():
		path := map[kind]string{kindSlow: "/slow", kindFlaky: "/flaky", kindRefuse: "/refuse"}[t.kind]
		if path == "" {
			path = "/ok"
		}
		data["kind"], data["url"], data["then"] = kindCall, api+path, "answered"
		if t.kind == kindBroken {
			data["then"] = "answer_broken"
		}
	case t.kind == kindFan:
		data["sinks"] = w.sinks
	case t.kind == kindHop:
		data["to"], data["ring"], data["left"] = w.ring[t.i%len(w.ring)], w.ring, hops
	}
	return dispatcher.Job{ID: t.id, Context: t.context, Script: script, Data: data}
}
