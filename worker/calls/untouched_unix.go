//go:build unix

package calls

import (
	"net"
	"syscall"
)

// untouched tells whether there is nothing to read on a connection, nor its end.
func untouched(c *net.TCPConn) (silent bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, err := syscall.Read(int(fd), one[:])
		silent = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return silent && err == nil
}
