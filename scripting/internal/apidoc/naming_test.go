package apidoc

import (
	"strings"
	"testing"

	"github.com/thence-dev/thence/scripting/internal/apitable"
)

// TestNames has an API whose paths show each turn of the rule.
func TestNames(t *testing.T) {
	tests := []struct{ request, name, script string }{
		{"GET /v1/orders", "orders.list", "list_orders"},
		{"POST /v1/orders", "orders.create", "create_order"},
		{"GET /v1/orders/{id}", "orders.retrieve", "retrieve_order"},
		{"PUT /v1/orders/{id}", "orders.replace", "replace_order"},
		{"PATCH /v1/orders/{id}", "orders.update", "update_order"},
		{"DELETE /v1/orders/{id}", "orders.delete", "delete_order"},
		{"POST /v1/orders/{id}/cancel", "orders.cancel", "cancel_order"},
		{"POST /v1/orders/search", "orders.search", "search_orders"},
		{"GET /v1/orders/export", "orders.export", "export_order"},
		{"GET /v1/orders/{id}/lines", "orders.lines.list", "list_order_lines"},
		{"POST /v1/orders/{id}/lines", "orders.lines.create", "create_order_line"},
		{"PUT /v1/orders/{id}/lines/{line}", "orders.lines.update", "update_order_line"},
		{"GET /v1/orders/{id}/invoice", "orders.invoice.retrieve", "retrieve_order_invoice"},
		{"POST /v1/orders/{id}/notes", "orders.notes.create", "create_order_note"},
		{"GET /account", "account.retrieve", "retrieve_account"},
		{"POST /account", "account.update", "update_account"},
		{"PUT /account/settings", "account.settings.update", "update_account_settings"},
		{"GET /account/settings", "account.settings.retrieve", "retrieve_account_settings"},
		{"POST /login", "login.create", "create_login"},
		{"GET /people", "people.list", "list_people"},
		{"GET /people/{id}", "people.retrieve", "retrieve_people"},
		{"POST /shop/gift-cards", "shop.gift_cards.create", "create_shop_gift_card"},
		{"GET /shop/taxRates/{id}", "shop.tax_rates.retrieve", "retrieve_shop_tax_rate"},
		{"GET /categories/{id}", "categories.retrieve", "retrieve_category"},
		{"GET /boxes/{id}", "boxes.retrieve", "retrieve_box"},
		{"GET /status", "status.retrieve", "retrieve_status"},
		{"GET /", "retrieve", "retrieve"},
	}
	var all []Operation
	for _, tt := range tests {
		method, path, _ := strings.Cut(tt.request, " ")
		all = append(all, Operation{Table: apitable.Operation{Method: method, Path: path}})
	}
	paths := PathsOf(all)
	table := make([]apitable.Operation, len(all))
	for i, op := range all {
		resource, verb := paths.Name(op)
		table[i] = op.Table
		table[i].Resource, table[i].Verb = strings.Join(resource, "."), verb
	}
	paths.ScriptNames(table, "")
	for i, tt := range tests {
		if got := table[i].FullName(); got != tt.name || table[i].Name != tt.script {
			t.Errorf("%s is %s, called %s; want %s, called %s", tt.request, got, table[i].Name, tt.name, tt.script)
		}
	}
}

func TestSnake(t *testing.T) {
	for in, want := range map[string]string{
		"orders": "orders", "taxRates": "tax_rates", "TaxRates": "tax_rates", "gift-cards": "gift_cards", "HTTPServer": "http_server",
		"orderID": "order_id", "v2Beta": "v2_beta", "a.b": "a_b", "_x_": "x", "größe": "gr_e", "::": "",
	} {
		if got := Snake(in); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}
