package sandbox

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/scripting"
)

var corpusRounds = flag.Int("corpus", 1, "how many times the hostile scripts run beside good jobs")

// hostile is a script that hurts, and how its job must end: "fail", "ok", or "any" of the two.
type hostile struct{ name, class, want, source string }

var hostileHead = regexp.MustCompile(`^// .* \| class: (\w+) \| want: (fail|ok|any)\n`)

func corpus(t testing.TB) []hostile {
	t.Helper()
	files, err := filepath.Glob("testdata/hostile/*.tengo")
	if err != nil || len(files) == 0 {
		t.Fatal("no hostile scripts", err)
	}
	var all []hostile
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head := hostileHead.FindSubmatch(source)
		if head == nil {
			t.Fatalf("%s: the first line does not say what it does, its class and what is wanted", file)
		}
		all = append(all, hostile{strings.TrimSuffix(filepath.Base(file), ".tengo"), string(head[1]), string(head[2]), string(source)})
	}
	return append(all, longSources()...)
}

// longSources are sources that hurt by their length: as long as a source may be, unless they say otherwise.
func longSources() []hostile {
	const size = 63 << 10
	fill := func(start, part, end string) string {
		return start + strings.Repeat(part, (size-len(start)-len(end))/len(part)) + end
	}
	list := func(n int, line string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, line, i)
		}
		return b.String()
	}
	return []hostile{
		{"source_parens", "source", "fail", fill("x := ", "(", "1")},
		{"source_parens_600k", "source", "fail", strings.Repeat("(", 600_000)},
		{"source_brackets", "source", "fail", fill("x := ", "[", "1")},
		{"source_braces", "source", "fail", fill("x := ", "{a:", "1")},
		{"source_functions", "source", "fail", fill("x := ", "func(){", "1")},
		{"source_blocks", "source", "fail", fill("", "if 1{", "")},
		{"source_minus", "source", "fail", fill("x := ", "-", "1")},
		{"source_not", "source", "fail", fill("x := ", "! ", "1")},
		{"source_else", "source", "any", fill("x := 1\nif x == 0 {}", " else if x == 1 {}", "")},
		{"source_ternary", "source", "any", fill("x := ", "1 ? 2 : ", "3")},
		{"source_ternary_middle", "source", "any", fill("x := ", "1 ? ", "3") + strings.Repeat(" : 1", 100)},
		{"source_sum", "source", "any", fill("x := 1", "+1", "")},
		{"source_members", "source", "any", fill("x := {}\ny := x", ".a", "")},
		{"source_calls", "source", "any", fill("f := func() {}\nf", "()", "")},
		{"source_indices", "source", "any", fill("x := []\ny := x", "[0]", "")},
		{"source_comments", "source", "any", fill("", "//\n", "")},
		{"source_comments_block", "source", "any", fill("", "/**/", "")},
		{"source_semicolons", "source", "any", fill("", ";", "")},
		{"source_assign_chain", "source", "any", fill("a := 1\n", "a = ", "1")},
		{"source_define_chain", "source", "any", fill("", "a := ", "1")},
		{"source_commas", "source", "any", fill("a", ", a", " := 1")},
		{"source_zero_bytes", "source", "fail", fill("", "\x00", "")},
		{"source_bad_utf8", "source", "fail", fill("x := \"", "\xff", "\"")},
		{"source_byte_orders", "source", "any", fill("", "\ufeff", "")},
		{"source_name", "source", "any", fill("", "a", " := 1")},
		{"source_number", "source", "any", fill("x := ", "9", "")},
		{"source_string_open", "source", "fail", fill("x := \"", "a", "")},
		{"source_raw_open", "source", "fail", fill("x := `", "\n", "")},
		{"source_imports", "source", "any", fill("", "import(\"math\");", "")},
		{"source_unknown_imports", "source", "fail", list(1000, "m%[1]d := import(\"m%[1]d\")\n")},
		{"source_globals", "source", "fail", list(1100, "g%d := 1\n")},
		{"source_locals", "source", "fail", "f := func() {\n" + list(300, "v%d := 1\n") + "}"},
		{"source_parameters", "source", "fail", "f := func(a" + list(300, ", p%d") + ") {}"},
		{"source_arguments", "source", "fail", "f := func(...x) {}\nf(1" + strings.Repeat(", 1", 300) + ")"},
		{"source_constants", "source", "any", "x := [" + list(9000, "%d.5,") + "1]"},
		{"source_elements", "source", "any", fill("x := [", "1,", "1]")},
		{"source_closures", "source", "any", list(100, "f%d := func() { ") + strings.Repeat("}", 100)},
		{"source_shadowing", "source", "any", fill("", "x := 1;{", "") + strings.Repeat("}", 100)},
		{"source_errors", "source", "fail", fill("", "$\n", "")},
		{"deep_else", "deep", "ok", "x := 1; if x {}" + strings.Repeat(" else if x {}", 490)},
		{"deep_ternary", "deep", "ok", "x := " + strings.Repeat("1 ? 2 : ", 490) + "3"},
		{"deep_blocks", "deep", "ok", strings.Repeat("if 1 {", 98) + strings.Repeat("}", 98)},
		{"deep_functions", "deep", "ok", "x := " + strings.Repeat("func() { return ", 98) + "1" + strings.Repeat("}", 98)},
		{"deep_arrays", "deep", "ok", "x := " + strings.Repeat("[", 98) + strings.Repeat("]", 98)},
		{"deep_maps", "deep", "ok", "x := " + strings.Repeat("{a:", 98) + "1" + strings.Repeat("}", 98)},
		{"deep_sum", "deep", "ok", "x := 1" + strings.Repeat("+1", 490)},
		{"deep_minus", "deep", "ok", "x := " + strings.Repeat("- ", 98) + "1"},
		{"deep_mixture", "deep", "ok", "x := " + strings.Repeat("[{a: (func() { return -", 24) + "1" + strings.Repeat("})}]", 24)},
		{"deep_comments", "deep", "ok", strings.Repeat("//\n", 4999)},
		{"source_1m", "source", "fail", strings.Repeat("x := 1\n", 150_000)},
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestCorpus runs all hostile scripts, each in a context of its own, one after the other, beside good jobs that must all
// succeed. Each must end by its hard deadline, counted from when it began to run, in CPU time where that is known. Run
// with -corpus=10 for the longer form, and -v for the table.
func TestCorpus(t *testing.T) {
	scripts := corpus(t)
	s := open(t, nil, Options{Logger: quiet()})
	good := startGood(t, s)
	before, peak := measure(), &peak{}
	verdicts := map[string]map[string]int{}
	var longest, answered, waited time.Duration
	for round := range *corpusRounds {
		for _, h := range scripts {
			limit := 300 * time.Millisecond
			if !raceOff && h.want != "fail" {
				limit = 2 * time.Second
			}
			in := scripting.Input{Script: scripting.Script{Name: h.name, Source: h.source},
				Job: scripting.Job{ID: h.name, Worker: "p", Context: fmt.Sprintf("%s-%d", h.name, round)}, Limits: scripting.Limits{Time: limit}}
			most := limit + grace + 250*time.Millisecond // its hard deadline, and until the parent looks
			job, err := s.newTask(in)
			if err != nil {
				count(verdicts, h.class, verdictOf(t, h, nil, err))
				continue
			}
			start := time.Now()
			out, err := s.run(t.Context(), job)
			took := time.Since(start)
			longest, answered, waited = max(longest, job.spent), max(answered, took-job.waited), max(waited, job.waited)
			count(verdicts, h.class, verdictOf(t, h, out, err))
			t.Logf("%-24s %-8s %-4s %8s %.150v", h.name, h.class, h.want, took.Round(time.Millisecond), err)
			if raceOff && job.spent > most {
				t.Errorf("%s: ran for %s, more than %s", h.name, job.spent, most)
			}
			peak.look()
		}
	}
	latencies := good.stop()
	p := func(q float64) time.Duration { return latencies[int(q*float64(len(latencies)-1))] }
	if after := measure(); after.goroutines > before.goroutines || after.heap > before.heap+8<<20 || peak.heap > before.heap+64<<20 {
		t.Errorf("before %+v, after %+v, at most %+v", before, after, peak)
	}
	for class, kinds := range verdicts {
		t.Logf("%-8s %v", class, kinds)
	}
	t.Logf("%d hostile jobs: at most %s of CPU time, answered %s after their turn, turns after %s; %d good jobs, p50 %s, p99 %s, the longest %s; %+v; worker's heap %d KiB before, %d at most",
		*corpusRounds*len(scripts), longest, answered, waited, len(latencies), p(.5), p(.99), p(1), s.Stats(), before.heap>>10, peak.heap>>10)
}

func count(verdicts map[string]map[string]int, class, how string) {
	if verdicts[class] == nil {
		verdicts[class] = map[string]int{}
	}
	verdicts[class][how]++
}

// verdictOf checks how a hostile script ended, and names that in a word.
func verdictOf(t *testing.T, h hostile, out *scripting.Outcome, err error) string {
	t.Helper()
	var e *scripting.Error
	switch {
	case err == nil && out == nil:
		t.Errorf("%s: neither outcome nor error", h.name)
	case err == nil && h.want == "fail":
		t.Errorf("%s: succeeded", h.name)
	case err != nil && !errors.As(err, &e):
		t.Errorf("%s: %v", h.name, err)
	case err != nil && h.want == "ok":
		t.Errorf("%s: %v", h.name, err)
	case e != nil && (e.Message == "" || e.Script == "" || strings.ContainsAny(e.Message, "\n\x00")):
		t.Errorf("%s: an error that says nothing, or says it badly: %q", h.name, e.Message)
	}
	if e != nil {
		return string(e.Kind)
	}
	return "ok"
}

type measured struct {
	goroutines int
	heap       uint64
}

func measure() measured {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return measured{runtime.NumGoroutine(), m.HeapAlloc}
}

// peak is the most that the heap of this process has been seen to hold.
type peak struct{ heap uint64 }

func (p *peak) look() { p.heap = max(p.heap, heapObjects()) }

// goodJobs are callers that run one good job after the other until they are stopped.
type goodJobs struct {
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	mu        sync.Mutex
	latencies []time.Duration
}

func startGood(t *testing.T, s *Sandbox) *goodJobs {
	ctx, cancel := context.WithCancel(t.Context())
	g := &goodJobs{cancel: cancel}
	for i := range 4 {
		g.wg.Go(func() {
			in := orderInput()
			in.Job.Worker, in.Job.Context = "p", fmt.Sprintf("good-%d", i)
			for ctx.Err() == nil {
				start := time.Now()
				out, err := s.Run(t.Context(), in)
				if err != nil || !strings.Contains(out.Output, "largest") {
					t.Errorf("a good job failed: %v, %v", out, err)
				}
				took := time.Since(start)
				g.mu.Lock()
				g.latencies = append(g.latencies, took)
				g.mu.Unlock()
				pause(t, 2*time.Millisecond)
			}
		})
	}
	return g
}

// pause lets time go by between the jobs of a stream.
func pause(t *testing.T, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// stop ends the stream, and returns how long its jobs took, sorted.
func (g *goodJobs) stop() []time.Duration {
	g.cancel()
	g.wg.Wait()
	slices.Sort(g.latencies)
	return g.latencies
}
