package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/thence-dev/thence/scripting"
)

// seize waits until a child runs a job of a context, and calls f with the child, which stays the parent's meanwhile.
func seize(t *testing.T, s *Sandbox, context string, f func(p *process)) {
	t.Helper()
	for {
		s.mu.Lock()
		for _, p := range s.processes {
			for _, job := range p.jobs {
				if job.in.Job.Context == context && p.page.running().Load() == job.number {
					f(p)
					s.mu.Unlock()
					return
				}
			}
		}
		s.mu.Unlock()
		pause(t, time.Millisecond)
	}
}

func send(t *testing.T, p *process, sig os.Signal) {
	t.Helper()
	if err := p.proc.Signal(sig); err != nil {
		t.Error(err)
	}
}

// begin runs a script in the background.
func (s *Sandbox) begin(t *testing.T, in scripting.Input) (result func() (*scripting.Outcome, error)) {
	var out *scripting.Outcome
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		out, err = s.Run(context.WithoutCancel(t.Context()), in)
	}()
	return func() (*scripting.Outcome, error) {
		<-done
		return out, err
	}
}

// TestStandingStillIsNoFault stops a child for longer than the time limit of its script, which computes for less: once
// the child goes on the script succeeds, and if it does not go on, in another child.
func TestStandingStillIsNoFault(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("time is counted by the clock here")
	}
	s := open(t, nil, Options{Logger: quiet()})
	limits := scripting.Limits{Time: 500 * time.Millisecond}
	if !raceOff {
		limits.Time *= 4
	}
	innocent := fault("work")
	innocent.Script.Source, innocent.Limits = `print("done")`, limits
	for _, goesOn := range []bool{true, false} {
		name := fmt.Sprint("stopped ", goesOn)
		result := s.begin(t, in(name, innocent))
		var child *process
		seize(t, s, name, func(p *process) { child = p; send(t, p, syscall.SIGSTOP) })
		if goesOn {
			pause(t, limits.Time+2*grace)
			send(t, child, syscall.SIGCONT)
		}
		if out, err := result(); err != nil || out.Output != "done\n" {
			t.Errorf("goes on %v: %v, %v", goesOn, out, err)
		}
	}
	if stats := s.Stats(); len(stats.Killed) != 0 || stats.Lost != 1 || stats.Repeated < 1 {
		t.Errorf("%+v: want one process that is lost, and nobody blamed", stats)
	}
}

// TestBusyLoopsEndByTheirCPUTime: none computes for much longer than its limit, in the script or in one step, however
// little of the machine it gets.
func TestBusyLoopsEndByTheirCPUTime(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("time is counted by the clock here")
	}
	s := open(t, nil, Options{Logger: quiet()})
	limit := 200 * time.Millisecond
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			what := in(fmt.Sprint("loop ", i), scripting.Input{Script: scripting.Script{Source: fmt.Sprintf("for {} // %d", i)}})
			if i%2 == 0 {
				what = in(fmt.Sprint("hang ", i), fault("hang"))
				what.Script.Source += fmt.Sprint(" ", i)
			}
			what.Limits.Time = limit
			job, err := s.newTask(what)
			if err != nil {
				t.Error(err)
				return
			}
			_, err = s.run(t.Context(), job)
			if kindOf(err) != scripting.KindTimeLimit || !strings.Contains(err.Error(), "limit of 200ms of CPU time") {
				t.Errorf("%d: %v", i, err)
			}
			if job.spent < limit || raceOff && job.spent > limit+grace+time.Second {
				t.Errorf("%d: ended after %s of CPU time", i, job.spent)
			}
		})
	}
	wg.Wait()
	if killed := s.Stats().Killed; raceOff && killed[scripting.KindTimeLimit] != 4 || len(killed) != 1 {
		t.Errorf("killed %v, want those 4 that can't be interrupted", killed)
	}
}

// TestDeadlock has a script wait for what never comes, in a child that is well otherwise: that is its own fault.
func TestDeadlock(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet()})
	_, err := s.Run(t.Context(), in("c", fault("deadlock")))
	if kindOf(err) != scripting.KindTimeLimit && !errors.Is(err, ErrInterrupted) { // the latter on a machine that is too busy to tell the two apart
		t.Errorf("got %v", err)
	}
	t.Log(err)
}

// TestOthersFaultIsNotFinal kills the children of a job again and again: after two it runs alone, after four it is handed
// back, with an error that is no script's, and the script is not struck.
func TestOthersFaultIsNotFinal(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet()})
	innocent := fault("work")
	innocent.Script.Source, innocent.Limits = `print("done")`, patient
	result := s.begin(t, in("killed", innocent))
	for i := range mostDeaths {
		seize(t, s, "killed", func(p *process) {
			if solo := p.jobs[0].solo; solo != (i >= soloAfter) {
				t.Errorf("after %d deaths it is to run alone: %v", i, solo)
			}
			if err := p.proc.Kill(); err != nil {
				t.Error(err)
			}
			p.jobs[0].number = 0 // not to be seized twice
		})
	}
	_, err := result()
	if !errors.Is(err, ErrInterrupted) || kindOf(err) != "" || !strings.Contains(err.Error(), "4 times, at last: killed from outside") {
		t.Errorf("got %v", err)
	}
	if stats := s.Stats(); len(stats.Killed) != 0 || stats.Lost != mostDeaths || len(s.docket) != 0 {
		t.Errorf("%+v, struck: %v", stats, s.docket)
	}
	if out, err := s.Run(t.Context(), in("killed", innocent)); err != nil || out.Output != "done\n" {
		t.Errorf("run again: %v, %v", out, err)
	}
}

// TestErrorsShowNoTextOfOthers has children die with a text of another job's in their pipes and on their lips.
func TestErrorsShowNoTextOfOthers(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet()})
	for _, name := range []string{"cut off", "canary in a panic", "canary in a frame"} {
		_, err := s.Run(t.Context(), in(name, fault(name)))
		if kindOf(err) != KindCrash || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNeighboursTextStaysTheirs has jobs of one child print a word and one of them end the child: no error has the word.
func TestNeighboursTextStaysTheirs(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet()})
	what := scripting.Input{Script: scripting.Script{Name: "faulty by data", Source: `print("panic: " + string(data.n) + "\nfatal error: " + string(data.n))`}, Limits: patient}
	known(t, s, what)
	word := strings.Repeat(canary, 2000)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			what := in(fmt.Sprint(i), what)
			what.Job.Data = fmt.Appendf(nil, `{"n":%q}`, word)
			if i == 31 {
				what.Job.Data = []byte(`{"exit":true}`)
			}
			switch out, err := s.Run(t.Context(), what); {
			case i == 31 && (kindOf(err) != KindCrash || strings.Contains(err.Error(), canary)):
				t.Errorf("the one that ends its process: %v", err)
			case i != 31 && (err != nil || strings.Count(out.Output, word) != 2):
				t.Errorf("a neighbour: %v", err)
			}
		})
	}
	wg.Wait()
}

// TestWhatAJobLeavesIsNotTheNextOnes has one child run scripts that take all memory at once, and behind each a loop that
// takes none: it is stopped for its time.
func TestWhatAJobLeavesIsNotTheNextOnes(t *testing.T) {
	s := open(t, nil, Options{Children: 1, Logger: quiet()})
	if !raceOff {
		t.Skip("the race detector takes memory of its own")
	}
	for i := range 8 {
		job := scripting.Job{Context: fmt.Sprint(i)}
		greedy := fmt.Sprintf("a := [%d]\nfor { a = append(a, bytes(60000)) }", i) // new each time, as it may end its process too
		_, err := s.Run(t.Context(), scripting.Input{Job: job, Script: scripting.Script{Source: greedy}})
		if kindOf(err) != KindMemory {
			t.Fatalf("the greedy script: %v", err)
		}
		_, err = s.Run(t.Context(), scripting.Input{Job: job, Script: scripting.Script{Source: "for {}"}, Limits: scripting.Limits{Time: 100 * time.Millisecond}})
		if kindOf(err) != scripting.KindTimeLimit {
			t.Fatalf("the loop behind it: %v", err)
		}
	}
}
