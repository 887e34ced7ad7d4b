package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox"
	"github.com/thence-dev/thence/worker"
)

// scriptFlags say how scripts are bounded.
type scriptFlags struct {
	sandbox string
	limits  []string
}

// What --sandbox may be.
const (
	sandboxOn      = "on"
	sandboxRequire = "require"
	sandboxOff     = "off"
)

func (s *scriptFlags) register(f *pflag.FlagSet) {
	f.StringVar(&s.sandbox, "sandbox", sandboxOn, "on: scripts run in child processes, in as many layers as this system has, which the log names;\n"+
		"require: don't start where a layer is missing; off: in this process, which a script can then end:\nfor scripts whose authors are trusted")
	s.registerLimits(f)
}

func (s *scriptFlags) registerLimits(f *pflag.FlagSet) {
	f.StringArrayVar(&s.limits, "limit", nil, "bound of a script's run as NAME=VALUE, repeatable: time=1s (of the CPU's), memory=64MiB, source=64KiB, state=256KiB,\n"+
		"output=64KiB, result=64KiB, outbox=384KiB, effects=1000, allocs=2000000 (those are the defaults)")
}

func (s *scriptFlags) check() error {
	if !slices.Contains([]string{sandboxOn, sandboxRequire, sandboxOff}, s.sandbox) {
		return fmt.Errorf("--sandbox %q: want on, require or off", s.sandbox)
	}
	_, _, err := s.bounds()
	return err
}

// apply puts the flags into a worker's configuration, of which the library is there already.
func (s *scriptFlags) apply(c *worker.Config) error {
	limits, memory, err := s.bounds()
	if err != nil {
		return usageError{err}
	}
	c.Limits = limits
	c.Sandbox = sandbox.Options{Memory: memory, Require: s.sandbox == sandboxRequire}
	if s.sandbox == sandboxOff {
		c.Runner = scripting.NewEngine(c.Library)
		c.Logger.Warn("scripts run in this process (--sandbox off): one that loops in native code or runs out of memory ends it")
	}
	return nil
}

// bounds reads --limit.
func (s *scriptFlags) bounds() (l scripting.Limits, memory int64, err error) {
	sizes := map[string]func(int64){
		"memory": func(n int64) { memory = n }, "allocs": func(n int64) { l.Allocs = n },
		"source": into(&l.Source), "state": into(&l.State), "output": into(&l.Output), "result": into(&l.Result),
		"outbox": into(&l.Outbox), "effects": into(&l.Effects),
	}
	for _, limit := range s.limits {
		name, value, _ := strings.Cut(limit, "=")
		set, known := sizes[name]
		switch {
		case name == "time":
			l.Time, err = time.ParseDuration(value)
			if err != nil || l.Time <= 0 {
				return l, 0, fmt.Errorf("--limit %s: want a duration, such as time=2s", limit)
			}
		case !known:
			return l, 0, fmt.Errorf("--limit %s: there is no limit %q; those there are: time, %s", limit, name, strings.Join(slices.Sorted(maps.Keys(sizes)), ", "))
		default:
			n, ok := size(value)
			if !ok {
				return l, 0, fmt.Errorf("--limit %s: want a number above 0, such as %s=1000, %s=64KiB or %s=1MiB", limit, name, name, name)
			}
			set(n)
		}
	}
	if memory != 0 && memory < sandbox.LeastMemory {
		return l, 0, fmt.Errorf("--limit memory=%d: want %d MiB or more, the unit in which children's memory is bounded", memory, sandbox.LeastMemory>>20)
	}
	if memory != 0 && s.sandbox == sandboxOff {
		return l, 0, fmt.Errorf("--limit memory needs the sandbox: in this process (--sandbox off) nothing bounds a script's memory")
	}
	return l, memory, nil
}

func into(n *int) func(int64) { return func(v int64) { *n = int(v) } }

// size reads a number, with KiB, MiB or GiB behind it where it counts bytes.
func size(text string) (int64, bool) {
	shift := 0
	for unit, s := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			text, shift = rest, s
		}
	}
	n, err := strconv.ParseInt(text, 10, 31)
	return n << shift, err == nil && n > 0
}
