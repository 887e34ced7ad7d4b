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
	globals []tengo.Object
	own     []tengo.Object // the part of globals that belongs to one run
	allocs  int64
	why     atomic.Int32 // why it was stopped
}

const (
	stoppedByTime = iota + 1
	stoppedByContext
)

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
	return &machine{vm: p.NewVM(globals, allocs), run: run, globals: globals, own: globals[fixed:], allocs: allocs}
}

// keep makes a machine that has run to its end ready for the next run.
func (p *program) keep(m *machine) {
	clear(m.own)
	m.run.Finish()
	p.idle.Put(m)
}

// execute runs the VM until its end, until the time is over, or until ctx ends. It tells whether the VM was stopped,
// or could be after this: then it must not run again.
func (m *machine) execute(ctx context.Context, limit time.Duration) (err error, panicked any, stopped bool) {
	timer := time.AfterFunc(limit, func() { m.stop(stoppedByTime) })
	detach := func() bool { return true }
	if ctx.Done() != nil {
		detach = context.AfterFunc(ctx, func() { m.stop(stoppedByContext) })
	}
	defer func() {
		panicked = recover()
		inTime, detached := timer.Stop(), detach()
		stopped = !inTime || !detached
	}()
	return m.vm.Run(), nil, false
}

func (m *machine) stop(why int32) {
	m.why.CompareAndSwap(0, why)
	m.vm.Abort()
}
