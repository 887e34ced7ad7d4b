package apidoc

import (
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/thence-dev/thence/scripting/internal/apitable"
)

// schema returns the number of a schema's type. Where a schema contains itself, it is any: a table's types can't.
func (d *Document) schema(n *yaml.Node) (int, error) {
	n, err := d.resolve(n)
	if err != nil {
		return 0, err
	}
	if n == nil || n.Kind != yaml.MappingNode { // no schema, or true
		return d.any(), nil
	}
	if id, ok := d.known[n]; ok {
		return id, nil
	}
	if d.open[n] {
		d.Cycles++
		return d.any(), nil
	}
	d.open[n] = true
	defer delete(d.open, n)
	id, err := d.read(n)
	if err != nil {
		return 0, at(err, n.Line, "")
	}
	if isTrue(get(n, "nullable")) {
		id = d.union([]int{id, d.null()})
	}
	d.known[n] = id
	return id, nil
}

func (d *Document) any() int  { return d.Types.Add(apitable.Type{Kind: apitable.Any}) }
func (d *Document) null() int { return d.Types.Add(apitable.Type{Kind: apitable.Null}) }

func (d *Document) read(n *yaml.Node) (int, error) {
	if all := items(get(n, "allOf")); len(all) > 0 {
		return d.allOf(n, all)
	}
	for _, key := range []string{"oneOf", "anyOf"} {
		if all := items(get(n, key)); len(all) > 0 && !onlyRequired(all) {
			return d.oneOf(all)
		}
	}
	if values := items(get(n, "enum")); len(values) > 0 {
		return d.enum(n, values), nil
	}
	if c := get(n, "const"); c != nil {
		return d.Types.Add(apitable.Type{Kind: apitable.Enum, Values: []string{text(c)}}), nil
	}
	return d.typed(n)
}

// onlyRequired tells whether alternatives say no more than which members go together.
func onlyRequired(all []*yaml.Node) bool {
	return !slices.ContainsFunc(all, func(n *yaml.Node) bool {
		for key := range members(n) {
			if key != "required" && key != "not" {
				return true
			}
		}
		return false
	})
}

func (d *Document) typed(n *yaml.Node) (int, error) {
	t := get(n, "type")
	if list := texts(t); len(list) > 0 {
		return d.oneOfTypes(n, list)
	}
	return d.single(n, text(t))
}

// oneOfTypes reads a list of types, as OpenAPI 3.1 has it: [string, "null"].
func (d *Document) oneOfTypes(n *yaml.Node, list []string) (int, error) {
	var of []int
	for _, name := range list {
		if name == "null" {
			of = append(of, d.null())
			continue
		}
		id, err := d.single(n, name)
		if err != nil {
			return 0, err
		}
		of = append(of, id)
	}
	return d.union(of), nil
}

func (d *Document) single(n *yaml.Node, name string) (int, error) {
	format := text(get(n, "format"))
	kind := apitable.Any
	switch name {
	case "string":
		if format == "binary" || get(n, "contentMediaType") != nil {
			kind = apitable.Bytes
			break
		}
		most, _ := strconv.Atoi(text(get(n, "maxLength"))) // what is no number bounds nothing
		return d.Types.Add(apitable.Type{Kind: apitable.String, Most: max(most, 0)}), nil
	case "integer":
		if kind = apitable.Int; format == "unix-time" {
			kind = apitable.Time
		}
	case "number":
		kind = apitable.Number
	case "boolean":
		kind = apitable.Bool
	case "null":
		kind = apitable.Null
	case "array":
		return d.array(n)
	case "object":
		return d.object(n)
	default:
		switch {
		case get(n, "properties") != nil || get(n, "additionalProperties") != nil:
			return d.object(n)
		case get(n, "items") != nil:
			return d.array(n)
		}
	}
	return d.Types.Add(apitable.Type{Kind: kind}), nil
}

func (d *Document) array(n *yaml.Node) (int, error) {
	elem, err := d.schema(get(n, "items"))
	if err != nil {
		return 0, err
	}
	return d.Types.Add(apitable.Type{Kind: apitable.Array, Elem: elem}), nil
}

// object reads an object. Members that only answers have are left out. Without additionalProperties there are no others
// than those that are named: JSON Schema means it otherwise, authors of APIs mean it so.
func (d *Document) object(n *yaml.Node) (int, error) {
	t := apitable.Type{Kind: apitable.Object, Rest: -1}
	required := texts(get(n, "required"))
	for name, prop := range members(get(n, "properties")) {
		def, err := d.resolve(prop)
		if err != nil {
			return 0, at(err, 0, name)
		}
		if isTrue(get(def, "readOnly")) || isTrue(get(prop, "readOnly")) {
			continue
		}
		id, err := d.schema(prop)
		if err != nil {
			return 0, at(err, 0, name)
		}
		t.Props = append(t.Props, apitable.Prop{Name: name, Required: slices.Contains(required, name), Type: id})
	}
	more := get(n, "additionalProperties")
	if more == nil && get(n, "properties") == nil || isTrue(more) {
		t.Rest = d.any()
	} else if more != nil && more.Kind == yaml.MappingNode {
		var err error
		if t.Rest, err = d.schema(more); err != nil {
			return 0, err
		}
	}
	if len(t.Props) == 0 && t.Rest >= 0 {
		return d.Types.Add(apitable.Type{Kind: apitable.Map, Elem: t.Rest}), nil
	}
	return d.Types.Add(t), nil
}

func (d *Document) enum(n *yaml.Node, values []*yaml.Node) int {
	t := apitable.Type{Kind: apitable.Enum}
	if isTrue(get(n, "x-stripeBypassValidation")) {
		t.Kind = apitable.Open
	}
	null := false
	for _, v := range values {
		if plain(v).Tag == "!!null" {
			null = true
		} else if !slices.Contains(t.Values, text(v)) {
			t.Values = append(t.Values, text(v))
		}
	}
	id := d.Types.Add(t)
	if null {
		return d.union([]int{id, d.null()})
	}
	return id
}

func (d *Document) oneOf(all []*yaml.Node) (int, error) {
	var of []int
	for _, n := range all {
		id, err := d.schema(n)
		if err != nil {
			return 0, err
		}
		of = append(of, id)
	}
	return d.union(of), nil
}

// union is what is one of the types: any, if one of them is.
func (d *Document) union(of []int) int {
	var flat []int
	for _, id := range of {
		switch t := d.Types.Type(id); t.Kind {
		case apitable.Any:
			return id
		case apitable.Union:
			flat = append(flat, t.Of...)
		default:
			flat = append(flat, id)
		}
	}
	var each []int
	for _, id := range flat {
		if !slices.Contains(each, id) {
			each = append(each, id)
		}
	}
	if len(each) == 1 {
		return each[0]
	}
	return d.Types.Add(apitable.Type{Kind: apitable.Union, Of: each})
}

// allOf joins objects into one. Beside an object, what is no object counts nothing; without one, the first type counts.
func (d *Document) allOf(n *yaml.Node, all []*yaml.Node) (int, error) {
	joined := apitable.Type{Kind: apitable.Object, Rest: -1}
	objects, other := 0, -1
	join := func(id int) {
		switch t := d.Types.Type(id); t.Kind {
		case apitable.Object:
			objects++
			joined = merge(joined, t)
		case apitable.Map:
			objects++
			joined.Rest = t.Elem
		case apitable.Any:
		default:
			if other < 0 {
				other = id
			}
		}
	}
	for _, part := range all {
		id, err := d.schema(part)
		if err != nil {
			return 0, err
		}
		join(id)
	}
	if get(n, "properties") != nil {
		id, err := d.object(n)
		if err != nil {
			return 0, err
		}
		join(id)
	}
	if objects == 0 && other >= 0 {
		return other, nil
	}
	if objects == 0 {
		return d.any(), nil
	}
	required := texts(get(n, "required"))
	for i, p := range joined.Props {
		joined.Props[i].Required = p.Required || slices.Contains(required, p.Name)
	}
	if len(joined.Props) == 0 && joined.Rest >= 0 {
		return d.Types.Add(apitable.Type{Kind: apitable.Map, Elem: joined.Rest}), nil
	}
	return d.Types.Add(joined), nil
}

// merge has the members of both; those of b take the place of a's.
func merge(a, b apitable.Type) apitable.Type {
	a.Props = slices.DeleteFunc(slices.Clone(a.Props), func(p apitable.Prop) bool {
		_, twice := b.Prop(p.Name)
		return twice
	})
	a.Props = append(a.Props, b.Props...)
	if b.Rest >= 0 {
		a.Rest = b.Rest
	}
	return a
}
