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
	pending []byte
	urgent  bool // the child has nothing to do until pending is there
	spare   []byte
	writing bool
	failed  bool
	drains  sync.WaitGroup
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
	if o.writing {
		return
	}
	o.writing = true
	for len(o.pending) > 0 && !o.failed {
		buf := o.pending
		o.pending, o.urgent = o.spare[:0], false
		o.mu.Unlock()
		n, err := writeNow(o.pipe, buf)
		o.mu.Lock()
		if err != nil {
			o.failed = true // the listener meets the end of the child
		} else if n < len(buf) {
			o.drains.Go(func() { o.drain(buf, n) })
			return
		}
		o.recycle(buf)
	}
	o.writing = false
}

// waits tells whether the child waits for what is pending.
func (o *outbox) waits() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.urgent
}

// drain writes the rest of buf from n on, and waits where it must.
func (o *outbox) drain(buf []byte, n int) {
	_, err := o.pipe.Write(buf[n:])
	o.mu.Lock()
	o.failed = o.failed || err != nil
	o.writing = false
	o.recycle(buf)
	o.mu.Unlock()
	o.flush()
}

func (o *outbox) recycle(buf []byte) {
	if o.spare = buf[:0]; cap(buf) > 256<<10 {
		o.spare = nil
	}
}
