package scripting_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/thence-dev/thence/scripting"
)

var update = flag.Bool("update", false, "rewrite what the scripts of testdata are expected to do")

// example is a script of testdata. Comments at its top that start with a small letter set its input (data, state,
// response, failure, tag, calls, and "script NAME: SOURCE" for the library); the comment at its end, after "// Want:", is all
// that it leaves behind.
type example struct {
	file   string
	source string
	want   string
	input  scripting.Input
	lib    fstest.MapFS
}

const wantMark = "\n// Want:\n"

var setting = regexp.MustCompile(`(?m)^// (data|state|response|failure|tag|calls|script \w+): (.*)$`)

func readExample(t *testing.T, file string) *example {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	e := &example{file: file, lib: fstest.MapFS{}}
	e.source, e.want, _ = strings.Cut(string(b), wantMark)
	e.source = strings.TrimSuffix(e.source, "\n") + "\n"
	e.input = scripting.Input{
		Script: scripting.Script{Name: strings.TrimSuffix(filepath.Base(file), ".tengo"), Source: e.source},
		Job: scripting.Job{ID: "job_1", Sequence: 7, Worker: "payments", Context: "cus_42", Caller: "ada", Parent: "job_0", Operation: "create_order",
			Time: time.Date(2026, 5, 1, 12, 30, 15, 5_000_000, time.FixedZone("here", 7200))},
	}
	for _, m := range setting.FindAllStringSubmatch(e.source, -1) {
		e.set(m[1], m[2])
	}
	return e
}

func (e *example) set(key, val string) {
	j := &e.input.Job
	for name, field := range map[string]*[]byte{"data": &j.Data, "state": &e.input.State, "response": &j.Response,
		"failure": &j.Failure, "tag": &j.Tag, "calls": &j.Calls} {
		if key == name {
			*field = []byte(val)
		}
	}
	if name, ok := strings.CutPrefix(key, "script "); ok {
		e.lib[name+".tengo"] = &fstest.MapFile{Data: []byte(val)}
	}
}

// render shows all that a run left behind.
func render(out *scripting.Outcome) string {
	var b strings.Builder
	b.WriteString(out.Output)
	if out.OutputCut {
		b.WriteString("\n[cut]\n")
	}
	if len(out.State) > 2 {
		fmt.Fprintf(&b, "state: %s\n", out.State)
	}
	if out.Result != nil {
		fmt.Fprintf(&b, "result: %s\n", out.Result)
	}
	for _, e := range out.Effects {
		renderEffect(&b, e)
	}
	for _, id := range out.Cancelled {
		fmt.Fprintf(&b, "cancel %s\n", id)
	}
	return b.String()
}

func renderEffect(b *strings.Builder, e scripting.Effect) {
	if d := e.Dispatch; d != nil {
		fmt.Fprintf(b, "dispatch %s: worker=%q context=%q script=%q source=%q data=%s\n", d.ID, d.Worker, d.Context, d.Script,
			d.Source, d.Data)
		return
	}
	c := e.Call
	fmt.Fprintf(b, "call %s: %s %s\n", c.ID, c.Method, c.URL)
	for _, h := range c.Header {
		fmt.Fprintf(b, "  %s: %q", h.Name, h.Value)
		if h.Secret != "" {
			fmt.Fprintf(b, " + secret %s", h.Secret)
		}
		b.WriteByte('\n')
	}
	if c.Body != nil {
		fmt.Fprintf(b, "  body: %s\n", c.Body)
	}
	for _, f := range []struct{ name, val string }{{"operation", c.Operation}, {"then", c.Then}, {"catch", c.Catch},
		{"tag", string(c.Tag)}, {"key", c.IdempotencyKey}} {
		if f.val != "" {
			fmt.Fprintf(b, "  %s: %s\n", f.name, f.val)
		}
	}
	if c.Timeout != 0 {
		fmt.Fprintf(b, "  timeout: %s\n", c.Timeout)
	}
	if c.Cancelled {
		b.WriteString("  cancelled\n")
	}
}

func comment(s string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSuffix(s, "\n") + "\n") {
		b.WriteString(strings.TrimRight("// "+line, " \n") + "\n")
	}
	return b.String()
}

// TestExamples runs each script of testdata 100 times, in two engines: all runs must leave the same behind.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("testdata/*.tengo")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			e := readExample(t, file)
			lib, err := scripting.NewLibrary(e.lib)
			if err != nil {
				t.Fatal(err)
			}
			first := ""
			for i := range 2 {
				engine := scripting.NewEngine(lib)
				for j := range 50 {
					out, err := engine.Run(t.Context(), e.input)
					if err != nil {
						t.Fatal(err)
					}
					got := comment(render(out))
					if i+j == 0 {
						first = got
					} else if got != first {
						t.Fatalf("run %d differs from the first:\n%s", 50*i+j, cmp.Diff(first, got))
					}
				}
			}
			e.check(t, first)
		})
	}
}

func (e *example) check(t *testing.T, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(e.file, []byte(e.source+wantMark+got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(e.want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", e.file, diff)
	}
}
