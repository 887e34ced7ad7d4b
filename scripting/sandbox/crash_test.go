package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/thence-dev/thence/scripting"
)

func fault(name string) scripting.Input {
	return scripting.Input{Script: scripting.Script{Name: "fault " + name, Source: "// " + name}, Job: scripting.Job{ID: name, Context: name},
		Limits: scripting.Limits{Time: 200 * time.Millisecond}}
}

func mustPrint(t *testing.T, s *Sandbox, text string) {
	t.Helper()
	out, err := s.Run(t.Context(), scripting.Input{Script: scripting.Script{Source: fmt.Sprintf("print(%q)", text)}, Limits: patient})
	if err != nil || out.Output != text+"\n" {
		t.Errorf("a good job: %v, %v", out, err)
	}
}

func kindOf(err error) scripting.ErrorKind {
	var e *scripting.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// TestFaults ends children in every way there is: each costs the job that did it, which hears why, and nobody else.
func TestFaults(t *testing.T) {
	tests := []struct {
		fault   string
		kind    scripting.ErrorKind
		message string
	}{
		{"exit", KindCrash, "exit status 7"},
		{"panic", KindCrash, "the script engine failed: out of order"},
		{"panic in a goroutine", KindCrash, "a panic in the engine"},
		{"stack", KindStack, "overran the stack of 4 MiB"},
		{"memory", KindMemory, "more memory than its limit of 64 MiB"},
		{"hang", scripting.KindTimeLimit, "longer than its time limit of 1s" + ofCPU + ", in one step"},
		{"write nonsense", KindCrash, "a frame is damaged"},
		{"write a long frame", KindCrash, "a frame is damaged"},
		{"write a bad frame", KindCrash, "a frame is damaged"},
		{"answer another", KindCrash, "a frame is damaged"},
	}
	s := open(t, nil, Options{Logger: quiet()})
	for _, tt := range tests {
		if tt.kind == KindMemory && !raceOff {
			continue // the race detector ends such a process in its own way
		}
		in := fault(tt.fault)
		in.Limits.Time *= 5 // filling memory takes a while
		_, err := s.Run(t.Context(), in)
		var e *scripting.Error
		if !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(e.Message, tt.message) {
			t.Errorf("%s: got %q %v, want %q with %q", tt.fault, kindOf(err), err, tt.kind, tt.message)
		}
		mustPrint(t, s, "after "+tt.fault)
	}
	stats := s.Stats()
	want := map[scripting.ErrorKind]uint64{KindCrash: 6, KindStack: 1, scripting.KindTimeLimit: 1}
	if raceOff {
		want[KindMemory] = 1
	}
	if fmt.Sprint(stats.Killed) != fmt.Sprint(want) {
		t.Errorf("killed %v, want %v", stats.Killed, want)
	}
}

// known makes a script known to be quick, which on a busy machine may take more than a few runs.
func known(t *testing.T, s *Sandbox, in scripting.Input) {
	t.Helper()
	in.Job.Data = []byte(`{}`)
	for start := time.Now(); !s.knows(t, in); {
		if time.Since(start) > time.Minute {
			t.Fatal("a brief script is not known to be quick after a minute")
		}
		if _, err := s.Run(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
}

// knows tells whether a script is known to be quick.
func (s *Sandbox) knows(t *testing.T, in scripting.Input) bool {
	t.Helper()
	job, err := s.newTask(in)
	if err != nil {
		t.Fatal(err)
	}
	defer job.release()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.scripts.byKey[job.key]
	return c != nil && c.quick()
}

// TestOnlyTheRunningJobIsGuilty fills the children with jobs of a script known to be quick, one of which ends its
// process: the others are all answered, by runs elsewhere.
func TestOnlyTheRunningJobIsGuilty(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet()})
	in := scripting.Input{Script: scripting.Script{Name: "faulty by data", Source: `print(data.n)`}, Limits: patient}
	known(t, s, in)
	const jobs, guilty = 200, 100
	var wg sync.WaitGroup
	for i := range jobs {
		wg.Go(func() {
			in := in
			in.Job.Data = fmt.Appendf(nil, `{"n":%d,"exit":%v}`, i, i == guilty)
			out, err := s.Run(t.Context(), in)
			switch {
			case i == guilty && kindOf(err) != KindCrash:
				t.Errorf("the guilty job: %v, %v", out, err)
			case i != guilty && (err != nil || out.Output != fmt.Sprintf("%d\n", i)):
				t.Errorf("job %d: %v, %v", i, out, err)
			}
		})
	}
	wg.Wait()
	if stats := s.Stats(); stats.Killed[KindCrash] != 1 || stats.Repeated == 0 {
		t.Errorf("%+v: want one job that is to blame, and others that ran again", stats)
	}
}

// TestJobsBehindASlowOneRunElsewhere lets a script that is known to be quick take long for one job: all others are done
// while that still runs.
func TestJobsBehindASlowOneRunElsewhere(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet(), Children: 2})
	script := scripting.Input{Script: scripting.Script{Source: "if data.slow { for {} }\nprint(data.n)"}, Limits: patient}
	known(t, s, script)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var slow, others sync.WaitGroup
	for i := range 40 {
		in := script
		in.Job.Data = fmt.Appendf(nil, `{"n":%d,"slow":%v}`, i, i == 5)
		if i == 5 {
			in.Limits.Time = 20 * time.Second
			slow.Go(func() {
				if _, err := s.Run(ctx, in); !errors.Is(err, context.Canceled) {
					t.Errorf("the slow job ended before the others: %v", err)
				}
			})
			continue
		}
		others.Go(func() {
			if out, err := s.Run(t.Context(), in); err != nil || out.Output != fmt.Sprintf("%d\n", i) {
				t.Errorf("job %d: %v, %v", i, out, err)
			}
		})
	}
	others.Wait()
	cancel()
	slow.Wait()
}

// TestKilledFromOutside runs a job again whose child somebody else has killed.
func TestKilledFromOutside(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet()})
	in := scripting.Input{Script: scripting.Script{Source: "for i := 0; i < 300000; i++ {}\nprint(1)"}, Limits: scripting.Limits{Time: 20 * time.Second}}
	done := make(chan error, 1)
	go func() {
		out, err := s.Run(context.WithoutCancel(t.Context()), in)
		if err == nil && out.Output != "1\n" {
			err = errors.New(out.Output)
		}
		done <- err
	}()
	for killed := false; !killed; {
		s.mu.Lock()
		for _, p := range s.processes {
			if len(p.jobs) > 0 && p.page.running().Load() > 0 {
				killed = p.proc.Kill() == nil
			}
		}
		s.mu.Unlock()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := s.Stats().Repeated; n != 1 {
		t.Errorf("%d jobs were repeated, want 1", n)
	}
}

// TestSignals sends children what a service manager or a terminal sends to all processes of a worker.
func TestSignals(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet()})
	mustPrint(t, s, "all are started")
	started := s.Stats().Started
	for _, pid := range s.pids() {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
			child, err := os.FindProcess(pid)
			if err == nil {
				err = child.Signal(sig)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	for i := range 10 {
		mustPrint(t, s, fmt.Sprint(i))
	}
	if now := s.Stats().Started; now > started+1 { // the last of the first may have come meanwhile
		t.Errorf("%d processes were started, %d before", now, started)
	}
}
