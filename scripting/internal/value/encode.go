package value

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/d5/tengo/v2"
)

// EncodeError says which part of a value cannot be JSON, and why.
type EncodeError struct {
	Path string // "state.items[2].x"
	Err  error
}

func (e *EncodeError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *EncodeError) Unwrap() error { return e.Err }

// Encode writes a value as JSON: map keys in order, no spaces, floats always with a point or an exponent (2.0 is not
// 2), undefined as null, chars as strings, bytes as base64, times as RFC 3339 strings, an error as {"error": its
// value}. What JSON does not have (functions, NaN, text that is not UTF-8, secrets) is an *EncodeError, whose path
// starts with name.
func Encode(name string, o tengo.Object) ([]byte, error) {
	return AppendJSON(nil, name, o)
}

// AppendJSON is Encode at the end of buf.
func AppendJSON(buf []byte, name string, o tengo.Object) ([]byte, error) {
	e := encoder{buf: buf}
	if err := e.encode(o, 0); err != nil {
		var at *EncodeError
		if !errors.As(err, &at) {
			at = &EncodeError{Err: err}
		}
		at.Path = name + at.Path
		return nil, at
	}
	return e.buf, nil
}

type encoder struct {
	budget
	buf []byte
}

func (e *encoder) encode(o tengo.Object, depth int) error {
	if err := e.spend(depth); err != nil {
		return err
	}
	switch o := o.(type) {
	case nil, *tengo.Undefined:
		e.buf = append(e.buf, "null"...)
	case *tengo.Bool:
		e.buf = append(e.buf, o.String()...)
	case *tengo.Int:
		e.buf = strconv.AppendInt(e.buf, o.Value, 10)
	case *tengo.Float:
		return e.float(o.Value)
	case *tengo.String:
		return e.text(o.Value)
	case *tengo.Char:
		return e.text(string(o.Value))
	case *Bytes:
		e.buf = append(e.buf, '"')
		e.buf = base64.StdEncoding.AppendEncode(e.buf, o.Value)
		e.buf = append(e.buf, '"')
	case *tengo.Time:
		return e.time(o.Value)
	case *Array:
		return e.array(o, depth)
	case *Map:
		return e.dict(o, depth)
	case *Error:
		return e.failure(o, depth)
	case *Secret:
		return errors.New("a secret cannot be stored or sent as data")
	default:
		return fmt.Errorf("a value of type %s cannot be JSON", o.TypeName())
	}
	return nil
}

func (e *encoder) float(f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("the number %v cannot be JSON", f)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	start := len(e.buf)
	e.buf = strconv.AppendFloat(e.buf, f, format, -1, 64)
	for _, c := range e.buf[start:] {
		if c == '.' || c == 'e' {
			return nil
		}
	}
	e.buf = append(e.buf, ".0"...)
	return nil
}

func (e *encoder) time(t time.Time) error {
	if y := t.Year(); y < 0 || y > 9999 {
		return fmt.Errorf("a time in the year %d cannot be JSON", y)
	}
	e.buf = append(e.buf, '"')
	e.buf = t.UTC().AppendFormat(e.buf, time.RFC3339Nano)
	e.buf = append(e.buf, '"')
	return nil
}

const hexDigits = "0123456789abcdef"

func (e *encoder) text(s string) error {
	e.buf = append(e.buf, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				return errors.New("text that is not valid UTF-8 cannot be JSON (base64.encode makes it so)")
			}
			i += size
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			e.buf = append(e.buf, s[start:i]...)
			e.escape(c)
			start = i + 1
		}
		i++
	}
	e.buf = append(append(e.buf, s[start:]...), '"')
	return nil
}

func (e *encoder) escape(c byte) {
	switch c {
	case '"', '\\':
		e.buf = append(e.buf, '\\', c)
	case '\n':
		e.buf = append(e.buf, `\n`...)
	case '\r':
		e.buf = append(e.buf, `\r`...)
	case '\t':
		e.buf = append(e.buf, `\t`...)
	default:
		e.buf = append(e.buf, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	}
}

func (e *encoder) array(a *Array, depth int) error {
	e.buf = append(e.buf, '[')
	for i, o := range a.Items {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		if err := e.encode(o, depth+1); err != nil {
			return under(fmt.Sprintf("[%d]", i), err)
		}
	}
	e.buf = append(e.buf, ']')
	return nil
}

func (e *encoder) dict(m *Map, depth int) error {
	e.buf = append(e.buf, '{')
	first := true
	for k, v := range m.All() {
		if !first {
			e.buf = append(e.buf, ',')
		}
		first = false
		err := e.text(k)
		if err == nil {
			e.buf = append(e.buf, ':')
			err = e.encode(v, depth+1)
		}
		if err != nil {
			return under(member(k), err)
		}
	}
	e.buf = append(e.buf, '}')
	return nil
}

func (e *encoder) failure(o *Error, depth int) error {
	e.buf = append(e.buf, `{"error":`...)
	if err := e.encode(o.Value, depth+1); err != nil {
		return under(".value", err)
	}
	e.buf = append(e.buf, '}')
	return nil
}

// under puts a step in front of an error's path. The path of a value that is too deep would only repeat itself.
func under(step string, err error) error {
	if errors.Is(err, tooDeep) || errors.Is(err, tooLarge) {
		return err
	}
	var at *EncodeError
	if !errors.As(err, &at) {
		at = &EncodeError{Err: err}
	}
	at.Path = step + at.Path
	return at
}

func member(key string) string {
	for i, c := range key {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return fmt.Sprintf("[%q]", key)
		}
	}
	return "." + key
}
