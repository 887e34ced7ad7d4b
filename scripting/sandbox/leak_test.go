package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/thence-dev/thence/scripting"
)

// TestNothingIsLeft opens, uses, hurts and closes sandboxes: no goroutine, descriptor, mapping or process stays.
func TestNothingIsLeft(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
	startPoller(t)
	running := goleak.IgnoreCurrent()
	files, pages := holdings(t)
	for range 3 {
		s, err := New(nil, Options{Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"exit", "stack", "hang"} {
			_, _ = s.Run(t.Context(), fault(name))
		}
		mustPrint(t, s, "still there")
		pids := s.pids()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for _, pid := range pids {
			if alive(pid) {
				t.Errorf("process %d is left", pid)
			}
		}
	}
	if err := goleak.Find(running); err != nil {
		t.Error(err)
	}
	if f, p := holdings(t); f > files || p > pages {
		t.Errorf("left: %d descriptors, %d pages; before: %d, %d", f, p, files, pages)
	}
}

// TestFailedStartLeavesNothing: a child that cannot be started, or is no child, costs nothing for good.
func TestFailedStartLeavesNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
	startPoller(t)
	defer func() { programPath = executable }()
	files, pages := holdings(t)
	for name, path := range map[string]func() (string, error){
		"no path":    func() (string, error) { return "", errors.New("out of order") },
		"no program": func() (string, error) { return "/nonexistent", nil },
		"no child":   func() (string, error) { return "/bin/true", nil },
	} {
		programPath = path
		if _, err := start(LeastMemory, nil); err == nil {
			t.Errorf("%s: started", name)
		}
		if f, p := holdings(t); f > files || p > pages {
			t.Errorf("%s: left: %d descriptors, %d pages; before: %d, %d", name, f, p, files, pages)
		}
	}
}

func (s *Sandbox) pids() (pids []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.processes {
		pids = append(pids, p.proc.Pid)
	}
	return pids
}

// startPoller has the Go runtime open what it keeps open once it has been asked for a pipe.
func startPoller(t *testing.T) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
}

// holdings counts the descriptors that this process has open, and its mappings of pages.
func holdings(t *testing.T) (descriptors, pages int) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return len(files), strings.Count(string(maps), "thence-sandbox")
}

// alive tells whether a process is there and has not ended; one that nobody has waited for yet does not count.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

const victimVariable = "THENCE_SANDBOX_VICTIM"

// beVictim is the main of a process that will be killed while its children run scripts without end.
func beVictim() {
	s, err := New(nil, Options{Logger: quiet()})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := range 2 {
		go func() {
			_, _ = s.Run(context.Background(), scripting.Input{Script: scripting.Script{Source: fmt.Sprintf("for {} // %d", i)}, Limits: scripting.Limits{Time: time.Hour}})
		}()
	}
	for busy := 0; busy < 2; {
		s.mu.Lock()
		busy = 0
		for _, p := range s.processes {
			if p.page.running().Load() > 0 {
				busy++
			}
		}
		s.mu.Unlock()
		runtime.Gosched()
	}
	fmt.Println(s.pids())
	select {}
}

// TestKilledParentLeavesNoChildren kills a process that has a sandbox in the hard way.
func TestKilledParentLeavesNoChildren(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), victimVariable+"=1")
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(line, err)
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()
	pids := strings.Fields(strings.Trim(strings.TrimSpace(line), "[]"))
	if len(pids) < 2 {
		t.Fatalf("the victim had these children: %s", line)
	}
	for _, text := range pids {
		var pid int
		if _, err := fmt.Sscan(text, &pid); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(5 * time.Second); alive(pid); pause(t, time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("child %d lives on", pid)
			}
		}
	}
}
