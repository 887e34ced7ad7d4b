package thencetest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/thence-dev/thence/internal/stripefake"
	"github.com/thence-dev/thence/worker"
)

// Service is an HTTP API on this machine that answers as a test tells it, and keeps what it was asked.
type Service struct {
	// Config is how the pool declares the service: it may be changed until Start. Its back-off is a millisecond.
	Config worker.Service

	t    TB
	mux  *http.ServeMux
	rest http.Handler // answers what the test has said nothing about
	end  chan struct{}

	mu       sync.Mutex
	routes   map[string]*Route
	requests []Request
	asking   int // requests that came and are not answered
}

// Request is one that a service got. A call that is tried again is several, with the same Key.
type Request struct {
	Method string
	Path   string
	Query  url.Values
	Header http.Header
	Key    string // Idempotency-Key
	Body   string
}

// NewService starts an API that owns a base URL, such as https://api.acme.dev: what scripts send there goes to it. A
// request that the test has not spoken of (see On) fails the test.
func NewService(t TB, name, base string) *Service {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		t.Fatalf("thencetest: service %s: %q is no URL such as https://api.acme.dev", name, base)
	}
	s := &Service{t: t, mux: http.NewServeMux(), end: make(chan struct{}), routes: map[string]*Route{}}
	s.rest = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("service %s was asked for %s %s, and the test does not say what it answers: see Service.On", name, r.Method, r.URL.Path)
		http.Error(w, "the test does not say what to answer", http.StatusNotImplemented)
	})
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	t.Cleanup(func() { close(s.end) })
	s.Config = worker.Service{
		Name: name, URL: base, Endpoint: web.URL + u.Path, AllowPrivate: true, Backoff: time.Millisecond, MaxWait: 10 * time.Millisecond,
	}
	return s
}

// NewStripe starts an imitation of Stripe with customers, payment intents, subscriptions, products, prices, coupons and
// refunds, and Stripe's test payment methods: pm_card_visa is charged, pm_card_chargeDeclined is not. On makes it answer
// otherwise.
func NewStripe(t TB) *Service {
	t.Helper()
	s := NewService(t, "stripe", "https://api.stripe.com")
	fake := stripefake.New(stripefake.Options{})
	t.Cleanup(fake.Close)
	s.rest, s.Config.ErrorMember = fake, true
	return s
}

// On says what is answered to requests that a pattern of http.ServeMux matches, such as "POST /v1/orders/{id}/cancel".
func (s *Service) On(pattern string) *Route {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.routes[pattern]
	if r == nil {
		r = &Route{service: s, pattern: pattern}
		s.routes[pattern] = r
		s.mux.Handle(pattern, r)
	}
	return r
}

// Requests are those that have come so far, in their order.
func (s *Service) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ServeHTTP takes a request as the API.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return // the worker has gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.mu.Lock()
	s.requests = append(s.requests, Request{
		Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Header: r.Header.Clone(), Key: r.Header.Get("Idempotency-Key"), Body: string(body),
	})
	s.asking++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asking--
	}()
	if route, pattern := s.mux.Handler(r); pattern != "" && route != nil {
		s.mux.ServeHTTP(w, r)
		return
	}
	s.rest.ServeHTTP(w, r)
}

// Route is what a service answers to some requests: one answer after the other, the last one again and again.
type Route struct {
	service *Service
	pattern string

	mu      sync.Mutex
	answers []http.HandlerFunc
}

// Answer answers with a status and a body: a text as it stands, nil for none, anything else as JSON.
func (r *Route) Answer(status int, body any) *Route {
	r.service.t.Helper()
	text, isText := body.(string)
	if !isText {
		text = string(encode(r.service.t, "answer to "+r.pattern, body))
	}
	return r.Do(func(w http.ResponseWriter, _ *http.Request) {
		if json.Valid([]byte(text)) {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text) // the worker may have gone
	})
}

// Reset cuts the connection off without an answer.
func (r *Route) Reset() *Route {
	return r.Do(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// Hang answers nothing, until the worker gives up.
func (r *Route) Hang() *Route {
	return r.Do(func(_ http.ResponseWriter, q *http.Request) {
		select {
		case <-q.Context().Done():
		case <-r.service.end:
		}
	})
}

// Do answers by a function, which may be called by several goroutines at a time.
func (r *Route) Do(answer http.HandlerFunc) *Route {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = append(r.answers, answer)
	return r
}

// ServeHTTP answers with what is next.
func (r *Route) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	if len(r.answers) == 0 {
		r.mu.Unlock()
		r.service.rest.ServeHTTP(w, q)
		return
	}
	answer := r.answers[0]
	if len(r.answers) > 1 {
		r.answers = r.answers[1:]
	}
	r.mu.Unlock()
	answer(w, q)
}
