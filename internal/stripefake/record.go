package stripefake

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"time"
)

// Request is the record of a request that arrived.
type Request struct {
	Time           time.Time
	Method, Path   string
	Operation      string      // e.g. create_payment_intent; empty for a URL that is not imitated
	Form           url.Values  // query and body, as sent
	Header         http.Header // as sent, with the API key
	IdempotencyKey string
	Executed       bool // it took effect, now and not at an earlier try
	Replayed       bool // it was answered from what its idempotency key has kept
	Status         int  // of the answer; 0 while there is none, and for ever when the connection was cut before it
}

// Match chooses requests. It must not keep or change what it is given, nor call the Server.
type Match func(Request) bool

// Operation matches the requests for an operation, e.g. create_payment_intent, confirm_payment_intent,
// list_customers, cancel_subscription.
func Operation(name string) Match {
	return func(r Request) bool { return r.Operation == name }
}

// Route matches by method and by path as [path.Match] does: "POST", "/v1/payment_intents/*/confirm". An empty method
// or pattern matches any.
func Route(method, pattern string) Match {
	return func(r Request) bool {
		if method != "" && method != r.Method {
			return false
		}
		ok, err := path.Match(pattern, r.Path)
		return pattern == "" || err == nil && ok
	}
}

// Executed matches those requests of m that have taken effect. Nil m: of all.
func Executed(m Match) Match {
	return func(r Request) bool { return r.Executed && (m == nil || m(r)) }
}

// Answered matches those requests of m that have an answer. Nil m: of all.
func Answered(m Match) Match {
	return func(r Request) bool { return r.Status != 0 && (m == nil || m(r)) }
}

// Requests returns what has arrived, in order of arrival.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.matching(nil)
}

// Executed returns how often each operation has taken effect or read something. What was replayed, refused, or failed
// before its execution does not count.
func (s *Server) Executed() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.executed)
}

// WaitFor waits until n recorded requests match, and returns all that do. Nil m matches every request. It counts what
// arrived before the call as well. When ctx ends first, its error says how many there were.
func (s *Server) WaitFor(ctx context.Context, m Match, n int) ([]Request, error) {
	for {
		s.mu.Lock()
		found, changed := s.matching(m), s.changed
		s.mu.Unlock()
		if len(found) >= n {
			return found, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return found, fmt.Errorf("wait for requests: have %d of %d: %w", len(found), n, context.Cause(ctx))
		}
	}
}

// matching copies the records that match. The caller holds mu.
func (s *Server) matching(m Match) []Request {
	var found []Request
	for _, r := range s.requests {
		if m == nil || m(r) {
			r.Form, r.Header = cloneForm(r.Form), r.Header.Clone()
			found = append(found, r)
		}
	}
	return found
}

func cloneForm(form url.Values) url.Values {
	clone := make(url.Values, len(form))
	for name, values := range form {
		clone[name] = slices.Clone(values)
	}
	return clone
}

// arrive records a request and returns the record's index.
func (s *Server) arrive(c *call, r *http.Request) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{
		Time:           s.now(),
		Method:         c.method,
		Path:           c.path,
		Operation:      c.operation,
		Form:           c.form,
		Header:         r.Header.Clone(),
		IdempotencyKey: c.key,
	})
	s.announce()
	return len(s.requests) - 1
}

// announce wakes those who wait for a change. The caller holds mu.
func (s *Server) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}
