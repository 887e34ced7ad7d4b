package modules

import (
	"fmt"
	"maps"
	"slices"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/compile"
	"github.com/thence-dev/thence/scripting/internal/value"
)

// fn is a function of a module, or a built-in one. max < 0 is any number of arguments.
type fn struct {
	min, max int
	call     func(r *Run, args []tengo.Object) (tengo.Object, error)
}

// members makes the members of a module for a run: functions, and values that never change.
type members = map[string]any

// natives are the modules written in Go.
var natives = map[string]func(r *Run) tengo.Object{
	"base64":  plain("base64", base64Members),
	"context": plain("context", contextMembers),
	"flow":    plain("flow", flowMembers),
	"fmt":     plain("fmt", fmtMembers),
	"hex":     plain("hex", hexMembers),
	"http":    plain("http", httpMembers),
	"job":     newJob,
	"json":    plain("json", jsonMembers),
	"log":     plain("log", logMembers),
	"math":    plain("math", mathMembers),
	"openapi": plain("openapi", openapiMembers),
	"rand":    plain("rand", randMembers),
	"stripe":  newStripe,
	"text":    plain("text", textMembers),
	"times":   plain("times", timesMembers),
}

func plain(name string, m members) func(*Run) tengo.Object {
	return func(r *Run) tengo.Object { return newModule(r, name, m) }
}

// Has tells whether there is a module of that name written in Go.
func Has(name string) bool { return natives[name] != nil }

// Source returns the source of a module written in Tengo.
func Source(name string) (string, bool) {
	if name == "enum" {
		return enumSource, true
	}
	return "", false
}

// Names lists all modules, in order.
func Names() []string {
	return slices.Sorted(maps.Keys(maps.Collect(func(yield func(string, bool) bool) {
		for n := range natives {
			if !yield(n, true) {
				return
			}
		}
		yield("enum", true)
	})))
}

// New makes the module for a run.
func New(name string, r *Run) tengo.Object { return natives[name](r) }

// Module is what import returns for a module written in Go.
type Module struct {
	tengo.ObjectImpl
	name    string
	members *value.Map
	lazy    map[string]func() (tengo.Object, error)
}

func newModule(r *Run, name string, m members) *Module {
	mod := &Module{name: name, members: value.NewMap(len(m))}
	for key, member := range m {
		switch member := member.(type) {
		case fn:
			mod.members.Set(key, function(r, name+"."+key, member))
		case tengo.Object:
			mod.members.Set(key, member)
		}
	}
	return mod
}

// function makes a function of a module for a run. It checks the number of arguments, and puts the function's name in
// front of its errors.
func function(r *Run, name string, f fn) tengo.Object {
	return &tengo.UserFunction{Name: name, Value: guarded(r, name, f)}
}

func guarded(r *Run, name string, f fn) tengo.CallableFunc {
	return func(args ...tengo.Object) (tengo.Object, error) {
		if len(args) < f.min || f.max >= 0 && len(args) > f.max {
			return nil, fmt.Errorf("%s: %s", name, arity(f, len(args)))
		}
		o, err := f.call(r, args)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return o, nil
	}
}

func arity(f fn, got int) string {
	noun := "arguments"
	if f.max == 1 || f.max < 0 && f.min == 1 {
		noun = "argument"
	}
	switch {
	case f.max == 0:
		return fmt.Sprintf("want no arguments, got %d", got)
	case f.max < 0:
		return fmt.Sprintf("want at least %d %s, got %d", f.min, noun, got)
	case f.min == f.max:
		return fmt.Sprintf("want %d %s, got %d", f.min, noun, got)
	}
	return fmt.Sprintf("want %d to %d %s, got %d", f.min, f.max, noun, got)
}

// TypeName returns "module".
func (m *Module) TypeName() string { return "module" }

func (m *Module) String() string { return "<module " + m.name + ">" }

// Copy returns the module: nobody can change it.
func (m *Module) Copy() tengo.Object { return m }

// Equals is true of the same module only.
func (m *Module) Equals(x tengo.Object) bool { return m == x }

// IndexGet returns a member. One that is not there is an error: it can only be a mistake.
func (m *Module) IndexGet(index tengo.Object) (tengo.Object, error) {
	key, ok := index.(*tengo.String)
	if !ok {
		return nil, tengo.ErrInvalidIndexType
	}
	if v, ok := m.members.Get(key.Value); ok {
		return v, nil
	}
	if get, ok := m.lazy[key.Value]; ok {
		return get()
	}
	return nil, fmt.Errorf("module %s has no %q%s", m.name, key.Value, compile.Suggest(key.Value, m.keys()))
}

func (m *Module) keys() []string {
	keys := slices.Concat(m.members.Keys(), slices.Collect(maps.Keys(m.lazy)))
	slices.Sort(keys)
	return keys
}

// CanIterate is true.
func (m *Module) CanIterate() bool { return true }

// Iterate walks over the members in order. A member that cannot be read is undefined.
func (m *Module) Iterate() tengo.Iterator {
	all := value.NewMap(m.members.Len() + len(m.lazy))
	for k, v := range m.members.All() {
		all.Set(k, v)
	}
	for k, get := range m.lazy {
		v, err := get()
		if err != nil {
			v = tengo.UndefinedValue
		}
		all.Set(k, v)
	}
	return all.Iterate()
}
