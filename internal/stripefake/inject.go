package stripefake

import (
	"bytes"
	"context"
	"maps"
	"net"
	"net/http"
	"time"
)

// rule is a queue of faults for the requests that match.
type rule struct {
	match  Match
	faults []Fault
	always bool // the first fault is never used up
}

// Fail queues faults for the requests that match, one for each, in order; when they are used up, requests go through
// again. Nil m matches every request. Among several calls of Fail that match a request, the earliest with faults left
// counts. A refused API key or an unreadable form uses up nothing.
//
// A request for which none is queued may ask for a fault itself, with metadata[fault] on a POST: card_declined,
// insufficient_funds, conflict, rate_limit, lock_timeout, api_error, unavailable, not_json, truncated, reset or hang.
// It strikes at every try, before the execution.
func (s *Server) Fail(m Match, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, &rule{match: m, faults: faults})
}

// FailAlways makes every request that matches go wrong in the same way.
func (s *Server) FailAlways(m Match, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, &rule{match: m, faults: []Fault{f}, always: true})
}

// nextFault takes the fault that is due for a call. The zero Fault does nothing.
func (s *Server) nextFault(c *call) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	request := s.requests[c.record]
	for _, rule := range s.rules {
		if len(rule.faults) == 0 || rule.match != nil && !rule.match(request) {
			continue
		}
		f := rule.faults[0]
		if !rule.always {
			rule.faults = rule.faults[1:]
		}
		return f
	}
	if c.method == http.MethodPost {
		return faultNamed(c.params.object("metadata").text("fault"))
	}
	return Fault{}
}

// faultNamed is the fault that metadata[fault] asks for. An unknown name asks for none.
func faultNamed(name string) Fault {
	switch name {
	case "card_declined":
		return CardDeclined("")
	case "insufficient_funds":
		return CardDeclined(name)
	case "conflict":
		return Conflict()
	case "rate_limit":
		return RateLimited(time.Second)
	case "lock_timeout":
		return LockTimeout()
	case "api_error":
		return ServerError()
	case "unavailable":
		return Unavailable()
	case "not_json":
		return NotJSON(http.StatusBadGateway)
	case "truncated":
		return Truncated()
	case "reset":
		return Reset()
	case "hang":
		return Hang()
	}
	return Fault{}
}

// inject carries out a fault, and says whether that was the request's end. a is the true answer of a fault after the
// execution; before it there is none yet, and a stands in.
func (s *Server) inject(w http.ResponseWriter, r *http.Request, c *call, f Fault, a answer) bool {
	if !s.wait(r, f) {
		panic(http.ErrAbortHandler)
	}
	if f.answer == nil && f.wire == nil {
		maps.Copy(w.Header(), f.header)
		return false
	}
	if f.answer != nil {
		a = *f.answer
	}
	if f.header != nil {
		a.header = f.header
	}
	if f.keep && f.answer != nil && !f.after {
		s.mu.Lock()
		s.keep(c, a)
		s.mu.Unlock()
	}
	if f.wire != nil {
		f.wire(s, w, r, c, a)
	} else {
		s.write(w, c, a)
	}
	return true
}

// wait holds a request back as its fault says. It returns false when the client left or the Server closed before.
func (s *Server) wait(r *http.Request, f Fault) bool {
	switch {
	case f.hold != nil:
		return s.pause(r, f.hold)
	case f.delay > 0:
		ctx, cancel := context.WithTimeout(context.Background(), f.delay)
		defer cancel()
		return s.pause(r, ctx.Done())
	}
	return true
}

// pause waits for release, and says whether it came. Nil release never comes.
func (s *Server) pause(r *http.Request, release <-chan struct{}) bool {
	select {
	case <-release:
		return true
	case <-r.Context().Done():
		return false
	case <-s.done:
		return false
	}
}

// reset closes the connection so that TCP sends a reset instead of an orderly end.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 has no connection to hijack; this resets the request's stream
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a failure means that the connection is gone already
	}
	conn.Close()
}

// writeHuge writes a JSON object with n bytes of padding, until the client has had enough.
func writeHuge(w http.ResponseWriter, n int64) {
	chunk := bytes.Repeat([]byte("x"), 32<<10)
	w.Write([]byte(`{"object":"huge","padding":"`))
	for ; n > 0; n -= int64(len(chunk)) {
		if _, err := w.Write(chunk[:min(n, int64(len(chunk)))]); err != nil {
			return
		}
	}
	w.Write([]byte("\"}\n"))
}
