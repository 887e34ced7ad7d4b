package stripeapi_test

import (
	"os"
	"testing"

	"github.com/thence-dev/thence/scripting/internal/apitable"
	"github.com/thence-dev/thence/scripting/internal/stripeapi"
)

func TestTable(t *testing.T) {
	api := stripeapi.API()
	if n := len(api.Operations()); n != 594 {
		t.Errorf("%d operations, want 594", n)
	}
	names, scripts := map[string]bool{}, map[string]bool{}
	for _, op := range api.Operations() {
		if names[op.FullName()] || scripts[op.Name] {
			t.Errorf("%s, called %s, is there twice", op.FullName(), op.Name)
		}
		names[op.FullName()], scripts[op.Name] = true, true
		params, err := api.Type(op.Params)
		if err != nil {
			t.Fatalf("%s: %v", op.FullName(), err)
		}
		if params.Kind != apitable.Object {
			t.Errorf("%s: the parameters are %s, want an object", op.FullName(), params.Kind)
		}
	}
	for i := range api.Types() {
		if _, err := api.Type(i); err != nil {
			t.Error(err)
		}
	}
}

// TestFirstOperations holds what scripts have called from the first release on.
func TestFirstOperations(t *testing.T) {
	for _, want := range []struct{ operation, method, path, name string }{
		{"customers.create", "POST", "/v1/customers", "create_customer"},
		{"customers.retrieve", "GET", "/v1/customers/{customer}", "retrieve_customer"},
		{"customers.update", "POST", "/v1/customers/{customer}", "update_customer"},
		{"customers.delete", "DELETE", "/v1/customers/{customer}", "delete_customer"},
		{"customers.list", "GET", "/v1/customers", "list_customers"},
		{"payment_intents.create", "POST", "/v1/payment_intents", "create_payment_intent"},
		{"payment_intents.retrieve", "GET", "/v1/payment_intents/{intent}", "retrieve_payment_intent"},
		{"payment_intents.update", "POST", "/v1/payment_intents/{intent}", "update_payment_intent"},
		{"payment_intents.confirm", "POST", "/v1/payment_intents/{intent}/confirm", "confirm_payment_intent"},
		{"payment_intents.cancel", "POST", "/v1/payment_intents/{intent}/cancel", "cancel_payment_intent"},
		{"payment_intents.capture", "POST", "/v1/payment_intents/{intent}/capture", "capture_payment_intent"},
		{"payment_intents.list", "GET", "/v1/payment_intents", "list_payment_intents"},
		{"subscriptions.create", "POST", "/v1/subscriptions", "create_subscription"},
		{"subscriptions.retrieve", "GET", "/v1/subscriptions/{subscription_exposed_id}", "retrieve_subscription"},
		{"subscriptions.update", "POST", "/v1/subscriptions/{subscription_exposed_id}", "update_subscription"},
		{"subscriptions.cancel", "DELETE", "/v1/subscriptions/{subscription_exposed_id}", "cancel_subscription"},
		{"subscriptions.list", "GET", "/v1/subscriptions", "list_subscriptions"},
	} {
		holds(t, want.operation, want.method, want.path, want.name)
	}
}

// TestNames holds how names are made, one operation for each turn of the rule.
func TestNames(t *testing.T) {
	for _, want := range []struct{ operation, method, path, name string }{
		{"checkout.sessions.create", "POST", "/v1/checkout/sessions", "create_checkout_session"},
		{"checkout.sessions.list_line_items", "GET", "/v1/checkout/sessions/{session}/line_items", "list_checkout_session_line_items"},
		{"customers.balance_transactions.list", "GET", "/v1/customers/{customer}/balance_transactions", "list_customer_balance_transactions"},
		{"customers.search", "GET", "/v1/customers/search", "search_customers"},
		{"invoice_items.create", "POST", "/v1/invoiceitems", "create_invoice_item"},
		{"invoices.finalize_invoice", "POST", "/v1/invoices/{invoice}/finalize", "finalize_invoice"},
		{"terminal.readers.set_reader_display", "POST", "/v1/terminal/readers/{reader}/set_reader_display", "set_terminal_reader_display"},
		{"test_helpers.issuing.cards.ship_card", "POST", "/v1/test_helpers/issuing/cards/{card}/shipping/ship", "ship_test_helpers_issuing_card"},
		{"balance.retrieve", "GET", "/v1/balance", "retrieve_balance"},
		{"accounts.retrieve_current", "GET", "/v1/account", "retrieve_account_current"},
		{"apps.secrets.delete_where", "POST", "/v1/apps/secrets/delete", "delete_apps_secret_where"},
		// Stripe's libraries have these no more: the path alone names them.
		{"charges.refund", "POST", "/v1/charges/{charge}/refund", "refund_charge"},
		{"customers.subscriptions.update", "POST", "/v1/customers/{customer}/subscriptions/{subscription_exposed_id}", "update_customer_subscription"},
		{"linked_accounts.owners.list", "GET", "/v1/linked_accounts/{account}/owners", "list_linked_account_owners"},
	} {
		holds(t, want.operation, want.method, want.path, want.name)
	}
}

// BenchmarkFirstImport is what the first script that imports stripe pays, once in the life of a process.
func BenchmarkFirstImport(b *testing.B) {
	text, err := os.ReadFile("stripe.table")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := apitable.Parse(string(text)); err != nil {
			b.Fatal(err)
		}
	}
}

func holds(t *testing.T, operation, method, path, name string) {
	t.Helper()
	for _, op := range stripeapi.API().Operations() {
		if op.FullName() != operation {
			continue
		}
		if op.Method != method || op.Path != path || op.Name != name {
			t.Errorf("%s is %s %s, called %s; want %s %s, called %s", operation, op.Method, op.Path, op.Name, method, path, name)
		}
		return
	}
	t.Errorf("there is no %s", operation)
}
