package modules

import (
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// refused are headers that belong to the connection, to whoever sends the request, or to an option.
var refused = map[string]string{
	"Host":                "it follows from the URL",
	"Content-Length":      "it follows from the body",
	"Idempotency-Key":     "use the option idempotency_key",
	"Connection":          "it belongs to the connection",
	"Keep-Alive":          "it belongs to the connection",
	"Proxy-Authenticate":  "it belongs to the connection",
	"Proxy-Authorization": "it belongs to the connection",
	"Proxy-Connection":    "it belongs to the connection",
	"Te":                  "it belongs to the connection",
	"Trailer":             "it belongs to the connection",
	"Transfer-Encoding":   "it belongs to the connection",
	"Upgrade":             "it belongs to the connection",
}

// headers reads the options headers and bearer. The lines come in the order of their names.
func (o *options) headers(contentType string) []Header {
	var list []Header
	if v, ok := o.get("headers"); ok {
		m, ok := v.(*value.Map)
		if !ok {
			o.fail("option headers must be a map, not %s", v.TypeName())
			return nil
		}
		for name, v := range m.All() {
			h, err := header(name, v)
			if err != nil {
				o.fail("%w", err)
				return nil
			}
			list = append(list, h)
		}
	}
	if v, ok := o.get("bearer"); ok {
		h, err := header("Authorization", value.NewArray([]tengo.Object{str("Bearer "), v}))
		if err != nil {
			o.fail("option bearer: %w", err)
		}
		list = append(list, h)
	}
	if contentType != "" && !slices.ContainsFunc(list, func(h Header) bool { return h.Name == "Content-Type" }) {
		list = append(list, Header{Name: "Content-Type", Value: contentType})
	}
	slices.SortStableFunc(list, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(list); i++ {
		if list[i].Name == list[i-1].Name {
			o.fail("the header %s is given twice", list[i].Name)
		}
	}
	return list
}

// header makes a line of a text, a number, a bool, a secret, or an array of a prefix and one of these.
func header(name string, v tengo.Object) (Header, error) {
	if !isToken(name) {
		return Header{}, fmt.Errorf("%q is no name of a header", name)
	}
	h := Header{Name: textproto.CanonicalMIMEHeaderKey(name)}
	if why, ok := refused[h.Name]; ok {
		return Header{}, fmt.Errorf("the header %s cannot be set: %s", h.Name, why)
	}
	if strings.HasPrefix(h.Name, "Nats-") || strings.HasPrefix(h.Name, "Thence-") {
		return Header{}, fmt.Errorf("the header %s cannot be set: names that start with Nats- or Thence- are reserved", h.Name)
	}
	if a, ok := v.(*value.Array); ok && len(a.Items) == 2 {
		prefix, ok := a.Items[0].(*tengo.String)
		if !ok {
			return Header{}, fmt.Errorf("the header %s: a prefix must be a string", h.Name)
		}
		h.Value, v = prefix.Value, a.Items[1]
	}
	switch v := v.(type) {
	case *value.Secret:
		h.Secret = v.Name
	case *tengo.String:
		h.Value += v.Value
	case *tengo.Int, *tengo.Float, *tengo.Bool:
		h.Value += v.String()
	default:
		return Header{}, fmt.Errorf("the header %s must be a string or a secret, not %s", h.Name, v.TypeName())
	}
	if !isFieldValue(h.Value) {
		return Header{}, fmt.Errorf("the header %s has a line break or control character in it", h.Name)
	}
	return h, nil
}

// isToken tells whether s may be a header's name (RFC 9110).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != "" && len(s) <= 200
}

func isFieldValue(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
