package sandbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thence-dev/thence/scripting"
)

var brief = scripting.Input{Script: scripting.Script{Source: "print(data.n)"}, Limits: patient}

// TestCallerReads: who has a job in a child alone reads the answer, and nobody reads from then on; of two that share a
// child the caller of the first reads no longer than it must.
func TestCallerReads(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet(), Children: 1})
	known(t, s, brief)
	job, err := s.newTask(brief)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.run(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if job.reads == nil || job.reads.read {
		t.Errorf("the caller read %v, and somebody reads on %v", job.reads != nil, job.reads != nil && job.reads.read)
	}
}

// TestLateInterrupt: the end of a context that comes when its caller reads no more stops neither the next caller nor
// who listens.
func TestLateInterrupt(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet(), Children: 1})
	known(t, s, brief)
	for _, n := range []int{1, 2 * inFlight} {
		s.mu.Lock()
		for _, p := range s.processes {
			if err := p.out.SetReadDeadline(longAgo); err != nil {
				t.Error(err)
			}
		}
		s.mu.Unlock()
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() { mustPrint(t, s, "not stopped") })
		}
		wg.Wait()
	}
	if stats := s.Stats(); stats.Started > 2 || stats.Repeated > 0 {
		t.Errorf("%+v: want the same two processes, and no run done again", stats)
	}
}

// TestCallersLeave has callers come and go, alone and many at a time: those that stay have their answers, the others are
// let go.
func TestCallersLeave(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet(), Children: 2})
	known(t, s, brief)
	for round := range 200 {
		var wg sync.WaitGroup
		for i := range 1 + round%7 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				leaves := i%2 == 0
				if leaves {
					time.AfterFunc(time.Duration(rand.IntN(200))*time.Microsecond, cancel)
				}
				job := in(fmt.Sprint(i), brief)
				job.Job.Data = fmt.Appendf(nil, `{"n":%d}`, i)
				out, err := s.Run(ctx, job)
				switch {
				case leaves && errors.Is(err, context.Canceled):
				case err != nil || out.Output != fmt.Sprintln(i):
					t.Errorf("job %d: %v, %v", i, out, err)
				}
			})
		}
		wg.Wait()
	}
}

// TestIdleChildDies: a child that ends while it has no jobs is noticed, and replaced.
func TestIdleChildDies(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet(), Children: 1})
	mustPrint(t, s, "before")
	for killed := map[int]bool{}; len(killed) < 4; {
		for _, pid := range s.pids() {
			if !killed[pid] {
				killed[pid] = true
				child, err := os.FindProcess(pid)
				if err != nil {
					t.Fatal(err)
				}
				_ = child.Kill()
			}
		}
		runtime.Gosched()
	}
	for start := time.Now(); s.Stats().Lost < 4; runtime.Gosched() {
		if time.Since(start) > time.Minute {
			t.Fatalf("not noticed: %+v", s.Stats())
		}
	}
	mustPrint(t, s, "after")
}

// TestLoopAfterALoneJob: the runtime goes on to interrupt what never gives way, in the child and in this process, though
// the last system calls before were made behind its back.
func TestLoopAfterALoneJob(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet(), Children: 1})
	known(t, s, brief)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const loops = 6
	for i := range loops {
		name := fmt.Sprint("loop ", i)
		loop := in(name, scripting.Input{Script: scripting.Script{Source: "if data.n { for {} } // " + name}, Limits: scripting.Limits{Time: 50 * time.Millisecond}})
		known(t, s, loop)
		for range i {
			mustPrint(t, s, "quick")
		}
		loop.Job.Data = []byte(`{"n":1}`)
		if _, err := s.Run(t.Context(), loop); kindOf(err) != scripting.KindTimeLimit {
			t.Errorf("%s: %v", name, err)
		}
		mustPrint(t, s, "quick")
		var stop atomic.Bool
		go stop.Store(true)
		start := time.Now()
		for !stop.Load() {
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("another goroutine did not run for %s", took)
		}
	}
	if killed := s.Stats().Killed[scripting.KindTimeLimit]; raceOff && killed > loops/2 { // some are, where the machine is very busy
		t.Errorf("%d of %d loops were killed, want them ended by their child", killed, loops)
	}
}
