package scripting_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/thence-dev/thence/scripting"
)

// runError runs a source that must fail, beside a small library.
func runError(t *testing.T, source string, limits scripting.Limits) *scripting.Error {
	t.Helper()
	lib, err := scripting.NewLibrary(fstest.MapFS{
		"greet.tengo":    {Data: []byte("export {\n\thello: func(n) {\n\t\treturn 1 / n\n\t}\n}\n")},
		"through.tengo":  {Data: []byte("greet := import(\"greet\")\n\nexport func(n) {\n\tx := greet.hello(n)\n\treturn x\n}\n")},
		"checkout.tengo": {Data: []byte("print(1)")},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = scripting.NewEngine(lib).Run(t.Context(), scripting.Input{
		Script: scripting.Script{Name: "main", Source: source},
		Job:    scripting.Job{ID: "j", Sequence: 1, Worker: "payments", Data: []byte(`{"a": {"b": 1}}`)},
		Limits: limits,
	})
	var e *scripting.Error
	if !errors.As(err, &e) {
		t.Fatalf("%s\nwant a script's error, got %v", source, err)
	}
	return e
}

type failing struct {
	source       string
	line, column int
	message      string // a part of it
}

func testFailing(t *testing.T, kind scripting.ErrorKind, tests []failing) {
	t.Helper()
	for _, tt := range tests {
		e := runError(t, tt.source, scripting.Limits{Time: 5 * time.Second})
		shown := tt.source
		if len(shown) > 200 {
			shown = shown[:200] + "..."
		}
		if e.Kind != kind || e.Line != tt.line || e.Column != tt.column || !strings.Contains(e.Message, tt.message) {
			t.Errorf("%s\n got %s at %d:%d: %s\nwant %s at %d:%d: ... %s", shown, e.Kind, e.Line, e.Column, e.Message, kind,
				tt.line, tt.column, tt.message)
		}
		want := strings.ToValidUTF8(strings.ReplaceAll(lineOf(tt.source, e.Line), "\x00", "\uFFFD"), "\uFFFD")
		if e.Script == "main" && e.Line > 0 && len(want) < 1000 && e.Code != want {
			t.Errorf("%s\ncode %q, want %q", shown, e.Code, want)
		}
	}
}

func lineOf(src string, n int) string { return strings.Split(src+"\n", "\n")[max(n-1, 0)] }

func repeat(s string, n int) string { return strings.Repeat(s, n) }

// declarations declares n variables.
func declarations(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("v" + strings.Repeat("x", i/26) + string(rune('a'+i%26)) + " := 1\n")
	}
	return b.String()
}

func TestCompileErrors(t *testing.T) {
	testFailing(t, scripting.KindCompile, []failing{
		{"x := 5\ny := data.error.type", 2, 11, `write data["error"] instead of data.error`},
		{"log := import(\"log\")\nlog.error(1)", 2, 5, "use log.fail"},
		{"x := {error: 1}", 1, 7, `write it as "error"`},
		{"x = = 1", 1, 5, "expected operand"},
		{"if true {", 1, 10, "expected"},
		{"x := \"abc", 1, 6, "string literal not terminated"},
		{"\n\tnope()", 2, 2, "nope is not declared"},
		{"count := 1\nprint(cuont)", 2, 7, `did you mean "count"?`},
		{"json.encode(1)", 1, 1, `json := import("json")`},
		{"nope = 1", 1, 1, "use := to declare it"},
		{"len = 5", 1, 1, "len is built in"},
		{"data = 5", 1, 1, "data is built in"},
		{"append++", 1, 1, "append is built in"},
		{"len += 1", 1, 1, "len is built in"},
		{"print.x = 1", 1, 1, "print is built in"},
		{"x := 1\nx := 2", 2, 1, "x is already declared"},
		{"a, b := 1, 2", 1, 6, "only one value"},
		{"a := {}\na.b := 1", 2, 5, ":= declares a variable"},
		{"5 = 1", 1, 1, "cannot assign"},
		{"print(1).x = 1", 1, 6, "cannot assign"},
		{"(a) = 1", 1, 1, "cannot assign"},
		{"5++", 1, 1, "cannot assign"},
		{"for a, b, c in [] {}", 1, 1, "one or two variables"},
		{"break", 1, 1, "break outside a loop"},
		{"for {\n\tfunc() {\n\t\tbreak\n\t}()\n}", 3, 3, "break outside a loop"},
		{"for { func() { if true { continue } }() }", 1, 26, "continue outside a loop"},
		{"for { break x }", 1, 7, "no label"},
		{"return 5", 1, 1, "return outside a function"},
		{"if true { return }", 1, 11, "return outside a function"},
		{"if true { export 1 }", 1, 11, "top level"},
		{"f := func() { export 1 }", 1, 15, "top level"},
		{"export 1\nexport 2", 2, 1, "only one export"},
		{`x := import("os")`, 1, 6, "there are: base64, context, enum, flow, fmt, hex, http"},
		{`x := import("os")`, 1, 6, ", times, and 3 scripts of the library, none of which has that name"},
		{`x := import("jsn")`, 1, 6, `did you mean "json"?`},
		{`x := import("chekout")`, 1, 6, `did you mean "checkout"?`},
		{`x := import("../greet")`, 1, 6, "there is no module"},
		{`x := import("")`, 1, 6, "there is no module"},
		{"$ := 1", 1, 1, "illegal character"},
		{"s := \"é\"; nope", 1, 11, "nope"},
		{"x := 1\n\x00", 2, 1, "NUL"},
		{"x := 1\n  \xff", 2, 3, "UTF-8"},
		{"x := " + repeat("(", 101) + "1" + repeat(")", 101), 1, 106, "brackets nest deeper"},
		{"x := " + repeat("[", 5000), 1, 106, "brackets nest deeper"},
		{"x := " + repeat("!", 5000) + "true", 1, 106, "operators in a row"},
		{"x := " + repeat("- ", 5000) + "1", 1, 206, "operators in a row"},
		{repeat("//\n", 5001), 5001, 3, "more than 5000 comments in a row"},
		{"x := " + repeat("/**/ ", 5001) + "1", 1, 25009, "more than 5000 comments in a row"},
		{"if x {}" + repeat(" else if x {}", 3001), 1, 39009, "more than 3000 else and ?"},
		{"x := " + repeat("1 ? 2 : ", 3001) + "3", 1, 24008, "more than 3000 else and ?"},
		{"x := 1" + repeat("+1", 600), 1, 207, "nests deeper than 500"},
		{"x := {}; y := x" + repeat(".a", 600), 1, 217, "nests deeper than 500"},
		{declarations(1001), 1001, 1, "more than 1000 global variables"},
		{"f := func() {\n" + declarations(251) + "}", 252, 1, "more than 250 variables"},
		{"f := func() {}\nf(" + repeat("1,", 250) + "1)", 2, 2, "more than 250 arguments"},
		{"x := {}\nx" + repeat("[0]", 251) + " = 1", 2, 1, "more than 250 members"},
	})
}

func TestRuntimeErrors(t *testing.T) {
	testFailing(t, scripting.KindRuntime, []failing{
		{"x := {}\nx.send(1)", 2, 1, "cannot call undefined"},
		{"x := 5\ny := 1 + x / 0", 2, 10, "division by zero"},
		{"x := 5 % (1 - 1)", 1, 6, "division by zero"},
		{"x := 1 + \"a\"", 1, 6, "invalid operation: int + string"},
		{"x := {a: 1} + {b: 1}", 1, 6, "invalid operation: map + map"},
		{"for x in 5 {}", 1, 10, "cannot iterate over int"},
		{"x := [1]\nx[5] = 1", 2, 1, "index 5 is out of bounds"},
		{"x := [1]\nx.a = 1", 2, 1, "must be an int"},
		{"x := immutable({a: 1})\nx.a = 2", 2, 1, "cannot set a member of immutable-map"},
		{"x := immutable([1])\nx[0] = 2", 2, 1, "cannot set a member of immutable-array"},
		{"delete(immutable({a: 1}), \"a\")", 1, 1, "delete: an immutable map"},
		{"splice(immutable([1]))", 1, 1, "splice: an immutable array"},
		{"x := [1, 2][2:1]", 1, 12, "invalid slice index: 2 > 1"},
		{"x := [1, 2][\"a\":]", 1, 12, "an index must be an int"},
		{"x := 5[1:]", 1, 7, "has no slices"},
		{"f := func(a) {}\nf()", 2, 1, "wrong number of arguments: want=1, got=0"},
		{"f := func() { return 1 + f() }\nf()", 1, 26, "too deeply"},
		{"f := func() { f(); return 1 }\nf()", 1, 15, "functions call each other too deeply"},
		{"len()", 1, 1, "len: want 1 argument, got 0"},
		{"len(5)", 1, 1, "argument 1 must be an array, a string, bytes or a map, not int"},
		{"range(0, 1 << 62)", 1, 1, "too long"},
		{"range(0, 5, 0)", 1, 1, "range step"},
		{"bytes(-1)", 1, 1, "number of bytes"},
		{"bytes(1 << 40)", 1, 1, "number of bytes"},
		{"splice([1], 5)", 1, 1, "argument 2 must be from 0 to 1, not 5"},
		{"append(1, 2)", 1, 1, "argument 1 must be an array"},
		{"print([1, 2]...)\nprint((5)...)", 2, 10, "only an array can be spread"},
		{"print(range(0, 5000)...)", 1, 21, "cannot be spread"},
		{"format(5, 5)", 1, 1, "argument 1 must be a string"},
		{"s := \"0123456789\"\nfor { s += s }", 2, 7, "longer than 4194304 bytes"},
		{"a := [1]\nfor { a += a }", 2, 7, "1048576 elements at most"},
		{"a := []\na = append(a, a)\na[0] = a\nprint(a)", 4, 1, "does it contain itself?"},
		{"a := [1]; a[0] = a\nb := a == a", 2, 6, "does it contain itself?"},
		{"a := {}; a.a = a\nb := \"\" + a", 2, 6, "does it contain itself?"},
		{"a := {}; a.a = [a]\nb := copy(a)", 2, 6, "does it contain itself?"},
		{"a := {}; a.a = a; m := {}\nm[a] = 1", 2, 1, "does it contain itself?"},
		{"a := {}; a.a = a\nformat(\"%v\", a)", 2, 1, "does it contain itself?"},
		{"a := [1]\nfor i := 0; i < 40; i++ { a = [a, a] }\nb := copy(a) == a", 3, 6, "same part many times"},
		{"a := 1\nfor i := 0; i < 1000; i++ { a = error(a) }\nprint(a)", 3, 1, "nests deeper"},
		{"x := secret(\"k\")\ny := \"Bearer \" + x", 2, 6, "a secret cannot become text"},
		{"x := secret(\"k\") + \"a\"", 1, 6, "a secret cannot become text"},
		{"string(secret(\"k\"))", 1, 1, "a secret cannot become text"},
		{"secret(\"a-b\")", 1, 1, "no name of a secret"},
		{"secret(5)", 1, 1, "the name of a secret"},
		{"m := {}\nm[secret(\"k\")] = 1", 2, 1, "invalid index type"},
		{"a := \"text\"\na.email", 2, 3, "only a map has members by name"},
		{"a := [1]\na[\"email\"]", 2, 3, "only a map has members by name"},
		{"x := error(1).message", 1, 15, "an error has only .value"},
	})
}

func TestModuleErrors(t *testing.T) {
	use := func(module, call string) string { return module + " := import(\"" + module + "\")\n" + call }
	testFailing(t, scripting.KindRuntime, []failing{
		{use("http", `http.pst("x")`), 2, 6, `module http has no "pst"; did you mean "post"?`},
		{use("http", `http.get()`), 2, 1, "http.get: want 1 to 2 arguments, got 0"},
		{use("http", `http.get(5)`), 2, 1, "argument 1 must be a URL, not int"},
		{use("http", `http.get("https://x.y", {heders: {}})`), 2, 1, `unknown option "heders"; did you mean "headers"?`},
		{use("http", `http.get("https://x.y", {xyzzyq: {}})`), 2, 1, `there are: json, form, body, headers`},
		{use("http", `http.get("ftp://x.y")`), 2, 1, "must start with https:// or http://"},
		{use("http", `http.part("cus_42.5-0", 0, 1)`), 2, 1, "argument 1 must be what job.response.stored is, not string"},
		{use("http", `http.part({name: "cus_42.5-0"}, 0, 1)`), 2, 1, "argument 1 must be what job.response.stored is, with name and size"},
		{use("http", `http.part({name: "cus_42", size: 5}, 0, 1)`), 2, 1, `"cus_42" is no name of a stored body`},
		{use("http", `http.part({name: "nobody.5-0", size: 5}, 0, 1)`), 2, 1, `the body "nobody.5-0" belongs to the context nobody, and can be read there alone`},
		{use("http", `http.part({name: import("job").context + ".5-0", size: 5}, 5, 1)`), 2, 1, "argument 2 must be from 0 to 4, not 5"},
		{use("http", `http.part({name: import("job").context + ".5-0", size: 5}, 0, 262145)`), 2, 1, "argument 3 must be from 1 to 262144, not 262145"},
		{use("http", `http.part({name: import("job").context + ".5-0", size: 5}, 0, 1, {base64: 1})`), 2, 1, "option base64 must be true or false, not int"},
		{use("flow", `flow.cancel(5)`), 2, 1, "flow.cancel: argument 1 must be the id of a call or a timer, not int"},
		{use("http", `http.get("/path")`), 2, 1, "must start with https:// or http://"},
		{use("http", `http.get("https:///path")`), 2, 1, "has no host"},
		{use("http", `http.get("https://:80/path")`), 2, 1, "has no host"},
		{use("http", `http.get("https://u:p@x.y")`), 2, 1, "user or password"},
		{use("http", `http.get("https://x.y/%zz")`), 2, 1, "is no URL"},
		{use("http", `http.get("https://x.y/\n")`), 2, 1, "is no URL"},
		{use("http", `http.post("https://x.y", {json: 1, form: {}})`), 2, 1, "only one of the options json, form and body"},
		{use("http", `http.post("https://x.y", {json: {a: [1, func() {}]}})`), 2, 1, "json.a[1]: a value of type compiled-function"},
		{use("http", `http.post("https://x.y", {json: {key: secret("k")}})`), 2, 1, "json.key: a secret cannot be stored"},
		{use("http", `http.post("https://x.y", {form: {a: {b: secret("k")}}})`), 2, 1, "form.a[b]: a secret"},
		{use("http", `http.post("https://x.y", {form: 5})`), 2, 1, "option form must be a map"},
		{use("http", `http.post("https://x.y", {body: 5})`), 2, 1, "option body must be bytes or a string"},
		{use("http", `http.get("https://x.y", {headers: {Host: "a"}})`), 2, 1, "Host cannot be set"},
		{use("http", `http.get("https://x.y", {headers: {"content-length": "a"}})`), 2, 1, "Content-Length cannot be set"},
		{use("http", `http.get("https://x.y", {headers: {"transfer-encoding": "a"}})`), 2, 1, "belongs to the connection"},
		{use("http", `http.get("https://x.y", {headers: {"nats-msg-id": "a"}})`), 2, 1, "reserved"},
		{use("http", `http.get("https://x.y", {headers: {"THENCE-Call": "a"}})`), 2, 1, "reserved"},
		{use("http", `http.get("https://x.y", {headers: {"idempotency-key": "a"}})`), 2, 1, "use the option idempotency_key"},
		{use("http", `http.get("https://x.y", {headers: {"a b": "a"}})`), 2, 1, "no name of a header"},
		{use("http", `http.get("https://x.y", {headers: {a: "x\r\nHost: evil"}})`), 2, 1, "line break"},
		{use("http", `http.get("https://x.y", {headers: {a: ["x\n", secret("k")]}})`), 2, 1, "line break"},
		{use("http", `http.get("https://x.y", {headers: {a: "1", A: "2"}})`), 2, 1, "given twice"},
		{use("http", `http.get("https://x.y", {headers: {a: {}}})`), 2, 1, "must be a string or a secret"},
		{use("http", `http.get("https://x.y", {bearer: 5.5, headers: {authorization: "x"}})`), 2, 1, "given twice"},
		{use("http", `http.get("https://x.y", {timeout: "soon"})`), 2, 1, "no duration"},
		{use("http", `http.get("https://x.y", {timeout: 0})`), 2, 1, "more than 0"},
		{use("http", `http.get("https://x.y", {timeout: 1 << 62})`), 2, 1, "at most an hour"},
		{use("http", `http.get("https://x.y", {timeout: []})`), 2, 1, "must be seconds"},
		{use("http", `http.get("https://x.y", {idempotency_key: "a b"})`), 2, 1, "printable ASCII"},
		{use("http", `http.get("https://x.y", {then: "chekout"})`), 2, 1, `option then: there is no script "chekout" in the library; did you mean "checkout"?`},
		{use("http", `http.get("https://x.y", {catch: "inline-0123456789abcdef"})`), 2, 1, "there is no script"},
		{use("http", `http.get("https://x.y", {then: 5})`), 2, 1, "option then must be a string"},
		{use("http", `http.get("https://x.y", {tag: func() {}})`), 2, 1, "tag: a value of type compiled-function"},

		{use("stripe", `stripe.customer.create({})`), 2, 8, `did you mean "customers"?`},
		{use("stripe", `stripe.customers.creat({})`), 2, 18, `did you mean "create"?`},
		{use("stripe", `stripe.customers.create({})`), 2, 1, `there is no script "new_create_customer_response"`},
		{use("stripe", `stripe.customers.create({}, {then: ""})`), 2, 1, `there is no script "new_create_customer_error"`},
		{use("stripe", `stripe.customers.create({then: "checkout"})`), 2, 1, "then is an option, not one of Stripe's parameters"},
		{use("stripe", `stripe.customers.create("cus_1")`), 2, 1, "the parameters must be a map"},
		{use("stripe", `stripe.customers.create({}, {thenn: ""})`), 2, 1, `did you mean "then"?`},
		{use("stripe", `stripe.customers.retrieve()`), 2, 1, "want 1 to 3 arguments"},
		{use("stripe", `stripe.customers.retrieve("a/b")`), 2, 1, `"a/b" is no id: want one such as cus_123`},
		{use("stripe", `stripe.customers.retrieve("")`), 2, 1, "is no id"},
		{use("stripe", `stripe.subscriptions.cancel(undefined)`), 2, 1, "an id such as sub_123"},
		{use("stripe", `stripe.configure({key: "sk_live_1"})`), 2, 1, "name the secret"},
		{use("stripe", `stripe.checkout.session.create({})`), 2, 17, `module stripe.checkout has no "session"; did you mean "sessions"?`},
		{use("stripe", `stripe.payment_intents.create()`), 2, 1, "these parameters are missing: amount, currency"},
		{use("stripe", `stripe.payment_intents.create({amount: 5, currency: undefined})`), 2, 1, "the parameter currency is missing"},
		{use("stripe", `stripe.payment_intents.create({amont: 5, currency: "usd"})`), 2, 1, `there is no parameter "amont"; did you mean "amount"?`},
		{use("stripe", `stripe.payment_intents.create({amount: "5 $", currency: "usd"})`), 2, 1, `the parameter amount must be an int, not "5 $"`},
		{use("stripe", `stripe.payment_intents.create({amount: 5.5, currency: "usd"})`), 2, 1, `the parameter amount must be an int, not 5.5`},
		{use("stripe", `stripe.payment_intents.create({amount: 5, currency: "usd", capture_method: "manuel"})`), 2, 1,
			`the parameter capture_method must be one of automatic, automatic_async, manual, not "manuel"; did you mean "manual"?`},
		{use("stripe", `stripe.payment_intents.create({amount: 5, currency: "usd", confirm: "yes"})`), 2, 1, `the parameter confirm must be true or false, not "yes"`},
		{use("stripe", `stripe.payment_intents.create({amount: 5, currency: "usd", metadata: "x"})`), 2, 1, `the parameter metadata must be a map, not "x"`},
		{use("stripe", `stripe.payment_intents.create({amount: 5, currency: "usd", transfer_data: {amount: 5}})`), 2, 1, "the parameter transfer_data.destination is missing"},
		{use("stripe", `stripe.subscriptions.create({customer: "c", items: [{}, {price: "p", quantty: 1}]})`), 2, 1,
			`the parameter items[1] has no member "quantty"; did you mean "quantity"?`},
		{use("stripe", `stripe.subscriptions.create({customer: "c", items: {price: "p"}})`), 2, 1, "the parameter items must be an array, not map"},
		{use("stripe", `stripe.subscriptions.create({customer: "c", trial_end: "later"})`), 2, 1, `the parameter trial_end must be now or a time, not "later"`},
		{use("stripe", `stripe.customers.create({name: [1]})`), 2, 1, "the parameter name must be a string"},
		{use("stripe", `stripe.customers.list({created: {gt: "x"}})`), 2, 1, `the parameter created.gt must be an int, not "x"`},
		{use("stripe", `a := []; for i := 0; i < 300; i++ { a = append(a, {metadata: {a: 1}}) }; b := []; for i := 0; i < 300; i++ { b = append(b, {price_data: {currency: "x", product_data: {name: "n", images: a}}}) }
stripe.checkout.sessions.create({line_items: b}, {then: "", catch: ""})`), 3, 1, `the parameter line_items[0].price_data.product_data.images[0] must be a string, not map`},
		{use("stripe", `a := []; for i := 0; i < 300; i++ { a = append(a, "u") }; b := []; for i := 0; i < 300; i++ { b = append(b, {price_data: {currency: "x", product_data: {name: "n", images: a}}}) }
stripe.checkout.sessions.create({line_items: b}, {then: "", catch: ""})`), 3, 1, `the parameters have more than 50000 values`},
		{use("stripe", `stripe.refunds.create({payment_intent: secret("stripe_key")}, {then: "", catch: ""})`), 2, 1, "secret"},
		{use("stripe", `stripe.accounts.persons.retrieve("acct_1", "..")`), 2, 1, `".." is no id: want one such as {person} in /v1/accounts/{account}/persons/{person}`},
		{use("stripe", `stripe.refunds.create({payment_intent: "pi_1"})`), 2, 1,
			`there is no script "new_create_refund_response" in the library to take the answer, and no "new_stripe_response"`},

		{use("stripe", `stripe.new_payment_intents()`), 2, 8, `module stripe has no "new_payment_intents"; did you mean "new_payment_intent"?`},
		{use("stripe", `stripe.new_price().amont(5)`), 2, 20, `stripe.new_price() has no "amont"`},
		{use("stripe", "stripe.new_payment_intent().\namount(20.5).\ncurrency(\"usd\").create()"), 2, 1,
			"stripe.new_payment_intent().amount: the parameter amount must be an int, not 20.5"},
		{use("stripe", `stripe.new_payment_intent().amount(5).create({then: "", catch: ""})`), 2, 1,
			"stripe.new_payment_intent().create: the parameter currency is missing"},
		{use("stripe", `stripe.new_subscription().add_price(5, "x")`), 2, 1, `the parameter items[0].quantity must be an int, not "x"`},
		{use("stripe", `stripe.new_customer().add_email("a")`), 2, 23, `stripe.new_customer() has no "add_email"`},
		{use("stripe", `stripe.new_customer().metadata({a: stripe.new_customer()})`), 2, 1, "the parameter metadata"},

		{use("openapi", `openapi.define(5)`), 2, 1, "argument 1 must be the table of an API, not int"},
		{use("openapi", `t := "x"; for i := 0; i < 19; i++ { t += t }; openapi.define(t)`), 2, 47, "the table has 524288 bytes, more than"},
		{use("openapi", `openapi.define("orders")`), 2, 1, `this is no table of an API: it must begin with "thence-api 1"`},
		{use("openapi", `openapi.define("thence-api 1\nname acme\n")`), 2, 1, `the URL "" of the API can't be used`},
		{use("openapi", `openapi.define("thence-api 1\nname stripe\nurl https://x.y\n")`), 2, 1, "the name stripe is taken"},
		{use("openapi", `openapi.define("thence-api 1\nname acme\nurl https://x.y\nop a.b GET /a b query\n")`), 2, 1, "line 4: want op NAME METHOD PATH SCRIPTS BODY TYPE"},
		{use("openapi", `openapi.define("thence-api 1\nname acme\nurl https://x.y\nop a.b GET /a b query 0\n\nobject a:0\n").a.b({})`), 2, 1,
			`the table of acme, line 6: "0" is not the number of a type above this one`},
		{use("openapi", `openapi.define("thence-api 1\nname acme\nurl https://x.y\nop a.b GET /a b query 1\n\nint\nobject c:0\n").a.b({then: 1})`), 2, 1,
			"then is an option, not one of Acme's parameters"},
		{use("openapi", `openapi.define("thence-api 1\nname acme\nurl https://x.y\nop a.b GET /a b query 1\n").a.b()`), 2, 1, "has no type 1"},
		{use("openapi", `openapi.define("thence-api 1\nname acme\nurl https://x.y\nauth Host acme_key\n")`), 2, 1, "the header Host cannot be set"},
		{use("openapi", `openapi.define("thence-api 1\nname acme\nurl https://x.y\nauth X-Key a-b\n")`), 2, 1, `"a-b" is no name of a secret`},
		{use("openapi", `openapi.define("thence-api 1\nname acme\nurl https://x.y\nop a.b GET /a b query 1 header:Idempotency-Key\n\nstring\nobject Idempotency-Key:0\n").a.b({"Idempotency-Key": "k"})`), 2, 1,
			"the header Idempotency-Key cannot be set: use the option idempotency_key"},
		{use("stripe", `stripe.configure({})`), 2, 1, `want {key: secret("stripe_key")}`},

		{use("flow", `flow.dispatch({})`), 2, 1, "one of the options script and source"},
		{use("flow", `flow.dispatch({script: "checkout", source: "x"})`), 2, 1, "one of the options script and source"},
		{use("flow", `flow.dispatch({script: "chekout"})`), 2, 1, `did you mean "checkout"?`},
		{use("flow", `flow.dispatch({script: "checkout", worker: "a.b"})`), 2, 1, "no name of a worker pool"},
		{use("flow", `flow.dispatch({script: "checkout", context: "a.b"})`), 2, 1, "no name of a context"},
		{use("flow", `flow.dispatch({script: "checkout", worker: "a", pool: "b"})`), 2, 1, "mean the same"},
		{use("flow", `flow.dispatch({script: "x y", worker: "other"})`), 2, 1, "no name of a script"},
		{use("flow", `flow.dispatch({script: "checkout", dta: 1})`), 2, 1, `did you mean "data"?`},
		{use("flow", `flow.dispatch({script: "checkout", tag: 1})`), 2, 1, "option tag belongs to a job that is dispatched later"},
		{use("flow", `flow.dispatch({after: "1h"})`), 2, 1, "option script must be given"},
		{use("flow", `flow.dispatch({script: "checkout", after: {}.days})`), 2, 1, "option after is undefined"},
		{use("flow", `flow.dispatch({script: "chekout", after: "1h"})`), 2, 1, `did you mean "checkout"?`},
		{use("flow", `flow.dispatch({script: "checkout", after: "1h", context: "b"})`), 2, 1, "option context: a job that is dispatched later belongs to this context"},
		{use("flow", `flow.dispatch({source: "x := 1", after: "1h"})`), 2, 1, "option source: a job that is dispatched later"},
		{use("flow", `flow.dispatch({script: "checkout", after: 24 * import("times").hour})`), 2, 1, "at most ten years: it is in seconds, or a text"},
		{use("flow", `flow.dispatch({script: "checkout", after: 0})`), 2, 1, "more than 0"},
		{use("flow", `flow.dispatch({script: "checkout", after: "1d"})`), 2, 1, "no duration"},
		{use("flow", `flow.dispatch({script: "checkout", after: 1, at: "2026-01-01T00:00:00Z"})`), 2, 1, "options after and at exclude each other"},
		{use("flow", `flow.dispatch({script: "checkout", at: "tomorrow"})`), 2, 1, `option at is "tomorrow", and no time such as`},
		{use("flow", `flow.dispatch({script: "checkout", at: 5})`), 2, 1, "option at must be a time, or a text"},
		{use("flow", `flow.dispatch({script: "checkout", at: "9999-01-01T00:00:00Z"})`), 2, 1, "is more than ten years off"},
		{use("flow", `flow.dispatch({script: "checkout", at: import("times").date(12026, 1, 1)})`), 2, 1, "option at has the year 12026: want 0 to 9999"},

		{use("context", `context.set("a", {b: [1, 0.0 / 0.0]})`), 2, 1, "context.set: state.a.b[1]: the number NaN"},
		{use("context", `context.set("a", {"b c": print})`), 2, 1, `state.a["b c"]: a value of type builtin-function:print`},
		{use("context", `context.set("a", secret("k"))`), 2, 1, "state.a: a secret cannot be stored"},
		{use("context", `context.set("a", "\xff")`), 2, 1, "state.a: text that is not valid UTF-8"},
		{use("context", `a := []; a = append(a, 1); a[0] = a; context.set("a", a)`), 2, 38, "state.a: the value nests deeper"},
		{use("context", `context.set(5, 1)`), 2, 1, "argument 1 must be a string"},
		{use("job", `job.result(job)`), 2, 1, "job.result: result: a value of type module"},
		{use("job", `job.nme`), 2, 5, `module job has no "nme"`},
		{use("job", `job.id = 5`), 2, 1, "cannot set a member of module"},
		{use("json", `json.encode(func() {})`), 2, 1, "json.encode: value: a value of type compiled-function"},
		{use("json", `json.indent("[]", "                ", " ")`), 2, 1, "16 bytes at most"},
		{use("rand", `rand.intn(0)`), 2, 1, "argument 1 must be from 1"},
		{use("rand", `rand.perm(-1)`), 2, 1, "argument 1 must be from 0"},
		{use("text", `text.repeat("ab", 1 << 40)`), 2, 1, "argument 2 must be from 0"},
		{use("text", `text.repeat("ab", 4000000)`), 2, 1, "longer than"},
		{use("text", `text.replace(text.repeat("a", 100000), "a", text.repeat("b", 100000), -1)`), 2, 1, "longer than"},
		{use("text", `text.format_float(1.5, "", 1, 64)`), 2, 1, "the format"},
		{use("text", `text.format_float(1.5, "f", 100000, 64)`), 2, 1, "argument 3"},
		{use("text", `text.format_int(1, 1)`), 2, 1, "argument 2 must be from 2 to 36"},
		{use("text", `text.re_match("[a-z]{900}[a-z]{900}[a-z]{900}", "a")`), 2, 1, "too complex"},
		{use("text", `text.re_match("a", text.repeat("a", 100000))`), 2, 1, "bytes at most"},
		{use("text", `text.to_upper(undefined)`), 2, 1, "argument 1 must be a string, not undefined"},
		{use("text", `text.to_upper(secret("k"))`), 2, 1, "not secret"},
		{use("text", `text.join([1, undefined], ",")`), 2, 1, "element 1 is undefined"},
		{use("math", `math.abs("x")`), 2, 1, "argument 1 must be a number"},
		{use("times", `times.month_string(13)`), 2, 1, "argument 1 must be from 1 to 12"},
		{use("times", `times.sleep(1)`), 2, 7, `module times has no "sleep"`},
		{use("base64", `base64.encode(5)`), 2, 1, "argument 1 must be bytes or a string"},
	})
}

func TestTraceGoesThroughImports(t *testing.T) {
	e := runError(t, "through := import(\"through\")\n\nx := 1 + through(0)\n", scripting.Limits{})
	want := &scripting.Error{
		Kind: scripting.KindRuntime, Script: "greet", Line: 3, Column: 10, Message: "division by zero", Code: "\t\treturn 1 / n",
		Trace: []scripting.Frame{{"greet", 3, 10}, {"through", 4, 7}, {"main", 3, 10}},
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	const shown = "greet:3:10: division by zero\n\n    3 |   return 1 / n\n      |          ^\n\n    at greet:3:10\n    at through:4:7\n    at main:3:10"
	if diff := cmp.Diff(shown, e.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The same by an error that Tengo returns instead of panicking.
	e = runError(t, "through := import(\"through\")\n\nx := 1 + through(\"a\")\n", scripting.Limits{})
	want.Message = "invalid operation: int / string"
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestErrorAsJSON(t *testing.T) {
	b, err := json.Marshal(runError(t, "x := {}\nx.f()", scripting.Limits{}))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"kind":"runtime","script":"main","line":2,"column":1,"message":"cannot call undefined","code":"x.f()"}`; string(b) != want {
		t.Errorf("got %s\nwant %s", b, want)
	}
}

func TestLongTracesAreCut(t *testing.T) {
	e := runError(t, "f := func(n) { x := f(n + 1); return x }\nf(0)", scripting.Limits{})
	if len(e.Trace) != 20 || e.Trace[19] != (scripting.Frame{Script: "main", Line: 2, Column: 1}) {
		t.Errorf("trace of %d frames: %v", len(e.Trace), e.Trace)
	}
}

func TestUnknownScript(t *testing.T) {
	lib, err := scripting.NewLibrary(fstest.MapFS{"checkout.tengo": {Data: []byte("print(1)")}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = scripting.NewEngine(lib).Run(t.Context(), scripting.Input{Script: scripting.Script{Name: "chekout"}})
	var e *scripting.Error
	if !errors.As(err, &e) || e.Kind != scripting.KindUnknownScript ||
		e.Message != `there is no script "chekout" in the library; did you mean "checkout"?` {
		t.Errorf("got %#v", err)
	}
}

func TestLimits(t *testing.T) {
	fill := "s := \"0123456789\"\nfor i := 0; i < 7; i++ { s += s }\n" // 1280 bytes
	small := scripting.Limits{Source: 500, State: 1000, Effects: 2, Outbox: 1000, Result: 1000, Allocs: 1000}
	tests := []struct {
		source       string
		line, column int
		message      string
	}{
		{"// " + repeat("x", 500), 0, 0, "the source has 503 bytes, more than the limit of 500"},
		{fill + "context := import(\"context\")\ncontext.set(\"s\", s)", 4, 1, "the state has 1282 bytes, more than the limit of 1000"},
		{"context := import(\"context\")\nfor i := 0; i < 200; i++ { context.set(\"k\" + i, i) }", 0, 0, "the state has 1981 bytes"},
		{fill + "import(\"job\").result(s)", 3, 1, "the result has 1282 bytes"},
		{"http := import(\"http\")\nfor { http.get(\"https://x.y\") }", 2, 7, "3 calls and jobs, more than the limit of 2"},
		{fill + "http := import(\"http\")\nhttp.post(\"https://x.y\", {body: s})", 4, 1, "the outbox has 1291 bytes"},
		{fill + "flow := import(\"flow\")\nflow.dispatch({script: \"checkout\", data: s})", 4, 1, "the outbox has 1290 bytes"},
		{"x := 0\nfor { x++ }", 2, 7, "more than 1000 values"},
	}
	for _, tt := range tests {
		e := runError(t, tt.source, small)
		if e.Kind != scripting.KindLimit || e.Line != tt.line || e.Column != tt.column || !strings.Contains(e.Message, tt.message) {
			t.Errorf("%s\n got %s at %d:%d: %s\nwant at %d:%d: %s", tt.source, e.Kind, e.Line, e.Column, e.Message, tt.line,
				tt.column, tt.message)
		}
	}
}

func TestTimeLimit(t *testing.T) {
	for _, source := range []string{"for {}", "x := 1\nfor { x = 2 }", "f := func() { for {} }\nf()", "f := func() { return f() }\nf()",
		"text := import(\"text\")\ntext.re_replace(\"(?:a*b)?\", text.repeat(\"a\", 65536), \"x\")"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			e := runError(t, source, scripting.Limits{Time: time.Second, Allocs: 1 << 40}) // so long that it is not over while compiling
			if e.Kind != scripting.KindTimeLimit || e.Line == 0 || !strings.Contains(e.Message, "1s") {
				t.Errorf("%s: %v", source, e)
			}
		})
	}
}

// TestErrorsCannotBeForged has scripts put what would look like something else into errors.
func TestErrorsCannotBeForged(t *testing.T) {
	for _, tt := range []struct{ source, message, code string }{
		{`import("context").set("a\nlevel=error msg=fake", func() {})`, `context.set: state.a\nlevel=error msg=fake: a value of type compiled-function cannot be JSON`,
			`import("context").set("a\nlevel=error msg=fake", func() {})`},
		{"x := {\"\x1b[2J\": 1}; x.y()", "cannot call undefined", "x := {\"\uFFFD[2J\": 1}; x.y()"},
		{"x := \"\u202e\u2066\"; x.y.z()", "invalid index type: string: only a map has members by name; a text and an array have them by number", "x := \"\uFFFD\uFFFD\"; x.y.z()"},
		{`import("job").result("a\r\n", 1, 2)`, "job.result: want 1 argument, got 3", `import("job").result("a\r\n", 1, 2)`},
	} {
		e := runError(t, tt.source, scripting.Limits{})
		if e.Message != tt.message || e.Code != tt.code {
			t.Errorf("%s\n got %q in %q\nwant %q in %q", tt.source, e.Message, e.Code, tt.message, tt.code)
		}
	}
}
