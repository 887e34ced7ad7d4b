package servicefile

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/thence-dev/thence/worker/calls"
)

// value is a place in the file, and how its fields lead there.
type value struct {
	node ast.Node
	path string
}

// word is the text of a scalar that is a text, or that YAML reads as something else: off, 404.
func (v value) word() (string, bool) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.BoolNode, *ast.FloatNode:
		word := n.GetToken().Value
		if word == "false" {
			word = "off"
		}
		return word, true
	}
	return "", false
}

// describe is what people call a node.
func describe(n ast.Node) string {
	switch n := n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "fields"
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		return "an anchor, alias or tag, which are not read here"
	default:
		if kind := n.GetToken().Type; kind == token.SingleQuoteType || kind == token.DoubleQuoteType {
			return fmt.Sprintf("the quoted text %q", n.GetToken().Value)
		}
		return strconv.Quote(n.GetToken().Value)
	}
}

// field is a field of a service, or of one of its fields.
type field struct {
	name, doc string
	rule
}

// rule says what a value is: in the schema, and as a service takes it.
type rule struct {
	schema map[string]any
	read   func(r *reader, v value, s *calls.Service)
}

// object is a value with fields.
func object(fields ...field) rule { return objectWith(nil, fields...) }

// objectWith is a value with fields, of which some have to be there.
func objectWith(required []string, fields ...field) rule {
	byName, properties, names := map[string]field{}, map[string]any{}, []string{}
	for _, f := range fields {
		byName[f.name] = f
		schema := map[string]any{"description": f.doc}
		maps.Copy(schema, f.schema)
		properties[f.name], names = schema, append(names, f.name)
	}
	schema := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return rule{schema, func(r *reader, v value, s *calls.Service) {
		given := map[string]bool{}
		r.fields(v, names, func(name string, _ ast.Node, v value) {
			given[name] = true
			byName[name].read(r, v, s)
		})
		if _, fields := mapping(v.node); !fields {
			return
		}
		for _, name := range required {
			if !given[name] {
				r.problem(v.node, "%s: the field %s is missing", v.path, name)
			}
		}
	}}
}

// oneOf is a value with exactly one of the fields.
func oneOf(fields ...field) rule {
	all, names := object(fields...), []string{}
	for _, f := range fields {
		names = append(names, f.name)
	}
	all.schema["minProperties"], all.schema["maxProperties"] = 1, 1
	return rule{all.schema, func(r *reader, v value, s *calls.Service) {
		if pairs, ok := mapping(v.node); ok && len(pairs) != 1 {
			r.problem(v.node, "%s: want one of %s, got %d fields", v.path, strings.Join(names, ", "), len(pairs))
			return
		}
		all.read(r, v, s)
	}}
}

// scalar reads a word, and says what it wants where set does not take it, or the schema's pattern does not.
func scalar(schema map[string]any, want string, set func(s *calls.Service, word string) bool) rule {
	var pattern *regexp.Regexp
	if text, ok := schema["pattern"].(string); ok {
		pattern = regexp.MustCompile(text)
	}
	return rule{schema, func(r *reader, v value, s *calls.Service) {
		word, ok := v.word()
		if !ok || pattern != nil && !pattern.MatchString(word) || !set(s, word) {
			r.problem(v.node, "%s: want %s, got %s", v.path, want, describe(v.node))
		}
	}}
}

// node reads a scalar only where YAML has it as that kind of node: a number in quotes is none.
func node[T ast.Node](of rule, want string) rule {
	return rule{of.schema, func(r *reader, v value, s *calls.Service) {
		if _, ok := v.node.(T); !ok {
			r.problem(v.node, "%s: want %s, got %s", v.path, want, describe(v.node))
			return
		}
		of.read(r, v, s)
	}}
}

// text is a text that is not empty; a pattern, if there is one, says more.
func text(want, pattern string, set func(*calls.Service, string)) rule {
	schema := map[string]any{"type": "string", "minLength": 1}
	if pattern != "" {
		schema = map[string]any{"type": "string", "pattern": pattern}
	}
	whole := scalar(schema, want, func(s *calls.Service, word string) bool {
		set(s, word)
		return word != ""
	})
	return rule{schema, func(r *reader, v value, s *calls.Service) {
		switch v.node.(type) {
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
			r.problem(v.node, "%s: want %s: put %s in quotes", v.path, want, v.node.GetToken().Value)
		default:
			whole.read(r, v, s)
		}
	}}
}

func yes(set func(*calls.Service, bool)) rule {
	const want = "true or false"
	return node[*ast.BoolNode](scalar(map[string]any{"type": "boolean"}, want, func(s *calls.Service, word string) bool {
		set(s, strings.EqualFold(word, "true"))
		return true
	}), want)
}

func number(least, most int, set func(*calls.Service, int)) rule {
	want := fmt.Sprintf("a whole number from %d to %d", least, most)
	return node[*ast.IntegerNode](scalar(map[string]any{"type": "integer", "minimum": least, "maximum": most}, want, func(s *calls.Service, word string) bool {
		n, err := strconv.Atoi(word)
		set(s, n)
		return err == nil && strconv.Itoa(n) == word && n >= least && n <= most // no 010, which is 8 to others
	}), want)
}

func duration(set func(*calls.Service, time.Duration)) rule {
	schema := map[string]any{
		"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`, "not": map[string]any{"pattern": `^[0.msh]*$`},
		"examples": []string{"500ms", "30s", "1h30m"},
	}
	return scalar(schema, "a time such as 500ms, 30s or 1h30m", func(s *calls.Service, word string) bool {
		d, err := time.ParseDuration(word)
		set(s, d)
		return err == nil && d > 0
	})
}

// units of sizes.
var units = []struct {
	name  string
	bytes int
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"B", 1}, {"", 1}}

func size(most int, set func(*calls.Service, int)) rule {
	schema := map[string]any{"type": []string{"string", "integer"}, "pattern": `^[1-9][0-9]* ?(B|KiB|MiB)?$`, "minimum": 1, "maximum": most, "examples": []string{"64KiB"}}
	return scalar(schema, fmt.Sprintf("a size such as 64KiB, at most %dMiB", most>>20), func(s *calls.Service, word string) bool {
		for _, unit := range units {
			digits, ok := strings.CutSuffix(word, unit.name)
			n, err := strconv.Atoi(strings.TrimSpace(digits))
			if !ok || err != nil || n > math.MaxInt/unit.bytes {
				continue
			}
			set(s, n*unit.bytes)
			return n > 0 && n*unit.bytes <= most
		}
		return false
	})
}

// list is a list of values, or one of them.
func list(item rule) rule {
	schema := map[string]any{"anyOf": []any{item.schema, map[string]any{"type": "array", "items": item.schema, "minItems": 1}}}
	return rule{schema, func(r *reader, v value, s *calls.Service) {
		items, ok := v.node.(*ast.SequenceNode)
		if !ok {
			item.read(r, v, s)
			return
		}
		if len(items.Values) == 0 {
			r.problem(v.node, "%s: the list is empty: leave the field out", v.path)
		}
		for i, n := range items.Values {
			item.read(r, value{n, fmt.Sprintf("%s[%d]", v.path, i)}, s)
		}
	}}
}

// wordOr is one word, or else a value with fields.
func wordOr(word string, set func(*calls.Service), fields ...field) rule {
	other, names := object(fields...), []string{}
	for _, f := range fields {
		names = append(names, f.name)
	}
	anyOf := []any{map[string]any{"const": word}, other.schema}
	if word == "off" { // which is false to editors that read an older YAML
		anyOf = append(anyOf, map[string]any{"const": false})
	}
	return rule{map[string]any{"anyOf": anyOf}, func(r *reader, v value, s *calls.Service) {
		if got, ok := v.word(); ok && got == word {
			set(s)
			return
		}
		if _, ok := mapping(v.node); !ok {
			r.problem(v.node, "%s: want %s, or fields (%s), got %s", v.path, word, strings.Join(names, ", "), describe(v.node))
			return
		}
		other.read(r, v, s)
	}}
}

// textOr is a text, or else fields.
func textOr(text, other rule) rule {
	schema := map[string]any{"anyOf": []any{text.schema, other.schema}}
	return rule{schema, func(r *reader, v value, s *calls.Service) {
		if _, fields := mapping(v.node); fields {
			other.read(r, v, s)
			return
		}
		text.read(r, v, s)
	}}
}
