package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// demoWorker is a worker in a process of its own, whose log is read.
type demoWorker struct {
	name  string
	cmd   *exec.Cmd
	ready chan struct{} // closed when the worker takes jobs
	ended chan struct{} // closed when the process has ended
	sent  chan sentCall

	mu   sync.Mutex
	last string
}

// sentCall is a call that a worker has sent.
type sentCall struct {
	by      *demoWorker
	context string
	call    string
}

func startDemoWorker(name, nats, stripe, key string) (*demoWorker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &demoWorker{name: name, ready: make(chan struct{}), ended: make(chan struct{}), sent: make(chan sentCall, 100)}
	w.cmd = exec.Command(self, "worker", "--pool", demoPool, "--name", name, "--server", nats, //nolint:noctx // ended by stop, in order
		"--service", "stripe="+stripe, "--log", "json", "--log-level", "debug", "--grace", "2s")
	w.cmd.Env = []string{"THENCE_SECRET_STRIPE_KEY=" + key}
	log, err := w.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go w.read(log)
	return w, nil
}

// read follows the worker's log until the process ends.
func (w *demoWorker) read(log io.Reader) {
	defer close(w.ended)
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct{ Msg, Context, Call, Level string }
		if json.Unmarshal(lines.Bytes(), &l) != nil || l.Level != "DEBUG" {
			w.mu.Lock()
			w.last = lines.Text()
			w.mu.Unlock()
		}
		switch l.Msg {
		case "worker is ready":
			close(w.ready)
		case "call is sent":
			w.sent <- sentCall{w, l.Context, l.Call}
		}
	}
	_ = w.cmd.Wait() // how it ended is known: it was killed or stopped by us
}

func (w *demoWorker) lastLine() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// kill kills the process and waits until it is gone.
func (w *demoWorker) kill() error {
	if err := w.cmd.Process.Kill(); err != nil {
		return err
	}
	<-w.ended
	return nil
}

// stop ends the process in order, or else with force.
func (w *demoWorker) stop() error {
	err := w.cmd.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	select {
	case <-w.ended:
		return err
	case <-time.After(5 * time.Second):
		return errors.Join(err, w.kill())
	}
}

func (d *demoRun) stopWorkers() error {
	var problems []error
	for _, w := range d.workers {
		problems = append(problems, w.stop())
	}
	return errors.Join(problems...)
}
