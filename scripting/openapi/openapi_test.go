package openapi_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/openapi"
)

const shop = `openapi: 3.1.0
info: {title: "Acme ` + "`Orders`" + `", version: "2"}
servers: [{url: "https://api.acme.example/v1/"}]
security: [{key: []}]
paths:
  /orders:
    get: {summary: List, parameters: [{name: state, in: query, schema: {enum: [open, done]}}]}
    post: {requestBody: {required: true, content: {application/json: {schema: {$ref: "#/components/schemas/Order"}}}}}
    head: {}
  /orders/{id}:
    parameters: [{name: id, in: path, required: true}]
    get: {}
    patch: {requestBody: {content: {application/json: {schema: {type: object, properties: {note: {type: [string, "null"]}}}}}}}
  /orders/{id}/return: {post: {parameters: [{name: id, in: path}]}}
  /import: {post: {operationId: importAll, servers: [{url: "https://bulk.acme.example"}]}}
  /2fa: {post: {}}
  /configure: {get: {}}
components:
  securitySchemes:
    key: {type: apiKey, in: header, name: X-Key}
    other: {type: http, scheme: basic}
  schemas:
    Order: {type: object, required: [item], properties: {item: {type: string}, parent: {$ref: "#/components/schemas/Order"}}}
`

func imported(t *testing.T, document string, o openapi.Options) *openapi.Imported {
	t.Helper()
	o.Name, o.Source = "acme", "shop.yaml"
	made, err := openapi.Import([]byte(document), o)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestImport(t *testing.T) {
	made := imported(t, shop, openapi.Options{})
	want := []string{"acme._2fa.create", "acme.configure_.retrieve", "acme.import_.create", "acme.orders.create", "acme.orders.list",
		"acme.orders.retrieve", "acme.orders.return_", "acme.orders.update"}
	if diff := cmp.Diff(want, made.Operations); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"line 9: HEAD /orders: scripts have no such requests"}, made.Skipped); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	notes := strings.Join(made.Notes, "\n")
	for _, want := range []string{"security scheme other is not used: calls authenticate by key",
		"import_.create is at https://bulk.acme.example: declare that as part of the service", "contain themselves"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note of %q in\n%s", want, notes)
		}
	}
	const service = "# Acme 'Orders' 2, made from shop.yaml by thence service import.\nservices:\n    acme:\n        url: https://api.acme.example/v1\n" +
		"        auth:\n            header:\n                name: X-Key\n                secret: acme_key\n"
	if diff := cmp.Diff(service, made.Service); diff != "" {
		t.Errorf("declaration (-want +got):\n%s", diff)
	}
}

// run runs a script that imports what was made of the document.
func run(t *testing.T, made *openapi.Imported, script string) (*scripting.Outcome, error) {
	t.Helper()
	lib, err := scripting.NewLibrary(fstest.MapFS{"acme.tengo": {Data: []byte(made.Module)}, "mine.tengo": {Data: []byte("x := 1")},
		"new_acme_response.tengo": {Data: []byte("x := 1")}, "new_acme_update_order_error.tengo": {Data: []byte("x := 1")}})
	if err != nil {
		t.Fatal(err)
	}
	return scripting.NewEngine(lib).Run(t.Context(), scripting.Input{Script: scripting.Script{Source: "acme := import(\"acme\")\n" + script}})
}

func TestCall(t *testing.T) {
	made := imported(t, shop, openapi.Options{})
	for _, tt := range []struct{ script, want string }{
		{`acme.orders.update("o_1", {note: undefined}, {catch: ""})`, `acme_update_order PATCH https://api.acme.example/v1/orders/o_1 {"note":null} then new_acme_response catch `},
		{`acme.orders.update(7, {note: "x"})`, `acme_update_order PATCH https://api.acme.example/v1/orders/7 {"note":"x"} then new_acme_response catch new_acme_update_order_error`},
		{`acme.orders.create({item: "i", parent: {item: "j", parent: {}}}, {then: "mine", catch: "mine"})`,
			`acme_create_order POST https://api.acme.example/v1/orders {"item":"i","parent":{"item":"j","parent":{}}} then mine catch mine`},
		{`acme.import_.create({}, {catch: ""})`, `acme_create_import_ POST https://bulk.acme.example/import  then new_acme_response catch `},
		{`acme.orders.return_("o_1", {}, {catch: ""})`, `acme_return_order POST https://api.acme.example/v1/orders/o_1/return  then new_acme_response catch `},
	} {
		out, err := run(t, made, tt.script)
		if err != nil {
			t.Errorf("%s: %v", tt.script, err)
			continue
		}
		c := out.Effects[0].Call
		if got := fmt.Sprintf("%s %s %s %s then %s catch %s", c.Operation, c.Method, c.URL, c.Body, c.Then, c.Catch); got != tt.want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.script, got, tt.want)
		}
		if h := c.Header[0]; h.Name != "X-Key" || h.Secret != "acme_key" || h.Value != "" {
			t.Errorf("%s: got the header %+v", tt.script, c.Header)
		}
	}
}

// TestMistakes shows that an error names the script that made the mistake, not the module.
func TestMistakes(t *testing.T) {
	made := imported(t, shop, openapi.Options{})
	for script, want := range map[string]string{
		"acme.orders.create({})":                  "2:1: acme.orders.create: the parameter item is missing",
		"acme.orders.list({state: \"opn\"})":      `2:1: acme.orders.list: the parameter state must be one of open, done, not "opn"; did you mean "open"?`,
		"acme.orders.retrieve(\"o_1\", {x: 1})":   `2:1: acme.orders.retrieve: there is no parameter "x"`,
		"acme.ordrs.list()":                       `2:6: module acme has no "ordrs"; did you mean "orders"?`,
		"acme.configure({key: \"ak_live\"})":      `name the secret, {key: secret("acme_key")}`,
		"acme.orders.list({}, {then: \"\"})":      `there is no script "new_acme_list_orders_error" in the library to take the failure, and no "new_acme_error"`,
		"acme.orders.retrieve(\"a b\")":           `"a b" is no id: want one such as {id} in /orders/{id}`,
		"acme.orders.retrieve(\"o\", {}, {a: 1})": `unknown option "a"`,
	} {
		if _, err := run(t, made, script); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\nends with %v\nwant %s", script, err, want)
		}
	}
}

func TestImportErrors(t *testing.T) {
	for _, tt := range []struct {
		name, document string
		options        openapi.Options
		want           string
	}{
		{"bad name", shop, openapi.Options{Name: "Acme"}, `"Acme" can't be a module's name`},
		{"taken name", shop, openapi.Options{Name: "stripe"}, "the name stripe is taken"},
		{"default", shop, openapi.Options{Name: "default"}, "stands for the calls of no service"},
		{"no document", "hello", openapi.Options{Name: "acme"}, "this is no OpenAPI document"},
		{"no server", strings.Replace(shop, "servers:", "x-servers:", 1), openapi.Options{Name: "acme"}, "does not say where the API is: say it with --url"},
		{"relative server", strings.Replace(shop, "https://api.acme.example/v1/", "/v1", 1), openapi.Options{Name: "acme"}, `at "/v1", which is no base such as https://host/path: say it with --url`},
		{"bad url", shop, openapi.Options{Name: "acme", URL: "ftp://x"}, `"ftp://x" is no base`},
		{"nothing chosen", shop, openapi.Options{Name: "acme", Only: []string{"customers"}}, "no operation is in customers: there are _2fa, configure, import_, orders"},
		{"nothing left", "openapi: 3.0.0\nservers: [{url: https://x.y}]\npaths: {/a: {head: {}}}", openapi.Options{Name: "acme"}, "no operation of the document can be called:\n  line 3: HEAD /a"},
		{"too large", large(2000), openapi.Options{Name: "acme"}, "choose resources with --only; the largest are r0 (4 operations)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := openapi.Import([]byte(tt.document), tt.options); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// large is a document with n resources and a few operations of the first.
func large(n int) string {
	var b strings.Builder
	b.WriteString("openapi: 3.0.0\nservers: [{url: https://x.y}]\npaths:\n  /r0/{id}: {get: {parameters: [{name: id, in: path}]}, delete: {parameters: [{name: id, in: path}]}}\n")
	for i := range n {
		fmt.Fprintf(&b, "  /r%d: {get: {}, post: {}}\n", i)
	}
	return b.String()
}

func TestOnly(t *testing.T) {
	made := imported(t, large(2000), openapi.Options{Only: []string{"r0", "r7.update"}})
	want := []string{"acme.r0.create", "acme.r0.delete", "acme.r0.list", "acme.r0.retrieve", "acme.r7.update"}
	if diff := cmp.Diff(want, made.Operations); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNamesAreTaken has operations that would have the same names.
func TestNamesAreTaken(t *testing.T) {
	made := imported(t, `openapi: 3.0.0
servers: [{url: https://x.y}]
paths:
  /orders: {post: {}}
  /v1/orders: {post: {operationId: createOrderV1}}
  /v2/orders: {post: {}}
  /order: {post: {}}
`, openapi.Options{})
	if diff := cmp.Diff([]string{"acme.order.create", "acme.orders.create", "acme.orders.create_order_v1"}, made.Operations); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
	if len(made.Skipped) != 1 || !strings.Contains(made.Skipped[0], "line 6: POST /v2/orders: the name orders.create is taken") {
		t.Errorf("left out: %q", made.Skipped)
	}
	for _, name := range []string{" acme_create_order ", " acme_orders_create_order_v1 ", " acme_order_create "} {
		if !strings.Contains(made.Module, name) {
			t.Errorf("no operation's scripts are called after%sin\n%s", name, made.Module)
		}
	}
}

func TestBasic(t *testing.T) {
	made := imported(t, strings.Replace(shop, "security: [{key: []}]", "security: [{other: []}]", 1), openapi.Options{URL: "https://eu.acme.example"})
	out, err := run(t, made, `acme.orders.list({}, {catch: ""})`)
	if err != nil {
		t.Fatal(err)
	}
	if c := out.Effects[0].Call; c.URL != "https://eu.acme.example/orders" || c.Header[0].Name != "Authorization" || c.Header[0].Value != "Basic " {
		t.Errorf("got %+v", c)
	}
	if !strings.Contains(strings.Join(made.Notes, "\n"), "user:password in base64") || strings.Contains(made.Service, "auth") {
		t.Errorf("got %q and\n%s", made.Notes, made.Service)
	}
}

func TestShow(t *testing.T) {
	made := imported(t, shop, openapi.Options{})
	acme, err := openapi.OfModule(made.Module)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openapi.OfModule("x := 1"); err == nil || !strings.Contains(err.Error(), "no module that thence service import wrote") {
		t.Errorf("a script of another kind: %v", err)
	}
	op, err := acme.Show("orders.create", "", 3)
	if err != nil {
		t.Fatal(err)
	}
	want := openapi.Operation{Name: "acme.orders.create", Method: "POST", URL: "https://api.acme.example/v1/orders", Body: "json",
		Then: "new_acme_create_order_response", Catch: "new_acme_create_order_error", Parameters: []openapi.Parameter{
			{Name: "item", Type: "string", Required: true}, {Name: "parent", Type: "any"}}}
	if diff := cmp.Diff(want, op); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, tt := range []struct{ operation, param, want string }{
		{"payment_intents.creat", "", `stripe has no operation "payment_intents.creat"; did you mean "payment_intents.create"?`},
		{"checkout", "", "it is a resource, which has checkout.sessions.create, "},
		{"payment_intents.create", "transfr_data", `there is no parameter "transfr_data"; did you mean "transfer_data"?`},
		{"payment_intents.create", "amount", "the parameter amount has no members"},
		{"payment_intents.create", "amount.x", "what it would be in has no members"},
	} {
		if _, err := openapi.Stripe().Show(tt.operation, tt.param, 2); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s: got %v, want %s", tt.operation, tt.param, err, tt.want)
		}
	}
}

// FuzzImport looks for documents that end in a panic, or in a module that can't be used.
func FuzzImport(f *testing.F) {
	f.Add([]byte(shop))
	f.Add([]byte(`{"openapi": "3.0.0", "servers": [{"url": "https://x.y"}], "paths": {"/a{b}c": {"get": {}}}}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		made, err := openapi.Import(document, openapi.Options{Name: "acme"})
		if err != nil {
			return
		}
		lib, err := scripting.NewLibrary(fstest.MapFS{"acme.tengo": {Data: []byte(made.Module)}})
		if err != nil {
			t.Fatalf("%v\n%s", err, made.Module)
		}
		if _, err := scripting.NewEngine(lib).Run(t.Context(), scripting.Input{Script: scripting.Script{Source: `import("acme")`}}); err != nil {
			t.Fatalf("%v\n%s", err, made.Module)
		}
	})
}
