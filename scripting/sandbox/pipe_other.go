//go:build unix && !linux

package sandbox

import "golang.org/x/sys/unix"

func wakeMonitor() {} // readFD and writeFD do

func readFD(fd int, b []byte) (int, error) {
	n, err := unix.Read(fd, b)
	return max(n, 0), err
}

func writeFD(fd int, b []byte) (int, error) {
	n, err := unix.Write(fd, b)
	return max(n, 0), err
}
