package sandbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/thence-dev/thence/scripting"
)

// patient are the limits of jobs that are not about time: the machine may be busy.
var patient = scripting.Limits{Time: time.Minute}

func open(t testing.TB, library *scripting.Library, o Options) *Sandbox {
	t.Helper()
	s, err := New(library, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newLibrary(t testing.TB, scripts map[string]string) *scripting.Library {
	t.Helper()
	files := fstest.MapFS{}
	for name, source := range scripts {
		files[name+".tengo"] = &fstest.MapFile{Data: []byte(source)}
	}
	l, err := scripting.NewLibrary(files)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// everything is a script that leaves all that a script can leave.
const everything = `context := import("context"); http := import("http"); flow := import("flow"); job := import("job"); part := import("part")
print("héllo", data, job.id, job.caller, job.time, part.name)
context.set("n", context.get("n", 0) + 1)
http.post("https://example.com/a?b=c", {json: {a: [1, 2.0, undefined]}, headers: {"X-Key": ["k ", secret("s")]}, then: "main", tag: {t: 1}, timeout: 5, idempotency_key: "i"})
http.get("https://example.com", {catch: "main"})
flow.dispatch({context: "other", script: "main", data: {}})
flow.dispatch({source: "print(1)"})
job.result({at: job.tag})
`

// TestSameAsEngine compares all that comes back, of scripts that succeed and of scripts that fail, with what the engine
// gives in this process.
func TestSameAsEngine(t *testing.T) {
	l := newLibrary(t, map[string]string{"main": everything, "part": `export {name: "part"}`, "broken": "import(\"context\").set(\"a\", 1)\nprint(1)\nx := {}\nx.y()"})
	s := open(t, l, Options{})
	engine := scripting.NewEngine(l)
	job := scripting.Job{ID: "j-1", Sequence: 77, Worker: "payments", Context: "cus_42", Caller: "shop", Parent: "j-0",
		Time: time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC), Data: []byte(`{"a":[1,2.5]}`), Tag: []byte(`"tag"`)}
	for _, in := range []scripting.Input{
		{Script: scripting.Script{Name: "main"}, Job: job, State: []byte(`{"n":41,"kept":true}`)},
		{Script: scripting.Script{Source: everything}, Job: job},
		{Script: scripting.Script{Name: "shown", Source: everything}, Job: job},
		{Script: scripting.Script{Source: "// nothing"}},
		{Script: scripting.Script{Name: "broken"}, Job: job},
		{Script: scripting.Script{Name: "mian"}, Job: job},
		{Script: scripting.Script{Name: "wrong", Source: "x := (1"}},
		{Script: scripting.Script{Source: "print(data)"}, Job: scripting.Job{Data: []byte(`{`)}},
		{Script: scripting.Script{Source: `import("context").get("a")`}, State: []byte(`[1]`)},
		{Script: scripting.Script{Source: `f := func(n) { return 1 / n }` + "\nf(0)"}},
		{Script: scripting.Script{Source: strings.Repeat("x", 70_000)}},
		{Script: scripting.Script{Source: "for { print(1) }"}, Limits: scripting.Limits{Allocs: 1000, Output: 100}},
		{Script: scripting.Script{Source: "http := import(\"http\"); for { http.get(\"https://x.y\") }"}, Limits: scripting.Limits{Effects: 3}},
	} {
		in.Limits.Time = patient.Time
		want, wantErr := engine.Run(t.Context(), in)
		for range 2 {
			got, err := s.Run(t.Context(), in)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%+v: outcome (-engine +sandbox)\n%s", in.Script, diff)
			}
			if diff := cmp.Diff(wantErr, err); diff != "" {
				t.Errorf("%+v: error (-engine +sandbox)\n%s", in.Script, diff)
			}
		}
	}
}

// TestManySources goes through more sources than a child keeps, at the same time.
func TestManySources(t *testing.T) {
	s := open(t, nil, Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				n := (i*100 + j) % 300
				out, err := s.Run(t.Context(), scripting.Input{Script: scripting.Script{Source: fmt.Sprintf("print(%d)", n)}, Limits: patient})
				if err != nil || out.Output != fmt.Sprintf("%d\n", n) {
					t.Errorf("%d: %v, %v", n, out, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestLargeJobs is about data that fills pipes, and data that is too large.
func TestLargeJobs(t *testing.T) {
	s := open(t, nil, Options{})
	in := scripting.Input{Script: scripting.Script{Source: `print(len(data)); import("context").set("x", data[:200000])`}, Limits: patient}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			in := in
			in.Job.Data = []byte(`"` + strings.Repeat("x", 1_000_000) + `"`)
			out, err := s.Run(t.Context(), in)
			if err != nil || out.Output != "1000000\n" || len(out.State) != 200_008 {
				t.Errorf("%.100v, %v", out, err)
			}
		})
	}
	wg.Wait()
	in.Job.Data = []byte(`"` + strings.Repeat("x", 5_000_000) + `"`)
	if _, err := s.Run(t.Context(), in); kindOf(err) != scripting.KindLimit || !strings.Contains(err.Error(), "more than the limit of 4194304") {
		t.Errorf("a job that is too large: %v", err)
	}
	in = scripting.Input{Script: scripting.Script{Source: `import("job").result(import("text").repeat("x", 4194300))`}, Limits: scripting.Limits{Result: 1 << 30, Time: patient.Time}}
	if _, err := s.Run(t.Context(), in); kindOf(err) != scripting.KindLimit || !strings.Contains(err.Error(), "outcome is too large") {
		t.Errorf("an outcome that is too large: %v", err)
	}
}

func TestContextEnds(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet()})
	ctx, cancel := context.WithCancel(t.Context())
	stop := time.AfterFunc(20*time.Millisecond, cancel)
	defer stop.Stop()
	in := scripting.Input{Script: scripting.Script{Source: "for {}"}, Limits: scripting.Limits{Time: time.Hour}}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := s.Run(ctx, in); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if _, err := s.Run(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that had ended before: %v", err)
	}
	mustPrint(t, s, "the processes are free again")
	if stats := s.Stats(); stats.Waiting != 0 || len(stats.Killed) != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestClose(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet(), Children: 2})
	failed := make(chan error, 10)
	for range cap(failed) {
		go func() {
			_, err := s.Run(context.Background(), scripting.Input{Script: scripting.Script{Source: "for {}"}, Limits: scripting.Limits{Time: time.Hour}})
			failed <- err
		}()
	}
	for s.Stats().Waiting < cap(failed)-2 {
		pause(t, time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for range cap(failed) {
		if err := <-failed; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := s.Run(t.Context(), scripting.Input{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

func TestMainIsMissing(t *testing.T) {
	mainCalled.Store(false)
	defer mainCalled.Store(true)
	if _, err := New(nil, Options{}); err == nil || !strings.Contains(err.Error(), "call it first thing in main") {
		t.Errorf("got %v", err)
	}
}

func TestQueueIsBounded(t *testing.T) {
	s := open(t, nil, Options{Queue: 4, Logger: quiet(), Children: 2})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	busy := make(chan error, 20)
	var calls atomic.Int64
	run := func(place string) {
		wg.Go(func() {
			_, err := s.Run(ctx, scripting.Input{Script: scripting.Script{Source: "for {}"}, Job: scripting.Job{Caller: fmt.Sprint(calls.Add(1)), Context: place}, Limits: scripting.Limits{Time: time.Minute}})
			if errors.Is(err, ErrBusy) {
				busy <- errors.New(place)
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", place, err)
			}
		})
	}
	for range 12 {
		run("greedy")
	}
	for range cap(busy) - 14 {
		if err := <-busy; err.Error() != "greedy" {
			t.Error(err)
		}
	}
	run("modest")
	if err := <-busy; err.Error() != "greedy" {
		t.Errorf("%v had to give way", err)
	}
	cancel()
	wg.Wait()
}

func TestRequire(t *testing.T) {
	_, err := New(nil, Options{Require: true, Memory: oneLayerOff})
	if err == nil || !strings.Contains(err.Error(), "lacks files") || !strings.Contains(err.Error(), "off: files (as the test wants it)") {
		t.Errorf("got %v", err)
	}
	s := open(t, nil, Options{Memory: oneLayerOff})
	mustPrint(t, s, "without it")
}

func TestLayers(t *testing.T) {
	t.Log(open(t, nil, Options{}).Layers())
	l := Layers{{"a", true, "x"}, {"b", true, ""}, {"c", false, "why"}}
	if got := l.String(); got != "a (x), b; off: c (why)" || fmt.Sprint(l.Missing()) != "[c]" {
		t.Errorf("%q, %v", got, l.Missing())
	}
}
