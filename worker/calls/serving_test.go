package calls

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// TestServicesAreExchanged: a running performer serves what is declared anew, lets calls under way end as they began,
// and leaves the calls of a service that is gone where they are until it is back.
func TestServicesAreExchanged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	held, release := make(chan struct{}), make(chan struct{})
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/held" {
			close(held)
			<-release
		}
		w.Write([]byte(req.Header.Get("X-Key")))
	}))
	r.secrets["old"], r.secrets["new"] = "old secret", "new secret"
	acme := func(secret string) Service {
		return Service{Name: "acme", URL: url, AllowPrivate: true, Auth: Auth{Kind: AuthHeader, Header: "X-Key", Secret: secret}}
	}
	get := func(path string) job.Request { return job.Request{Method: "GET", URL: url + path} }
	p := r.performer(t, r.stripe(), acme("old"))
	declare := func(services ...Service) { p.config.Services.Change(must(NewServices(services...))(t)) }
	run(t, p)
	under := r.open(t, "a", "acme", get("/held"))
	<-held
	declare(acme("new"), r.stripe())
	after := r.open(t, "b", "acme", get("/"))
	equal(t, "a call after the exchange", string(after.answer(t).Body), redacted)
	r.until(t, "service is served")
	close(release)
	equal(t, "a call that was under way", under.answer(t).Status, 200)

	declare(r.stripe())
	r.until(t, "service is served no longer")
	gone := r.open(t, "c", "acme", get("/"))
	other := r.open(t, "d", "stripe", post("/v1/customers", "name=Ada"))
	_ = other.answer(t)
	equal(t, "calls that wait", r.info(t, "CALLS_payments").State.Msgs >= 1, true)
	declare(acme("new"), r.stripe())
	equal(t, "a call once its service is back", gone.answer(t).Status, 200)
}

// until waits until something was logged; each look is a word to the server and back.
func (r *rig) until(t *testing.T, line string) {
	t.Helper()
	for !r.seen.has(line) {
		ok(t, r.ctx.Err())
		r.info(t, "CALLS_payments")
	}
}

// TestExchangeIsTriedOn: a service that can't be taken now is tried again.
func TestExchangeIsTriedOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.performer(t, r.stripe())
	take, tries := p.config.Take, 0
	p.config.Take = func(ctx context.Context, s Service) (Deliveries, error) {
		if s.Name == "acme" {
			if tries++; tries == 1 {
				return nil, errors.New("NATS is away")
			}
		}
		return take(ctx, s)
	}
	run(t, p)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) }))
	p.config.Services.Change(must(NewServices(r.stripe(), Service{Name: "acme", URL: url, AllowPrivate: true, Timeout: time.Minute}))(t))
	equal(t, "status", r.open(t, "a", "acme", job.Request{Method: "GET", URL: url}).answer(t).Status, 200)
	equal(t, "it was said", r.seen.has("a service can't be served as it is declared now"), true)
}
