//go:build !unix

package sandbox

import (
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

var errUnsupported = errors.New("there are no sandbox processes on " + runtime.GOOS + ": run scripts in process, if you trust their authors")

type page struct{ words [3]atomic.Uint64 }

type pipeReader struct{ until time.Time }

func newPageFile() (*os.File, error)              { return nil, errUnsupported }
func mapPage(*os.File) (*page, error)             { return nil, errUnsupported }
func (p *page) running() *atomic.Uint64           { return &p.words[0] }
func (p *page) skip() *atomic.Uint64              { return &p.words[1] }
func (p *page) beats() *atomic.Uint64             { return &p.words[2] }
func (p *page) close()                            {}
func executable() (string, error)                 { return "", errUnsupported }
func attributes() *syscall.SysProcAttr            { return nil }
func writeNow(*os.File, []byte) (int, error)      { return 0, errUnsupported }
func newPipeReader(*os.File) (*pipeReader, error) { return nil, errUnsupported }
func (r *pipeReader) Read([]byte) (int, error)    { return 0, errUnsupported }
func wakeMonitor()                                {}
