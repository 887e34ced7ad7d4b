package scripting_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/thence-dev/thence/scripting"
)

// runSource runs a source that must not fail.
func runSource(t *testing.T, source string, in scripting.Input) *scripting.Outcome {
	t.Helper()
	in.Script = scripting.Script{Source: source}
	out, err := scripting.NewEngine(nil).Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestInlineScriptKnowsItsName(t *testing.T) {
	const source = "job := import(\"job\")\nhttp := import(\"http\")\nprint(job.script)\nhttp.get(\"https://x.y\", {then: job.script})"
	out := runSource(t, source, scripting.Input{})
	name := scripting.InlineName(source)
	if out.Output != name+"\n" || out.Effects[0].Call.Then != name {
		t.Errorf("output %q, then %q, want %q", out.Output, out.Effects[0].Call.Then, name)
	}
	if !strings.HasPrefix(name, "inline-") || len(name) != len("inline-")+16 {
		t.Errorf("InlineName = %q", name)
	}
}

func TestLibraryScriptKnowsItsName(t *testing.T) {
	lib, err := scripting.NewLibrary(fstest.MapFS{"main.tengo": {Data: []byte(`print(import("job").script)`)}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := scripting.NewEngine(lib).Run(t.Context(), scripting.Input{Script: scripting.Script{Name: "main"}})
	if err != nil || out.Output != "main\n" {
		t.Errorf("%v, %v", out, err)
	}
}

func TestScriptsOfStripeAreTheDefault(t *testing.T) {
	lib, err := scripting.NewLibrary(fstest.MapFS{"new_create_customer_response.tengo": {}, "new_create_customer_error.tengo": {}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := scripting.NewEngine(lib).Run(t.Context(), scripting.Input{
		Script: scripting.Script{Source: `import("stripe").customers.create({email: "a@b.c"})`}})
	if err != nil {
		t.Fatal(err)
	}
	c := out.Effects[0].Call
	if c.Then != "new_create_customer_response" || c.Catch != "new_create_customer_error" || c.Operation != "create_customer" {
		t.Errorf("%+v", c)
	}
}

func TestIDsCountAllEffects(t *testing.T) {
	out := runSource(t, `http := import("http"); flow := import("flow")
print(http.get("https://x.y"), flow.dispatch({source: "print(1)"}), http.get("https://x.y"))`,
		scripting.Input{Job: scripting.Job{Sequence: 42}})
	if out.Output != "42-0 42-1 42-2\n" || out.Effects[1].Dispatch.ID != "42-1" || out.Effects[2].Call.ID != "42-2" {
		t.Errorf("output %q, effects %+v", out.Output, out.Effects)
	}
}

func TestState(t *testing.T) {
	tests := []struct{ state, source, want string }{
		{"", "print(1)", "{}"},
		{`{"b": 1, "a": 2.0}`, "print(1)", `{"b": 1, "a": 2.0}`}, // untouched
		{`{"b": 1, "a": 2.0}`, `import("context").get("a")`, `{"a":2.0,"b":1}`},
		{` {"a":1,"a":2} `, `import("context").get("a")`, `{"a":2}`},
		{`{"a":1}`, `import("context").delete("a")`, `{}`},
		{`{}`, `import("context").set("é\n", undefined)`, `{"é\n":null}`},
	}
	for _, tt := range tests {
		if out := runSource(t, tt.source, scripting.Input{State: []byte(tt.state)}); string(out.State) != tt.want {
			t.Errorf("%s on %s: %s, want %s", tt.source, tt.state, out.State, tt.want)
		}
	}
}

func TestDamagedInput(t *testing.T) {
	context := `import("context").get("a")`
	tests := []struct {
		source string
		in     scripting.Input
		want   string
	}{
		{context, scripting.Input{State: []byte(`[1]`)}, "the context's state is damaged: not a JSON object"},
		{context, scripting.Input{State: []byte(`{"a": }`)}, "the context's state is damaged: not valid JSON: unexpected '}' at byte 6"},
		{"print(1)", scripting.Input{State: []byte(`  [1]`)}, "the context's state is not a JSON object"},
		{"print(1)", scripting.Input{State: []byte(`  `)}, "the context's state is not a JSON object"},
		{"print(data)", scripting.Input{Job: scripting.Job{Data: []byte(`{`)}}, "job.data: not valid JSON"},
		{`print(import("job").tag)`, scripting.Input{Job: scripting.Job{Tag: []byte(`nope`)}}, "job.tag: not valid JSON"},
	}
	for _, tt := range tests {
		tt.in.Script = scripting.Script{Source: tt.source}
		_, err := scripting.NewEngine(nil).Run(t.Context(), tt.in)
		var e *scripting.Error
		if !errors.As(err, &e) || e.Kind != scripting.KindRuntime || !strings.Contains(e.Message, tt.want) {
			t.Errorf("%s: got %v, want %s", tt.source, err, tt.want)
		}
	}
}

func TestOutputIsCut(t *testing.T) {
	out := runSource(t, `for i := 0; i < 10; i++ { print("é") }`, scripting.Input{Limits: scripting.Limits{Output: 7}})
	if out.Output != "é\né\n" || !out.OutputCut {
		t.Errorf("%q, %v", out.Output, out.OutputCut)
	}
	out = runSource(t, `print(bytes("\xff\xfe") + bytes("a"))`, scripting.Input{})
	if out.Output != "\uFFFDa\n" || out.OutputCut {
		t.Errorf("%q, %v", out.Output, out.OutputCut)
	}
}

func TestInputIsNotKept(t *testing.T) {
	state, data := []byte(`{"a":"old"}`), []byte(`{"b":"old"}`)
	out := runSource(t, `import("job").result(data)`, scripting.Input{State: state, Job: scripting.Job{Data: data}})
	copy(state, "XXXXXXXXXXX")
	copy(data, "XXXXXXXXXXX")
	if string(out.State) != `{"a":"old"}` || string(out.Result) != `{"b":"old"}` {
		t.Errorf("state %s, result %s", out.State, out.Result)
	}
}

// TestNothingIsLeftForTheNextRun runs one program in turns with inputs that leave something behind, or fail.
func TestNothingIsLeftForTheNextRun(t *testing.T) {
	const source = `
context := import("context"); http := import("http"); job := import("job"); rand := import("rand"); stripe := import("stripe")
leak := undefined
if data.mode == "fill" {
	context.set("a", 1)
	http.get("https://x.y")
	job.result(5)
	print("filled")
	rand.seed(5)
	data.changed = true
	leak = data
	stripe.configure({key: secret("other")})
} else if data.mode == "fail" {
	context.set("a", 1)
	print("failing")
	x := 1 / (1 - 1)
} else if data.mode == "hang" {
	for { leak = 1 }
} else {
	stripe.customers.list({}, {then: "", catch: ""})
	print(leak, data, job.data, rand.int())
}`
	e := scripting.NewEngine(nil)
	run := func(mode string) (*scripting.Outcome, error) {
		limit := 10 * time.Second
		if mode == "hang" {
			limit = 10 * time.Millisecond
		}
		return e.Run(t.Context(), scripting.Input{Script: scripting.Script{Source: source},
			Job: scripting.Job{Data: []byte(`{"mode":"` + mode + `"}`)}, Limits: scripting.Limits{Time: limit, Allocs: 1 << 40}})
	}
	clean, err := run("clean")
	if err != nil {
		t.Fatal(err)
	}
	want := render(clean)
	if !strings.Contains(want, "secret stripe_key") {
		t.Fatal(want)
	}
	for _, mode := range []string{"fill", "fail", "hang", "fill", "fail", "fill"} {
		_, _ = run(mode)
		again, err := run("clean")
		if err != nil {
			t.Fatalf("after %s: %v", mode, err)
		}
		if got := render(again); got != want {
			t.Errorf("after %s:\n%s\nwant\n%s", mode, got, want)
		}
	}
}

func TestRunsAtTheSameTime(t *testing.T) {
	lib, err := scripting.NewLibrary(fstest.MapFS{"part.tengo": {Data: []byte(`export func(s) { return s + "-" + "héllo"[1] }`)}})
	if err != nil {
		t.Fatal(err)
	}
	e := scripting.NewEngine(lib)
	const source = `part := import("part"); context := import("context")
if data % 7 == 3 { x := {}; x.fail() }
for c in "wörld" { print(c) }
context.set("n", context.get("n", 0) + data)
print(part("n" + data))`
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				n := i*50 + j
				out, err := e.Run(context.Background(), scripting.Input{Script: scripting.Script{Source: source},
					Job: scripting.Job{Data: fmt.Append(nil, n)}, State: []byte(`{"n":1}`)})
				if n%7 == 3 {
					if err == nil {
						t.Errorf("%d did not fail", n)
					}
					continue
				}
				if err != nil || string(out.State) != fmt.Sprintf(`{"n":%d}`, n+1) ||
					!strings.HasSuffix(out.Output, fmt.Sprintf("n%d-é\n", n)) {
					t.Errorf("%d: %v, %v", n, out, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestContextEnds(t *testing.T) {
	e := scripting.NewEngine(nil)
	ctx, cancel := context.WithCancel(t.Context())
	stop := time.AfterFunc(10*time.Millisecond, cancel)
	defer stop.Stop()
	in := scripting.Input{Script: scripting.Script{Source: "for {}"}, Limits: scripting.Limits{Time: time.Hour}}
	if _, err := e.Run(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := e.Run(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that had ended before: %v", err)
	}
	in.Script.Source = "print(1)"
	if out, err := e.Run(t.Context(), in); err != nil || out.Output != "1\n" {
		t.Errorf("afterwards: %v, %v", out, err)
	}
}

func TestCheck(t *testing.T) {
	e := scripting.NewEngine(nil)
	if err := e.Check(scripting.Script{Source: "print(1)\nfor {}"}); err != nil {
		t.Error(err)
	}
	err := e.Check(scripting.Script{Name: "file.tengo", Source: "x := \n"})
	if err == nil || !strings.HasPrefix(err.Error(), "file.tengo:1:6: expected operand") {
		t.Errorf("got %v", err)
	}
	if err := e.Check(scripting.Script{Name: "nope"}); err == nil {
		t.Error("an unknown script passes")
	}
}

// TestManySources goes through more sources than an engine keeps.
func TestManySources(t *testing.T) {
	e := scripting.NewEngine(nil)
	for i := range 1200 {
		n := i % 600
		out, err := e.Run(t.Context(), scripting.Input{Script: scripting.Script{Source: fmt.Sprintf("print(%d)", n)}})
		if err != nil || out.Output != fmt.Sprintf("%d\n", n) {
			t.Fatalf("%d: %v, %v", n, out, err)
		}
	}
}

// TestLongLiterals are beyond what one call of Tengo's bytecode can take.
func TestLongLiterals(t *testing.T) {
	var list, pairs []string
	for i := range 500 {
		list = append(list, fmt.Sprint(i))
		pairs = append(pairs, fmt.Sprintf("k%03d: %d", 499-i, i))
	}
	out := runSource(t, "a := ["+strings.Join(list, ", ")+"]\nm := {"+strings.Join(pairs, ", ")+
		"}\nprint(len(a), a[0], a[199], a[200], a[499], len(m), m.k000, m.k499)", scripting.Input{})
	if out.Output != "500 0 199 200 499 500 499 0\n" {
		t.Error(out.Output)
	}
	out = runSource(t, "a := ["+strings.Repeat("1,", 30_000)+"2]\nprint(len(a), a[29999], a[30000])", scripting.Input{})
	if out.Output != "30001 1 2\n" {
		t.Error(out.Output)
	}
}

func TestManyGlobals(t *testing.T) {
	out := runSource(t, declarations(1000)+"print(va)", scripting.Input{})
	if out.Output != "1\n" {
		t.Error(out.Output)
	}
}

// TestEveryFunctionHasAnExample looks for each member of each module in the scripts of testdata.
func TestEveryFunctionHasAnExample(t *testing.T) {
	files, err := filepath.Glob("testdata/*.tengo")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	names := []string{"base64", "context", "enum", "flow", "fmt", "hex", "http", "job", "json", "log", "math", "openapi", "rand", "stripe",
		"text", "times"}
	for _, name := range names {
		out := runSource(t, fmt.Sprintf("m := import(%q)\nfor k, v in m { if type_name(v) == \"module\" { for l in v { print(k + \".\" + string(l)) } }\nprint(k) }", name),
			scripting.Input{})
		for member := range strings.Lines(out.Output) {
			member = strings.TrimSpace(member)
			if name == "stripe" || strings.Contains(member, "<") {
				continue
			}
			if !strings.Contains(all.String(), name+"."+member) {
				t.Errorf("no script of testdata uses %s.%s", name, member)
			}
		}
	}
}

// listened is a context that calls heard when somebody first waits for its end, which an engine does right before a script begins.
type listened struct {
	context.Context //nolint:containedctx // it is a context itself
	heard           func()
}

func (l listened) Done() <-chan struct{} {
	l.heard()
	return l.Context.Done()
}

// TestCancelledWithAnError ends a run from outside with an error of its own, which then says where the script was: on its only line
// of code, however soon it ends.
func TestCancelledWithAnError(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := &scripting.Error{Kind: "memory", Message: "too much"}
	begun := sync.OnceFunc(func() { time.AfterFunc(time.Millisecond, func() { cancel(cause) }) })
	_, err := scripting.NewEngine(nil).Run(listened{ctx, begun}, scripting.Input{
		Script: scripting.Script{Name: "main", Source: "// a comment\nfor x := 1; true; { x = x + 1 - 1 }"},
		Limits: scripting.Limits{Time: time.Hour},
	})
	var e *scripting.Error
	if !errors.As(err, &e) || e.Kind != "memory" || e.Message != "too much" || e.Script != "main" || e.Line != 2 {
		t.Errorf("got %v", err)
	}
	if cause.Script != "" {
		t.Error("the cause was changed")
	}
}
