package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

const (
	slots      = 128     // sources that a child keeps at a time
	maxStack   = 4 << 20 // bytes of one goroutine's stack; the deepest source and value that are allowed take less than 1 MiB
	batchTime  = 150 * time.Microsecond
	batchBytes = 32 << 10
	gcPercent  = 200 // little lives from job to job, so that collections may be rare
	kept       = 4   // a child may keep memory/kept between jobs
)

// child is this process, as one that runs scripts for its parent.
type child struct {
	page    *page
	in      *wire.Reader
	runner  scripting.Runner
	sources [slots + 1]string // from 1
	shelf   [libraries]*scripting.Library
	text    uint64 // bytes of shelf, as far as they are not the scripts' part of memory
	watch   *watch
	results results
	memory  int64
	retire  bool
}

// confineChild puts a child's layers on, and newRunner makes what runs its scripts. Tests put faults in their place.
var confineChild = confine

var newRunner = func(l *scripting.Library) scripting.Runner { return scripting.NewEngine(l) }

// runChild serves the parent until its end of the pipe is closed.
func runChild(memory int64) error {
	ignoreSignals()
	runtime.GOMAXPROCS(1)
	debug.SetTraceback("none")
	debug.SetMaxStack(maxStack)
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memory / 4 * 3)
	in, out, err := standardPipes()
	if err != nil {
		return err
	}
	c := &child{in: wire.NewReader(in), results: results{out: out}, memory: memory}
	if err := c.mapPage(); err != nil {
		return err
	}
	library, err := c.readLibrary()
	if err != nil {
		return err
	}
	c.put(0, library)
	c.runner = newRunner(library)
	c.watch = newWatch(c)
	c.warm()
	if err := c.hello(confineChild(memory)); err != nil {
		return err
	}
	return c.serve()
}

// ignoreSignals leaves it to the parent when to end: a service manager that stops a worker tells all of its processes,
// while the worker still lets its jobs run to their end.
func ignoreSignals() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
}

func (c *child) mapPage() error {
	f := os.NewFile(3, "page")
	defer f.Close()
	var err error
	if c.page, err = mapPage(f); err != nil {
		return fmt.Errorf("%w (%w)", errNoParent, err)
	}
	return nil
}

// readLibrary reads the scripts of a library, up to the frame that says that these are all.
func (c *child) readLibrary() (*scripting.Library, error) {
	sources := map[string]string{}
	for {
		kind, body, err := c.in.Next()
		if err != nil {
			return nil, err
		}
		if kind == wire.KindReady {
			break
		}
		name, source, err := wire.Script(body)
		if kind != wire.KindScript || err != nil {
			return nil, wire.ErrFormat
		}
		sources[name] = source
	}
	library := &scripting.Library{}
	library.Load(sources)
	return library, nil
}

// warm runs a script, so that timers and the first pages of the heap are there before the limits are, and threads where
// those of the C library take address space that is meant for scripts.
func (c *child) warm() {
	startThreads()
	_, _ = c.execute(context.Background(), scripting.Input{Script: scripting.Script{Source: "x := [1]"}})
}

// startThreads starts as many threads as a child may need.
func startThreads() {
	var all, gone sync.WaitGroup
	all.Add(threads)
	for range threads {
		gone.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			all.Done()
			all.Wait() // each holds a thread until all have one
		})
	}
	gone.Wait()
}

func (c *child) hello(layers []wire.Layer) error {
	frame, err := wire.AppendHello(nil, layers)
	if err == nil {
		_, err = c.results.out.Write(frame)
	}
	return err
}

// serve runs jobs until the parent's end of the pipe is closed.
func (c *child) serve() error {
	for {
		if !c.in.Buffered() {
			if err := c.results.flush(); err != nil {
				return err
			}
		}
		kind, body, err := c.in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.handle(kind, body); err != nil {
			return err
		}
	}
}

func (c *child) handle(kind wire.Kind, body []byte) error {
	switch kind {
	case wire.KindDefine:
		slot, source, err := wire.Define(body, slots)
		c.sources[slot] = source
		return err
	case wire.KindLibrary:
		return c.learn(body)
	case wire.KindRun:
		return c.run(body)
	}
	return wire.ErrFormat
}

// learn reads a library. Its frames may still be on their way, and answers don't wait for them.
func (c *child) learn(body []byte) error {
	slot, err := wire.Library(body, libraries-1)
	if err != nil {
		return err
	}
	if err := c.results.flush(); err != nil {
		return err
	}
	library, err := c.readLibrary()
	if err == nil {
		c.put(slot, library)
	}
	return err
}

// run runs a job, unless it was taken back meanwhile.
func (c *child) run(body []byte) error {
	number, at, in, err := wire.Run(body, wire.Place{Library: libraries - 1, Source: slots})
	if err != nil {
		return err
	}
	if number <= c.page.skip().Load() {
		return nil
	}
	in.Script.Source, in.Library = c.sources[at.Source], c.shelf[at.Library]
	if in.Library == nil { // the engine would run its own
		return wire.ErrFormat
	}
	limit := in.Limits.Time
	in.Limits.Time = longest // time is the watch's
	ctx := c.watch.begin(number, limit, in.Measure)
	out, failure := c.execute(ctx, in)
	took, peak := c.watch.end()
	if in.Measure {
		complete(out, took, peak)
	}
	// A job's time may be counted from late on, when its heap was large already: without a look at that the next job would be
	// blamed for what this one has left.
	if took > time.Millisecond || failure != nil || peak > uint64(c.memory)/kept || number%256 == 0 {
		c.tidy()
	}
	return c.results.add(&wire.Done{Number: number, Took: took, Retire: c.retire, Outcome: out, Err: failure}, time.Now())
}

// complete puts in what the engine cannot know. A short job may have ended before the watch has looked.
func complete(out *scripting.Outcome, took time.Duration, peak uint64) {
	if out != nil && out.Usage != nil {
		out.Usage.Time, out.Usage.Memory = took, int64(max(peak, heapObjects()))
	}
}

// execute runs a job. Whatever goes wrong in the engine is an error of the job's.
func (c *child) execute(ctx context.Context, in scripting.Input) (out *scripting.Outcome, failure *scripting.Error) {
	defer func() {
		if p := recover(); p != nil {
			out, failure = nil, engineFailed(in.Script, fmt.Sprint(p))
		}
	}()
	out, err := c.runner.Run(ctx, in)
	if err != nil && !errors.As(err, &failure) {
		failure = engineFailed(in.Script, err.Error())
	}
	if out == nil && failure == nil {
		failure = engineFailed(in.Script, "there is no outcome")
	}
	return out, failure
}

// tidy collects what a large job has left behind, so that the next has all its memory. A child that still keeps much
// (of compiled scripts) asks to be replaced.
func (c *child) tidy() {
	most := uint64(c.memory)/kept + c.text
	if heapObjects() <= most {
		return
	}
	runtime.GC()
	c.retire = heapObjects() > most
}

// results are answers on their way to the parent. They are sent together when jobs are short: at the latest batchTime
// after the first of them, or when the child has to wait or to run something that takes longer.
type results struct {
	out   io.Writer
	mu    sync.Mutex
	buf   []byte
	first time.Time // when the first that is in buf was added
}

// add takes a result, and sends what is due at now.
func (r *results) add(d *wire.Done, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.buf) == 0 {
		r.first = now
	}
	buf, err := wire.AppendDone(r.buf, d)
	if err != nil {
		buf, err = wire.AppendDone(r.buf, &wire.Done{Number: d.Number, Took: d.Took, Retire: d.Retire, Err: tooLarge(d, err)})
	}
	if r.buf = buf; err != nil {
		return err
	}
	if len(buf) < batchBytes && now.Sub(r.first) < batchTime {
		return nil
	}
	return r.send()
}

func (r *results) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.send()
}

func (r *results) send() error {
	if len(r.buf) == 0 {
		return nil
	}
	_, err := r.out.Write(r.buf)
	if r.buf = r.buf[:0]; cap(r.buf) > wire.MaxFrame/4 {
		r.buf = nil
	}
	return err
}
