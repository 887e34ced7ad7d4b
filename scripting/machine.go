package scripting

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/compile"
	"github.com/thence-dev/thence/scripting/internal/modules"
)

// program is a compiled script with the machines that have run it and can run it again.
type program struct {
	*compile.Program
	idle sync.Pool // of *machine
}

// machine is a VM with its globals. A VM is 80 KB and can run one program only, so it is kept for the next run; but
// after a failure or an abort Tengo's VM does not come back to a clean state, and is dropped.
type machine struct {
	vm      *tengo.VM
	run     *modules.Run
	own     []tengo.Object // the globals that belong to one run
	allocs  int64
	stopped atomic.Bool // never to be used again
}

// slow is how long a run may take for its machine to be kept: the VM's stack holds on to values of the last run.
const slow = 20 * time.Millisecond

func (p *program) machine(allocs int64) *machine {
	if m, ok := p.idle.Get().(*machine); ok && m.allocs == allocs {
		return m
	}
	run := &modules.Run{}
	globals := modules.Bind(run)
	for _, name := range p.Natives {
		globals = append(globals, modules.New(name, run))
	}
	fixed := len(globals)
	n := p.Vars
	if p.Data {
		n++
	}
	globals = append(globals, make([]tengo.Object, n)...)
	m := &machine{vm: p.NewVM(globals, allocs), run: run, own: globals[fixed:], allocs: allocs}
	run.Stopped = m.stopped.Load
	return m
}

// keep makes a machine that has run to its end ready for the next run.
func (p *program) keep(m *machine) {
	clear(m.own)
	m.run.Finish()
	p.idle.Put(m)
}

// ending is how a run ended. The zero ending is the script's own end; after any other the VM must not run again.
type ending struct {
	failure   error // what the VM returned
	panicked  any   // what it panicked with
	cancelled bool  // the context ended; the VM was stopped, or may be any time now
	overtime  bool  // the same of the time limit
}

func (e ending) clean() bool {
	return e.failure == nil && e.panicked == nil && !e.cancelled && !e.overtime
}

// execute runs the VM until its end, until the time is over, or until ctx ends.
func (m *machine) execute(ctx context.Context, limit time.Duration) (end ending) {
	timer := time.AfterFunc(limit, m.stop)
	detach := func() bool { return true }
	if ctx.Done() != nil {
		detach = context.AfterFunc(ctx, m.stop)
	}
	defer func() {
		end.panicked = recover()
		end.overtime, end.cancelled = !timer.Stop(), !detach()
	}()
	end.failure = m.vm.Run()
	return end
}

func (m *machine) stop() {
	m.stopped.Store(true)
	m.vm.Abort()
}
