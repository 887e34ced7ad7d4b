package flows_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/thence-dev/thence/flows"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/thencetest"
)

var update = flag.Bool("update", false, "write the table of scripts in README.md again")

var (
	library = must(scripting.NewLibrary(flows.FS))
	engine  = scripting.NewEngine(library)
	ran     = map[string]bool{}
)

func must(l *scripting.Library, err error) *scripting.Library {
	if err != nil {
		panic(err)
	}
	return l
}

// job is what a test feeds to a script.
type job struct {
	script, data, failure, tag, state, operation string
}

func run(t *testing.T, j job) *scripting.Outcome {
	t.Helper()
	ran[j.script] = true
	out, err := engine.Run(t.Context(), scripting.Input{
		Script: scripting.Script{Name: j.script},
		Job: scripting.Job{ID: "job_1", Sequence: 7, Worker: "payments", Context: "cus_42", Caller: "stripe",
			Time: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), Data: []byte(j.data), Failure: []byte(j.failure), Tag: []byte(j.tag),
			Operation: j.operation},
		State: []byte(j.state),
	})
	if err != nil {
		t.Fatalf("%s: %v", j.script, err)
	}
	return out
}

func wantState(t *testing.T, out *scripting.Outcome, want string) {
	t.Helper()
	if diff := cmp.Diff(want, string(out.State)); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

func TestAnswersAreStored(t *testing.T) {
	customer := `{"id":"cus_1","object":"customer"}`
	intent := func(status string) string { return fmt.Sprintf(`{"id":"pi_1","status":%q}`, status) }
	subscription := func(status string) string { return fmt.Sprintf(`{"id":"sub_1","status":%q}`, status) }
	refund := func(status string) string { return fmt.Sprintf(`{"id":"re_1","status":%q}`, status) }
	page := `{"object":"list","data":[{"id":"a_1"},{"id":"a_2"}],"has_more":true}`
	failed := `{"last_error":{"kind":"api"}}`

	tests := []struct{ script, data, state, want string }{
		{"new_create_customer_response", customer, failed, `{"customer_id":"cus_1"}`},
		{"new_retrieve_customer_response", customer, "", `{"customer_id":"cus_1"}`},
		{"new_retrieve_customer_response", `{"id":"cus_1","deleted":true}`, `{"customer_id":"cus_1"}`, `{}`},
		{"new_update_customer_response", customer, "", `{"customer_id":"cus_1"}`},
		{"new_delete_customer_response", `{"id":"cus_1","deleted":true}`, `{"a":1.0,"customer_id":"cus_1"}`, `{"a":1.0}`},
		{"new_list_customers_response", page, "", `{"customers":["a_1","a_2"],"customers_more":true}`},

		{"new_create_payment_intent_response", intent("requires_payment_method"), failed,
			`{"last_error":{"kind":"api"},"payment_intent_id":"pi_1","payment_intent_next":"ask for another way to pay","payment_intent_status":"requires_payment_method"}`},
		{"new_create_payment_intent_response", intent("succeeded"), failed,
			`{"payment_intent_id":"pi_1","payment_intent_next":"nothing: the payment is made","payment_intent_status":"succeeded"}`},
		{"new_retrieve_payment_intent_response", intent("processing"), "",
			`{"payment_intent_id":"pi_1","payment_intent_next":"wait for the bank","payment_intent_status":"processing"}`},
		{"new_update_payment_intent_response", intent("requires_confirmation"), "",
			`{"payment_intent_id":"pi_1","payment_intent_next":"confirm the payment","payment_intent_status":"requires_confirmation"}`},
		{"new_confirm_payment_intent_response", intent("requires_action"), "",
			`{"payment_intent_id":"pi_1","payment_intent_next":"have the customer authenticate","payment_intent_status":"requires_action"}`},
		{"new_confirm_payment_intent_response", intent("requires_capture"), failed,
			`{"payment_intent_id":"pi_1","payment_intent_next":"capture the money","payment_intent_status":"requires_capture"}`},
		{"new_cancel_payment_intent_response", intent("canceled"), "",
			`{"payment_intent_id":"pi_1","payment_intent_next":"nothing: the payment is cancelled","payment_intent_status":"canceled"}`},
		{"new_capture_payment_intent_response", intent("succeeded"), "",
			`{"payment_intent_id":"pi_1","payment_intent_next":"nothing: the payment is made","payment_intent_status":"succeeded"}`},
		{"new_capture_payment_intent_response", intent("a_new_one"), "",
			`{"payment_intent_id":"pi_1","payment_intent_next":null,"payment_intent_status":"a_new_one"}`},
		{"new_list_payment_intents_response", page, "", `{"payment_intents":["a_1","a_2"],"payment_intents_more":true}`},

		{"new_create_subscription_response", subscription("active"), failed,
			`{"subscription_id":"sub_1","subscription_next":"nothing: the subscription runs","subscription_status":"active"}`},
		{"new_retrieve_subscription_response", subscription("past_due"), failed,
			`{"last_error":{"kind":"api"},"subscription_id":"sub_1","subscription_next":"have the last invoice paid","subscription_status":"past_due"}`},
		{"new_update_subscription_response", subscription("trialing"), "",
			`{"subscription_id":"sub_1","subscription_next":"nothing until the trial ends","subscription_status":"trialing"}`},
		{"new_cancel_subscription_response", subscription("canceled"), "",
			`{"subscription_id":"sub_1","subscription_next":"nothing: the subscription has ended","subscription_status":"canceled"}`},
		{"new_create_product_response", `{"id":"prod_1","active":true}`, failed, `{"product_active":true,"product_id":"prod_1"}`},
		{"new_retrieve_product_response", `{"id":"prod_1","deleted":true}`, `{"product_active":true,"product_id":"prod_1"}`, `{}`},
		{"new_update_product_response", `{"id":"prod_1","active":false}`, "", `{"product_active":false,"product_id":"prod_1"}`},
		{"new_delete_product_response", `{"id":"prod_1","deleted":true}`, `{"n":1,"product_active":true,"product_id":"prod_1"}`, `{"n":1}`},
		{"new_list_products_response", page, "", `{"products":["a_1","a_2"],"products_more":true}`},

		{"new_create_price_response", `{"id":"price_1","active":true}`, failed, `{"price_active":true,"price_id":"price_1"}`},
		{"new_retrieve_price_response", `{"id":"price_1","active":true}`, "", `{"price_active":true,"price_id":"price_1"}`},
		{"new_update_price_response", `{"id":"price_1","active":false}`, "", `{"price_active":false,"price_id":"price_1"}`},
		{"new_list_prices_response", page, "", `{"prices":["a_1","a_2"],"prices_more":true}`},

		{"new_create_coupon_response", `{"id":"HALF","valid":true}`, failed, `{"coupon_id":"HALF","coupon_valid":true}`},
		{"new_retrieve_coupon_response", `{"id":"HALF","valid":false}`, "", `{"coupon_id":"HALF","coupon_valid":false}`},
		{"new_update_coupon_response", `{"id":"HALF","valid":true}`, "", `{"coupon_id":"HALF","coupon_valid":true}`},
		{"new_delete_coupon_response", `{"id":"HALF","deleted":true}`, `{"coupon_id":"HALF","coupon_valid":true}`, `{}`},
		{"new_list_coupons_response", page, "", `{"coupons":["a_1","a_2"],"coupons_more":true}`},

		{"new_create_refund_response", refund("succeeded"), failed,
			`{"refund_id":"re_1","refund_next":"nothing: the money is on its way back","refund_status":"succeeded"}`},
		{"new_retrieve_refund_response", refund("failed"), failed,
			`{"last_error":{"kind":"api"},"refund_id":"re_1","refund_next":"give the money back by another way","refund_status":"failed"}`},
		{"new_update_refund_response", refund("pending"), "",
			`{"refund_id":"re_1","refund_next":"wait for the bank","refund_status":"pending"}`},
		{"new_cancel_refund_response", refund("canceled"), "",
			`{"refund_id":"re_1","refund_next":"nothing: the refund is cancelled","refund_status":"canceled"}`},
		{"new_cancel_refund_response", refund("requires_action"), "",
			`{"refund_id":"re_1","refund_next":"have the customer say where the money goes","refund_status":"requires_action"}`},
		{"new_list_refunds_response", page, "", `{"refunds":["a_1","a_2"],"refunds_more":true}`},

		{"new_list_subscriptions_response", `{"data":[],"has_more":false}`, "", `{"subscriptions":[],"subscriptions_more":false}`},
	}
	for _, tt := range tests {
		t.Run(tt.script, func(t *testing.T) {
			wantState(t, run(t, job{script: tt.script, data: tt.data, state: tt.state}), tt.want)
		})
	}
}

// TestOtherAnswersAreStored is about operations that have no script of their own.
func TestOtherAnswersAreStored(t *testing.T) {
	tests := []struct{ operation, data, state, want string }{
		{"create_invoice", `{"object":"invoice","id":"in_1","status":"draft"}`, `{"last_error":{"kind":"api"}}`,
			`{"invoice_id":"in_1","invoice_status":"draft"}`},
		{"create_charge_refund", `{"object":"refund","id":"re_1","status":"succeeded"}`, "",
			`{"refund_id":"re_1","refund_next":"nothing: the money is on its way back","refund_status":"succeeded"}`},
		{"create_checkout_session", `{"object":"checkout.session","id":"cs_1","status":null}`, "", `{"checkout_session_id":"cs_1"}`},
		{"delete_invoice", `{"object":"invoice","id":"in_1","deleted":true}`, `{"invoice_id":"in_1","invoice_status":"draft","n":1}`, `{"n":1}`},
		{"list_invoices", `{"object":"list","data":[{"id":"in_1"},{"id":"in_2"}],"has_more":true}`, "",
			`{"invoices":["in_1","in_2"],"invoices_more":true}`},
		{"search_customers", `{"object":"search_result","data":[{"id":"cus_1"}]}`, "", `{"customers":["cus_1"],"customers_more":false}`},
		{"increment_payment_intent_authorization", `{"object":"payment_intent","id":"pi_1","status":"requires_capture"}`, "",
			`{"payment_intent_id":"pi_1","payment_intent_next":"capture the money","payment_intent_status":"requires_capture"}`},
		{"retrieve_balance", `{"object":"balance","available":[]}`, `{"n":1}`, `{"n":1}`},
		{"pdf_quote", `"%PDF-1.7"`, `{"n":1}`, `{"n":1}`},
	}
	for _, tt := range tests {
		t.Run(tt.operation, func(t *testing.T) {
			wantState(t, run(t, job{script: "new_stripe_response", operation: tt.operation, data: tt.data, state: tt.state}), tt.want)
		})
	}
}

// TestScriptsForAllOfStripe calls an operation that has no script of its own.
func TestScriptsForAllOfStripe(t *testing.T) {
	out, err := engine.Run(t.Context(), scripting.Input{Script: scripting.Script{
		Source: `import("stripe").invoices.create({customer: "cus_1"})`}})
	if err != nil {
		t.Fatal(err)
	}
	if c := onlyCall(t, out); c.Operation != "create_invoice" || c.Then != "new_stripe_response" || c.Catch != "new_stripe_error" {
		t.Errorf("got %+v", c)
	}
	if out := run(t, job{script: "new_stripe_error", operation: "create_invoice", failure: missing}); !strings.Contains(string(out.State), `"operation":"create_invoice"`) {
		t.Errorf("got %s", out.State)
	}
}

const (
	declined = `{"type":"card_error","code":"card_declined","message":"Your card was declined.","status":402,"attempts":1,` +
		`"body":"{\"error\":{\"type\":\"card_error\",\"code\":\"card_declined\",\"decline_code\":\"insufficient_funds\",` +
		`\"message\":\"Your card was declined.\",\"payment_intent\":{\"id\":\"pi_1\",\"status\":\"requires_payment_method\"}}}"}`
	missing = `{"type":"invalid_request_error","code":"resource_missing","message":"No such customer","status":404,"attempts":1,` +
		`"body":"{\"error\":{\"type\":\"invalid_request_error\",\"code\":\"resource_missing\",\"message\":\"No such customer\"}}"}`
)

func TestFailuresAreStored(t *testing.T) {
	for _, name := range library.Names() {
		if !strings.HasPrefix(name, "new_") || !strings.HasSuffix(name, "_error") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			out := run(t, job{script: name, failure: missing, state: `{"coupon_id":"HALF","customer_id":"cus_1","product_id":"prod_1"}`})
			var state struct {
				LastError struct{ Operation, Kind, Code, Message string } `json:"last_error"`
				Customer  string                                          `json:"customer_id"`
				Coupon    string                                          `json:"coupon_id"`
				Product   string                                          `json:"product_id"`
			}
			if err := json.Unmarshal(out.State, &state); err != nil {
				t.Fatal(err)
			}
			if got := "new_" + state.LastError.Operation + "_error"; got != name {
				t.Errorf("operation is that of %s", got)
			}
			if state.LastError.Kind != "invalid" || state.LastError.Code != "resource_missing" {
				t.Errorf("last_error = %+v", state.LastError)
			}
			for what, id := range map[string]string{"customer": state.Customer, "coupon": state.Coupon, "product": state.Product} {
				if gone := name == "new_delete_"+what+"_error"; gone != (id == "") {
					t.Errorf("%s_id = %q", what, id)
				}
			}
		})
	}
}

func TestFailuresAreToldApart(t *testing.T) {
	stripes := func(status int, typ, code string) string {
		body := fmt.Sprintf(`{"error":{"type":%q,"code":%q,"message":"m"}}`, typ, code)
		return fmt.Sprintf(`{"type":%q,"code":%q,"message":"m","status":%d,"attempts":1,"body":%q}`, typ, code, status, body)
	}
	tests := []struct{ failure, kind string }{
		{declined, "card"},
		{stripes(429, "invalid_request_error", "rate_limit"), "rate_limit"},
		{stripes(429, "invalid_request_error", ""), "rate_limit"},
		{stripes(400, "invalid_request_error", "lock_timeout"), "rate_limit"},
		{stripes(400, "invalid_request_error", "parameter_missing"), "invalid"},
		{stripes(401, "invalid_request_error", ""), "authentication"},
		{stripes(400, "idempotency_error", ""), "idempotency"},
		{stripes(500, "api_error", ""), "api"},
		{`{"type":"http_error","message":"the API answered 503","status":503,"attempts":8,"body":"<html>"}`, "api"},
		{`{"type":"timeout","message":"no answer","status":0,"attempts":8,"body":""}`, "network"},
		{`{"type":"outcome_unknown","message":"?","status":0,"attempts":1}`, "unknown"},
		{`{"type":"rejected","message":"secret stripe_key is not set","status":0,"attempts":1}`, "setup"},
		{`{"type":"script_error","message":"checkout_paid:3:1: division by zero","status":200,"attempts":1,"body":"{}"}`, "script"},
		{`{"type":"http_error","status":503,"body":{"error":{"code":"lock_timeout"}}}`, "rate_limit"},
		{``, "network"},
	}
	for _, tt := range tests {
		out := run(t, job{script: "new_create_payment_intent_error", failure: tt.failure})
		var state struct {
			LastError struct{ Kind string } `json:"last_error"`
		}
		if err := json.Unmarshal(out.State, &state); err != nil {
			t.Fatal(err)
		}
		if state.LastError.Kind != tt.kind {
			t.Errorf("kind %q, want %q, of %s", state.LastError.Kind, tt.kind, tt.failure)
		}
		if out.Output == "" {
			t.Errorf("nothing logged for %s", tt.failure)
		}
	}
}

func TestDeclinedCardStoresPaymentIntent(t *testing.T) {
	out := run(t, job{script: "new_confirm_payment_intent_error", failure: declined})
	wantState(t, out, `{"last_error":{"code":"card_declined","decline_code":"insufficient_funds","kind":"card",`+
		`"message":"Your card was declined.","operation":"confirm_payment_intent","status":402,"time":"2026-05-01T12:00:00Z",`+
		`"type":"card_error"},"payment_intent_id":"pi_1","payment_intent_next":"ask for another way to pay",`+
		`"payment_intent_status":"requires_payment_method"}`)
	if want := "confirm_payment_intent: the card was declined (insufficient_funds): Your card was declined."; !strings.Contains(out.Output, want) {
		t.Errorf("output %q lacks %q", out.Output, want)
	}
}

// order is the state of a checkout in hand.
func order(status string) string {
	return `"checkout":{"amount":2000,"currency":"usd","payment_method":"pm_card_visa","price":"price_monthly","status":"` + status + `"}`
}

func onlyCall(t *testing.T, out *scripting.Outcome) *scripting.Call {
	t.Helper()
	if len(out.Effects) != 1 || out.Effects[0].Call == nil {
		t.Fatalf("want one call, got %+v", out.Effects)
	}
	return out.Effects[0].Call
}

func wantCall(t *testing.T, calls []scripting.Call, url, body, then string) {
	t.Helper()
	if len(calls) != 1 {
		t.Fatalf("want one call, got %+v", calls)
	}
	if c := calls[0]; c.URL != url || string(c.Body) != body || c.Then != then || c.Catch != "checkout_failed" {
		t.Errorf("call %s %s %s then %s catch %s\nwant POST %s %s then %s", c.Method, c.URL, c.Body, c.Then, c.Catch, url, body, then)
	}
}

func wantResult(t *testing.T, out *scripting.Outcome, want string) {
	t.Helper()
	if string(out.Result) != want {
		t.Errorf("result %s, want %s", out.Result, want)
	}
}

// TestCheckout follows a checkout from script to script.
func TestCheckout(t *testing.T) {
	const stripe = "https://api.stripe.com/v1/"
	ran["checkout_customer_created"] = true
	out := thencetest.Run(t, thencetest.Job{Script: "checkout", Data: thencetest.JSON(
		`{"email":"ada@example.com","amount":2000,"currency":"usd","price":"price_monthly","payment_method":"pm_card_visa"}`)})
	wantCall(t, out.Calls, stripe+"customers", "email=ada%40example.com", "checkout_customer_created")
	out.WantState(`{` + order("started") + `}`)
	out.WantResult(`{"status":"started"}`)

	out = out.Answer(0, `{"id":"cus_1"}`)
	wantCall(t, out.Calls, stripe+"payment_intents", "amount=2000&automatic_payment_methods[allow_redirects]=never&"+
		"automatic_payment_methods[enabled]=true&confirm=true&currency=usd&customer=cus_1&payment_method=pm_card_visa", "checkout_paid")
	out.WantState(`{` + order("paying") + `,"customer_id":"cus_1"}`)

	out = out.Answer(0, `{"id":"pi_1","status":"succeeded"}`)
	wantCall(t, out.Calls, stripe+"subscriptions", "customer=cus_1&default_payment_method=pm_card_visa&items[0][price]=price_monthly",
		"checkout_subscribed")
	out.WantResult(`{"payment_intent":"pi_1","status":"paid"}`)

	out = out.Answer(0, `{"id":"sub_1","status":"active"}`)
	out.WantState(`{` + order("completed") + `,"customer_id":"cus_1","payment_intent_id":"pi_1",` +
		`"payment_intent_next":"nothing: the payment is made","payment_intent_status":"succeeded","subscription_id":"sub_1",` +
		`"subscription_next":"nothing: the subscription runs","subscription_status":"active"}`)
	out.WantResult(`{"customer":"cus_1","payment_intent":"pi_1","status":"completed","subscription":"sub_1","subscription_status":"active"}`)
	if len(out.Calls)+len(out.Jobs) != 0 {
		t.Errorf("the last script asks for %+v and %+v", out.Calls, out.Jobs)
	}
}

func TestCheckoutOfKnownCustomer(t *testing.T) {
	out := run(t, job{script: "checkout", data: `{"customer":"cus_9","amount":500,"currency":"eur","price":"price_1"}`})
	wantCall(t, []scripting.Call{*onlyCall(t, out)}, "https://api.stripe.com/v1/payment_intents", "amount=500&currency=eur&customer=cus_9", "checkout_paid")
	if got := string(onlyCall(t, out).Tag); got != `{"step":"create_payment_intent"}` {
		t.Errorf("tag %s", got)
	}
}

func TestCheckoutRefusesIncompleteData(t *testing.T) {
	for _, data := range []string{``, `{}`, `{"amount":0,"currency":"usd"}`} {
		out := run(t, job{script: "checkout", data: data})
		if !strings.Contains(string(out.Result), `"status":"refused"`) || len(out.Effects) != 0 {
			t.Errorf("data %s: result %s, effects %v", data, out.Result, out.Effects)
		}
	}
}

func TestCheckoutBranchesOnPayment(t *testing.T) {
	state := `{` + order("paying") + `,"customer_id":"cus_1"}`
	tests := []struct{ status, call, result string }{
		{"requires_capture", "subscriptions", `{"payment_intent":"pi_1","status":"paid"}`},
		{"requires_confirmation", "payment_intents/pi_1/confirm", `{"payment_intent":"pi_1","status":"confirming"}`},
		{"canceled", "", `{"payment_intent":"pi_1","status":"cancelled"}`},
		{"requires_action", "", `{"next":"have the customer authenticate","payment_intent":"pi_1","payment_status":"requires_action","status":"waiting"}`},
		{"processing", "", `{"next":"wait for the bank","payment_intent":"pi_1","payment_status":"processing","status":"waiting"}`},
	}
	for _, tt := range tests {
		out := run(t, job{script: "checkout_paid", data: `{"id":"pi_1","status":"` + tt.status + `"}`, state: state})
		wantResult(t, out, tt.result)
		if tt.call == "" && len(out.Effects) != 0 {
			t.Errorf("%s: asks for %+v", tt.status, out.Effects)
		}
		if tt.call != "" && onlyCall(t, out).URL != "https://api.stripe.com/v1/"+tt.call {
			t.Errorf("%s: calls %s", tt.status, onlyCall(t, out).URL)
		}
	}
	out := run(t, job{script: "checkout_subscribed", data: `{"id":"sub_1","status":"incomplete"}`, state: state})
	if !strings.Contains(string(out.Result), `"status":"waiting"`) {
		t.Errorf("result of an incomplete subscription: %s", out.Result)
	}
}

func TestCheckoutFails(t *testing.T) {
	state := `{` + order("paying") + `,"customer_id":"cus_1"}`
	out := run(t, job{script: "checkout_failed", failure: declined, tag: `{"step":"create_payment_intent"}`, state: state})
	wantResult(t, out, `{"kind":"card","message":"Your card was declined.","status":"declined","step":"create_payment_intent"}`)
	out = run(t, job{script: "checkout_failed", failure: missing, tag: `{"step":"create_subscription"}`, state: state})
	wantResult(t, out, `{"kind":"invalid","message":"No such customer","status":"failed","step":"create_subscription"}`)
}

// TestBuilders runs the chains of README.md: they ask for what the maps ask for.
func TestBuilders(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```tengo\n")
	source, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("README.md has no block of tengo")
	}
	out, err := engine.Run(t.Context(), scripting.Input{Script: scripting.Script{Source: source}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range out.Effects {
		got = append(got, strings.Join([]string{e.Call.Operation, string(e.Call.Body), e.Call.Then, e.Call.Catch}, " "))
	}
	want := []string{
		"create_payment_intent amount=2000&currency=usd&customer=cus_123 new_create_payment_intent_response new_create_payment_intent_error",
		"create_subscription customer=cus_123&items[0][price]=price_monthly checkout_subscribed checkout_failed",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// imported are the scripts that others import.
var imported = []string{"checkout_pay", "checkout_status", "stripe_answer", "stripe_coupon", "stripe_customer", "stripe_failure",
	"stripe_page", "stripe_payment_intent", "stripe_price", "stripe_product", "stripe_refund", "stripe_subscription"}

func TestImportedScriptsRunAlone(t *testing.T) {
	for _, name := range imported {
		if out := run(t, job{script: name}); len(out.Effects) > 0 || string(out.State) != "{}" {
			t.Errorf("%s does something when run alone", name)
		}
	}
}

// TestEveryScript comes last in the file: it knows what the other tests have run.
func TestEveryScript(t *testing.T) {
	header := regexp.MustCompile(`^(Runs when |Imported by |[A-Z].* Stores )`)
	var table strings.Builder
	table.WriteString("| script | |\n|---|---|\n")
	for _, name := range shipped(t) {
		comment := topComment(t, name)
		if !header.MatchString(comment) {
			t.Errorf("%s: its comment does not say when it runs and what it stores", name)
		}
		if !ran[name] && !testing.Short() && allRan() {
			t.Errorf("%s: no test runs it", name)
		}
		if slices.Contains(imported, name) != strings.HasPrefix(comment, "Imported by ") {
			t.Errorf("%s: its comment and the test's list of imported scripts differ", name)
		}
		fmt.Fprintf(&table, "| `%s` | %s |\n", name, strings.ReplaceAll(comment, "<", "&lt;"))
	}
	checkTable(t, table.String())
}

// shipped are the names of all scripts, in order.
func shipped(t *testing.T) []string {
	t.Helper()
	files, err := fs.Glob(flows.FS, "*.tengo")
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = strings.TrimSuffix(file, ".tengo")
	}
	return names
}

// topComment is the comment at a script's top, in one line.
func topComment(t *testing.T, name string) string {
	t.Helper()
	source, ok := library.Source(name)
	if !ok {
		t.Fatalf("the library has no %s", name)
	}
	var words []string
	for line := range strings.Lines(source) {
		text, isComment := strings.CutPrefix(line, "//")
		if !isComment {
			break
		}
		words = append(words, strings.Fields(text)...)
	}
	return strings.Join(words, " ")
}

// checkTable compares README.md's list of scripts, or with -update writes it.
func checkTable(t *testing.T, want string) {
	t.Helper()
	const page, begin, end = "README.md", "<!-- scripts -->\n", "<!-- end of scripts -->"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, hasBegin := strings.Cut(string(text), begin)
	got, after, hasEnd := strings.Cut(rest, end)
	if !hasBegin || !hasEnd {
		t.Fatalf("%s has no table of scripts between %q and %q", page, begin, end)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the scripts of %s (-want +got); write it again by go test ./flows -update\n%s", page, diff)
	}
}

// allRan tells whether all tests ran, and not a choice of them.
func allRan() bool {
	return ran["checkout"] && ran["stripe_page"] && ran["checkout_failed"] && ran["new_list_customers_error"]
}
