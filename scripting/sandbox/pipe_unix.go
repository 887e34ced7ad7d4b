//go:build unix

package sandbox

import (
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pipeReader reads from a pipe that the runtime's poller looks after. It makes its system calls without a word to Go's
// scheduler, since none of them waits: see wakeMonitor. One goroutine may read at a time.
type pipeReader struct {
	conn  syscall.RawConn
	try   func(fd uintptr) bool
	until time.Time // how long an empty pipe is looked at again, before the poller is asked to say when there is something

	buf []byte // of the call of Read that goes on, and its result
	n   int
	err error
}

func newPipeReader(f *os.File) (*pipeReader, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	r := &pipeReader{conn: conn}
	r.try = r.readNow
	return r, nil
}

func (r *pipeReader) Read(b []byte) (int, error) {
	r.buf = b
	if err := r.conn.Read(r.try); err != nil {
		return 0, err
	}
	r.buf = nil
	if r.n == 0 && r.err == nil {
		return 0, io.EOF
	}
	return r.n, r.err
}

// readNow reads what there is. It is false when the pipe is empty, and was until r.until.
func (r *pipeReader) readNow(fd uintptr) bool {
	for {
		r.n, r.err = readFD(int(fd), r.buf)
		if !errors.Is(r.err, unix.EAGAIN) {
			return true
		}
		if !time.Now().Before(r.until) {
			return false
		}
		runtime.Gosched()
	}
}

// writeNow writes what a pipe takes without waiting, and returns how much that was.
func writeNow(f *os.File, b []byte) (n int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = conn.Write(func(fd uintptr) bool {
		n, failed = writeFD(int(fd), b)
		return true
	})
	if errors.Is(failed, unix.EAGAIN) || errors.Is(failed, unix.EINTR) {
		return 0, err
	}
	if err == nil {
		err = failed
	}
	return n, err
}
