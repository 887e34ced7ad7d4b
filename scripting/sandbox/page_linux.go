package sandbox

import (
	"os"

	"golang.org/x/sys/unix"
)

// newPageFile makes the file behind a page. It has no name anywhere.
func newPageFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("thence-sandbox", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "thence-sandbox")
	if err := f.Truncate(pageSize); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
