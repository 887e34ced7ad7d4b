// Package apidoc reads OpenAPI documents, versions 3.0 and 3.1, as JSON or YAML, into what a table of an API is made of.
//
// It reads what a request needs and nothing else: paths, parameters, request bodies, their schemas, servers and security
// schemes. A document that can't be read is refused with the line and what to do; an operation that can't be expressed
// is left out with its reason, so that the rest can be used.
//
// It is our own reader because it ends up in the program that workers run: the usual library compiles JSON schemas when
// a process starts, which costs more than a sandboxed script's process needs to be ready.
package apidoc

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/thence-dev/thence/scripting/internal/apitable"
)

// Document is an OpenAPI document. It is for one goroutine at a time.
type Document struct {
	// Types has the types of all parameters that have been asked for.
	Types apitable.Builder

	root   *yaml.Node
	known  map[*yaml.Node]int  // types of schemas
	open   map[*yaml.Node]bool // schemas whose type is being made
	Cycles int                 // schemas that contain themselves, and are any from there on
}

// Error is a document's mistake.
type Error struct {
	Line    int    // from 1; 0: unknown
	Where   string // path in the document, such as paths./orders.post
	Message string
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Where != "" {
		b.WriteString(e.Where + ": ")
	}
	return b.String() + e.Message
}

// Load reads a document.
func Load(data []byte) (*Document, error) {
	root, err := parse(data)
	if err != nil {
		return nil, err
	}
	d := &Document{root: root, known: map[*yaml.Node]int{}, open: map[*yaml.Node]bool{}}
	if root.Kind != yaml.MappingNode {
		return nil, &Error{Line: root.Line, Message: "this is no OpenAPI document: it must be an object with openapi, info and paths"}
	}
	version := text(get(root, "openapi"))
	switch {
	case get(root, "swagger") != nil:
		return nil, &Error{Line: get(root, "swagger").Line, Message: "this is a Swagger 2.0 document: convert it to OpenAPI 3 first"}
	case version == "":
		return nil, &Error{Line: root.Line, Message: `this is no OpenAPI document: it has no "openapi: 3.x.y"`}
	case !strings.HasPrefix(version, "3.0") && !strings.HasPrefix(version, "3.1"):
		return nil, &Error{Line: get(root, "openapi").Line, Message: fmt.Sprintf("OpenAPI %s can't be read: want 3.0 or 3.1", version)}
	}
	if paths := get(root, "paths"); paths == nil || paths.Kind != yaml.MappingNode || len(paths.Content) == 0 {
		return nil, &Error{Line: root.Line, Where: "paths", Message: "the document has no paths: there is nothing to call"}
	}
	return d, nil
}

func parse(data []byte) (*yaml.Node, error) {
	trimmed := bytes.TrimLeft(data, " \t\r\n\ufeff")
	if len(trimmed) == 0 {
		return nil, &Error{Message: "the document is empty"}
	}
	if trimmed[0] == '{' {
		return parseJSON(data)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, &Error{Message: "the document can't be read: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	if len(doc.Content) == 0 {
		return nil, &Error{Message: "the document is empty"}
	}
	return doc.Content[0], nil
}

// Title is the API's title and version.
func (d *Document) Title() string {
	info := get(d.root, "info")
	return strings.TrimSpace(text(get(info, "title")) + " " + text(get(info, "version")))
}

// Server is the first URL that the document says the API is at, with the defaults of its variables; empty: none.
func (d *Document) Server() string { return server(d.root) }

func server(n *yaml.Node) string {
	servers := get(n, "servers")
	if servers == nil || len(servers.Content) == 0 {
		return ""
	}
	first := servers.Content[0]
	at := text(get(first, "url"))
	for name, v := range members(get(first, "variables")) {
		at = strings.ReplaceAll(at, "{"+name+"}", text(get(v, "default")))
	}
	return strings.TrimSuffix(at, "/")
}

// get finds a member of an object; nil when it is not there, or n is no object.
func get(n *yaml.Node, key string) *yaml.Node {
	for k, v := range members(n) {
		if k == key {
			return v
		}
	}
	return nil
}

// members walks over an object.
func members(n *yaml.Node) func(yield func(string, *yaml.Node) bool) {
	return func(yield func(string, *yaml.Node) bool) {
		if n = plain(n); n == nil || n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i].Value, plain(n.Content[i+1])) {
				return
			}
		}
	}
}

// items are an array's elements.
func items(n *yaml.Node) []*yaml.Node {
	if n = plain(n); n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

// plain follows YAML's aliases.
func plain(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// text is a scalar's text.
func text(n *yaml.Node) string {
	if n = plain(n); n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

func texts(n *yaml.Node) []string {
	var all []string
	for _, e := range items(n) {
		all = append(all, text(e))
	}
	return all
}

func isTrue(n *yaml.Node) bool { return text(n) == "true" }

const maxRefs = 50

// resolve follows $ref within the document.
func (d *Document) resolve(n *yaml.Node) (*yaml.Node, error) {
	n = plain(n)
	for range maxRefs {
		ref := get(n, "$ref")
		if ref == nil || ref.Kind != yaml.ScalarNode {
			return n, nil
		}
		target, err := d.find(ref.Value)
		if err != nil {
			return nil, &Error{Line: ref.Line, Message: err.Error()}
		}
		n = target
	}
	return nil, &Error{Line: n.Line, Message: fmt.Sprintf("more than %d $ref lead from one to the next", maxRefs)}
}

func (d *Document) find(ref string) (*yaml.Node, error) {
	pointer, local := strings.CutPrefix(ref, "#/")
	if !local {
		return nil, fmt.Errorf("$ref %q leads out of the document: bundle all files into one first", ref)
	}
	n := d.root
	for part := range strings.SplitSeq(pointer, "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~", "%7B", "{", "%7D", "}").Replace(part)
		next := get(n, part)
		if next == nil {
			return nil, fmt.Errorf("$ref %q leads nowhere: there is no %q", ref, part)
		}
		n = next
	}
	return n, nil
}

// at puts a place in front of an error that has none.
func at(err error, line int, where string) error {
	var e *Error
	if errors.As(err, &e) {
		if e.Line == 0 {
			e.Line = line
		}
		if e.Where == "" {
			e.Where = where
		}
		return e
	}
	return &Error{Line: line, Where: where, Message: err.Error()}
}
