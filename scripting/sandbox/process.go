package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

// helloTime is how long a child may take to start. It takes a few milliseconds, on a busy machine some hundred.
const helloTime = 20 * time.Second

// programPath is where this program is. Tests put another in its place.
var programPath = executable

// process is the parent's side of a child. Its fields below the first blank line belong to the sandbox's lock.
type process struct {
	proc   *os.Process
	in     *os.File // what the child reads
	out    *os.File // what it answers
	err    *os.File // what it says at its end
	page   *page
	layers Layers
	pipe   *pipeReader // of out
	reader *wire.Reader
	outbox outbox
	words  func() string // waits for its end, and returns what it said then
	buried chan struct{} // closed when its end was dealt with
	batch  []wire.Done   // answers that were read and not settled; of who reads

	sources sources
	shelf   shelf
	jobs    []*task // sent and not answered, the oldest first; all but the first wait in the child
	last    uint64  // number of the last job sent
	taken   uint64  // number of the last job that was taken back
	alone   bool    // it runs a job beside which nothing is to wait
	kept    bool    // that job's script is in quarantine
	retired bool    // it gets no more jobs
	read    bool    // somebody reads its answers
	gone    bool    // it says no more
	size    int     // bytes of jobs
	run     progress
	killed  *death // why the sandbox has killed it
}

// start starts a child, hands it the library, and waits until it is confined. It must be called on a thread that lives
// as long as the child may.
func start(memory int64, library []byte) (*process, error) {
	p := &process{buried: make(chan struct{})}
	p.words = sync.OnceValue(p.lastWords)
	if err := p.exec(memory); err != nil {
		return nil, fmt.Errorf("start a sandbox process: %w", err)
	}
	if err := p.greet(library); err != nil {
		end := p.end(err)
		p.close()
		return nil, fmt.Errorf("start a sandbox process: %w (%s)", err, end.cause().detail)
	}
	return p, nil
}

func (p *process) exec(memory int64) (err error) {
	var theirs [4]*os.File // by their numbers in the child
	defer func() {
		for _, f := range theirs {
			if f != nil {
				f.Close()
			}
		}
		if err != nil {
			p.close()
		}
	}()
	if theirs[0], p.in, err = os.Pipe(); err != nil {
		return err
	}
	if p.out, theirs[1], err = os.Pipe(); err != nil {
		return err
	}
	if p.err, theirs[2], err = os.Pipe(); err != nil {
		return err
	}
	if theirs[3], err = newPageFile(); err != nil {
		return err
	}
	if p.page, err = mapPage(theirs[3]); err != nil {
		return err
	}
	path, err := programPath()
	if err != nil {
		return err
	}
	if p.pipe, err = newPipeReader(p.out); err != nil {
		return err
	}
	p.reader = wire.NewReader(p.pipe)
	p.outbox.open(p.in)
	p.proc, err = os.StartProcess(path, []string{childName, strconv.FormatInt(memory, 10)}, &os.ProcAttr{Dir: "/",
		Env: []string{}, Files: theirs[:], Sys: attributes()})
	return err
}

// greet sends the library and waits for the child's hello.
func (p *process) greet(library []byte) error {
	deadline := time.Now().Add(helloTime)
	_ = p.in.SetWriteDeadline(deadline)
	_ = p.out.SetReadDeadline(deadline)
	if _, err := p.in.Write(library); err != nil {
		return err
	}
	kind, body, err := p.reader.Next()
	if err != nil {
		return err
	}
	found, err := wire.Hello(body)
	if kind != wire.KindHello || err != nil {
		return wire.ErrFormat
	}
	p.layers = layersOf(found)
	_ = p.in.SetWriteDeadline(time.Time{})
	return p.out.SetReadDeadline(time.Time{})
}

// close gives back what the parent holds of a child that has ended, or was never started.
func (p *process) close() {
	for _, f := range []*os.File{p.in, p.out, p.err} {
		if f != nil {
			f.Close()
		}
	}
	if p.page != nil {
		p.page.close()
	}
}
