package modules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/apitable"
	"github.com/thence-dev/thence/scripting/internal/compile"
	"github.com/thence-dev/thence/scripting/internal/value"
)

// builder collects the parameters of an operation that creates something, one function a parameter, for scripts that
// read better as a chain than as a map:
//
//	stripe.new_payment_intent().amount(2000).currency("usd").create()
//
// It never changes: each function returns a new builder, so that one may be the beginning of several.
type builder struct {
	tengo.ObjectImpl
	run    *Run
	name   string // as scripts write it, such as stripe.new_payment_intent()
	op     *operation
	types  *apitable.Type // of all parameters
	params *value.Map
	adders map[string]adder
}

// adder makes an element of a list from the arguments of a builder's function, and says which parameter has the list.
type adder struct {
	param string
	fn
}

// newBuilder makes the function that begins a chain for an operation without ids in its path.
func newBuilder(name string, op *operation, adders map[string]adder) fn {
	return fn{0, 0, func(r *Run, _ []tengo.Object) (tengo.Object, error) {
		types, err := op.api.Type(op.Params)
		if err != nil {
			return nil, err
		}
		return &builder{run: r, name: name + "()", op: op, types: types, params: &value.Map{}, adders: adders}, nil
	}}
}

// TypeName returns "builder".
func (b *builder) TypeName() string { return "builder" }

func (b *builder) String() string { return "<builder " + b.name + ">" }

// Copy returns the builder: nobody can change it.
func (b *builder) Copy() tengo.Object { return b }

// Equals is true of the same builder only.
func (b *builder) Equals(x tengo.Object) bool { return b == x }

// IndexGet returns create, the function that sets a parameter, or add_ and the singular of one that is a list.
func (b *builder) IndexGet(index tengo.Object) (tengo.Object, error) {
	key, ok := index.(*tengo.String)
	if !ok {
		return nil, tengo.ErrInvalidIndexType
	}
	name := key.Value
	if name == "create" {
		return function(b.run, b.name+".create", fn{0, 1, b.create}), nil
	}
	if p, ok := b.types.Prop(name); ok {
		return function(b.run, b.name+"."+name, fn{1, 1, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
			return b.with(p, args[0])
		}}), nil
	}
	if a, ok := b.adder(name); ok {
		return function(b.run, b.name+"."+name, fn{a.min, a.max, func(r *Run, args []tengo.Object) (tengo.Object, error) {
			return b.add(a, r, args)
		}}), nil
	}
	return nil, fmt.Errorf("%s has no %q%s", b.name, name, compile.Suggest(name, append(b.types.Names(), "create")))
}

// adder finds the list that add_... adds to: the builder's own, or the parameter that is its plural.
func (b *builder) adder(name string) (adder, bool) {
	if a, ok := b.adders[name]; ok {
		return a, true
	}
	one, ok := strings.CutPrefix(name, "add_")
	if _, has := b.types.Prop(one + "s"); !ok || !has {
		return adder{}, false
	}
	return adder{one + "s", fn{1, 1, func(_ *Run, args []tengo.Object) (tengo.Object, error) { return args[0], nil }}}, true
}

// add sets a list to what it is with one element more.
func (b *builder) add(a adder, r *Run, args []tengo.Object) (tengo.Object, error) {
	element, err := a.call(r, args)
	if err != nil {
		return nil, err
	}
	list, isList := value.NewArray(nil), true
	if before, ok := b.params.Get(a.param); ok {
		list, isList = before.(*value.Array)
	}
	if !isList {
		return nil, fmt.Errorf("the parameter %s is no list", a.param)
	}
	longer, err := list.Append([]tengo.Object{element})
	if err != nil {
		return nil, err
	}
	p, _ := b.types.Prop(a.param)
	return b.with(p, longer)
}

// with returns a builder that has a parameter besides; undefined takes one out. The value is checked now, so that an
// error stands on the line that has the mistake.
func (b *builder) with(p apitable.Prop, v tengo.Object) (tengo.Object, error) {
	more := *b
	more.params = value.NewMap(b.params.Len() + 1)
	for name, old := range b.params.All() {
		more.params.Set(name, old)
	}
	if v == tengo.UndefinedValue {
		more.params.Delete(p.Name)
		return &more, nil
	}
	f := &fitter{api: b.op.api, text: b.op.Body != apitable.JSON}
	if _, err := f.fit(p.Type, v); err != nil {
		return nil, below(p.Name, err)
	}
	more.params.Set(p.Name, v.Copy())
	return &more, nil
}

// create([options]) makes the call, as the operation of a resource does.
func (b *builder) create(r *Run, args []tengo.Object) (tengo.Object, error) {
	return b.op.call(r, slices.Concat([]tengo.Object{b.params}, args))
}
