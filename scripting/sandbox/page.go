//go:build unix

package sandbox

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// page is memory that a child shares with its parent: three numbers, no data of any job. The child says in it which job
// it runs, so that the parent knows how long a job takes, and that its watch goes on. The parent says in it which jobs
// the child need not run any more. What the child writes is not to be trusted.
type page struct{ mem []byte }

const pageSize = 4096

// mapPage maps a file that newPageFile has made.
func mapPage(f *os.File) (*page, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() != pageSize {
		return nil, fmt.Errorf("file descriptor 3 is no page of %d bytes", pageSize)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return &page{mem}, nil
}

func (p *page) word(i int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&p.mem[64*i])) }

// running is the number of the job that runs; 0 between jobs.
func (p *page) running() *atomic.Uint64 { return p.word(0) }

// skip is the number of the last job that was taken back, with all before it.
func (p *page) skip() *atomic.Uint64 { return p.word(1) }

// beats counts how often the child's watch has looked.
func (p *page) beats() *atomic.Uint64 { return p.word(2) }

// close unmaps the page; nothing may read it any more.
func (p *page) close() { _ = unix.Munmap(p.mem) }
