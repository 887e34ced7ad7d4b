package calls

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stripefake"
)

func TestServicesFor(t *testing.T) {
	s := must(NewServices(
		Service{Name: "acme", URL: "https://api.acme.com"},
		Service{Name: "acme_v2", URL: "https://api.acme.com/v2/"},
		Service{Name: "odd", URL: "http://localhost:8080/base"},
		Service{Name: "deep", URL: "https://api.deep.com/v1/x"},
		Service{Name: "port", URL: "https://api.deep.com:443/v1"},
	))(t)
	for raw, want := range map[string]string{
		"https://api.stripe.com/v1/customers": "stripe", "https://API.Stripe.com:443/v1": "stripe", "https://api.stripe.com": "stripe",
		"http://api.stripe.com/v1": Default, "https://api.stripe.com.evil.com/": Default, "https://api.stripe.com@evil.com/": Default,
		"https://api.stripe.com:8443/": Default, "https://example.com": Default,
		"https://api.acme.com/v1/x": "acme", "https://api.acme.com/v2": "acme_v2", "https://api.acme.com/v2/x?y=1": "acme_v2", "https://api.acme.com/v2x": "acme",
		"https://api.acme.com/v2/../admin": Default, "https://api.acme.com/v2/%2e%2e/admin": Default, "https://api.acme.com/v2/./x": Default,
		"https://api.acme.com/v2/..x": "acme_v2", "http://localhost:8080/base/x": "odd", "http://localhost/base/x": Default,
		"https://api.deep.com/v1/x/1": "deep", "https://api.deep.com/v1/y": "port",
	} {
		got := must(s.For(raw))(t)
		equal(t, raw, got.Name, want)
	}
	if _, err := s.For("http://[::1"); err == nil {
		t.Error("a URL that can't be read has a service")
	}
	alone := Services{all: []Service{Stripe()}}
	if _, err := alone.For("https://api.stripe.com/v1/../x"); err == nil || !strings.Contains(err.Error(), "/v1/../x: its path may not have . or .. as a segment") {
		t.Errorf("got %v", err)
	}
	if _, err := alone.For("https://example.com/x?key=1"); err == nil || err.Error() != "no service owns https://example.com: declare one that has the URL" {
		t.Errorf("got %v", err)
	}
}

func TestTarget(t *testing.T) {
	for _, test := range []struct{ base, endpoint, in, want string }{
		{"https://api.stripe.com", "http://127.0.0.1:1", "https://api.stripe.com/v1/a%2Fb?x=1", "http://127.0.0.1:1/v1/a%2Fb?x=1"},
		{"https://api.stripe.com", "http://127.0.0.1:1/", "https://api.stripe.com", "http://127.0.0.1:1"},
		{"https://a.com/v2/", "http://b.com/mock", "https://a.com/v2/x", "http://b.com/mock/x"},
		{"https://a.com/v2", "", "https://a.com/v2/x", "https://a.com/v2/x"},
		{"", "", "https://a.com/x", "https://a.com/x"},
	} {
		u := must(url.Parse(test.in))(t)
		s := Service{URL: test.base, Endpoint: test.endpoint}.withDefaults()
		equal(t, test.in, must(s.target(u))(t).String(), test.want)
	}
}

func TestNewServices(t *testing.T) {
	s := must(NewServices(Service{Name: "stripe", Endpoint: "http://127.0.0.1:1"}, Service{Name: Default, AllowPrivate: true}))(t)
	stripe, _ := named(s, "stripe")
	equal(t, "URL of a stripe with an endpoint", stripe.URL, "https://api.stripe.com")
	equal(t, "its errors", stripe.ErrorMember, true)
	other, found := named(s, Default)
	equal(t, "default", found && other.AllowPrivate, true)
	equal(t, "has", s.Has("stripe") && !s.Has("nobody"), true)
	if _, found := named(s, "nobody"); found {
		t.Error("a service that nobody declared")
	}
	equal(t, "timeout, attempts, backoff, wait", other.Timeout == 30*time.Second && other.Attempts == 8 && other.Backoff == 500*time.Millisecond &&
		other.MaxWait == 5*time.Minute && other.MaxInFlight == 1000 && other.ResponseLimit == 256<<10, true)
	equal(t, "response limit", Service{ResponseLimit: 1 << 30}.withDefaults().ResponseLimit, MaxResponse)
	must(NewServices(Service{Name: "mine", URL: "https://api.stripe.com"}, Service{Name: "stripe", Off: true}))(t)
	must(NewServices(Service{Name: "acme", URL: "https://a.com/v1"}, Service{Name: "other", URL: "https://a.com"}, Service{Name: "plain", URL: "http://a.com"}))(t)
	for want, bad := range map[string][]Service{
		`service "Acme": a name is a-z 0-9 _ -, begins with a letter, and has at most 32 of them`:                 {{Name: "Acme", URL: "https://a.com"}},
		`service acme: URL "ftp://a.com": want http(s)://host[/path]`:                                             {{Name: "acme", URL: "ftp://a.com", Endpoint: "http://a.com"}},
		`service acme: endpoint "a.com": want http(s)://host[/path]`:                                              {{Name: "acme", URL: "https://a.com", Endpoint: "a.com"}},
		`service acme: URL "https://u:p@a.com": want http(s)://host[/path]`:                                       {{Name: "acme", URL: "https://u:p@a.com"}},
		`service acme: URL "https://a.com/../b": want http(s)://host[/path]`:                                      {{Name: "acme", URL: "https://a.com/../b"}},
		`service body: the name is taken by a built-in service (body reads stored bodies, timer has the timers)`:  {{Name: Body, URL: "https://a.com"}},
		`service timer: the name is taken by a built-in service (body reads stored bodies, timer has the timers)`: {{Name: "timer", URL: "https://a.com"}},
		`service acme: want a URL; only default goes without`:                                                     {{Name: "acme"}},
		`service acme: the URL https://a.com/v1/ is that of the service other as well`: {
			{Name: "acme", URL: "https://b.com", MoreURLs: []string{"https://a.com/v1/"}}, {Name: "other", URL: "https://A.com:443/v1"}},
		`service acme: the URL https://api.stripe.com is that of the service stripe as well`:             {{Name: "acme", URL: "https://api.stripe.com"}},
		`service acme: URL "https://*.a.com": want http(s)://host[/path]`:                                {{Name: "acme", URL: "https://*.a.com"}},
		`service default: its secret would be sent to any URL that scripts name: want a URL beside auth`: {{Name: Default, Auth: Auth{Kind: AuthBearer, Secret: "acme_key"}}},
		`service acme: authentication header: host says how a request travels, and can't be a secret`:    {{Name: "acme", URL: "https://a.com", Auth: Auth{Kind: AuthHeader, Header: "host", Secret: "k"}}},
		`service acme is declared twice`:                      {{Name: "acme", URL: "https://a.com"}, {Name: "acme", URL: "https://b.com"}},
		`service acme: no time and no number can be negative`: {{Name: "acme", URL: "https://a.com", Attempts: -1}},
	} {
		if _, err := NewServices(bad...); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestSecretsFromEnv(t *testing.T) {
	env := SecretsFromEnv(func(name string) (string, bool) {
		value, ok := map[string]string{"THENCE_SECRET_STRIPE_KEY": "sk", "THENCE_SECRET_EMPTY": ""}[name]
		return value, ok
	})
	for name, want := range map[string]string{"stripe_key": "sk", "empty": "", "other": ""} {
		value, found := env(name)
		equal(t, name, value, want)
		equal(t, name+" is there", found, want != "")
	}
	s := Services{[]Service{{Name: "stripe"}, {Name: "stripe_eu"}, {Name: Default}}}
	for name, want := range map[string]string{
		"stripe_key": "stripe", "stripe_": "stripe", "stripe": "", "stripes_key": "", "acme_key": "", "stripe_eu_key": "stripe_eu", "default_key": Default,
	} {
		equal(t, name, s.owner(name), want)
	}
}

// A secret's value is in no message of any stream and no log line, while a call is under way, waits for its next try,
// fails and succeeds.
func TestSecretIsStoredNowhere(t *testing.T) {
	const canary = "sk_test_canary_8fb1"
	r := newRig(t)
	r.secrets["stripe_key"], r.secrets["echo_key"], r.secrets["acme_key"] = "sk_test_rig", canary, canary
	tries := 0
	echo := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		tries++
		w.Header().Set("X-Echo", req.Header.Get("Authorization"))
		w.Header().Set("Content-Type", "application/json")
		if tries == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		w.Write([]byte(`{"you_sent":"` + req.Header.Get("Authorization") + `","error":{"message":"` + req.Header.Get("Authorization") + `"}}`))
	}))
	service := Service{Name: "echo", URL: echo, AllowPrivate: true, Backoff: 10 * time.Millisecond, ErrorMember: true}
	run(t, r.performer(t, r.stripe(), service))
	request := func(secret string) job.Request {
		return job.Request{Method: "POST", URL: echo + "/x", Header: []job.HeaderLine{{Name: "Authorization", Value: "Bearer ", Secret: secret}}}
	}
	a := r.open(t, "a", "echo", request("echo_key")).failure(t, job.FailureHTTP, 2)
	equal(t, "message", a.Failure.Message, "Bearer [redacted]")
	equal(t, "header", a.Header["X-Echo"], "Bearer [redacted]")
	r.open(t, "b", "echo", request("acme_key")).failure(t, job.FailureBlocked, 1)
	r.open(t, "c", "echo", request("echo_other")).failure(t, job.FailureRejected, 1)
	o := r.prepare(t, "d", "stripe", post("/v1/customers", "name=Ada"))
	r.fake.Fail(o.of, stripefake.ServerError())
	o.commit(t, true)
	o.publish(t)
	equal(t, "status", o.answer(t).Status, 200)
	r.settle(t, 0)
	for _, value := range []string{canary, "sk_test_rig"} {
		if r.seen.has(value) {
			t.Errorf("%s was published or logged", value)
		}
	}
	if !r.seen.has("[redacted]") || !r.seen.has("call failed") || !r.seen.has("Nats-Schedule") {
		t.Error("the record lacks what it must have seen")
	}
	for _, name := range []string{"JOBS_payments", "KV_payments", "DEAD_payments", "KV_thence-keys"} {
		s := must(r.js.Stream(r.ctx, name))(t)
		state := s.CachedInfo().State
		for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
			m, err := s.GetMsg(r.ctx, seq)
			if err == nil && strings.Contains(string(m.Data), canary) {
				t.Errorf("message %d of %s holds the secret", seq, name)
			}
		}
	}
}

func named(s Services, name string) (Service, bool) {
	for _, svc := range s.all {
		if svc.Name == name {
			return svc, true
		}
	}
	return Service{}, false
}
