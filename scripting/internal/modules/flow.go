package modules

import (
	"fmt"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/compile"
)

// flowMembers asks for jobs: flow.dispatch({context: "cus_7", script: "remind", data: {...}}) returns the job's id; and
// lists and takes back the calls and timers that the context waits for.
var flowMembers = members{
	"dispatch": fn{1, 1, flowDispatch},
	"calls":    fn{0, 0, flowCalls},
	"cancel":   fn{1, 1, flowCancel},
}

var (
	poolName    = lazy(`^[a-zA-Z0-9_-]{1,32}$`)
	contextName = lazy(`^[a-zA-Z0-9_=/-]{1,128}$`)
	scriptName  = lazy(`^([a-zA-Z_][a-zA-Z0-9_]{0,99}|inline-[0-9a-f]{16})$`)
)

func flowDispatch(r *Run, args []tengo.Object) (tengo.Object, error) {
	o, err := readOptions(args, 0, "worker", "pool", "context", "script", "source", "data", "after", "at", "tag", "catch")
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"after", "at"} {
		if v, given := o.m.Get(key); given && v == tengo.UndefinedValue {
			return nil, fmt.Errorf("option %s is undefined: leave it out to dispatch the job now", key)
		}
	}
	if o.isTimer() {
		return flowTimer(r, o)
	}
	for _, key := range []string{"tag", "catch"} {
		if _, given := o.get(key); given {
			o.fail("option %s belongs to a job that is dispatched later (after, at): nobody takes this one back", key)
		}
	}
	d := &Dispatch{Worker: o.text("worker"), Context: o.text("context"), Script: o.text("script"),
		Source: o.text("source"), Data: o.json("data")}
	if pool := o.text("pool"); pool != "" {
		if d.Worker != "" && d.Worker != pool {
			o.fail("options worker and pool mean the same: give one")
		}
		d.Worker = pool
	}
	r.checkDispatch(o, d)
	if o.err != nil {
		return nil, o.err
	}
	d.ID = r.nextID()
	size := len(d.Worker) + len(d.Context) + len(d.Script) + len(d.Source) + len(d.Data)
	if err := r.ask(Effect{Dispatch: d}, size); err != nil {
		return nil, err
	}
	return str(d.ID), nil
}

// checkDispatch checks names. A script of another pool is not known here.
func (r *Run) checkDispatch(o *options, d *Dispatch) {
	if d.Worker != "" && !poolName().MatchString(d.Worker) {
		o.fail("%q is no name of a worker pool: want letters, digits, _ and -, at most 32", d.Worker)
	}
	if d.Context != "" && !contextName().MatchString(d.Context) {
		o.fail("%q is no name of a context: want letters, digits, _, -, = and /, at most 128", d.Context)
	}
	here := d.Worker == "" || d.Worker == r.job.Worker
	switch {
	case (d.Script == "") == (d.Source == ""):
		o.fail("one of the options script and source must be given")
	case d.Script != "" && !scriptName().MatchString(d.Script):
		o.fail("%q is no name of a script", d.Script)
	case d.Script != "" && here && !r.known(d.Script):
		o.fail("option script: %s", r.unknown(d.Script))
	case len(d.Source) > min(r.limits.Source, compile.MaxSource):
		o.fail("%w", &LimitError{"source", len(d.Source), min(r.limits.Source, compile.MaxSource)})
	}
}
