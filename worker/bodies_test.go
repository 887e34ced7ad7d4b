package worker

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/thence-dev/thence/internal/job"
)

// reading are scripts that read a body that is too large for a job, part by part.
var reading = map[string]string{
	"export": `http := import("http"); http.get(data, {then: "read", catch: "failed"})`,
	"read": `
http := import("http")
job := import("job")
context := import("context")
stored := job.response.stored
if job.response.status == 200 {
	context.set("export", stored)
	context.set("begins", [data, job.response.body, stored.type, stored.offset, stored.next])
	http.part(stored, 0, 262144, {then: "read", catch: "failed"})
} else {
	text := import("text")
	context.set("lines", context.get("lines", 0) + text.count(data, "\n"))
	context.set("bytes", context.get("bytes", 0) + len(data))
	if stored.next {
		http.part(stored, stored.next, 262144, {then: "read", catch: "failed"})
	} else {
		job.result("read")
	}
}
`,
	"failed": `job := import("job"); job.result(job.failure.type + ": " + job.failure.message)`,
	"steal":  `http := import("http"); http.part({name: import("job").context + "." + data, size: 1}, 0, 1, {then: "failed", catch: "failed"})`,
}

// shownScript is a script that docs/services.md shows.
func shownScript(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile("../docs/services.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)\n```tengo " + name + "\\.tengo\n(.*?)\n```\n").FindSubmatch(page)
	if shown == nil {
		t.Fatalf("docs/services.md does not show %s.tengo", name)
	}
	return string(shown[1])
}

// TestShownExport: the script that docs/services.md shows reads all of a body.
func TestShownExport(t *testing.T) {
	b, url, _ := exporting(t)
	b.publish("p.c", shownScript(t, "export"), job.HeaderType, job.TypeSource)
	dead := b.awaitCommit("c", func(c job.Commit) bool { return c.Report.Outcome == job.OutcomeDead })
	contains(t, "without data", dead.Report.Error.Message, "http.get")
	b.publish("p.c", string(encode(job.Inline{Source: shownScript(t, "export"), Data: encode(url)})), job.HeaderType, job.TypeInline)
	c := b.awaitCommit("c", func(c job.Commit) bool { return c.Report.Result != nil })
	equal(t, "lines", string(c.Report.Result), fmt.Sprint(5<<20/20))
}

// exporting is a bed with an API that answers with 5 MiB in lines, and a worker with scripts that read it.
func exporting(t *testing.T) (b *bed, url string, size int) {
	t.Helper()
	body := strings.Repeat("2026-11-23,äöü,1\n", 5<<20/20)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/csv")
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(api.Close)
	b = newBed(t)
	c := b.config(reading)
	c.Services = []Service{{Name: "api", URL: api.URL, AllowPrivate: true, ResponseLimit: 8 << 20}}
	b.work(c)
	return b, api.URL + "/export", len(body)
}

// TestReadInParts: a script reads a body of 5 MiB part by part, each by a call whose answer is a job of its own.
func TestReadInParts(t *testing.T) {
	b, url, size := exporting(t)
	b.publish("p.c", url, job.HeaderScript, "export")
	c := b.awaitCommit("c", func(c job.Commit) bool { return c.Report.Result != nil })
	equal(t, "result", string(c.Report.Result), `"read"`)
	got := state[struct {
		Lines, Bytes int
		Export       job.Stored
		Begins       []any
	}](t, c)
	equal(t, "bytes", got.Bytes, size)
	equal(t, "lines", got.Lines, 5<<20/20)
	equal(t, "size", got.Export.Size, int64(size))
	equal(t, "the first answer", fmt.Sprint(got.Begins), "[<nil>  text/csv <nil> <nil>]")
	equal(t, "open calls", len(c.Calls), 0)

	// The body is there for its own context alone, whatever a script makes up.
	call := strings.TrimPrefix(got.Export.Name, "c.")
	b.publish("p.other", call, job.HeaderScript, "steal", job.HeaderType, job.TypeText)
	other := b.awaitCommit("other", func(c job.Commit) bool { return c.Report.Result != nil })
	contains(t, "result", string(other.Report.Result), "gone: the body of call "+call+" is not kept for this context")
}
