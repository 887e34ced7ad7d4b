package sandbox

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// wakeMonitor wakes the thread by which Go's runtime interrupts goroutines that don't give way. It sleeps while a program
// has nothing to do, until the next timer is due, and system calls that are made the ordinary way wake it. That costs
// more than the call itself, so readFD and writeFD don't do it. Who makes a timer that is due as long as jobs run calls
// wakeMonitor then: from then on the thread is awake, or will be when the timer is due.
func wakeMonitor() { _, _, _ = unix.Syscall(unix.SYS_GETPID, 0, 0, 0) }

// readFD reads from a file descriptor that does not wait.
func readFD(fd int, b []byte) (int, error) { return rawIO(unix.SYS_READ, fd, b) }

// writeFD writes to a file descriptor that does not wait.
func writeFD(fd int, b []byte) (int, error) { return rawIO(unix.SYS_WRITE, fd, b) }

func rawIO(call uintptr, fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
