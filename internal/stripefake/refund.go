package stripefake

import (
	"fmt"
	"net/http"
)

// createRefund gives back what was paid by a payment intent, or a part of it. A refund of a payment that was made with
// the test payment method pm_card_pendingRefund stays pending, and can be cancelled.
func (s *Server) createRefund(c *call) (any, *apiError) {
	paid := c.params.text("payment_intent")
	if paid == "" {
		return nil, invalid("parameter_missing", "payment_intent", "One of the following params should be provided for this request: payment_intent or charge.")
	}
	intent, ok := s.store.get("payment_intent", paid)
	if !ok {
		return nil, missing(http.StatusBadRequest, "payment_intent", "payment_intent", paid)
	}
	amount, refusal := s.refundable(intent, c.params)
	if refusal != nil {
		return nil, refusal
	}
	status := "succeeded"
	if intent["payment_method"] == "pm_card_pendingRefund" {
		status = "pending"
	}
	o := object{
		"id":             s.store.next("re"),
		"object":         "refund",
		"amount":         amount,
		"charge":         intent["latest_charge"],
		"created":        s.created(),
		"currency":       intent["currency"],
		"payment_intent": paid,
		"reason":         nil,
		"status":         status,
	}
	echo(o, c.params, "reason")
	return s.store.put(o.with(refundChanges(object{}, c.params))), nil
}

// refundable is the amount that a refund gives back: what is asked for, or all that is left.
func (s *Server) refundable(intent object, p params) (int64, *apiError) {
	left := intent.number("amount_received")
	if left == 0 {
		return 0, invalid("", "payment_intent", fmt.Sprintf("This PaymentIntent (%s) does not have a successful charge to refund.", intent["id"]))
	}
	for _, id := range s.store.order {
		if r, ok := s.store.get("refund", id); ok && r["payment_intent"] == intent["id"] && r["status"] != "canceled" {
			left -= r.number("amount")
		}
	}
	amount, given, refusal := p.integer("amount")
	switch {
	case refusal != nil:
		return 0, refusal
	case left == 0:
		return 0, invalid("charge_already_refunded", "", fmt.Sprintf("Charge %s has already been refunded.", intent["latest_charge"]))
	case !given:
		return left, nil
	case amount < 1 || amount > left:
		return 0, invalid("", "amount", fmt.Sprintf("Refund amount (%d) is greater than unrefunded amount on charge (%d).", amount, left))
	}
	return amount, nil
}

func refundChanges(old object, p params) object {
	return object{"metadata": mergeMetadata(old["metadata"], p)}
}

func (s *Server) cancelRefund(c *call) (any, *apiError) {
	o, refusal := s.store.find("refund", c)
	if refusal != nil {
		return nil, refusal
	}
	if o["status"] != "pending" && o["status"] != "requires_action" {
		return nil, invalid("", "", fmt.Sprintf("This refund cannot be canceled because its status is %s.", o["status"]))
	}
	return s.store.put(o.with(object{"status": "canceled"})), nil
}
