package apidoc

import (
	"regexp"
	"slices"
	"strings"

	"github.com/thence-dev/thence/scripting/internal/apitable"
)

// Paths are all paths of an API: what a path means shows only beside the others.
type Paths struct {
	all    map[string]bool // METHOD /path, and /path
	parent map[string]bool // paths that have {id} below them
}

// PathsOf collects the paths of operations.
func PathsOf(operations []Operation) *Paths {
	p := &Paths{map[string]bool{}, map[string]bool{}}
	for _, op := range operations {
		path := op.Table.Path
		p.all[op.Table.Method+" "+path], p.all[path] = true, true
		for i := strings.LastIndex(path, "/{"); i >= 0; i = strings.LastIndex(path[:i], "/{") {
			p.parent[path[:i]] = true
		}
	}
	return p
}

// Name tells the resource and the verb of an operation by its path: what stands in the path without a {name} is the
// resource, down to a last word that is something to do.
//
//	GET  /orders                list orders         POST   /orders               orders.create
//	GET  /orders/{id}           orders.retrieve     DELETE /orders/{id}          orders.delete
//	POST /orders/{id}/cancel    orders.cancel       GET    /orders/{id}/lines    orders.lines.list
//	GET  /account               account.retrieve    PATCH  /orders/{id}          orders.update
func (p *Paths) Name(op Operation) (resource []string, verb string) {
	method, path := op.Table.Method, strings.TrimSuffix(op.Table.Path, "/")
	words := Literals(path)
	switch {
	case strings.HasSuffix(path, "}"):
		return words, p.itemVerb(method, path)
	case len(words) == 0:
		return nil, map[string]string{"GET": "retrieve", "POST": "create", "DELETE": "delete"}[method]
	case method == "GET":
		return p.read(path, words, op.Lists)
	case method == "POST":
		return p.post(path, words)
	case method == "DELETE":
		return words, "delete"
	}
	return words, "update"
}

// read names a GET of a path that ends in a word.
func (p *Paths) read(path string, words []string, lists bool) ([]string, string) {
	last := len(words) - 1
	switch {
	case lists || p.parent[path] || plural(words[last]) && !strings.HasSuffix(words[last], "settings"):
		return words, "list"
	case last > 0 && p.collection(above(path)): // GET /orders/search
		return words[:last], words[last]
	}
	return words, "retrieve"
}

// post names a POST to a path that ends in a word: to a list it makes one more, to a single thing it changes that, and
// otherwise the word is what to do with the thing before it.
func (p *Paths) post(path string, words []string) ([]string, string) {
	last := len(words) - 1
	readable, many := p.all["GET "+path], plural(words[last])
	switch {
	case p.parent[path] || readable && many:
		return words, "create"
	case readable:
		return words, "update"
	case last == 0 || many && !p.collection(above(path)):
		return words, "create"
	}
	return words[:last], words[last]
}

func above(path string) string { return path[:strings.LastIndexByte(path, '/')] }

// Root is the shortest path above a path that is a list of things; without one, the path above it.
func (p *Paths) Root(path string) string {
	for i, c := range path {
		if c == '/' && i > 0 && (p.parent[path[:i]] || p.all["POST "+path[:i]]) {
			return path[:i]
		}
	}
	return above(path)
}

// collections are the resources on the way to a path that are lists of things.
func (p *Paths) collections(path string) (all []string) {
	for i := range path + "/" {
		if (i == len(path) || path[i] == '/') && p.parent[path[:i]] {
			all = append(all, strings.Join(Literals(path[:i]), "."))
		}
	}
	return all
}

// ScriptNames gives each operation of a table the name that its scripts are called after, each beginning with prefix.
func (p *Paths) ScriptNames(table []apitable.Operation, prefix string) {
	many := map[string]bool{}
	for _, op := range table {
		if op.Verb == "list" || op.Verb == "create" {
			many[op.Resource] = true
		}
		for _, r := range p.collections(op.Path) {
			many[r] = true
		}
	}
	for i, op := range table {
		table[i].Name = prefix + script(strings.Split(op.Resource, "."), op.Verb, func(r string) bool { return many[r] })
	}
}

// collection tells whether a path is a list of things.
func (p *Paths) collection(path string) bool {
	return p.parent[path] || p.all["GET "+path] && plural(path)
}

func (p *Paths) itemVerb(method, path string) string {
	switch method {
	case "GET":
		return "retrieve"
	case "DELETE":
		return "delete"
	case "PUT":
		if p.all["PATCH "+path] || p.all["POST "+path] {
			return "replace"
		}
	}
	return "update"
}

var version = regexp.MustCompile(`^v[0-9]+([a-z]+[0-9]*)?$`)

// Literals are the words of a path that are no {name}, as scripts can write them, without a version at its beginning.
func Literals(path string) []string {
	var words []string
	for i, part := range strings.Split(strings.Trim(path, "/"), "/") {
		if part == "" || strings.HasPrefix(part, "{") || i == 0 && version.MatchString(part) {
			continue
		}
		if open := strings.IndexByte(part, '{'); open >= 0 {
			part = part[:open]
		}
		if word := Snake(part); word != "" {
			words = append(words, word)
		}
	}
	return words
}

// Snake writes a name as scripts write names: invoice_items for invoiceItems, invoice-items or InvoiceItems.
func Snake(name string) string {
	var b strings.Builder
	before := ' '
	runes := []rune(name)
	for i, c := range runes {
		upper := c >= 'A' && c <= 'Z'
		switch {
		case upper:
			small := i+1 < len(runes) && runes[i+1] >= 'a' && runes[i+1] <= 'z'
			if before >= 'a' && before <= 'z' || before >= '0' && before <= '9' || small && before >= 'A' && before <= 'Z' {
				b.WriteByte('_')
			}
			b.WriteRune(c - 'A' + 'a')
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteRune(c)
		default:
			b.WriteByte('_')
		}
		before = c
	}
	return strings.Join(strings.FieldsFunc(b.String(), func(c rune) bool { return c == '_' }), "_")
}

// people have no s.
var people = []string{"people", "children", "media", "data"}

func plural(word string) bool {
	return strings.HasSuffix(word, "s") && !strings.HasSuffix(word, "ss") && !strings.HasSuffix(word, "us") || slices.Contains(people, word)
}

// singular is the name of one thing out of many.
func singular(word string) string {
	switch {
	case !plural(word) || slices.Contains(people, word):
		return word
	case strings.HasSuffix(word, "ies") && len(word) > 4:
		return word[:len(word)-3] + "y"
	case hasAnySuffix(word, "sses", "xes", "ches", "shes"):
		return word[:len(word)-2]
	}
	return word[:len(word)-1]
}

func hasAnySuffix(s string, suffixes ...string) bool {
	return slices.ContainsFunc(suffixes, func(x string) bool { return strings.HasSuffix(s, x) })
}

// script is the name that an operation's scripts are called after: the verb and what it is done to, in the singular
// unless it is done to many. many has the resources that are lists of things, by their names joined with dots.
//
//	orders.create                   create_order
//	orders.list                     list_orders
//	orders.lines.update             update_order_line
//	orders.add_lines                add_order_lines
func script(resource []string, verb string, many func(resource string) bool) string {
	nouns := slices.Clone(resource)
	head, rest, _ := strings.Cut(verb, "_")
	all := rest == "" && (head == "list" || head == "search")
	for i := range nouns {
		if (i < len(nouns)-1 || !all) && many(strings.Join(resource[:i+1], ".")) {
			nouns[i] = singular(nouns[i])
		}
	}
	noun := strings.Join(nouns, "_")
	if len(nouns) > 0 && rest != "" {
		last := nouns[len(nouns)-1]
		switch {
		case rest == last || strings.HasSuffix(last, "_"+rest):
			rest = ""
		case strings.HasPrefix(rest, last+"_"):
			rest = strings.TrimPrefix(rest, last+"_")
		}
	}
	return strings.Join(slices.DeleteFunc([]string{head, noun, rest}, func(s string) bool { return s == "" }), "_")
}
