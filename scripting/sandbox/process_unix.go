//go:build unix

package sandbox

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeNow writes what a pipe takes without waiting, and returns how much that was.
func writeNow(f *os.File, b []byte) (n int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = conn.Write(func(fd uintptr) bool {
		n, failed = unix.Write(int(fd), b)
		return true
	})
	if failed == unix.EAGAIN || failed == unix.EINTR {
		return 0, err
	}
	if err == nil {
		err = failed
	}
	return max(n, 0), err
}
