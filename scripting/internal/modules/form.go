package modules

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// encodeForm encodes a map as a form, its keys in order, nested values in brackets: a[b]=c. Elements of a list are
// numbered, as Stripe wants them (a[0]=x&a[1]=y), or have the name again (a=x&a=y); lists in comma are one text.
func encodeForm(name string, m *value.Map, numbered bool, comma []string) (string, error) {
	var out strings.Builder
	f := form{name: name, numbered: numbered, comma: comma, pair: func(key, val string) error {
		if out.Len() > 0 {
			out.WriteByte('&')
		}
		out.WriteString(key + "=" + val)
		if out.Len() > value.MaxString {
			return tengo.ErrStringLimit
		}
		return nil
	}}
	if err := f.all(m); err != nil {
		return "", err
	}
	return out.String(), nil
}

// form walks over a map's values. pair takes each, escaped.
type form struct {
	name     string
	numbered bool
	comma    []string
	pair     func(key, val string) error
}

func (f *form) all(m *value.Map) error {
	for k, v := range m.All() {
		if err := f.add(url.QueryEscape(k), v, 0); err != nil {
			return err
		}
	}
	return nil
}

func (f *form) add(key string, v tengo.Object, depth int) error {
	if depth > 20 {
		return fmt.Errorf("%s nests deeper than 20 levels", f.name)
	}
	switch v := v.(type) {
	case *tengo.Undefined:
		return nil
	case *value.Map:
		for k, e := range v.All() {
			if err := f.add(key+"["+url.QueryEscape(k)+"]", e, depth+1); err != nil {
				return err
			}
		}
		return f.empty(key, v.Len())
	case *value.Array:
		return f.list(key, v.Items, depth)
	}
	s, err := formText(v)
	if err != nil {
		return &value.EncodeError{Path: f.name + "." + key, Err: err}
	}
	return f.pair(key, url.QueryEscape(s))
}

func (f *form) list(key string, items []tengo.Object, depth int) error {
	if depth == 0 && slices.Contains(f.comma, key) {
		return f.joined(key, items)
	}
	for i, e := range items {
		at := key
		if f.numbered || !isScalar(e) {
			at = fmt.Sprintf("%s[%d]", key, i)
		}
		if err := f.add(at, e, depth+1); err != nil {
			return err
		}
	}
	return f.empty(key, len(items))
}

func (f *form) joined(key string, items []tengo.Object) error {
	all := make([]string, len(items))
	for i, e := range items {
		var err error
		if all[i], err = formText(e); err != nil {
			return &value.EncodeError{Path: f.name + "." + key, Err: err}
		}
		all[i] = url.QueryEscape(all[i])
	}
	return f.pair(key, strings.Join(all, ","))
}

func isScalar(o tengo.Object) bool {
	switch o.(type) {
	case *value.Map, *value.Array:
		return false
	}
	return true
}

// empty writes an empty map or array as an empty text, which is how Stripe clears a member.
func (f *form) empty(key string, n int) error {
	if n > 0 {
		return nil
	}
	return f.pair(key, "")
}

// formText is the text of a scalar: strings and bytes as they are, numbers and bools as printed, times in RFC 3339.
func formText(v tengo.Object) (string, error) {
	switch v := v.(type) {
	case *tengo.String:
		return v.Value, nil
	case *value.Bytes:
		return string(v.Value), nil
	}
	b, err := value.Encode("", v)
	if err != nil {
		return "", errors.Unwrap(err)
	}
	if f, ok := v.(*tengo.Float); ok {
		return f.String(), nil
	}
	return strings.Trim(string(b), `"`), nil
}
