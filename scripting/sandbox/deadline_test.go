package sandbox

import (
	"os"
	"testing"
	"time"
)

func newTestPage(t *testing.T) *page {
	t.Helper()
	f, err := newPageFile()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page, err := mapPage(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(page.close)
	return page
}

// nobody is a number that no process has.
const nobody = 1 << 22

// TestLook: a child can say that it runs a later job of those that it has, and nothing else makes its time begin anew.
func TestLook(t *testing.T) {
	page := newTestPage(t)
	p := &process{proc: &os.Process{Pid: os.Getpid()}, page: page, last: 3}
	start := time.Now()
	for i, step := range []struct {
		says, number uint64
		passed       time.Duration
	}{{0, 0, 0}, {2, 2, 0}, {2, 2, 1}, {0, 2, 2}, {1, 2, 3}, {99, 3, 0}, {99, 3, 1}, {2, 3, 2}, {7, 3, 3}} {
		page.running().Store(step.says)
		p.look(start.Add(time.Duration(i)), 1)
		if p.run.number != step.number || p.run.passed != step.passed {
			t.Errorf("step %d: job %d for %d, want %d for %d", i, p.run.number, p.run.passed, step.number, step.passed)
		}
	}
	work(10 * time.Millisecond)
	if used, exact := p.look(time.Now(), 1); exact && used < 10*time.Millisecond {
		t.Errorf("%s of CPU time after 10 ms of work", used)
	}
	if used, exact := cpuTime(nobody); exact {
		t.Errorf("a process that is not there has used %s", used)
	}
}

// TestGoesOn: whoever computes a little now and then does not stand still.
func TestGoesOn(t *testing.T) {
	var r progress
	for range 5 {
		r.goesOn(time.Second, 10*time.Millisecond)
	}
	if r.still != 5*time.Second {
		t.Errorf("still for %s, want 5s", r.still)
	}
	r.spent = 9 * time.Millisecond
	if r.goesOn(time.Second, 10*time.Millisecond); r.still != 6*time.Second {
		t.Errorf("after too little: still for %s, want 6s", r.still)
	}
	r.spent = 10 * time.Millisecond
	if r.goesOn(time.Second, 10*time.Millisecond); r.still != 0 {
		t.Errorf("after enough: still for %s, want none", r.still)
	}
}

func TestSourcesForget(t *testing.T) {
	var s sources
	slot, fresh := s.slot("a")
	if _, again := s.slot("a"); !fresh || again {
		t.Error("a source is told never, or twice")
	}
	other, _ := s.slot("b")
	s.forget("a")
	s.forget("never seen")
	if now, fresh := s.slot("a"); !fresh || now == other {
		t.Errorf("slot %d, then %d, fresh: %v", slot, now, fresh)
	}
	if _, fresh := s.slot("b"); fresh {
		t.Error("another was forgotten")
	}
}
