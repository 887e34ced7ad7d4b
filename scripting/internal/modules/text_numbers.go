package modules

import (
	"errors"
	"maps"
	"math"
	"strconv"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

func init() { maps.Copy(textMembers, numberMembers) }

// numberMembers is the part of text that turns texts into numbers and back.
var numberMembers = members{
	"atoi": fn{1, 1, parse(func(s string, _ []tengo.Object) (tengo.Object, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		return integer(n), err
	})},
	"parse_bool": fn{1, 1, parse(func(s string, _ []tengo.Object) (tengo.Object, error) {
		b, err := strconv.ParseBool(s)
		return boolean(b), err
	})},
	"parse_float": fn{1, 2, parse(parseFloat)},
	"parse_int":   fn{1, 3, parse(parseInt)},
	"unquote": fn{1, 1, parse(func(s string, _ []tengo.Object) (tengo.Object, error) {
		u, err := strconv.Unquote(s)
		return str(u), err
	})},
	"format_bool":  fn{1, 1, formatBool},
	"format_float": fn{4, 4, formatFloat},
	"format_int":   fn{2, 2, formatInt},
	"itoa": fn{1, 1, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		n, err := toInt(args, 0)
		return str(strconv.FormatInt(n, 10)), err
	}},
}

// badArgument is an error that ends the script, where others become error values.
type badArgument struct{ error }

// parse makes a function of a text that returns an error value when the text is not what it should be.
func parse(f func(s string, args []tengo.Object) (tengo.Object, error)) func(*Run, []tengo.Object) (tengo.Object, error) {
	return func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		s, err := toText(args, 0)
		if err != nil {
			return nil, err
		}
		o, err := f(s, args)
		var bad badArgument
		switch {
		case errors.As(err, &bad):
			return nil, bad.error
		case err != nil:
			return value.NewError(err), nil
		}
		return o, nil
	}
}

func parseFloat(s string, args []tengo.Object) (tengo.Object, error) {
	bits := 64
	if len(args) > 1 {
		if n, err := toInt(args, 1); err != nil || n != 32 && n != 64 {
			return nil, badArgument{errors.New("argument 2, the number of bits, must be 32 or 64")}
		} else if n == 32 {
			bits = 32
		}
	}
	f, err := strconv.ParseFloat(s, bits)
	return number(f), err
}

func parseInt(s string, args []tengo.Object) (tengo.Object, error) {
	base, bits := 10, 64
	var err error
	if len(args) > 1 {
		if base, err = toCount(args, 1, 0, 36); err != nil || base == 1 {
			return nil, badArgument{errors.New("argument 2, the base, must be 0 or from 2 to 36")}
		}
	}
	if len(args) > 2 {
		if bits, err = toCount(args, 2, 0, 64); err != nil {
			return nil, badArgument{err}
		}
	}
	n, err := strconv.ParseInt(s, base, bits)
	return integer(n), err
}

func formatBool(_ *Run, args []tengo.Object) (tengo.Object, error) {
	b, ok := args[0].(*tengo.Bool)
	if !ok {
		return nil, wrong(0, "a bool", args[0])
	}
	return str(b.String()), nil
}

// formatFloat(f, format, precision, bits) takes Go's formats: one of b, e, E, f, g, G, x, X.
func formatFloat(_ *Run, args []tengo.Object) (tengo.Object, error) {
	f, err := toFloat(args, 0)
	if err != nil {
		return nil, err
	}
	format, err := toText(args, 1)
	if err != nil {
		return nil, err
	}
	if len(format) != 1 || !isFloatFormat(format[0]) {
		return nil, errors.New("argument 2, the format, must be one of b, e, E, f, g, G, x, X")
	}
	precision, err := toCount(args, 2, -1, 1000)
	if err != nil {
		return nil, err
	}
	bits, err := toCount(args, 3, 32, 64)
	if err != nil || bits != 32 && bits != 64 {
		return nil, errors.New("argument 4, the number of bits, must be 32 or 64")
	}
	if bits == 32 && math.Abs(f) > math.MaxFloat32 {
		return nil, errors.New("the number does not fit into 32 bits")
	}
	return str(strconv.FormatFloat(f, format[0], precision, bits)), nil
}

func isFloatFormat(c byte) bool {
	switch c {
	case 'b', 'e', 'E', 'f', 'g', 'G', 'x', 'X':
		return true
	}
	return false
}

func formatInt(_ *Run, args []tengo.Object) (tengo.Object, error) {
	n, err := toInt(args, 0)
	if err != nil {
		return nil, err
	}
	base, err := toCount(args, 1, 2, 36)
	if err != nil {
		return nil, err
	}
	return str(strconv.FormatInt(n, base)), nil
}
