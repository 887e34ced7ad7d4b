package calls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"code.dny.dev/ssrf"

	"github.com/thence-dev/thence/internal/job"
)

// client sends one service's requests.
type client struct {
	service Service
	owns    func(secret string) bool
	secrets func(string) (string, bool)
	http    *http.Client
}

// result is what came of one try.
type result struct {
	answer job.Answer
	retry  bool          // trying again may help
	after  time.Duration // how long the API asked to wait; zero: it did not
}

// Bounds of an answer's header.
const (
	maxHeaderBytes = 64 << 10
	maxHeaderLines = 64
	maxHeaderValue = 2 << 10
)

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

func newClient(s Service, owns func(secret string) bool, secrets func(string) (string, bool), transport http.RoundTripper) *client {
	if transport == nil {
		transport = network(s)
	}
	return &client{s, owns, secrets, &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// network dials what the service may reach.
func network(s Service) http.RoundTripper {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	if !s.AllowPrivate {
		// Checked on the address that is dialled, after DNS: neither a redirect nor a name that changes its mind gets
		// past it.
		dialer.Control = ssrf.New(ssrf.WithAnyPort()).Safe
	}
	return &http.Transport{
		Proxy: nil, DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64, MaxIdleConns: 256,
		IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: maxHeaderBytes,
	}
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
		return used.redact(networkFailure(err, timeout))
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(c.service.ResponseLimit)+1))
	if err != nil {
		r := networkFailure(err, timeout)
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
	if !c.owns(name) {
		return "", &job.Failure{Type: job.FailureBlocked, Message: fmt.Sprintf(
			"secret %s does not belong to service %s: a secret is sent to the service whose name it begins with (%s_...)", name, c.service.Name, c.service.Name)}
	}
	value, ok := c.secrets(name)
	if !ok || value == "" {
		return "", &job.Failure{Type: job.FailureRejected, Message: fmt.Sprintf("secret %s is not set: set %s where the worker runs", name, SecretVariable(name))}
	}
	return value, nil
}

// judge tells a response from a failure.
func (c *client) judge(resp *http.Response, body []byte) result {
	r := result{answer: job.Answer{Status: resp.StatusCode, Header: keptHeader(resp.Header), Body: body}}
	tooLarge := len(body) > c.service.ResponseLimit
	if tooLarge {
		r.answer.Body, body = nil, nil
	}
	member := c.errorMember(body)
	switch {
	case resp.StatusCode >= 300: // also with a body that is too large: the status says whether to try again
		r.answer.Failure = statusFailure(resp, member)
		r.retry, r.after = retryable(resp), retryAfter(resp.Header.Get("Retry-After"), time.Now())
	case tooLarge:
		r.answer.Failure = &job.Failure{Type: job.FailureTooLarge, Message: fmt.Sprintf("the body is over the limit of %d bytes", c.service.ResponseLimit)}
	case member != nil:
		r.answer.Failure = member
	case c.service.ErrorMember && !json.Valid(body) && !bodyless(resp):
		r.answer.Failure = &job.Failure{Type: job.FailureConnection, Message: "the body is not the JSON that this API answers with"}
		r.retry = true
	}
	return r
}

// bodyless tells whether an answer has no body by its nature.
func bodyless(resp *http.Response) bool {
	return resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusResetContent || resp.Request.Method == http.MethodHead
}

// errorMember is the failure that a body tells of by its member "error", where the service has that.
func (c *client) errorMember(body []byte) *job.Failure {
	var b map[string]json.RawMessage
	if !c.service.ErrorMember || json.Unmarshal(body, &b) != nil || len(b["error"]) == 0 || string(b["error"]) == "null" {
		return nil
	}
	f := &job.Failure{Type: job.FailureHTTP}
	var details map[string]json.RawMessage
	if json.Unmarshal(b["error"], &details) != nil { // no object: a text, say
		f.Message = plain(b["error"])
		return f
	}
	f.Code, f.Message = plain(details["code"]), plain(details["message"])
	if typ := plain(details["type"]); typ != "" {
		f.Type = typ
	}
	return f
}

// plain is a JSON string's text, and other JSON as it stands.
func plain(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		s = string(raw)
	}
	return s
}

func statusFailure(resp *http.Response, member *job.Failure) *job.Failure {
	if member != nil {
		return member
	}
	f := &job.Failure{Type: job.FailureHTTP, Message: "the API answered " + resp.Status}
	if to := resp.Header.Get("Location"); resp.StatusCode < 400 && to != "" {
		f.Message += "; redirects are not followed"
	}
	return f
}

// retryable tells whether a status may be another one next time. Stripe-Should-Retry knows better when it is there.
func retryable(resp *http.Response) bool {
	if should, err := strconv.ParseBool(resp.Header.Get("Stripe-Should-Retry")); err == nil {
		return should
	}
	switch s := resp.StatusCode; s {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	default:
		return s >= 500 && s != http.StatusNotImplemented
	}
}

// retryAfter reads the header in both of its forms (RFC 9110, 10.2.3).
func retryAfter(value string, now time.Time) time.Duration {
	if s, err := strconv.Atoi(value); err == nil && s > 0 {
		return time.Duration(min(s, 24*3600)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// networkFailure is a try that brought no whole answer. The URL is left out of its text: a query may hold what should
// not be stored.
func networkFailure(err error, timeout time.Duration) result {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var network net.Error
	switch {
	case errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedPort), errors.Is(err, ssrf.ErrProhibitedNetwork):
		return result{answer: job.Answer{Failure: &job.Failure{
			Type: job.FailureBlocked, Message: "the address is not public, and the service does not allow private ones: " + err.Error()}}}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return result{retry: true, answer: job.Answer{Failure: &job.Failure{
			Type: job.FailureTimeout, Message: fmt.Sprintf("no whole answer within %s", timeout)}}}
	default:
		return result{retry: true, answer: job.Answer{Failure: &job.Failure{Type: job.FailureConnection, Message: err.Error()}}}
	}
}

// keptHeader is an answer's header as scripts see it: one value a name, bounded.
func keptHeader(h http.Header) map[string]string {
	kept := map[string]string{}
	for name, values := range h {
		if len(kept) < maxHeaderLines && len(values) > 0 && len(values[0]) <= maxHeaderValue && name != "Set-Cookie" {
			kept[name] = strings.Join(values[:1], "")
		}
	}
	return kept
}
