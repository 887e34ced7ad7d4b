package sandbox

import (
	"os"
	"sync"
)

// outbox is what is on its way to a child. Whoever flushes it writes as much as the pipe takes; the rest, of large
// jobs, is left to a goroutine that waits, so that nobody else has to.
type outbox struct {
	pipe *os.File

	mu      sync.Mutex
	idle    *sync.Cond // signalled when writing ends
	pending []byte
	urgent  bool // the child has nothing to do until pending is there
	spare   []byte
	writing bool
	failed  bool // nothing more is written
}

func (o *outbox) open(pipe *os.File) {
	o.pipe, o.idle = pipe, sync.NewCond(&o.mu)
}

// close waits until nobody writes, and lets nobody begin. The pipe's other end must be closed: a write that waits then
// fails.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = true
	for o.writing {
		o.idle.Wait()
	}
}

// add puts a frame behind the others, by a function that appends it. It is urgent when the child waits for it.
func (o *outbox) add(urgent bool, frame func([]byte) ([]byte, error)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	start := len(o.pending)
	buf, err := frame(o.pending)
	if err != nil {
		buf = buf[:start]
	}
	o.pending = buf
	o.urgent = o.urgent || urgent
	return err
}

// flush writes what there is, unless somebody else does so already. It does not wait for the child.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writing || o.failed {
		return
	}
	o.writing = true
	for buf := o.take(); buf != nil; buf = o.take() {
		o.mu.Unlock()
		n, err := writeNow(o.pipe, buf)
		o.mu.Lock()
		if err == nil && n < len(buf) {
			go o.drain(buf, n) // close waits for it
			return
		}
		o.wrote(buf, err)
	}
	o.rest()
}

// waits tells whether the child waits for what is pending.
func (o *outbox) waits() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.urgent
}

// drain writes the rest of buf from n on, and what comes meanwhile, and waits where it must.
func (o *outbox) drain(buf []byte, n int) {
	for rest := buf[n:]; buf != nil; rest = buf {
		_, err := o.pipe.Write(rest)
		o.mu.Lock()
		o.wrote(buf, err)
		if buf = o.take(); buf == nil {
			o.rest()
		}
		o.mu.Unlock()
	}
}

// take takes what is pending to be written, or nil. The lock is held, as for wrote and rest.
func (o *outbox) take() []byte {
	if len(o.pending) == 0 || o.failed {
		return nil
	}
	buf := o.pending
	o.pending, o.urgent = o.spare[:0], false
	return buf
}

// wrote keeps a buffer for later. After an error nothing more is written: the listener meets the end of the child.
func (o *outbox) wrote(buf []byte, err error) {
	o.failed = o.failed || err != nil
	if o.spare = buf[:0]; cap(buf) > 256<<10 {
		o.spare = nil
	}
}

func (o *outbox) rest() {
	o.writing = false
	o.idle.Broadcast()
}
