package apidoc

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/thence-dev/thence/scripting/internal/apitable"
)

// Operation is a request that the document describes. In Table the names are still missing.
type Operation struct {
	ID         string // operationId
	Line       int
	Deprecated bool
	Lists      bool // it is answered with an array
	Table      apitable.Operation
}

// Skipped is an operation that is left out.
type Skipped struct {
	Line      int
	Operation string // POST /orders
	Reason    string
}

func (s Skipped) String() string {
	return fmt.Sprintf("line %d: %s: %s", s.Line, s.Operation, s.Reason)
}

var methods = map[string]string{"get": "GET", "post": "POST", "put": "PUT", "patch": "PATCH", "delete": "DELETE"}

// Operations reads all operations, in the document's order.
func (d *Document) Operations() (all []Operation, skipped []Skipped) {
	for path, item := range members(get(d.root, "paths")) {
		if !strings.HasPrefix(path, "/") {
			continue // x-...
		}
		shared, err := d.resolve(item)
		if err != nil {
			skipped = append(skipped, skip(item.Line, path, err))
			continue
		}
		for key, n := range members(shared) {
			method, ok := methods[key]
			if !ok {
				if slices.Contains([]string{"head", "options", "trace"}, key) {
					skipped = append(skipped, Skipped{n.Line, strings.ToUpper(key) + " " + path, "scripts have no such requests"})
				}
				continue
			}
			op, err := d.operation(method, path, shared, n)
			if err != nil {
				skipped = append(skipped, skip(n.Line, method+" "+path, err))
				continue
			}
			all = append(all, op)
		}
	}
	return all, skipped
}

func skip(line int, what string, err error) Skipped {
	e := at(err, line, "").(*Error) //nolint:errorlint // at makes it
	reason := e.Message
	if e.Where != "" {
		reason = e.Where + ": " + reason
	}
	return Skipped{e.Line, what, reason}
}

// request is what an operation is made of, while it is read.
type request struct {
	d      *Document
	op     apitable.Operation
	params apitable.Type
	inPath []string
}

// markup is what HTML puts between words.
var markup = regexp.MustCompile(`<[^>]*>`)

func (d *Document) operation(method, path string, shared, n *yaml.Node) (Operation, error) {
	summary := text(get(n, "summary"))
	if summary == "" {
		summary, _, _ = strings.Cut(strings.TrimSpace(markup.ReplaceAllString(text(get(n, "description")), "")), "\n")
	}
	r := &request{d: d, params: apitable.Type{Kind: apitable.Object, Rest: -1}}
	r.op = apitable.Operation{Method: method, Path: path, Summary: summary, Body: apitable.Query}
	if r.op.Base = server(n); r.op.Base == "" {
		r.op.Base = server(shared)
	}
	if strings.ContainsFunc(path, func(c rune) bool { return c <= ' ' || strings.ContainsRune("?#`\\", c) }) {
		return Operation{}, &Error{Line: n.Line, Message: "its path has characters that don't belong into one"}
	}
	if err := r.parameters(append(slices.Clone(items(get(n, "parameters"))), items(get(shared, "parameters"))...)); err != nil {
		return Operation{}, err
	}
	for _, name := range r.op.PathParams() {
		if !slices.Contains(r.inPath, name) {
			return Operation{}, &Error{Line: n.Line, Message: fmt.Sprintf("{%s} stands in the path and not among the parameters", name)}
		}
	}
	if err := r.body(get(n, "requestBody")); err != nil {
		return Operation{}, err
	}
	r.op.Params = d.Types.Add(r.params)
	return Operation{ID: text(get(n, "operationId")), Line: n.Line, Deprecated: isTrue(get(n, "deprecated")),
		Lists: d.answersList(n), Table: r.op}, nil
}

// parameters reads the operation's parameters and then its path's, of which those that the operation has too don't count.
func (r *request) parameters(all []*yaml.Node) error {
	seen := map[string]bool{}
	for _, n := range all {
		p, err := r.d.resolve(n)
		if err != nil {
			return err
		}
		name, in := text(get(p, "name")), text(get(p, "in"))
		if seen[in+" "+name] {
			continue
		}
		seen[in+" "+name] = true
		if err := r.parameter(p, name, in); err != nil {
			return at(err, p.Line, name)
		}
	}
	return nil
}

func (r *request) parameter(p *yaml.Node, name, in string) error {
	switch in {
	case "path":
		r.inPath = append(r.inPath, name)
		return nil
	case "query":
		r.op.Query = append(r.op.Query, name)
		if text(get(p, "style")) != "deepObject" && text(get(p, "explode")) == "false" {
			r.op.Comma = append(r.op.Comma, name)
		}
	case "header":
		if slices.ContainsFunc([]string{"Accept", "Content-Type", "Authorization", "Idempotency-Key"}, func(h string) bool {
			return strings.EqualFold(h, name)
		}) {
			return nil // they are set where the request is made
		}
		r.op.Header = append(r.op.Header, name)
	case "cookie":
		if isTrue(get(p, "required")) {
			return &Error{Message: "it is a cookie, which calls can't send"}
		}
		return nil
	default:
		return &Error{Message: fmt.Sprintf("parameters in %q are unknown: want path, query, header or cookie", in)}
	}
	schema := get(p, "schema")
	if content := get(p, "content"); schema == nil && content != nil {
		return &Error{Message: "it is a document of its own within the URL, which calls can't send"}
	}
	id, err := r.d.schema(schema)
	if err != nil {
		return err
	}
	return r.add(apitable.Prop{Name: name, Required: isTrue(get(p, "required")), Type: id})
}

func (r *request) add(p apitable.Prop) error {
	if _, twice := r.params.Prop(p.Name); twice {
		return &Error{Message: fmt.Sprintf("two parameters are called %s, in different places", p.Name)}
	}
	r.params.Props = append(r.params.Props, p)
	return nil
}

// bodies are the kinds of body that can be sent, the best one first.
var bodies = []struct {
	contentType string
	body        apitable.Body
}{
	{"application/json", apitable.JSON}, {"application/x-www-form-urlencoded", apitable.Form}, {"multipart/form-data", apitable.Multipart},
}

func (r *request) body(n *yaml.Node) error {
	n, err := r.d.resolve(n)
	if err != nil || n == nil {
		return err
	}
	content := get(n, "content")
	var types []string
	for _, b := range bodies {
		for key, media := range members(content) {
			bare, _, _ := strings.Cut(key, ";")
			if strings.EqualFold(strings.TrimSpace(bare), b.contentType) {
				return r.bodyOf(b.body, media, isTrue(get(n, "required")))
			}
		}
	}
	for key := range members(content) {
		types = append(types, key)
	}
	if len(types) == 0 {
		return nil
	}
	return &Error{Line: n.Line, Message: "the body is " + strings.Join(types, " or ") + ", which calls can't send: want application/json, a form or multipart/form-data"}
}

func (r *request) bodyOf(body apitable.Body, media *yaml.Node, required bool) error {
	id, err := r.d.schema(get(media, "schema"))
	if err != nil {
		return at(err, media.Line, "the body")
	}
	t := r.d.Types.Type(id)
	switch {
	case t.Kind == apitable.Object && len(t.Props) == 0 && t.Rest < 0:
		return nil // there is none, though it has a type: the parameters of the URL stay as they are
	case t.Kind == apitable.Object:
		for _, p := range t.Props {
			p.Required = p.Required && (required || body != apitable.JSON)
			if err := r.add(p); err != nil {
				return err
			}
		}
		r.params.Rest = t.Rest
	case body != apitable.JSON:
		return &Error{Line: media.Line, Message: "the body is a form without names"}
	default:
		r.op.Whole = "body"
		if err := r.add(apitable.Prop{Name: "body", Required: required, Type: id}); err != nil {
			return err
		}
	}
	r.op.Body = body
	return nil
}

// answersList tells whether a success is answered with an array.
func (d *Document) answersList(n *yaml.Node) bool {
	for status, response := range members(get(n, "responses")) {
		if !strings.HasPrefix(status, "2") {
			continue
		}
		response, err := d.resolve(response)
		if err != nil {
			return false
		}
		for _, media := range members(get(response, "content")) {
			schema, err := d.resolve(get(media, "schema"))
			if err == nil && text(get(schema, "type")) == "array" {
				return true
			}
		}
	}
	return false
}

// Schemes are the ways to authenticate of which the API wants one, in the document's order, and those that it names and
// can't be used.
func (d *Document) Schemes() (usable []Scheme, unusable []string) {
	all := get(get(d.root, "components"), "securitySchemes")
	for name, n := range members(all) {
		n, err := d.resolve(n)
		if err != nil {
			unusable = append(unusable, name+": "+err.Error())
			continue
		}
		if s, reason := scheme(name, n); reason != "" {
			unusable = append(unusable, name+": "+reason)
		} else {
			usable = append(usable, s)
		}
	}
	preferred := d.preferred()
	slices.SortStableFunc(usable, func(a, b Scheme) int { return rank(preferred, a.Name) - rank(preferred, b.Name) })
	return usable, unusable
}

// Scheme is a way to authenticate: Prefix and a secret, in a line of the header.
type Scheme struct {
	Name   string // in the document
	Kind   string // bearer, basic or header
	Header string
	Prefix string
}

func scheme(name string, n *yaml.Node) (Scheme, string) {
	kind, where := text(get(n, "type")), text(get(n, "in"))
	http := strings.ToLower(text(get(n, "scheme")))
	switch {
	case kind == "http" && http == "bearer", kind == "oauth2", kind == "openIdConnect":
		return Scheme{name, "bearer", "Authorization", "Bearer "}, ""
	case kind == "http" && http == "basic":
		return Scheme{name, "basic", "Authorization", "Basic "}, ""
	case kind == "apiKey" && where == "header":
		return Scheme{name, "header", text(get(n, "name")), ""}, ""
	case kind == "apiKey" && where == "cookie":
		return Scheme{name, "header", "Cookie", text(get(n, "name")) + "="}, ""
	case kind == "apiKey":
		return Scheme{}, "the key would stand in the URL, where a secret is not put"
	}
	return Scheme{}, fmt.Sprintf("%s %s can't be done by a line of the header", kind, http)
}

// preferred are the schemes that the document asks for everywhere, in its order.
func (d *Document) preferred() (names []string) {
	for _, alternative := range items(get(d.root, "security")) {
		for name := range members(alternative) {
			names = append(names, name)
		}
	}
	return names
}

func rank(names []string, name string) int {
	if i := slices.Index(names, name); i >= 0 {
		return i
	}
	return len(names)
}
