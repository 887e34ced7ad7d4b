package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestStartedByHand starts this program as a child, but with none of what a worker hands to one.
func TestStartedByHand(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	large, err := os.Create(filepath.Join(t.TempDir(), "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	if err := large.Truncate(1 << 16); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		argument string
		third    *os.File // file descriptor 3
	}{{"67108864", nil}, {"worker", nil}, {"67108864", large}, {"67108864", os.Stderr}} {
		cmd := exec.Command(path, c.argument)
		cmd.Args[0] = childName
		if c.third != nil {
			cmd.ExtraFiles = []*os.File{c.third}
		}
		said, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitBroken || !strings.Contains(string(said), errNoParent.Error()) {
			t.Errorf("%q: %v: %s", c.argument, err, said)
		}
	}
}
