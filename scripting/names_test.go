package scripting_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/thence-dev/thence/flows"
	"github.com/thence-dev/thence/scripting"
)

// TestCheckNames has a source a case, and the places where it names a script that is not there.
func TestCheckNames(t *testing.T) {
	const apis = "http := import(\"http\")\nstripe := import(\"stripe\")\nflow := import(\"flow\")\nacme := import(\"acme\")\nplain := import(\"plain\")\n"
	for _, c := range []struct {
		source string
		want   string // "line:column option name", one after the other
	}{
		{`http.get("https://x.example", {then: "known", catch: ""})`, ""},
		{`http.get("https://x.example", {then: "gone", catch: "main"})`, `6:38 then gone`},
		{"http.post(\"https://x.example\", {\n\tjson: {then: \"no name\"},\n\tcatch: \"gone\",\n\tthen: \"lost\"})", `8:9 catch gone 9:8 then lost`},
		{`stripe.customers.create({email: "x", then: "a parameter"})`, ""},
		{`stripe.customers.create({email: "x"}, {then: "gone"})`, `6:46 then gone`},
		{`stripe.customers.retrieve("cus_1", {}, {catch: "gone"})`, `6:48 catch gone`},
		{`import("stripe").customers.create({}, {then: "gone"})`, `6:46 then gone`},
		{`acme.orders.create({}, {then: "gone"})`, `6:31 then gone`},
		{`plain.run({}, {then: "not checked: no API"})`, ""},
		{`flow.dispatch({script: "gone"})`, `6:24 script gone`},
		{`flow.dispatch({script: "known", context: "a"})`, ""},
		{`flow.dispatch({script: "elsewhere", pool: "other"})`, ""},
		{`flow.dispatch({script: "elsewhere", worker: "other"})`, ""},
		{`name := "gone"; http.get("https://x.example", {then: name})`, ""},
		{`f := func(http) { http.get("", {then: "another http"}) }`, ""},
		{`f := func() { for x in [1] { if x > 0 { return http.get("", {then: "gone"}) } } }`, `6:68 then gone`},
		{`x := [{a: true ? http.get("", {catch: "gone"}) : 0}]`, `6:39 catch gone`},
	} {
		lib := libraryOf(t, map[string]string{"main": apis + c.source, "known": "", "plain": "export {run: func(a, b) {}}",
			"acme": "export import(\"openapi\").define(``)"})
		if got := namesOf(t, lib.CheckNames()); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.source, got, c.want)
		}
	}
}

// namesOf is what an error of CheckNames says, in the form of the cases.
func namesOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var all []string
	for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
		var e *scripting.Error
		if !errors.As(err, &e) || e.Kind != scripting.KindUnknownScript || e.Script != "main" {
			t.Fatalf("an error of another kind: %v", err)
		}
		words := strings.Fields(e.Message)
		all = append(all, fmt.Sprintf("%d:%d %s %s", e.Line, e.Column, strings.TrimSuffix(words[1], ":"), strings.Trim(words[6], `";`)))
	}
	return strings.Join(all, " ")
}

func TestCheckNamesOfOneScript(t *testing.T) {
	engine := scripting.NewEngine(libraryOf(t, map[string]string{"on_paid": ""}))
	s := scripting.Script{Name: "main", Source: `import("http").get("https://x.example", {then: "on_pad", catch: "sibling"})`}
	err := engine.CheckNames(s, "sibling")
	want := "main:1:48: option then: there is no script \"on_pad\" in the library; did you mean \"on_paid\"?"
	if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "sibling\" in") {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestShippedScriptsNameEachOther(t *testing.T) {
	lib, err := scripting.NewLibrary(flows.FS)
	if err != nil {
		t.Fatal(err)
	}
	if err := lib.CheckNames(); err != nil {
		t.Error(err)
	}
}
