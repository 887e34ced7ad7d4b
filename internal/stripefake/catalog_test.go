package stripefake_test

import (
	"testing"

	"github.com/thence-dev/thence/internal/stripefake"
)

func TestProductsAndPrices(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	tea := r.post("/v1/products", "name=Tea")
	equal(t, "id", tea.body["id"], any("prod_0001"))
	equal(t, "active", tea.body["active"], any(true))
	equal(t, "own id", r.post("/v1/products", "name=Mug&id=mug").body["id"], any("mug"))

	price := r.post("/v1/prices", "product=prod_0001&unit_amount=900&currency=EUR&recurring[interval]=month")
	equal(t, "id", price.body["id"], any("price_0001"))
	equal(t, "type", price.body["type"], any("recurring"))
	equal(t, "unit_amount", price.body["unit_amount"], any(900.0))
	equal(t, "currency", price.body["currency"], any("eur"))
	equal(t, "prices of the mug", len(r.get("/v1/prices?product=mug").body["data"].([]any)), 0)
	equal(t, "prices of the tea", len(r.get("/v1/prices?product=prod_0001").body["data"].([]any)), 1)

	equal(t, "archived", r.post("/v1/prices/price_0001", "active=false").body["active"], any(false))
	equal(t, "a price is not deleted", r.send("DELETE", "/v1/prices/price_0001", "", "").status, 404)
	equal(t, "a product with a price is not deleted", r.send("DELETE", "/v1/products/prod_0001", "", "").status, 400)
	equal(t, "deleted", r.send("DELETE", "/v1/products/mug", "", "").body["deleted"], any(true))
	equal(t, "price of a deleted product", r.post("/v1/prices", "product=mug&unit_amount=1&currency=usd").fault("code"), any("resource_missing"))
	equal(t, "without a name", r.post("/v1/products", "").fault("param"), any("name"))
}

func TestCoupons(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	half := r.post("/v1/coupons", "id=HALF&percent_off=50&duration=forever")
	equal(t, "id", half.body["id"], any("HALF"))
	equal(t, "valid", half.body["valid"], any(true))
	equal(t, "percent_off", half.body["percent_off"], any(50.0))
	equal(t, "amount_off", r.post("/v1/coupons", "amount_off=500&currency=usd").body["amount_off"], any(500.0))
	for _, bad := range []string{"", "percent_off=50&amount_off=500", "amount_off=500", "percent_off=101", "percent_off=x"} {
		equal(t, "coupon "+bad, r.post("/v1/coupons", bad).status, 400)
	}
	equal(t, "name", r.post("/v1/coupons/HALF", "name=Half").body["name"], any("Half"))
	equal(t, "deleted", r.send("DELETE", "/v1/coupons/HALF", "", "").body["deleted"], any(true))
	equal(t, "update of a deleted coupon", r.post("/v1/coupons/HALF", "name=x").status, 404)
	equal(t, "left", len(r.get("/v1/coupons").body["data"].([]any)), 1)
}

func TestRefunds(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	r.post("/v1/payment_intents", "amount=2000&currency=usd&payment_method=pm_card_visa&confirm=true")
	part := r.post("/v1/refunds", "payment_intent=pi_0001&amount=500&reason=duplicate")
	equal(t, "id", part.body["id"], any("re_0001"))
	equal(t, "status", part.body["status"], any("succeeded"))
	equal(t, "too much", r.post("/v1/refunds", "payment_intent=pi_0001&amount=1501").fault("param"), any("amount"))
	equal(t, "the rest", r.post("/v1/refunds", "payment_intent=pi_0001").body["amount"], any(1500.0))
	equal(t, "once more", r.post("/v1/refunds", "payment_intent=pi_0001").fault("code"), any("charge_already_refunded"))
	equal(t, "of none", r.post("/v1/refunds", "payment_intent=pi_9").fault("code"), any("resource_missing"))
	equal(t, "cancel", r.post("/v1/refunds/re_0001/cancel", "").status, 400)
	equal(t, "list", len(r.get("/v1/refunds?payment_intent=pi_0001").body["data"].([]any)), 2)

	r.post("/v1/payment_intents", "amount=900&currency=usd")
	equal(t, "unpaid", r.post("/v1/refunds", "payment_intent=pi_0002").status, 400)
	r.post("/v1/payment_intents", "amount=900&currency=usd&payment_method=pm_card_pendingRefund&confirm=true")
	equal(t, "pending", r.post("/v1/refunds", "payment_intent=pi_0003").body["status"], any("pending"))
	equal(t, "cancelled", r.post("/v1/refunds/re_0003/cancel", "").body["status"], any("canceled"))
	equal(t, "metadata", r.post("/v1/refunds/re_0003", "metadata[a]=1").body["metadata"].(map[string]any)["a"], any("1"))
	equal(t, "again", r.post("/v1/refunds", "payment_intent=pi_0003").body["amount"], any(900.0))
}
