package integration_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/scripting"
)

// page is a page of the documentation that is followed from top to bottom: its files are written, its commands run, and
// what it says that a command prints is compared. moved has addresses of the page and what stands for them here.
type page struct {
	*reader
	file   string
	moved  *strings.Replacer
	back   *strings.Replacer
	stdout string
	env    []string
}

func openPage(t *testing.T, file, stripe string, moved ...string) *page {
	t.Helper()
	c := newCluster(t)
	var back []string
	for i := 0; i < len(moved); i += 2 {
		back = append(back, moved[i+1], moved[i])
	}
	return &page{reader: &reader{t: t, cluster: c, shell: newShell(t, c), stripe: stripe}, file: file,
		moved: strings.NewReplacer(moved...), back: strings.NewReplacer(back...)}
}

func (p *page) read(ctx context.Context) {
	p.t.Helper()
	all, _ := blocks(p.t, p.file)
	for _, b := range all {
		b.text = p.moved.Replace(b.text)
		switch {
		case b.info != "":
			p.shell.write(p.t, b.info, b.text+"\n")
		case b.language == "sh":
			p.stdout = ""
			for _, command := range b.commands() {
				p.run(ctx, command)
			}
		case b.language == "text":
			if !strings.HasSuffix(p.stdout, b.text+"\n") {
				p.t.Errorf("%s:%d: want what the command above prints, which is\n%s", p.file, b.line, p.back.Replace(p.stdout))
			}
		default:
			p.t.Errorf("%s:%d: a block that is neither a file, nor sh, nor text", p.file, b.line)
		}
	}
}

func (p *page) run(ctx context.Context, command string) {
	p.t.Helper()
	words := strings.Fields(command)
	switch {
	case words[0] == "export":
		p.env = append(p.env, words[1])
	case words[0] == "thence" && words[1] == "up":
		p.up(words[1:], p.env...)
	case words[0] == "thence":
		stdout, _ := p.shell.run(ctx, p.t, command)
		p.stdout += stdout
	default:
		p.t.Fatalf("%s: don't know how to run %q", p.file, command)
	}
}

// TestImportAPI follows docs/import-api.md, with a shop on loopback in place of the page's.
func TestImportAPI(t *testing.T) {
	t.Parallel()
	orders := make(chan string, 1)
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/v1/orders" || r.Header.Get("Authorization") != "Bearer ak_test_4711" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		orders <- string(body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"ord_1"}`)
	}))
	t.Cleanup(shop.Close)
	ctx := within(t, time.Minute)
	p := openPage(t, "docs/import-api.md", "http://127.0.0.1:1", "https://api.acme.example", shop.URL)
	p.read(ctx)
	select {
	case got := <-orders:
		if got != `{"item":"lamp","quantity":2}` {
			t.Errorf("the shop was sent %s", got)
		}
	case <-ctx.Done():
		t.Fatal("the shop was sent nothing")
	}
	at := job.Address{Pool: "shop", Context: "order_1"}
	commit := awaitCommit(ctx, t, p.cluster, at, func(c job.Commit) bool { return len(c.Calls) == 0 })
	if string(commit.State) != `{"order_id":"ord_1"}` || commit.Report.Caller != "acme" {
		t.Errorf("got %+v with state %s", commit.Report, commit.State)
	}
	p.shell.write(t, "cancel.tengo", `import("acme").orders.cancel("ord_1", {}, {then: ""})`)
	p.shell.run(ctx, t, "thence submit shop.order_2 cancel.tengo")
	at.Context = "order_2"
	commit = awaitCommit(ctx, t, p.cluster, at, func(c job.Commit) bool { return len(c.Calls) == 0 })
	if !strings.Contains(string(commit.State), `"operation":"acme_cancel_order"`) {
		t.Errorf("the script for all failures got %+v with state %s", commit.Report, commit.State)
	}
	module, _ := p.shell.run(ctx, t, "cat scripts/acme.tengo")
	mistakes(t, "docs/import-api.md", "acme", module)
}

// TestStripePage follows docs/stripe.md.
func TestStripePage(t *testing.T) {
	t.Parallel()
	openPage(t, "docs/stripe.md", "http://127.0.0.1:1").read(within(t, time.Minute))
	mistakes(t, "docs/stripe.md", "stripe", "")
}

// mistakes runs the scripts of a page's table of errors. module is a library script that they import; empty: none.
func mistakes(t *testing.T, file, api, module string) {
	t.Helper()
	files := fstest.MapFS{}
	if module != "" {
		files[api+".tengo"] = &fstest.MapFile{Data: []byte(module)}
	}
	library, err := scripting.NewLibrary(files)
	if err != nil {
		t.Fatal(err)
	}
	engine := scripting.NewEngine(library)
	_, text := blocks(t, file)
	found := 0
	for line := range strings.Lines(text) {
		script, want, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` | ")
		if !ok || !strings.HasPrefix(script, api+".") {
			continue
		}
		found++
		want = strings.TrimSuffix(strings.TrimSpace(want), " |")
		source := fmt.Sprintf("%s := import(%q)\n%s", api, api, script)
		_, err := engine.Run(t.Context(), scripting.Input{Script: scripting.Script{Source: source}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s\nends with %v\nwant %s", file, script, err, want)
		}
	}
	if found == 0 {
		t.Errorf("%s has no table of errors", file)
	}
}
