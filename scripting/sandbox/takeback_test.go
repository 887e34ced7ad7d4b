package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

// fullChild is a child, of a sandbox that has no other, whose first job runs and is first seen now, with others behind.
func fullChild(t *testing.T, jobs int) (*Sandbox, *process, []*task) {
	t.Helper()
	s := &Sandbox{}
	p := &process{proc: &os.Process{Pid: nobody}, page: newTestPage(t)}
	for range jobs {
		job, err := s.newTask(fault("work"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(job.release)
		job.conduct = s.conductOf(job)
		p.last++
		job.number, p.size = p.last, p.size+job.size
		p.jobs = append(p.jobs, job)
	}
	s.processes = []*process{p}
	p.page.running().Store(1)
	p.look(time.Now(), 0)
	return s, p, slices.Clone(p.jobs)
}

// TestNeighboursOfAnAbandonedJob: when the first look at a job comes so late that its caller has left long ago, those
// behind it are taken out of the child before that is killed, and no death is counted against them.
func TestNeighboursOfAnAbandonedJob(t *testing.T) {
	s, p, jobs := fullChild(t, 3)
	jobs[0].left = true
	late := p.run.since.Add(2 * abandonedTime)
	if s.checkProcess(p, late, checkEvery); p.killed != nil || len(p.jobs) != 1 {
		t.Fatalf("at the first look: killed %v, with %d jobs", p.killed, len(p.jobs))
	}
	if s.checkProcess(p, late.Add(checkEvery), checkEvery); p.killed == nil || p.killed.kind != abandoned {
		t.Fatalf("at the second look: killed %v, want it abandoned", p.killed)
	}
	for i, job := range jobs[1:] {
		if job.line == nil || job.deaths != 0 || job.solo {
			t.Errorf("neighbour %d: waits %v, after %d deaths, alone from now on %v", i, job.line != nil, job.deaths, job.solo)
		}
	}
}

// TestTakenBackAfterClose: what a closed sandbox takes back from a child that is not buried yet is answered.
func TestTakenBackAfterClose(t *testing.T) {
	s, p, jobs := fullChild(t, 3)
	s.closed = true
	s.checkProcess(p, p.run.since.Add(2*shortRun), checkEvery)
	for i, job := range jobs[1:] {
		if !job.over || !errors.Is(job.err, ErrClosed) || job.line != nil {
			t.Errorf("job %d: over %v, %v, waits %v", i, job.over, job.err, job.line != nil)
		}
	}
	s, p, _ = fullChild(t, 3)
	s.closed = true
	p.run.since = p.run.since.Add(-2 * shortRun)
	if s.check(); len(p.jobs) != 3 || s.watching {
		t.Errorf("a closed sandbox looks at its children: %d jobs are left, it looks again %v", len(p.jobs), s.watching)
	}
}

// TestCloseTakesBack closes a sandbox whose child has others behind a slow job, and looks at the child before that is
// buried: everybody is answered.
func TestCloseTakesBack(t *testing.T) {
	for range 8 { // the child may be buried first
		closeFullChild(t)
	}
}

func closeFullChild(t *testing.T) {
	t.Helper()
	const behind = 5
	s := open(t, nil, Options{Logger: quiet(), Children: 1})
	script := scripting.Input{Script: scripting.Script{Source: "if data.slow { for {} }\nprint(data.n)"}, Limits: patient}
	known(t, s, script)
	done := make(chan error, behind+1)
	run := func(context, data string) {
		what := in(context, script)
		what.Job.Data = []byte(data)
		_, err := s.Run(t.Context(), what)
		done <- err
	}
	go run("slow", `{"slow":true}`)
	var child *process
	seize(t, s, "slow", func(p *process) {
		child, p.run.since = p, time.Now().Add(time.Hour) // nothing is taken back yet
		p.alone = false                                   // as it is on a busy machine, where it has been slow for some time by now
	})
	for i := range behind {
		go run("brief", fmt.Sprintf(`{"n":%d}`, i))
	}
	for full := false; !full; {
		s.mu.Lock()
		if full = len(child.jobs) == behind+1; full {
			child.run.since = time.Now().Add(-2 * shortRun)
		}
		s.mu.Unlock()
	}
	go func() {
		<-s.quit // in Close, which has the lock
		s.check()
	}()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for range behind + 1 {
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("a job is never answered after Close: %+v", s.Stats())
		}
	}
}

// TestLongStepIsLong: of a job that is alone in its child, what the parent saw of its CPU time counts where that is more
// than the child says; beside others it may be theirs.
func TestLongStepIsLong(t *testing.T) {
	for _, alone := range []bool{true, false} {
		s, p, jobs := fullChild(t, 1)
		job, conduct := jobs[0], jobs[0].conduct
		conduct.short, conduct.users = shortRuns, 2
		p.alone, p.run.spent = alone, time.Second
		if err := s.answered(p, &wire.Done{Number: 1, Took: time.Millisecond, Outcome: &scripting.Outcome{}}); err != nil {
			t.Fatal(err)
		}
		if slow := !conduct.quick(); slow != alone || (job.spent == time.Second) != alone {
			t.Errorf("alone %v: slow %v, after %s", alone, slow, job.spent)
		}
	}
}
