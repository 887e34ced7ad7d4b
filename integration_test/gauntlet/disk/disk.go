// Package disk makes disks that can lose their power and disks that are soon full, for a server to have its store on.
// Both need root and Linux.
//
// A disk that loses its power is ext4 on a loop device. CutPower shuts the file system down as it stands, without
// flushing its journal (EXT4_IOC_SHUTDOWN): from then on every write fails, and what was written but not synced is gone
// when it is mounted again, as it is after a real loss of power.
package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Disk is a mounted file system. Close unmounts it.
type Disk struct {
	Dir string // where it is mounted

	image   string // of ext4; empty for one in memory
	mounted bool
}

// NewExt4 makes a disk of so many bytes below dir.
func NewExt4(ctx context.Context, dir string, size int64) (*Disk, error) {
	d := &Disk{Dir: filepath.Join(dir, "disk"), image: filepath.Join(dir, "disk.img")}
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return nil, err
	}
	image, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(image.Truncate(size), image.Close()); err != nil {
		return nil, err
	}
	if err := run(ctx, "mkfs.ext4", "-q", "-F", d.image); err != nil {
		return nil, err
	}
	err = d.mount(ctx)
	return d, err
}

// NewSmall makes a disk in memory of so many bytes below dir.
func NewSmall(ctx context.Context, dir string, size int64) (*Disk, error) {
	d := &Disk{Dir: filepath.Join(dir, "small")}
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := run(ctx, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "tmpfs", d.Dir); err != nil {
		return nil, err
	}
	d.mounted = true
	return d, nil
}

func (d *Disk) mount(ctx context.Context) error {
	if err := run(ctx, "mount", "-o", "loop", d.image, d.Dir); err != nil {
		return err
	}
	d.mounted = true
	return nil
}

// Remount is what a machine does when the power is back. Nobody may have a file open on the disk.
func (d *Disk) Remount(ctx context.Context) error {
	if err := d.Close(); err != nil {
		return err
	}
	return d.mount(ctx)
}

// Close unmounts the disk.
func (d *Disk) Close() error {
	if !d.mounted {
		return nil
	}
	if err := run(context.Background(), "umount", d.Dir); err != nil {
		return err
	}
	d.mounted = false
	return nil
}

// filler is the file that takes all room.
func (d *Disk) filler() string { return filepath.Join(d.Dir, "filler") }

// Fill takes all room that is left on the disk.
func (d *Disk) Fill() error {
	f, err := os.Create(d.filler())
	if err != nil {
		return err
	}
	defer f.Close()
	for block := make([]byte, 1<<16); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2] // to the last byte
		}
	}
	return nil
}

// Free gives the room back that Fill took.
func (d *Disk) Free() error { return os.Remove(d.filler()) }

func run(ctx context.Context, name string, args ...string) error {
	if text, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(text)))
	}
	return nil
}
