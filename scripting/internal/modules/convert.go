package modules

import (
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// The conversions return their second argument, or undefined, for a value that they cannot convert.
func otherwise(args []tengo.Object) (tengo.Object, error) {
	if len(args) == 2 {
		return args[1], nil
	}
	return tengo.UndefinedValue, nil
}

func toStringValue(_ *Run, args []tengo.Object) (tengo.Object, error) {
	switch o := args[0].(type) {
	case *tengo.String:
		return o, nil
	case *tengo.Undefined:
		return otherwise(args)
	case *value.Secret:
		return nil, value.ErrSecret
	}
	return limited(value.Text(args[0]))
}

func toIntValue(_ *Run, args []tengo.Object) (tengo.Object, error) {
	if f, ok := args[0].(*tengo.Float); ok {
		if math.IsNaN(f.Value) || f.Value >= math.MaxInt64 || f.Value <= math.MinInt64 {
			return otherwise(args)
		}
		return integer(int64(f.Value)), nil
	}
	if n, ok := tengo.ToInt64(args[0]); ok {
		return integer(n), nil
	}
	return otherwise(args)
}

func toFloatValue(_ *Run, args []tengo.Object) (tengo.Object, error) {
	if f, ok := tengo.ToFloat64(args[0]); ok {
		return number(f), nil
	}
	return otherwise(args)
}

func toCharValue(_ *Run, args []tengo.Object) (tengo.Object, error) {
	if c, ok := tengo.ToRune(args[0]); ok {
		return &tengo.Char{Value: c}, nil
	}
	return otherwise(args)
}

// toBytesValue makes bytes of a string, or as many zeros as an int says.
func toBytesValue(_ *Run, args []tengo.Object) (tengo.Object, error) {
	switch o := args[0].(type) {
	case *value.Bytes:
		return o, nil
	case *tengo.String:
		return &value.Bytes{Value: []byte(o.Value)}, nil
	case *tengo.Int:
		if o.Value < 0 || o.Value > value.MaxString {
			return nil, errors.New("the number of bytes must be from 0 to " + strconv.Itoa(value.MaxString))
		}
		return &value.Bytes{Value: make([]byte, o.Value)}, nil
	}
	return otherwise(args)
}

// toTimeValue makes a time of an int, Unix seconds.
func toTimeValue(_ *Run, args []tengo.Object) (tengo.Object, error) {
	switch o := args[0].(type) {
	case *tengo.Time:
		return o, nil
	case *tengo.Int:
		return &tengo.Time{Value: time.Unix(o.Value, 0).UTC()}, nil
	}
	return otherwise(args)
}
