package disk_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/thence-dev/thence/integration_test/gauntlet/disk"
)

func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
}

// TestCutPower: what was synced is there when the power is back, what was only written is not.
func TestCutPower(t *testing.T) {
	root(t)
	d, err := disk.NewExt4(t.Context(), t.TempDir(), 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	synced, written := filepath.Join(d.Dir, "synced"), filepath.Join(d.Dir, "written")
	if err := os.WriteFile(synced, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(written, bytes.Repeat([]byte("lost"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.CutPower(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Dir, "later"), []byte("never"), 0o600); err == nil {
		t.Error("a write succeeds on a disk without power")
	}
	if err := d.Remount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(synced); err != nil || string(text) != "kept" {
		t.Errorf("what was synced: %q, %v", text, err)
	}
	if text, err := os.ReadFile(written); err == nil && len(text) > 0 {
		t.Errorf("what was not synced is there: %d bytes", len(text))
	}
}

// TestFill: a full disk takes nothing more until room is made.
func TestFill(t *testing.T) {
	root(t)
	d, err := disk.NewSmall(t.Context(), t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := d.Fill(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(d.Dir, "a")
	if err := os.WriteFile(file, make([]byte, 8<<10), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want no space", err)
	}
	if err := d.Free(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, 8<<10), 0o600); err != nil {
		t.Error(err)
	}
}
