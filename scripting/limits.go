package scripting

import (
	"time"

	"github.com/thence-dev/thence/scripting/internal/compile"
	"github.com/thence-dev/thence/scripting/internal/modules"
)

// withDefaults fills the zero fields.
func (l Limits) withDefaults() Limits {
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
