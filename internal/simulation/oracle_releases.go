package simulation

import (
	"fmt"
	"slices"
	"strings"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// ranOn checks which release a job ran on, by the mark that it left in the state.
func (o *oracle) ranOn(l *contextLine, a *accepted, s State) {
	parents, flows := o.flowOf(l, a)
	if a.release = parents; a.ended != job.OutcomeDone || o.program(l, a) == nil {
		return
	}
	if len(s.On) != len(s.Ran) || len(s.On) == 0 {
		o.world.violate("the state is that of the jobs in order, once each", "context %s has %d marks of %d jobs", l.name, len(s.On), len(s.Ran))
		return
	}
	a.release = s.On[len(s.On)-1]
	switch {
	case flows && a.release != parents:
		o.world.violate("a flow stays on its release", "job %d of %s (%s) ran on %s, and its parent on %s", a.sequence, l.name, a.identity, a.release, parents)
	case !flows && !o.wasCurrent(a):
		o.world.violate("what begins runs on the current release", "job %d of %s (%s) ran on %s", a.sequence, l.name, a.identity, a.release)
	}
}

// flowOf is the release of the job that asked for this one in its context. There is none of a job that came from
// elsewhere, nor does it count for one that failed, held its context and was let go.
func (o *oracle) flowOf(l *contextLine, a *accepted) (release string, flows bool) {
	key, answers := strings.CutPrefix(a.identity, "answer ")
	if !answers {
		var is bool
		if key, is = strings.CutPrefix(a.identity, "effect "+Pool+"."+l.name+"."); !is {
			return "", false
		}
	}
	var seq uint64
	if n, _ := fmt.Sscan(strings.Split(key, "-")[0], &seq); n != 1 || l.find(seq) == nil {
		return "", false
	}
	release = l.find(seq).release
	return release, release != "" && a.sequence != l.renewed
}

// wasCurrent tells whether a job ran on a release that a process could take for the current one while it was there.
func (o *oracle) wasCurrent(a *accepted) bool {
	turns := o.world.releases.turns
	return slices.ContainsFunc(turns[a.least:], func(t stream.Turn) bool { return t.Name == a.release })
}
