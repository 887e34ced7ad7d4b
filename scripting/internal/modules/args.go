package modules

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

func str(s string) tengo.Object     { return &tengo.String{Value: s} }
func integer(i int64) tengo.Object  { return &tengo.Int{Value: i} }
func number(f float64) tengo.Object { return &tengo.Float{Value: f} }

func boolean(b bool) tengo.Object {
	if b {
		return tengo.TrueValue
	}
	return tengo.FalseValue
}

// wrong is the error of an argument of the wrong type; i counts from 0.
func wrong(i int, want string, got tengo.Object) error {
	return fmt.Errorf("argument %d must be %s, not %s", i+1, want, got.TypeName())
}

// toText takes anything but undefined and secrets as text, as Tengo's own library does.
func toText(args []tengo.Object, i int) (string, error) {
	switch o := args[i].(type) {
	case *tengo.String:
		return o.Value, nil
	case *tengo.Undefined, *value.Secret:
		return "", wrong(i, "a string", o)
	}
	return value.Text(args[i]), nil
}

func texts2(args []tengo.Object) (a, b string, err error) {
	if a, err = toText(args, 0); err == nil {
		b, err = toText(args, 1)
	}
	return a, b, err
}

// toInt takes ints, floats, chars, bools and texts of ints, as Tengo's own library does.
func toInt(args []tengo.Object, i int) (int64, error) {
	if f, ok := args[i].(*tengo.Float); ok {
		return floatToInt(f.Value, i)
	}
	n, ok := tengo.ToInt64(args[i])
	if !ok {
		return 0, wrong(i, "an int", args[i])
	}
	return n, nil
}

// floatToInt refuses what an int cannot hold: Go leaves open what comes of it.
func floatToInt(f float64, i int) (int64, error) {
	if math.IsNaN(f) || f >= math.MaxInt64 || f <= math.MinInt64 {
		return 0, fmt.Errorf("argument %d: the number %s does not fit into an int", i+1,
			strconv.FormatFloat(f, 'g', -1, 64))
	}
	return int64(f), nil
}

// toCount is toInt for a number that must lie between lo and hi.
func toCount(args []tengo.Object, i int, lo, hi int64) (int, error) {
	n, err := toInt(args, i)
	if err == nil && (n < lo || n > hi) {
		err = fmt.Errorf("argument %d must be from %d to %d, not %d", i+1, lo, hi, n)
	}
	return int(n), err
}

func toFloat(args []tengo.Object, i int) (float64, error) {
	f, ok := tengo.ToFloat64(args[i])
	if !ok {
		return 0, wrong(i, "a number", args[i])
	}
	return f, nil
}

func toTime(args []tengo.Object, i int) (time.Time, error) {
	switch o := args[i].(type) {
	case *tengo.Time:
		return o.Value, nil
	case *tengo.Int:
		return time.Unix(o.Value, 0).UTC(), nil
	}
	return time.Time{}, wrong(i, "a time", args[i])
}

// toBytes takes bytes and strings.
func toBytes(args []tengo.Object, i int) ([]byte, error) {
	switch o := args[i].(type) {
	case *value.Bytes:
		return o.Value, nil
	case *tengo.String:
		return []byte(o.Value), nil
	}
	return nil, wrong(i, "bytes or a string", args[i])
}

func toArray(args []tengo.Object, i int) (*value.Array, error) {
	if a, ok := args[i].(*value.Array); ok {
		return a, nil
	}
	return nil, wrong(i, "an array", args[i])
}

func toMap(args []tengo.Object, i int) (*value.Map, error) {
	if m, ok := args[i].(*value.Map); ok {
		return m, nil
	}
	return nil, wrong(i, "a map", args[i])
}

// limited makes a string, unless it is too long.
func limited(s string) (tengo.Object, error) {
	if len(s) > value.MaxString {
		return nil, tengo.ErrStringLimit
	}
	return str(s), nil
}

// printed joins values as print does.
func printed(args []tengo.Object, sep string) string {
	var buf []byte
	for i, a := range args {
		if i > 0 {
			buf = append(buf, sep...)
		}
		buf = append(buf, value.Text(a)...)
	}
	return string(buf)
}

// lazy compiles an expression when it is first used: a sandbox process is to start quickly,
// and most never need it.
func lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
