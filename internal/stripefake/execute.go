package stripefake

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

// call is one request on its way to an answer.
type call struct {
	method, path string
	operation    string
	id           string // of the object that the URL names
	form         url.Values
	params       params
	key          string // idempotency key
	record       int    // index into Server.requests
}

// operationFunc carries out an operation and returns what the answer shows. Server.mu is held while it runs.
type operationFunc func(*call) (any, *apiError)

// keptAnswer is what an idempotency key has kept: an answer, and the request to which it belongs.
type keptAnswer struct {
	request string // method, path and form
	record  int
	answer  answer
}

// execute answers from what the idempotency key has kept, or runs the operation. As at Stripe, a refusal of the request
// itself (400, 404) is not kept; a card error is.
func (s *Server) execute(c *call, run operationFunc) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept, ok := s.kept[c.idempotencyKey()]; ok {
		return s.replay(c, kept)
	}
	result, refusal := run(c)
	if refusal != nil && refusal.Type == typeInvalidRequest {
		return refusal.answer()
	}
	a := jsonAnswer(http.StatusOK, result)
	if refusal != nil {
		a = refusal.answer()
	}
	s.executed[c.operation]++
	s.requests[c.record].Executed = true
	s.keep(c, a)
	s.announce()
	return a
}

// replay answers from what was kept, if it was the same request. The caller holds mu.
func (s *Server) replay(c *call, kept keptAnswer) answer {
	if kept.request != c.fingerprint() {
		return (&apiError{status: http.StatusBadRequest, Type: typeIdempotency, Message: fmt.Sprintf("Keys for idempotent "+
			"requests can only be used with the same parameters they were first used with. Try using a key other than "+
			"'%s' if you meant to execute a different request.", c.key)}).answer()
	}
	a := kept.answer
	a.header = maps.Clone(a.header)
	if a.header == nil {
		a.header = make(http.Header)
	}
	a.header.Set("Idempotent-Replayed", "true")
	a.header.Set("Original-Request", requestID(kept.record))
	s.requests[c.record].Replayed = true
	s.announce()
	return a
}

// keep stores an answer under the call's idempotency key, if it has one and nothing is kept. The caller holds mu.
func (s *Server) keep(c *call, a answer) {
	key := c.idempotencyKey()
	if _, ok := s.kept[key]; ok || key == "" {
		return
	}
	s.kept[key] = keptAnswer{request: c.fingerprint(), record: c.record, answer: a}
}

// idempotencyKey is the key as far as it counts: Stripe ignores it for GET and DELETE.
func (c *call) idempotencyKey() string {
	if c.method != http.MethodPost {
		return ""
	}
	return c.key
}

func (c *call) fingerprint() string {
	return c.method + " " + c.path + "?" + c.form.Encode()
}

// write sends an answer with the headers that Stripe sets.
func (s *Server) write(w http.ResponseWriter, c *call, a answer) {
	s.writeHead(w, c, a)
	w.Write(a.body)
}

// writeHead sends an answer's status and headers, and records the status first, so that whoever got the answer finds it
// recorded.
func (s *Server) writeHead(w http.ResponseWriter, c *call, a answer) {
	s.mu.Lock()
	s.requests[c.record].Status = a.status
	s.announce()
	s.mu.Unlock()

	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Request-Id", requestID(c.record))
	if c.key != "" {
		h.Set("Idempotency-Key", c.key)
	}
	if a.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="Stripe"`)
	}
	maps.Copy(h, a.header)
	w.WriteHeader(a.status)
}

func requestID(record int) string {
	return fmt.Sprintf("req_%04d", record+1)
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
