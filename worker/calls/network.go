package calls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// network sends requests. Those to the service's own URLs may reach what the service may reach; where a redirect leads
// elsewhere, only public addresses.
type network struct {
	service   Service
	own       *http.Transport
	elsewhere *http.Transport
}

func newNetwork(s Service, resolver *net.Resolver) *network {
	ports := s.Ports
	if len(ports) == 0 && !s.AllowPrivate && s.URL == "" {
		ports = defaultPorts
	}
	return &network{
		service: s, own: transport(s, resolver, egress{s.AllowPrivate, ports}, roots(s.CA)),
		elsewhere: transport(s, resolver, egress{false, defaultPorts}, nil),
	}
}

// connBuffer is the size of each of a connection's two buffers, in bytes. net/http's own 4 KiB are most of what a call
// that waits takes. A usual request fits; longer lines and bodies pass through as they are.
const connBuffer = 1 << 10

// transport keeps connections for the next call, speaks HTTP/2 where it is offered, and knows no proxy: behind one the
// address could not be checked.
func transport(s Service, resolver *net.Resolver, e egress, roots *x509.CertPool) *http.Transport {
	dialer := &net.Dialer{Timeout: s.ConnectTimeout, KeepAlive: 30 * time.Second, Control: e.control, Resolver: resolver}
	return &http.Transport{
		Proxy: nil, DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64, MaxIdleConns: 256,
		IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: s.ConnectTimeout, ResponseHeaderTimeout: s.FirstByte,
		DisableKeepAlives: s.Never, // on a connection that was used before, net/http sends what only reads a second time
		ReadBufferSize:    connBuffer, WriteBufferSize: connBuffer, MaxResponseHeaderBytes: maxHeaderBytes,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
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

// RoundTrip implements http.RoundTripper.
func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	if n.service.sends(req.URL) {
		return n.own.RoundTrip(req)
	}
	return n.elsewhere.RoundTrip(req)
}

// CloseIdleConnections lets go of the connections that nobody uses.
func (n *network) CloseIdleConnections() {
	n.own.CloseIdleConnections()
	n.elsewhere.CloseIdleConnections()
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
		return failed(job.FailureConnection, false, err.Error())
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
