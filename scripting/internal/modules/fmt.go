package modules

import "github.com/d5/tengo/v2"

// fmtMembers is Tengo's fmt; what it prints goes to the job's output. Unlike print, its print puts nothing between
// the values.
var fmtMembers = members{
	"print": fn{0, -1, func(r *Run, args []tengo.Object) (tengo.Object, error) {
		r.out.write(printed(args, ""))
		return tengo.UndefinedValue, nil
	}},
	"println": fn{0, -1, func(r *Run, args []tengo.Object) (tengo.Object, error) {
		r.out.write(printed(args, "") + "\n")
		return tengo.UndefinedValue, nil
	}},
	"printf": fn{1, -1, func(r *Run, args []tengo.Object) (tengo.Object, error) {
		s, err := format(r, args)
		if err == nil {
			r.out.write(s.(*tengo.String).Value)
		}
		return tengo.UndefinedValue, err
	}},
	"sprintf": fn{1, -1, format},
}
