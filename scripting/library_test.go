package scripting_test

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/thence-dev/thence/scripting"
)

func layer(scripts map[string]string) fs.FS {
	m := fstest.MapFS{}
	for name, src := range scripts {
		m[name] = &fstest.MapFile{Data: []byte(src)}
	}
	return m
}

func TestLibraryOverlaysLayers(t *testing.T) {
	lib, err := scripting.NewLibrary(
		layer(map[string]string{"a.tengo": "print(1)", "b.tengo": "print(1)", "README.md": "no script", "sub/c.tengo": "("}),
		layer(map[string]string{"b.tengo": "print(2)", "d.tengo": ""}))
	if err != nil {
		t.Fatal(err)
	}
	if got := lib.Names(); !slices.Equal(got, []string{"a", "b", "d"}) {
		t.Errorf("names %v", got)
	}
	if src, ok := lib.Source("b"); !ok || src != "print(2)" {
		t.Errorf("source of b: %q, %v", src, ok)
	}
	if !lib.Has("d") || lib.Has("c") || lib.Has("README") {
		t.Error("Has is wrong")
	}
	if _, ok := lib.Source("c"); ok {
		t.Error("c has a source")
	}
}

func TestLibraryImportsAcrossLayers(t *testing.T) {
	lib, err := scripting.NewLibrary(layer(map[string]string{"main.tengo": `print(import("part"))`, "part.tengo": `export "old"`}),
		layer(map[string]string{"part.tengo": `export "new"`}))
	if err != nil {
		t.Fatal(err)
	}
	out, err := scripting.NewEngine(lib).Run(t.Context(), scripting.Input{Script: scripting.Script{Name: "main"}})
	if err != nil || out.Output != "new\n" {
		t.Errorf("got %v, %v", out, err)
	}
}

func TestReleaseFollowsNamesAndSources(t *testing.T) {
	release := func(scripts map[string]string) string {
		lib, err := scripting.NewLibrary(layer(scripts))
		if err != nil {
			t.Fatal(err)
		}
		return lib.Release()
	}
	first := release(map[string]string{"a.tengo": "print(1)", "b.tengo": ""})
	if again := release(map[string]string{"b.tengo": "", "a.tengo": "print(1)"}); again != first || len(first) != 12 {
		t.Errorf("release %q, then %q", first, again)
	}
	for _, other := range []map[string]string{
		{"a.tengo": "print(2)", "b.tengo": ""}, {"a.tengo": "print(1)"}, {"a.tengo": "print(1)", "c.tengo": ""}, {},
	} {
		if release(other) == first {
			t.Errorf("%v has the same release", other)
		}
	}
}

func TestLibraryNamesAllThatIsWrong(t *testing.T) {
	_, err := scripting.NewLibrary(layer(map[string]string{
		"good.tengo":     "print(1)",
		"syntax.tengo":   "x := (",
		"uses.tengo":     `x := import("syntax")`,
		"loop.tengo":     `x := import("loop_b")`,
		"loop_b.tengo":   `x := import("loop")`,
		"2bad.tengo":     "",
		"not-ok.tengo":   "",
		"json.tengo":     "",
		"too_long.tengo": "// " + strings.Repeat("x", 70_000),
		"keyword.tengo":  "print(1)\nx := data.error.code",
	}))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"syntax:1:7: expected operand", "1 | x := (",
		"import cycle: loop imports loop_b imports loop",
		"2bad.tengo: a script's name", "not-ok.tengo: a script's name",
		"json.tengo: the name is taken by the module json",
		"too_long.tengo: the script has 70003 bytes",
		"keyword:2:11", `data["error"]`, "2 | x := data.error.code",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "syntax:1:7"); n != 1 {
		t.Errorf("the error in an imported script is reported %d times", n)
	}
	var e *scripting.Error
	if !errors.As(err, &e) || e.Kind != scripting.KindCompile {
		t.Errorf("no *Error in %v", err)
	}
}

func TestLibraryOfMissingFolder(t *testing.T) {
	if _, err := scripting.NewLibrary(os.DirFS(t.TempDir() + "/nope")); err == nil || !strings.Contains(err.Error(), "read scripts") {
		t.Errorf("got %v", err)
	}
}

func TestTooManyConstants(t *testing.T) {
	const list = 25_000
	scripts := map[string]string{"main.tengo": `print(import("a"), import("b"), import("c"))`}
	for _, name := range []string{"a", "b", "c"} {
		scripts[name+".tengo"] = "export [" + strings.Repeat("1,", list) + "1]"
	}
	_, err := scripting.NewLibrary(layer(scripts))
	if err == nil || !strings.Contains(err.Error(), "c:1:") || !strings.Contains(err.Error(), "more than 60000 constants") {
		t.Errorf("got %v", err)
	}
}

func TestNoLayers(t *testing.T) {
	lib, err := scripting.NewLibrary()
	if err != nil || len(lib.Names()) != 0 || lib.Release() == "" {
		t.Errorf("%v, %v", lib, err)
	}
}

// TestLoad fills a library without compiling it: what is wrong shows when it is run.
func TestLoad(t *testing.T) {
	sources := map[string]string{"main": `print(import("part").n)`, "part": "export {n: 7}", "broken": "x := (1"}
	var lib scripting.Library
	lib.Load(sources)
	sources["main"] = "changed"
	if got := lib.Names(); !slices.Equal(got, []string{"broken", "main", "part"}) || !lib.Has("part") {
		t.Errorf("names %v", got)
	}
	e := scripting.NewEngine(&lib)
	if out, err := e.Run(t.Context(), scripting.Input{Script: scripting.Script{Name: "main"}}); err != nil || out.Output != "7\n" {
		t.Errorf("%v, %v", out, err)
	}
	_, err := e.Run(t.Context(), scripting.Input{Script: scripting.Script{Name: "broken"}})
	var failed *scripting.Error
	if !errors.As(err, &failed) || failed.Kind != scripting.KindCompile || failed.Script != "broken" {
		t.Errorf("got %v", err)
	}
	made, err := scripting.NewLibrary(fstest.MapFS{"main.tengo": {Data: []byte(`print(import("part").n)`)}, "part.tengo": {Data: []byte("export {n: 7}")}})
	if err != nil {
		t.Fatal(err)
	}
	var same scripting.Library
	same.Load(map[string]string{"main": `print(import("part").n)`, "part": "export {n: 7}"})
	if made.Release() != same.Release() {
		t.Errorf("releases %s and %s of the same scripts", made.Release(), same.Release())
	}
}
