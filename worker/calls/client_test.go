package calls

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// alone is the access of a service that is the only one, with these secrets.
func alone(s Service, secrets map[string]string) access {
	all := Services{[]Service{s}}
	return access{
		secrets: func(name string) (string, bool) { value, ok := secrets[name]; return value, ok },
		bound:   func(secret string) bool { return all.bound(s, secret) },
		reach:   func(u *url.URL) bool { _, err := all.For(u.String()); return err == nil },
		clock:   MachineClock{},
	}
}

// tried sends one request to a handler by a service named api, without any stream. A secret more may be given by its
// name and value.
func tried(t *testing.T, s Service, request job.Request, h http.HandlerFunc, secret ...string) result {
	t.Helper()
	base := serve(t, h)
	s.Name, s.URL, s.AllowPrivate = "api", base, true
	s = s.withDefaults()
	secrets := map[string]string{"api_key": "canary<0123>", "api_empty": "", "api_bad": "a\nb"}
	if len(secret) > 0 {
		secrets[secret[0]] = secret[1]
	}
	c := newClient(s, alone(s, secrets))
	t.Cleanup(c.close)
	if request.URL == "" {
		request.URL = base + "/x"
	}
	if request.Method == "" {
		request.Method = http.MethodPost
	}
	return c.send(t.Context(), job.Call{ID: "1-0", Service: "api", Key: "key-1", Request: request})
}

func answerWith(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, line := range header {
			name, value, _ := strings.Cut(line, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	huge := `"` + strings.Repeat("x", maxInline) + `"`
	soon := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
	for _, test := range []struct {
		name    string
		service Service
		answer  http.HandlerFunc
		typ     string // of failure; empty: none
		message string // part of the failure's
		retry   bool
		after   time.Duration
	}{
		{"JSON", Service{ErrorMember: true}, answerWith(200, `{"a":1}`), "", "", false, 0},
		{"text", Service{}, answerWith(200, `hello`), "", "", false, 0},
		{"no content", Service{ErrorMember: true}, answerWith(204, ``), "", "", false, 0},
		{"nothing where JSON belongs", Service{ErrorMember: true}, answerWith(200, ``), job.FailureConnection, "not the JSON", true, 0},
		{"a page where JSON belongs", Service{ErrorMember: true}, answerWith(200, `<html>`), job.FailureConnection, "not the JSON", true, 0},
		{"error in a 200", Service{ErrorMember: true}, answerWith(200, `{"error":{"type":"card_error","code":"x","message":"no"}}`), "card_error", "no", false, 0},
		{"text as error", Service{ErrorMember: true}, answerWith(200, `{"error":"no such thing"}`), job.FailureHTTP, "no such thing", false, 0},
		{"number as code", Service{ErrorMember: true}, answerWith(400, `{"error":{"code":17,"message":"no"}}`), job.FailureHTTP, "no", false, 0},
		{"null error", Service{ErrorMember: true}, answerWith(200, `{"error":null}`), "", "", false, 0},
		{"error of another kind of API", Service{}, answerWith(200, `{"error":"x"}`), "", "", false, 0},
		{"not found", Service{}, answerWith(404, `no`), job.FailureHTTP, "the API answered 404 Not Found", false, 0},
		{"not implemented", Service{}, answerWith(501, ``), job.FailureHTTP, "501", false, 0},
		{"request timeout", Service{}, answerWith(408, ``), job.FailureHTTP, "408", true, 0},
		{"too early", Service{}, answerWith(425, ``), job.FailureHTTP, "425", true, 0},
		{"conflict", Service{}, answerWith(409, ``), job.FailureHTTP, "409", true, 0},
		{"slow down", Service{}, answerWith(429, ``, "Retry-After: 7"), job.FailureHTTP, "429", true, 7 * time.Second},
		{"slow down by a date", Service{}, answerWith(503, ``, "Retry-After: "+soon), job.FailureHTTP, "503", true, 90 * time.Second},
		{"should", Service{}, answerWith(400, ``, "Stripe-Should-Retry: true"), job.FailureHTTP, "400", true, 0},
		{"should not", Service{}, answerWith(503, ``, "Stripe-Should-Retry: false"), job.FailureHTTP, "503", false, 0},
		{"should, perhaps", Service{}, answerWith(503, ``, "Stripe-Should-Retry: maybe"), job.FailureHTTP, "503", true, 0},
		{"redirect", Service{}, answerWith(302, ``, "Location: /elsewhere"), job.FailureHTTP, "the API answered 302 Found; redirects of a POST are not followed", false, 0},
		{"too large", Service{}, answerWith(200, huge), job.FailureTooLarge, "the body is over the limit of 262144 bytes", false, 0},
		{"too large for its service", Service{ResponseLimit: 3}, answerWith(200, `1234`), job.FailureTooLarge, "over the limit of 3 bytes", false, 0},
		{"as large as may be", Service{ResponseLimit: 4}, answerWith(200, `1234`), "", "", false, 0},
		{"too large with a status", Service{}, answerWith(503, huge), job.FailureHTTP, "503", true, 0},
		{"long message", Service{ErrorMember: true}, answerWith(400, `{"error":{"message":"`+strings.Repeat("é", 5000)+`"}}`), job.FailureHTTP, "é…", false, 0},
		{"cut", Service{}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("half"))
		}, job.FailureConnection, "unexpected EOF", true, 0},
		{"time", Service{Timeout: 30 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			job.FailureTimeout, "no whole answer within 30ms", true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := tried(t, test.service, job.Request{}, test.answer)
			f := got.answer.Failure
			if f == nil {
				f = &job.Failure{}
			}
			equal(t, "type ("+f.Message+")", f.Type, test.typ)
			equal(t, "retry", got.retry, test.retry)
			if !strings.Contains(f.Message, test.message) || len(f.Message) > maxMessage {
				t.Errorf("message %q: want %q", f.Message, test.message)
			}
			if diff := got.after - test.after; diff > 0 || diff < -3*time.Second {
				t.Errorf("after: got %s, want %s", got.after, test.after)
			}
		})
	}
}

// A request asks for as much time as it likes, within the bound of all.
func TestTimeoutOfARequest(t *testing.T) {
	t.Parallel()
	got := tried(t, Service{Timeout: time.Hour}, job.Request{Timeout: 20 * time.Millisecond},
		func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	equal(t, "message", got.answer.Failure.Message, "no whole answer within 20ms")
	got = tried(t, Service{Timeout: time.Millisecond}, job.Request{Timeout: time.Hour}, answerWith(200, "x"))
	equal(t, "status", got.answer.Status, 200)
}

func TestRequestAsItIsSent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		request job.Request
		want    string // method, key, header, body
	}{
		"post":    {job.Request{Body: job.Text("a=1"), Header: []job.HeaderLine{{Name: "X", Value: "1"}, {Name: "X", Value: "2"}}}, "POST key-1 [1 2] a=1"},
		"patch":   {job.Request{Method: "PATCH"}, "PATCH key-1 [] "},
		"get":     {job.Request{Method: "GET"}, "GET  [] "},
		"own key": {job.Request{Header: []job.HeaderLine{{Name: "idempotency-key", Value: "mine"}}}, "POST mine [] "},
		"secret":  {job.Request{Header: []job.HeaderLine{{Name: "X", Value: "Bearer ", Secret: "api_key"}}}, "POST key-1 [Bearer canary<0123>] "},
	} {
		var got string
		tried(t, Service{}, test.request, func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			got = fmt.Sprintf("%s %s %v %s", r.Method, r.Header.Get("Idempotency-Key"), r.Header.Values("X"), body)
		})
		equal(t, name, got, test.want)
	}
}

// What can't be sent as it is fails at once, and nothing is sent.
func TestRequestsThatAreNotSent(t *testing.T) {
	t.Parallel()
	line := func(name, value, secret string) job.Request {
		return job.Request{Header: []job.HeaderLine{{Name: name, Value: value, Secret: secret}}}
	}
	for name, test := range map[string]struct {
		request job.Request
		typ     string
		message string
	}{
		"secret that is not set": {line("A", "", "api_other"), job.FailureRejected, "secret api_other is not set: set THENCE_SECRET_API_OTHER where the worker runs, or put it into the file api_other of its --secrets directory"},
		"empty secret":           {line("A", "", "api_empty"), job.FailureRejected, "secret api_empty is not set: set THENCE_SECRET_API_EMPTY where the worker runs, or put it into the file api_empty of its --secrets directory"},
		"secret of another": {line("A", "", "stripe_key"), job.FailureBlocked,
			"secret stripe_key does not belong to service api: a secret is sent to the service that names it, or whose name it begins with (api_...)"},
		"secret with a line break": {line("A", "", "api_bad"), job.FailureRejected, `header "A": its name or value has characters that can't be sent`},
		"header's value":           {line("A", "a\r\nB: c", ""), job.FailureRejected, `header "A": its name or value has characters that can't be sent`},
		"header's name":            {line("A b", "", ""), job.FailureRejected, `header "A b": its name or value has characters that can't be sent`},
		"no header name":           {line("", "a", ""), job.FailureRejected, `header "": its name or value has characters that can't be sent`},
		"method":                   {job.Request{Method: "A B"}, job.FailureRejected, `net/http: invalid method "A B"`},
		"URL":                      {job.Request{URL: "http://[::1"}, job.FailureRejected, "the URL can't be read"},
		"scheme":                   {job.Request{URL: "file:///etc/passwd"}, job.FailureRejected, "want a URL http(s)://host/path, without a user"},
		"no host":                  {job.Request{URL: "https:api.stripe.com"}, job.FailureRejected, "want a URL http(s)://host/path, without a user"},
		"user":                     {job.Request{URL: "https://a:b@api.stripe.com"}, job.FailureRejected, "want a URL http(s)://host/path, without a user"},
		"another host":             {job.Request{URL: "https://example.com/x?key=1"}, job.FailureBlocked, "service api does not own https://example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			got := tried(t, Service{}, test.request, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
			if got.answer.Failure == nil {
				t.Fatal("no failure")
			}
			equal(t, "type", got.answer.Failure.Type, test.typ)
			equal(t, "message", got.answer.Failure.Message, test.message)
			equal(t, "retry", got.retry, false)
		})
	}
}

// A secret is bound to the hosts of its service. One that has none, as default is, is sent no secret, whatever its name.
func TestSecretsNeedAHost(t *testing.T) {
	t.Parallel()
	base := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was sent") }))
	s := Service{Name: Default, AllowPrivate: true}.withDefaults()
	c := newClient(s, alone(s, map[string]string{"default_key": "canary"}))
	t.Cleanup(c.close)
	got := c.send(t.Context(), job.Call{ID: "1-0", Service: Default, Request: job.Request{
		Method: http.MethodGet, URL: base, Header: []job.HeaderLine{{Name: "Authorization", Value: "Bearer ", Secret: "default_key"}},
	}})
	if got.answer.Failure == nil {
		t.Fatal("no failure")
	}
	equal(t, "type", got.answer.Failure.Type, job.FailureBlocked)
	equal(t, "message", got.answer.Failure.Message, "secret default_key can't be sent to "+base+", which no service owns: declare a service that has the URL")
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "1.5": 0, "soon": 0, "3": 3 * time.Second, "99999999": 24 * time.Hour, "99999999999999999999999": 0,
		"Fri, 02 Jan 2026 15:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 15:03:05 GMT": 0, "Friday, 02-Jan-26 15:05:05 GMT": time.Minute,
	} {
		equal(t, value, retryAfter(value, now), want)
	}
}

func TestKeptHeader(t *testing.T) {
	h := http.Header{"A": {"1", "2"}, "Set-Cookie": {"x"}, "Long": {strings.Repeat("x", maxHeaderValue+1)}, "None": nil}
	kept := keptHeader(h)
	equal(t, "kept", fmt.Sprint(kept), "map[A:1]")
	many := http.Header{}
	for i := range 2 * maxHeaderLines {
		many.Set(fmt.Sprint("X-", i), "x")
	}
	equal(t, "lines", len(keptHeader(many)), maxHeaderLines)
}

func TestWait(t *testing.T) {
	s := Service{Backoff: 100 * time.Millisecond, MaxWait: time.Second}
	for range 200 {
		for attempt, longest := range map[int]time.Duration{1: 100, 2: 200, 3: 400, 4: 800, 5: 1000, 50: 1000, 10_000: 1000} {
			longest *= time.Millisecond
			if d := s.wait(attempt, 0, rand.N[time.Duration]); d > longest || d < longest*3/4-1 {
				t.Fatalf("after %d tries: %s, want %s to %s", attempt, d, longest*3/4, longest)
			}
		}
	}
	equal(t, "asked for more", s.wait(1, 500*time.Millisecond, rand.N[time.Duration]), 500*time.Millisecond)
	equal(t, "asked for much more", s.wait(1, time.Hour, rand.N[time.Duration]), time.Hour)
	equal(t, "asked for less", s.wait(5, time.Millisecond, rand.N[time.Duration]) >= 750*time.Millisecond, true)
	huge := Service{Backoff: 200_000 * time.Hour, MaxWait: 200_000 * time.Hour}
	equal(t, "no overflow", huge.wait(60, 0, rand.N[time.Duration]) >= 150_000*time.Hour, true)
}
