package sandbox

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/scripting"
)

// order is twenty lines of the kind that jobs have.
const order = `text := import("text")
items := data.items
total := 0
by_kind := {}
for item in items {
	total += item.price * item.quantity
	kind := text.to_lower(item.kind)
	if is_undefined(by_kind[kind]) {
		by_kind[kind] = 0
	}
	by_kind[kind] += item.quantity
}
largest := ""
for kind, n in by_kind {
	if largest == "" || n > by_kind[largest] {
		largest = kind
	}
}
summary := {total: total, count: len(items), largest: largest}
print(summary)
`

// orderInput is a job for it, with 2 KB of data.
func orderInput() scripting.Input {
	var items []string
	for i := range 21 {
		items = append(items, fmt.Sprintf(`{"id":"item_%04d","kind":%q,"price":%d,"quantity":%d,"note":"about item number %d"}`,
			i, []string{"Book", "Pen", "Lamp"}[i%3], 100+i, i%4+1, i))
	}
	return scripting.Input{Script: scripting.Script{Source: order},
		Limits: scripting.Limits{Time: time.Minute},
		Job:    scripting.Job{ID: "j", Sequence: 1, Data: []byte(`{"customer":"cus_42","items":[` + strings.Join(items, ",") + `]}`)}}
}

// BenchmarkSandbox compares the same job in this process and in children. The ratio of two lines of one run is what
// counts: process/32 to children/32. On a machine that does other things as well, the CPU time of a job (of this process
// and of the children together) says more than how many there were in a second.
func BenchmarkSandbox(b *testing.B) {
	s := open(b, nil, Options{})
	for _, runner := range []struct {
		name string
		scripting.Runner
	}{{"process", scripting.NewEngine(nil)}, {"children", s}} {
		for _, n := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/%d", runner.name, n), func(b *testing.B) { benchmark(b, runner, s.pids(), n) })
		}
	}
}

// benchmark keeps n jobs in flight.
func benchmark(b *testing.B, runner scripting.Runner, pids []int, n int) {
	in := orderInput()
	var wg sync.WaitGroup
	jobs := make(chan struct{}, b.N)
	for range b.N {
		jobs <- struct{}{}
	}
	close(jobs)
	b.ReportAllocs()
	b.ResetTimer()
	used := cpu(b, pids)
	for range n {
		wg.Go(func() {
			for range jobs {
				if _, err := runner.Run(b.Context(), in); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((cpu(b, pids)-used).Microseconds())/float64(b.N), "cpu-µs/job")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}

// cpu is the time that this process and its children have computed.
func cpu(b *testing.B, pids []int) (used time.Duration) {
	b.Helper()
	for _, pid := range append(pids, os.Getpid()) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			b.Fatal(err)
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))
		for _, text := range fields[12:14] { // of user and of system, in hundredths of a second
			ticks, err := strconv.Atoi(text)
			if err != nil {
				b.Fatal(err)
			}
			used += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return used
}

// BenchmarkRoundTrip runs a job in this process and in a child in turns, one at a time, and reports the median of each
// and the difference, which is what the way to the child and back adds; and the difference of the fastest tenths, which
// other work on the machine changes less.
func BenchmarkRoundTrip(b *testing.B) {
	s, engine, in := open(b, nil, Options{}), scripting.NewEngine(nil), orderInput()
	var process, child []time.Duration
	run := func(r scripting.Runner) time.Duration {
		start := time.Now()
		if _, err := r.Run(b.Context(), in); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	for b.Loop() {
		process, child = append(process, run(engine)), append(child, run(s))
	}
	slices.Sort(process)
	slices.Sort(child)
	part := func(d []time.Duration, tenths int) float64 {
		return float64(d[(len(d)-1)*tenths/10].Nanoseconds()) / 1e3
	}
	b.ReportMetric(part(process, 5), "process-µs")
	b.ReportMetric(part(child, 5), "child-µs")
	b.ReportMetric(part(child, 5)-part(process, 5), "added-µs")
	b.ReportMetric(part(child, 1)-part(process, 1), "added-p10-µs")
}

// program is started as the child by BenchmarkStart, in place of the test binary: it must have been built from the same
// source, e.g. `go build -o bin/thence ./cmd/thence`, and its path is absolute.
var program = flag.String("program", "", "the program that BenchmarkStart starts; default the test binary")

// BenchmarkStart starts children one after the other, until they are ready, and reports the median, the tenth part and
// nine tenths of the times.
func BenchmarkStart(b *testing.B) {
	if *program != "" {
		programPath = func() (string, error) { return *program, nil }
		defer func() { programPath = executable }()
	}
	frames, err := appendLibrary(nil, -1, &scripting.Library{})
	if err != nil {
		b.Fatal(err)
	}
	var s spawner
	s.begin()
	defer s.end()
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		p, err := s.start(LeastMemory, frames)
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
		p.in.Close() // it ends by itself
		_, _ = p.proc.Wait()
		p.close()
	}
	slices.Sort(took)
	part := func(tenths int) float64 { return float64(took[(len(took)-1)*tenths/10].Nanoseconds()) / 1e6 }
	b.ReportMetric(part(1), "p10-ms")
	b.ReportMetric(part(5), "p50-ms")
	b.ReportMetric(part(9), "p90-ms")
}
