package sandbox

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

// helloTime is how long a child may take to start. It takes a few milliseconds, on a busy machine some hundred.
const helloTime = 20 * time.Second

// endTime is how long a child may take to end by itself after its last word.
const endTime = 200 * time.Millisecond

// process is the parent's side of a child. Its fields below the first blank line belong to the sandbox's lock.
type process struct {
	proc   *os.Process
	in     *os.File // what the child reads
	out    *os.File // what it writes
	page   *page
	layers Layers
	reader *wire.Reader
	outbox outbox

	sources sources
	jobs    []*task // sent and not answered, the oldest first; all but the first wait in the child
	last    uint64  // number of the last job sent
	taken   uint64  // number of the last job that was taken back
	alone   bool    // it runs a job beside which nothing is to wait
	retired bool    // it gets no more jobs
	size    int     // bytes of jobs
	seen    uint64  // the job that ran when last looked, since when
	since   time.Time
	killed  scripting.ErrorKind // why the sandbox has killed it, and
	guilty  uint64              // the job that ran then
}

// start starts a child, hands it the library, and waits until it is confined. It must be called on a thread that lives
// as long as the child may.
func start(memory int64, library []byte) (*process, error) {
	p := &process{}
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
	var files [5]*os.File // the child's three, then ours
	defer func() {
		for i, f := range files {
			if f != nil && (i < 3 || err != nil) {
				f.Close()
			}
		}
	}()
	if files[0], files[3], err = os.Pipe(); err != nil {
		return err
	}
	if files[4], files[1], err = os.Pipe(); err != nil {
		return err
	}
	if files[2], err = newPageFile(); err != nil {
		return err
	}
	if p.page, err = mapPage(files[2]); err != nil {
		return err
	}
	path, err := executable()
	if err != nil {
		return err
	}
	p.proc, err = os.StartProcess(path, []string{childName, strconv.FormatInt(memory, 10)}, &os.ProcAttr{Dir: "/",
		Env: []string{}, Files: []*os.File{files[0], files[1], files[1], files[2]}, Sys: attributes()})
	if err != nil {
		p.page.close()
		return err
	}
	p.in, p.out = files[3], files[4]
	p.reader = wire.NewReader(p.out)
	p.outbox.pipe = p.in
	return nil
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

// ending is how a child ended.
type ending struct {
	lost   error // what the listener met
	status syscall.WaitStatus
	killed bool   // by end, since it did not end by itself
	text   string // what the child wrote last: a part of a frame, and what the Go runtime had to say
}

// end waits for a child of which nothing more is wanted, and returns how it ended. What is no frame is mostly what the
// Go runtime says before it gives up, so the child gets a moment for it; then it is killed.
func (p *process) end(lost error) ending {
	var late atomic.Bool
	timer := time.AfterFunc(endTime, func() {
		late.Store(true)
		_ = p.proc.Kill()
	})
	defer timer.Stop()
	const most = 64 << 10
	text := slices.Clone(p.reader.Rest())
	_ = p.out.SetReadDeadline(time.Now().Add(2 * endTime))
	more, _ := io.ReadAll(io.LimitReader(p.out, most))
	e := ending{lost: lost, text: string(append(text, more...))}
	if state, err := p.proc.Wait(); err == nil {
		e.status, _ = state.Sys().(syscall.WaitStatus)
	}
	e.killed = late.Load()
	return e
}

// close gives back what the parent holds of a child that has ended.
func (p *process) close() {
	p.in.Close()
	p.out.Close()
	p.page.close()
}

// note is what the child said at its end, which the Go runtime does when it gives up.
func (e ending) note() string {
	for line := range strings.Lines(e.text) {
		for _, start := range []string{"fatal error: ", "panic: ", "runtime: ", childName + ": "} {
			if i := strings.Index(line, start); i >= 0 {
				return strings.ToValidUTF8(strings.TrimSpace(line[i:]), "")
			}
		}
	}
	return ""
}

// cause tells why a child ended. A death without a kind is nobody's fault: the child was killed from outside, as by an
// operator, or by a kernel that is out of memory.
func (e ending) cause() death {
	detail := e.note()
	has := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(e.text, t) })
	}
	switch {
	case has("stack exceeds", "stack overflow"):
		return death{KindStack, detail}
	case has("out of memory", "cannot allocate memory", "failed to create new OS thread", "newosproc"):
		return death{KindMemory, detail}
	case detail != "":
		return death{KindCrash, detail}
	case e.killed:
		return death{KindCrash, e.lost.Error()}
	case e.status.Signaled() && e.status.Signal() == syscall.SIGKILL:
		return death{"", "killed from outside"}
	case e.status.Signaled():
		return death{KindCrash, "signal: " + e.status.Signal().String()}
	}
	return death{KindCrash, fmt.Sprintf("exit status %d", e.status.ExitStatus())}
}
