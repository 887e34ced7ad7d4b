package modules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/apitable"
)

// shown is a value in an error: a short scalar as it is.
func shown(v tengo.Object) string {
	switch v := v.(type) {
	case *tengo.String:
		if len(v.Value) <= 50 {
			return strconv.Quote(v.Value)
		}
	case *tengo.Int, *tengo.Float, *tengo.Bool:
		return v.String()
	}
	return v.TypeName()
}

// describe says what a type takes.
func (f *fitter) describe(t *apitable.Type) string {
	switch t.Kind {
	case apitable.Null:
		return "undefined"
	case apitable.String, apitable.Open:
		return "a string"
	case apitable.Int:
		return "an int"
	case apitable.Time:
		return "a time"
	case apitable.Number:
		return "a number"
	case apitable.Bool:
		return "true or false"
	case apitable.Enum:
		return choice(t.Values)
	case apitable.Array:
		return "an array"
	case apitable.Map, apitable.Object:
		return "a map"
	case apitable.Bytes:
		return "bytes or a string"
	case apitable.Union:
		return f.alternatives(t)
	}
	return "anything"
}

func (f *fitter) alternatives(t *apitable.Type) string {
	var all []string
	for _, n := range t.Of {
		of, err := f.api.Type(n)
		if err != nil {
			continue
		}
		if s := f.describe(of); !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return strings.Join(all, " or ")
}

// choice lists values, but not too many.
func choice(values []string) string {
	const most = 12
	var all []string
	for _, v := range values[:min(most, len(values))] {
		if v == "" || strings.ContainsAny(v, " ,") {
			v = strconv.Quote(v)
		}
		all = append(all, v)
	}
	switch {
	case len(values) > most:
		return fmt.Sprintf("one of %s and %d others", strings.Join(all, ", "), len(values)-most)
	case len(all) == 1:
		return all[0]
	}
	return "one of " + strings.Join(all, ", ")
}
