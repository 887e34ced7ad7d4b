package value

import (
	"strconv"

	"github.com/d5/tengo/v2"
)

// Text shows a value as print does: a string as it is, anything else as Tengo writes it, maps in key order. It panics
// with a Trouble when the value is too deep or too large.
func Text(o tengo.Object) string {
	switch o := o.(type) {
	case *tengo.String:
		return o.Value
	case *tengo.Int:
		return strconv.FormatInt(o.Value, 10)
	}
	w := writer{}
	w.write(o, 0)
	return string(w.buf)
}

type writer struct {
	budget
	buf []byte
}

func (w *writer) write(o tengo.Object, depth int) {
	w.mustSpend(depth)
	switch o := o.(type) {
	case nil:
		w.buf = append(w.buf, "<undefined>"...)
	case *tengo.String:
		w.buf = strconv.AppendQuote(w.buf, o.Value)
	case *tengo.Int:
		w.buf = strconv.AppendInt(w.buf, o.Value, 10)
	case *Array:
		w.array(o, depth)
	case *Map:
		w.dict(o, depth)
	case *Error:
		w.buf = append(w.buf, "error: "...)
		w.write(o.Value, depth+1)
	case *Secret:
		w.buf = append(w.buf, o.Show()...)
	default:
		w.buf = append(w.buf, o.String()...)
	}
	if len(w.buf) > MaxString {
		panic(tengo.ErrStringLimit)
	}
}

func (w *writer) array(a *Array, depth int) {
	w.buf = append(w.buf, '[')
	for i, o := range a.Items {
		if i > 0 {
			w.buf = append(w.buf, ", "...)
		}
		w.write(o, depth+1)
	}
	w.buf = append(w.buf, ']')
}

func (w *writer) dict(m *Map, depth int) {
	w.buf = append(w.buf, '{')
	sep := ""
	for k, v := range m.All() {
		w.buf = append(append(append(w.buf, sep...), k...), ": "...)
		w.write(v, depth+1)
		sep = ", "
	}
	w.buf = append(w.buf, '}')
}

// Copy returns a deep copy of arrays and maps, which scripts may change; other values are returned as they are. It
// panics with a Trouble when the value is too deep or too large.
func Copy(o tengo.Object) tengo.Object {
	return (&budget{}).copy(o, 0)
}

func (b *budget) copy(o tengo.Object, depth int) tengo.Object {
	b.mustSpend(depth)
	switch o := o.(type) {
	case nil:
		return tengo.UndefinedValue
	case *Array:
		items := make([]tengo.Object, len(o.Items))
		for i, v := range o.Items {
			items[i] = b.copy(v, depth+1)
		}
		return NewArray(items)
	case *Map:
		m := NewMap(o.Len())
		for k, v := range o.All() {
			m.Set(k, b.copy(v, depth+1))
		}
		return m
	case *Error:
		return &Error{Value: b.copy(o.Value, depth+1)}
	}
	return o
}

// Equal compares two values part by part. It panics with a Trouble when they are too deep or too large.
func Equal(x, y tengo.Object) bool {
	return (&budget{}).equal(x, y, 0)
}

func (b *budget) equal(x, y tengo.Object, depth int) bool {
	b.mustSpend(depth)
	switch x := x.(type) {
	case nil:
		return y == nil
	case *Array:
		y, ok := y.(*Array)
		return ok && b.equalArrays(x, y, depth)
	case *Map:
		y, ok := y.(*Map)
		return ok && b.equalMaps(x, y, depth)
	}
	return x.Equals(y)
}

func (b *budget) equalArrays(x, y *Array, depth int) bool {
	if len(x.Items) != len(y.Items) {
		return false
	}
	for i, v := range x.Items {
		if !b.equal(v, y.Items[i], depth+1) {
			return false
		}
	}
	return true
}

func (b *budget) equalMaps(x, y *Map, depth int) bool {
	if x.Len() != y.Len() {
		return false
	}
	for k, v := range x.All() {
		w, ok := y.Get(k)
		if !ok || !b.equal(v, w, depth+1) {
			return false
		}
	}
	return true
}
