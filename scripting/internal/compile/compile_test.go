package compile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/thence-dev/thence/scripting/internal/compile"
	"github.com/thence-dev/thence/scripting/internal/modules"
)

func env() compile.Env {
	return compile.Env{
		Builtins: modules.Builtins(),
		Native:   modules.Has,
		Source:   modules.Source,
		Imports:  modules.Names,
		Modules:  modules.Names,
	}
}

// FuzzCompile compiles anything: the outcome is a program or an error with a place in the source, never a panic.
func FuzzCompile(f *testing.F) {
	files, err := filepath.Glob("../../testdata/*.tengo")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b[:min(len(b), 400)]))
	}
	for _, s := range []string{"len = 5", "append++", "for a, b, c in x {}", "for { func() { break }() }", "x := [1:2]", "export 1; x",
		"a.b.c = {x: [1, ...]}", "func(...a) { return a }(1)...", "if x := 1; x { } else if y {}", "import(\"enum\")", "x := y ? z : w",
		"immutable(error(1))[1:][0].a++", "data.x, y = 1", "'", "`", "/*", "//", "\"\\", "x := func() { return func() { x() } }"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 4000 {
			return
		}
		prog, err := compile.Compile("main", src, env())
		switch e := err; {
		case err == nil && prog == nil:
			t.Fatal("neither program nor error")
		case err == nil:
			return
		case strings.Contains(e.Msg, "the compiler failed"):
			t.Fatalf("%q: %v", src, err)
		case e.Line < 1 || e.Line > strings.Count(src, "\n")+1 || e.Column < 1:
			t.Fatalf("%q: place %d:%d of %s", src, e.Line, e.Column, e.Msg)
		}
	})
}

// TestLargeSources compile, or are refused, in a time that does not grow out of hand.
func TestLargeSources(t *testing.T) {
	const n = 60_000
	for name, src := range map[string]string{
		"statements": strings.Repeat("x()\n", n/4), "constants": strings.Repeat("1\n", n/2), "sums": "x := " + strings.Repeat("1+", n/2) + "1",
		"comments": strings.Repeat("//\n", n/3), "else ifs": strings.Repeat("if 1 {} else ", n/13) + "{}",
		"ternaries": "x := " + strings.Repeat("1?1:", n/4) + "1", "calls": "x := len" + strings.Repeat("()", n/2),
		"dollars": strings.Repeat("$", n), "newlines": strings.Repeat("\n", n), "name": strings.Repeat("x", n) + " := 1",
		"strings": strings.Repeat("\"\"\n", n/3), "elements": "x := [" + strings.Repeat("1,", n/2) + "1]",
		"members": "x := {" + strings.Repeat("a:1,", n/4) + "a:1}", "functions": strings.Repeat("func(){}\n", n/9),
		"selectors": "x := {}\nx" + strings.Repeat(".a", n/2) + " = 1", "unary": "x := " + strings.Repeat("!(", n/2),
	} {
		start := time.Now()
		_, err := compile.Compile("main", src, env())
		if err != nil && strings.Contains(err.Msg, "the compiler failed") {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
}

func TestSourceOverTheBound(t *testing.T) {
	_, err := compile.Compile("main", strings.Repeat("\n", compile.MaxSource+1), env())
	if err == nil || !strings.Contains(err.Error(), "more than 262144") {
		t.Errorf("got %v", err)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"checkout", "refund", "new_create_customer_response", "a", ":map"}
	for name, want := range map[string]string{
		"chekout": "checkout", "checkuot": "checkout", "check": "", "refnd": "refund", "zzz": "", "": "", "map": "",
		"new_create_costumer_response": "new_create_customer_response", "b": "a", strings.Repeat("x", 1000): "",
	} {
		if got := compile.Nearest(name, names); got != want {
			t.Errorf("nearest to %.40q: %q, want %q", name, got, want)
		}
	}
}
