package modules

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

const (
	stripeURL        = "https://api.stripe.com"
	defaultStripeKey = "stripe_key"
)

var (
	stripeID      = regexp.MustCompile(`^[a-zA-Z0-9_]{1,255}$`)
	stripeOptions = []string{"then", "catch", "tag", "timeout", "idempotency_key"}
)

// newStripe makes the module stripe: a module for each resource, and configure.
func newStripe(r *Run) *Module {
	top := members{"configure": fn{1, 1, stripeConfigure}}
	resources := map[string]members{}
	for _, op := range operations {
		if resources[op.resource] == nil {
			resources[op.resource] = members{}
		}
		resources[op.resource][op.verb] = op.fn()
	}
	for name, m := range resources {
		top[name] = newModule(r, "stripe."+name, m)
	}
	return newModule(r, "stripe", top)
}

// stripeConfigure({key: secret("...")}) has the rest of the run use another key.
func stripeConfigure(r *Run, args []tengo.Object) (tengo.Object, error) {
	o, err := readOptions(args, 0, "key")
	if err != nil {
		return nil, err
	}
	key, _ := o.get("key")
	switch key := key.(type) {
	case *value.Secret:
		r.stripe = key.Name
		return tengo.UndefinedValue, nil
	case *tengo.String:
		return nil, fmt.Errorf(`a key does not belong into a script: name the secret, {key: secret("stripe_key")}`)
	}
	return nil, fmt.Errorf(`want {key: secret("stripe_key")}`)
}

// fn makes the operation's function: ([id, ][params[, options]]).
func (op operation) fn() fn {
	f := fn{0, 2, op.call}
	if op.hasID() {
		f.min, f.max = 1, 3
	}
	return f
}

func (op operation) hasID() bool { return strings.Contains(op.path, "{id}") }

func (op operation) call(r *Run, args []tengo.Object) (tengo.Object, error) {
	path := op.path
	if op.hasID() {
		id, ok := args[0].(*tengo.String)
		if !ok {
			return nil, wrong(0, "an id such as "+op.example(), args[0])
		}
		if !stripeID.MatchString(id.Value) {
			return nil, fmt.Errorf("%q is no id: want one such as %s", id.Value, op.example())
		}
		path, args = strings.Replace(path, "{id}", id.Value, 1), args[1:]
	}
	params, err := stripeParams(args)
	if err != nil {
		return nil, err
	}
	o, err := readOptions(args, 1, stripeOptions...)
	if err != nil {
		return nil, err
	}
	c := &Call{Operation: op.name, Method: op.method, URL: stripeURL + path}
	c.Header = []Header{{Name: "Authorization", Value: "Bearer ", Secret: r.stripe}}
	if op.method == "POST" {
		if params != "" {
			c.Body = []byte(params)
		}
		c.Header = append(c.Header, Header{Name: "Content-Type", Value: "application/x-www-form-urlencoded"})
	} else if params != "" {
		c.URL += "?" + params
	}
	o.common(r, c, "new_"+op.name+"_response", "new_"+op.name+"_error")
	if o.err != nil {
		return nil, o.err
	}
	return r.call(c)
}

// example is an id of the resource.
func (op operation) example() string {
	switch op.resource {
	case "customers":
		return "cus_123"
	case "payment_intents":
		return "pi_123"
	case "subscriptions":
		return "sub_123"
	}
	return "xx_123"
}

// stripeParams encodes the parameters. An option among them would only make Stripe refuse the request.
func stripeParams(args []tengo.Object) (string, error) {
	if len(args) == 0 || args[0] == tengo.UndefinedValue {
		return "", nil
	}
	m, ok := args[0].(*value.Map)
	if !ok {
		return "", fmt.Errorf("the parameters must be a map, not %s", args[0].TypeName())
	}
	for key := range m.All() {
		if slices.Contains(stripeOptions, key) {
			return "", fmt.Errorf("%s is an option, not one of Stripe's parameters: give it in a second map, "+
				"such as create({amount: 2000}, {%s: ...})", key, key)
		}
	}
	return encodeForm("params", unixTimes(m))
}

// unixTimes writes times as Stripe wants them, in Unix seconds. Stripe has them at the top level only.
func unixTimes(m *value.Map) *value.Map {
	out := value.NewMap(m.Len())
	for k, v := range m.All() {
		if t, ok := v.(*tengo.Time); ok {
			v = integer(t.Value.Unix())
		}
		out.Set(k, v)
	}
	return out
}
