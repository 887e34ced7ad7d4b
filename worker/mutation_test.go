package worker

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

var mutate = flag.String("mutations", "", "names of the mutations that TestMutations runs, with commas; all: every one")

// quick are mutations that the simulation catches within a few histories. They run in the normal tests, so that the
// machinery is known to work.
const quick = "ack-before-commit,outbox-before-commit"

// mutationBudget is how many histories the simulation may need to catch a mutation.
const mutationBudget = 10_000

// mutation is a mistake in the protocol: other text in its production code. Each is a file in testdata/mutations.
//
// Rule 10 (a context's key is never deleted) has none: nothing in production does what it is about. Rule 13 (services that are never tried twice) is not in the simulation: the tests of worker/calls hold it. Nor
// have ids of effects (rule 5) that are made anew on each try: with them nothing goes wrong as long as marks, open calls
// and order hold, which is why there are three defences.
type mutation struct {
	name  string
	rule  string
	what  string
	edits []edit
}

// edit replaces one place in a file.
type edit struct{ file, old, new string }

func readMutations(t *testing.T) []mutation {
	t.Helper()
	files, err := filepath.Glob("testdata/mutations/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	all := make([]mutation, 0, len(files))
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := mutation{name: strings.TrimSuffix(filepath.Base(file), ".txtar")}
		for _, line := range strings.Split(string(archive.Comment), "\n") {
			key, value, _ := strings.Cut(line, ": ")
			switch key {
			case "rule":
				m.rule = value
			case "what":
				m.what = value
			}
		}
		for _, f := range archive.Files {
			before, after, ok := strings.Cut(string(f.Data), "\n=>\n")
			if !ok {
				t.Fatalf("%s: the part on %s has no line =>", file, f.Name)
			}
			m.edits = append(m.edits, edit{f.Name, before, strings.TrimSuffix(after, "\n")})
		}
		all = append(all, m)
	}
	return all
}

// apply returns the files that the mutation changes, by their path from the module's root.
func (m mutation) apply() (map[string]string, error) {
	changed := map[string]string{}
	for _, e := range m.edits {
		text, ok := changed[e.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join("..", e.file))
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("mutation %s: its text is %d times in %s, want once:\n%s", m.name, n, e.file, e.old)
		}
		changed[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return changed, nil
}

// TestMutationsFit: each mutation still has its place in the production code.
func TestMutationsFit(t *testing.T) {
	all := readMutations(t)
	if len(all) < 25 {
		t.Errorf("%d mutations, want 25 and more", len(all))
	}
	for _, m := range all {
		if m.rule == "" || m.what == "" || len(m.edits) == 0 {
			t.Errorf("mutation %s has no rule, no description or no edit", m.name)
		}
		if _, err := m.apply(); err != nil {
			t.Error(err)
		}
	}
}

// TestMutations: the simulation catches every mistake that is planted in the protocol. Each mutation is a test binary
// of its own, built with the changed files laid over the true ones. All of them take some minutes:
//
//	go test ./worker -run TestMutations -timeout 60m -v -args -mutations all
func TestMutations(t *testing.T) {
	if testing.Short() && *mutate == "" {
		return // under the race detector: it would build each of them a second time
	}
	wanted := strings.Split(*mutate, ",")
	if *mutate == "" {
		wanted = strings.Split(quick, ",")
	}
	table := &mutationTable{}
	t.Run("each", func(t *testing.T) {
		for _, m := range readMutations(t) {
			if *mutate != "all" && !slices.Contains(wanted, m.name) {
				continue
			}
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				c := catch(t, m)
				t.Logf("rule %s: %s: caught after %s histories: %s", m.rule, m.what, c.histories, c.invariant)
				table.add(m, c)
			})
		}
	})
	t.Logf("\n%s", table)
}

// caught is how the simulation caught a mutation.
type caught struct {
	histories string
	invariant string
	took      time.Duration
}

var verdictLine = regexp.MustCompile(`seed \d+, after (\d+) histories: ([^:]+): `)

// catch builds the worker with a mutation in it, and runs the simulation on it until a history fails.
func catch(t *testing.T, m mutation) caught {
	t.Helper()
	binary := build(t, m)
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, binary, "-test.run=^TestSimulation$", "-test.timeout=10m", fmt.Sprint("-histories=", mutationBudget))
	out, err := run.CombinedOutput()
	found := verdictLine.FindSubmatch(out)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || found == nil {
		t.Errorf("rule %s: %s: not caught (%v)\n%s", m.rule, m.what, err, tail(out))
		return caught{"-", "NOT CAUGHT", time.Since(began)}
	}
	return caught{string(found[1]), string(found[2]), time.Since(began)}
}

// build compiles the tests of this package with a mutation.
func build(t *testing.T, m mutation) string {
	t.Helper()
	changed, err := m.apply()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay := map[string]string{}
	for _, file := range slices.Sorted(maps.Keys(changed)) {
		at, err := filepath.Abs(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		overlay[at] = filepath.Join(dir, fmt.Sprintf("%d.go", len(overlay)))
		if err := os.WriteFile(overlay[at], []byte(changed[file]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "worker.test")
	if err := os.WriteFile(overlayFile, list, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", overlayFile, "-o", binary, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("mutation %s does not compile: %v\n%s", m.name, err, out)
	}
	return binary
}

func tail(out []byte) []byte { return out[max(0, len(out)-2000):] }

// mutationTable is what came of the mutations.
type mutationTable struct {
	mu   sync.Mutex
	rows []string
}

func (table *mutationTable) add(m mutation, c caught) {
	table.mu.Lock()
	defer table.mu.Unlock()
	table.rows = append(table.rows, fmt.Sprintf("| %s | %s | %s | %s | %s | %.1f s |", m.rule, m.name, m.what, c.histories, c.invariant, c.took.Seconds()))
}

func (table *mutationTable) String() string {
	table.mu.Lock()
	defer table.mu.Unlock()
	slices.Sort(table.rows)
	return "| rule | mutation | mistake | histories until caught | invariant | time |\n|---|---|---|---|---|---|\n" + strings.Join(table.rows, "\n")
}
