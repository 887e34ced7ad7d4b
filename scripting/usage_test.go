package scripting_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/thence-dev/thence/scripting"
)

// TestUsage measures runs, and holds what was measured against the limits: as much is enough, and one less is not.
func TestUsage(t *testing.T) {
	engine := scripting.NewEngine(nil)
	const source = `context := import("context"); http := import("http"); flow := import("flow"); job := import("job")
for i := 0; i < 100; i++ { print(i) }
context.set("a", [1, 2, 3])
http.post("https://example.com", {json: {a: 1}, headers: {"X-Key": ["k ", secret("s")]}})
flow.dispatch({context: "other", source: "print(1)"})
job.result("done")
`
	in := scripting.Input{Script: scripting.Script{Source: source}, Measure: true}
	out, err := engine.Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	u := out.Usage
	if u == nil || u.Time <= 0 || u.Source != len(source) || u.State != len(out.State) || u.Output != len(out.Output) || u.Result != len(`"done"`) || u.Effects != 2 {
		t.Fatalf("%+v", u)
	}
	enough := scripting.Limits{Allocs: u.Allocs, Source: u.Source, State: u.State, Output: u.Output, Effects: u.Effects, Outbox: u.Outbox, Result: u.Result}
	in.Limits = enough
	if out, err := engine.Run(t.Context(), in); err != nil || out.OutputCut {
		t.Errorf("with as much as was measured: %v", err)
	}
	for name, take := range map[string]func(*scripting.Limits){
		"allocs": func(l *scripting.Limits) { l.Allocs-- }, "source": func(l *scripting.Limits) { l.Source-- }, "state": func(l *scripting.Limits) { l.State-- },
		"calls and jobs": func(l *scripting.Limits) { l.Effects-- }, "outbox": func(l *scripting.Limits) { l.Outbox-- }, "result": func(l *scripting.Limits) { l.Result-- },
	} {
		in.Limits = enough
		take(&in.Limits)
		if _, err := engine.Run(t.Context(), in); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("with one less of %s: %v", name, err)
		}
	}
}

// TestUsageOfFailures: a run that fails is measured as well, and one that was not asked for is not.
func TestUsageOfFailures(t *testing.T) {
	engine := scripting.NewEngine(nil)
	out, err := engine.Run(t.Context(), scripting.Input{Script: scripting.Script{Source: "print(1)\nx := {}\nx.y()"}, Measure: true})
	if err == nil || out == nil || out.Usage == nil || out.Usage.Output != 2 || out.Usage.Allocs == 0 {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := engine.Run(t.Context(), scripting.Input{Script: scripting.Script{Source: "print(1)"}}); err != nil || out.Usage != nil {
		t.Errorf("not asked for: %+v, %v", out.Usage, err)
	}
}

// TestInspect comes up to bounds of a source by one, and is then refused.
func TestInspect(t *testing.T) {
	engine := scripting.NewEngine(nil)
	many := func(n int, text string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, text, i)
		}
		return b.String()
	}
	for name, source := range map[string]func(n int) string{
		"levels of brackets":        func(n int) string { return "x := " + strings.Repeat("(", n) + "1" + strings.Repeat(")", n) },
		"global variables":          func(n int) string { return many(n, "v%d := 1\n") },
		"variables in one function": func(n int) string { return "f := func() {\n" + many(n, "v%d := 1\n") + "}" },
		"arguments of one call":     func(n int) string { return "print(1" + strings.Repeat(", 1", n-1) + ")" },
		"comments in a row":         func(n int) string { return strings.Repeat("//\n", n) },
		"else and ? together":       func(n int) string { return "x := 1\n" + strings.Repeat("if x {} else {}\n", n) },
		"bytes of source":           func(n int) string { return strings.Repeat(" ", n) },
	} {
		var most int
		bounds, err := engine.Inspect(scripting.Script{Source: source(5)}, scripting.Limits{})
		for _, b := range bounds {
			if b.Name == name {
				most = b.Most
				if b.Used != 5 {
					t.Errorf("%s: %d are used, want 5", name, b.Used)
				}
			}
		}
		if err != nil || most == 0 {
			t.Fatalf("%s: %v, %v", name, bounds, err)
		}
		if _, err := engine.Inspect(scripting.Script{Source: source(most)}, scripting.Limits{}); err != nil {
			t.Errorf("%d %s: %.200v", most, name, err)
		}
		if _, err := engine.Inspect(scripting.Script{Source: source(most + 1)}, scripting.Limits{}); err == nil {
			t.Errorf("%d %s pass", most+1, name)
		}
	}
}
