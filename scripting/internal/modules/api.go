package modules

import (
	"fmt"
	"maps"
	"slices"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/apitable"
	"github.com/thence-dev/thence/scripting/internal/compile"
	"github.com/thence-dev/thence/scripting/internal/value"
)

// apiOptions are what may follow the parameters of an API's operation.
var apiOptions = []string{"then", "catch", "tag", "timeout", "idempotency_key"}

// resource is a module that is a place in an API: its members are the resources below it, and what can be done there. It
// makes them when a script asks for them, as an API may have hundreds.
type resource struct {
	tengo.ObjectImpl
	run  *Run
	api  *apitable.API
	at   *apitable.Resource
	own  map[string]fn // members that the API does not have
	made map[string]tengo.Object
}

// newAPI makes the module of an API: its resources, and configure, which has the rest of the run use another key.
func newAPI(r *Run, api *apitable.API) *resource {
	m := &resource{run: r, api: api, at: api.Root()}
	if api.Auth.Header != "" {
		m.own = map[string]fn{"configure": {1, 1, func(r *Run, args []tengo.Object) (tengo.Object, error) {
			return configure(r, api, args)
		}}}
	}
	return m
}

// configure({key: secret("...")}) names the secret that is the key.
func configure(r *Run, api *apitable.API, args []tengo.Object) (tengo.Object, error) {
	o, err := readOptions(args, 0, "key")
	if err != nil {
		return nil, err
	}
	key, _ := o.get("key")
	switch key := key.(type) {
	case *value.Secret:
		if r.keys == nil {
			r.keys = map[string]string{}
		}
		r.keys[api.Name] = key.Name
		return tengo.UndefinedValue, nil
	case *tengo.String:
		return nil, fmt.Errorf("a key does not belong into a script: name the secret, {key: secret(%q)}", api.Auth.Secret)
	}
	return nil, fmt.Errorf("want {key: secret(%q)}", api.Auth.Secret)
}

// TypeName returns "module".
func (m *resource) TypeName() string { return "module" }

func (m *resource) String() string { return "<module " + m.at.Name + ">" }

// Copy returns the module: nobody can change it.
func (m *resource) Copy() tengo.Object { return m }

// Equals is true of the same module only.
func (m *resource) Equals(x tengo.Object) bool { return m == x }

// IndexGet returns a member. One that is not there is an error: it can only be a mistake.
func (m *resource) IndexGet(index tengo.Object) (tengo.Object, error) {
	key, ok := index.(*tengo.String)
	if !ok {
		return nil, tengo.ErrInvalidIndexType
	}
	if o, ok := m.made[key.Value]; ok {
		return o, nil
	}
	o := m.make(key.Value)
	if o == nil {
		return nil, fmt.Errorf("module %s has no %q%s", m.at.Name, key.Value, compile.Suggest(key.Value, m.names()))
	}
	if m.made == nil {
		m.made = map[string]tengo.Object{}
	}
	m.made[key.Value] = o
	return o, nil
}

// make makes a member; nil when there is none of that name.
func (m *resource) make(name string) tengo.Object {
	if child := m.at.Resources[name]; child != nil {
		return &resource{run: m.run, api: m.api, at: child}
	}
	if op := m.at.Operations[name]; op != nil {
		o := &operation{m.api, op, op.PathParams()}
		return function(m.run, m.at.Name+"."+name, o.fn())
	}
	if f, ok := m.own[name]; ok {
		return function(m.run, m.at.Name+"."+name, f)
	}
	return nil
}

func (m *resource) names() []string {
	return slices.Sorted(slices.Values(append(m.at.Names(), slices.Collect(maps.Keys(m.own))...)))
}

// CanIterate is true.
func (m *resource) CanIterate() bool { return true }

// Iterate walks over the members in order.
func (m *resource) Iterate() tengo.Iterator {
	names := m.names()
	all := value.NewMap(len(names))
	for _, name := range names {
		all.Set(name, m.make(name))
	}
	return all.Iterate()
}
