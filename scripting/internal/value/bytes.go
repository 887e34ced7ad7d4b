package value

import (
	"bytes"

	"github.com/d5/tengo/v2"
	"github.com/d5/tengo/v2/token"
)

// Bytes is a string of bytes. Scripts cannot change it.
type Bytes struct {
	tengo.ObjectImpl
	Value []byte
}

// TypeName returns "bytes".
func (b *Bytes) TypeName() string { return "bytes" }

func (b *Bytes) String() string { return string(b.Value) }

// Copy returns the same bytes: nobody can change them.
func (b *Bytes) Copy() tengo.Object { return b }

// IsFalsy is true of no bytes.
func (b *Bytes) IsFalsy() bool { return len(b.Value) == 0 }

// Equals compares with other bytes.
func (b *Bytes) Equals(x tengo.Object) bool {
	t, ok := x.(*Bytes)
	return ok && bytes.Equal(b.Value, t.Value)
}

// BinaryOp knows bytes + bytes.
func (b *Bytes) BinaryOp(op token.Token, rhs tengo.Object) (tengo.Object, error) {
	c, ok := rhs.(*Bytes)
	if !ok || op != token.Add {
		return nil, tengo.ErrInvalidOperator
	}
	if len(b.Value)+len(c.Value) > MaxString {
		return nil, tengo.ErrBytesLimit
	}
	return &Bytes{Value: bytes.Join([][]byte{b.Value, c.Value}, nil)}, nil
}

// IndexGet returns one byte as an int, or undefined outside.
func (b *Bytes) IndexGet(index tengo.Object) (tengo.Object, error) {
	i, ok := index.(*tengo.Int)
	if !ok {
		return nil, tengo.ErrInvalidIndexType
	}
	if i.Value < 0 || i.Value >= int64(len(b.Value)) {
		return tengo.UndefinedValue, nil
	}
	return &tengo.Int{Value: int64(b.Value[i.Value])}, nil
}

// CanIterate is true.
func (b *Bytes) CanIterate() bool { return true }

// Iterate walks over the bytes as ints.
func (b *Bytes) Iterate() tengo.Iterator { return &bytesIterator{b: b.Value} }

type bytesIterator struct {
	tengo.ObjectImpl
	b    []byte
	next int
}

func (i *bytesIterator) TypeName() string { return "bytes-iterator" }
func (i *bytesIterator) String() string   { return "<bytes-iterator>" }

func (i *bytesIterator) Next() bool {
	i.next++
	return i.next <= len(i.b)
}

func (i *bytesIterator) Key() tengo.Object   { return &tengo.Int{Value: int64(i.next - 1)} }
func (i *bytesIterator) Value() tengo.Object { return &tengo.Int{Value: int64(i.b[i.next-1])} }
