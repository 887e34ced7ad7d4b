package calls

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// try is one try of a call: begin makes it, exchange sends it and waits, end reads what came. The three are apart so
// that what waits holds no more memory than it needs: exchange has next to nothing of ours on its stack.
type try struct {
	client  *client
	call    *job.Call
	began   time.Time
	timeout time.Duration
	cancel  context.CancelFunc
	request *http.Request
	sent    atomic.Bool // a connection was there to send it on; known where it matters
	looking atomic.Bool // it has the turn to look for a connection

	over     *result // what came of it before there was a response
	response *http.Response
	err      error
}

// begin makes the request, with its secrets put in. Its time runs from here. Whoever begins a try ends it.
func (c *client) begin(ctx context.Context, call *job.Call) *try {
	t := &try{client: c, call: call, began: time.Now(), timeout: c.service.Timeout}
	if asked := call.Request.Timeout; asked > 0 {
		t.timeout = min(asked, maxTimeout)
	}
	if c.service.Never || c.connecting != nil {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: t.found})
	}
	ctx, t.cancel = c.access.clock.WithTimeout(ctx, t.timeout)
	t.build(ctx)
	return t
}

func (t *try) build(ctx context.Context) {
	defer t.survive() // secrets come from whoever embeds the worker
	request, refusal := t.client.request(ctx, *t.call)
	if refusal != nil {
		t.over = &result{answer: job.Answer{Failure: refusal}}
	}
	t.request = request
}

// exchange sends the request, and waits for the head of a response. It asks the transport itself: an http.Client, of
// which only redirects are needed, would add its own frames to every stack that waits.
func (t *try) exchange() {
	if t.over != nil {
		return
	}
	defer t.survive()
	defer t.client.connecting.leave(t)
	t.client.connecting.enter(t)
	t.response, t.err = t.client.transport.RoundTrip(t.request) //nolint:bodyclose // read closes it
}

// survive is deferred around what net/http does: the process would end with a text that may hold a secret.
func (t *try) survive() {
	if v := recover(); v != nil {
		r := failed(job.FailureConnection, true, fmt.Sprintf("the HTTP client panicked: %v", v))
		t.over = &r
	}
}

// end reads the response, and says what came of the try. What it returns holds no secret.
func (t *try) end() result {
	defer t.cancel()
	c := t.client
	var r result
	if t.read(&r); t.over != nil {
		r = *t.over
	}
	if c.service.Never {
		r = r.once(t.sent.Load() || c.access.transport != nil)
	}
	r = c.secrets.redact(r)
	if f := r.answer.Failure; f != nil {
		f.Type, f.Code, f.Message = cut(f.Type, 128), cut(f.Code, 128), cut(f.Message, maxMessage)
	}
	r.answer.Duration = float64(time.Since(t.began).Microseconds()) / 1000
	return r
}

// read follows redirects, reads the body, and judges the whole.
func (t *try) read(r *result) {
	if t.over != nil {
		return
	}
	defer t.survive()
	t.follow()
	if t.err != nil {
		*r = t.client.networkFailure(t.err, t.timeout)
		return
	}
	resp := t.response
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusSwitchingProtocols { // its body is the connection, which no timeout ends
		*r = failed(job.FailureConnection, false, "the API answered 101 Switching Protocols, which nobody asked for")
		r.answer.Status = resp.StatusCode
		return
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(min(t.client.service.ResponseLimit, maxInline))+1))
	if err != nil {
		*r = t.client.networkFailure(err, t.timeout)
		r.answer.Status = resp.StatusCode
		return
	}
	if t.client.stores(resp, body) {
		*r = t.client.keep(t.request.Context(), *t.call, resp, body, t.timeout)
		return
	}
	*r = t.client.judge(resp, body)
}

// follow has an http.Client go on from a response that is a redirect, unless none is followed: then it stands as it is,
// wherever it leads, and also where nobody can read that.
func (t *try) follow() {
	if t.err != nil || t.response.StatusCode/100 != 3 || !t.client.follows(t.request.Method) {
		return
	}
	h := http.Client{Transport: &resumed{t.client.transport, t.response}, CheckRedirect: t.client.redirect}
	t.response, t.err = h.Do(t.request) //nolint:bodyclose // read closes it
}

// resumed is a transport whose first response is there already.
type resumed struct {
	http.RoundTripper
	first *http.Response
}

// RoundTrip implements http.RoundTripper. An http.Client makes one request after another.
func (r *resumed) RoundTrip(req *http.Request) (*http.Response, error) {
	if first := r.first; first != nil {
		r.first = nil
		return first, nil
	}
	return r.RoundTripper.RoundTrip(req)
}
