package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/thence-dev/thence/scripting/internal/apidoc"
	"github.com/thence-dev/thence/scripting/internal/apitable"
)

// method is what Stripe's libraries call an operation, from the document that they are generated from.
type method struct {
	Name string `json:"method_name"`
	Type string `json:"method_type"` // list, retrieve, create, update, delete, search or custom
	On   string `json:"method_on"`
	Verb string `json:"operation"`
	Path string `json:"path"`

	class string // of the resource, such as InvoiceItem
}

// names are the methods of each operation, by "get /v1/customers".
type names map[string][]method

// readNames reads x-stripeOperations, which only the document for the libraries has.
func readNames(sdk []byte) (names, error) {
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Operations []method `json:"x-stripeOperations"`
				Resource   struct {
					Class string `json:"class_name"`
				} `json:"x-stripeResource"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(sdk, &doc); err != nil {
		return nil, fmt.Errorf("read the libraries' document: %w", err)
	}
	all := names{}
	for _, schema := range doc.Components.Schemas {
		for _, m := range schema.Operations {
			if m.On == "service" {
				m.class = schema.Resource.Class
				all[m.Verb+" "+m.Path] = append(all[m.Verb+" "+m.Path], m)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the libraries' document has no x-stripeOperations")
	}
	return all, nil
}

// of is the method of an operation. Where Stripe has several, the one that needs no resource of its own for a list or a
// single thing comes first: capabilities.list, not accounts.capabilities.
func (n names) of(op apitable.Operation) (method, bool) {
	all := slices.Clone(n[strings.ToLower(op.Method)+" "+op.Path])
	slices.SortFunc(all, func(a, b method) int {
		if custom := boolean(a.Type == "custom") - boolean(b.Type == "custom"); custom != 0 {
			return custom
		}
		return strings.Compare(a.class, b.class)
	})
	if len(all) == 0 {
		return method{}, false
	}
	return all[0], true
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// apply names the operations: the resource by the path, the verb as Stripe's libraries have it. An operation that the
// libraries have dropped is named by its path alone.
func (n names) apply(operations []apidoc.Operation) []apitable.Operation {
	paths := apidoc.PathsOf(operations)
	table := make([]apitable.Operation, len(operations))
	for i, op := range operations {
		resource, verb := paths.Name(op)
		if m, ok := n.of(op.Table); ok && (verb != "list" || resource[len(resource)-1] != m.Name) { // a method sources.source_transactions is a list
			resource, verb = m.resource(op.Table.Path, paths), m.Name
		}
		if op.Table.Path == "/v1/account" { // the account whose key it is: stripe-ruby and stripe-python call it so
			resource, verb = []string{"accounts"}, "retrieve_current"
		}
		table[i] = op.Table
		table[i].Resource, table[i].Verb = strings.Join(resource, "."), verb
	}
	paths.ScriptNames(table, "")
	return table
}

// usual are the methods that a resource has by its path.
var usual = []string{"list", "create", "retrieve", "update", "delete"}

// resource is where Stripe's libraries have a method: all words of the path for a usual method; for any other, the words
// before what the method does.
func (m method) resource(path string, paths *apidoc.Paths) []string {
	words := apidoc.Literals(path)
	if !slices.Contains(usual, m.Name) {
		words = apidoc.Literals(owner(path, paths))
	}
	if last := len(words) - 1; last >= 0 {
		if class := apidoc.Snake(m.class) + "s"; strings.ReplaceAll(class, "_", "") == words[last] {
			words[last] = class // invoiceitems: InvoiceItem
		}
	}
	return words
}

// owner is the path of the resource that an own method is called on: up to the last id, or to the first when the path
// ends in an id; without ids, the shortest path that has things below it.
func owner(path string, paths *apidoc.Paths) string {
	switch first, last := strings.Index(path, "/{"), strings.LastIndex(path, "/{"); {
	case first < 0:
		return paths.Root(path)
	case strings.HasSuffix(path, "}"):
		return path[:first]
	default:
		return path[:last]
	}
}
