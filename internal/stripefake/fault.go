package stripefake

import (
	"net/http"
	"strconv"
	"time"
)

// Fault is a way in which one request goes wrong. By default it strikes before the execution: nothing has happened at
// Stripe, and a later try with the same idempotency key is the first.
type Fault struct {
	after  bool
	keep   bool
	answer *answer // sent instead of the true one; nil: the true one
	header http.Header
	delay  time.Duration
	hold   <-chan struct{}
	wire   func(s *Server, w http.ResponseWriter, r *http.Request, c *call, a answer) // nil: write a whole answer
}

// Status answers with an HTTP status and a Stripe error of that type (api_error, card_error, idempotency_error or
// invalid_request_error) and code, which may be empty.
func Status(status int, errorType, code string) Fault {
	return refuse(&apiError{status: status, Type: errorType, Code: code, Message: http.StatusText(status) + " (injected)."})
}

// CardDeclined answers 402 with a card_error of code card_declined and this decline code, e.g. insufficient_funds.
// Empty: generic_decline. As at Stripe, the idempotency key keeps it, so that every later try with that key gets the
// same.
func CardDeclined(declineCode string) Fault {
	if declineCode == "" {
		declineCode = "generic_decline"
	}
	return refuse(declined("card_declined", declineCode)).Kept()
}

// Conflict answers 409, as when another request with the same idempotency key is still being executed.
func Conflict() Fault {
	return Status(http.StatusConflict, typeIdempotency, "idempotency_key_in_use")
}

// RateLimited answers 429 with code rate_limit. A retryAfter over zero is sent as Retry-After, in whole seconds,
// rounded up.
func RateLimited(retryAfter time.Duration) Fault {
	f := Status(http.StatusTooManyRequests, typeInvalidRequest, "rate_limit")
	if retryAfter > 0 {
		seconds := (retryAfter + time.Second - 1) / time.Second
		f = f.withHeader("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	return f
}

// LockTimeout answers 429 with code lock_timeout: the object was busy, and a try at once may succeed.
func LockTimeout() Fault {
	return Status(http.StatusTooManyRequests, typeInvalidRequest, "lock_timeout")
}

// ServerError answers 500 with an api_error.
func ServerError() Fault {
	return Status(http.StatusInternalServerError, typeAPI, "")
}

// Unavailable answers 503 with an api_error.
func Unavailable() Fault {
	return Status(http.StatusServiceUnavailable, typeAPI, "")
}

// NotJSON answers with this status and a page of HTML, as a proxy in between does.
func NotJSON(status int) Fault {
	page := "<html><body><h1>" + http.StatusText(status) + "</h1></body></html>\n"
	return Fault{answer: &answer{status: status, body: []byte(page)}}.withHeader("Content-Type", "text/html; charset=utf-8")
}

// Huge answers 200 with a JSON object of at least n bytes.
func Huge(n int64) Fault {
	return Fault{answer: &answer{status: http.StatusOK}, wire: func(s *Server, w http.ResponseWriter, _ *http.Request, c *call, a answer) {
		s.writeHead(w, c, a)
		writeHuge(w, n)
	}}
}

// Truncated announces a JSON body's whole length, sends its first half, and ends the connection. With AfterExecution it
// is the true answer that is cut.
func Truncated() Fault {
	return Fault{wire: func(s *Server, w http.ResponseWriter, _ *http.Request, c *call, a answer) {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
		s.writeHead(w, c, a)
		w.Write(a.body[:len(a.body)/2]) // net/http closes the connection of an answer that fell short
	}}
}

// Reset breaks the connection with a TCP reset, without an answer.
func Reset() Fault {
	return Fault{wire: func(_ *Server, w http.ResponseWriter, _ *http.Request, _ *call, _ answer) { reset(w) }}
}

// Hang never answers. It lasts until the client is gone or [Server.Close].
func Hang() Fault {
	return Fault{wire: func(s *Server, _ http.ResponseWriter, r *http.Request, _ *call, _ answer) {
		s.pause(r, nil)
		panic(http.ErrAbortHandler)
	}}
}

// Hold answers truly, but not before release is closed. When the client is gone or the Server closed before, it ends
// without an answer; nothing is executed then, unless it strikes after the execution.
func Hold(release <-chan struct{}) Fault {
	return Fault{hold: release}
}

// Delay answers truly, but after d. Like Hold, it ends early with the client or the Server.
func Delay(d time.Duration) Fault {
	return Fault{delay: d}
}

// AfterExecution lets the request take effect first, so that only its true answer is lost or late. Its idempotency key
// keeps the true answer.
func (f Fault) AfterExecution() Fault {
	f.after = true
	return f
}

// Kept makes the idempotency key keep the fault's answer, as Stripe keeps a 500 that came once the execution had begun.
// It does nothing for a fault without an answer of its own, or after the execution.
func (f Fault) Kept() Fault {
	f.keep = true
	return f
}

// ShouldRetry adds the header Stripe-Should-Retry to the fault's answer.
func (f Fault) ShouldRetry(retry bool) Fault {
	return f.withHeader("Stripe-Should-Retry", strconv.FormatBool(retry))
}

func (f Fault) withHeader(name, value string) Fault {
	f.header = f.header.Clone()
	if f.header == nil {
		f.header = make(http.Header)
	}
	f.header.Set(name, value)
	return f
}

func refuse(e *apiError) Fault {
	a := e.answer()
	return Fault{answer: &a}
}
