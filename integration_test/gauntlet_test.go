package integration_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestGauntlet hurts real processes in a small part of the ways that the gauntlet knows: see docs/reliability.md. The
// short form is a smoke run. What failed is kept with `go test -artifacts`.
func TestGauntlet(t *testing.T) {
	t.Parallel()
	scale := "small"
	if testing.Short() {
		scale = "smoke"
	}
	dir := t.ArtifactDir()
	binary := filepath.Join(t.TempDir(), "gauntlet")
	ctx := within(t, 8*time.Minute)
	build := exec.CommandContext(ctx, "go", "build", "-tags", "crashpoints", "-o", binary, "github.com/thence-dev/thence/integration_test/gauntlet")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the gauntlet: %v\n%s", err, text)
	}
	run := exec.CommandContext(ctx, binary, "-binary", binary, "-scale", scale, "-parallel", "6", "-out", dir)
	text, err := run.CombinedOutput()
	if err != nil {
		t.Errorf("the gauntlet: %v\n%s", err, text)
	}
	report := readReport(t, filepath.Join(dir, "report.json"))
	accepted := 0
	for _, r := range report.Results {
		accepted += r.Figures["jobs accepted"]
		switch {
		case r.Skipped != "":
			t.Logf("SKIPPED %s: %s", r.Trial, r.Skipped)
		case r.Missed != "":
			t.Logf("%s: the fault did not come: %s", r.Trial, r.Missed)
		}
	}
	if accepted == 0 {
		t.Errorf("no job was accepted in %d trials: nothing was tested", len(report.Results))
	}
	t.Logf("%d trials with %d jobs, %.0f s", len(report.Results), accepted, report.Took)
}

// gauntletReport is what the gauntlet writes, as far as it is looked at here.
type gauntletReport struct {
	Took    float64 `json:"took_s"`
	Results []struct {
		Trial, Skipped, Missed string
		Figures                map[string]int
	}
}

func readReport(t *testing.T, path string) gauntletReport {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r gauntletReport
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}
