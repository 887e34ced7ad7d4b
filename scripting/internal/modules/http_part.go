package modules

import (
	"fmt"
	"strings"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// maxPart is the most that comes of a stored body at a time, in bytes.
const maxPart = 256 << 10

var callID = lazy(`^[1-9][0-9]{0,19}-(0|[1-9][0-9]{0,5})$`)

// httpPart asks for a part of a body that was too large to come with its answer: http.part(job.response.stored, offset,
// length, {then: ...}). It is a call as any other, to the service that reads stored bodies; its URL is
// body:CALL?length=N&offset=N.
func httpPart(r *Run, args []tengo.Object) (tengo.Object, error) {
	o, err := readOptions(args, 3, "then", "catch", "tag", "base64")
	if err != nil {
		return nil, err
	}
	id, size, err := r.stored(args[0])
	if err != nil {
		return nil, err
	}
	offset, err := toCount(args, 1, 0, max(0, size-1))
	if err != nil {
		return nil, err
	}
	length, err := toCount(args, 2, 1, maxPart)
	if err != nil {
		return nil, err
	}
	c := &Call{Method: "GET", URL: fmt.Sprintf("body:%s?length=%d&offset=%d", id, length, offset)}
	if o.flag("base64") {
		c.URL += "&encoding=base64"
	}
	c.Tag = o.json("tag")
	c.Then = o.script(r, "then", noScripts)
	c.Catch = o.script(r, "catch", noScripts)
	if o.err != nil {
		return nil, o.err
	}
	return r.call(c)
}

// stored reads what refers to a stored body: the call that it answered, and its size. A body can be read in the context
// that asked for it alone.
func (r *Run) stored(o tengo.Object) (call string, size int64, err error) {
	m, ok := o.(*value.Map)
	if !ok {
		return "", 0, wrong(0, "what job.response.stored is", o)
	}
	name, _ := m.Get("name")
	text, _ := name.(*tengo.String)
	bytes, _ := m.Get("size")
	n, _ := bytes.(*tengo.Int)
	if text == nil || n == nil {
		return "", 0, fmt.Errorf("argument 1 must be what job.response.stored is, with name and size")
	}
	owner, call, _ := strings.Cut(text.Value, ".")
	switch {
	case !callID().MatchString(call):
		return "", 0, fmt.Errorf("%q is no name of a stored body", text.Value)
	case owner != r.job.Context:
		return "", 0, fmt.Errorf("the body %q belongs to the context %s, and can be read there alone", text.Value, owner)
	}
	return call, n.Value, nil
}

// flag reads an option that is true or false.
func (o *options) flag(key string) bool {
	v, ok := o.get(key)
	if !ok {
		return false
	}
	b, ok := v.(*tengo.Bool)
	if !ok {
		o.fail("option %s must be true or false, not %s", key, v.TypeName())
		return false
	}
	return !b.IsFalsy()
}
