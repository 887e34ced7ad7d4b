package modules

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// httpMembers asks for HTTP requests. Each function returns at once with the id of the call; the answer comes back as
// a job that runs the script named by then, the failure as one that runs catch.
var httpMembers = members{
	"get":    httpVerb("GET"),
	"post":   httpVerb("POST"),
	"put":    httpVerb("PUT"),
	"patch":  httpVerb("PATCH"),
	"delete": httpVerb("DELETE"),
}

var httpOptions = []string{"json", "form", "body", "headers", "query", "timeout", "then", "catch", "tag", "bearer",
	"idempotency_key"}

func httpVerb(method string) fn {
	return fn{1, 2, func(r *Run, args []tengo.Object) (tengo.Object, error) {
		o, err := readOptions(args, 1, httpOptions...)
		if err != nil {
			return nil, err
		}
		target, ok := args[0].(*tengo.String)
		if !ok {
			return nil, wrong(0, "a URL", args[0])
		}
		c := &Call{Method: method, URL: o.url(target.Value)}
		contentType := o.body(c)
		c.Header = o.headers(contentType)
		o.common(r, c, "", "")
		if o.err != nil {
			return nil, o.err
		}
		return r.call(c)
	}}
}

// common reads the options that every call has.
func (o *options) common(r *Run, c *Call, then, catch string) {
	c.Timeout = o.duration("timeout")
	c.IdempotencyKey = o.idempotencyKey()
	c.Tag = o.json("tag")
	c.Then = o.script(r, "then", then)
	c.Catch = o.script(r, "catch", catch)
}

// call adds a call to what the run asks for, and returns its id.
func (r *Run) call(c *Call) (tengo.Object, error) {
	c.ID = r.nextID()
	size := len(c.URL) + len(c.Body) + len(c.Tag) + len(c.IdempotencyKey) + len(c.Then) + len(c.Catch)
	for _, h := range c.Header {
		size += len(h.Name) + len(h.Value) + len(h.Secret)
	}
	if err := r.ask(Effect{Call: c}, size); err != nil {
		return nil, err
	}
	return str(c.ID), nil
}

// url checks a URL and adds the query.
func (o *options) url(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		var at *url.Error
		if errors.As(err, &at) {
			err = at.Err
		}
		o.fail("%q is no URL: %w", target, err)
		return ""
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		o.fail("the URL %q must start with https:// or http://", target)
	case u.Hostname() == "":
		o.fail("the URL %q has no host", target)
	case u.User != nil:
		o.fail("the URL has a user or password in it: use {bearer: secret(\"...\")} or a header")
	}
	u.Fragment, u.RawFragment = "", ""
	if q, ok := o.get("query"); ok {
		query := o.form("query", q)
		if u.RawQuery != "" && query != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += query
	}
	return u.String()
}

// body reads the body, and returns its content type.
func (o *options) body(c *Call) (contentType string) {
	given := 0
	if _, ok := o.m.Get("json"); ok {
		given++
		v, _ := o.m.Get("json")
		b, err := value.Encode("json", v)
		if err != nil {
			o.fail("%w", err)
		}
		c.Body, contentType = b, "application/json"
	}
	if v, ok := o.get("form"); ok {
		given++
		c.Body, contentType = []byte(o.form("form", v)), "application/x-www-form-urlencoded"
	}
	if v, ok := o.get("body"); ok {
		given++
		b, err := toBytes([]tengo.Object{v}, 0)
		if err != nil {
			o.fail("option body must be bytes or a string, not %s", v.TypeName())
		}
		c.Body, contentType = append([]byte(nil), b...), ""
	}
	if given > 1 {
		o.fail("only one of the options json, form and body can be given")
	}
	return contentType
}

// form encodes a map as a form, nested values as Stripe wants them: items[0][price]=..., keys in order.
func (o *options) form(name string, v tengo.Object) string {
	m, ok := v.(*value.Map)
	if !ok {
		o.fail("option %s must be a map, not %s", name, v.TypeName())
		return ""
	}
	s, err := encodeForm(name, m)
	if err != nil {
		o.fail("%w", err)
	}
	return s
}

func encodeForm(name string, m *value.Map) (string, error) {
	f := form{name: name}
	for k, v := range m.All() {
		if err := f.add(url.QueryEscape(k), v, 0); err != nil {
			return "", err
		}
	}
	return f.out.String(), nil
}

type form struct {
	name string
	out  strings.Builder
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
		for i, e := range v.Items {
			if err := f.add(fmt.Sprintf("%s[%d]", key, i), e, depth+1); err != nil {
				return err
			}
		}
		return f.empty(key, len(v.Items))
	}
	s, err := formText(v)
	if err != nil {
		return &value.EncodeError{Path: f.name + "." + key, Err: err}
	}
	return f.pair(key, s)
}

// empty writes an empty map or array as an empty text, which is how Stripe clears a member.
func (f *form) empty(key string, n int) error {
	if n > 0 {
		return nil
	}
	return f.pair(key, "")
}

func (f *form) pair(key, val string) error {
	if f.out.Len() > 0 {
		f.out.WriteByte('&')
	}
	f.out.WriteString(key + "=" + url.QueryEscape(val))
	if f.out.Len() > value.MaxString {
		return tengo.ErrStringLimit
	}
	return nil
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
