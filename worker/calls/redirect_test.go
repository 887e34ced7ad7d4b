package calls

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// web answers requests by their URL, without any network, and keeps what it was asked.
type web struct {
	t     *testing.T
	leads map[string]string // "<status> <location>" by URL; what is not there answers 200
	asked []*http.Request
}

func (w *web) RoundTrip(req *http.Request) (*http.Response, error) {
	w.asked = append(w.asked, req)
	resp := &http.Response{StatusCode: 200, Status: "200 OK", Request: req, Body: io.NopCloser(strings.NewReader("ok")), Header: http.Header{}}
	if to, leads := w.leads[req.URL.String()]; leads {
		_, err := fmt.Sscanf(to, "%d", &resp.StatusCode)
		ok(w.t, err)
		resp.Status = fmt.Sprint(resp.StatusCode, " ", http.StatusText(resp.StatusCode))
		if _, location, _ := strings.Cut(to, " "); location != "" {
			resp.Header.Set("Location", location)
		}
	}
	return resp, nil
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	const (
		base  = "https://api.acme.com/v1"
		start = base + "/x"
	)
	chain := map[string]string{}
	for i := range 10 {
		chain[fmt.Sprint(base, "/", i)] = fmt.Sprint("302 ", base, "/", i+1)
	}
	for _, test := range []struct {
		name    string
		method  string
		url     string
		leads   map[string]string
		closed  bool   // URLs of no service can't be reached
		no      bool   // the service follows none
		typ     string // of failure; empty: none
		message string
		asked   int  // requests
		private bool // the last request has the service's credentials
	}{
		{"below the base", "GET", start, map[string]string{start: "302 /v1/y"}, true, false, "", "", 2, true},
		{"of a HEAD", "HEAD", start, map[string]string{start: "307 /v1/y"}, true, false, "", "", 2, true},
		{"permanent", "GET", start, map[string]string{start: "308 y"}, true, false, "", "", 2, true},
		{"to another host", "GET", start, map[string]string{start: "302 https://files.acme.com/y"}, false, false, "", "", 2, false},
		{"to a host below", "GET", start, map[string]string{start: "302 https://x.api.acme.com/v1/y"}, false, false, "", "", 2, false},
		{"to another port", "GET", start, map[string]string{start: "302 https://api.acme.com:444/v1/y"}, false, false, "", "", 2, false},
		{"above the base", "GET", start, map[string]string{start: "302 /admin"}, false, false, "", "", 2, false},
		{"above the base, climbing", "GET", start, map[string]string{start: "302 /v1/%2e%2e/admin"}, false, false, "", "", 2, false},
		{"there and back", "GET", start, map[string]string{start: "302 https://evil.com/", "https://evil.com/": "302 " + base + "/y"}, false, false, "", "", 3, false},
		{"to no service", "GET", start, map[string]string{start: "302 https://evil.com/?q=1"}, true, false, job.FailureBlocked,
			"a redirect to https://evil.com, which belongs to no service", 1, true},
		{"to http", "GET", start, map[string]string{start: "302 http://api.acme.com/v1/y"}, false, false, job.FailureBlocked, "a redirect from https to http://api.acme.com", 1, true},
		{"to http, later", "GET", start, map[string]string{start: "302 https://a.com/", "https://a.com/": "302 http://b.com/"}, false, false, job.FailureBlocked, "from https to http://b.com", 2, false},
		{"to a file", "GET", start, map[string]string{start: "302 file:///etc/passwd"}, false, false, job.FailureBlocked, "want http(s), without a user", 1, true},
		{"to gopher", "GET", start, map[string]string{start: "302 gopher://evil.com/"}, false, false, job.FailureBlocked, "want http(s), without a user", 1, true},
		{"with a user", "GET", start, map[string]string{start: "302 https://a:b@api.acme.com/v1/y"}, false, false, job.FailureBlocked, "want http(s), without a user", 1, true},
		{"no URL", "GET", start, map[string]string{start: "302 http://[::1"}, false, false, job.FailureConnection, "failed to parse Location header", 1, true},
		{"no location", "GET", start, map[string]string{start: "302 "}, false, false, job.FailureHTTP, "the API answered 302 Found", 1, true},
		{"five", "GET", base + "/5", chain, false, false, "", "", 6, true},
		{"six", "GET", base + "/4", chain, false, false, job.FailureBlocked, "more than 5 redirects", 6, true},
		{"round and round", "GET", start, map[string]string{start: "302 " + start}, false, false, job.FailureBlocked, "more than 5 redirects", 6, true},
		{"none wanted", "GET", start, map[string]string{start: "302 /v1/y"}, false, true, job.FailureHTTP, "redirects of a GET are not followed", 1, true},
		{"of a POST", "POST", start, map[string]string{start: "302 /v1/y"}, false, false, job.FailureHTTP, "redirects of a POST are not followed", 1, true},
		{"of a POST that stays one", "POST", start, map[string]string{start: "307 /v1/y"}, false, false, job.FailureHTTP, "redirects of a POST are not followed", 1, true},
		{"of a POST, to no URL", "POST", start, map[string]string{start: "302 http://[::1"}, false, false, job.FailureHTTP, "redirects of a POST are not followed", 1, true},
		{"none wanted, to no URL", "GET", start, map[string]string{start: "302 http://[::1"}, false, true, job.FailureHTTP, "redirects of a GET are not followed", 1, true},
		{"of a DELETE", "DELETE", start, map[string]string{start: "308 /v1/y"}, false, false, job.FailureHTTP, "redirects of a DELETE are not followed", 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := Service{Name: "acme", URL: base}.withDefaults()
			if test.no {
				s.Redirects = -1
			}
			w := &web{t: t, leads: test.leads}
			a := alone(s, map[string]string{"acme_key": "s3cret"})
			a.transport = w
			if !test.closed {
				a.reach = func(*url.URL) bool { return true }
			}
			c := newClient(s, a)
			got := c.send(t.Context(), job.Call{Key: "k", Request: job.Request{Method: test.method, URL: test.url, Header: []job.HeaderLine{
				{Name: "Authorization", Value: "Bearer ", Secret: "acme_key"}, {Name: "X-Key", Secret: "acme_key"}, {Name: "Cookie", Value: "a=b"}, {Name: "X-Tenant", Value: "t1"},
			}}})
			f := got.answer.Failure
			if f == nil {
				f = &job.Failure{}
			}
			equal(t, "type ("+f.Message+")", f.Type, test.typ)
			equal(t, f.Message, strings.Contains(f.Message, test.message), true)
			equal(t, "requests", len(w.asked), test.asked)
			last := w.asked[len(w.asked)-1].Header
			equal(t, "credentials", last.Get("Authorization") == "Bearer s3cret" && last.Get("X-Key") == "s3cret" && last.Get("X-Tenant") == "t1", test.private)
			if !test.private {
				equal(t, "header", fmt.Sprint(last), fmt.Sprintf("map[User-Agent:[%s]]", userAgent))
			}
			equal(t, "referrer", last.Get("Referer"), "")
		})
	}
}

// TestRedirectInward: a service that may reach private addresses is not a way to reach others by a redirect.
func TestRedirectInward(t *testing.T) {
	t.Parallel()
	port := canary(t)
	for _, host := range inward {
		got := tried(t, Service{Timeout: 5 * time.Second, ConnectTimeout: time.Second}, job.Request{Method: "GET"}, answerWith(302, "", "Location: http://"+host+":"+port+"/"))
		if got.answer.Failure == nil {
			t.Errorf("%s: the redirect was followed: %+v", host, got.answer)
		}
	}
}

// TestRedirectKeepsToItsNetwork: a redirect below the service's URL is followed on the service's own terms.
func TestRedirectKeepsToItsNetwork(t *testing.T) {
	t.Parallel()
	got := tried(t, Service{}, job.Request{Method: "GET"}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x" {
			http.Redirect(w, r, "/y", http.StatusSeeOther)
			return
		}
		w.Write([]byte("from " + r.URL.Path))
	})
	equal(t, "body", string(got.answer.Body), "from /y")
}
