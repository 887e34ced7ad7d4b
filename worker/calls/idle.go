package calls

import (
	"compress/gzip"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// idle are connections that no request has, for the next one to the same place. The zero value is ready to use.
type idle struct {
	mu     sync.Mutex
	conns  map[string][]*conn // by place, the one that was used last behind the others
	total  int
	closed bool // none are kept any more
}

// Bounds of idle connections, as net/http has them by default but for the first.
const (
	idleOfPlace = 64
	idleInAll   = 256
	idleFor     = 90 * time.Second
)

// take takes the connection that was used last, of those that are not closed by the other side.
func (i *idle) take(place string) *conn {
	for {
		c := i.last(place)
		if c == nil || c.quiet() {
			return c
		}
		_ = c.Close()
	}
}

func (i *idle) last(place string) *conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	of := i.conns[place]
	if len(of) == 0 {
		return nil
	}
	c := of[len(of)-1]
	i.remove(c)
	return c
}

// remove takes a connection out, and tells whether it was there. The lock is held.
func (i *idle) remove(c *conn) bool {
	at := slices.Index(i.conns[c.place], c)
	if at < 0 {
		return false
	}
	c.expires.Stop()
	i.total--
	if i.conns[c.place] = slices.Delete(i.conns[c.place], at, at+1); len(i.conns[c.place]) == 0 {
		delete(i.conns, c.place)
	}
	return true
}

// put keeps a connection, or closes it where there are enough.
func (i *idle) put(c *conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed || i.total >= idleInAll || len(i.conns[c.place]) >= idleOfPlace {
		_ = c.Close()
		return
	}
	if i.conns == nil {
		i.conns = map[string][]*conn{}
	}
	i.conns[c.place] = append(i.conns[c.place], c)
	i.total++
	c.expires = time.AfterFunc(idleFor, func() { i.expire(c) })
}

func (i *idle) expire(c *conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.remove(c) {
		_ = c.Close()
	}
}

// close closes all, and those that come later.
func (i *idle) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	for _, of := range i.conns {
		for _, c := range of {
			c.expires.Stop()
			_ = c.Close()
		}
	}
	clear(i.conns)
	i.total = 0
}

// quiet tells whether nothing has come on an idle connection: neither its end nor anything that nobody asked for.
func (c *conn) quiet() bool {
	secured, isSecured := c.Conn.(*tls.Conn)
	raw := c.Conn
	if isSecured {
		raw = secured.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok && !untouched(tcp) {
		return false
	}
	return !isSecured || drained(secured)
}

// drained tells whether nothing is left of what was read with an answer, and came behind it: TLS takes in more than it is asked
// for.
func drained(c *tls.Conn) bool {
	_ = c.SetReadDeadline(time.Unix(1, 0)) // it fails where the connection is closed, and so does the read
	n, err := c.Read(make([]byte, 1))
	_ = c.SetReadDeadline(time.Time{})
	return n == 0 && isTimeout(err)
}

// unzip has a response's body read as it was before it was packed.
func unzip(resp *http.Response) {
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	resp.ContentLength, resp.Uncompressed = -1, true
	resp.Body = &unzipped{packed: resp.Body}
}

// unzipped is a body whose packed form is read when it is first asked for.
type unzipped struct {
	packed io.ReadCloser
	reader *gzip.Reader
	err    error
}

// Read implements io.Reader.
func (u *unzipped) Read(p []byte) (n int, err error) {
	if u.reader == nil && u.err == nil {
		u.reader, u.err = gzip.NewReader(u.packed)
	}
	if u.err != nil {
		return 0, u.err
	}
	return u.reader.Read(p)
}

// Close implements io.Closer.
func (u *unzipped) Close() error { return u.packed.Close() }
