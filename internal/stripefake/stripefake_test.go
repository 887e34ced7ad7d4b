package stripefake_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/stripefake"
)

// rig is a Server behind a real listener, and a client of it.
type rig struct {
	*stripefake.Server
	t   *testing.T
	url string
}

func newRig(t *testing.T, o stripefake.Options) *rig {
	t.Helper()
	fake := stripefake.New(o)
	web := httptest.NewServer(fake)
	t.Cleanup(web.Close)
	t.Cleanup(fake.Close)
	return &rig{Server: fake, t: t, url: web.URL}
}

// reply is an answer with its body read and decoded.
type reply struct {
	status int
	header http.Header
	body   map[string]any
}

func (r reply) fault(member string) any {
	e, _ := r.body["error"].(map[string]any)
	return e[member]
}

// try sends a form and returns what net/http says.
func (r *rig) try(ctx context.Context, method, path, form, key string) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(form))
	if err != nil {
		return reply{}, err
	}
	request.Header.Set("Authorization", "Bearer sk_test_1")
	if form != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	return read(request)
}

func read(request *http.Request) (reply, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return reply{status: response.StatusCode}, err
	}
	got := reply{status: response.StatusCode, header: response.Header}
	return got, json.Unmarshal(text, &got.body)
}

func (r *rig) send(method, path, form, key string) reply {
	r.t.Helper()
	got, err := r.try(r.t.Context(), method, path, form, key)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return got
}

func (r *rig) post(path, form string) reply { r.t.Helper(); return r.send("POST", path, form, "") }
func (r *rig) get(path string) reply        { r.t.Helper(); return r.send("GET", path, "", "") }

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// Example shows a test's use: one fault queued, one retry with the same key, one execution.
func Example() {
	fake := stripefake.New(stripefake.Options{})
	web := httptest.NewServer(fake)
	defer web.Close()
	defer fake.Close()
	fake.Fail(stripefake.Operation("create_customer"), stripefake.Unavailable())

	for range 2 {
		request, _ := http.NewRequest("POST", web.URL+"/v1/customers", strings.NewReader("name=Ada"))
		request.Header.Set("Authorization", "Bearer sk_test_1")
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Idempotency-Key", "job-1-0")
		got, err := read(request)
		fmt.Println(got.status, got.body["id"], err)
	}
	fmt.Println(len(fake.Requests()), "requests,", fake.Executed()["create_customer"], "execution")
	// Output:
	// 503 <nil> <nil>
	// 200 cus_0001 <nil>
	// 2 requests, 1 execution
}

func TestCustomers(t *testing.T) {
	r := newRig(t, stripefake.Options{Now: func() time.Time { return time.Unix(1700000000, 0) }})
	made := r.post("/v1/customers", "name=Ada&email=ada@example.com&metadata[a]=1&metadata[b]=2&address[city]=Ghent")
	equal(t, "status", made.status, 200)
	equal(t, "id", made.body["id"], any("cus_0001"))
	equal(t, "object", made.body["object"], any("customer"))
	equal(t, "created", made.body["created"], any(1.7e9))
	equal(t, "city", made.body["address"].(map[string]any)["city"], any("Ghent"))

	changed := r.post("/v1/customers/cus_0001", "name=Countess&metadata[a]=&metadata[c]=3&balance=-50")
	equal(t, "name", changed.body["name"], any("Countess"))
	equal(t, "email", changed.body["email"], any("ada@example.com"))
	equal(t, "balance", changed.body["balance"], any(-50.0))
	equal(t, "metadata", fmt.Sprint(changed.body["metadata"]), "map[b:2 c:3]")

	gone := r.send("DELETE", "/v1/customers/cus_0001", "", "")
	equal(t, "deleted", gone.body["deleted"], any(true))
	equal(t, "deleted when read", r.get("/v1/customers/cus_0001").body["deleted"], any(true))
	equal(t, "update of a deleted customer", r.post("/v1/customers/cus_0001", "name=x").status, 404)
}

func TestListCustomers(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	for i := range 12 {
		r.post("/v1/customers", fmt.Sprintf("email=c%d@example.com", i%2))
	}
	page := r.get("/v1/customers")
	equal(t, "object", page.body["object"], any("list"))
	equal(t, "page", len(page.body["data"].([]any)), 10)
	equal(t, "has_more", page.body["has_more"], any(true))

	rest := r.get("/v1/customers?starting_after=cus_0003")
	equal(t, "rest", len(rest.body["data"].([]any)), 2)
	equal(t, "has_more", rest.body["has_more"], any(false))
	equal(t, "filtered", len(r.get("/v1/customers?email=c1@example.com").body["data"].([]any)), 6)
	equal(t, "limit 0", r.get("/v1/customers?limit=0").status, 400)
}

func TestPaymentIntentStates(t *testing.T) {
	r := newRig(t, stripefake.Options{Customers: []string{"cus_42"}})
	made := r.post("/v1/payment_intents", "amount=2000&currency=USD&customer=cus_42&metadata[order]=7")
	equal(t, "status", made.body["status"], any("requires_payment_method"))
	equal(t, "amount", made.body["amount"], any(2000.0))
	equal(t, "currency", made.body["currency"], any("usd"))
	equal(t, "customer", made.body["customer"], any("cus_42"))

	updated := r.post("/v1/payment_intents/pi_0001", "amount=2500&payment_method=pm_card_visa")
	equal(t, "status", updated.body["status"], any("requires_confirmation"))
	confirmed := r.post("/v1/payment_intents/pi_0001/confirm", "")
	equal(t, "status", confirmed.body["status"], any("succeeded"))
	equal(t, "amount_received", confirmed.body["amount_received"], any(2500.0))
	equal(t, "metadata", fmt.Sprint(confirmed.body["metadata"]), "map[order:7]")

	cancelled := r.post("/v1/payment_intents/pi_0001/cancel", "")
	equal(t, "cancel of a succeeded one", cancelled.fault("code"), any("payment_intent_unexpected_state"))
	equal(t, "read", r.get("/v1/payment_intents/pi_0001").body["status"], any("succeeded"))
}

func TestPaymentIntentCaptureAndCancel(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	const form = "amount=2000&currency=usd&payment_method=pm_card_visa&confirm=true&capture_method=manual"
	equal(t, "status", r.post("/v1/payment_intents", form).body["status"], any("requires_capture"))
	equal(t, "too much", r.post("/v1/payment_intents/pi_0001/capture", "amount_to_capture=2001").status, 400)
	captured := r.post("/v1/payment_intents/pi_0001/capture", "amount_to_capture=1500")
	equal(t, "status", captured.body["status"], any("succeeded"))
	equal(t, "received", captured.body["amount_received"], any(1500.0))

	r.post("/v1/payment_intents", form)
	cancelled := r.post("/v1/payment_intents/pi_0002/cancel", "cancellation_reason=abandoned")
	equal(t, "status", cancelled.body["status"], any("canceled"))
	equal(t, "reason", cancelled.body["cancellation_reason"], any("abandoned"))
}

func TestDeclinedPaymentMethods(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	for method, want := range map[string]string{
		"pm_card_chargeDeclined":                      "card_declined generic_decline",
		"pm_card_visa_chargeDeclined":                 "card_declined generic_decline",
		"pm_card_visa_chargeDeclinedLostCard":         "card_declined lost_card",
		"pm_card_chargeDeclinedInsufficientFunds":     "card_declined insufficient_funds",
		"pm_card_chargeDeclinedExpiredCard":           "expired_card <nil>",
		"pm_card_visa_chargeDeclinedProcessingError":  "processing_error <nil>",
		"pm_card_visa_chargeDeclinedIncorrectCvc":     "incorrect_cvc <nil>",
		"pm_card_visa_chargeDeclinedFraudulent":       "card_declined fraudulent",
		"pm_card_visa_chargeDeclinedStolenCard":       "card_declined stolen_card",
		"pm_card_visa_chargeDeclinedSomethingUnheard": "card_declined generic_decline",
	} {
		got := r.post("/v1/payment_intents", "amount=1&currency=usd&confirm=true&payment_method="+method)
		equal(t, method, fmt.Sprint(got.fault("code"), " ", got.fault("decline_code")), want)
		equal(t, method, got.status, 402)
		equal(t, method, got.fault("type"), any("card_error"))
		intent, _ := got.fault("payment_intent").(map[string]any)
		equal(t, method, intent["status"], any("requires_payment_method"))
	}
	action := r.post("/v1/payment_intents", "amount=1&currency=usd&confirm=true&payment_method=pm_card_authenticationRequired")
	equal(t, "authentication", action.body["status"], any("requires_action"))
}

func TestSubscriptions(t *testing.T) {
	r := newRig(t, stripefake.Options{Customers: []string{"cus_42"}})
	made := r.post("/v1/subscriptions", "customer=cus_42&items[0][price]=price_monthly&items[1][price]=price_seat&items[1][quantity]=3")
	equal(t, "status", made.body["status"], any("active"))
	items := made.body["items"].(map[string]any)["data"].([]any)
	equal(t, "items", len(items), 2)
	seat := items[1].(map[string]any)
	equal(t, "quantity", seat["quantity"], any(3.0))
	equal(t, "price", seat["price"].(map[string]any)["id"], any("price_seat"))

	updated := r.post("/v1/subscriptions/sub_0001", "items[0][id]=si_0002&items[0][quantity]=5&cancel_at_period_end=true")
	seat = updated.body["items"].(map[string]any)["data"].([]any)[1].(map[string]any)
	equal(t, "quantity", seat["quantity"], any(5.0))
	equal(t, "price", seat["price"].(map[string]any)["id"], any("price_seat"))
	equal(t, "cancel_at_period_end", updated.body["cancel_at_period_end"], any(true))

	ended := r.send("DELETE", "/v1/subscriptions/sub_0001", "", "")
	equal(t, "status", ended.body["status"], any("canceled"))
	equal(t, "second cancel", r.send("DELETE", "/v1/subscriptions/sub_0001", "", "").status, 404)
}

func TestSubscriptionStatus(t *testing.T) {
	r := newRig(t, stripefake.Options{Customers: []string{"cus_42"}})
	for form, want := range map[string]string{
		"trial_period_days=7":                           "trialing",
		"payment_behavior=default_incomplete":           "incomplete",
		"default_payment_method=pm_card_chargeDeclined": "incomplete",
		"default_payment_method=pm_card_visa":           "active",
	} {
		got := r.post("/v1/subscriptions", "customer=cus_42&items[0][price]=p&"+form)
		equal(t, form, got.body["status"], any(want))
	}
	refused := r.post("/v1/subscriptions", "customer=cus_42&items[0][price]=p&payment_behavior=error_if_incomplete"+
		"&default_payment_method=pm_card_chargeDeclined")
	equal(t, "error_if_incomplete", refused.status, 402)
}

func TestRefusals(t *testing.T) {
	r := newRig(t, stripefake.Options{Customers: []string{"cus_42"}})
	for _, test := range []struct {
		method, path, form string
		status             int
		code, param        any
	}{
		{"POST", "/v1/payment_intents", "currency=usd", 400, "parameter_missing", "amount"},
		{"POST", "/v1/payment_intents", "amount=ten&currency=usd", 400, "parameter_invalid_integer", "amount"},
		{"POST", "/v1/payment_intents", "amount=0&currency=usd", 400, "parameter_invalid_integer", "amount"},
		{"POST", "/v1/payment_intents", "amount=1&currency=usd&customer=cus_no", 400, "resource_missing", "customer"},
		{"POST", "/v1/payment_intents/pi_no/confirm", "", 404, "resource_missing", "id"},
		{"POST", "/v1/subscriptions", "customer=cus_42", 400, "parameter_missing", "items"},
		{"POST", "/v1/subscriptions", "customer=cus_42&items=x", 400, nil, "items"},
		{"POST", "/v1/subscriptions", "customer=cus_42&items[0][quantity]=1", 400, "parameter_missing", "items[0][price]"},
		{"POST", "/v1/subscriptions", "customer=cus_42&items[0][price]=price_missing", 400, "resource_missing", "items[0][price]"},
		{"GET", "/v1/customers/cus_no", "", 404, "resource_missing", "id"},
		{"GET", "/v1/customers/sub_0001", "", 404, "resource_missing", "id"},
		{"PUT", "/v1/customers", "", 404, nil, nil},
		{"GET", "/v1/invoices", "", 404, nil, nil},
	} {
		t.Run(test.method+test.path+"?"+test.form, func(t *testing.T) {
			got := r.send(test.method, test.path, test.form, "")
			equal(t, "status", got.status, test.status)
			equal(t, "type", got.fault("type"), any("invalid_request_error"))
			equal(t, "code", got.fault("code"), test.code)
			equal(t, "param", got.fault("param"), test.param)
		})
	}
	equal(t, "executed", len(r.Executed()), 0)
}

func TestAuthorization(t *testing.T) {
	r := newRig(t, stripefake.Options{Key: "sk_test_1"})
	for name, test := range map[string]struct {
		set    func(*http.Request)
		status int
	}{
		"none":         {func(*http.Request) {}, 401},
		"empty bearer": {func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, 401},
		"wrong bearer": {func(r *http.Request) { r.Header.Set("Authorization", "Bearer sk_test_2") }, 401},
		"bearer":       {func(r *http.Request) { r.Header.Set("Authorization", "Bearer sk_test_1") }, 200},
		"basic":        {func(r *http.Request) { r.SetBasicAuth("sk_test_1", "") }, 200},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequest("GET", r.url+"/v1/customers", nil)
			if err != nil {
				t.Fatal(err)
			}
			test.set(request)
			got, err := read(request)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "status", got.status, test.status)
		})
	}
}

func TestJSONBodyIsRefused(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	request, err := http.NewRequest("POST", r.url+"/v1/customers", strings.NewReader(`{"name":"Ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("sk_test_1", "")
	request.Header.Set("Content-Type", "application/json")
	got, err := read(request)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "status", got.status, 400)
}

func TestRecords(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	r.send("POST", "/v1/customers?expand[]=a", "name=Ada", "k1")
	r.send("POST", "/v1/customers?expand[]=a", "name=Ada", "k1")
	r.get("/v1/customers/cus_no")

	all := r.Requests()
	equal(t, "requests", len(all), 3)
	first := all[0]
	equal(t, "operation", first.Operation, "create_customer")
	equal(t, "form", first.Form.Encode(), url.Values{"name": {"Ada"}, "expand[]": {"a"}}.Encode())
	equal(t, "authorization", first.Header.Get("Authorization"), "Bearer sk_test_1")
	equal(t, "key", first.IdempotencyKey, "k1")
	equal(t, "executed", first.Executed, true)
	equal(t, "second executed", all[1].Executed, false)
	equal(t, "second replayed", all[1].Replayed, true)
	equal(t, "third", all[2].Status, 404)

	first.Form.Set("name", "changed")
	equal(t, "a record is a copy", r.Requests()[0].Form.Get("name"), "Ada")
	answered, err := r.WaitFor(t.Context(), stripefake.Answered(stripefake.Route("POST", "/v1/*")), 2)
	equal(t, "answered", len(answered), 2)
	equal(t, "error", err, nil)
}

func TestWaitForEndsWithItsContext(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.EOF)
	_, err := r.WaitFor(ctx, nil, 1)
	if err == nil || !strings.Contains(err.Error(), "have 0 of 1: EOF") {
		t.Errorf("error: got %v", err)
	}
}
