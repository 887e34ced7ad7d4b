package modules

import (
	"errors"
	"net/url"

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
	"part":   fn{3, 4, httpPart},
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
		o.common(r, c, noScripts)
		if o.err != nil {
			return nil, o.err
		}
		return r.call(c)
	}}
}

// noScripts is for calls that have none unless they name some.
func noScripts(string) []string { return nil }

// common reads the options that every call has. defaults has the scripts that are looked for where the option then or
// catch is not given.
func (o *options) common(r *Run, c *Call, defaults func(option string) []string) {
	c.Timeout = o.duration("timeout")
	c.IdempotencyKey = o.idempotencyKey()
	c.Tag = o.json("tag")
	c.Then = o.script(r, "then", defaults)
	c.Catch = o.script(r, "catch", defaults)
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
	s, err := encodeForm(name, m, true, nil)
	if err != nil {
		o.fail("%w", err)
	}
	return s
}
