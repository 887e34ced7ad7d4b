// Package sandbox runs scripts in child processes, so that no script can hurt the program that runs it.
//
// A [Sandbox] is a [scripting.Runner] like [scripting.Engine], and gives the same outcomes. It keeps a few children
// warm: the same program, started again, with no environment, no files but three pipes, little memory, and next to no
// system calls. A script that takes too much memory, runs for too long in a step that cannot be interrupted, or ends
// its process in some other way costs one child, which is replaced within milliseconds, and one job, its own: Run
// returns a *[scripting.Error] that says what happened. Jobs that waited in the same child run elsewhere; scripts have
// no effects of their own, so nobody can tell. [Options] says what can be set, [Layers] what holds a child on this
// system.
//
// A program that makes a Sandbox must call [Main] first thing in its main, and a test in its TestMain:
//
//	func main() {
//		sandbox.Main()
//		...
//	}
//
// Who runs is decided for jobs in turns: contexts take turns. The name of a context stands in the subject of its jobs,
// which permissions of NATS bind; that of a caller is what somebody says, and counts for nothing here. A script that is
// known to be quick shares a child with others of its kind. Any other runs alone in its child, and such scripts never
// hold all children, so that slow ones, or those that kill, delay each other but not the quick ones. A job is blamed only
// for what happens while it is alone in its child: a script that ends two processes within a minute is refused in that
// context for a while, and so are the unknown sources there. Other contexts do not pay for it; when it ends processes in
// several, it runs one at a time. A script is what it consists of, with all that it imports: one that a new release mends
// has done nothing yet, and one that the release leaves as it was answers for what it did.
//
// A job runs on the library that its input brings, or on the sandbox's own, see [Sandbox.Use]. Children keep a few
// libraries side by side, and are told of one with the first job that needs it.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/thence-dev/thence/scripting"
)

// Options say how scripts are bounded. The zero Options are fit for use.
type Options struct {
	Children int          // scripts that run at a time, each in its process; one more process is kept spare; default GOMAXPROCS
	Memory   int64        // bytes that a script may take; default and least 64 MiB, the unit in which the kernel's limit works
	Queue    int          // jobs that may wait; beyond it Run returns ErrBusy to the context with the most; default 4096
	Require  bool         // New fails unless all layers are on
	Logger   *slog.Logger // hears of processes that died; default slog.Default
}

// Sandbox runs scripts in child processes. It is safe for concurrent use. Close ends it.
type Sandbox struct {
	options Options
	layers  Layers
	spawner spawner
	cores   int // that this program may use
	quit    chan struct{}
	running sync.WaitGroup // listeners, and starts under way

	mu        sync.Mutex
	library   *scripting.Library // its own: see Use
	frames    []byte             // the library, for each new child
	processes []*process
	failing   bool      // the last try to start a child failed
	quick     fairQueue // jobs of scripts known to be quick
	others    fairQueue // which run alone
	kept      fairQueue // of scripts in quarantine, which run one at a time
	keptTurn  bool      // kept goes before others
	scripts   records   // that came with jobs
	named     records   // of libraries
	docket    docket
	stats     Stats
	watching  bool
	checked   time.Time // when check last ran, or was asked for
	closed    bool
}

var _ scripting.Runner = (*Sandbox)(nil)

// LeastMemory is the least that Options.Memory can be, in bytes.
const LeastMemory = 64 << 20

func (o Options) withDefaults() Options {
	if o.Children <= 0 {
		o.Children = runtime.GOMAXPROCS(0)
	}
	if o.Queue <= 0 {
		o.Queue = 4096
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Memory = max(o.Memory, LeastMemory)
	return o
}

// New starts the children for a library's scripts, and waits for the first of them. nil is a library without scripts.
// It fails when the program does not call [Main], or when Options.Require wants more than this system has.
func New(library *scripting.Library, o Options) (*Sandbox, error) {
	if !mainCalled.Load() {
		return nil, errNoMain
	}
	s := &Sandbox{options: o.withDefaults(), cores: runtime.GOMAXPROCS(0), quit: make(chan struct{})}
	if err := s.Use(library); err != nil {
		return nil, err
	}
	s.spawner.begin()
	p, err := s.startChild()
	if err != nil {
		s.spawner.end()
		return nil, err
	}
	s.layers = p.layers
	s.mu.Lock()
	s.admit(p)
	for range s.options.Children { // and one is the spare
		s.replace()
	}
	s.mu.Unlock()
	if missing := s.layers.Missing(); o.Require && len(missing) > 0 {
		_ = s.Close()
		return nil, fmt.Errorf("the sandbox is required to have all layers, and lacks %s: %s", strings.Join(missing, ", "), s.layers)
	}
	return s, nil
}

// Use makes a library the sandbox's own, in place of the one of New: that of inputs which bring none, and of children
// that start from now on. Those that run already hear of it, as of every other, with the first job that needs it.
func (s *Sandbox) Use(library *scripting.Library) error {
	if library == nil {
		library = &scripting.Library{}
	}
	frames, err := appendLibrary(nil, -1, library)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.library, s.frames = library, frames
	return nil
}

// startChild starts a child with the sandbox's own library, as it is now.
func (s *Sandbox) startChild() (*process, error) {
	s.mu.Lock()
	library, frames := s.library, s.frames
	s.mu.Unlock()
	p, err := s.spawner.start(s.options.Memory, frames)
	if err != nil {
		return nil, err
	}
	p.shelf.room = shelfRoom(s.options.Memory)
	_, _, _ = p.shelf.slot(library)
	return p, nil
}

// Layers tells what holds a child on this system.
func (s *Sandbox) Layers() Layers { return s.layers }

// Run runs one script in a child, as [scripting.Runner] says, and waits for its turn before. The error is an
// *[scripting.Error], final, also when the script has killed its process; or ctx's, or one of [ErrBusy],
// [ErrInterrupted] and [ErrClosed], of which the job is not to blame.
func (s *Sandbox) Run(ctx context.Context, in scripting.Input) (*scripting.Outcome, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t, err := s.newTask(in)
	if err != nil {
		return nil, err
	}
	return s.run(ctx, t)
}

func (s *Sandbox) own() *scripting.Library {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.library
}

func (s *Sandbox) run(ctx context.Context, t *task) (*scripting.Outcome, error) {
	defer t.release()
	if err := s.submit(t); err != nil {
		return nil, err
	}
	if t.reads != nil {
		s.readOwn(ctx, t)
	}
	select {
	case <-t.done:
		return t.outcome, t.err
	case <-ctx.Done():
		s.withdraw(t)
		return nil, ctx.Err()
	}
}

// Close ends all children, and waits for them. Run returns [ErrClosed] from now on, to those that wait as well.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.quit)
	s.clearQueues(ErrClosed)
	var errs []error
	for _, p := range s.processes {
		p.retired = true
		if err := p.proc.Kill(); !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
	}
	s.mu.Unlock()
	s.running.Wait()
	s.spawner.end()
	return errors.Join(errs...)
}
