package stripefake

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Stripe's API has four types of error.
const (
	typeAPI            = "api_error"
	typeCard           = "card_error"
	typeIdempotency    = "idempotency_error"
	typeInvalidRequest = "invalid_request_error"
)

// apiError is the error member of an answer in Stripe's form.
type apiError struct {
	status        int
	Type          string `json:"type"`
	Code          string `json:"code,omitempty"`
	DeclineCode   string `json:"decline_code,omitempty"`
	Message       string `json:"message"`
	Param         string `json:"param,omitempty"`
	DocURL        string `json:"doc_url,omitempty"`
	PaymentIntent object `json:"payment_intent,omitempty"`
}

// answer is a whole answer, ready to be written and kept.
type answer struct {
	status int
	header http.Header // beside the usual ones; nil: none
	body   []byte
}

func (e *apiError) answer() answer {
	shown := *e
	if shown.Code != "" {
		shown.DocURL = "https://stripe.com/docs/error-codes/" + shown.Code
	}
	return jsonAnswer(e.status, map[string]any{"error": shown})
}

// jsonAnswer encodes v, which is made of this package's own types and always encodes.
func jsonAnswer(status int, v any) answer {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("stripefake: encode answer: %v", err))
	}
	return answer{status: status, body: append(body, '\n')}
}

func invalid(code, param, message string) *apiError {
	return &apiError{status: http.StatusBadRequest, Type: typeInvalidRequest, Code: code, Param: param, Message: message}
}

// missing says that no object has this id: 404 for the object of the URL, 400 for one that a parameter names.
func missing(status int, resource, param, id string) *apiError {
	e := invalid("resource_missing", param, fmt.Sprintf("No such %s: '%s'", resource, id))
	e.status = status
	return e
}

func declined(code, declineCode string) *apiError {
	messages := map[string]string{
		"expired_card":     "Your card has expired.",
		"incorrect_cvc":    "Your card's security code is incorrect.",
		"processing_error": "An error occurred while processing your card. Try again in a little bit.",
	}
	message, ok := messages[code]
	switch {
	case declineCode == "insufficient_funds":
		message = "Your card has insufficient funds."
	case !ok:
		message = "Your card was declined."
	}
	return &apiError{status: http.StatusPaymentRequired, Type: typeCard, Code: code, DeclineCode: declineCode, Message: message}
}

func unknownURL(c *call) (any, *apiError) {
	return nil, &apiError{status: http.StatusNotFound, Type: typeInvalidRequest,
		Message: fmt.Sprintf("Unrecognized request URL (%s: %s).", c.method, c.path)}
}
