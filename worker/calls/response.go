package calls

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// Bounds of an answer's header.
const (
	maxHeaderBytes = 64 << 10
	maxHeaderLines = 64
	maxHeaderValue = 2 << 10
)

// judge tells a response from a failure.
func (c *client) judge(resp *http.Response, body []byte) result {
	r := result{answer: job.Answer{Status: resp.StatusCode, Header: keptHeader(resp.Header), Body: body}}
	tooLarge := len(body) > min(c.service.ResponseLimit, maxInline)
	if tooLarge {
		r.answer.Body, body = nil, nil
	}
	member := c.errorMember(body)
	switch {
	case resp.StatusCode >= 300: // also with a body that is too large: the status says whether to try again
		r.answer.Failure = statusFailure(resp, member)
		r.retry, r.after = c.service.retries(resp), retryAfter(resp.Header.Get("Retry-After"), time.Now())
	case tooLarge:
		r.answer.Failure = c.tooLarge()
	case member != nil:
		r.answer.Failure = member
	case c.service.ErrorMember && !json.Valid(body) && !bodyless(resp) && !isFile(resp):
		r.answer.Failure = &job.Failure{Type: job.FailureConnection, Message: "the body is not the JSON that this API answers with"}
		r.retry = true
	}
	return r
}

// bodyless tells whether an answer has no body by its nature.
func bodyless(resp *http.Response) bool {
	return resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusResetContent || resp.Request.Method == http.MethodHead
}

// isFile tells whether an answer says that it is a file, such as the PDF of one of Stripe's quotes. Pages that proxies answer
// with in an API's place are text.
func isFile(resp *http.Response) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && !strings.HasPrefix(kind, "text/") && kind != "application/json" && !strings.HasSuffix(kind, "+json") && !strings.HasSuffix(kind, "xml")
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
		f.Message += fmt.Sprintf("; redirects of a %s are not followed", resp.Request.Method)
	}
	return f
}

// retries tells whether a status may be another one next time. Stripe-Should-Retry knows better when it is there.
func (s Service) retries(resp *http.Response) bool {
	if s.Never {
		return false
	}
	if should, err := strconv.ParseBool(resp.Header.Get("Stripe-Should-Retry")); err == nil {
		return should
	}
	if len(s.RetryOn) > 0 {
		status := strconv.Itoa(resp.StatusCode)
		return slices.Contains(s.RetryOn, status) || slices.Contains(s.RetryOn, status[:1]+"xx")
	}
	switch status := resp.StatusCode; status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	default:
		return status >= 500 && status != http.StatusNotImplemented
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
