package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// shown is all that a check looks at.
type shown struct {
	records *records
	want    outcome
	acked   map[string]uint64
	tries   tries
}

// ideal is what a workload shows when all went well, as far as the checks look: the contexts of callers with a commit a
// job, the others with their last.
func ideal(t *testing.T, w *workload) shown {
	t.Helper()
	s := shown{want: w.outcome(), acked: map[string]uint64{}, records: &records{contexts: map[string][]entry{}, dead: map[string][]job.DeadLetter{}}}
	at, sequence := time.Now(), uint64(1e15)
	commit := func(name string, r job.Report, calls map[string]job.OpenCall) {
		sequence++
		r.Sequence, r.Outcome = sequence, job.OutcomeDone
		state, err := json.Marshal(s.want.states[name])
		if err != nil {
			t.Fatal(err)
		}
		s.records.contexts[name] = append(s.records.contexts[name], entry{sequence, at.Add(time.Duration(sequence-1e15) * time.Millisecond), job.Commit{
			Version: job.Version, State: state, Applied: sequence, Attempt: fmt.Sprint(sequence), Report: r, Calls: calls,
		}})
	}
	for _, name := range w.contexts {
		for _, task := range w.tasks[name] {
			commit(name, job.Report{Job: task.id}, nil)
			s.acked[task.id] = sequence
			if !task.kind.calls() {
				continue
			}
			id := job.EffectID(sequence, 0)
			s.tries.asked = append(s.tries.asked, request{Key: "key of " + task.id, Context: name, I: task.i, Status: 200})
			s.tries.sent = append(s.tries.sent, send{Time: at, Looked: at, Context: name, Call: id})
			commit(name, job.Report{Job: "answer-" + id, Call: id}, nil)
		}
		for _, who := range s.want.dead[name] {
			s.records.dead[name] = append(s.records.dead[name], letterOf(t, who))
		}
	}
	for name := range maps.Keys(s.want.states) {
		if s.records.contexts[name] == nil {
			commit(name, job.Report{Job: "an effect"}, nil)
		}
	}
	return s
}

// letterOf is the dead letter that an outcome names so.
func letterOf(t *testing.T, who string) job.DeadLetter {
	t.Helper()
	var context string
	var i int
	if rest, ok := strings.CutPrefix(who, "answer to "); ok {
		at := strings.LastIndex(rest, "-")
		context = rest[:at]
		if _, err := fmt.Sscan(rest[at+1:], &i); err != nil {
			t.Fatal(err)
		}
		return job.DeadLetter{Job: "answer", Context: "p." + context, Call: &job.OpenCall{Tag: fmt.Appendf(nil, `{"i":%d}`, i)}}
	}
	return job.DeadLetter{Job: who}
}

func small() *workload {
	return plan(source(1, "a test"), size{contexts: 4, jobs: 12, mix: everything})
}

// change changes the state of a context's last commit.
func change(t *testing.T, s shown, name string, do func(*state)) {
	t.Helper()
	all := s.records.contexts[name]
	last := &all[len(all)-1].commit
	var have state
	if err := json.Unmarshal(last.State, &have); err != nil {
		t.Fatal(err)
	}
	do(&have)
	text, err := json.Marshal(have)
	if err != nil {
		t.Fatal(err)
	}
	last.State = text
}

// TestCheckHolds: what went well breaks nothing.
func TestCheckHolds(t *testing.T) {
	s := ideal(t, small())
	if broken, _ := check(s.records, s.want, s.acked, s.tries); len(broken) > 0 {
		t.Errorf("got %q", broken)
	}
}

// TestCheckBites: each way to break the promise is found.
func TestCheckBites(t *testing.T) {
	const c = "ctx_0"
	for name, test := range map[string]struct {
		hurt func(t *testing.T, s *shown)
		want string
	}{
		"a job is lost":              {func(t *testing.T, s *shown) { change(t, *s, c, func(h *state) { h.N-- }) }, "ctx_0: n "},
		"jobs out of order":          {func(t *testing.T, s *shown) { change(t, *s, c, func(h *state) { h.Chain++ }) }, "chain"},
		"an answer is taken twice":   {func(t *testing.T, s *shown) { change(t, *s, c, twice((*state).answered)) }, "2 times, want 1"},
		"an answer is lost":          {func(t *testing.T, s *shown) { change(t, *s, c, lost((*state).answered)) }, "0 times, want 1"},
		"an effect is taken twice":   {func(t *testing.T, s *shown) { change(t, *s, "sink_0", twice((*state).added)) }, "2 times, want 1"},
		"an effect of nobody":        {func(t *testing.T, s *shown) { change(t, *s, "sink_0", func(h *state) { h.Added["x:1"] = 1 }) }, "want 0"},
		"effects out of order":       {func(t *testing.T, s *shown) { change(t, *s, "sink_1", func(h *state) { h.Disorder = []string{"x"} }) }, "out of order"},
		"a context is gone":          {func(_ *testing.T, s *shown) { delete(s.records.contexts, c) }, "no commit"},
		"a context of nobody":        {func(_ *testing.T, s *shown) { s.records.contexts["x"] = s.records.contexts[c] }, "nobody published"},
		"an accepted job has no end": {func(_ *testing.T, s *shown) { s.acked[c+"-99"] = 1 }, "has no end"},
		"a job is done twice":        {func(_ *testing.T, s *shown) { again(s, c) }, "took effect twice"},
		"the past comes again":       {func(_ *testing.T, s *shown) { s.records.contexts[c][3].commit.Report.Sequence = 1 }, "came after"},
		"a call stays open": {func(_ *testing.T, s *shown) {
			all := s.records.contexts[c]
			all[len(all)-1].commit.Calls = map[string]job.OpenCall{"1-0": {}}
		}, "open calls"},
		"a dead letter is missing":   {func(_ *testing.T, s *shown) { clear(s.records.dead) }, "0 dead letters of"},
		"a dead letter too many":     {func(_ *testing.T, s *shown) { s.records.dead[c] = append(s.records.dead[c], job.DeadLetter{Job: "x"}) }, "nobody expects"},
		"a job is left":              {func(_ *testing.T, s *shown) { leave(s, c, 1) }, "left on the stream"},
		"a call was never sent":      {func(_ *testing.T, s *shown) { s.tries.asked = s.tries.asked[1:] }, "never sent"},
		"a call that nobody made":    {func(_ *testing.T, s *shown) { s.tries.asked[0].I = 99 }, "no job asked"},
		"two keys of a call":         {func(_ *testing.T, s *shown) { s.tries.asked = append(s.tries.asked, rekeyed(s.tries.asked[0])) }, "two keys"},
		"two calls under a key":      {func(_ *testing.T, s *shown) { s.tries.asked[1].Key = s.tries.asked[0].Key }, "is that of two calls"},
		"a try that could know that": {func(_ *testing.T, s *shown) { s.tries.sent[0] = late(s.tries.sent[0]) }, "after its answer was recorded"},
	} {
		t.Run(name, func(t *testing.T) {
			s := ideal(t, small())
			test.hurt(t, &s)
			broken, _ := check(s.records, s.want, s.acked, s.tries)
			if !strings.Contains(strings.Join(broken, "\n"), test.want) {
				t.Errorf("got %q, want something with %q", broken, test.want)
			}
		})
	}
}

func (s *state) answered() map[string]int { return s.Answered }
func (s *state) added() map[string]int    { return s.Added }

func twice(of func(*state) map[string]int) func(*state) {
	return func(h *state) {
		for k := range of(h) {
			of(h)[k]++
			return
		}
	}
}

func lost(of func(*state) map[string]int) func(*state) {
	return func(h *state) {
		for k := range of(h) {
			delete(of(h), k)
			return
		}
	}
}

// again makes a context's last commit end its first job once more.
func again(s *shown, name string) {
	all := s.records.contexts[name]
	all[len(all)-1].commit.Report.Job = all[0].commit.Report.Job
}

// leave leaves a job on the stream, so far behind what the context has applied.
func leave(s *shown, name string, behind uint64) {
	last, _ := s.records.last(name)
	s.records.left = append(s.records.left, &jetstream.RawStreamMsg{Subject: "p." + name, Sequence: last.Applied + behind})
}

func rekeyed(r request) request { r.Key = "another"; return r }

func late(s send) send {
	s.Time = s.Time.Add(time.Minute)
	s.Looked = s.Time
	return s
}

// TestCheckCounts: what is in nobody's way is counted, and no violation.
func TestCheckCounts(t *testing.T) {
	s := ideal(t, small())
	last, _ := s.records.last("ctx_0")
	s.records.left = append(s.records.left, &jetstream.RawStreamMsg{Subject: "p.ctx_0", Sequence: last.Applied})
	s.tries.sent[0].Time = s.tries.sent[0].Time.Add(time.Minute) // looked before, sent after
	broken, got := check(s.records, s.want, s.acked, s.tries)
	if len(broken) > 0 {
		t.Errorf("got %q", broken)
	}
	for _, name := range []string{"jobs acked and not removed by the server", "repeats under the same key: looked before the answer was recorded, sent after"} {
		if got[name] != 1 {
			t.Errorf("%s: %d, want 1; all: %v", name, got[name], got)
		}
	}
}

// TestPlan: a seed and a scale always give the same plan, and another seed another one.
func TestPlan(t *testing.T) {
	text := func(seed uint64) string {
		trials, err := options{seed: seed, scale: scaleFull}.plan()
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		printPlan(&b, trials)
		fmt.Fprintf(&b, "%+v", *plan(source(seed, "a workload"), size{contexts: 5, jobs: 5, mix: everything, repeats: 20}))
		return b.String()
	}
	if once := text(1); once != text(1) {
		t.Error("the same seed gives two plans")
	}
	if text(1) == text(2) {
		t.Error("two seeds give the same plan")
	}
}

// TestOptions: what can't be run is refused before anything is started.
func TestOptions(t *testing.T) {
	for _, args := range [][]string{{"-scale", "huge"}, {"-faults", "rain"}, {"extra"}, {"-faults", "rain/1", "-list"}} {
		var out strings.Builder
		if code := run(t.Context(), args, &out, &out); code != 2 {
			t.Errorf("%q: exit code %d, want 2: %s", args, code, out.String())
		}
	}
}
