package calls

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/internal/stripefake"
)

func TestSuccess(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run(t, r.performer(t, r.stripe()))
	o := r.open(t, "a", "stripe", post("/v1/customers", "name=Ada"))
	a := o.answer(t)
	if a.Failure != nil {
		t.Fatalf("failure: %+v", *a.Failure)
	}
	equal(t, "status", a.Status, 200)
	equal(t, "attempts", a.Attempts, 1)
	var customer struct{ ID, Name string }
	ok(t, json.Unmarshal(a.Body, &customer))
	equal(t, "body", customer.ID+" "+customer.Name, "cus_0001 Ada")
	equal(t, "has a request id", a.Header["Request-Id"] != "", true)
	equal(t, "took", a.Duration > 0, true)
	request := o.requests(t, 1)[0]
	equal(t, "key", request.IdempotencyKey, o.call.Key)
	equal(t, "secret", request.Header.Get("Authorization"), "Bearer sk_test_rig")
	equal(t, "user agent", request.Header.Get("User-Agent"), userAgent)
	r.settle(t, 0)
}

// What is retried is retried with the same Idempotency-Key, and executed once.
func TestRetries(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run(t, r.performer(t, r.stripe()))
	for name, fault := range map[string]stripefake.Fault{
		"conflict":     stripefake.Conflict(),
		"rate_limit":   stripefake.RateLimited(time.Second),
		"lock_timeout": stripefake.LockTimeout(),
		"error":        stripefake.ServerError(),
		"unavailable":  stripefake.Unavailable(),
		"reset":        stripefake.Reset(),
		"reset_after":  stripefake.Reset().AfterExecution(),
		"cut":          stripefake.Truncated().AfterExecution(),
		"page":         stripefake.NotJSON(http.StatusBadGateway),
		"page_of_200":  stripefake.NotJSON(http.StatusOK),
		"should":       stripefake.Status(400, "invalid_request_error", "").ShouldRetry(true),
		"hang":         stripefake.Hang(),
		"hang_after":   stripefake.Hang().AfterExecution(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := post("/v1/customers", "name="+name)
			if strings.HasPrefix(name, "hang") {
				request.Timeout = 150 * time.Millisecond
			}
			o := r.prepare(t, name, "stripe", request)
			r.fake.Fail(o.of, fault)
			o.commit(t, true)
			began := time.Now()
			o.publish(t)
			a := o.answer(t)
			if a.Failure != nil {
				t.Fatalf("failure: %+v", *a.Failure)
			}
			equal(t, "attempts", a.Attempts, 2)
			executed := 0
			for _, request := range o.requests(t, 2) {
				if request.Executed {
					executed++
				}
			}
			equal(t, "executed", executed, 1)
			t.Logf("answered after %s", time.Since(began))
			if took := time.Since(began); name == "rate_limit" && took < time.Second {
				t.Errorf("Retry-After was 1 s, the answer came after %s", took)
			}
		})
	}
}

func TestFinalFailures(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run(t, r.performer(t, r.stripe()))
	for _, test := range []struct {
		name     string
		fault    stripefake.Fault
		typ      string
		status   int
		attempts int
	}{
		{"card", stripefake.CardDeclined("insufficient_funds"), "card_error", 402, 1},
		{"bad_request", stripefake.Status(400, "invalid_request_error", "missing"), "invalid_request_error", 400, 1},
		{"should_not", stripefake.ServerError().ShouldRetry(false), "api_error", 500, 1},
		{"exhausted", stripefake.ServerError(), "api_error", 500, 3},
		{"huge", stripefake.Huge(1 << 20), job.FailureTooLarge, 200, 1},
		{"hanging", stripefake.Hang(), job.FailureTimeout, 0, 3},
		{"resetting", stripefake.Reset(), job.FailureConnection, 0, 3},
		{"cutting", stripefake.Truncated(), job.FailureConnection, 200, 3},
		{"page", stripefake.NotJSON(200), job.FailureConnection, 200, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			request := post("/v1/customers", "name=Ada")
			if test.name == "hanging" {
				request.Timeout = 100 * time.Millisecond
			}
			o := r.prepare(t, test.name, "stripe", request)
			r.fake.FailAlways(o.of, test.fault)
			o.commit(t, true)
			o.publish(t)
			a := o.failure(t, test.typ, test.attempts)
			equal(t, "status", a.Status, test.status)
			o.requests(t, test.attempts)
			if test.name == "card" {
				equal(t, "code", a.Failure.Code, "card_declined")
				equal(t, "has the body", strings.Contains(string(a.Body), "insufficient_funds"), true)
			}
		})
	}
}

// Rule 11: a call that its context does not wait for is not sent; its message ends.
func TestClosedCallIsNotSent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	closed := r.prepare(t, "a", "stripe", post("/v1/customers", "name=closed"))
	closed.commit(t, true)
	closed.commit(t, false)
	closed.publish(t)
	deleted := r.open(t, "b", "stripe", post("/v1/customers", "name=deleted"))
	ok(t, must(r.js.KeyValue(r.ctx, "payments"))(t).Delete(r.ctx, "b"))
	run(t, r.performer(t, r.stripe()))
	r.settle(t, 0)
	equal(t, "requests", len(r.fake.Requests()), 0)
	equal(t, "answers", r.info(t, "JOBS_payments").State.Msgs, 0)
	_ = deleted
}

// A call is given up for what stands alone: where the commit that closed it is gone by the time that is asked, the call is made
// (rule 3).
func TestClosedByWhatIsTakenBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	o := r.prepare(t, "a", "stripe", post("/v1/customers", "name=Ada"))
	o.commit(t, true)
	opened := o.revision
	o.commit(t, false)
	closed := o.revision
	p := r.performer(t, r.stripe())
	asked := 0
	p.config.Stands = func(_ context.Context, name string, e stream.Entry) error {
		equal(t, "context", name, "a")
		equal(t, "revision", e.Revision, closed)
		asked++
		o.commit(t, true) // as it was before
		return stream.ErrConflict
	}
	o.call.Revision = opened
	o.message.Data = must(job.Encode(o.call))(t)
	r.keys.Sign(&o.message)
	ok(t, r.pool.Publish(r.ctx, o.message))
	run(t, p)
	equal(t, "status", o.answer(t).Status, 200)
	r.settle(t, 0)
	equal(t, "times that it was asked", asked, 1)
}

// Rule 11: what is older than the commit that opened the call is no answer: it is asked again, and the call never
// dropped.
func TestOldRevisionIsReadAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run(t, r.performer(t, r.stripe()))
	o := r.prepare(t, "a", "stripe", post("/v1/customers", "name=Ada"))
	o.commit(t, false)
	o.revision++ // the revision of the commit that will open it
	reads := must(r.nc.SubscribeSync("$JS.API.STREAM.MSG.GET.KV_payments"))(t)
	o.publish(t)
	for range 3 {
		must(reads.NextMsgWithContext(r.ctx))(t)
	}
	equal(t, "requests before the commit", len(r.fake.Requests()), 0)
	o.revision--
	o.commit(t, true)
	equal(t, "status", o.answer(t).Status, 200)
	r.settle(t, 0)
}

// Rule 12: a retry that waits is a timer on a subject of its own, without a Nats-Msg-Id; its call's message is acked
// and takes no place among the calls in flight.
func TestWaitingRetry(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	service := r.stripe()
	service.Backoff, service.MaxWait, service.MaxInFlight = time.Hour, time.Hour, 1
	run(t, r.performer(t, service))
	var waiting []*opened
	for i := range 3 { // one in flight at a time: the second goes out only once the first waits on its timer
		o := r.prepare(t, fmt.Sprint("a", i), "stripe", post("/v1/customers", "name=Ada"))
		r.fake.Fail(o.of, stripefake.ServerError())
		o.commit(t, true)
		o.publish(t)
		waiting = append(waiting, o)
	}
	for _, o := range waiting {
		o.requests(t, 1)
	}
	consumer := func() *jetstream.ConsumerInfo {
		return must(r.js.Consumer(r.ctx, "CALLS_payments", "call_stripe"))(t).CachedInfo()
	}
	for info := consumer(); info.NumAckPending > 0 || info.NumPending > 0; info = consumer() {
		ok(t, r.ctx.Err())
	}
	r.settle(t, 3)
	s := must(r.js.Stream(r.ctx, "CALLS_payments"))(t)
	for _, o := range waiting {
		m := must(s.GetLastMsgForSubject(r.ctx, o.address.RetrySubject(o.call.ID)))(t)
		equal(t, "Nats-Msg-Id", m.Header.Get("Nats-Msg-Id"), "")
		equal(t, "target", m.Header.Get("Nats-Schedule-Target"), o.address.CallSubject("stripe"))
		equal(t, "schedule", strings.HasPrefix(m.Header.Get("Nats-Schedule"), "@at "), true)
		at := must(time.Parse(time.RFC3339Nano, strings.TrimPrefix(m.Header.Get("Nats-Schedule"), "@at ")))(t)
		if ahead := time.Until(at); ahead < 44*time.Minute || ahead > time.Hour {
			t.Errorf("the next try is %s ahead", ahead)
		}
		var call job.Call
		ok(t, json.Unmarshal(m.Data, &call))
		equal(t, "tries that have ended", call.Attempt, 1)
		equal(t, "first try is known", call.First.IsZero(), false)
		equal(t, "last", call.Last != "", true)
		equal(t, "key", call.Key, o.call.Key)
	}
	timers := must(r.js.Stream(r.ctx, "CALLS_payments"))(t)
	ok(t, timers.Purge(r.ctx, jetstream.WithPurgeSubject(waiting[0].address.RetrySubject(waiting[0].call.ID))))
	r.settle(t, 2)
}

// Rule 14: a call that may have been sent is not tried after 23 hours.
func TestOldCallIsNotTried(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := func(age time.Duration) func(*job.Call) {
		return func(c *job.Call) {
			c.Attempt, c.First, c.Last = 2, time.Now().Add(-age), "no whole answer within 30s"
		}
	}
	tooOld := r.open(t, "old", "stripe", post("/v1/customers", "name=Ada"), old(23*time.Hour+time.Minute))
	young := r.open(t, "young", "stripe", post("/v1/customers", "name=Ada"), old(23*time.Hour-time.Minute))
	stop := run(t, r.performer(t, r.stripe()))
	a := tooOld.failure(t, job.FailureUnknown, 2)
	if want := "(last try: no whole answer within 30s)"; !strings.Contains(a.Failure.Message, want) {
		t.Errorf("message %q: want it to say %s", a.Failure.Message, want)
	}
	equal(t, "status of the young", young.answer(t).Status, 200)
	tooOld.requests(t, 0)
	stop()

	// Nor is one that waited as long without a try that is known: another copy of it, which the stream did not recognise, may
	// have been sent. Its age counts from when it was queued.
	waited := r.open(t, "waited", "stripe", post("/v1/customers", "name=Ada"))
	p := r.performer(t, r.stripe())
	p.now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	run(t, p)
	waited.failure(t, job.FailureUnknown, 0)
	waited.requests(t, 0)
	r.settle(t, 0)
}

// Rule 5: a message that no worker made is a dead letter, and never sent.
func TestForgedCall(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run(t, r.performer(t, r.stripe()))
	for name, test := range map[string]struct {
		change func(o *opened)
		reason string
	}{
		"forged":   {func(o *opened) { o.message.Header[job.HeaderProof] = []string{"AAAA"} }, job.ReasonForged},
		"unproven": {func(o *opened) { delete(o.message.Header, job.HeaderProof) }, job.ReasonForged},
		"changed":  {func(o *opened) { o.message.Data = append(o.message.Data, ' ') }, job.ReasonForged},
		"moved":    {func(o *opened) { o.message.Subject = "payments.moved2.call.stripe"; o.address.Context = "moved2" }, job.ReasonForged},
		"no_json":  {func(o *opened) { o.message.Data = []byte("{"); o.keys.Sign(&o.message) }, job.ReasonMalformed},
		"no_id":    {func(o *opened) { o.message.Data = []byte("{}"); o.keys.Sign(&o.message) }, job.ReasonMalformed},
		"bad:name": {func(o *opened) { o.message.Subject = "payments.bad!name.call.stripe"; o.address.Context = "bad!name" }, job.ReasonMalformed},
	} {
		o := r.prepare(t, strings.ReplaceAll(name, ":", "_"), "stripe", post("/v1/customers", "name=Ada"))
		o.commit(t, true)
		o.call.Revision = o.revision
		o.message.Data = must(job.Encode(o.call))(t)
		o.keys.Sign(&o.message)
		test.change(o)
		ok(t, r.pool.Publish(r.ctx, o.message))
		var letter job.DeadLetter
		original := r.dead(t, o.address.Context)
		ok(t, json.Unmarshal(original.Data, &letter))
		equal(t, name+": reason", letter.Error.Reason, test.reason)
		equal(t, name+": message", letter.Message.Subject, o.message.Subject)
		equal(t, name+": proof in the letter", len(letter.Message.Header[job.HeaderProof]), 0)
	}
	r.settle(t, 0)
	equal(t, "requests", len(r.fake.Requests()), 0)
	equal(t, "answers", r.info(t, "JOBS_payments").State.Msgs, 0)
}

// An answer that is published twice, by performers that knew nothing of each other, is stored once.
func TestAnswerTwiceIsStoredOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.performer(t, r.stripe())
	o := r.open(t, "a", "stripe", post("/v1/customers", "name=Ada"))
	for range 2 {
		ok(t, p.answer(r.ctx, o.address, o.call, job.Answer{Status: 200}))
	}
	equal(t, "answers", r.info(t, "JOBS_payments").State.Msgs, 1)
	ok(t, p.answer(r.ctx, o.address, o.call, job.Answer{Status: 200, Body: make(job.Text, job.MaxJob)}))
	equal(t, "another answer to the same call", r.info(t, "JOBS_payments").State.Msgs, 1)
}

func TestAnswerThatDoesNotFit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.performer(t, r.stripe())
	o := r.open(t, "a", "stripe", post("/v1/customers", "name=Ada"))
	ok(t, p.answer(r.ctx, o.address, o.call, job.Answer{Status: 200, Body: make(job.Text, job.MaxJob)}))
	equal(t, "status", o.failure(t, job.FailureTooLarge, 0).Status, 200)
}

// A call under way when the performer is told to stop is finished within the grace period.
func TestStopWithinGrace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	release := make(chan struct{})
	o := r.prepare(t, "a", "stripe", post("/v1/customers", "name=Ada"))
	r.fake.Fail(o.of, stripefake.Hold(release))
	ctx, cancel := context.WithCancel(r.ctx)
	ended := make(chan error, 1)
	p := r.performer(t, r.stripe())
	ok(t, p.Open(r.ctx))
	go func() { ended <- p.Run(ctx) }()
	o.commit(t, true)
	o.publish(t)
	o.requests(t, 1)
	cancel()
	close(release)
	equal(t, "status", o.answer(t).Status, 200)
	ok(t, <-ended)
	r.settle(t, 0)
}

// After the grace period a call is given back, and another performer makes it with the same key.
func TestStopAfterGrace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	o := r.prepare(t, "a", "stripe", post("/v1/customers", "name=Ada"))
	r.fake.Fail(o.of, stripefake.Hang().AfterExecution())
	p := r.performer(t, r.stripe())
	p.config.Grace = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(r.ctx)
	ended := make(chan error, 1)
	ok(t, p.Open(r.ctx))
	go func() { ended <- p.Run(ctx) }()
	o.commit(t, true)
	o.publish(t)
	must(r.fake.WaitFor(r.ctx, stripefake.Executed(o.of), 1))(t)
	cancel()
	ok(t, <-ended)
	began := time.Now()
	run(t, r.performer(t, r.stripe()))
	a := o.answer(t)
	equal(t, "status", a.Status, 200)
	if took := time.Since(began); took > 3*time.Second { // well before the ack wait of 5 s
		t.Errorf("it was taken over after %s", took)
	}
	requests := o.requests(t, 2)
	equal(t, "the second was answered from the first", requests[1].Replayed, true)
	equal(t, "executed", r.fake.Executed()["create_customer"], 1)
}

func TestRunReturnsWhenItCanNotTake(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	nobody := must(stream.Open(r.nc, "nobody"))(t)
	p := r.performer(t, r.stripe())
	p.config.Take = func(ctx context.Context, s Service) (Deliveries, error) {
		return nobody.Calls(ctx, s.Name, s.MaxInFlight, Batch)
	}
	if err := p.Open(r.ctx); err == nil || !strings.Contains(err.Error(), "CALLS_nobody") {
		t.Errorf("got %v", err)
	}
	p = r.performer(t, r.stripe())
	ended := make(chan error, 1)
	ok(t, p.Open(r.ctx))
	go func() { ended <- p.Run(r.ctx) }()
	o := r.open(t, "a", "stripe", post("/v1/customers", "name=Ada"))
	o.answer(t)
	ok(t, r.js.DeleteConsumer(r.ctx, "CALLS_payments", "call_default"))
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "call_default") {
		t.Errorf("its consumer is deleted: got %v", err)
	}
}
