package integration_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/dispatcher"
)

// pushScripts are a flow of two steps, the second of which takes an API's answer, and one whose second step comes later; each
// says which version it is of.
func pushScripts(version string) map[string]string {
	return map[string]string{
		"sleep":    `context := import("context"); context.set("begun", "` + version + `"); context.set("answered", "` + version + `"); import("flow").dispatch({script: "last", after: "2s"})`,
		"begin":    `import("http").get(data.api, {then: "answered"}); import("context").set("begun", "` + version + `")`,
		"answered": `import("flow").dispatch({script: "last"}); import("context").set("answered", "` + version + `")`,
		"last":     `import("context").set("last", "` + version + `"); import("job").result(import("context").all())`,
	}
}

// TestPushDuringFlow: a flow goes on with the release that it began with, whatever is pushed, rolled back, or started
// meanwhile: the answer that it waits for, and the job that this dispatches. A caller's job runs what is pushed.
func TestPushDuringFlow(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	remote := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			once.Do(func() { close(asked) })
			select {
			case <-answer:
			case <-r.Context().Done():
			}
		}
		_, _ = w.Write([]byte(`{}`))
	}))
	t.Cleanup(remote.Close)
	c := newCluster(t)
	first := startWorker(t, c, "first", "--scripts", scripts(t, pushScripts("one")), "--service", "api="+remote.URL)
	ctx := within(t, 3*time.Minute)
	d, err := dispatcher.New(c.connect(), dispatcher.Config{Worker: "p"})
	if err != nil {
		t.Fatal(err)
	}
	flow := func(name, script, path string) dispatcher.Receipt {
		r, err := d.Dispatch(ctx, dispatcher.Job{Context: name, Script: script, Data: map[string]string{"api": remote.URL + path}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	ends := func(r dispatcher.Receipt, want string) {
		t.Helper()
		done, err := d.AwaitFlow(ctx, r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(done.Result()); got != `{"answered":"`+want+`","begun":"`+want+`","last":"`+want+`"}` {
			t.Errorf("a flow that began on release %s: %s", want, got)
		}
	}
	old := flow("old", "begin", "/held")
	first.await(asked)
	asleep := flow("asleep", "sleep", "")
	if _, err := d.Await(ctx, asleep); err != nil {
		t.Fatal(err)
	}

	turned := first.logged("the pool's release has changed")
	out, errs, code := cli(t, "scripts", "push", "p", scripts(t, pushScripts("two")), "--server", c.url())
	if code != 0 || !strings.Contains(out, "changed  answered\n") {
		t.Fatalf("push: exit code %d\n%s%s", code, out, errs)
	}
	first.await(turned)
	ends(flow("new", "begin", "/at-once"), "two")

	// A worker that has nothing but what the pool has takes over, in the middle of the flow.
	second := startWorker(t, c, "second", "--service", "api="+remote.URL)
	first.kill()
	close(answer)
	ends(old, "one")
	ends(asleep, "one")
	if log := second.output(); strings.Contains(log, `"WARN"`) && strings.Contains(log, "scripts") {
		t.Errorf("the worker without scripts of its own warns:\n%s", log)
	}
}
