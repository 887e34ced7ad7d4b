package calls

import (
	"crypto/tls"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// connecting has the calls to an API of HTTP/2 look for a connection one after another. By itself net/http has every call that
// finds all connections full make one more, and keeps those that turn out to be needed: of a thousand calls that begin
// together, hundreds make one in vain, with its handshake. The next in turn finds the one that the call before it has made.
//
// It is a courtesy: who has waited for its patience goes on. An API that takes no connections holds up nobody for longer.
type connecting struct {
	known    atomic.Bool   // there was a connection
	shared   atomic.Bool   // the API speaks HTTP/2, by its last connection
	turn     chan struct{} // holds a token while somebody looks for a connection
	patience time.Duration // how long a call waits for its turn
}

func newConnecting() *connecting {
	return &connecting{turn: make(chan struct{}, 1), patience: time.Second}
}

// enter waits for the try's turn, where there are turns.
func (c *connecting) enter(t *try) {
	if c == nil || c.known.Load() && !c.shared.Load() {
		return
	}
	select {
	case c.turn <- struct{}{}:
		t.looking.Store(true)
		return
	default:
	}
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	select {
	case c.turn <- struct{}{}:
		t.looking.Store(true)
	case <-timer.C:
	case <-t.request.Context().Done():
	}
}

// leave ends the try's turn, if it has one still.
func (c *connecting) leave(t *try) {
	if c != nil && t.looking.CompareAndSwap(true, false) {
		<-c.turn
	}
}

// found takes note of a try's connection. It is an httptrace's GotConn, which net/http calls on the goroutine that asks for one.
// A connection that a redirect led to says nothing of those to the API.
func (t *try) found(info httptrace.GotConnInfo) {
	t.sent.Store(true)
	c := t.client.connecting
	if conn, ok := info.Conn.(*tls.Conn); ok && c != nil && t.response == nil {
		c.shared.Store(conn.ConnectionState().NegotiatedProtocol == "h2")
		c.known.Store(true)
	}
	c.leave(t)
}
