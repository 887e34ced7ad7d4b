package stripefake

import (
	"fmt"
	"strings"
)

func (s *Server) createPaymentIntent(c *call) (any, *apiError) {
	if refusal := c.params.require("amount", "currency"); refusal != nil {
		return nil, refusal
	}
	changes, refusal := s.paymentIntentChanges(object{}, c.params)
	if refusal != nil {
		return nil, refusal
	}
	id := s.store.next("pi")
	o := s.store.put(object{
		"id":                   id,
		"object":               "payment_intent",
		"amount_capturable":    int64(0),
		"amount_received":      int64(0),
		"canceled_at":          nil,
		"cancellation_reason":  nil,
		"capture_method":       "automatic_async",
		"client_secret":        id + "_secret_fake",
		"confirmation_method":  "automatic",
		"created":              s.created(),
		"customer":             nil,
		"description":          nil,
		"last_payment_error":   nil,
		"latest_charge":        nil,
		"livemode":             false,
		"next_action":          nil,
		"payment_method":       nil,
		"payment_method_types": []any{"card"},
		"receipt_email":        nil,
		"setup_future_usage":   nil,
	}.with(changes))
	if c.params.text("confirm") == "true" {
		return s.confirm(o)
	}
	return o, nil
}

func (s *Server) updatePaymentIntent(c *call) (any, *apiError) {
	o, refusal := s.paymentIntentIn(c, "update", "requires_payment_method", "requires_confirmation", "requires_action")
	if refusal != nil {
		return nil, refusal
	}
	changes, refusal := s.paymentIntentChanges(o, c.params)
	if refusal != nil {
		return nil, refusal
	}
	return s.store.put(o.with(changes)), nil
}

func (s *Server) confirmPaymentIntent(c *call) (any, *apiError) {
	o, refusal := s.paymentIntentIn(c, "confirm", "requires_payment_method", "requires_confirmation", "requires_action")
	if refusal != nil {
		return nil, refusal
	}
	changes, refusal := s.paymentIntentChanges(o, c.params)
	if refusal != nil {
		return nil, refusal
	}
	return s.confirm(s.store.put(o.with(changes)))
}

func (s *Server) capturePaymentIntent(c *call) (any, *apiError) {
	o, refusal := s.paymentIntentIn(c, "capture", "requires_capture")
	if refusal != nil {
		return nil, refusal
	}
	amount, given, refusal := c.params.integer("amount_to_capture")
	if refusal != nil {
		return nil, refusal
	}
	if !given {
		amount = o.number("amount_capturable")
	}
	if amount < 1 || amount > o.number("amount_capturable") {
		return nil, invalid("amount_too_large", "amount_to_capture", "The amount to capture must be at most the amount that is capturable.")
	}
	return s.store.put(o.with(object{"status": "succeeded", "amount_received": amount, "amount_capturable": int64(0)})), nil
}

func (s *Server) cancelPaymentIntent(c *call) (any, *apiError) {
	o, refusal := s.paymentIntentIn(c, "cancel",
		"requires_payment_method", "requires_confirmation", "requires_action", "requires_capture")
	if refusal != nil {
		return nil, refusal
	}
	changes := object{"status": "canceled", "canceled_at": s.created(), "amount_capturable": int64(0)}
	echo(changes, c.params, "cancellation_reason")
	return s.store.put(o.with(changes)), nil
}

// paymentIntentIn finds the payment intent that the URL names, and refuses when it is in none of these states.
func (s *Server) paymentIntentIn(c *call, verb string, states ...string) (object, *apiError) {
	o, refusal := s.store.find("payment_intent", c)
	if refusal != nil {
		return nil, refusal
	}
	for _, state := range states {
		if o["status"] == state {
			return o, nil
		}
	}
	refusal = invalid("payment_intent_unexpected_state", "", fmt.Sprintf("You cannot %s this PaymentIntent because it has "+
		"a status of %s. Only a PaymentIntent with one of the following statuses may be used for that: %s.",
		verb, o["status"], strings.Join(states, ", ")))
	refusal.PaymentIntent = o
	return nil, refusal
}

func (s *Server) paymentIntentChanges(old object, p params) (object, *apiError) {
	if refusal := s.store.checkCustomer(p); refusal != nil {
		return nil, refusal
	}
	changes := object{"metadata": mergeMetadata(old["metadata"], p)}
	echo(changes, p, "customer", "description", "receipt_email", "payment_method", "setup_future_usage", "capture_method")
	if currency := p.text("currency"); currency != "" {
		changes["currency"] = strings.ToLower(currency)
	}
	amount, given, refusal := p.integer("amount")
	if refusal == nil && given && amount < 1 {
		refusal = invalid("parameter_invalid_integer", "amount", "This value must be greater than or equal to 1.")
	}
	if given {
		changes["amount"] = amount
	}
	changes["status"] = "requires_confirmation"
	if old.with(changes)["payment_method"] == nil {
		changes["status"] = "requires_payment_method"
	}
	return changes, refusal
}

// confirm charges the payment method, whose name says how that ends.
func (s *Server) confirm(o object) (any, *apiError) {
	method := o.text("payment_method")
	if method == "" {
		return nil, invalid("payment_intent_unexpected_state", "payment_method", "You cannot confirm this PaymentIntent "+
			"because it's missing a payment method.")
	}
	if refusal := declineOf(method); refusal != nil {
		o = s.store.put(o.with(object{"status": "requires_payment_method", "payment_method": nil,
			"last_payment_error": object{"type": refusal.Type, "code": refusal.Code, "decline_code": refusal.DeclineCode,
				"message": refusal.Message}}))
		refusal.PaymentIntent = o
		return nil, refusal
	}
	changes := object{"latest_charge": s.store.next("ch"), "last_payment_error": nil}
	switch {
	case strings.HasPrefix(method, "pm_card_authenticationRequired") || strings.HasPrefix(method, "pm_card_threeDSecure"):
		changes = object{"status": "requires_action", "next_action": object{"type": "use_stripe_sdk"}}
	case o["capture_method"] == "manual":
		changes["status"], changes["amount_capturable"] = "requires_capture", o["amount"]
	default:
		changes["status"], changes["amount_received"] = "succeeded", o["amount"]
	}
	return s.store.put(o.with(changes)), nil
}

// declineOf knows Stripe's test payment methods that are declined. Any other is charged.
func declineOf(method string) *apiError {
	name, ok := strings.CutPrefix(method, "pm_card_visa_chargeDeclined")
	if !ok {
		name, ok = strings.CutPrefix(method, "pm_card_chargeDeclined")
	}
	if !ok {
		return nil
	}
	switch name {
	case "InsufficientFunds":
		return declined("card_declined", "insufficient_funds")
	case "LostCard":
		return declined("card_declined", "lost_card")
	case "StolenCard":
		return declined("card_declined", "stolen_card")
	case "Fraudulent":
		return declined("card_declined", "fraudulent")
	case "ExpiredCard":
		return declined("expired_card", "")
	case "IncorrectCvc":
		return declined("incorrect_cvc", "")
	case "ProcessingError":
		return declined("processing_error", "")
	}
	return declined("card_declined", "generic_decline")
}
