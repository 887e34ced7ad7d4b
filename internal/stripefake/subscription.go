package stripefake

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

const month = 30 * 24 * time.Hour

func (s *Server) createSubscription(c *call) (any, *apiError) {
	if refusal := c.params.require("customer", "items"); refusal != nil {
		return nil, refusal
	}
	if refusal := s.store.checkCustomer(c.params); refusal != nil {
		return nil, refusal
	}
	wanted, refusal := wantedItems(c.params)
	if refusal != nil {
		return nil, refusal
	}
	status, refusal := subscriptionStatus(c.params)
	if refusal != nil {
		return nil, refusal
	}
	id := s.store.next("sub")
	o := object{
		"id":                     id,
		"object":                 "subscription",
		"cancel_at_period_end":   c.params.text("cancel_at_period_end") == "true",
		"canceled_at":            nil,
		"collection_method":      "charge_automatically",
		"created":                s.created(),
		"currency":               "usd",
		"default_payment_method": nil,
		"description":            nil,
		"ended_at":               nil,
		"items":                  s.subscriptionItems(id, nil, wanted),
		"latest_invoice":         s.store.next("in"),
		"livemode":               false,
		"metadata":               mergeMetadata(nil, c.params),
		"start_date":             s.created(),
		"status":                 status,
		"trial_end":              nil,
	}
	echo(o, c.params, "customer", "currency", "description", "default_payment_method", "collection_method")
	return s.store.put(o), nil
}

func (s *Server) updateSubscription(c *call) (any, *apiError) {
	o, refusal := s.livingSubscription(c)
	if refusal != nil {
		return nil, refusal
	}
	changes := object{"metadata": mergeMetadata(o["metadata"], c.params)}
	echo(changes, c.params, "description", "default_payment_method", "collection_method")
	if end := c.params.text("cancel_at_period_end"); end != "" {
		changes["cancel_at_period_end"] = end == "true"
	}
	if c.params["items"] != nil {
		wanted, refusal := wantedItems(c.params)
		if refusal != nil {
			return nil, refusal
		}
		changes["items"] = s.subscriptionItems(c.id, o["items"], wanted)
	}
	return s.store.put(o.with(changes)), nil
}

func (s *Server) cancelSubscription(c *call) (any, *apiError) {
	o, refusal := s.livingSubscription(c)
	if refusal != nil {
		return nil, refusal
	}
	now := s.created()
	return s.store.put(o.with(object{"status": "canceled", "canceled_at": now, "ended_at": now})), nil
}

// livingSubscription finds the subscription that the URL names; one that was cancelled counts as missing.
func (s *Server) livingSubscription(c *call) (object, *apiError) {
	o, refusal := s.store.find("subscription", c)
	if refusal == nil && o["status"] == "canceled" {
		refusal = missing(http.StatusNotFound, "subscription", "id", c.id)
	}
	return o, refusal
}

// subscriptionStatus is the status with which a subscription begins. There are no invoices here: one without a payment
// method counts as paid.
func subscriptionStatus(p params) (string, *apiError) {
	trial, given, refusal := p.integer("trial_period_days")
	if refusal != nil {
		return "", refusal
	}
	refusal = declineOf(p.text("default_payment_method"))
	switch {
	case given && trial > 0:
		return "trialing", nil
	case refusal != nil && p.text("payment_behavior") == "error_if_incomplete":
		return "", refusal
	case refusal != nil || p.text("payment_behavior") == "default_incomplete":
		return "incomplete", nil
	}
	return "active", nil
}

// wantedItems checks items[n][price], items[n][id] and items[n][quantity]. Any price exists, but those whose ids begin
// with price_missing.
func wantedItems(p params) ([]object, *apiError) {
	list, ok := p["items"].([]any)
	if !ok {
		return nil, invalid("", "items", "Invalid array")
	}
	wanted := make([]object, 0, len(list))
	for i, entry := range list {
		m, _ := entry.(map[string]any)
		item := params(m)
		price, param := item.text("price"), fmt.Sprintf("items[%d][price]", i)
		if strings.HasPrefix(price, "price_missing") {
			return nil, missing(http.StatusBadRequest, "price", param, price)
		}
		if price == "" && item["price_data"] == nil && item.text("id") == "" {
			return nil, invalid("parameter_missing", param, "Missing required param: "+param+".")
		}
		quantity, given, refusal := item.integer("quantity")
		if refusal != nil {
			return nil, refusal
		}
		if !given {
			quantity = 1
		}
		wanted = append(wanted, object{"id": item.text("id"), "price": price, "quantity": quantity})
	}
	return wanted, nil
}

// subscriptionItems changes the items that wanted names by id and adds the others.
func (s *Server) subscriptionItems(subscription string, old any, wanted []object) object {
	var items []object
	if before, ok := old.(object); ok {
		items = append(items, before["data"].([]object)...)
	}
	for _, w := range wanted {
		id := w.text("id")
		if id == "" {
			id = s.store.next("si")
		}
		items = putItem(items, s.subscriptionItem(id, subscription, w))
	}
	return object{
		"object":      "list",
		"data":        items,
		"has_more":    false,
		"total_count": int64(len(items)),
		"url":         "/v1/subscription_items?subscription=" + subscription,
	}
}

func (s *Server) subscriptionItem(id, subscription string, wanted object) object {
	return object{
		"id":                   id,
		"object":               "subscription_item",
		"created":              s.created(),
		"current_period_end":   s.now().Add(month).Unix(),
		"current_period_start": s.created(),
		"metadata":             object{},
		"price": object{"id": wanted["price"], "object": "price", "active": true, "currency": "usd", "type": "recurring",
			"recurring": object{"interval": "month", "interval_count": int64(1)}},
		"quantity":     wanted["quantity"],
		"subscription": subscription,
	}
}

// putItem replaces the item that has the same id, and keeps its price when the new one names none.
func putItem(items []object, item object) []object {
	for i, old := range items {
		if old["id"] != item["id"] {
			continue
		}
		if price := item["price"].(object); price["id"] == "" {
			item["price"] = old["price"]
		}
		items[i] = item
		return items
	}
	return append(items, item)
}
