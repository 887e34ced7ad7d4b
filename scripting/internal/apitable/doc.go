// Package apitable is the compact form in which Thence keeps what it knows of an HTTP API: a text that people can read
// and compare, and that a worker reads in place.
//
// A table has three parts. The head names the API, one word and its value a line. Below it stands a line for each
// operation, in the order of their names. After an empty line come the types of the parameters, one a line; a type is
// called by the number of its line, counted from 0, and two parameters of the same type share one:
//
//	thence-api 1
//	name acme
//	title Acme Orders 1.2
//	url https://api.acme.com/v1
//	auth Authorization acme_key Bearer%20
//	op orders.create POST /orders acme_create_order json 3 # Place an order
//	op orders.retrieve GET /orders/{id} acme_retrieve_order query 4 # Look an order up
//
//	string 40
//	int
//	array 0
//	object note:0 quantity!:1 tags:2
//	object
//
// An operation's line has its name as scripts call it, the method, the path, the name that its scripts are called after,
// how its parameters travel, their type, and what differs from the rule: query:a,b and header:X-A name parameters of a
// body's operation that travel elsewhere, comma:a names lists that are joined by commas, whole:a the parameter that is
// the body itself, at:URL another base. A text in a line is escaped where it would be misread: %20 for a space.
//
// [Parse] reads the head and the operations at once, and a type when it is first asked for: Stripe's table has 1,500 of
// them, and a script needs a handful. A [Builder] collects types, and [Format] writes a table.
package apitable

import (
	"net/url"
	"strings"
)

// Kind is what a type is made of.
type Kind uint8

// The kinds, each with the word that stands for it in a table and what follows the word.
const (
	Any    Kind = iota // any
	Null               // null
	String             // string [longest]
	Int                // int
	Time               // time: an int of Unix seconds
	Number             // number
	Bool               // bool
	Enum               // enum value...
	Open               // open value...: these values, and others that the document does not name
	Array              // array type
	Map                // map type: any keys, values of one type
	Object             // object name[!]:type... [*:type]; ! is required, * is the type of members without a name
	Union              // union type type...
	Bytes              // bytes: a file's content
)

var words = []string{"any", "null", "string", "int", "time", "number", "bool", "enum", "open", "array", "map", "object", "union",
	"bytes"}

func (k Kind) String() string { return words[k] }

// Type is what a parameter may be.
type Type struct {
	Kind   Kind
	Most   int      // String: the largest number of characters; 0: any
	Values []string // Enum, Open
	Elem   int      // Array, Map: the type of what is in it
	Props  []Prop   // Object, in the order of their names
	Rest   int      // Object: the type of members that are not in Props; -1: there can be none
	Of     []int    // Union
}

// Prop is a member of an object.
type Prop struct {
	Name     string
	Required bool
	Type     int
}

// Prop finds a member of an object.
func (t *Type) Prop(name string) (Prop, bool) {
	for _, p := range t.Props {
		if p.Name == name {
			return p, true
		}
	}
	return Prop{}, false
}

// Names are the names of an object's members.
func (t *Type) Names() []string {
	names := make([]string, len(t.Props))
	for i, p := range t.Props {
		names[i] = p.Name
	}
	return names
}

// Auth is the line of a request's header that a secret goes into: Prefix, followed by the secret. The zero Auth is none.
type Auth struct{ Header, Prefix, Secret string }

// Body says how the parameters of an operation travel that are not in its path.
type Body string

// How parameters travel.
const (
	Query     Body = "query"     // all in the URL
	Form      Body = "form"      // as application/x-www-form-urlencoded
	JSON      Body = "json"      // as application/json
	Multipart Body = "multipart" // as multipart/form-data, files among them
)

// Operation is one request that an API takes.
type Operation struct {
	Resource string // the resource's place, such as checkout.sessions; empty: the API itself
	Verb     string
	Method   string
	Path     string // with {name} where an id goes
	Name     string // its scripts are new_<name>_response and new_<name>_error
	Body     Body
	Params   int    // type of the parameters, an Object
	Summary  string // one line, from the document
	Base     string // in place of the API's URL

	Query  []string // parameters that travel in the URL though there is a body
	Header []string // parameters that travel as lines of the header, under their names
	Comma  []string // lists in the URL that are joined by commas
	Whole  string   // the parameter that is the body itself
}

// FullName is what a script calls, without the API's name.
func (o *Operation) FullName() string {
	if o.Resource == "" {
		return o.Verb
	}
	return o.Resource + "." + o.Verb
}

// PathParams are the names in the path, in order.
func (o *Operation) PathParams() []string {
	var names []string
	for rest := o.Path; ; {
		_, after, found := strings.Cut(rest, "{")
		name, behind, closed := strings.Cut(after, "}")
		if !found || !closed {
			return names
		}
		names, rest = append(names, name), behind
	}
}

// escape makes one word of a text, which may stand between backquotes. also has what else must not stand in it.
func escape(s, also string) string {
	if s == "" {
		return "%"
	}
	also += "%`\x7f"
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || strings.IndexByte(also, c) >= 0 {
			b.WriteString("%" + string("0123456789ABCDEF"[c>>4]) + string("0123456789ABCDEF"[c&15]))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func unescape(s string) (string, error) {
	if s == "%" {
		return "", nil
	}
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	return url.PathUnescape(s)
}
