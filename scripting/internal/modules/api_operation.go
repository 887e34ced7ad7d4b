package modules

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/apitable"
	"github.com/thence-dev/thence/scripting/internal/value"
)

// operation is one of an API's functions: ([id...][, params[, options]]).
type operation struct {
	api *apitable.API
	*apitable.Operation
	ids []string // names in the path
}

// fn makes the operation's function.
func (op *operation) fn() fn { return fn{len(op.ids), len(op.ids) + 2, op.call} }

func (op *operation) call(r *Run, args []tengo.Object) (tengo.Object, error) {
	path, err := op.path(args)
	if err != nil {
		return nil, err
	}
	args = args[len(op.ids):]
	params, err := op.params(args)
	if err != nil {
		return nil, err
	}
	o, err := readOptions(args, 1, apiOptions...)
	if err != nil {
		return nil, err
	}
	c := &Call{Operation: op.Name, Method: op.Method, URL: op.base() + path}
	if key := op.key(r); key != "" {
		c.Header = append(c.Header, Header{Name: op.api.Auth.Header, Value: op.api.Auth.Prefix, Secret: key})
	}
	if err := op.fill(c, params); err != nil {
		return nil, err
	}
	o.common(r, c, op.scripts)
	if o.err != nil {
		return nil, o.err
	}
	return r.call(c)
}

// scripts are those that are looked for to take what comes back: the operation's own, and the one for all of its API.
func (op *operation) scripts(option string) []string {
	what := "response"
	if option == "catch" {
		what = "error"
	}
	return []string{"new_" + op.Name + "_" + what, "new_" + op.api.Name + "_" + what}
}

func (op *operation) base() string {
	if op.Base != "" {
		return op.Base
	}
	return op.api.URL
}

// key is the name of the secret that goes along; empty: none does.
func (op *operation) key(r *Run) string {
	if key, ok := r.keys[op.api.Name]; ok {
		return key
	}
	return op.api.Auth.Secret
}

// path puts the ids into the operation's path.
func (op *operation) path(args []tengo.Object) (string, error) {
	path := op.Path
	for i, name := range op.ids {
		var id string
		switch arg := args[i].(type) {
		case *tengo.String:
			id = arg.Value
		case *tengo.Int:
			id = strconv.FormatInt(arg.Value, 10)
		default:
			return "", wrong(i, "an id such as "+op.example(name), arg)
		}
		if !isID(id) {
			return "", fmt.Errorf("%q is no id: want one such as %s, without spaces and / \\ ? # %% { }", id, op.example(name))
		}
		path = strings.Replace(path, "{"+name+"}", url.PathEscape(id), 1)
	}
	return path, nil
}

// examples are ids of those of Stripe's resources that everybody uses.
var examples = map[string]string{"customers": "cus_123", "payment_intents": "pi_123", "subscriptions": "sub_123"}

// example is an id, or says which one is wanted.
func (op *operation) example(name string) string {
	if id, ok := examples[op.Resource]; ok && op.api.Name == "stripe" {
		return id
	}
	return "{" + name + "} in " + op.Path
}

// isID tells whether a text can stand in a path as one of its parts, whatever reads the path.
func isID(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 255 && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c == 0x7f || c == '\ufffd' || strings.ContainsRune(`/\?#%{}`, c)
	})
}

// params checks the parameters.
func (op *operation) params(args []tengo.Object) (*value.Map, error) {
	m := &value.Map{}
	if len(args) > 0 && args[0] != tengo.UndefinedValue {
		var ok bool
		if m, ok = args[0].(*value.Map); !ok {
			return nil, fmt.Errorf("the parameters must be a map, not %s", args[0].TypeName())
		}
	}
	t, err := op.api.Type(op.Params)
	if err != nil {
		return nil, err
	}
	if t.Kind != apitable.Object {
		return nil, fmt.Errorf("the table of %s is wrong: the parameters of %s are no object", op.api.Name, op.FullName())
	}
	f := &fitter{api: op.api, text: op.Body != apitable.JSON}
	m, err = f.object(t, m)
	return m, op.explain(err)
}

// explain says it better where an option stands among the parameters.
func (op *operation) explain(err error) error {
	var m *misfit
	if errors.As(err, &m) && m.unknown != "" && len(m.path) == 0 && slices.Contains(apiOptions, m.unknown) {
		owner := strings.ToUpper(op.api.Name[:1]) + op.api.Name[1:]
		return fmt.Errorf("%s is an option, not one of %s's parameters: give it in a map of its own behind them, %s({...}, {%s: ...})",
			m.unknown, owner, op.Verb, m.unknown)
	}
	return err
}

// fill puts the parameters where they belong.
func (op *operation) fill(c *Call, params *value.Map) error {
	inURL, inBody, err := op.part(c, params)
	if err != nil {
		return err
	}
	query, err := encodeForm("params", inURL, op.api.Indexed, op.Comma)
	if err != nil {
		return err
	}
	if query != "" {
		c.URL += "?" + query
	}
	return op.body(c, inBody)
}

// part puts parameters into the header, and tells those of the URL from those of the body.
func (op *operation) part(c *Call, params *value.Map) (inURL, inBody *value.Map, err error) {
	switch none := (&value.Map{}); {
	case len(op.Header) > 0 || op.Body != apitable.Query && len(op.Query) > 0: // each by itself
	case op.Body == apitable.Query:
		return params, none, nil
	default:
		return none, params, nil
	}
	inURL, inBody = &value.Map{}, &value.Map{}
	for name, v := range params.All() {
		switch {
		case slices.Contains(op.Header, name):
			h, err := headerOf(name, v)
			if err != nil {
				return nil, nil, err
			}
			c.Header = append(c.Header, h)
		case op.Body == apitable.Query || slices.Contains(op.Query, name):
			inURL.Set(name, v)
		default:
			inBody.Set(name, v)
		}
	}
	return inURL, inBody, nil
}

// headerOf makes a line of the header of a parameter; a list is joined by commas.
func headerOf(name string, v tengo.Object) (Header, error) {
	a, ok := v.(*value.Array)
	if !ok {
		return header(name, v)
	}
	all := make([]string, len(a.Items))
	for i, e := range a.Items {
		var err error
		if all[i], err = formText(e); err != nil {
			return Header{}, &value.EncodeError{Path: "params." + name, Err: err}
		}
	}
	return header(name, str(strings.Join(all, ",")))
}

func (op *operation) body(c *Call, params *value.Map) (err error) {
	contentType := ""
	switch op.Body {
	case apitable.Form:
		var s string
		contentType = "application/x-www-form-urlencoded"
		if s, err = encodeForm("params", params, op.api.Indexed, nil); s != "" {
			c.Body = []byte(s)
		}
	case apitable.JSON:
		contentType = "application/json"
		if c.Body, err = op.json(params); c.Body == nil {
			return err
		}
	case apitable.Multipart:
		c.Body, contentType, err = encodeMultipart(params, op.api.Indexed)
	default:
		return nil
	}
	c.Header = append(c.Header, Header{Name: "Content-Type", Value: contentType})
	return err
}

// json is the body as JSON; nil without an error: there is none.
func (op *operation) json(params *value.Map) ([]byte, error) {
	if op.Whole == "" {
		return value.Encode("params", params)
	}
	v, ok := params.Get(op.Whole)
	if !ok {
		return nil, nil
	}
	return value.Encode(op.Whole, v)
}
