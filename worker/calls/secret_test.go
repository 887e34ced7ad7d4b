package calls

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/thence-dev/thence/internal/job"
)

// TestSecretsFromDir exchanges secrets as Kubernetes does: a directory of links to a directory that is exchanged whole.
func TestSecretsFromDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mount := func(version, value string) {
		ok(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		ok(t, os.WriteFile(filepath.Join(dir, version, "acme_key"), []byte(value), 0o600))
		ok(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
		ok(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	mount("..v1", "first\n")
	ok(t, os.Symlink("..data/acme_key", filepath.Join(dir, "acme_key")))
	ok(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
	ok(t, os.WriteFile(filepath.Join(dir, "lines"), []byte("two\nlines\r\n"), 0o600))
	ok(t, os.WriteFile(filepath.Join(dir, "huge"), make([]byte, maxSecret+1), 0o600))
	secrets := FirstOf(SecretsFromDir(dir), SecretsFromEnv(func(name string) (string, bool) {
		return "from " + name, name == "THENCE_SECRET_ACME_KEY" || name == "THENCE_SECRET_OTHER"
	}))
	for name, want := range map[string]string{
		"acme_key": "first", "lines": "two\nlines", "other": "from THENCE_SECRET_OTHER", "empty": "", "nothing": "", "huge": "", "..data/acme_key": "", "../x": "", "..v1": "", "": "", "a/b": "",
	} {
		value, found := secrets(name)
		equal(t, name, value, want)
		equal(t, name+" is there", found, want != "")
	}
	mount("..v2", "second")
	value, _ := secrets("acme_key")
	equal(t, "exchanged", value, "second")
}

// echoes are the ways in which an API sends back what it was sent.
func echoes(secret string) map[string]string {
	quoted, _ := json.Marshal(map[string]string{"error": secret})
	all := map[string]string{
		"plain": "you sent " + secret, "JSON": string(quoted), "URL query": "?key=" + url.QueryEscape(secret), "URL path": "/" + url.PathEscape(secret) + "/",
		"URL, small": strings.ToLower(url.QueryEscape(secret)), "HTML": "<b>" + html.EscapeString(secret) + "</b>", "hex": hex.EncodeToString([]byte(secret)),
		"JSON with slashes": strings.ReplaceAll(string(quoted), "/", `\/`),
	}
	for i := range 3 {
		for tail := range 3 {
			text := []byte(strings.Repeat("u", i) + secret + strings.Repeat("v", tail))
			all[fmt.Sprintf("base64 %d %d", i, tail)] = base64.StdEncoding.EncodeToString(text)
			all[fmt.Sprintf("base64 of URLs %d %d", i, tail)] = base64.RawURLEncoding.EncodeToString(text)
		}
	}
	return all
}

// traces are parts of a secret that show that it is there, in whatever form.
func traces(secret string) []string {
	all := []string{secret, secret[2 : len(secret)-2], url.QueryEscape(secret), url.PathEscape(secret), hex.EncodeToString([]byte(secret))}
	for i := range 3 {
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			all = append(all, e.EncodeToString([]byte(strings.Repeat("\x00", i) + secret))[4:16])
		}
	}
	return all
}

// TestRedaction: a secret that comes back is taken out of the answer, in whatever form and wherever it stands.
func TestRedaction(t *testing.T) {
	t.Parallel()
	const secret = `sk/test+canary "8f<b1>&?=0123`
	for name, echo := range echoes(secret) {
		for place, h := range map[string]http.HandlerFunc{
			"body":   answerWith(200, echo),
			"header": answerWith(200, "x", "X-Echo: "+echo),
			"error":  answerWith(400, string(must(json.Marshal(map[string]any{"error": map[string]string{"type": echo, "code": echo, "message": echo}}))(t))),
			"status": func(w http.ResponseWriter, _ *http.Request) { malformed(w, echo) }, // net/http quotes a part of it
		} {
			checkRedacted(t, name+" in "+place, secret, tried(t, Service{ErrorMember: place == "error", Auth: Auth{Kind: AuthBearer, Secret: "echo"}}, job.Request{}, h, "echo", secret))
		}
	}
}

func checkRedacted(t *testing.T, what, secret string, got result) {
	t.Helper()
	encoded := string(must(job.Encode(got.answer))(t))
	for _, trace := range traces(secret) {
		if strings.Contains(encoded, trace) {
			t.Errorf("%s: %q is there: %s", what, trace, encoded)
		}
	}
	if !strings.Contains(encoded, redacted) && !strings.Contains(encoded, "malformed HTTP status code") {
		t.Errorf("%s: nothing was redacted: %s", what, encoded)
	}
}

// malformed breaks HTTP with a word in it, which the client's error repeats.
func malformed(w http.ResponseWriter, word string) {
	conn, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	_, _ = buffer.WriteString("HTTP/1.1 " + word + " OK\r\n\r\n")
	_ = buffer.Flush()
}

// TestRedactionOutlivesASecret: what a service was sent before is known after it was exchanged, and in answers to calls
// that did not carry it.
func TestRedactionOutlivesASecret(t *testing.T) {
	t.Parallel()
	current, sent := "first-secret-0123", ""
	base := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent += r.Header.Get("X-Key") + " "
		w.Write([]byte("all that was ever sent: " + sent))
	}))
	s := Service{Name: "api", URL: base, AllowPrivate: true}.withDefaults()
	a := alone(s, nil)
	a.secrets = func(string) (string, bool) { return current, true }
	c := newClient(s, a)
	t.Cleanup(c.close)
	with := job.Request{Method: "GET", URL: base + "/x", Header: []job.HeaderLine{{Name: "X-Key", Secret: "api_key"}}}
	for _, step := range []struct {
		secret  string
		request job.Request
		want    string
	}{
		{"first-secret-0123", with, "all that was ever sent: [redacted] "},
		{"second-secret-4567", with, "all that was ever sent: [redacted] [redacted] "},
		{"second-secret-4567", job.Request{Method: "GET", URL: base + "/x"}, "all that was ever sent: [redacted] [redacted]  "},
	} {
		current = step.secret
		equal(t, "body", string(c.send(t.Context(), job.Call{Request: step.request}).answer.Body), step.want)
	}
}

// panics is a transport that ends with what it was sent.
type panics struct{}

func (panics) RoundTrip(r *http.Request) (*http.Response, error) { panic(r.Header) }

func TestPanicHoldsNoSecret(t *testing.T) {
	t.Parallel()
	const secret = "sk-canary-0123456789"
	s := Service{Name: "api", URL: "https://api.acme.com", Auth: Auth{Kind: AuthBasic, User: "u", Secret: "key"}}.withDefaults()
	a := alone(s, map[string]string{"key": secret, "api_key": secret})
	a.transport = panics{}
	got := newClient(s, a).send(t.Context(), job.Call{Request: job.Request{Method: "GET", URL: "https://api.acme.com/", Header: []job.HeaderLine{{Name: "X", Secret: "api_key"}}}})
	equal(t, "retry", got.retry, true)
	equal(t, "type", got.answer.Failure.Type, job.FailureConnection)
	checkRedacted(t, "panic", secret, got)
}

func TestAuth(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{"key": "s3cret", "api_own": "mine", "lines": "a\nb"}
	own := job.Request{Method: "GET", URL: "https://api.acme.com/", Header: []job.HeaderLine{{Name: "Authorization", Value: "Token ", Secret: "api_own"}}}
	plain := job.Request{Method: "GET", URL: "https://api.acme.com/"}
	for name, test := range map[string]struct {
		auth    Auth
		request job.Request
		header  string
		want    string
		message string // of a failure
	}{
		"none":                      {Auth{}, plain, "Authorization", "", ""},
		"basic":                     {Auth{Kind: AuthBasic, User: "u", Secret: "key"}, plain, "Authorization", "Basic dTpzM2NyZXQ=", ""},
		"bearer":                    {Auth{Kind: AuthBearer, Secret: "key"}, plain, "Authorization", "Bearer s3cret", ""},
		"header":                    {Auth{Kind: AuthHeader, Header: "X-Api-Key", Secret: "key"}, plain, "X-Api-Key", "s3cret", ""},
		"the call's own":            {Auth{Kind: AuthBearer, Secret: "key"}, own, "Authorization", "Token mine", ""},
		"the call's own, elsewhere": {Auth{Kind: AuthHeader, Header: "X-Api-Key", Secret: "key"}, own, "X-Api-Key", "s3cret", ""},
		"not set":                   {Auth{Kind: AuthBearer, Secret: "other"}, plain, "", "", "secret other is not set"},
		"not a header's":            {Auth{Kind: AuthBearer, Secret: "lines"}, plain, "", "", "secret lines has characters that can't be sent"},
	} {
		s := Service{Name: "api", URL: "https://api.acme.com", Auth: test.auth}.withDefaults()
		ok(t, s.validate())
		w := &web{t: t}
		a := alone(s, secrets)
		a.transport = w
		got := newClient(s, a).send(t.Context(), job.Call{Request: test.request})
		if f := got.answer.Failure; f != nil || test.message != "" {
			equal(t, name, f != nil && strings.Contains(f.Message, test.message) && len(w.asked) == 0, true)
			continue
		}
		equal(t, name, w.asked[0].Header.Get(test.header), test.want)
	}
	for want, bad := range map[string]Auth{
		`service a: authentication "digest": want basic, bearer or header`:                             {Kind: "digest", Secret: "k"},
		`service a: authentication bearer: want the name of a secret, got ""`:                          {Kind: AuthBearer},
		`service a: authentication header: "" is no name of a header`:                                  {Kind: AuthHeader, Secret: "k"},
		`service a: authentication basic: a user without a colon belongs to basic, a header to header`: {Kind: AuthBasic, Secret: "k", User: "a:b"},
	} {
		if err := (Service{Name: "a", URL: "https://a.com", Auth: bad}).withDefaults().validate(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestIdempotencyHeader(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"": "Idempotency-Key", "Request-ID": "Request-Id", "none": ""} {
		s := Service{Name: "api", URL: "https://api.acme.com", IdempotencyHeader: name}.withDefaults()
		ok(t, s.validate())
		w := &web{t: t}
		a := alone(s, nil)
		a.transport = w
		newClient(s, a).send(t.Context(), job.Call{Key: "k-1", Request: job.Request{Method: "POST", URL: "https://api.acme.com/"}})
		var sent []string
		for header, values := range w.asked[0].Header {
			if values[0] == "k-1" {
				sent = append(sent, http.CanonicalHeaderKey(header))
			}
		}
		equal(t, "header of "+name, strings.Join(sent, ","), want)
	}
}
