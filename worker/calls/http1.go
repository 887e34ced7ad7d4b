package calls

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// http1 sends requests over HTTP/1.1, where each has a connection of its own while it is under way. It writes and reads them as
// net/http does, by its Request.Write and ReadResponse, but on the goroutine that asks: net/http's Transport has two more for each
// connection, and two buffers, which is most of what a call that waits would take.
//
// A request is sent once, but for one that only reads, on a connection that was idle and turns out to have been closed.
type http1 struct {
	dialer    *net.Dialer
	tls       *tls.Config
	firstByte time.Duration // how long a response may take to begin; 0: as long as the request's context lets it
	once      bool          // no connection is used again
	idle      idle
	second    sync.Map // hosts, with port, that speak HTTP/2; true
}

// conn is a connection of http1.
type conn struct {
	net.Conn
	place   string // where it leads, for the next request there
	used    bool   // by a request before this one
	second  bool   // it speaks HTTP/2
	left    int    // how much of a response's header may come
	expires *time.Timer
	written chan bool // tells once whether the whole request was written; nil: it was
}

// Bounds of what is written before anything is read, of connections' buffers, and of a conn's left where there is none.
const (
	writtenFirst = 16 << 10
	readBuffer   = 4 << 10
	unbounded    = -1
)

// waitError is a wait that was too long. It implements net.Error.
type waitError string

func (e waitError) Error() string { return string(e) }
func (waitError) Timeout() bool   { return true }
func (waitError) Temporary() bool { return true }

// get returns a connection for a request: one that is idle, or a new one.
func (h *http1) get(ctx context.Context, scheme, host string) (*conn, error) {
	if c := h.idle.take(scheme + "://" + host); c != nil {
		return c, nil
	}
	return h.dial(ctx, scheme, host)
}

// dial makes a connection.
func (h *http1) dial(ctx context.Context, scheme, host string) (*conn, error) {
	raw, err := h.dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, place: scheme + "://" + host, left: unbounded}
	if scheme == "https" {
		err = h.secure(ctx, c, host)
	}
	return c, err
}

// secure makes a connection one of TLS, and takes note of the protocol that the host speaks. Where that fails it closes it.
func (h *http1) secure(ctx context.Context, c *conn, host string) error {
	config := h.tls.Clone()
	config.ServerName, _, _ = net.SplitHostPort(host)
	secured := tls.Client(c.Conn, config)
	within, cancel := context.WithTimeout(ctx, h.dialer.Timeout)
	defer cancel()
	if err := secured.HandshakeContext(within); err != nil {
		_ = c.Close()
		if within.Err() != nil && ctx.Err() == nil {
			return waitError("TLS handshake timeout")
		}
		return err
	}
	c.Conn, c.second = secured, secured.ConnectionState().NegotiatedProtocol == "h2"
	if c.second {
		h.second.Store(host, true)
	} else {
		h.second.Delete(host)
	}
	return nil
}

// speaksSecond tells whether a host is known to speak HTTP/2.
func (h *http1) speaksSecond(host string) bool { _, known := h.second.Load(host); return known }

// send sends a request on a connection, which belongs to the body of the response from then on.
func (h *http1) send(c *conn, req *http.Request) *body {
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: c.Conn, Reused: c.used})
	}
	b := &body{of: h, conn: c, ctx: req.Context()}
	b.stop = context.AfterFunc(b.ctx, c.cut)
	b.zipped = h.write(c, req)
	return b
}

// receive waits for the head of a response.
func (h *http1) receive(b *body, req *http.Request) (*http.Response, error) {
	first, err := h.await(b.ctx, b.conn)
	if err != nil {
		b.end(false)
		return nil, b.because(err)
	}
	resp, err := b.head(first, req)
	if err != nil {
		b.end(false)
		return nil, b.because(err)
	}
	if b.ReadCloser == nil {
		b.end(true)
	}
	return resp, nil
}

// head reads a response's head, of which there is the first byte.
func (b *body) head(first string, req *http.Request) (*http.Response, error) {
	b.conn.left = maxHeaderBytes
	b.reader = bufio.NewReaderSize(io.MultiReader(strings.NewReader(first), b.conn), readBuffer)
	resp, err := response(b.reader, req)
	if err != nil {
		return nil, err
	}
	b.conn.left = unbounded
	switched := resp.StatusCode == http.StatusSwitchingProtocols
	b.again = !resp.Close && !b.of.once && !switched
	if resp.Body == http.NoBody && !switched {
		return resp, nil
	}
	b.ReadCloser = resp.Body
	resp.Body = b
	if b.zipped && strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		unzip(resp)
	}
	return resp, nil
}

// response reads a response's head. Those that only announce one are passed over; together they have the bound of one.
func response(r *bufio.Reader, req *http.Request) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(r, req)
		if err != nil || resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
	}
}

// write writes a request, one with a long body beside what is read: an API may answer before it has all of it. An error shows when
// the response is read: there may be one in spite of it. zipped tells whether the response may be packed, which is for us to undo.
func (h *http1) write(c *conn, req *http.Request) (zipped bool) {
	out := *req
	out.Header = req.Header.Clone()
	if req.Method != http.MethodHead && out.Header.Get("Accept-Encoding") == "" && out.Header.Get("Range") == "" {
		out.Header.Set("Accept-Encoding", "gzip")
		zipped = true
	}
	out.Close = h.once
	w := func() error {
		buffer := writers.Get().(*bufio.Writer)
		defer writers.Put(buffer)
		buffer.Reset(c)
		defer buffer.Reset(nil)
		return errors.Join(out.Write(buffer), buffer.Flush())
	}
	if req.ContentLength <= writtenFirst {
		_ = w()
		return zipped
	}
	c.written = make(chan bool, 1)
	go func(ended chan<- bool) { ended <- w() == nil }(c.written)
	return zipped
}

// writers are buffers of requests that are being written.
var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, readBuffer) }}

// await waits for the first byte of a response.
func (h *http1) await(ctx context.Context, c *conn) (string, error) {
	if h.firstByte > 0 && c.written == nil { // else it is being written still, and that takes what it takes
		c.until(ctx, time.Now().Add(h.firstByte))
		defer c.until(ctx, time.Time{})
	}
	first := make([]byte, 1)
	n, err := c.Conn.Read(first)
	switch {
	case n == 1:
		return string(first), nil
	case errors.Is(err, io.EOF):
		return "", noAnswer{io.ErrUnexpectedEOF}
	case isTimeout(err):
		return "", waitError(fmt.Sprintf("no answer began within %s", h.firstByte))
	}
	return "", noAnswer{err}
}

// noAnswer is that a connection ended before any of a response came.
type noAnswer struct{ error }

func (e noAnswer) Error() string {
	return "the server closed the connection without an answer: " + e.error.Error()
}
func (e noAnswer) Unwrap() error { return e.error }

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

// until sets when reads end. Those of a request whose context has ended are over.
func (c *conn) until(ctx context.Context, at time.Time) {
	_ = c.SetReadDeadline(at)
	if ctx.Err() != nil {
		c.cut()
	}
}

// cut ends whatever waits for the connection. It fails where that is closed already.
func (c *conn) cut() { _ = c.SetDeadline(time.Unix(1, 0)) }

// Read reads a response, within the bounds of its header.
func (c *conn) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, fmt.Errorf("the response's header exceeded %d bytes", maxHeaderBytes)
	}
	if c.left > 0 && len(p) > c.left {
		p = p[:c.left]
	}
	n, err := c.Conn.Read(p)
	if c.left > 0 {
		c.left -= n
	}
	return n, err
}

// body is what a response brings, and has its connection until it ends.
type body struct {
	io.ReadCloser // nil: there is none
	of            *http1
	conn          *conn
	reader        *bufio.Reader
	ctx           context.Context //nolint:containedctx // of the request: it ends reads
	stop          func() bool
	zipped        bool // it may be packed, which is for us to undo
	again         bool // the connection may be used again, once the body was read
	ended         atomic.Bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.ended.Load() {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end(errors.Is(err, io.EOF))
		err = b.because(err)
	}
	return n, err
}

// Close implements io.Closer. Of what has not been read nothing is.
func (b *body) Close() error {
	b.end(false)
	return nil
}

// end lets go of the connection: to the next request, or for good.
func (b *body) end(whole bool) {
	if b.ended.Swap(true) {
		return
	}
	whole = b.stop() && whole && b.again && b.reader.Buffered() == 0
	if c := b.conn; whole && c.isWritten() {
		b.of.idle.put(&conn{Conn: c.Conn, place: c.place, used: true, left: unbounded})
	} else {
		_ = c.Close()
		c.finish()
	}
}

// writeWait is how long a connection may wait to be used again for who wrote the request to say that it was all. net/http waits
// as long.
const writeWait = 50 * time.Millisecond

// isWritten tells whether the whole request was written by the time the response was read.
func (c *conn) isWritten() bool {
	if c.written == nil {
		return true
	}
	late := time.NewTimer(writeWait)
	defer late.Stop()
	select {
	case whole := <-c.written:
		c.written = nil
		return whole
	case <-late.C:
		return false
	}
}

// finish waits for who writes to a connection that is closed.
func (c *conn) finish() {
	if c.written != nil {
		<-c.written
	}
}

// because is why reading failed: the request's context, if that has ended.
func (b *body) because(err error) error {
	if b.ctx.Err() != nil && !errors.Is(err, io.EOF) {
		return b.ctx.Err()
	}
	return err
}
