package servicefile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

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
func object(fields ...field) rule {
	byName, properties, names := map[string]field{}, map[string]any{}, []string{}
	for _, f := range fields {
		byName[f.name] = f
		schema := map[string]any{"description": f.doc}
		for key, v := range f.schema {
			schema[key] = v
		}
		properties[f.name], names = schema, append(names, f.name)
	}
	return rule{
		map[string]any{"type": "object", "additionalProperties": false, "properties": properties},
		func(r *reader, v value, s *calls.Service) {
			r.fields(v, names, func(name string, _ ast.Node, v value) { byName[name].read(r, v, s) })
		},
	}
}

// scalar reads a word, and says what it wants where set does not take it.
func scalar(schema map[string]any, want string, set func(s *calls.Service, word string) bool) rule {
	return rule{schema, func(r *reader, v value, s *calls.Service) {
		if word, ok := v.word(); !ok || !set(s, word) {
			r.problem(v.node, "%s: want %s, got %s", v.path, want, describe(v.node))
		}
	}}
}

func text(want string, set func(*calls.Service, string)) rule {
	return scalar(map[string]any{"type": "string"}, want, func(s *calls.Service, word string) bool {
		set(s, word)
		return word != ""
	})
}

func yes(set func(*calls.Service, bool)) rule {
	return scalar(map[string]any{"type": "boolean"}, "true or false", func(s *calls.Service, word string) bool {
		set(s, word == "true")
		return word == "true" || word == "off"
	})
}

func number(least, most int, set func(*calls.Service, int)) rule {
	return scalar(map[string]any{"type": "integer", "minimum": least, "maximum": most}, fmt.Sprintf("a whole number from %d to %d", least, most),
		func(s *calls.Service, word string) bool {
			n, err := strconv.Atoi(word)
			set(s, n)
			return err == nil && n >= least && n <= most
		})
}

func duration(set func(*calls.Service, time.Duration)) rule {
	schema := map[string]any{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`, "examples": []string{"500ms", "30s", "1h30m"}}
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
	schema := map[string]any{"type": []string{"string", "integer"}, "pattern": `^[0-9]+ ?(B|KiB|MiB)?$`, "examples": []string{"64KiB"}}
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
		for i, n := range items.Values {
			item.read(r, value{n, fmt.Sprintf("%s[%d]", v.path, i)}, s)
		}
	}}
}

// wordOr is one word, or else what another rule says.
func wordOr(word string, set func(*calls.Service), other rule) rule {
	anyOf := []any{map[string]any{"const": word}, other.schema}
	if word == "off" { // which is false to editors that read an older YAML
		anyOf = append(anyOf, map[string]any{"const": false})
	}
	schema := map[string]any{"anyOf": anyOf}
	return rule{schema, func(r *reader, v value, s *calls.Service) {
		if got, ok := v.word(); ok && got == word {
			set(s)
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
