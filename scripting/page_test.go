package scripting_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/thence-dev/thence/flows"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/internal/modules"
)

// page is what tells people what a script may use.
const page = "../docs/scripting.md"

// pageLine is a line of the page's tables: an expression, what it gives, and why one would want it.
var pageLine = regexp.MustCompile("(?m)^\\| `(.+?)` \\| `(.*?)` \\| ?(.*?) ?\\|$")

// pageInput is the job that the page's tables speak of.
func pageInput(source string) scripting.Input {
	return scripting.Input{
		Script: scripting.Script{Source: source},
		State:  []byte(`{"n":1}`),
		Job: scripting.Job{ID: "job_1", Sequence: 7, Worker: "payments", Context: "cus_42", Caller: "ada",
			Time: time.Date(2026, 5, 1, 12, 30, 15, 0, time.UTC), Data: []byte(`{"amount": 2000}`), Calls: []byte(`[{"id":"6-0","tag":"tea"}]`)},
	}
}

func pageEngine(t *testing.T) *scripting.Engine {
	t.Helper()
	library, err := scripting.NewLibrary(flows.FS, fstest.MapFS{"taken.tengo": {Data: []byte(`print(data)`)}})
	if err != nil {
		t.Fatal(err)
	}
	return scripting.NewEngine(library)
}

// TestPage runs every line of the page's tables, and with -update writes what it gives.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	engine := pageEngine(t)
	updated := pageLine.ReplaceAllStringFunc(string(text), func(line string) string {
		part := pageLine.FindStringSubmatch(line)
		got := gives(t, engine, part[1])
		if !*update && got != part[2] {
			t.Errorf("docs/scripting.md: %s gives %s, the page says %s", part[1], got, part[2])
		}
		return strings.TrimSuffix("| `"+part[1]+"` | `"+got+"` | "+part[3], " ") + " |"
	})
	if *update {
		if err := os.WriteFile(page, []byte(updated), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// gives is what an expression gives, texts in quotes.
func gives(t *testing.T, engine *scripting.Engine, expression string) string {
	t.Helper()
	var source strings.Builder
	for _, name := range modules.Names() {
		if strings.Contains(expression, name+".") {
			fmt.Fprintf(&source, "%s := import(%q)\n", name, name)
		}
	}
	fmt.Fprintf(&source, "given := %s\nimport(\"job\").result([string(given), is_string(given)])", expression)
	out, err := engine.Run(t.Context(), pageInput(source.String()))
	if err != nil {
		t.Errorf("docs/scripting.md: %s: %v", expression, err)
		return ""
	}
	var given [2]any
	if err := json.Unmarshal(out.Result, &given); err != nil {
		t.Fatal(err)
	}
	switch text := given[0].(type) {
	case nil:
		return "undefined"
	case string:
		if given[1] == true {
			return fmt.Sprintf("%q", text)
		}
		return text
	}
	t.Fatalf("%s gives %v", expression, given)
	return ""
}

// TestPageIsComplete fails for a function that the page does not have a line for.
func TestPageIsComplete(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var examples strings.Builder
	for _, line := range pageLine.FindAllStringSubmatch(string(text), -1) {
		examples.WriteString(line[1] + "\n")
	}
	shown := func(name string) {
		if !regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(examples.String()) {
			t.Errorf("docs/scripting.md has no line for %s: write one, and have go test ./scripting -run Page -update fill it in", name)
		}
	}
	for _, name := range modules.Builtins() {
		if !strings.HasPrefix(name, ":") {
			shown(name)
		}
	}
	engine := pageEngine(t)
	for _, module := range modules.Names() {
		source := fmt.Sprintf(`m := import(%q); for name, v in m { if type_name(v) != "module" { print(name) } }`, module)
		out, err := engine.Run(t.Context(), pageInput(source))
		if err != nil {
			t.Fatal(err)
		}
		for name := range strings.FieldsSeq(out.Output) {
			shown(module + "." + name)
		}
	}
}

// TestPageScripts runs the scripts of the page.
func TestPageScripts(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)\n```tengo\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) == 0 {
		t.Error("docs/scripting.md shows no script")
	}
	for _, block := range blocks {
		if _, err := pageEngine(t).Run(t.Context(), pageInput(block[1])); err != nil {
			t.Errorf("docs/scripting.md: %v\n%s", err, block[1])
		}
	}
}
