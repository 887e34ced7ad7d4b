package sandbox

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thence-dev/thence/scripting"
)

func TestStrikes(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var s strikes
	s.add(now, "")
	s.add(now.Add(2*time.Minute), "")
	if s.until.After(now.Add(2 * time.Minute)) {
		t.Error("refused after two deaths far apart")
	}
	now = now.Add(2*time.Minute + time.Second)
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 16} {
		if s.add(now, ""); !s.until.Equal(now.Add(pause * time.Minute)) {
			t.Errorf("refused until %s, want %d minutes after %s", s.until, pause, now)
		}
		now = s.until
		s.add(now, "")
	}
	var shared strikes
	for range 5 {
		shared.add(now, "a")
	}
	if shared.until.After(now) {
		t.Error("one context alone has brought a shared script into quarantine")
	}
	if shared.add(now, "b"); !shared.until.After(now) {
		t.Error("a second context has not")
	}
}

// TestDocketIsBounded: what is over makes room first, then what will be over first.
func TestDocketIsBounded(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var d docket
	strike := func(key string, times int, at time.Time) {
		for range times {
			d.entry(key, at).add(at, "")
		}
	}
	strike("old", 1, now.Add(-time.Hour))
	strike("worst", 4, now)
	for i := range mostStrikes {
		strike(fmt.Sprint(i), 1, now.Add(time.Duration(i)))
	}
	if _, ok := d["old"]; ok || len(d) != mostStrikes {
		t.Errorf("%d are kept, the old one is there: %v", len(d), ok)
	}
	if !d.until("worst").After(now) || !d["1"].until.IsZero() {
		t.Error("a refusal was pushed out by strikes that are over sooner")
	}
	if _, ok := d["0"]; ok {
		t.Error("the one that was over first is still there")
	}
}

func TestConduct(t *testing.T) {
	var c conduct
	for range 3 {
		c.ran(time.Millisecond)
	}
	if !c.quick() {
		t.Error("three short runs are not enough")
	}
	if c.ran(time.Second); c.quick() {
		t.Error("a long run among three is forgiven")
	}
	for range 100 {
		c.ran(time.Millisecond)
	}
	for range 4 {
		c.ran(time.Second)
	}
	if !c.quick() {
		t.Error("four long runs after a hundred short ones are not forgiven")
	}
}

// TestRecordsOfOthersStay has one context run ten times as many scripts as are remembered: those of others and those in
// use stay.
func TestRecordsOfOthersStay(t *testing.T) {
	var r records
	ran := func(key, context string) *conduct {
		c := r.get(key, context)
		c.ran(0)
		r.release(c)
		return c
	}
	used := r.get("in use", "greedy")
	if used.ran(0); r.get("in use", "greedy") == used {
		r.release(used) // by one of two
	}
	var modest []*conduct
	for i := range 10 {
		modest = append(modest, ran(fmt.Sprint("modest ", i), "modest"))
	}
	for i := range 10 * remembered {
		ran(fmt.Sprint(i), "greedy")
	}
	if r.idle != remembered || len(r.byKey) != remembered+1 || len(r.owners) != 2 || len(r.most) != 2 {
		t.Errorf("%d are idle, %d are known, of %d and %d contexts", r.idle, len(r.byKey), len(r.owners), len(r.most))
	}
	for i, c := range modest {
		if r.get(fmt.Sprint("modest ", i), "modest") != c {
			t.Fatal("the record of another context was pushed out")
		}
		r.release(c)
	}
	if r.get("in use", "greedy") != used {
		t.Error("a record that is in use was pushed out")
	}
	if c := r.get(fmt.Sprint(10*remembered-1), "greedy"); c.short == 0 {
		t.Error("the latest of the greedy context's is forgotten")
	}
	unseen := r.get("never run", "modest")
	if r.release(unseen); r.byKey["never run"] != nil {
		t.Error("what never ran is remembered")
	}
}

func in(context string, in scripting.Input) scripting.Input {
	in.Job.Worker, in.Job.Context = "p", context
	return in
}

// TestKillerIsRefused has one source kill twice: it is refused in its context, and so are unknown sources there, whatever
// caller they name; but not what is known to be quick there, nor the library's scripts, nor anything in another context,
// the same source included, though the killer has named its caller.
func TestKillerIsRefused(t *testing.T) {
	s := open(t, newLibrary(t, map[string]string{"named": `print("named")`}), Options{Logger: quiet()})
	run := func(context, caller string, what scripting.Input) error {
		what = in(context, what)
		what.Job.Caller = caller
		_, err := s.Run(t.Context(), what)
		return err
	}
	good := scripting.Input{Script: scripting.Script{Source: `print("good")`}, Limits: patient}
	known(t, s, good)
	for range 2 {
		if err := run("dark", "alice", fault("exit")); kindOf(err) != KindCrash {
			t.Fatal(err)
		}
	}
	err := run("dark", "bob", fault("exit"))
	if kindOf(err) != KindRefused || !strings.Contains(err.Error(), `in the context "dark"`) ||
		!strings.Contains(err.Error(), "is refused until "+time.Now().UTC().Format("2006-")) {
		t.Errorf("a source that has killed twice there: %v", err)
	}
	if err := run("light", "alice", fault("exit")); kindOf(err) != KindCrash {
		t.Errorf("the same source in another context: %v, want it to run", err)
	}
	fresh := scripting.Input{Script: scripting.Script{Source: `print("fresh")`}, Limits: patient}
	if err := run("dark", "carol", fresh); kindOf(err) != KindRefused || !strings.Contains(err.Error(), `context "dark"`) {
		t.Errorf("an unknown source in that context: %v", err)
	}
	for what, err := range map[string]error{
		"known": run("dark", "alice", good), "library": run("dark", "alice", scripting.Input{Script: scripting.Script{Name: "named"}, Limits: patient}),
		"another context": run("light", "alice", fresh), "no context": run("", "alice", fresh),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if stats := s.Stats(); stats.Refused != 2 || stats.Killed[KindCrash] != 3 {
		t.Errorf("%+v", stats)
	}
}

// TestScriptThatKillsInOneContext: one that kills by the data of one context is refused there, and nowhere else; when it
// does so in several contexts it runs one at a time, and everybody is still answered.
func TestScriptThatKillsInOneContext(t *testing.T) {
	const source = `print(data.n)`
	library := newLibrary(t, map[string]string{"named": source})
	for kind, script := range map[string]scripting.Script{
		"of the library": {Name: "named"}, "inline": {Name: "faulty by data", Source: source},
	} {
		t.Run(kind, func(t *testing.T) { killsInOneContext(t, library, script) })
	}
}

func killsInOneContext(t *testing.T, library *scripting.Library, script scripting.Script) {
	s := open(t, library, Options{Logger: quiet(), Children: 3})
	run := func(context, data string) error {
		what := in(context, scripting.Input{Script: script, Limits: patient})
		what.Job.Data = []byte(data)
		_, err := s.Run(t.Context(), what)
		return err
	}
	const kill, serve = `{"n":1,"exit":true}`, `{"n":1}`
	for range 2 {
		if err := run("dark", kill); kindOf(err) != KindCrash {
			t.Fatal(err)
		}
	}
	if err := run("dark", serve); kindOf(err) != KindRefused || !strings.Contains(err.Error(), `in the context "dark"`) {
		t.Errorf("in the context that has killed: %v", err)
	}
	if err := run("light", serve); err != nil {
		t.Errorf("in another context: %v", err)
	}
	same := scripting.Input{Script: script, Library: library}
	if s.quarantined(t, same) {
		t.Error("it is in quarantine for what one context did")
	}
	if err := run("dusk", kill); kindOf(err) != KindCrash || !s.quarantined(t, same) {
		t.Errorf("in a second context: %v; in quarantine: %v", err, s.quarantined(t, same))
	}
	var wg sync.WaitGroup
	var most atomic.Int64
	for i := range 40 {
		wg.Go(func() {
			if err := run(fmt.Sprint("good ", i), serve); err != nil {
				t.Errorf("in quarantine: %v", err)
			}
			most.Store(max(most.Load(), s.holding(script.Name)))
		})
	}
	wg.Wait()
	if most.Load() > 1 {
		t.Errorf("%d ran at a time", most.Load())
	}
}

// quarantined tells whether a script runs one at a time.
func (s *Sandbox) quarantined(t *testing.T, in scripting.Input) bool {
	t.Helper()
	job, err := s.newTask(in)
	if err != nil {
		t.Fatal(err)
	}
	defer job.release()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inQuarantine(job)
}

// holding is how many jobs of a script the children have.
func (s *Sandbox) holding(name string) (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.processes {
		for _, t := range p.jobs {
			if t.in.Script.Name == name {
				n++
			}
		}
	}
	return n
}
