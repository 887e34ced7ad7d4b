package calls

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stripefake"
)

// once is the imitation as a service whose calls are never tried twice.
func (r *rig) once() Service {
	s := r.stripe()
	s.Never = true
	return s
}

// sent is what the calls stream holds of a call that was about to be sent.
func (o *opened) sent(t *testing.T) *jetstream.RawStreamMsg {
	t.Helper()
	return must(must(o.js.Stream(o.ctx, "CALLS_payments"))(t).GetLastMsgForSubject(o.ctx, o.address.SentSubject(o.call.ID)))(t)
}

// Rule 13: what says that a call was sent stands on the calls stream, which is a work queue, after the call has ended
// and after a restart of everybody, for a time; and no consumer is handed it.
func TestNeverTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := run(t, r.performer(t, r.once()))
	o := r.open(t, "a", "stripe", post("/v1/customers", "name=Ada"))
	equal(t, "status", o.answer(t).Status, 200)
	r.settle(t, 1)
	m := o.sent(t)
	equal(t, "TTL", m.Header.Get("Nats-TTL"), "168h0m0s")
	var s Sent
	ok(t, json.Unmarshal(m.Data, &s))
	equal(t, "service", s.Service, "stripe")
	equal(t, "age", time.Since(s.Time) < time.Minute, true)

	// The same call again, as if the ack was lost and the answer too: it is open, and not sent.
	stop()
	ok(t, must(r.js.Stream(r.ctx, "JOBS_payments"))(t).Purge(r.ctx))
	o.message.Header[job.HeaderID] = []string{"another"}
	o.publish(t)
	run(t, r.performer(t, r.once()))
	r.settle(t, 1)
	o.requests(t, 1)
}

// Rule 13: a worker that was about to send a call and did not come back has sent it, or not: nobody sends it again.
func TestNeverAfterAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dead := r.performer(t, r.once())
	o := r.open(t, "a", "stripe", post("/v1/customers", "name=Ada"))
	first, err := dead.claim(r.ctx, o.address, o.call)
	ok(t, err)
	equal(t, "first", first, true)
	first, err = dead.claim(r.ctx, o.address, o.call)
	ok(t, err)
	equal(t, "first again", first, false)
	run(t, r.performer(t, r.once()))
	a := o.failure(t, job.FailureUnknown, 0)
	equal(t, "message", a.Failure.Message, "a worker was about to send it and did not come back; stripe is not sent a call twice")
	o.requests(t, 0)
	other := r.open(t, "b", "stripe", post("/v1/customers", "name=Ada"))
	equal(t, "status of another call", other.answer(t).Status, 200)
}

// Rule 13: where the stream does not say that the call is the first, nothing is sent, and the call comes again.
func TestNeverWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.performer(t, r.once())
	p.config.Streams = mute{p.config.Streams}
	o := r.open(t, "a", "stripe", post("/v1/customers", "name=Ada"))
	stop := run(t, p)
	for !r.seen.has("call is held up") {
		ok(t, r.ctx.Err())
		r.info(t, "CALLS_payments")
	}
	stop()
	o.requests(t, 0)
	run(t, r.performer(t, r.once()))
	equal(t, "status", o.answer(t).Status, 200)
	o.requests(t, 1)
}

// mute is a stream that does not answer.
type mute struct{ Streams }

func (mute) Publish(context.Context, job.Message) error { return context.DeadlineExceeded }

// What can't have been carried out is said as it is; of what may have been, that nobody knows.
func TestNeverIsTriedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run(t, r.performer(t, r.once()))
	for name, test := range map[string]struct {
		fault stripefake.Fault
		typ   string
	}{
		"hang":     {stripefake.Hang(), job.FailureUnknown},
		"reset":    {stripefake.Reset().AfterExecution(), job.FailureUnknown},
		"cut":      {stripefake.Truncated().AfterExecution(), job.FailureUnknown},
		"conflict": {stripefake.Conflict(), "idempotency_error"},
		"error":    {stripefake.ServerError().ShouldRetry(true), "api_error"},
		"busy":     {stripefake.RateLimited(time.Second), "invalid_request_error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := post("/v1/customers", "name=Ada")
			request.Timeout = 300 * time.Millisecond
			o := r.prepare(t, name, "stripe", request)
			r.fake.FailAlways(o.of, test.fault)
			o.commit(t, true)
			o.publish(t)
			a := o.answer(t)
			equal(t, "type ("+a.Failure.Message+")", a.Failure.Type, test.typ)
			if test.typ == job.FailureUnknown && !strings.HasPrefix(a.Failure.Message, "it may have been carried out, and is not sent again: ") {
				t.Error(a.Failure.Message)
			}
			o.requests(t, 1)
		})
	}
}

// closed is the address of nobody.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	ok(t, l.Close())
	return "http://" + l.Addr().String()
}

// Nothing was sent where there was no connection.
func TestNeverWithoutConnection(t *testing.T) {
	t.Parallel()
	s := Service{Name: "api", URL: closed(t), AllowPrivate: true, Never: true}.withDefaults()
	c := newClient(s, alone(s, nil))
	t.Cleanup(c.close)
	got := c.send(t.Context(), job.Call{Request: job.Request{Method: "POST", URL: s.URL + "/x"}})
	equal(t, "type", got.answer.Failure.Type, job.FailureConnection)
	equal(t, "retry", got.retry, false)
}

// TestRetryOn: a service's own list of statuses stands in place of the usual one.
func TestRetryOn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		on     []string
		status int
		header string
		want   bool
	}{
		{[]string{"404", "5xx"}, 404, "A: b", true}, {[]string{"404", "5xx"}, 501, "A: b", true}, {[]string{"404", "5xx"}, 429, "A: b", false},
		{[]string{"404"}, 503, "A: b", false}, {[]string{"404"}, 400, "Stripe-Should-Retry: true", true}, {[]string{"5xx"}, 503, "Stripe-Should-Retry: false", false},
	} {
		s := Service{RetryOn: test.on}
		got := tried(t, s, job.Request{}, answerWith(test.status, "", test.header))
		equal(t, strings.Join(test.on, " ")+http.StatusText(test.status), got.retry, test.want)
	}
	for _, bad := range []string{"200", "xx", "6xx", "5x", "", "4040"} {
		if err := (Service{Name: "a", URL: "https://a.com", RetryOn: []string{bad}}).withDefaults().validate(); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
