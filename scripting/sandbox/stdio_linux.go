//go:build !cgo

package sandbox

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// standardPipes are a child's ends of the pipes of jobs and of answers. It waits for jobs in the runtime's poller: were
// its only thread to wait in a system call, the runtime would make another one ready to run what else there is.
func standardPipes() (io.Reader, io.Writer, error) {
	for _, fd := range []int{unix.Stdin, unix.Stdout} {
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, nil, os.NewSyscallError("fcntl", err)
		}
	}
	in, err := newPipeReader(os.NewFile(uintptr(unix.Stdin), "jobs"))
	return in, pipeWriter{os.NewFile(uintptr(unix.Stdout), "answers")}, err
}

// pipeWriter writes to a pipe that the runtime's poller looks after.
type pipeWriter struct{ f *os.File }

func (w pipeWriter) Write(b []byte) (int, error) {
	n, err := writeNow(w.f, b)
	if err != nil || n == len(b) {
		return n, err
	}
	rest, err := w.f.Write(b[n:])
	return n + rest, err
}
