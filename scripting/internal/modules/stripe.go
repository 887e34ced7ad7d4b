package modules

import (
	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/stripeapi"
	"github.com/thence-dev/thence/scripting/internal/value"
)

// built are the resources that have a builder, stripe.new_customer() and so on.
var built = map[string]string{
	"coupon": "coupons", "customer": "customers", "payment_intent": "payment_intents", "price": "prices",
	"product": "products", "refund": "refunds", "subscription": "subscriptions",
}

// newStripe makes the module stripe: all of Stripe's operations, configure, and the builders.
func newStripe(r *Run) tengo.Object {
	m := newAPI(r, stripeapi.API())
	for one, many := range built {
		op := &operation{api: m.api, Operation: m.at.Resources[many].Operations["create"]}
		var adders map[string]adder
		if one == "subscription" {
			adders = map[string]adder{"add_price": {"items", fn{1, 2, pricedItem}}}
		}
		m.own["new_"+one] = newBuilder("stripe.new_"+one, op, adders)
	}
	return m
}

// pricedItem(price[, quantity]) is an item of a subscription.
func pricedItem(_ *Run, args []tengo.Object) (tengo.Object, error) {
	item := value.NewMap(2)
	item.Set("price", args[0])
	if len(args) > 1 {
		item.Set("quantity", args[1])
	}
	return item, nil
}
