package value

import (
	"fmt"

	"github.com/d5/tengo/v2"
	"github.com/d5/tengo/v2/token"
)

// Array is a list of values. No two arrays share memory in a way that a script could see.
type Array struct {
	tengo.ObjectImpl
	Items  []tengo.Object
	frozen bool
}

// NewArray makes an array that takes items over.
func NewArray(items []tengo.Object) *Array { return &Array{Items: items} }

// Strings makes an array of strings.
func Strings(list []string) *Array {
	items := make([]tengo.Object, len(list))
	for i, s := range list {
		items[i] = &tengo.String{Value: s}
	}
	return NewArray(items)
}

// Frozen tells whether scripts may not change the array.
func (a *Array) Frozen() bool { return a.frozen }

// Freeze returns a copy of the array, one level deep, that scripts cannot change.
func (a *Array) Freeze() *Array {
	return &Array{Items: append([]tengo.Object(nil), a.Items...), frozen: true}
}

// Append returns a new array with items at its end. Appending to the newest of a line of arrays is cheap: the new
// array takes the room behind the old one, if nobody has taken it before.
func (a *Array) Append(items []tengo.Object) (*Array, error) {
	n := len(a.Items)
	if n+len(items) > MaxItems {
		return nil, tooLong(n + len(items))
	}
	if room := a.Items[n:cap(a.Items)]; !free(room, len(items)) {
		grown := make([]tengo.Object, n, max(4, (n+len(items))*3/2))
		copy(grown, a.Items)
		return NewArray(append(grown, items...)), nil
	}
	return NewArray(append(a.Items, items...)), nil
}

// free tells whether the first n places of room exist and are still empty: no value of a script is nil.
func free(room []tengo.Object, n int) bool {
	if len(room) < n {
		return false
	}
	for _, o := range room[:n] {
		if o != nil {
			return false
		}
	}
	return true
}

func tooLong(n int) error {
	return fmt.Errorf("an array may have %d elements at most, this one would have %d", MaxItems, n)
}

// Slice returns a copy of the elements from lo up to hi, both cut to what there is.
func (a *Array) Slice(lo, hi int64) *Array {
	from, to := clamp(lo, hi, len(a.Items))
	return NewArray(append([]tengo.Object(nil), a.Items[from:to]...))
}

func clamp(lo, hi int64, n int) (int, int) {
	lo, hi = min(max(lo, 0), int64(n)), min(max(hi, 0), int64(n))
	return int(lo), int(max(lo, hi))
}

// TypeName returns "array" or "immutable-array".
func (a *Array) TypeName() string {
	if a.frozen {
		return "immutable-array"
	}
	return "array"
}

func (a *Array) String() string { return Text(a) }

// Copy returns a deep copy, which scripts may change.
func (a *Array) Copy() tengo.Object { return Copy(a) }

// Equals compares the elements; whether an array is frozen makes no difference.
func (a *Array) Equals(x tengo.Object) bool { return Equal(a, x) }

// IsFalsy is true of an empty array.
func (a *Array) IsFalsy() bool { return len(a.Items) == 0 }

// BinaryOp knows array + array, which is a new array.
func (a *Array) BinaryOp(op token.Token, rhs tengo.Object) (tengo.Object, error) {
	b, ok := rhs.(*Array)
	if !ok || op != token.Add {
		return nil, tengo.ErrInvalidOperator
	}
	n := len(a.Items) + len(b.Items)
	if n > MaxItems {
		return nil, tooLong(n)
	}
	items := make([]tengo.Object, 0, n)
	return NewArray(append(append(items, a.Items...), b.Items...)), nil
}

// IndexGet returns an element, or undefined outside the array.
func (a *Array) IndexGet(index tengo.Object) (tengo.Object, error) {
	i, ok := index.(*tengo.Int)
	if !ok {
		return nil, tengo.ErrInvalidIndexType
	}
	if i.Value < 0 || i.Value >= int64(len(a.Items)) {
		return tengo.UndefinedValue, nil
	}
	return a.Items[i.Value], nil
}

// IndexSet replaces an element.
func (a *Array) IndexSet(index, val tengo.Object) error {
	if a.frozen {
		return tengo.ErrNotIndexAssignable
	}
	i, ok := index.(*tengo.Int)
	if !ok {
		return fmt.Errorf("an array's index must be an int, not %s", index.TypeName())
	}
	if i.Value < 0 || i.Value >= int64(len(a.Items)) {
		return fmt.Errorf("index %d is out of bounds: the array has %d elements", i.Value, len(a.Items))
	}
	a.Items[i.Value] = val
	return nil
}

// CanIterate is true.
func (a *Array) CanIterate() bool { return true }

// Iterate walks over as many elements as the array has now.
func (a *Array) Iterate() tengo.Iterator { return &arrayIterator{items: a.Items} }

type arrayIterator struct {
	tengo.ObjectImpl
	items []tengo.Object
	next  int
}

func (i *arrayIterator) TypeName() string { return "array-iterator" }
func (i *arrayIterator) String() string   { return "<array-iterator>" }

func (i *arrayIterator) Next() bool {
	i.next++
	return i.next <= len(i.items)
}

func (i *arrayIterator) Key() tengo.Object { return &tengo.Int{Value: int64(i.next - 1)} }

// Value is undefined for an element that a splice has taken away meanwhile.
func (i *arrayIterator) Value() tengo.Object {
	if v := i.items[i.next-1]; v != nil {
		return v
	}
	return tengo.UndefinedValue
}
