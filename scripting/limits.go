package scripting

import (
	"time"

	"github.com/thence-dev/thence/scripting/internal/compile"
	"github.com/thence-dev/thence/scripting/internal/modules"
)

// WithDefaults returns the limits with the zero fields filled, and Source cut to what can be compiled at all.
func (l Limits) WithDefaults() Limits {
	def := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	if l.Time <= 0 {
		l.Time = time.Second
	}
	if l.Allocs <= 0 {
		l.Allocs = 2_000_000
	}
	def(&l.Source, 64<<10)
	def(&l.State, 256<<10)
	def(&l.Output, 64<<10)
	def(&l.Effects, 1000)
	def(&l.Outbox, 384<<10)
	def(&l.Result, 64<<10)
	l.Source = min(l.Source, compile.MaxSource)
	return l
}

func (l Limits) forModules() modules.Limits {
	return modules.Limits{Source: l.Source, State: l.State, Output: l.Output, Effects: l.Effects, Outbox: l.Outbox,
		Result: l.Result}
}
