package integration_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/dispatcher"
)

// canary is a secret with what is written differently in URLs, in JSON and in base64.
const canary = `sk_test/canary+51H8b2kQz?&=%<"x`

// traces are pieces by which a secret is recognised, in whatever form it is written.
func traces(secret string) []string {
	quoted, _ := json.Marshal(secret) // of a string: can't fail
	all := []string{secret, strings.Trim(string(quoted), `"`), url.QueryEscape(secret), url.PathEscape(secret), "canary", "51H8b2kQz"}
	for before := range 3 {
		text := []byte(strings.Repeat("\x00", before) + secret)
		all = append(all, base64.StdEncoding.EncodeToString(text)[4:32], base64.RawURLEncoding.EncodeToString(text)[4:32])
	}
	return all
}

// secretScripts call an API with a secret in all the ways that there are, and keep what comes back.
var secretScripts = map[string]string{
	"ask": `
http := import("http")
http.post(data.url, {json: {}, bearer: secret("api_key"), timeout: 1, then: "keep", catch: "keep", tag: data.url})`,
	"look": `
http := import("http")
http.get(data.url, {headers: {"X-Key": ["Key ", secret("api_key")]}, timeout: 1, then: "keep", catch: "keep"})`,
	"keep": `
context := import("context")
job := import("job")
print(data, job.response, job.failure)
context.set("answers", context.get("answers", 0) + 1)
context.set("last", [data, job.response, job.failure])`,
	"stop": `
job := import("job")
print(secret("api_key"))
x := undefined
x.y.z(data, job.response)`,
}

// newEcho is an API that sends back what it was sent, in as many forms as there are paths.
func newEcho(t *testing.T) string {
	t.Helper()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { echo(w, r, 200) }))
	t.Cleanup(elsewhere.Close)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			echo(w, r, 200)
			<-r.Context().Done()
		case "/redirect":
			http.Redirect(w, r, elsewhere.URL+"/?key="+url.QueryEscape(canary), http.StatusFound)
		case "/within":
			http.Redirect(w, r, "/echo?key="+url.QueryEscape(canary), http.StatusFound)
		case "/break":
			conn, buffer, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = fmt.Fprintf(buffer, "HTTP/1.1 %s %s\r\n\r\n", canary, canary)
			_ = buffer.Flush()
			_ = conn.Close()
		case "/busy":
			echo(w, r, 503)
		case "/refuse":
			echo(w, r, 403)
		default:
			echo(w, r, 200)
		}
	}))
	t.Cleanup(api.Close)
	return api.URL
}

func echo(w http.ResponseWriter, r *http.Request, status int) {
	sent := r.Header.Get("Authorization") + r.Header.Get("X-Key")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Sent", sent)
	w.Header().Set("X-Query", url.QueryEscape(sent))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"sent": sent, "url": url.QueryEscape(sent), "path": url.PathEscape(sent), "base64": base64.StdEncoding.EncodeToString([]byte(sent)),
		"basic": base64.StdEncoding.EncodeToString([]byte("user:" + strings.TrimPrefix(sent, "Bearer "))), "error": map[string]string{"message": sent, "type": sent},
	})
	_ = http.NewResponseController(w).Flush()
}

// TestSecretsStayOut: a secret is in no message of any stream, no bucket, no log at any level and on no page, plain, in
// base64 or as a URL has it: through success, refusal, retries, time-out, redirects, a broken answer and scripts that
// fail, while the API sends it back in all of these forms.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	c, remote := newCluster(t), newEcho(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "api_key"), []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	worker := startPod(t, c, "worker", "--secrets", dir, "--scripts", scripts(t, secretScripts), "--log-level", "debug", "--service", "api="+remote)
	worker.await(worker.ready)
	ctx := within(t, 2*time.Minute)
	paths := []string{"/echo", "/refuse", "/busy", "/hang", "/redirect", "/within", "/break"}
	for _, path := range paths {
		for _, script := range []string{"ask", "look"} {
			dispatch(t, c, dispatcher.Job{Context: script + path[1:], Script: script, Data: map[string]any{"url": remote + path}})
		}
	}
	dispatch(t, c, dispatcher.Job{Context: "dead", Script: "stop"})
	// Those that are tried again and again are not waited for: what they leave behind meanwhile is searched.
	for _, name := range []string{"askecho", "lookecho", "askrefuse", "lookrefuse", "askredirect", "lookredirect", "lookwithin"} {
		awaitState(ctx, t, c, name, func(s struct{ Answers int }) bool { return s.Answers == 1 })
	}
	searchEverything(ctx, t, c, worker)
}

// searchEverything looks for the canary in all that is stored, logged and shown.
func searchEverything(ctx context.Context, t *testing.T, c *cluster, worker *pod) {
	t.Helper()
	js, err := jetstream.New(c.connect())
	if err != nil {
		t.Fatal(err)
	}
	searched, texts := 0, traces(canary)
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		searched += search(ctx, t, js, name, texts)
	}
	if names.Err() != nil {
		t.Fatal(names.Err())
	}
	_, pages := worker.get(t, "/metrics")
	if !strings.Contains(pages, `service="api"`) {
		t.Errorf("the metrics say nothing of the service: %s", pages)
	}
	for _, args := range [][]string{
		{"context", "get", "p.askecho"}, {"context", "history", "p.askecho", "--json"}, {"dead", "list", "p", "--json"},
		{"service", "show", "p", "api"}, {"service", "show", "p", "--json"}, {"service", "list", "p", "--json"},
	} {
		out, errs, _ := cli(t, append(args, "--server", c.url())...)
		if pages += out + errs; out == "" {
			t.Errorf("thence %v shows nothing: %s", args, errs)
		}
	}
	if worker.stop() != 0 {
		t.Error(worker.output())
	}
	pages += worker.output()
	for _, text := range texts {
		if strings.Contains(pages, text) {
			t.Errorf("the secret is in a log or on a page, as %q", text)
		}
	}
	t.Logf("%d stored messages and %d bytes of logs and pages searched for %d forms", searched, len(pages), len(texts))
	if searched < 20 || len(pages) < 1000 || !strings.Contains(pages, "[redacted]") {
		t.Error("too little was searched for the test to mean anything")
	}
	checkFiles(t, c.store, texts)
}

// search looks for texts in every message that a stream holds, and returns how many it holds.
func search(ctx context.Context, t *testing.T, js jetstream.JetStream, stream string, texts []string) int {
	t.Helper()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	state := s.CachedInfo().State
	found := 0
	for seq := state.FirstSeq; seq <= state.LastSeq && found < int(state.Msgs); seq++ {
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			continue // deleted
		}
		found++
		header, err := json.Marshal(m.Header)
		if err != nil {
			t.Fatal(err)
		}
		if text, there := holds(append(header, m.Data...), texts); there {
			t.Errorf("stream %s, sequence %d, subject %s: %q is there: %s", stream, seq, m.Subject, text, m.Data)
		}
	}
	return found
}

func holds(b []byte, texts []string) (string, bool) {
	for _, text := range texts {
		if bytes.Contains(b, []byte(text)) {
			return text, true
		}
	}
	return "", false
}

// checkFiles looks for texts in every file of a server's store, where deleted messages stand too.
func checkFiles(t *testing.T, dir string, texts []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if text, there := holds(b, texts); there {
			t.Errorf("%q is in %s", text, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
