// Package stripefake imitates the part of Stripe's API that Thence's flows use, for tests and the demo: customers,
// payment intents, subscriptions, products, prices, coupons and refunds, with Stripe's answers, errors, test payment
// methods and idempotency keys.
//
// A [Server] is an [http.Handler] without global state, made by [New] and served by net/http or httptest. It keeps what
// is created in memory, under ids that count up (cus_0001, pi_0001), and checks what Stripe checks first: the API key,
// the form, required parameters, and that a customer who is referred to exists. It does not check names of parameters;
// stripe-mock does.
//
// What it is really for is failing on request. A test queues faults for the requests that it means:
//
//	fake.Fail(stripefake.Operation("create_payment_intent"), stripefake.RateLimited(time.Second), stripefake.Reset())
//
// and the next two creations of a payment intent are refused and cut off; the third goes through.
// [Fault.AfterExecution] moves a fault behind the execution, where the answer is lost but the payment made. Where the
// test has no hold of the Server (the demo's scripts), a request asks for a fault by itself, with a test payment method
// (pm_card_chargeDeclined) or with metadata[fault] (see [Server.Fail]).
//
// Each request is recorded ([Server.Requests]), each execution counted ([Server.Executed]), and [Server.WaitFor] waits
// until requests are in the state that a test needs, so that no test has to sleep.
package stripefake

import (
	"net/http"
	"sync"
	"time"
)

// Options set up a Server. The zero value is usable.
type Options struct {
	// Key is the API key that requests must carry. Empty: any key does, but there must be one.
	Key string
	// Customers are ids of customers that exist from the start, without an execution being counted for them.
	Customers []string
	// Now is the clock for what is created and recorded. Nil: time.Now.
	Now func() time.Time
}

// Server imitates Stripe. It is safe for concurrent use. Close it before the http.Server that serves it, which
// otherwise waits for the requests that a fault keeps hanging.
type Server struct {
	key  string
	now  func() time.Time
	mux  *http.ServeMux
	done chan struct{} // closed by Close
	stop sync.Once

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced whenever a record changes
	requests []Request
	executed map[string]int
	rules    []*rule
	kept     map[string]keptAnswer // by idempotency key
	store    store
}

// New makes a Server.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		key:      o.Key,
		now:      o.Now,
		done:     make(chan struct{}),
		changed:  make(chan struct{}),
		executed: make(map[string]int),
		kept:     make(map[string]keptAnswer),
		store:    newStore(),
	}
	for _, id := range o.Customers {
		s.store.put(newCustomer(id, s.created()))
	}
	s.mux = s.routes()
	return s
}

// routes is the table of what is imitated. An operation is named for its verb and its resource.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	handle := func(pattern, operation string, run operationFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, operation, run) })
	}
	handle("POST /v1/customers", "create_customer", s.createCustomer)
	handle("GET /v1/customers", "list_customers", s.list("customer"))
	handle("GET /v1/customers/{id}", "retrieve_customer", s.retrieve("customer"))
	handle("POST /v1/customers/{id}", "update_customer", s.updateCustomer)
	handle("DELETE /v1/customers/{id}", "delete_customer", s.delete("customer"))

	handle("POST /v1/payment_intents", "create_payment_intent", s.createPaymentIntent)
	handle("GET /v1/payment_intents", "list_payment_intents", s.list("payment_intent"))
	handle("GET /v1/payment_intents/{id}", "retrieve_payment_intent", s.retrieve("payment_intent"))
	handle("POST /v1/payment_intents/{id}", "update_payment_intent", s.updatePaymentIntent)
	handle("POST /v1/payment_intents/{id}/confirm", "confirm_payment_intent", s.confirmPaymentIntent)
	handle("POST /v1/payment_intents/{id}/capture", "capture_payment_intent", s.capturePaymentIntent)
	handle("POST /v1/payment_intents/{id}/cancel", "cancel_payment_intent", s.cancelPaymentIntent)

	handle("POST /v1/subscriptions", "create_subscription", s.createSubscription)
	handle("GET /v1/subscriptions", "list_subscriptions", s.list("subscription"))
	handle("GET /v1/subscriptions/{id}", "retrieve_subscription", s.retrieve("subscription"))
	handle("POST /v1/subscriptions/{id}", "update_subscription", s.updateSubscription)
	handle("DELETE /v1/subscriptions/{id}", "cancel_subscription", s.cancelSubscription)

	handle("POST /v1/products", "create_product", s.createProduct)
	handle("GET /v1/products", "list_products", s.list("product"))
	handle("GET /v1/products/{id}", "retrieve_product", s.retrieve("product"))
	handle("POST /v1/products/{id}", "update_product", s.update("product", productChanges))
	handle("DELETE /v1/products/{id}", "delete_product", s.deleteProduct)

	handle("POST /v1/prices", "create_price", s.createPrice)
	handle("GET /v1/prices", "list_prices", s.list("price"))
	handle("GET /v1/prices/{id}", "retrieve_price", s.retrieve("price"))
	handle("POST /v1/prices/{id}", "update_price", s.update("price", priceChanges))

	handle("POST /v1/coupons", "create_coupon", s.createCoupon)
	handle("GET /v1/coupons", "list_coupons", s.list("coupon"))
	handle("GET /v1/coupons/{id}", "retrieve_coupon", s.retrieve("coupon"))
	handle("POST /v1/coupons/{id}", "update_coupon", s.update("coupon", couponChanges))
	handle("DELETE /v1/coupons/{id}", "delete_coupon", s.delete("coupon"))

	handle("POST /v1/refunds", "create_refund", s.createRefund)
	handle("GET /v1/refunds", "list_refunds", s.list("refund"))
	handle("GET /v1/refunds/{id}", "retrieve_refund", s.retrieve("refund"))
	handle("POST /v1/refunds/{id}", "update_refund", s.update("refund", refundChanges))
	handle("POST /v1/refunds/{id}/cancel", "cancel_refund", s.cancelRefund)

	handle("/", "", unknownURL)
	return mux
}

// ServeHTTP answers one request as Stripe would, or with the fault that is due for it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mux.ServeHTTP(w, r)
}

// Close cuts off every request that a fault keeps hanging, and makes later ones of that kind end at once. Other
// requests are still answered. It may be called more than once.
func (s *Server) Close() {
	s.stop.Do(func() { close(s.done) })
}

// serve takes one request through its whole life: recorded, checked, failed on request, executed or replayed, answered.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, operation string, run operationFunc) {
	c, refusal := s.receive(w, r, operation)
	if refusal != nil {
		s.write(w, c, refusal.answer())
		return
	}
	fault := s.nextFault(c)
	a := jsonAnswer(http.StatusOK, object{"object": "fault"})
	if fault.after {
		a = s.execute(c, run)
	}
	if s.inject(w, r, c, fault, a) {
		return
	}
	if !fault.after {
		a = s.execute(c, run)
	}
	s.write(w, c, a)
}

// receive records a request and checks its key and form. The call that it returns is never nil.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, operation string) (*call, *apiError) {
	form, badForm := readForm(w, r)
	params, badParams := parseParams(form)
	c := &call{
		method:    r.Method,
		path:      r.URL.Path,
		operation: operation,
		id:        r.PathValue("id"),
		form:      form,
		params:    params,
		key:       r.Header.Get("Idempotency-Key"),
	}
	c.record = s.arrive(c, r)
	for _, refusal := range []*apiError{s.unauthorized(r), badForm, badParams} {
		if refusal != nil {
			return c, refusal
		}
	}
	return c, nil
}

// unauthorized checks that the request carries an API key, as a bearer token or as the user name of basic auth.
func (s *Server) unauthorized(r *http.Request) *apiError {
	const bearer = "Bearer "
	key, _, _ := r.BasicAuth()
	if h := r.Header.Get("Authorization"); len(h) > len(bearer) && h[:len(bearer)] == bearer {
		key = h[len(bearer):]
	}
	if key == "" {
		return &apiError{status: http.StatusUnauthorized, Type: typeInvalidRequest,
			Message: "You did not provide an API key. You need to provide your API key in the Authorization header."}
	}
	if s.key != "" && key != s.key {
		return &apiError{status: http.StatusUnauthorized, Type: typeInvalidRequest, Message: "Invalid API Key provided."}
	}
	return nil
}
