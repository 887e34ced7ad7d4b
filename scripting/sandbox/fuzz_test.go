package sandbox

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thence-dev/thence/scripting"
)

const fuzzTime = 30 * time.Millisecond

// FuzzSource runs any text as a script in a child. Compiling it here too is what leads the fuzzer: it cannot see into
// the child.
func FuzzSource(f *testing.F) {
	for _, h := range corpus(f) {
		if len(h.source) < 4000 && h.class != "stuck" {
			f.Add(h.source)
		}
	}
	f.Add(everything)
	f.Add(order)
	s := open(f, nil, Options{Logger: quiet()})
	engine := scripting.NewEngine(nil)
	var runs atomic.Int64
	f.Fuzz(func(t *testing.T, source string) {
		if len(source) > 20_000 || source == "" {
			return
		}
		_ = engine.Check(scripting.Script{Source: source})
		runFuzzed(t, s, source, runs.Add(1))
	})
}

// FuzzProgram runs programs that make sense to the compiler, and mean harm, in a child.
func FuzzProgram(f *testing.F) {
	for _, seed := range []string{"", "0123456789", "abcdefghijklmnopqrstuvwxyz", strings.Repeat("\x07\x93\x21\xee", 50), strings.Repeat("loop", 30)} {
		f.Add([]byte(seed))
	}
	s := open(f, nil, Options{Logger: quiet()})
	var runs atomic.Int64
	f.Fuzz(func(t *testing.T, seed []byte) {
		if len(seed) <= 2000 {
			runFuzzed(t, s, generate(seed), runs.Add(1))
		}
	})
}

// runFuzzed runs a source, which must end by its CPU time and be answered, by an outcome or an error that says something, and must not
// end its child but by its memory or its time. Now and then it makes sure that a good job runs as ever.
func runFuzzed(t *testing.T, s *Sandbox, source string, n int64) {
	job, err := s.newTask(scripting.Input{Script: scripting.Script{Source: source}, Limits: scripting.Limits{Time: fuzzTime},
		Job: scripting.Job{ID: "f", Sequence: 1, Data: []byte(`{"a":[1,"x",{"b":null}]}`)}, State: []byte(`{"n":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.run(t.Context(), job)
	var e *scripting.Error
	switch {
	case err == nil && out == nil:
		t.Fatalf("neither outcome nor error of\n%s", source)
	case err != nil && !errors.As(err, &e):
		t.Fatalf("%v of\n%s", err, source)
	case e != nil && (e.Kind == KindCrash || e.Kind == KindStack || e.Message == ""):
		t.Fatalf("%s: %v of\n%s", e.Kind, err, source)
	}
	if job.spent > fuzzTime+grace+time.Second {
		t.Fatalf("ran for %s:\n%s", job.spent, source)
	}
	if n%100 == 0 {
		mustPrint(t, s, "as ever")
	}
}
