package modules

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

type builtin struct {
	name string
	fn   fn
}

// builtins are Tengo's, made safe and in key order, and ours. Those that start with a colon stand for syntax: see
// package compile.
var builtins = []builtin{
	{":map", fn{0, -1, makeMap}},
	{":map_more", fn{1, -1, makeMapMore}},
	{":array", fn{0, -1, makeArray}},
	{":array_more", fn{1, -1, appendTo}},
	{":slice", fn{3, 3, slice}},
	{":error", fn{1, 1, makeError}},
	{":immutable", fn{1, 1, immutable}},
	{":spread", fn{1, 1, spread}},
	{":rest", fn{1, 1, rest}},
	{"len", fn{1, 1, length}},
	{"copy", fn{1, 1, func(_ *Run, a []tengo.Object) (tengo.Object, error) { return value.Copy(a[0]), nil }}},
	{"append", fn{2, -1, appendTo}},
	{"delete", fn{2, 2, remove}},
	{"splice", fn{1, -1, splice}},
	{"string", fn{1, 2, toStringValue}},
	{"int", fn{1, 2, toIntValue}},
	{"bool", fn{1, 1, func(_ *Run, a []tengo.Object) (tengo.Object, error) { return boolean(!a[0].IsFalsy()), nil }}},
	{"float", fn{1, 2, toFloatValue}},
	{"char", fn{1, 2, toCharValue}},
	{"bytes", fn{1, 2, toBytesValue}},
	{"time", fn{1, 2, toTimeValue}},
	{"type_name", fn{1, 1, func(_ *Run, a []tengo.Object) (tengo.Object, error) { return str(a[0].TypeName()), nil }}},
	{"format", fn{1, -1, format}},
	{"range", fn{2, 3, makeRange}},
	{"print", fn{0, -1, printLine}},
	{"secret", fn{1, 1, makeSecret}},
	{"is_int", is(func(o tengo.Object) bool { _, ok := o.(*tengo.Int); return ok })},
	{"is_float", is(func(o tengo.Object) bool { _, ok := o.(*tengo.Float); return ok })},
	{"is_string", is(func(o tengo.Object) bool { _, ok := o.(*tengo.String); return ok })},
	{"is_bool", is(func(o tengo.Object) bool { _, ok := o.(*tengo.Bool); return ok })},
	{"is_char", is(func(o tengo.Object) bool { _, ok := o.(*tengo.Char); return ok })},
	{"is_bytes", is(func(o tengo.Object) bool { _, ok := o.(*value.Bytes); return ok })},
	{"is_array", is(func(o tengo.Object) bool { a, ok := o.(*value.Array); return ok && !a.Frozen() })},
	{"is_immutable_array", is(func(o tengo.Object) bool { a, ok := o.(*value.Array); return ok && a.Frozen() })},
	{"is_map", is(func(o tengo.Object) bool { m, ok := o.(*value.Map); return ok && !m.Frozen() })},
	{"is_immutable_map", is(func(o tengo.Object) bool { m, ok := o.(*value.Map); return ok && m.Frozen() })},
	{"is_iterable", is(tengo.Object.CanIterate)},
	{"is_time", is(func(o tengo.Object) bool { _, ok := o.(*tengo.Time); return ok })},
	{"is_error", is(func(o tengo.Object) bool { _, ok := o.(*value.Error); return ok })},
	{"is_undefined", is(func(o tengo.Object) bool { return o == tengo.UndefinedValue })},
	{"is_function", is(func(o tengo.Object) bool { _, ok := o.(*tengo.CompiledFunction); return ok })},
	{"is_callable", is(tengo.Object.CanCall)},
}

func is(test func(tengo.Object) bool) fn {
	return fn{1, 1, func(_ *Run, a []tengo.Object) (tengo.Object, error) { return boolean(test(a[0])), nil }}
}

// Builtins lists the names of the built-in functions, in the order in which Bind returns them.
func Builtins() []string {
	names := make([]string, len(builtins))
	for i, b := range builtins {
		names[i] = b.name
	}
	return names
}

// Bind makes the built-in functions for a run.
func Bind(r *Run) []tengo.Object {
	list := make([]tengo.Object, len(builtins))
	for i, b := range builtins {
		list[i] = &tengo.BuiltinFunction{Name: b.name, Value: guarded(r, strings.TrimPrefix(b.name, ":"), b.fn)}
	}
	return list
}

func makeMap(_ *Run, args []tengo.Object) (tengo.Object, error) { return value.MapOf(args), nil }

func makeMapMore(_ *Run, args []tengo.Object) (tengo.Object, error) {
	m := args[0].(*value.Map)
	for i := 1; i+1 < len(args); i += 2 {
		m.Set(args[i].(*tengo.String).Value, args[i+1])
	}
	return m, nil
}

// makeArray keeps its arguments: the VM makes them anew for each call.
func makeArray(_ *Run, args []tengo.Object) (tengo.Object, error) {
	return value.NewArray(args[:len(args):len(args)]), nil
}

func slice(_ *Run, args []tengo.Object) (tengo.Object, error) {
	lo, hi, err := bounds(args[1], args[2])
	if err != nil {
		return nil, err
	}
	switch x := args[0].(type) {
	case *value.Array:
		return x.Slice(lo, hi), nil
	case *tengo.String:
		from, to := cut(lo, hi, len(x.Value))
		return str(x.Value[from:to]), nil
	case *value.Bytes:
		from, to := cut(lo, hi, len(x.Value))
		return &value.Bytes{Value: x.Value[from:to:to]}, nil
	}
	return nil, fmt.Errorf("a value of type %s has no slices", args[0].TypeName())
}

func bounds(lo, hi tengo.Object) (int64, int64, error) {
	from, to := int64(0), int64(math.MaxInt64)
	if lo != tengo.UndefinedValue {
		i, ok := lo.(*tengo.Int)
		if !ok {
			return 0, 0, fmt.Errorf("an index must be an int, not %s", lo.TypeName())
		}
		from = i.Value
	}
	if hi != tengo.UndefinedValue {
		i, ok := hi.(*tengo.Int)
		if !ok {
			return 0, 0, fmt.Errorf("an index must be an int, not %s", hi.TypeName())
		}
		to = i.Value
	}
	if from > to {
		return 0, 0, fmt.Errorf("invalid slice index: %d > %d", from, to)
	}
	return from, to, nil
}

func cut(lo, hi int64, n int) (int, int) {
	lo, hi = min(max(lo, 0), int64(n)), min(max(hi, 0), int64(n))
	return int(lo), int(max(lo, hi))
}

func makeError(_ *Run, args []tengo.Object) (tengo.Object, error) {
	return &value.Error{Value: args[0]}, nil
}

func immutable(_ *Run, args []tengo.Object) (tengo.Object, error) {
	switch x := args[0].(type) {
	case *value.Array:
		return x.Freeze(), nil
	case *value.Map:
		return x.Freeze(), nil
	}
	return args[0], nil
}

// spread makes what the VM can spread over the arguments of a call.
func spread(_ *Run, args []tengo.Object) (tengo.Object, error) {
	a, ok := args[0].(*value.Array)
	if !ok {
		return nil, fmt.Errorf("only an array can be spread with ..., not %s", args[0].TypeName())
	}
	const most = 1000
	if len(a.Items) > most {
		return nil, fmt.Errorf("an array of %d elements cannot be spread: %d at most", len(a.Items), most)
	}
	return &tengo.Array{Value: a.Items}, nil
}

// rest makes our array of the VM's, which holds the last arguments of a call.
func rest(_ *Run, args []tengo.Object) (tengo.Object, error) {
	if a, ok := args[0].(*tengo.Array); ok {
		return value.NewArray(a.Value), nil
	}
	return args[0], nil
}

func length(_ *Run, args []tengo.Object) (tengo.Object, error) {
	switch x := args[0].(type) {
	case *value.Array:
		return integer(int64(len(x.Items))), nil
	case *tengo.String:
		return integer(int64(len(x.Value))), nil
	case *value.Bytes:
		return integer(int64(len(x.Value))), nil
	case *value.Map:
		return integer(int64(x.Len())), nil
	}
	return nil, wrong(0, "an array, a string, bytes or a map", args[0])
}

func appendTo(_ *Run, args []tengo.Object) (tengo.Object, error) {
	a, err := toArray(args, 0)
	if err != nil {
		return nil, err
	}
	return a.Append(args[1:])
}

func remove(_ *Run, args []tengo.Object) (tengo.Object, error) {
	m, err := toMap(args, 0)
	if err != nil {
		return nil, err
	}
	if m.Frozen() {
		return nil, errors.New("an immutable map cannot be changed")
	}
	key, ok := args[1].(*tengo.String)
	if !ok {
		return nil, wrong(1, "a string", args[1])
	}
	m.Delete(key.Value)
	return tengo.UndefinedValue, nil
}

// splice(array[, start[, delete_count[, items...]]]) changes the array and returns what it took out.
func splice(_ *Run, args []tengo.Object) (tengo.Object, error) {
	a, err := toArray(args, 0)
	if err != nil {
		return nil, err
	}
	if a.Frozen() {
		return nil, errors.New("an immutable array cannot be changed")
	}
	start, count := 0, len(a.Items)
	if len(args) > 1 {
		if start, err = toCount(args, 1, 0, int64(len(a.Items))); err != nil {
			return nil, err
		}
	}
	if len(args) > 2 {
		if count, err = toCount(args, 2, 0, math.MaxInt64); err != nil {
			return nil, err
		}
	}
	end := start + min(count, len(a.Items)-start)
	taken := append([]tengo.Object(nil), a.Items[start:end]...)
	var added []tengo.Object
	if len(args) > 3 {
		added = args[3:]
	}
	items := make([]tengo.Object, 0, len(a.Items)-len(taken)+len(added))
	items = append(append(append(items, a.Items[:start]...), added...), a.Items[end:]...)
	if len(items) > value.MaxItems {
		return nil, fmt.Errorf("an array may have %d elements at most", value.MaxItems)
	}
	a.Items = items
	return value.NewArray(taken), nil
}

func format(_ *Run, args []tengo.Object) (tengo.Object, error) {
	f, ok := args[0].(*tengo.String)
	if !ok {
		return nil, wrong(0, "a string", args[0])
	}
	if len(args) == 1 {
		return f, nil
	}
	for i, a := range args[1:] {
		if s, ok := a.(*value.Secret); ok {
			args[i+1] = str(s.Show())
		}
	}
	s, err := tengo.Format(f.Value, args[1:]...)
	if err != nil {
		return nil, err
	}
	return str(s), nil
}

func makeRange(_ *Run, args []tengo.Object) (tengo.Object, error) {
	n := [3]int64{2: 1}
	for i, a := range args {
		v, ok := a.(*tengo.Int)
		if !ok {
			return nil, wrong(i, "an int", a)
		}
		n[i] = v.Value
	}
	start, stop, step := n[0], n[1], n[2]
	if step <= 0 {
		return nil, tengo.ErrInvalidRangeStep
	}
	distance := uint64(stop) - uint64(start)
	if start > stop {
		distance = uint64(start) - uint64(stop)
	}
	count := distance / uint64(step)
	if distance%uint64(step) != 0 {
		count++
	}
	if count > value.MaxItems {
		return nil, fmt.Errorf("a range of %d elements is too long: %d at most", count, value.MaxItems)
	}
	items := make([]tengo.Object, count)
	for i := range items {
		if start <= stop {
			items[i] = integer(start + int64(i)*step)
		} else {
			items[i] = integer(start - int64(i)*step)
		}
	}
	return value.NewArray(items), nil
}

func printLine(r *Run, args []tengo.Object) (tengo.Object, error) {
	r.out.write(printed(args, " ") + "\n")
	return tengo.UndefinedValue, nil
}

var secretName = lazy(`^[a-zA-Z_][a-zA-Z0-9_]{0,63}$`)

func makeSecret(_ *Run, args []tengo.Object) (tengo.Object, error) {
	name, ok := args[0].(*tengo.String)
	if !ok {
		return nil, wrong(0, "the name of a secret", args[0])
	}
	if !secretName().MatchString(name.Value) {
		return nil, fmt.Errorf("%q is no name of a secret: want letters, digits and _, such as stripe_key", name.Value)
	}
	return &value.Secret{Name: name.Value}, nil
}
