package sandbox

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/scripting"
)

// numbered are libraries in each of which the scripts "main" and "part" say its number.
func numbered(t testing.TB, n int) (all []*scripting.Library) {
	t.Helper()
	for i := range n {
		all = append(all, newLibrary(t, map[string]string{"main": `print("main", import("part"))`, "part": fmt.Sprintf("export %d", i)}))
	}
	return all
}

// runNumbered runs both a script of a library and a source that imports one, and checks that they were of library n.
func runNumbered(t *testing.T, s *Sandbox, l *scripting.Library, n int) {
	t.Helper()
	for want, script := range map[string]scripting.Script{
		fmt.Sprintln("main", n): {Name: "main"}, fmt.Sprintln("inline", n): {Source: `print("inline", import("part"))`},
	} {
		out, err := s.Run(t.Context(), scripting.Input{Script: script, Library: l, Limits: patient})
		if err != nil || out.Output != want {
			t.Errorf("%+v of library %d: %v, %v; want %q", script, n, out, err, want)
		}
	}
}

// TestLibrariesSideBySide runs the scripts of a few libraries at the same time, in the same children: each child hears of
// each library once.
func TestLibrariesSideBySide(t *testing.T) {
	all := numbered(t, libraries)
	s := open(t, all[0], Options{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				n := (g + i) % len(all)
				runNumbered(t, s, all[n], n)
			}
		})
	}
	wg.Wait()
	runNumbered(t, s, nil, 0)
	if stats := s.Stats(); stats.Libraries == 0 || stats.Libraries > stats.Started*uint64(len(all)-1) {
		t.Errorf("%d processes were told of %d libraries, of the %d beside their own", stats.Started, stats.Libraries, len(all)-1)
	}
}

// TestMoreLibrariesThanAChildKeeps: those that were dropped are told again when a job needs them.
func TestMoreLibrariesThanAChildKeeps(t *testing.T) {
	all := numbered(t, libraries+3)
	s := open(t, all[0], Options{Children: 1})
	const rounds = 3
	for range rounds {
		for n, l := range all {
			runNumbered(t, s, l, n)
		}
	}
	if told := s.Stats().Libraries; told < rounds*uint64(len(all))-1 {
		t.Errorf("told of %d libraries, want one for each change", told)
	}
}

// TestLargeLibrariesMakeRoom: libraries whose text is more than a child may keep leave scripts their memory.
func TestLargeLibrariesMakeRoom(t *testing.T) {
	if !raceOff {
		t.Skip("the race detector takes more memory than scripts get here")
	}
	s := open(t, nil, Options{Memory: LeastMemory, Logger: quiet()})
	text := strings.Repeat("// text\n", 16<<10)
	script := scripting.Script{Source: `x := []; for i := 0; i < import("part"); i++ { x = append(x, bytes(4194304)) }; print(len(x))`}
	for round := range 2 {
		for i := range 6 { // four have room
			scripts := map[string]string{"part": "export 6"}
			for j := range 8 { // together 1 MiB, a quarter of the room
				scripts[fmt.Sprint("text", j)] = fmt.Sprintf("// %d\n%s", i, text)
			}
			l := &scripting.Library{}
			l.Load(scripts)
			out, err := s.Run(t.Context(), scripting.Input{Script: script, Library: l, Limits: patient})
			if err != nil || out.Output != "6\n" {
				t.Fatalf("round %d, library %d: %v, %v", round, i, out, err)
			}
		}
	}
	if stats := s.Stats(); len(stats.Killed) > 0 || stats.Lost > 0 {
		t.Errorf("%+v", stats)
	}
}

// TestUse: from then on it is the library of inputs that bring none, in the children that are there, and of those that
// take their place.
func TestUse(t *testing.T) {
	all := numbered(t, 2)
	s := open(t, all[0], Options{Logger: quiet()})
	runNumbered(t, s, nil, 0)
	if err := s.Use(all[1]); err != nil {
		t.Fatal(err)
	}
	runNumbered(t, s, nil, 1)
	runNumbered(t, s, all[0], 0)
	killAll(t, s)
	told := s.Stats().Libraries
	runNumbered(t, s, nil, 1)
	if now := s.Stats().Libraries; now != told {
		t.Errorf("new children were told of %d libraries to run what they were started with", now-told)
	}
	runNumbered(t, s, all[0], 0)
}

// killAll ends all children once they are there, and waits until as many others have taken their place.
func killAll(t *testing.T, s *Sandbox) {
	t.Helper()
	for len(s.pids()) <= s.options.Children {
		pause(t, time.Millisecond)
	}
	old := s.pids()
	for _, pid := range old {
		p, err := os.FindProcess(pid)
		if err != nil {
			t.Fatal(err)
		}
		_ = p.Kill()
	}
	replaced := func() bool {
		now := s.pids()
		return len(now) == len(old) && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(old, pid) })
	}
	for !replaced() {
		pause(t, time.Millisecond)
	}
}

// TestLibraryOutlivesChildren: a job whose child dies runs again on its own library, in a child that was not told of it.
func TestLibraryOutlivesChildren(t *testing.T) {
	all := numbered(t, 2)
	s := open(t, all[0], Options{Logger: quiet()})
	slow := in("slow", scripting.Input{Library: all[1], Limits: scripting.Limits{Time: time.Minute, Allocs: 1 << 30},
		Script: scripting.Script{Source: `for i := 0; i < 3000000; i++ {}; print("inline", import("part"))`}})
	result := s.begin(t, slow)
	seize(t, s, "slow", func(p *process) { _ = p.proc.Kill() })
	if out, err := result(); err != nil || out.Output != "inline 1\n" {
		t.Errorf("%v, %v", out, err)
	}
}

// TestMendedScriptStartsAnew: a script that a new release mends is not held to account for what the broken one did; one
// that the release has as it was is.
func TestMendedScriptStartsAnew(t *testing.T) {
	broken := newLibrary(t, map[string]string{"named": `print(data.n)`})
	mended := newLibrary(t, map[string]string{"named": `print(data.n) // mended`})
	other := newLibrary(t, map[string]string{"named": `print(data.n)`, "other": `print(1)`})
	s := open(t, broken, Options{Logger: quiet()})
	run := func(l *scripting.Library, context, data string) error {
		what := in(context, scripting.Input{Script: scripting.Script{Name: "named"}, Library: l, Limits: patient})
		what.Job.Data = []byte(data)
		_, err := s.Run(t.Context(), what)
		return err
	}
	const kill, serve = `{"n":1,"exit":true}`, `{"n":1}`
	for _, context := range []string{"dark", "dark", "dusk"} {
		if err := run(broken, context, kill); kindOf(err) != KindCrash {
			t.Fatal(err)
		}
	}
	for what, l := range map[string]*scripting.Library{"the release that is broken": broken, "one with the same script": other} {
		if err := run(l, "dark", serve); kindOf(err) != KindRefused {
			t.Errorf("%s, in the context that has killed: %v", what, err)
		}
		if !s.holds(t, l) {
			t.Errorf("%s is not in quarantine", what)
		}
	}
	if err := run(mended, "dark", serve); err != nil || s.holds(t, mended) {
		t.Errorf("the mended one: %v; in quarantine: %v", err, s.holds(t, mended))
	}
}

// holds tells whether the script "named" of a library is in quarantine.
func (s *Sandbox) holds(t *testing.T, l *scripting.Library) bool {
	t.Helper()
	return s.quarantined(t, scripting.Input{Script: scripting.Script{Name: "named"}, Library: l})
}
