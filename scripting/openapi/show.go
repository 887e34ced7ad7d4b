package openapi

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/thence-dev/thence/scripting/internal/apitable"
	"github.com/thence-dev/thence/scripting/internal/compile"
	"github.com/thence-dev/thence/scripting/internal/stripeapi"
)

// API is an API whose operations can be looked at.
type API struct{ table *apitable.API }

// Stripe is the API of the module stripe.
func Stripe() *API { return &API{stripeapi.API()} }

// OfModule is the API of a script that [Import] wrote.
func OfModule(source string) (*API, error) {
	_, rest, found := strings.Cut(source, tableBegin)
	text, _, closed := strings.Cut(rest, tableEnd)
	if !found || !closed {
		return nil, errors.New("it is no module that thence service import wrote")
	}
	table, err := apitable.Parse(text)
	if err != nil {
		return nil, err
	}
	return &API{table}, nil
}

// Title is the API's own, with its version.
func (a *API) Title() string { return a.table.Title }

// Operation is one of an API's operations, for people.
type Operation struct {
	Name       string      `json:"name"` // as scripts call it
	Summary    string      `json:"summary,omitempty"`
	Method     string      `json:"method"`
	URL        string      `json:"url"`
	IDs        []string    `json:"ids,omitempty"` // what stands in the URL, in the order of the arguments
	Body       string      `json:"body"`          // how the parameters travel
	Then       string      `json:"then"`          // the scripts that take what comes back
	Catch      string      `json:"catch"`
	Parameters []Parameter `json:"parameters,omitempty"` // of Show only
}

// Parameter is what an operation takes.
type Parameter struct {
	Name     string      `json:"name"`
	Type     string      `json:"type"`
	Required bool        `json:"required,omitempty"`
	Values   []string    `json:"values,omitempty"`
	Members  []Parameter `json:"members,omitempty"` // of a map, or of the elements of an array
}

// Operations lists all operations in order, without their parameters.
func (a *API) Operations() []Operation {
	var all []Operation
	for _, op := range a.table.Operations() {
		all = append(all, a.operation(op))
	}
	return all
}

func (a *API) operation(op *apitable.Operation) Operation {
	base := a.table.URL
	if op.Base != "" {
		base = op.Base
	}
	return Operation{Name: a.table.Name + "." + op.FullName(), Summary: op.Summary, Method: op.Method, URL: base + op.Path,
		IDs: op.PathParams(), Body: string(op.Body), Then: "new_" + op.Name + "_response", Catch: "new_" + op.Name + "_error"}
}

// Show describes an operation, such as payment_intents.create. param is empty, or leads to a parameter that is described
// alone, such as payment_method_options.card. Members of maps are described down to depth levels.
func (a *API) Show(name, param string, depth int) (Operation, error) {
	all := a.table.Operations()
	i := slices.IndexFunc(all, func(op *apitable.Operation) bool { return op.FullName() == name })
	if i < 0 {
		return Operation{}, fmt.Errorf("%s has no operation %q%s", a.table.Name, name, a.meant(name))
	}
	shown := a.operation(all[i])
	at := all[i].Params
	for step := range strings.SplitSeq(param, ".") {
		if step == "" {
			break
		}
		p, err := a.member(at, step)
		if err != nil {
			return Operation{}, err
		}
		at = p.Type
	}
	var err error
	if shown.Parameters, err = a.parameters(at, depth); err == nil && param != "" && len(shown.Parameters) == 0 {
		err = fmt.Errorf("the parameter %s has no members", param)
	}
	return shown, err
}

// meant lists what is at the place that a name leads to, or names the nearest.
func (a *API) meant(name string) string {
	var names, below []string
	for _, op := range a.table.Operations() {
		names = append(names, op.FullName())
		if op.Resource == name || strings.HasPrefix(op.Resource, name+".") {
			below = append(below, op.FullName())
		}
	}
	if len(below) > 0 {
		return ": it is a resource, which has " + strings.Join(below, ", ")
	}
	return compile.Suggest(name, names)
}

// member finds a member of a type, or of its elements or alternatives.
func (a *API) member(n int, name string) (apitable.Prop, error) {
	t, err := a.object(n)
	if err != nil {
		return apitable.Prop{}, err
	}
	if t == nil {
		return apitable.Prop{}, fmt.Errorf("there is no parameter %q: what it would be in has no members", name)
	}
	if p, ok := t.Prop(name); ok {
		return p, nil
	}
	return apitable.Prop{}, fmt.Errorf("there is no parameter %q%s", name, compile.Suggest(name, t.Names()))
}

// object is the object that a type is, has as its elements or as one of its alternatives; nil when it has none.
func (a *API) object(n int) (*apitable.Type, error) {
	t, err := a.table.Type(n)
	if err != nil {
		return nil, err
	}
	switch t.Kind {
	case apitable.Object:
		return t, nil
	case apitable.Array, apitable.Map:
		return a.object(t.Elem)
	case apitable.Union:
		for _, of := range t.Of {
			if found, err := a.object(of); found != nil || err != nil {
				return found, err
			}
		}
	}
	return nil, nil
}

// parameters describes the members of a type: what is required first.
func (a *API) parameters(n, depth int) ([]Parameter, error) {
	t, err := a.object(n)
	if t == nil || err != nil || depth <= 0 {
		return nil, err
	}
	props := slices.Clone(t.Props)
	slices.SortStableFunc(props, func(a, b apitable.Prop) int { return order(a) - order(b) })
	all := make([]Parameter, len(props))
	for i, p := range props {
		text, values, err := a.describe(p.Type)
		if err != nil {
			return nil, err
		}
		all[i] = Parameter{Name: p.Name, Type: text, Required: p.Required, Values: values}
		if all[i].Members, err = a.parameters(p.Type, depth-1); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func order(p apitable.Prop) int {
	if p.Required {
		return 0
	}
	return 1
}

// describe is a type in words, and the values that it may have.
func (a *API) describe(n int) (text string, values []string, err error) {
	t, err := a.table.Type(n)
	if err != nil {
		return "", nil, err
	}
	switch t.Kind {
	case apitable.String:
		if t.Most > 0 {
			return fmt.Sprintf("string of at most %d characters", t.Most), nil, nil
		}
	case apitable.Enum:
		return "one of", t.Values, nil
	case apitable.Open:
		return "string such as", t.Values, nil
	case apitable.Array, apitable.Map:
		text, values, err = a.describe(t.Elem)
		return t.Kind.String() + " of " + text, values, err
	case apitable.Object:
		return "map", nil, nil
	case apitable.Union:
		return a.alternatives(t)
	}
	return t.Kind.String(), nil, nil
}

func (a *API) alternatives(t *apitable.Type) (text string, values []string, err error) {
	var all []string
	for _, n := range t.Of {
		text, of, err := a.describe(n)
		if err != nil {
			return "", nil, err
		}
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
		values = append(values, of...)
	}
	if i := slices.Index(all, "one of"); i >= 0 { // its values follow
		all = append(slices.Delete(all, i, i+1), "one of")
	}
	if len(values) == 1 && values[0] == "" {
		all[len(all)-1], values = `""`, nil
	}
	return strings.Join(all, " or "), values, nil
}
