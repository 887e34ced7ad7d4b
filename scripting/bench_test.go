package scripting_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/d5/tengo/v2"
	"github.com/d5/tengo/v2/stdlib"

	"github.com/thence-dev/thence/scripting"
)

const tenLines = `total := 0
names := []
for i := 0; i < 5; i++ {
	total += i * 2
	names = append(names, "n" + i)
}
order := {total: total, count: len(names), open: true}
if order.total > 10 && order.open {
	order.state = "large"
}
`

const twentyLines = `text := import("text")
items := data.items
total := 0
by_kind := {}
for item in items {
	total += item.price * item.quantity
	kind := text.to_lower(item.kind)
	if is_undefined(by_kind[kind]) {
		by_kind[kind] = 0
	}
	by_kind[kind] += item.quantity
}
largest := ""
for kind, n in by_kind {
	if largest == "" || n > by_kind[largest] {
		largest = kind
	}
}
summary := {total: total, count: len(items), largest: largest}
print(summary)
`

func payload() []byte {
	var items []string
	for i := range 21 {
		items = append(items, fmt.Sprintf(`{"id":"item_%04d","kind":%q,"price":%d,"quantity":%d,"note":"about item number %d"}`,
			i, []string{"Book", "Pen", "Lamp"}[i%3], 100+i, i%4+1, i))
	}
	return []byte(`{"customer":"cus_42","items":[` + strings.Join(items, ",") + `]}`)
}

func benchmarkRun(b *testing.B, source string, data []byte) {
	e := scripting.NewEngine(nil)
	in := scripting.Input{Script: scripting.Script{Source: source}, Job: scripting.Job{ID: "j", Sequence: 1, Data: data}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Run(context.Background(), in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRunTenLines(b *testing.B) { benchmarkRun(b, tenLines, nil) }

func BenchmarkRunTwentyLinesTwoKB(b *testing.B) { benchmarkRun(b, twentyLines, payload()) }

// stripeLines asks for one call of an operation that has been there from the start.
const stripeLines = `stripe := import("stripe")
stripe.payment_intents.create({amount: 2000, currency: "usd", customer: "cus_42", automatic_payment_methods: {enabled: true},
	metadata: {order: "6735"}}, {then: "", catch: ""})
`

func BenchmarkRunStripe(b *testing.B) { benchmarkRun(b, stripeLines, nil) }

// BenchmarkTengoTenLines is the same script by Tengo's own means, for comparison.
func BenchmarkTengoTenLines(b *testing.B) {
	compiled, err := tengo.NewScript([]byte(tenLines)).Compile()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := compiled.Clone().Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTengoTwentyLinesTwoKB decodes the data in the script, as it would have to.
func BenchmarkTengoTwentyLinesTwoKB(b *testing.B) {
	s := tengo.NewScript([]byte("json := import(\"json\")\ndata := json.decode(raw)\n" +
		strings.Replace(twentyLines, "print(summary)", "out := json.encode(summary)", 1)))
	s.SetImports(stdlib.GetModuleMap("json", "text"))
	if err := s.Add("raw", payload()); err != nil {
		b.Fatal(err)
	}
	compiled, err := s.Compile()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := compiled.Clone().Run(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileTwentyLines(b *testing.B) {
	e := scripting.NewEngine(nil)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := e.Check(scripting.Script{Source: fmt.Sprintf("%s// %d", twentyLines, i)}); err != nil {
			b.Fatal(err)
		}
	}
}
