package calls

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// client sends one service's requests.
type client struct {
	service Service
	access  access
	secrets redactor

	transport http.RoundTripper
	network   *network // what transport is, unless access has another

	connecting *connecting // nil: no connection of it can be shared
}

// access is what a client may use beside its service.
type access struct {
	secrets   Secrets
	bound     func(secret string) bool // tells whether a secret may be sent to the service
	bodies    Bodies                   // nil: none are stored
	reach     func(*url.URL) bool      // tells whether a redirect may lead to a URL outside of the service
	resolver  *net.Resolver            // nil: the system's
	transport http.RoundTripper        // in place of the network
	clock     Clock
}

// result is what came of one try.
type result struct {
	answer job.Answer
	retry  bool          // trying again may help
	after  time.Duration // how long the API asked to wait; zero: it did not
	ours   bool          // it failed for what is not the API's: NATS, which stores bodies
}

// maxMessage bounds a failure's message, in bytes. It stands in the answer beside the body that it may come from, and
// in a retry's timer.
const maxMessage = 2 << 10

// cut is s with at most n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-len("…")], "") + "…"
}

// userAgent is what APIs see.
const userAgent = "thence (+https://github.com/thence-dev/thence)"

func newClient(s Service, a access) *client {
	c := &client{service: s, access: a, transport: a.transport}
	if a.transport == nil {
		c.network = newNetwork(s, a.resolver)
		c.transport = c.network
		if !s.Never && strings.HasPrefix(s.Endpoint, "https:") { // what is sent once has a connection of its own
			c.connecting = newConnecting()
		}
	}
	return c
}

func (c *client) close() {
	if c.network != nil {
		c.network.CloseIdleConnections()
	}
}

// send makes one try. What it returns holds no secret.
func (c *client) send(ctx context.Context, call job.Call) result {
	t := c.begin(ctx, &call)
	t.exchange()
	return t.end()
}

// once is what a try means that is the only one: where it was sent and no whole answer came, nobody knows what became
// of it.
func (r result) once(sent bool) result {
	r.retry = false
	f := r.answer.Failure
	if f == nil || !sent || f.Type != job.FailureTimeout && f.Type != job.FailureConnection {
		return r
	}
	f.Type, f.Message = job.FailureUnknown, "it may have been carried out, and is not sent again: "+f.Message
	return r
}

// failed is a try without an answer.
func failed(typ string, retry bool, message string) result {
	return result{retry: retry, answer: job.Answer{Failure: &job.Failure{Type: typ, Message: message}}}
}

// maxTimeout is the most that a script may ask for.
const maxTimeout = time.Hour

// request builds the request, with its secrets put in.
func (c *client) request(ctx context.Context, call job.Call) (*http.Request, *job.Failure) {
	r := call.Request
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, &job.Failure{Type: job.FailureRejected, Message: "the URL can't be read"}
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return nil, &job.Failure{Type: job.FailureRejected, Message: "want a URL http(s)://host/path, without a user"}
	}
	if !c.service.owns(u) {
		return nil, &job.Failure{Type: job.FailureBlocked, Message: fmt.Sprintf("service %s does not own %s://%s", c.service.Name, u.Scheme, u.Host)}
	}
	target, err := c.service.target(u)
	if err != nil {
		return nil, &job.Failure{Type: job.FailureRejected, Message: err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target.String(), bytes.NewReader(r.Body))
	if err != nil {
		return nil, &job.Failure{Type: job.FailureRejected, Message: err.Error()}
	}
	req.Header.Set("User-Agent", userAgent)
	if failure := c.fillHeader(req, r.Header); failure != nil {
		return nil, failure
	}
	c.setIdempotencyKey(req, call.Key)
	return req, nil
}

// setIdempotencyKey writes the name in lower case, which is the same to an API, but not to net/http: where it knows
// the name, it sends a request again by itself when a connection breaks. A try that nobody counted, and before which
// nobody looked whether the call is still open (rule 11).
func (c *client) setIdempotencyKey(req *http.Request, key string) {
	name := c.service.IdempotencyHeader
	if _, given := req.Header[http.CanonicalHeaderKey(name)]; !given && name != NoIdempotencyHeader && writes(req.Method) {
		req.Header[strings.ToLower(name)] = []string{key}
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key", http.CanonicalHeaderKey(name)} {
		if values := req.Header[name]; len(values) > 0 {
			delete(req.Header, name)
			req.Header[strings.ToLower(name)] = values
		}
	}
}

// writes tells whether a request of that method may need a key: others are the same however often they are sent.
func writes(method string) bool { return method == http.MethodPost || method == http.MethodPatch }

func (c *client) fillHeader(req *http.Request, lines []job.HeaderLine) *job.Failure {
	for _, h := range lines {
		value := h.Value
		if h.Secret != "" {
			secret, failure := c.secret(h.Secret, req.URL)
			if failure != nil {
				return failure
			}
			value += secret
		}
		if !validHeader(h.Name, value) { // the value is left out of the text: it may hold a secret
			return &job.Failure{Type: job.FailureRejected, Message: fmt.Sprintf("header %q: its name or value has characters that can't be sent", h.Name)}
		}
		req.Header.Add(h.Name, value)
	}
	return c.authenticate(req)
}

// authenticate adds the service's own credentials, unless the call brings that header itself.
func (c *client) authenticate(req *http.Request) *job.Failure {
	a := c.service.Auth
	if a.Kind == "" || len(req.Header.Values(a.header())) > 0 {
		return nil
	}
	secret, failure := c.secret(a.Secret, req.URL)
	if failure != nil {
		return failure
	}
	value := a.value(secret)
	if !validHeader(a.header(), value) {
		return &job.Failure{Type: job.FailureRejected, Message: fmt.Sprintf("secret %s has characters that can't be sent", a.Secret)}
	}
	req.Header.Set(a.header(), value)
	return nil
}

// validHeader tells whether a line can be sent (RFC 9110, 5.1 and 5.5).
func validHeader(name, value string) bool {
	token := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}
	control := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return !token(r) }) && !strings.ContainsFunc(value, control)
}

// secret finds a secret's value, for the service that owns it and no other.
func (c *client) secret(name string, to *url.URL) (string, *job.Failure) {
	switch {
	case c.access.bound(name):
	case c.service.URL == "":
		return "", &job.Failure{Type: job.FailureBlocked, Message: fmt.Sprintf(
			"secret %s can't be sent to %s://%s, which no service owns: declare a service that has the URL", name, to.Scheme, to.Host)}
	default:
		return "", &job.Failure{Type: job.FailureBlocked, Message: fmt.Sprintf(
			"secret %s does not belong to service %s: a secret is sent to the service that names it, or whose name it begins with (%s_...)", name, c.service.Name, c.service.Name)}
	}
	value, ok := c.access.secrets(name)
	if !ok || value == "" {
		return "", &job.Failure{Type: job.FailureRejected, Message: fmt.Sprintf(
			"secret %s is not set: set %s where the worker runs, or put it into the file %s of its --secrets directory", name, SecretVariable(name), name)}
	}
	c.secrets.knows(value)
	return value, nil
}
