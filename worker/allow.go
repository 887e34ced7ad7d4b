package worker

import (
	"path"
	"slices"
	"strings"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/worker/calls"
)

// allowed is what a pool lets its scripts do. Whoever may publish jobs may publish source, unless inline source is off;
// so what source may do is what everybody may do who may publish.
type allowed struct {
	inline   bool
	pools    []string
	contexts []string
}

// run tells why a script may not run; nil when it may.
func (a allowed) run(s scripting.Script) *death {
	if s.Source == "" || a.inline {
		return nil
	}
	return dead(job.ReasonDenied, "the pool runs no inline source: name a script of the library instead (header %s)", job.HeaderScript)
}

// call tells why what runs may not call a service; nil when it may.
func (a allowed) call(ran scripting.Script, id string, s calls.Service, r *job.Request) *death {
	if ran.Source == "" || s.Inline || !s.Secret(r.Header) {
		return nil
	}
	return dead(job.ReasonDenied, "call %s: inline source may not call %s with a secret: put the script into the library, or let the service say `inline: true`",
		id, s.Name)
}

// dispatch tells why a job may not be dispatched; nil when it may. A context may always dispatch to itself.
func (a allowed) dispatch(id string, from, to job.Address) *death {
	switch {
	case to == from:
		return nil
	case to.Pool != from.Pool && !slices.Contains(a.pools, "*") && !slices.Contains(a.pools, to.Pool):
		return dead(job.ReasonDenied, "dispatch %s: the pool %s is not among those that this pool may dispatch to (--dispatch-pools of its workers)", id, to.Pool)
	case len(a.contexts) > 0 && !slices.ContainsFunc(a.contexts, func(pattern string) bool { return matches(pattern, to.Context) }):
		return dead(job.ReasonDenied, "dispatch %s: the context %s is not among those that this pool may dispatch to (--dispatch-contexts of its workers)", id, to.Context)
	}
	return nil
}

// matches tells whether a name fits a pattern, in which a slash is a character as any other.
func matches(pattern, name string) bool {
	fits, err := path.Match(noSlash(pattern), noSlash(name))
	return err == nil && fits
}

// noSlash puts what stands in no context's name in place of slashes, at which * would stop.
func noSlash(s string) string { return strings.ReplaceAll(s, "/", "\x01") }
