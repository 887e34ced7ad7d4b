package apidoc

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/thence-dev/thence/scripting/internal/apitable"
)

const minimal = "openapi: 3.0.3\ninfo: {title: T, version: '1'}\npaths:\n"

func load(t *testing.T, document string) *Document {
	t.Helper()
	d, err := Load([]byte(document))
	if err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	return d
}

func TestLoadErrors(t *testing.T) {
	for _, tt := range []struct{ document, want string }{
		{"", "the document is empty"},
		{"# nothing\n", "the document is empty"},
		{"hello", "line 1: this is no OpenAPI document"},
		{"[1]", "this is no OpenAPI document"},
		{"openapi: [", "the document can't be read: line 1: "},
		{"{\n\"openapi\": \"3.0.0\",\n oops}", "line 3: the document can't be read: invalid character 'o'"},
		{`{"openapi": "3.0.0"`, "the document can't be read: unexpected EOF"},
		{`{"openapi": "3.0.0"} x`, "something stands behind the document's end"},
		{"swagger: '2.0'\npaths: {}", "line 1: this is a Swagger 2.0 document: convert it to OpenAPI 3 first"},
		{"info: {}\n", `it has no "openapi: 3.x.y"`},
		{"openapi: 4.0.0\npaths: {/a: {}}", "line 1: OpenAPI 4.0.0 can't be read: want 3.0 or 3.1"},
		{"openapi: 3.1.0\npaths: {}", "paths: the document has no paths"},
	} {
		if _, err := Load([]byte(tt.document)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q\nends with %v\nwant %s", tt.document, err, tt.want)
		}
	}
}

// TestJSONAndYAML reads the same document in both forms; tabs are JSON, but no YAML.
func TestJSONAndYAML(t *testing.T) {
	yaml := minimal + "  /a:\n    get:\n      parameters:\n        - {name: n, in: query, schema: {type: integer, nullable: true}}\n"
	json := "\ufeff{\n\t\"openapi\": \"3.0.3\",\n\t\"paths\": {\"/a\": {\"get\": {\"parameters\": [{\"name\": \"n\", \"in\": \"query\", " +
		"\"schema\": {\"type\": \"integer\", \"nullable\": true, \"maximum\": 1e3}}], \"deprecated\": null}}}}"
	for _, document := range []string{yaml, json} {
		d := load(t, document)
		all, skipped := d.Operations()
		if len(all) != 1 || len(skipped) != 0 {
			t.Fatalf("got %+v, %v", all, skipped)
		}
		if got := text2(d, all[0].Table.Params); got != "{n:int|null}" {
			t.Errorf("got %s", got)
		}
	}
}

// text2 is a type in short: {required!:type optional:type *:rest}.
func text2(d *Document, n int) string {
	t := d.Types.Type(n)
	switch t.Kind {
	case apitable.String:
		if t.Most > 0 {
			return fmt.Sprint("string", t.Most)
		}
	case apitable.Enum, apitable.Open:
		return t.Kind.String() + "(" + strings.Join(t.Values, ",") + ")"
	case apitable.Array:
		return "[" + text2(d, t.Elem) + "]"
	case apitable.Map:
		return "map[" + text2(d, t.Elem) + "]"
	case apitable.Union:
		var all []string
		for _, of := range t.Of {
			all = append(all, text2(d, of))
		}
		return strings.Join(all, "|")
	case apitable.Object:
		var all []string
		for _, p := range t.Props {
			mark := map[bool]string{true: "!"}[p.Required]
			all = append(all, p.Name+mark+":"+text2(d, p.Type))
		}
		slices.Sort(all)
		if t.Rest >= 0 {
			all = append(all, "*:"+text2(d, t.Rest))
		}
		return "{" + strings.Join(all, " ") + "}"
	}
	return t.Kind.String()
}

func TestSchemas(t *testing.T) {
	const components = `
components:
  schemas:
    Name: {type: string, maxLength: 20}
    Base: {type: object, required: [id], properties: {id: {type: string, readOnly: true}, name: {$ref: "#/components/schemas/Name"}}}
    Node: {type: object, properties: {next: {$ref: "#/components/schemas/Node"}, value: {type: integer}}}
    A: {type: object, properties: {a: {type: integer}}}
    B: {type: object, properties: {b: {type: integer}}}
    "odd/~name": {type: boolean}
`
	for _, tt := range []struct{ schema, want string }{
		{"{type: string}", "string"},
		{"{type: string, format: binary}", "bytes"},
		{"{type: string, maxLength: many}", "string"},
		{"{type: integer, format: unix-time}", "time"},
		{"{type: number}", "number"},
		{"{type: boolean, nullable: true}", "bool|null"},
		{"{type: [string, 'null']}", "string|null"},
		{"{enum: [a, 1, null, a]}", "enum(a,1)|null"},
		{"{enum: [a], x-stripeBypassValidation: true}", "open(a)"},
		{"{const: 5}", "enum(5)"},
		{"{type: array, items: {type: integer}}", "[int]"},
		{"{type: array}", "[any]"},
		{"{items: {type: integer}}", "[int]"},
		{"{}", "any"},
		{"true", "any"},
		{"{type: object}", "map[any]"},
		{"{type: object, additionalProperties: {type: string}}", "map[string]"},
		{"{type: object, additionalProperties: false}", "{}"},
		{"{properties: {x: {}}, required: [x], additionalProperties: true}", "{x!:any *:any}"},
		{`{$ref: "#/components/schemas/Base"}`, "{name:string20}"},
		{`{$ref: "#/components/schemas/odd~1~0name"}`, "bool"},
		{`{$ref: "#/components/schemas/Node"}`, "{next:any value:int}"},
		{`{allOf: [{$ref: "#/components/schemas/A"}, {$ref: "#/components/schemas/B"}], required: [b]}`, "{a:int b!:int}"},
		{`{allOf: [{$ref: "#/components/schemas/Name"}], description: x}`, "string20"},
		{`{allOf: [{description: x}]}`, "any"},
		{`{allOf: [{$ref: "#/components/schemas/A"}], properties: {a: {type: string}}}`, "{a:string}"},
		{`{allOf: [{type: object}]}`, "map[any]"},
		{`{oneOf: [{$ref: "#/components/schemas/A"}, {$ref: "#/components/schemas/B"}]}`, "{a:int}|{b:int}"},
		{"{anyOf: [{type: string}, {oneOf: [{type: integer}, {type: string}]}]}", "string|int"},
		{"{anyOf: [{type: string}, {}]}", "any"},
		{"{type: object, properties: {a: {}, b: {}}, anyOf: [{required: [a]}, {required: [b]}]}", "{a:any b:any}"},
		{"{type: wizard}", "any"},
	} {
		d := load(t, minimal+"  /a: {post: {requestBody: {content: {application/json: {schema: {properties: {x: "+tt.schema+"}}}}}}}\n"+components)
		all, skipped := d.Operations()
		if len(all) != 1 {
			t.Errorf("%s: %v", tt.schema, skipped)
			continue
		}
		if got := text2(d, all[0].Table.Params); got != "{x:"+tt.want+"}" {
			t.Errorf("%s is %s, want {x:%s}", tt.schema, got, tt.want)
		}
	}
}

// TestDeepSchemas reads schemas that are written in a line, and would take for ever if each were read each time.
func TestDeepSchemas(t *testing.T) {
	var b strings.Builder
	b.WriteString(minimal + "  /a: {post: {requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/S0'}}}}}}\ncomponents:\n  schemas:\n")
	for i := range 60 {
		fmt.Fprintf(&b, "    S%d: {type: object, properties: {a: {$ref: '#/components/schemas/S%d'}, b: {$ref: '#/components/schemas/S%d'}}}\n", i, i+1, i+1)
	}
	b.WriteString("    S60: {type: string}\n")
	d := load(t, b.String())
	if all, skipped := d.Operations(); len(all) != 1 {
		t.Fatal(skipped)
	}
}

func TestOperations(t *testing.T) {
	for _, tt := range []struct{ name, path, want string }{
		{"travel", `/a/{id}: {parameters: [{name: id, in: path, required: true}, {name: q, in: query}], post: {parameters: [{name: q, in: query, required: true, schema: {type: integer}},
			{name: X-T, in: header}, {name: Authorization, in: header}, {name: c, in: cookie}, {name: l, in: query, explode: false, schema: {type: array}}],
			requestBody: {required: true, content: {text/plain: {}, "application/json; charset=utf-8": {schema: {type: object, required: [b], properties: {b: {}}}}}}}}`,
			"json {X-T:any b!:any l:[any] q!:int} query [q l] header [X-T] comma [l]"},
		{"optional body", `/a: {post: {requestBody: {content: {application/json: {schema: {required: [b], properties: {b: {}}}}}}}}`, "json {b:any}"},
		{"list as a body", `/a: {put: {requestBody: {required: true, content: {application/json: {schema: {type: array}}}}}}`, "json {body!:[any]} whole body"},
		{"form", `/a: {post: {requestBody: {content: {application/x-www-form-urlencoded: {schema: {required: [b], properties: {b: {}}}}}}}}`, "form {b!:any}"},
		{"files", `/a: {post: {requestBody: {content: {multipart/form-data: {schema: {properties: {f: {type: string, format: binary}}}}}}}}`, "multipart {f:bytes}"},
		{"nothing", `/a: {delete: {}}`, "query {}"},
		{"body without content", `/a: {post: {requestBody: {}}}`, "query {}"},
	} {
		d := load(t, minimal+"  "+strings.ReplaceAll(tt.path, "\t", " ")+"\n")
		all, skipped := d.Operations()
		if len(all) != 1 {
			t.Errorf("%s: %v", tt.name, skipped)
			continue
		}
		op := all[0].Table
		got := string(op.Body) + " " + text2(d, op.Params)
		for _, l := range []struct {
			name string
			list []string
		}{{"query", op.Query}, {"header", op.Header}, {"comma", op.Comma}} {
			if len(l.list) > 0 {
				got += fmt.Sprintf(" %s %v", l.name, l.list)
			}
		}
		if op.Whole != "" {
			got += " whole " + op.Whole
		}
		if got != tt.want {
			t.Errorf("%s: got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestSkipped(t *testing.T) {
	for _, tt := range []struct{ path, want string }{
		{"/a: {head: {}}", "line 4: HEAD /a: scripts have no such requests"},
		{"/a/{id}: {get: {}}", "line 4: GET /a/{id}: {id} stands in the path and not among the parameters"},
		{"/a?x=1: {get: {}}", "its path has characters"},
		{"/a: {get: {parameters: [{name: s, in: cookie, required: true}]}}", "s: it is a cookie, which calls can't send"},
		{"/a: {get: {parameters: [{name: s, in: body}]}}", `s: parameters in "body" are unknown`},
		{"/a: {get: {parameters: [{name: s, in: query, content: {application/json: {}}}]}}", "s: it is a document of its own within the URL"},
		{"/a: {get: {parameters: [{$ref: 'other.yaml#/x'}]}}", `$ref "other.yaml#/x" leads out of the document: bundle all files into one first`},
		{"/a: {get: {parameters: [{$ref: '#/components/x'}]}}", `$ref "#/components/x" leads nowhere: there is no "components"`},
		{"/a: {$ref: '#/paths/~1a'}", "more than 50 $ref lead from one to the next"},
		{"/a: {post: {requestBody: {content: {application/xml: {}}}}}", "the body is application/xml, which calls can't send"},
		{"/a: {post: {requestBody: {content: {multipart/form-data: {schema: {type: string}}}}}}", "the body is a form without names"},
		{"/a: {post: {parameters: [{name: b, in: query}], requestBody: {content: {application/json: {schema: {properties: {b: {}}}}}}}}", "two parameters are called b, in different places"},
		{"/a: {post: {requestBody: {content: {application/json: {schema: {properties: {b: {$ref: 'x'}}}}}}}}", `b: $ref "x" leads out of the document`},
	} {
		all, skipped := load(t, minimal+"  "+tt.path+"\n").Operations()
		if len(all) != 0 || len(skipped) != 1 || !strings.Contains(skipped[0].String(), tt.want) {
			t.Errorf("%s: got %d operations and %v, want %s", tt.path, len(all), skipped, tt.want)
		}
	}
}

func TestSchemes(t *testing.T) {
	d := load(t, minimal+`  /a: {get: {}}
security: [{second: []}]
components:
  securitySchemes:
    first: {type: http, scheme: basic}
    second: {type: http, scheme: Bearer}
    third: {type: apiKey, in: header, name: X-Key}
    fourth: {type: apiKey, in: cookie, name: sid}
    fifth: {type: apiKey, in: query, name: key}
    sixth: {type: mutualTLS}
    seventh: {type: oauth2}
`)
	usable, unusable := d.Schemes()
	var got []string
	for _, s := range usable {
		got = append(got, fmt.Sprintf("%s: %s %s %q", s.Name, s.Kind, s.Header, s.Prefix))
	}
	want := []string{`second: bearer Authorization "Bearer "`, `first: basic Authorization "Basic "`, `third: header X-Key ""`,
		`fourth: header Cookie "sid="`, `seventh: bearer Authorization "Bearer "`}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if len(unusable) != 2 || !strings.Contains(unusable[0], "the key would stand in the URL") || !strings.Contains(unusable[1], "mutualTLS") {
		t.Errorf("got %q", unusable)
	}
}

func TestServer(t *testing.T) {
	d := load(t, minimal+"  /a: {get: {}}\nservers:\n  - url: https://{region}.acme.com/{v}/\n    variables: {region: {default: eu}, v: {default: v1}}\n")
	if got := d.Server(); got != "https://eu.acme.com/v1" {
		t.Errorf("got %s", got)
	}
}
