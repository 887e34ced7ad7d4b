package worker

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/worker/calls"
)

// TestInlineAndSecrets: whoever may publish jobs may publish source, and source may not use a service's secret unless
// the service says so; nor may what it names as then, nor what it dispatches.
func TestInlineAndSecrets(t *testing.T) {
	b := newBed(t)
	got := make(chan string, 10)
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got <- r.URL.Path + " " + r.Header.Get("Authorization")
	}))
	t.Cleanup(api.Close)
	c := b.config(map[string]string{"pay": `http := import("http"); http.get(data, {bearer: secret("acme_key")})`})
	c.Secrets = func(string) (string, bool) { return "s3cret", true }
	c.Services = []Service{
		{Name: "acme", URL: api.URL + "/acme", AllowPrivate: true},
		{Name: "auth", URL: api.URL + "/auth", AllowPrivate: true, Auth: calls.Auth{Kind: calls.AuthBearer, Secret: "k"}},
		{Name: "open", URL: api.URL + "/open", AllowPrivate: true, Auth: calls.Auth{Kind: calls.AuthBearer, Secret: "k"}, Inline: true},
	}
	b.work(c)
	const get = `http := import("http"); http.get("`
	for _, test := range []struct{ name, source, says string }{
		{"a named secret", get + api.URL + `/acme/x", {bearer: secret("acme_key")})`, "inline source may not call acme with a secret"},
		{"the service's own", get + api.URL + `/auth/x")`, "inline source may not call auth with a secret"},
		{"stripe's", `stripe := import("stripe"); stripe.customers.create({}, {then: "", catch: ""})`, "inline source may not call stripe with a secret"},
		{"by a library script", `pay := import("pay")`, ""},
	} {
		seq := b.publish("p.refused", test.source)
		end := b.await("refused", seq)
		if test.says == "" {
			equal(t, test.name, end.Report.Outcome, job.OutcomeDead) // a script that is imported runs as what imports it
			continue
		}
		equal(t, test.name, end.Report.Error.Reason, job.ReasonDenied)
		contains(t, test.name, end.Report.Error.Message, test.says, "`inline: true`")
	}
	for _, test := range []struct{ name, body, script, want string }{
		{"no secret", get + api.URL + `/acme/plain")`, "", "/acme/plain "},
		{"a service that serves inline source", get + api.URL + `/open/x")`, "", "/open/x Bearer s3cret"},
		{"a library script", `"` + api.URL + `/acme/x"`, "pay", "/acme/x Bearer s3cret"},
	} {
		header := []string{}
		if test.script != "" {
			header = []string{job.HeaderScript, test.script}
		}
		b.publish("p.done", test.body, header...)
		select {
		case request := <-got:
			equal(t, test.name, request, test.want)
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: nothing was sent", test.name)
		}
	}
}

// TestNoInline: a pool may run library scripts only.
func TestNoInline(t *testing.T) {
	b := newBed(t)
	c := b.config(counting)
	c.NoInline = true
	b.work(c)
	end := b.await("a", b.publish("p.a", `x := 1`))
	equal(t, "reason", end.Report.Error.Reason, job.ReasonDenied)
	contains(t, "error", end.Report.Error.Message, "the pool runs no inline source", job.HeaderScript)
	equal(t, "outcome of a library script", b.await("a", b.publish("p.a", "", job.HeaderScript, "count")).Report.Outcome, job.OutcomeDone)
}

// TestDispatchAllowed: scripts dispatch to the pools and contexts that the pool allows, and always to their own.
func TestDispatchAllowed(t *testing.T) {
	b := newBed(t)
	if _, err := stream.Ensure(within(t, 10*time.Second), b.nc, "ledger", stream.Options{}); err != nil {
		t.Fatal(err)
	}
	c := b.config(map[string]string{"send": `flow := import("flow"); flow.dispatch({worker: data[0], context: data[1], source: "x := 1"})`})
	c.DispatchPools, c.DispatchContexts = []string{"ledger"}, []string{"audit-*", "book"}
	b.work(c)
	for _, test := range []struct{ pool, context, says string }{
		{"p", "a", ""}, {"p", "book", ""}, {"p", "audit-7", ""}, {"p", "audit-7/8", ""}, {"ledger", "book", ""},
		{"p", "other", "the context other is not among those"}, {"ledger", "a", "the context a is not among those"},
		{"elsewhere", "book", "the pool elsewhere is not among those"},
	} {
		end := b.await("a", b.publish("p.a", `["`+test.pool+`", "`+test.context+`"]`, job.HeaderScript, "send"))
		if test.says == "" {
			equal(t, test.pool+"."+test.context, end.Report.Outcome, job.OutcomeDone)
			continue
		}
		equal(t, test.pool+"."+test.context, end.Report.Error.Reason, job.ReasonDenied)
		contains(t, "error", end.Report.Error.Message, test.says)
	}
	bad := b.config(nil)
	bad.DispatchContexts = []string{"["}
	if _, err := New(bad); err == nil || err.Error() != `config: DispatchContexts: "[" is no pattern` {
		t.Errorf("got %v", err)
	}
}
