package stripefake

import (
	"net/http"
	"strconv"
	"strings"
)

func (s *Server) createProduct(c *call) (any, *apiError) {
	if refusal := c.params.require("name"); refusal != nil {
		return nil, refusal
	}
	id := c.params.text("id")
	if id == "" {
		id = s.store.next("prod")
	}
	return s.store.put(object{
		"id":            id,
		"object":        "product",
		"active":        true,
		"created":       s.created(),
		"default_price": nil,
		"description":   nil,
		"livemode":      false,
		"type":          "service",
	}.with(productChanges(object{}, c.params))), nil
}

// deleteProduct refuses a product that has prices, as prices are never deleted.
func (s *Server) deleteProduct(c *call) (any, *apiError) {
	for _, id := range s.store.order {
		if price, ok := s.store.get("price", id); ok && price["product"] == c.id {
			return nil, invalid("", "id", "This product cannot be deleted because it has one or more user-created prices.")
		}
	}
	return s.delete("product")(c)
}

func productChanges(old object, p params) object {
	changes := object{"metadata": mergeMetadata(old["metadata"], p)}
	echo(changes, p, "name", "description", "default_price")
	return changes.with(flags(p, "active"))
}

func (s *Server) createPrice(c *call) (any, *apiError) {
	if refusal := c.params.require("currency"); refusal != nil {
		return nil, refusal
	}
	if product, ok := s.store.get("product", c.params.text("product")); !ok || product["deleted"] == true {
		return nil, missing(http.StatusBadRequest, "product", "product", c.params.text("product"))
	}
	amount, given, refusal := c.params.integer("unit_amount")
	if refusal == nil && (!given || amount < 0) {
		refusal = invalid("parameter_missing", "unit_amount", "Missing required param: unit_amount.")
	}
	if refusal != nil {
		return nil, refusal
	}
	kind := "one_time"
	if c.params["recurring"] != nil {
		kind = "recurring"
	}
	return s.store.put(object{
		"id":             s.store.next("price"),
		"object":         "price",
		"active":         true,
		"billing_scheme": "per_unit",
		"created":        s.created(),
		"currency":       strings.ToLower(c.params.text("currency")),
		"livemode":       false,
		"product":        c.params["product"],
		"recurring":      c.params["recurring"],
		"type":           kind,
		"unit_amount":    amount,
	}.with(priceChanges(object{}, c.params))), nil
}

func priceChanges(old object, p params) object {
	changes := object{"metadata": mergeMetadata(old["metadata"], p)}
	echo(changes, p, "nickname", "lookup_key")
	return changes.with(flags(p, "active"))
}

func (s *Server) createCoupon(c *call) (any, *apiError) {
	off, refusal := couponValue(c.params)
	if refusal != nil {
		return nil, refusal
	}
	id, duration := c.params.text("id"), c.params.text("duration")
	if id == "" {
		id = s.store.next("coupon")
	}
	if duration == "" {
		duration = "once"
	}
	return s.store.put(object{
		"id":             id,
		"object":         "coupon",
		"amount_off":     nil,
		"created":        s.created(),
		"currency":       c.params["currency"],
		"duration":       duration,
		"livemode":       false,
		"percent_off":    nil,
		"times_redeemed": int64(0),
		"valid":          true,
	}.with(off).with(couponChanges(object{}, c.params))), nil
}

// couponValue is what a coupon takes off: a percentage or an amount.
func couponValue(p params) (object, *apiError) {
	amount, given, refusal := p.integer("amount_off")
	percent := p.text("percent_off")
	switch {
	case refusal != nil:
		return nil, refusal
	case given == (percent != ""):
		return nil, invalid("", "percent_off", "You must pass either percent_off or amount_off, and not both.")
	case given:
		return object{"amount_off": amount}, p.require("currency")
	}
	share, err := strconv.ParseFloat(percent, 64)
	if err != nil || share <= 0 || share > 100 {
		return nil, invalid("", "percent_off", "Invalid percent_off: it must be greater than 0 and at most 100.")
	}
	return object{"percent_off": share}, nil
}

func couponChanges(old object, p params) object {
	changes := object{"metadata": mergeMetadata(old["metadata"], p)}
	echo(changes, p, "name")
	return changes
}

// flags reads parameters that are true or false; others are left out.
func flags(p params, names ...string) object {
	given := object{}
	for _, name := range names {
		if value := p.text(name); value != "" {
			given[name] = value == "true"
		}
	}
	return given
}
