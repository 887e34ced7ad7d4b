package sandbox

import (
	"context"
	"runtime/metrics"
	"sync"
	"time"
)

// watchEvery is how often a child looks at its heap and its CPU time while it runs a job. A loop that never gives way is
// interrupted by the Go runtime after 10 ms, so it may be as late as that.
const watchEvery = 2 * time.Millisecond

// began is when this process did.
var began = time.Now()

// watch looks after the job that runs in a child: it stops a script whose heap grows too large, while the process can
// still go on, or that has used its time, and sends the results of short jobs that wait behind a long one.
type watch struct {
	c     *child
	timer *time.Timer

	mu    sync.Mutex
	most  uint64 // bytes of objects on the heap
	armed bool
	busy  bool
	stop  context.CancelCauseFunc // of the job that runs
	limit time.Duration           // of CPU time, for it
	start time.Time               // when it began
	used  time.Duration           // CPU time of this process when its own is counted from; negative: not yet
	peak  uint64                  // bytes of objects on the heap, the most that was seen since
}

func newWatch(c *child) *watch {
	w := &watch{c: c}
	w.allow(c.text)
	w.timer = time.AfterFunc(time.Hour, w.look)
	w.timer.Stop()
	return w
}

// allow lets the heap hold so many bytes beside what a script may take.
func (w *watch) allow(bytes uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.most = uint64(w.c.memory)/8*7 + bytes
}

// begin says that a job runs, and returns the context that ends when it must be stopped. Most jobs have ended before the
// first look: only from then on is CPU time counted, as that takes time to ask for, or at once if it is to be exact.
func (w *watch) begin(number uint64, limit time.Duration, exact bool) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.c.page.running().Store(number)
	w.busy, w.limit, w.peak = true, limit, 0
	w.start, w.used = time.Now(), -1
	if exact {
		w.used = ownCPUTime()
	}
	if !w.armed {
		w.armed = true
		w.timer.Reset(watchEvery)
		wakeMonitor()
	}
	var ctx context.Context
	ctx, w.stop = context.WithCancelCause(context.Background())
	return ctx
}

// end says that no job runs, and returns what the last one has used: as far as that is known, of one that ended before
// the first look.
func (w *watch) end() (used time.Duration, peak uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = false
	w.c.page.running().Store(0)
	if w.used < 0 {
		return unread(time.Since(w.start)), w.peak
	}
	return ownCPUTime() - w.used, w.peak
}

// look is run by the timer, and arms it again while there are jobs.
func (w *watch) look() {
	_ = w.c.results.flush() // the main loop meets the error as well
	w.mu.Lock()
	defer w.mu.Unlock()
	w.c.page.beats().Add(1)
	if w.armed = w.busy; !w.busy {
		return
	}
	cpu, heap := ownCPUTime(), heapObjects()
	if w.used < 0 {
		w.used = cpu
	}
	w.peak = max(w.peak, heap)
	switch {
	case heap > w.most:
		w.stop(memoryLimit(w.c.memory))
	case cpu-w.used > w.limit:
		w.stop(timeLimit(w.limit))
	}
	w.timer.Reset(watchEvery)
}

// heapObjects is how many bytes objects take on the heap, with those that no collection has found to be dead yet.
func heapObjects() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
