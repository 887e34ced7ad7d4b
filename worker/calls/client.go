package calls

import (
	"bytes"
	"context"
	"fmt"
	"io"
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
	http    *http.Client
}

// access is what a client may use beside its service.
type access struct {
	secrets   func(name string) (string, bool)
	bound     func(secret string) bool // tells whether a secret may be sent to the service
	reach     func(*url.URL) bool      // tells whether a redirect may lead to a URL outside of the service
	resolver  *net.Resolver            // nil: the system's
	transport http.RoundTripper        // in place of the network
}

// result is what came of one try.
type result struct {
	answer job.Answer
	retry  bool          // trying again may help
	after  time.Duration // how long the API asked to wait; zero: it did not
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
	c := &client{service: s, access: a}
	if a.transport == nil {
		a.transport = newNetwork(s, a.resolver)
	}
	c.http = &http.Client{Transport: a.transport, CheckRedirect: c.redirect}
	return c
}

func (c *client) close() { c.http.CloseIdleConnections() }

// send makes one try.
func (c *client) send(ctx context.Context, call job.Call) result {
	began := time.Now()
	r := c.try(ctx, call)
	if f := r.answer.Failure; f != nil {
		f.Type, f.Code, f.Message = cut(f.Type, 128), cut(f.Code, 128), cut(f.Message, maxMessage)
	}
	r.answer.Duration = float64(time.Since(began).Microseconds()) / 1000
	return r
}

func (c *client) try(ctx context.Context, call job.Call) result {
	timeout := c.service.Timeout
	if t := call.Request.Timeout; t > 0 {
		timeout = min(t, maxTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, used, refusal := c.request(ctx, call)
	if refusal != nil {
		return result{answer: job.Answer{Failure: refusal}}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return used.redact(c.networkFailure(err, timeout))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusSwitchingProtocols { // its body is the connection, which no timeout ends
		return result{answer: job.Answer{Status: resp.StatusCode, Failure: &job.Failure{
			Type: job.FailureConnection, Message: "the API answered 101 Switching Protocols, which nobody asked for"}}}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(c.service.ResponseLimit)+1))
	if err != nil {
		r := c.networkFailure(err, timeout)
		r.answer.Status = resp.StatusCode
		return used.redact(r)
	}
	return used.redact(c.judge(resp, body))
}

// maxTimeout is the most that a script may ask for.
const maxTimeout = time.Hour

// request builds the request, with its secrets put in.
func (c *client) request(ctx context.Context, call job.Call) (*http.Request, secretsUsed, *job.Failure) {
	r := call.Request
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, nil, &job.Failure{Type: job.FailureRejected, Message: "the URL can't be read"}
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return nil, nil, &job.Failure{Type: job.FailureRejected, Message: "want a URL http(s)://host/path, without a user"}
	}
	if !c.service.owns(u) {
		return nil, nil, &job.Failure{Type: job.FailureBlocked, Message: fmt.Sprintf("service %s does not own %s://%s", c.service.Name, u.Scheme, u.Host)}
	}
	target, err := c.service.target(u)
	if err != nil {
		return nil, nil, &job.Failure{Type: job.FailureRejected, Message: err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target.String(), bytes.NewReader(r.Body))
	if err != nil {
		return nil, nil, &job.Failure{Type: job.FailureRejected, Message: err.Error()}
	}
	req.Header.Set("User-Agent", userAgent)
	used, failure := c.fillHeader(req, r.Header)
	if failure != nil {
		return nil, nil, failure
	}
	key := req.Header.Values("Idempotency-Key")
	if len(key) == 0 && (r.Method == http.MethodPost || r.Method == http.MethodPatch) {
		key = []string{call.Key}
	}
	setIdempotencyKey(req.Header, key)
	return req, used, nil
}

// setIdempotencyKey writes the name in lower case, which is the same to an API, but not to net/http: where it knows
// the name, it sends a request again by itself when a connection breaks. A try that nobody counted, and before which
// nobody looked whether the call is still open (rule 11).
func setIdempotencyKey(h http.Header, key []string) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values := h[name]; len(values) > 0 {
			delete(h, name)
			h[strings.ToLower(name)] = values
		}
	}
	if len(key) > 0 {
		h["idempotency-key"] = key
	}
}

func (c *client) fillHeader(req *http.Request, lines []job.HeaderLine) (secretsUsed, *job.Failure) {
	var used secretsUsed
	for _, h := range lines {
		value := h.Value
		if h.Secret != "" {
			secret, failure := c.secret(h.Secret)
			if failure != nil {
				return nil, failure
			}
			used = append(used, secret)
			value += secret
		}
		if !validHeader(h.Name, value) { // the value is left out of the text: it may hold a secret
			return nil, &job.Failure{Type: job.FailureRejected, Message: fmt.Sprintf("header %q: its name or value has characters that can't be sent", h.Name)}
		}
		req.Header.Add(h.Name, value)
	}
	return used, nil
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
func (c *client) secret(name string) (string, *job.Failure) {
	if !c.access.bound(name) {
		return "", &job.Failure{Type: job.FailureBlocked, Message: fmt.Sprintf(
			"secret %s does not belong to service %s: a secret is sent to the service whose name it begins with (%s_...)", name, c.service.Name, c.service.Name)}
	}
	value, ok := c.access.secrets(name)
	if !ok || value == "" {
		return "", &job.Failure{Type: job.FailureRejected, Message: fmt.Sprintf("secret %s is not set: set %s where the worker runs", name, SecretVariable(name))}
	}
	return value, nil
}
