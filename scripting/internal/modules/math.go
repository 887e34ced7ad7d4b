package modules

import (
	"math"

	"github.com/d5/tengo/v2"
)

// mathMembers is Tengo's math. Its functions work on floats: math.abs(-1) is 1.0.
var mathMembers = members{
	"e": number(math.E), "pi": number(math.Pi), "phi": number(math.Phi), "sqrt2": number(math.Sqrt2),
	"sqrtE": number(math.SqrtE), "sqrtPi": number(math.SqrtPi), "sqrtPhi": number(math.SqrtPhi),
	"ln2": number(math.Ln2), "log2E": number(math.Log2E), "ln10": number(math.Ln10), "log10E": number(math.Log10E),
	"maxFloat32": number(math.MaxFloat32), "smallestNonzeroFloat32": number(math.SmallestNonzeroFloat32),
	"maxFloat64": number(math.MaxFloat64), "smallestNonzeroFloat64": number(math.SmallestNonzeroFloat64),
	"maxInt": integer(math.MaxInt64), "minInt": integer(math.MinInt64),
	"maxInt8": integer(math.MaxInt8), "minInt8": integer(math.MinInt8),
	"maxInt16": integer(math.MaxInt16), "minInt16": integer(math.MinInt16),
	"maxInt32": integer(math.MaxInt32), "minInt32": integer(math.MinInt32),
	"maxInt64": integer(math.MaxInt64), "minInt64": integer(math.MinInt64),

	"abs": ff(math.Abs), "acos": ff(math.Acos), "acosh": ff(math.Acosh), "asin": ff(math.Asin),
	"asinh": ff(math.Asinh), "atan": ff(math.Atan), "atanh": ff(math.Atanh), "cbrt": ff(math.Cbrt),
	"ceil": ff(math.Ceil), "cos": ff(math.Cos), "cosh": ff(math.Cosh), "erf": ff(math.Erf), "erfc": ff(math.Erfc),
	"exp": ff(math.Exp), "exp2": ff(math.Exp2), "expm1": ff(math.Expm1), "floor": ff(math.Floor),
	"gamma": ff(math.Gamma), "j0": ff(math.J0), "j1": ff(math.J1), "log": ff(math.Log), "log10": ff(math.Log10),
	"log1p": ff(math.Log1p), "log2": ff(math.Log2), "logb": ff(math.Logb), "sin": ff(math.Sin), "sinh": ff(math.Sinh),
	"sqrt": ff(math.Sqrt), "tan": ff(math.Tan), "tanh": ff(math.Tanh), "trunc": ff(math.Trunc), "y0": ff(math.Y0),
	"y1": ff(math.Y1),

	"atan2": fff(math.Atan2), "copysign": fff(math.Copysign), "dim": fff(math.Dim), "hypot": fff(math.Hypot),
	"max": fff(math.Max), "min": fff(math.Min), "mod": fff(math.Mod), "nextafter": fff(math.Nextafter),
	"pow": fff(math.Pow), "remainder": fff(math.Remainder),

	"jn":    fif(math.Jn),
	"yn":    fif(math.Yn),
	"inf":   fn{1, 1, mathInf},
	"nan":   fn{0, 0, func(*Run, []tengo.Object) (tengo.Object, error) { return number(math.NaN()), nil }},
	"pow10": fn{1, 1, mathPow10},
	"ldexp": fn{2, 2, mathLdexp},
	"ilogb": fn{1, 1, mathIlogb},
	"is_inf": fn{2, 2, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		f, sign, err := floatInt(args)
		return boolean(math.IsInf(f, sign)), err
	}},
	"is_nan":  test(math.IsNaN),
	"signbit": test(math.Signbit),
}

func ff(f func(float64) float64) fn {
	return fn{1, 1, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		x, err := toFloat(args, 0)
		if err != nil {
			return nil, err
		}
		return number(f(x)), nil
	}}
}

func fff(f func(x, y float64) float64) fn {
	return fn{2, 2, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		x, err := toFloat(args, 0)
		if err != nil {
			return nil, err
		}
		y, err := toFloat(args, 1)
		if err != nil {
			return nil, err
		}
		return number(f(x, y)), nil
	}}
}

// fif is for the Bessel functions, which take as many steps as n is large.
func fif(f func(n int, x float64) float64) fn {
	return fn{2, 2, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		n, err := toCount(args, 0, -10_000, 10_000)
		if err != nil {
			return nil, err
		}
		x, err := toFloat(args, 1)
		if err != nil {
			return nil, err
		}
		return number(f(n, x)), nil
	}}
}

func test(f func(float64) bool) fn {
	return fn{1, 1, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		x, err := toFloat(args, 0)
		if err != nil {
			return nil, err
		}
		return boolean(f(x)), nil
	}}
}

func floatInt(args []tengo.Object) (float64, int, error) {
	f, err := toFloat(args, 0)
	if err != nil {
		return 0, 0, err
	}
	n, err := toCount(args, 1, math.MinInt32, math.MaxInt32)
	return f, n, err
}

func mathInf(_ *Run, args []tengo.Object) (tengo.Object, error) {
	sign, err := toInt(args, 0)
	if err != nil {
		return nil, err
	}
	if sign < 0 {
		return number(math.Inf(-1)), nil
	}
	return number(math.Inf(1)), nil
}

func mathPow10(_ *Run, args []tengo.Object) (tengo.Object, error) {
	n, err := toCount(args, 0, math.MinInt32, math.MaxInt32)
	return number(math.Pow10(n)), err
}

func mathLdexp(_ *Run, args []tengo.Object) (tengo.Object, error) {
	f, n, err := floatInt(args)
	return number(math.Ldexp(f, n)), err
}

func mathIlogb(_ *Run, args []tengo.Object) (tengo.Object, error) {
	f, err := toFloat(args, 0)
	if err != nil {
		return nil, err
	}
	return integer(int64(math.Ilogb(f))), nil
}
