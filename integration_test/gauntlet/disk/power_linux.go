package disk

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// From Linux' include/uapi/linux/ext4.h.
const (
	ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
	logFlush     = 1          // EXT4_GOING_FLAGS_LOGFLUSH
)

// CutPower ends the file system as it stands. The journal is written down once more: without that (NOLOGFLUSH), a sync that is
// under way may say that it has succeeded, and what it was to keep is gone, which no disk does that keeps its word.
func (d *Disk) CutPower() error {
	dir, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	how := uint32(logFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, dir.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		return fmt.Errorf("shut %s down: %w: it needs root, and ext4", d.Dir, errno)
	}
	return nil
}

// Sync writes everything down, as if a long time had passed.
func (d *Disk) Sync() error {
	syscall.Sync()
	return nil
}
