package stripefake_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/stripefake"
)

var create = stripefake.Operation("create_customer")

func TestIdempotency(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	first := r.send("POST", "/v1/customers", "name=Ada", "k1")
	again := r.send("POST", "/v1/customers", "name=Ada", "k1")
	equal(t, "same id", again.body["id"], first.body["id"])
	equal(t, "replayed", again.header.Get("Idempotent-Replayed"), "true")
	equal(t, "original", again.header.Get("Original-Request"), first.header.Get("Request-Id"))
	equal(t, "first not replayed", first.header.Get("Idempotent-Replayed"), "")

	for _, other := range []struct{ path, form string }{{"/v1/customers", "name=Eve"}, {"/v1/customers/cus_0001", "name=Ada"}} {
		got := r.send("POST", other.path, other.form, "k1")
		equal(t, "status", got.status, 400)
		equal(t, "type", got.fault("type"), any("idempotency_error"))
	}
	equal(t, "executed", r.Executed()["create_customer"], 1)
}

func TestWhatAKeyKeeps(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	const declinedForm = "amount=1&currency=usd&confirm=true&payment_method=pm_card_chargeDeclined"
	r.send("POST", "/v1/payment_intents", declinedForm, "card")
	equal(t, "a decline is replayed", r.send("POST", "/v1/payment_intents", declinedForm, "card").header.Get("Idempotent-Replayed"), "true")

	equal(t, "a bad request", r.send("POST", "/v1/payment_intents", "amount=1", "bad").status, 400)
	equal(t, "its key is free", r.send("POST", "/v1/payment_intents", "amount=1&currency=usd", "bad").status, 200)

	r.Fail(create, stripefake.ServerError().Kept(), stripefake.RateLimited(0))
	equal(t, "a kept 500", r.send("POST", "/v1/customers", "", "kept").status, 500)
	equal(t, "a 429 in between", r.send("POST", "/v1/customers", "", "kept").status, 429)
	equal(t, "the 500 again", r.send("POST", "/v1/customers", "", "kept").status, 500)
	equal(t, "executed", r.Executed()["create_customer"], 0)
}

func TestConcurrentTriesExecuteOnce(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	var tries sync.WaitGroup
	for range 16 {
		tries.Go(func() {
			if _, err := r.try(t.Context(), "POST", "/v1/customers", "name=Ada", "k1"); err != nil {
				t.Error(err)
			}
		})
	}
	tries.Wait()
	equal(t, "executed", r.Executed()["create_customer"], 1)
	equal(t, "requests", len(r.Requests()), 16)
}

func TestStatusFaults(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	for _, test := range []struct {
		name   string
		fault  stripefake.Fault
		status int
		kind   any
		code   any
		header string // name=value
	}{
		{"declined", stripefake.CardDeclined(""), 402, "card_error", "card_declined", ""},
		{"conflict", stripefake.Conflict(), 409, "idempotency_error", "idempotency_key_in_use", ""},
		{"rate", stripefake.RateLimited(1500 * time.Millisecond), 429, "invalid_request_error", "rate_limit", "Retry-After=2"},
		{"lock", stripefake.LockTimeout(), 429, "invalid_request_error", "lock_timeout", "Retry-After="},
		{"error", stripefake.ServerError().ShouldRetry(false), 500, "api_error", nil, "Stripe-Should-Retry=false"},
		{"away", stripefake.Unavailable().ShouldRetry(true), 503, "api_error", nil, "Stripe-Should-Retry=true"},
		{"other", stripefake.Status(418, "api_error", "teapot"), 418, "api_error", "teapot", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.Fail(create, test.fault)
			got := r.post("/v1/customers", "")
			equal(t, "status", got.status, test.status)
			equal(t, "type", got.fault("type"), test.kind)
			equal(t, "code", got.fault("code"), test.code)
			name, value, _ := strings.Cut(test.header, "=")
			equal(t, name, got.header.Get(name), value)
		})
	}
	equal(t, "executed", r.Executed()["create_customer"], 0)
	equal(t, "after the faults", r.post("/v1/customers", "").status, 200)
}

func TestFaultsAreTakenInOrderByThoseTheyAreFor(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	r.Fail(create, stripefake.ServerError(), stripefake.Conflict())
	r.Fail(nil, stripefake.Unavailable())
	equal(t, "another operation", r.get("/v1/customers").status, 503)
	equal(t, "first", r.post("/v1/customers", "").status, 500)
	equal(t, "second", r.post("/v1/customers", "").status, 409)
	equal(t, "third", r.post("/v1/customers", "").status, 200)

	r.FailAlways(create, stripefake.LockTimeout())
	for range 3 {
		equal(t, "always", r.post("/v1/customers", "").status, 429)
	}
}

func TestWireFaults(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	r.Fail(create, stripefake.Reset(), stripefake.Truncated().AfterExecution(), stripefake.NotJSON(502))

	_, err := r.try(t.Context(), "POST", "/v1/customers", "name=Ada", "k1")
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: got %v", err)
	}
	cut, err := r.try(t.Context(), "POST", "/v1/customers", "name=Ada", "k1")
	if !errors.Is(err, io.ErrUnexpectedEOF) || cut.status != 200 {
		t.Errorf("truncated: got %d, %v", cut.status, err)
	}
	page, err := r.try(t.Context(), "POST", "/v1/customers", "name=Ada", "k1")
	if err == nil || page.status != 502 || page.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("not JSON: got %d, %v", page.status, err)
	}
	last := r.send("POST", "/v1/customers", "name=Ada", "k1")
	equal(t, "replayed", last.header.Get("Idempotent-Replayed"), "true")
	equal(t, "executed", r.Executed()["create_customer"], 1)
}

func TestHuge(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	r.Fail(nil, stripefake.Huge(1<<20+1))
	got := r.get("/v1/customers")
	equal(t, "padding", len(got.body["padding"].(string)), 1<<20+1)
}

// A request that hangs after its execution is what a worker's death in the middle of a call looks like.
func TestHangAfterExecution(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	r.Fail(create, stripefake.Hang().AfterExecution())
	ctx, kill := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.try(ctx, "POST", "/v1/customers", "name=Ada", "k1")
		done <- err
	}()
	if _, err := r.WaitFor(t.Context(), stripefake.Executed(create), 1); err != nil {
		t.Fatal(err)
	}
	kill()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("hanging request: got %v", err)
	}
	equal(t, "second try", r.send("POST", "/v1/customers", "name=Ada", "k1").header.Get("Idempotent-Replayed"), "true")
	equal(t, "executed", r.Executed()["create_customer"], 1)
}

func TestCloseEndsWhatHangs(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	r.FailAlways(create, stripefake.Hang())
	done := make(chan error, 1)
	go func() {
		_, err := r.try(context.Background(), "POST", "/v1/customers", "", "")
		done <- err
	}()
	if _, err := r.WaitFor(t.Context(), create, 1); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r.Close()
	if err := <-done; err == nil {
		t.Error("hanging request: got an answer")
	}
}

func TestHoldAndDelay(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	release := make(chan struct{})
	r.Fail(create, stripefake.Hold(release), stripefake.Delay(time.Millisecond))
	done := make(chan reply, 1)
	go func() {
		got, err := r.try(t.Context(), "POST", "/v1/customers", "", "")
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	if _, err := r.WaitFor(t.Context(), create, 1); err != nil {
		t.Fatal(err)
	}
	equal(t, "executed while held", r.Executed()["create_customer"], 0)
	close(release)
	equal(t, "held", (<-done).status, http.StatusOK)
	equal(t, "delayed", r.post("/v1/customers", "").status, http.StatusOK)
}

func TestFaultsByMetadata(t *testing.T) {
	r := newRig(t, stripefake.Options{})
	for name, status := range map[string]int{
		"card_declined": 402, "insufficient_funds": 402, "conflict": 409, "rate_limit": 429, "lock_timeout": 429,
		"api_error": 500, "unavailable": 503, "unheard_of": 200,
	} {
		equal(t, name, r.post("/v1/customers", "metadata[fault]="+name).status, status)
	}
	for _, name := range []string{"reset", "truncated", "not_json"} {
		if _, err := r.try(t.Context(), "POST", "/v1/customers", "metadata[fault]="+name, ""); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	equal(t, "executed", r.Executed()["create_customer"], 1)
}
