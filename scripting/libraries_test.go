package scripting_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/thence-dev/thence/scripting"
)

func libraryOf(t testing.TB, scripts map[string]string) *scripting.Library {
	t.Helper()
	files := map[string]string{}
	for name, source := range scripts {
		files[name+".tengo"] = source
	}
	lib, err := scripting.NewLibrary(layer(files))
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

// outputOf runs a script on a library; nil is the runner's own.
func outputOf(t testing.TB, r scripting.Runner, lib *scripting.Library, s scripting.Script) string {
	t.Helper()
	out, err := r.Run(t.Context(), scripting.Input{Script: s, Library: lib})
	if err != nil {
		t.Fatal(err)
	}
	return out.Output
}

// TestEngineRunsLibraries: the library that comes with the input is the one that counts, for named scripts, and for what
// an inline source imports, however the engine has compiled the same source before.
func TestEngineRunsLibraries(t *testing.T) {
	one := libraryOf(t, map[string]string{"main": `print("main 1 " + import("part"))`, "part": `export "part 1"`, "gone": "print(0)"})
	two := libraryOf(t, map[string]string{"main": `print("main 2 " + import("part"))`, "part": `export "part 2"`})
	e := scripting.NewEngine(one)
	named, inline := scripting.Script{Name: "main"}, scripting.Script{Source: `print(import("part"))`}
	for range 2 {
		for _, c := range []struct {
			lib    *scripting.Library
			script scripting.Script
			want   string
		}{
			{nil, named, "main 1 part 1\n"}, {one, named, "main 1 part 1\n"}, {two, named, "main 2 part 2\n"},
			{nil, inline, "part 1\n"}, {two, inline, "part 2\n"}, {one, inline, "part 1\n"},
		} {
			if got := outputOf(t, e, c.lib, c.script); got != c.want {
				t.Errorf("%+v printed %q, want %q", c.script, got, c.want)
			}
		}
	}
	if _, err := e.Run(t.Context(), scripting.Input{Script: scripting.Script{Name: "gone"}, Library: two}); err == nil {
		t.Error("a script ran that only the engine's own library has")
	}
}

// TestEngineRunsLibrariesAtTheSameTime runs one source on several libraries side by side.
func TestEngineRunsLibrariesAtTheSameTime(t *testing.T) {
	e := scripting.NewEngine(nil)
	libs := make([]*scripting.Library, 4)
	for i := range libs {
		libs[i] = libraryOf(t, map[string]string{"part": fmt.Sprintf("export %d", i)})
	}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 200 {
				n := (g + i) % len(libs)
				out, err := e.Run(t.Context(), scripting.Input{Script: scripting.Script{Source: `print(import("part"))`}, Library: libs[n]})
				if err != nil || out.Output != fmt.Sprintln(n) {
					t.Errorf("on library %d: %v, %v", n, out, err)
				}
			}
		})
	}
	all.Wait()
}

// TestContent: what a script is follows from its source and from those that it imports, and from nothing else of its
// release.
func TestContent(t *testing.T) {
	base := libraryOf(t, map[string]string{"main": `print(import("part"))`, "part": `export import("deep")`, "deep": "export 1", "other": "print(1)"})
	for _, c := range []struct {
		what    string
		scripts map[string]string
		same    bool
	}{
		{"another script changed", map[string]string{"main": `print(import("part"))`, "part": `export import("deep")`, "deep": "export 1", "other": "print(2)"}, true},
		{"the script changed", map[string]string{"main": `print(import("part"), 2)`, "part": `export import("deep")`, "deep": "export 1", "other": "print(1)"}, false},
		{"an import changed", map[string]string{"main": `print(import("part"))`, "part": "export 1", "deep": "export 1", "other": "print(1)"}, false},
		{"an import's import changed", map[string]string{"main": `print(import("part"))`, "part": `export import("deep")`, "deep": "export 2", "other": "print(1)"}, false},
	} {
		if lib := libraryOf(t, c.scripts); (lib.Content("main") == base.Content("main")) != c.same || lib.Content("main") == "" {
			t.Errorf("%s: the content is %q, and was %q; the same: want %v", c.what, lib.Content("main"), base.Content("main"), c.same)
		}
	}
	twins := libraryOf(t, map[string]string{"a": "print(1)", "b": "print(1)"})
	if twins.Content("a") == twins.Content("b") || twins.Content("c") != "" {
		t.Errorf("contents %q, %q, %q", twins.Content("a"), twins.Content("b"), twins.Content("c"))
	}
	var one, two scripting.Library
	one.Load(map[string]string{"broken": "x := (", "main": "print(1)"})
	two.Load(map[string]string{"broken": "x := (", "main": "print(2)"})
	if one.Content("broken") == two.Content("broken") || one.Content("broken") == "" {
		t.Error("nobody knows what a script imports that does not compile")
	}
}

func TestLibrarySize(t *testing.T) {
	if n := libraryOf(t, map[string]string{"ab": "print(1)", "c": ""}).Size(); n != 11 {
		t.Errorf("%d bytes, want 11", n)
	}
}
