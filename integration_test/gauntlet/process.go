package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is a role of this program, or of its build with crash points, in a process of its own. What it logs goes to a
// file named after it.
type process struct {
	name  string
	cmd   *exec.Cmd
	says  chan string   // the line that it says when it is ready; buffered
	ended chan struct{} // closed when it has ended
	err   error         // how; to be read once ended is closed
}

// launch says what to start.
type launch struct {
	name   string
	dir    string   // of the log
	within []string // a command to start it with, such as `nsenter --net=FILE`; empty: none
	binary string
	args   []string
	env    []string
}

// start starts a process. Whoever starts it kills it, or waits for its end; it dies with this process in any case.
func start(l launch) (*process, error) {
	argv := append(append(l.within[:len(l.within):len(l.within)], l.binary), l.args...)
	log, err := os.OpenFile(filepath.Join(l.dir, l.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{name: l.name, says: make(chan string, 1), ended: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...) //nolint:noctx // it outlives any one wait; kill ends it
	p.cmd.Env = append([]string{"HOME=" + l.dir, "PATH=" + os.Getenv("PATH")}, l.env...)
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = dieWithParent()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", l.name, err)
	}
	go p.listen(stdout)
	return p, nil
}

// listen reads what the process says, to its end.
func (p *process) listen(stdout io.Reader) {
	defer close(p.ended)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if word, ok := strings.CutPrefix(lines.Text(), readyWord); ok {
			select {
			case p.says <- word:
			default:
			}
		}
	}
	p.err = p.cmd.Wait()
}

// readyWord begins the line by which a role tells that it is ready.
const readyWord = "ready "

// ready waits until the process is ready, and returns what it said.
func (p *process) ready(ctx context.Context) (string, error) {
	select {
	case word := <-p.says:
		return word, nil
	case <-p.ended:
		return "", fmt.Errorf("%s has ended before it was ready, see its log: %w", p.name, p.err)
	case <-ctx.Done():
		return "", fmt.Errorf("%s is not ready: %w", p.name, context.Cause(ctx))
	}
}

// kill is SIGKILL, which ends a stopped process too.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// signal sends a signal to the process; one that has ended gets none.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// stop is SIGTERM, and SIGKILL when that has not ended it in time.
func (p *process) stop(patience time.Duration) error {
	p.signal(syscall.SIGTERM)
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-p.ended:
		return p.err
	case <-late.C:
		p.kill()
		return fmt.Errorf("%s did not stop within %s", p.name, patience)
	}
}

// alive tells whether the process has not ended.
func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// endedBy tells whether the process has ended by a signal.
func (p *process) endedBy(signal syscall.Signal) bool {
	if p.alive() {
		return false
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == signal
}
