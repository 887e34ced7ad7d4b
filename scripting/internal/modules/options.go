package modules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/compile"
	"github.com/thence-dev/thence/scripting/internal/value"
)

// options reads a map of options. The first error is kept in err, and later reads do nothing.
type options struct {
	m   *value.Map
	err error
}

// readOptions checks that args[i], if it is there, is a map with known keys only. undefined is no options.
func readOptions(args []tengo.Object, i int, known ...string) (*options, error) {
	if i >= len(args) || args[i] == tengo.UndefinedValue {
		return &options{m: &value.Map{}}, nil
	}
	m, err := toMap(args, i)
	if err != nil {
		return nil, err
	}
	for key := range m.All() {
		if !slices.Contains(known, key) {
			return nil, fmt.Errorf("unknown option %q%s", key, suggestOr(key, known))
		}
	}
	return &options{m: m}, nil
}

// suggestOr names the nearest of the known names, or all of them.
func suggestOr(name string, known []string) string {
	if s := compile.Suggest(name, known); s != "" {
		return s
	}
	return "; there are: " + strings.Join(known, ", ")
}

func (o *options) fail(format string, args ...any) {
	if o.err == nil {
		o.err = fmt.Errorf(format, args...)
	}
}

// get returns an option that is given and not undefined.
func (o *options) get(key string) (tengo.Object, bool) {
	v, ok := o.m.Get(key)
	return v, ok && v != tengo.UndefinedValue
}

func (o *options) text(key string) string {
	v, ok := o.get(key)
	if !ok {
		return ""
	}
	s, ok := v.(*tengo.String)
	if !ok {
		o.fail("option %s must be a string, not %s", key, v.TypeName())
		return ""
	}
	return s.Value
}

// json encodes an option; nil when it is not given.
func (o *options) json(key string) []byte {
	v, ok := o.get(key)
	if !ok {
		return nil
	}
	b, err := value.Encode(key, v)
	if err != nil {
		o.fail("%w", err)
	}
	return b
}

const maxTimeout = time.Hour

// duration reads the time that a call may take.
func (o *options) duration(key string) time.Duration { return o.within(key, maxTimeout) }

// within reads a duration of at most so much: seconds, or a text such as "1m30s".
func (o *options) within(key string, most time.Duration) time.Duration {
	v, ok := o.get(key)
	if !ok {
		return 0
	}
	var d time.Duration
	switch v := v.(type) {
	case *tengo.Int:
		if v.Value > int64(most/time.Second) {
			d = most + 1
		} else {
			d = time.Duration(v.Value) * time.Second
		}
	case *tengo.Float:
		d = time.Duration(min(v.Value, 1e9) * float64(time.Second))
	case *tengo.String:
		var err error
		if d, err = time.ParseDuration(v.Value); err != nil {
			o.fail("option %s: %q is no duration: want seconds, or a text such as \"30s\"", key, v.Value)
			return 0
		}
	default:
		o.fail("option %s must be seconds, or a text such as \"30s\", not %s", key, v.TypeName())
		return 0
	}
	if d <= 0 || d > most {
		longest := "an hour"
		if most > maxTimeout {
			longest = "ten years"
		}
		o.fail("option %s must be more than 0 and at most %s: it is in seconds, or a text such as \"30s\"", key, longest)
		return 0
	}
	return d
}

// idempotencyKey reads the script's own key for the request.
func (o *options) idempotencyKey() string {
	key := o.text("idempotency_key")
	if len(key) > 255 {
		o.fail("option idempotency_key has %d bytes, more than 255", len(key))
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c > '~' {
			o.fail("option idempotency_key must be printable ASCII without spaces")
		}
	}
	return key
}

// script reads an option that names a script. Without it the first of the defaults counts that the library has; it is a
// mistake when it has none of them. "" and undefined are no script.
func (o *options) script(r *Run, key string, defaults func(option string) []string) string {
	v, given := o.m.Get(key)
	if !given {
		return o.defaultScript(r, key, defaults(key))
	}
	if v == tengo.UndefinedValue {
		return ""
	}
	name := o.text(key)
	if name != "" && !r.known(name) {
		o.fail("option %s: %s", key, r.unknown(name))
	}
	return name
}

func (o *options) defaultScript(r *Run, key string, defaults []string) string {
	if len(defaults) == 0 {
		return ""
	}
	for _, name := range defaults {
		if r.known(name) {
			return name
		}
	}
	what := map[string]string{"then": "answer", "catch": "failure"}[key]
	o.fail("there is no script %q in the library to take the %s, and no %q: add one of them, or name another with {%s: \"...\"}, "+
		"or none with {%s: \"\"}%s", defaults[0], what, defaults[len(defaults)-1], key, key, compile.Suggest(defaults[0], r.scripts.Names()))
	return ""
}

// known tells whether a script may be named: one of the library, or the one that runs.
func (r *Run) known(name string) bool { return name == r.job.Script || r.scripts.Has(name) }

func (r *Run) unknown(name string) string {
	return fmt.Sprintf("there is no script %q in the library%s", name, compile.Suggest(name, r.scripts.Names()))
}
