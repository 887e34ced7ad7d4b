package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDispatcherPage writes the files of docs/dispatcher.md into a folder of this module, and runs the test among them,
// as a reader would.
func TestDispatcherPage(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(filepath.Join(root, "integration_test"), "_page-") //nolint:usetesting // inside the module, and no part of ./...
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	all, _ := blocks(t, "docs/dispatcher.md")
	for _, b := range all {
		name := strings.TrimPrefix(b.info, "file ")
		if name == "" {
			continue
		}
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(b.text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	test := exec.CommandContext(t.Context(), "go", "test", "-count=1", ".")
	test.Dir = dir
	if out, err := test.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "ok") {
		t.Errorf("the test of docs/dispatcher.md: %v\n%s", err, out)
	}
}
