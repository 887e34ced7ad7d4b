package apitable_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/thence-dev/thence/scripting/internal/apitable"
)

const head = "thence-api 1\nname acme\nurl https://api.acme.com/v1\n"

// built makes a table with every kind of type, and operations with all that they can have.
func built() (*apitable.API, []apitable.Operation, *apitable.Builder) {
	b := &apitable.Builder{}
	text := b.Add(apitable.Type{Kind: apitable.String, Most: 40})
	unused := b.Add(apitable.Type{Kind: apitable.Bytes})
	b.Add(apitable.Type{Kind: apitable.Array, Elem: unused})
	list := b.Add(apitable.Type{Kind: apitable.Array, Elem: text})
	enum := b.Add(apitable.Type{Kind: apitable.Enum, Values: []string{"", "a b", "50%", "`", "a:b", "ü"}})
	either := b.Add(apitable.Type{Kind: apitable.Union, Of: []int{list, enum, b.Add(apitable.Type{Kind: apitable.Null})}})
	params := b.Add(apitable.Type{Kind: apitable.Object, Rest: text, Props: []apitable.Prop{
		{Name: "z", Type: either}, {Name: "a!", Required: true, Type: list}, {Name: "x:y *", Type: b.Add(apitable.Type{Kind: apitable.Map, Elem: enum})}}})
	empty := b.Add(apitable.Type{Kind: apitable.Object, Rest: -1})
	api := &apitable.API{Name: "acme", Title: "Acme\n  `Orders`", URL: "https://api.acme.com/v1", Indexed: true,
		Auth: apitable.Auth{Header: "Authorization", Prefix: "Bearer ", Secret: "acme_key"}}
	return api, []apitable.Operation{
		{Resource: "orders.lines", Verb: "update", Method: "PATCH", Path: "/orders/{order}/lines/{line-id}", Name: "acme_update_order_line", Body: apitable.JSON,
			Params: params, Summary: "Change\na line # of an order", Query: []string{"z"}, Header: []string{"a!"}, Comma: []string{"z", "x:y *"}, Whole: "x:y *", Base: "https://other.acme.com"},
		{Verb: "ping", Method: "GET", Path: "/ping", Name: "acme_ping", Body: apitable.Query, Params: empty},
	}, b
}

func TestFormatAndParse(t *testing.T) {
	api, operations, b := built()
	text := apitable.Format(api, operations, b)
	if strings.Contains(text, "`") || strings.Contains(text, "bytes") {
		t.Errorf("a backquote, or a type that is not used, stands in\n%s", text)
	}
	got, err := apitable.Parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if got.Name != api.Name || got.Title != "Acme 'Orders'" || got.URL != api.URL || got.Auth != api.Auth || !got.Indexed {
		t.Errorf("got %+v", got)
	}
	ops := got.Operations()
	if len(ops) != 2 || ops[1].Verb != "ping" {
		t.Fatalf("got %+v", ops)
	}
	want := operations[0]
	want.Summary, want.Params = "Change a line # of an order", ops[0].Params
	if diff := cmp.Diff(want, *ops[0]); diff != "" {
		t.Errorf("operation (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"order", "line-id"}, ops[0].PathParams()); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(describe(t, b.Type, operations[0].Params), describe(t, typeOf(t, got), ops[0].Params)); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
	if again := apitable.Format(got, []apitable.Operation{*ops[1], *ops[0]}, rebuild(t, got)); again != text {
		t.Errorf("formatted again:\n%s", cmp.Diff(text, again))
	}
}

func typeOf(t *testing.T, a *apitable.API) func(int) apitable.Type {
	return func(n int) apitable.Type {
		typ, err := a.Type(n)
		if err != nil {
			t.Fatal(err)
		}
		return *typ
	}
}

// rebuild has the types of a table, under the same numbers.
func rebuild(t *testing.T, a *apitable.API) *apitable.Builder {
	t.Helper()
	b := &apitable.Builder{}
	for n := range a.Types() {
		if got := b.Add(typeOf(t, a)(n)); got != n {
			t.Fatalf("type %d is now %d", n, got)
		}
	}
	return b
}

// describe is a type without numbers.
func describe(t *testing.T, types func(int) apitable.Type, n int) string {
	t.Helper()
	typ := types(n)
	s := typ.Kind.String()
	switch typ.Kind {
	case apitable.String:
		s += fmt.Sprint(typ.Most)
	case apitable.Enum, apitable.Open:
		s += fmt.Sprintf("%q", typ.Values)
	case apitable.Array, apitable.Map:
		s += "(" + describe(t, types, typ.Elem) + ")"
	case apitable.Union:
		for _, of := range typ.Of {
			s += "|" + describe(t, types, of)
		}
	case apitable.Object:
		var all []string
		for _, p := range typ.Props {
			all = append(all, fmt.Sprintf("%q %v %s", p.Name, p.Required, describe(t, types, p.Type)))
		}
		slices.Sort(all)
		s += fmt.Sprintf("%q rest %d", all, min(typ.Rest, 0))
	}
	return s
}

func TestResources(t *testing.T) {
	api, operations, b := built()
	got, err := apitable.Parse(apitable.Format(api, operations, b))
	if err != nil {
		t.Fatal(err)
	}
	root := got.Root()
	if diff := cmp.Diff([]string{"orders", "ping"}, root.Names()); diff != "" {
		t.Error(diff)
	}
	lines := root.Resources["orders"].Resources["lines"]
	if lines.Name != "acme.orders.lines" || lines.Operations["update"] == nil {
		t.Errorf("got %+v", lines)
	}
}

func TestParseErrors(t *testing.T) {
	op := func(line string) string { return head + "op " + line + "\n\nobject\n" }
	for _, tt := range []struct{ text, want string }{
		{"", "this is no table"},
		{"thence-api 2\n", "must begin with \"thence-api 1\""},
		{"thence-api 1\nname A\n", `the name "A" of the API`},
		{"thence-api 1\nname acme\nurl file:///etc/passwd\n", "the URL \"file:///etc/passwd\" of the API can't be used"},
		{"thence-api 1\nname acme\nurl https://u:p@x\n", "can't be used"},
		{head + "colour red\n", `line 4: the word "colour" has no meaning here`},
		{head + "auth X-Key\n", "line 4: want auth HEADER SECRET [PREFIX]"},
		{head + "auth X-Key k %zz\n", "line 4: invalid URL escape"},
		{op("a.b GET"), "want op NAME METHOD"},
		{op("a.b GET /a s query x"), `the type "x" is no number`},
		{op("a.b TRACE /a s query 0"), `there are no requests "TRACE"`},
		{op("a.b GET .evil.com s query 0"), `".evil.com" is no path`},
		{op("a.b GET /a?b s query 0"), "is no path"},
		{op("a.B GET /a s query 0"), "operation a.B: its name must be words of a-z"},
		{op(strings.Repeat("a.", 10) + "a GET /a s query 0"), "at most 10 with dots between them"},
		{op("a.b GET /a S-1 query 0"), `scripts can't be called after "S-1"`},
		{op("a.b GET /a s soap 0"), `can't travel as "soap"`},
		{op("a.b GET /a s query 0 at:ftp://x"), "can't be used"},
		{op("a.b GET /a s query 0 quary:x"), `the word "quary:x" has no meaning here`},
		{op("a.b GET /a s query 0") + "op", ""},
		{head + "op a.b GET /a s query 0\nop a.b GET /b t query 0\n\nobject\n", "the operation a.b stands in the table twice"},
		{head + "op a.b GET /a s query 0\nop a.b.c GET /b t query 0\n\nobject\n", "acme.a.b is both an operation and a resource"},
	} {
		_, err := apitable.Parse(tt.text)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q\nends with %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

func TestTypeErrors(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"", "want a type"},
		{"strin", `there is no kind of type called "strin"`},
		{"string long", "invalid syntax"},
		{"string 5 6", "want 1 words after string, got 2"},
		{"int 5", "want 0 words after int, got 1"},
		{"array", "want 1 words after array, got 0"},
		{"array 1", `"1" is not the number of a type above this one`},
		{"map -1", "is not the number"},
		{"object a", `"" is not the number`},
		{"object a:7", `"7" is not the number`},
		{"union 0 x", `"x" is not the number`},
		{"enum %zz", "invalid URL escape"},
	} {
		a, err := apitable.Parse(head + "\nint\n" + tt.line + "\nint\n")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Type(1); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "line 6") {
			t.Errorf("%q ends with %v, want %s at line 6", tt.line, err, tt.want)
		}
	}
	a, err := apitable.Parse(head + "\nint\nunion 0 0\nunion 1 0\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Type(2); err == nil || !strings.Contains(err.Error(), "type 1 is a union too") {
		t.Errorf("a union of unions ends with %v", err)
	}
	a, err = apitable.Parse(head)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{-1, 0} {
		if _, err := a.Type(n); err == nil {
			t.Errorf("there is a type %d in a table without types", n)
		}
	}
}

// FuzzParse looks for texts that can't be read without a panic, and tables that are not the same when they are read again.
func FuzzParse(f *testing.F) {
	api, operations, b := built()
	f.Add(apitable.Format(api, operations, b))
	f.Add(head + "op a.b GET /a/{id} s query 1\n\nstring 4\nobject a!:0 *:0\nunion 0 1\nenum % %20")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := apitable.Parse(text)
		if err != nil {
			return
		}
		for n := range a.Types() {
			if typ, err := a.Type(n); err == nil && typ.Kind == apitable.Array && typ.Elem >= n {
				t.Errorf("type %d contains a type below it", n)
			}
		}
		for _, op := range a.Operations() {
			if op.PathParams(); op.Method == "" || !strings.HasPrefix(op.Path, "/") {
				t.Errorf("got %+v", op)
			}
		}
	})
}
