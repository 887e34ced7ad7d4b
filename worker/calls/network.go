package calls

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/thence-dev/thence/internal/job"
)

// network sends requests. Those to the service's own URLs may reach what the service may reach; where a redirect leads
// elsewhere, only public addresses.
type network struct {
	service   Service
	own       *side
	elsewhere *side
}

func newNetwork(s Service, resolver *net.Resolver) *network {
	ports := s.Ports
	if len(ports) == 0 && !s.AllowPrivate && s.URL == "" {
		ports = defaultPorts
	}
	return &network{
		service: s, own: newSide(s, resolver, egress{s.AllowPrivate, ports}, roots(s.CA)),
		elsewhere: newSide(s, resolver, egress{false, defaultPorts}, nil),
	}
}

// side sends requests to what may be reached by one egress: over HTTP/2, by net/http, where a host offers it, else over HTTP/1.1.
// It keeps connections for the next call, and knows no proxy: behind one the address could not be checked.
type side struct {
	first  *http1
	second *http.Transport
}

// connBuffer is the size of each of the two buffers of a connection of HTTP/2, in bytes. A usual request fits; longer lines and
// bodies pass through as they are.
const connBuffer = 1 << 10

func newSide(s Service, resolver *net.Resolver, e egress, roots *x509.CertPool) *side {
	h := &http1{
		dialer: &net.Dialer{Timeout: s.ConnectTimeout, KeepAlive: 30 * time.Second, Control: e.control, Resolver: resolver},
		tls:    &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}},
		once:   s.Never, firstByte: s.FirstByte, // on a connection that was used before, what only reads may be sent a second time
	}
	return &side{first: h, second: &http.Transport{
		Proxy: nil, DialContext: h.dialer.DialContext, DialTLSContext: h.dialSecond, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: idleOfPlace,
		MaxIdleConns: idleInAll, IdleConnTimeout: idleFor, ResponseHeaderTimeout: s.FirstByte, DisableKeepAlives: s.Never,
		ReadBufferSize: connBuffer, WriteBufferSize: connBuffer, MaxResponseHeaderBytes: maxHeaderBytes,
	}}
}

// offered is the key of a request's context by which dialSecond finds the connection that was dialled for the request.
type offered struct{}

// dialSecond is the transport's way to a connection of TLS: the one that turned out to speak HTTP/2, or a new one.
func (h *http1) dialSecond(ctx context.Context, _, host string) (net.Conn, error) {
	if offer, ok := ctx.Value(offered{}).(*atomic.Pointer[conn]); ok {
		if c := offer.Swap(nil); c != nil {
			return c.Conn, nil
		}
	}
	c, err := h.dial(ctx, "https", host)
	if err != nil {
		return nil, err
	}
	return c.Conn, nil
}

// way is how a request is sent: by net/http to a host that is known to speak HTTP/2, or has a name that net/http knows how to write.
func (s *side) way(req *http.Request) http.RoundTripper {
	host := authority(req.URL)
	if s.first.speaksSecond(host) || strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return s.second
	}
	return s
}

// RoundTrip implements http.RoundTripper, for a host that may speak HTTP/1.1.
func (s *side) RoundTrip(req *http.Request) (*http.Response, error) {
	begun := make(chan begun, 1)
	for {
		go s.begin(req, begun)
		b := <-begun
		switch {
		case b.err != nil:
			return nil, b.err
		case b.body == nil:
			return s.offer(b.conn, req)
		}
		resp, err := s.first.receive(b.body, req)
		if err == nil || !b.conn.used || !replayable(req, err) {
			return resp, err
		}
	}
}

// begun is a request that was sent, or a connection of HTTP/2 to send it on.
type begun struct {
	conn *conn
	body *body // of the response that is to come; nil: conn speaks HTTP/2
	err  error
}

// begin finds a connection, and sends the request on it. It has a goroutine of its own, since the stack of one grows by it.
func (s *side) begin(req *http.Request, to chan<- begun) {
	c, err := s.first.get(req.Context(), req.URL.Scheme, authority(req.URL))
	b := begun{conn: c, err: err}
	if why := req.Context().Err(); err != nil && why != nil {
		b.err = why
	}
	if err == nil && !c.second {
		b.body = s.first.send(c, req)
	}
	to <- b
}

// offer sends a request over HTTP/2, where the connection to it may be wanted, or not any more.
func (s *side) offer(c *conn, req *http.Request) (*http.Response, error) {
	var offer atomic.Pointer[conn]
	offer.Store(c)
	defer func() {
		if c := offer.Swap(nil); c != nil {
			_ = c.Close()
		}
	}()
	return s.second.RoundTrip(req.WithContext(context.WithValue(req.Context(), offered{}, &offer)))
}

// replayable tells whether a request may be sent again that met a connection's end: it only reads, and nothing was answered.
func replayable(req *http.Request, err error) bool {
	var none noAnswer
	return errors.As(err, &none) && req.Context().Err() == nil && req.ContentLength == 0 &&
		slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace}, req.Method)
}

// authority is the host with its port, as it is dialled.
func authority(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]))
}

func (s *side) close() {
	s.first.idle.close()
	s.second.CloseIdleConnections()
}

// roots are the system's, or those of a PEM file in their place; validate has checked that it holds one.
func roots(pem []byte) *x509.CertPool {
	if len(pem) == 0 {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool
}

// RoundTrip implements http.RoundTripper. It has next to nothing on the stack of who waits.
func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	return n.way(req).RoundTrip(req)
}

func (n *network) way(req *http.Request) http.RoundTripper {
	if n.service.sends(req.URL) {
		return n.own.way(req)
	}
	return n.elsewhere.way(req)
}

// CloseIdleConnections lets go of the connections that nobody uses.
func (n *network) CloseIdleConnections() {
	n.own.close()
	n.elsewhere.close()
}

// follows tells whether a request of that method follows redirects. Only what reads does: a POST that is sent elsewhere
// could be carried out twice, or turn into a GET.
func (c *client) follows(method string) bool {
	return (method == http.MethodGet || method == http.MethodHead) && c.service.Redirects >= 0
}

// redirect is the CheckRedirect of an http.Client, for a request that follows some. Outside of the service's own URLs, and
// from there on, nothing of the request goes along: no credentials, no header, no cookie, no referrer.
func (c *client) redirect(next *http.Request, via []*http.Request) error {
	last := via[len(via)-1]
	switch {
	case len(via) > c.service.Redirects:
		return fmt.Errorf("%w: more than %d redirects", errBlocked, c.service.Redirects)
	case next.URL.Scheme != "https" && next.URL.Scheme != "http", next.URL.User != nil:
		return fmt.Errorf("%w: a redirect to %s://%s: want http(s), without a user", errBlocked, next.URL.Scheme, next.URL.Host)
	case last.URL.Scheme == "https" && next.URL.Scheme == "http":
		return fmt.Errorf("%w: a redirect from https to http://%s", errBlocked, next.URL.Host)
	case !c.stays(next, via) && !c.access.reach(next.URL):
		return fmt.Errorf("%w: a redirect to %s://%s, which belongs to no service", errBlocked, next.URL.Scheme, next.URL.Host)
	}
	next.Header.Del("Referer")
	if !c.stays(next, via) {
		next.Header = http.Header{"User-Agent": {userAgent}}
	}
	return nil
}

// stays tells whether a redirect, and all before it, lead to where the service's credentials may go.
func (c *client) stays(next *http.Request, via []*http.Request) bool {
	for _, r := range append([]*http.Request{next}, via...) {
		if !c.service.sends(r.URL) || c.service.URL == "" && origin(r.URL) != origin(via[0].URL) {
			return false
		}
	}
	return true
}

// networkFailure is a try that brought no whole answer. The URL is left out of its text: a query may hold what should
// not be stored.
func (c *client) networkFailure(err error, timeout time.Duration) result {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var network net.Error
	var dial *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errBlocked):
		return failed(job.FailureBlocked, false, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return failed(job.FailureTimeout, true, fmt.Sprintf("no whole answer within %s", timeout))
	case errors.As(err, &dial) && dial.Op == "dial" && dial.Timeout():
		return failed(job.FailureTimeout, true, fmt.Sprintf("no connection within %s", c.service.ConnectTimeout))
	case errors.As(err, &network) && network.Timeout():
		return failed(job.FailureTimeout, true, err.Error())
	case errors.As(err, &certificate): // it stays as it is until somebody changes it
		message := err.Error()
		if unknown := new(x509.UnknownAuthorityError); errors.As(err, unknown) {
			message += "; where the API has a CA of its own, the service's `ca` names its file"
		}
		return failed(job.FailureConnection, false, message)
	case err == io.ErrUnexpectedEOF: //nolint:errorlint // as it is: noAnswer says more
		return failed(job.FailureConnection, true, "the answer broke off in the middle: "+err.Error())
	default:
		return failed(job.FailureConnection, true, unquoted(err.Error()))
	}
}

// unquoted leaves out what net/http quotes of what the server sent: a piece of it may be a piece of a secret.
func unquoted(text string) string {
	if at := strings.IndexByte(text, '"'); at >= 0 {
		return strings.TrimRight(text[:at], " :")
	}
	return text
}
