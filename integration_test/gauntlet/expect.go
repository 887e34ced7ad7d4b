package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// state is a context's, as the scripts leave it.
type state struct {
	N        int            `json:"n"`
	Sum      int            `json:"sum"`
	Chain    int            `json:"chain"`
	Answered map[string]int `json:"answered"`
	Failed   map[string]int `json:"failed"`
	Added    map[string]int `json:"added"`
	Hops     map[string]int `json:"hops"`
	Disorder []string       `json:"disorder"` // jobs of another context that came behind a later one
}

// outcome is what a workload must come to.
type outcome struct {
	states map[string]*state
	dead   map[string][]string // by context: who is dead, see deadTask and deadAnswer
	calls  map[call]bool
}

// call is one call that a task makes.
type call struct {
	context string
	i       int
}

// A dead letter of a task is named by the task's id, one of an answer by the task that made the call.
func deadTask(id string) string               { return id }
func deadAnswer(context string, i int) string { return fmt.Sprintf("answer to %s-%d", context, i) }

// outcome works out what must be there when every task took effect once, in its context's order.
func (w *workload) outcome() outcome {
	o := outcome{states: map[string]*state{}, dead: map[string][]string{}, calls: map[call]bool{}}
	for _, name := range w.contexts {
		for _, t := range w.tasks[name] {
			o.add(w, t)
		}
	}
	return o
}

func (o *outcome) state(context string) *state {
	s := o.states[context]
	if s == nil {
		s = &state{Answered: map[string]int{}, Failed: map[string]int{}, Added: map[string]int{}, Hops: map[string]int{}}
		o.states[context] = s
	}
	return s
}

func (o *outcome) add(w *workload, t task) {
	s := o.state(t.context)
	if t.kind == kindFail || t.kind == kindHold {
		o.dead[t.context] = append(o.dead[t.context], deadTask(t.id))
		return
	}
	s.take(t)
	key := fmt.Sprint(t.i)
	switch t.kind {
	case kindCall, kindSlow, kindFlaky, kindTimer:
		s.Answered[key]++
	case kindRefuse:
		s.Failed[key]++
	case kindBroken:
		s.Failed[key]++
		o.dead[t.context] = append(o.dead[t.context], deadAnswer(t.context, t.i))
	case kindFan:
		for _, to := range w.sinks {
			o.state(to).Added[fmt.Sprintf("%s:%d", t.context, t.i)]++
		}
	case kindHop:
		to := w.ring[t.i%len(w.ring)]
		for left := hops; left >= 0; left-- {
			o.state(to).Hops[fmt.Sprintf("%s:%d:%d", t.context, t.i, left)]++
			to = w.ring[left%len(w.ring)]
		}
	}
	if t.kind.calls() {
		o.calls[call{t.context, t.i}] = true
	}
}

// take is what the script work does to count itself.
func (s *state) take(t task) {
	if s.N == 0 {
		s.Chain = 7
	}
	s.N++
	s.Sum += t.add
	s.Chain = (s.Chain*31 + t.i + 1) % 1000000007
}

// differs tells what is not as it must be; empty: nothing.
func (s *state) differs(have state) string {
	var all []string
	if have.N != s.N || have.Sum != s.Sum || have.Chain != s.Chain {
		all = append(all, fmt.Sprintf("n %d, sum %d, chain %d; want n %d, sum %d, chain %d", have.N, have.Sum, have.Chain, s.N, s.Sum, s.Chain))
	}
	for _, m := range []struct {
		name       string
		have, want map[string]int
	}{
		{"answered", have.Answered, s.Answered}, {"failed", have.Failed, s.Failed}, {"added", have.Added, s.Added}, {"hops", have.Hops, s.Hops},
	} {
		if d := countsDiffer(m.have, m.want); d != "" {
			all = append(all, m.name+": "+d)
		}
	}
	if len(have.Disorder) > 0 {
		all = append(all, fmt.Sprintf("out of order: %v", have.Disorder))
	}
	return strings.Join(all, "; ")
}

// countsDiffer names the first few keys whose counts are not the same.
func countsDiffer(have, want map[string]int) string {
	keys := maps.Clone(want)
	if keys == nil {
		keys = map[string]int{}
	}
	maps.Copy(keys, have)
	var off []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if have[k] != want[k] {
			off = append(off, fmt.Sprintf("%s %d times, want %d", k, have[k], want[k]))
		}
	}
	if len(off) > 5 {
		off = append(off[:5], fmt.Sprintf("and %d more", len(off)-5))
	}
	return strings.Join(off, ", ")
}
