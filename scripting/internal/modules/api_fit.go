package modules

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/apitable"
	"github.com/thence-dev/thence/scripting/internal/compile"
	"github.com/thence-dev/thence/scripting/internal/value"
)

// misfit says that a parameter is not what the API takes.
type misfit struct {
	path    []string // from the parameter's name on, [0] for elements
	message string   // what is wrong with it
	unknown string   // a name in it that the API does not know; then message is what may be meant
	missing []string // names that are missing in it
}

func (e *misfit) Error() string {
	at := strings.ReplaceAll(strings.Join(e.path, "."), ".[", "[")
	switch {
	case e.unknown != "" && at == "":
		return fmt.Sprintf("there is no parameter %q%s", e.unknown, e.message)
	case e.unknown != "":
		return fmt.Sprintf("the parameter %s has no member %q%s", at, e.unknown, e.message)
	case len(e.missing) == 1:
		return "the parameter " + strings.TrimPrefix(at+"."+e.missing[0], ".") + " is missing"
	case len(e.missing) > 1 && at == "":
		return "these parameters are missing: " + strings.Join(e.missing, ", ")
	case len(e.missing) > 1:
		return "these members of the parameter " + at + " are missing: " + strings.Join(e.missing, ", ")
	}
	return "the parameter " + at + " " + e.message
}

// below is the error as seen from one level up.
func below(step string, err error) error {
	var m *misfit
	if errors.As(err, &m) {
		m.path = append([]string{step}, m.path...)
	}
	return err
}

// fitter checks values against an API's types, and returns them as they are to be sent: without members that are
// undefined, and with times as ints where Unix seconds are wanted.
type fitter struct {
	api    *apitable.API
	text   bool // all is sent as text, so that 5 and "5" are the same
	values int
}

// maxValues bounds the work of one check: a map of many members counts for more.
const maxValues = 50_000

// fit checks a value within the parameters.
func (f *fitter) fit(n int, v tengo.Object) (tengo.Object, error) {
	t, err := f.api.Type(n)
	if err != nil {
		return nil, err
	}
	if f.values += 1 + len(t.Props)/8; f.values > maxValues {
		return nil, fmt.Errorf("the parameters have more than %d values", maxValues)
	}
	switch t.Kind {
	case apitable.Any:
		return v, nil
	case apitable.Array, apitable.Map, apitable.Object:
		if f.text && isEmpty(v) {
			return tengo.UndefinedValue, nil // in a form there is no other way to say it, as Stripe's libraries do
		}
	}
	switch t.Kind {
	case apitable.Array:
		if a, ok := v.(*value.Array); ok {
			return f.array(t, a)
		}
	case apitable.Map, apitable.Object:
		if m, ok := v.(*value.Map); ok {
			return f.object(t, m)
		}
	case apitable.Union:
		return f.union(t, v)
	default:
		return f.scalar(t, v)
	}
	return nil, f.wrong(t, v)
}

func (f *fitter) wrong(t *apitable.Type, v tengo.Object) error {
	return &misfit{message: "must be " + f.describe(t) + ", not " + shown(v)}
}

func (f *fitter) array(t *apitable.Type, a *value.Array) (tengo.Object, error) {
	items, changed := a.Items, false
	for i, e := range a.Items {
		fit, err := f.fit(t.Elem, e)
		if err != nil {
			return nil, below("["+strconv.Itoa(i)+"]", err)
		}
		if fit != e {
			if !changed {
				items, changed = slices.Clone(items), true
			}
			items[i] = fit
		}
	}
	if !changed {
		return a, nil
	}
	return value.NewArray(items), nil
}

func (f *fitter) object(t *apitable.Type, m *value.Map) (*value.Map, error) {
	out := m
	change := func() {
		if out == m {
			out = value.NewMap(m.Len())
			for k, v := range m.All() {
				out.Set(k, v)
			}
		}
	}
	for name, v := range m.All() {
		p, err := f.member(t, name)
		if err != nil {
			return nil, err
		}
		if v == tengo.UndefinedValue && !f.nullable(p.Type) {
			change()
			out.Delete(name)
			continue
		}
		fit, err := f.fit(p.Type, v)
		if err != nil {
			return nil, below(name, err)
		}
		if fit != v {
			change()
			out.Set(name, fit)
		}
	}
	return out, complete(t, out)
}

// member is what the type says of a member.
func (f *fitter) member(t *apitable.Type, name string) (apitable.Prop, error) {
	if t.Kind == apitable.Map {
		return apitable.Prop{Type: t.Elem}, nil
	}
	if p, ok := t.Prop(name); ok {
		return p, nil
	}
	if t.Rest >= 0 {
		return apitable.Prop{Type: t.Rest}, nil
	}
	meant := compile.Suggest(name, t.Names())
	if meant == "" && len(t.Props) > 0 && len(t.Props) <= 12 {
		meant = "; there are: " + strings.Join(t.Names(), ", ")
	}
	return apitable.Prop{}, &misfit{unknown: name, message: meant}
}

// complete checks that nothing is missing.
func complete(t *apitable.Type, m *value.Map) error {
	var missing []string
	for _, p := range t.Props {
		if !p.Required {
			continue
		}
		if _, ok := m.Get(p.Name); !ok {
			missing = append(missing, p.Name)
		}
	}
	if len(missing) > 0 {
		return &misfit{missing: missing}
	}
	return nil
}

func (f *fitter) nullable(n int) bool {
	t, err := f.api.Type(n)
	if err != nil || f.text {
		return false
	}
	return t.Kind == apitable.Any || t.Kind == apitable.Null || t.Kind == apitable.Union && slices.ContainsFunc(t.Of, f.nullable)
}

// union takes what fits one of its types. What is wrong is said of the type that has the value's shape, if there is one.
func (f *fitter) union(t *apitable.Type, v tengo.Object) (tengo.Object, error) {
	if f.text && isEmpty(v) && slices.ContainsFunc(t.Of, f.clears) {
		return v, nil
	}
	var near error
	for _, n := range t.Of {
		fit, err := f.fit(n, v)
		if err == nil {
			return fit, nil
		}
		var m *misfit
		if !errors.As(err, &m) {
			return nil, err
		}
		if of, err := f.api.Type(n); err == nil && alike(of.Kind, v) && near == nil {
			near = m
		}
	}
	if near != nil {
		return nil, near
	}
	return nil, f.wrong(t, v)
}

// clears tells whether a type takes the empty text, which clears a member, and is what a form makes of an empty map.
func (f *fitter) clears(n int) bool {
	t, err := f.api.Type(n)
	return err == nil && t.Kind == apitable.Enum && slices.Contains(t.Values, "")
}

// isEmpty tells whether a value is a map or an array without anything in it.
func isEmpty(v tengo.Object) bool {
	switch v := v.(type) {
	case *value.Map:
		return v.Len() == 0
	case *value.Array:
		return len(v.Items) == 0
	}
	return false
}

func alike(k apitable.Kind, v tengo.Object) bool {
	switch v.(type) {
	case *value.Map:
		return k == apitable.Map || k == apitable.Object
	case *value.Array:
		return k == apitable.Array
	}
	return false
}

func (f *fitter) scalar(t *apitable.Type, v tengo.Object) (tengo.Object, error) {
	switch v.(type) {
	case *value.Map, *value.Array:
		return nil, f.wrong(t, v)
	case *value.Secret: // the encoder says why it can't be sent
		return v, nil
	}
	ok := false
	switch t.Kind {
	case apitable.Null:
		ok = v == tengo.UndefinedValue
	case apitable.String:
		return f.str(t, v)
	case apitable.Int, apitable.Time:
		return f.int(t, v)
	case apitable.Number:
		ok = f.number(v)
	case apitable.Bool:
		_, ok = v.(*tengo.Bool)
		s, isText := v.(*tengo.String)
		ok = ok || f.text && isText && (s.Value == "true" || s.Value == "false")
	case apitable.Enum, apitable.Open:
		return f.enum(t, v)
	case apitable.Bytes:
		if s, isText := v.(*tengo.String); isText {
			return &value.Bytes{Value: []byte(s.Value)}, nil
		}
		_, ok = v.(*value.Bytes)
	}
	if !ok {
		return nil, f.wrong(t, v)
	}
	return v, nil
}

func (f *fitter) str(t *apitable.Type, v tengo.Object) (tengo.Object, error) {
	switch v := v.(type) {
	case *tengo.String:
		if t.Most > 0 && len(v.Value) > t.Most && utf8.RuneCountInString(v.Value) > t.Most {
			return nil, &misfit{message: fmt.Sprintf("has %d characters, at most %d are allowed", utf8.RuneCountInString(v.Value), t.Most)}
		}
		return v, nil
	case *tengo.Time, *value.Bytes:
		return v, nil
	case *tengo.Int, *tengo.Float, *tengo.Bool, *tengo.Char:
		if f.text {
			return v, nil
		}
	}
	return nil, f.wrong(t, v)
}

// int takes ints, floats without a fraction, and times in Unix seconds.
func (f *fitter) int(t *apitable.Type, v tengo.Object) (tengo.Object, error) {
	switch v := v.(type) {
	case *tengo.Int:
		return v, nil
	case *tengo.Time:
		return integer(v.Value.Unix()), nil
	case *tengo.Float:
		if n := int64(v.Value); float64(n) == v.Value && n < 1<<53 && n > -1<<53 {
			return integer(n), nil
		}
	case *tengo.String:
		if _, err := strconv.ParseInt(v.Value, 10, 64); err == nil && f.text {
			return v, nil
		}
	}
	return nil, f.wrong(t, v)
}

func (f *fitter) number(v tengo.Object) bool {
	switch v := v.(type) {
	case *tengo.Int, *tengo.Float:
		return true
	case *tengo.String:
		_, err := strconv.ParseFloat(v.Value, 64)
		return err == nil && f.text
	}
	return false
}

func (f *fitter) enum(t *apitable.Type, v tengo.Object) (tengo.Object, error) {
	if v == tengo.UndefinedValue {
		return nil, f.wrong(t, v)
	}
	s, err := formText(v)
	if err != nil {
		return nil, f.wrong(t, v)
	}
	if t.Kind == apitable.Open || slices.Contains(t.Values, s) {
		return v, nil
	}
	return nil, &misfit{message: "must be " + f.describe(t) + ", not " + shown(v) + compile.Suggest(s, t.Values)}
}
