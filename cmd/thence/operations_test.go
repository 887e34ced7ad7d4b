package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// page is a reader of docs/operations.md, on a server where things have failed.
type page struct {
	*testing.T
	pool *stream.Pool
	dir  string
	url  string

	holding int // contexts that a failed job holds
	pushes  int
}

// Ids that the page shows; the test puts those of letters that there are in their places.
const (
	shownLetter = "payments.cus_42.1764000000000017"
	shownHeld   = "payments.cus_44.1764000000000018"
	shownCall   = "1764000000000019-0"
)

// TestOperationsPage runs every command of docs/operations.md, in order, each as a shell would. What a block is about is
// said behind its language: letter (there is a dead letter), held (a failed job holds a context), call (the context cus_42 waits for a
// call), pushed (somebody has just pushed another release, and there is a letter).
func TestOperationsPage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the nats CLI")
	}
	p := newPage(t)
	blocks := regexp.MustCompile("(?s)\n```sh *(\\w*)\n(.*?)\n```\n").FindAllStringSubmatch(read(t, "../../docs/operations.md"), -1)
	if len(blocks) < 10 {
		t.Fatalf("the page has %d blocks of commands", len(blocks))
	}
	for _, b := range blocks {
		for command := range strings.Lines(b[2]) {
			p.run(p.prepare(b[1], strings.TrimSpace(command)))
		}
	}
}

func newPage(t *testing.T) *page {
	t.Helper()
	p := &page{T: t, dir: t.TempDir()}
	server, err := embedded.Start(embedded.Options{Store: filepath.Join(p.dir, "store"), Listen: "127.0.0.1:0", MaxStore: 64 << 30})
	p.must(err)
	t.Cleanup(server.Close)
	p.url = server.URL()
	nc, err := nats.Connect(p.url)
	p.must(err)
	t.Cleanup(nc.Close)
	p.must(os.MkdirAll(filepath.Join(p.dir, "scripts"), 0o750))
	p.must(os.WriteFile(filepath.Join(p.dir, "scripts", "pay.tengo"), []byte("x := data.amount + undefined\n"), 0o600))
	p.must(os.WriteFile(filepath.Join(p.dir, "scripts", "ship.tengo"), []byte("x := 1 + undefined\n"), 0o600))
	p.build("thence", "../..", "./cmd/thence")
	p.build("nats", "../..", "-modfile=tools/nats.mod", "github.com/nats-io/natscli/nats")
	p.pool, err = stream.Ensure(p.within(), nc, "payments", stream.Options{})
	p.must(err)
	p.work()
	p.submit("cus_42", "") // so that there is a context
	return p
}

func (p *page) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (p *page) within() context.Context {
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	p.Cleanup(cancel)
	return ctx
}

func (p *page) build(name, dir string, args ...string) {
	p.Helper()
	build := exec.Command("go", append([]string{"build", "-o", filepath.Join(p.dir, name)}, args...)...)
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		p.Fatalf("build %s: %v\n%s", name, err, out)
	}
}

// work runs a worker in this process until the test ends.
func (p *page) work() {
	ctx, cancel := context.WithCancel(p.Context())
	ended := make(chan int, 1)
	env := func(name string) (string, bool) {
		return map[string]string{"NATS_URL": p.url}[name], name == "NATS_URL"
	}
	args := []string{"worker", "--pool", "payments", "--scripts", filepath.Join(p.dir, "scripts"), "--hold-on", "ship", "--log-level", "error"}
	go func() { ended <- run(ctx, args, env, strings.NewReader(""), os.Stdout, os.Stderr) }()
	p.Cleanup(func() {
		cancel()
		if code := <-ended; code != exitOK {
			p.Errorf("the worker ended with %d", code)
		}
	})
}

// prepare makes what a command needs, and puts the ids of real letters into it.
func (p *page) prepare(needs, command string) string {
	p.Helper()
	switch needs {
	case "letter":
		return strings.ReplaceAll(command, shownLetter, p.letter())
	case "pushed":
		p.pushed()
		p.letter()
		return command
	case "held":
		return strings.ReplaceAll(command, shownHeld, p.held())
	}
	if needs == "call" {
		return strings.ReplaceAll(command, shownCall, p.call())
	}
	return command
}

// call is the id of a new open call.
func (p *page) call() string {
	p.Helper()
	seq, _, err := p.pool.PublishJob(p.within(), job.Message{
		Subject: "payments.cus_42", Data: []byte(`import("http").get("https://api.example.invalid/")`),
	})
	p.must(err)
	p.must(p.pool.Watch(p.within(), "cus_42", func(e stream.Entry) bool {
		c, err := job.DecodeCommit(e.Data)
		return e.Data == nil || err != nil || c.Applied < seq
	}))
	return job.EffectID(seq, 0)
}

// letter is the id of a dead letter of a new job.
func (p *page) letter() string { return p.submit("cus_42", "pay") }

// pushed has somebody push another release, in which as much fails.
func (p *page) pushed() {
	p.Helper()
	now, err := p.pool.CurrentRelease(p.within())
	p.must(err)
	r, err := p.pool.LoadRelease(p.within(), now.Name)
	p.must(err)
	p.pushes++
	r.Scripts["pushed"] = strings.Repeat(" ", p.pushes)
	r.Name = job.ReleaseName(r.Scripts)
	p.must(p.pool.StoreRelease(p.within(), r))
	_, err = p.pool.TurnRelease(p.within(), stream.Turn{Name: r.Name, By: "ada", From: "push"}, now.Revision)
	p.must(err)
}

// held is the id of the letter of a job that holds its context: each time another one, as what was done about the one
// before may be under way.
func (p *page) held() string {
	name := "cus_44"
	if p.holding++; p.holding > 1 {
		name += "-" + strconv.Itoa(p.holding)
	}
	return p.submit(name, "ship")
}

// submit runs a job in a context: one that ends well, or with a script's name one of that script, which fails. Then it
// returns the id of the letter.
func (p *page) submit(name, script string) string {
	p.Helper()
	m := job.Message{Subject: "payments." + name, Header: map[string][]string{}, Data: []byte(`import("context").set("n", 1)`)}
	if script != "" {
		m.Header[job.HeaderScript], m.Data = []string{script}, []byte(`{"amount":1}`)
	}
	seq, _, err := p.pool.PublishJob(p.within(), m)
	p.must(err)
	p.must(p.pool.Watch(p.within(), name, func(e stream.Entry) bool {
		if e.Data == nil {
			return true
		}
		c, err := job.DecodeCommit(e.Data)
		return err == nil && c.Applied < seq && (c.Held == nil || c.Held.Sequence != seq)
	}))
	if script == "" {
		return ""
	}
	at := job.Address{Pool: "payments", Context: name}
	subject := at.DeadSubject(strconv.FormatUint(seq, 10))
	for ctx := p.within(); ; {
		_, err := p.pool.DeadFromLeader(ctx, subject)
		if err == nil {
			return at.String() + "." + strconv.FormatUint(seq, 10)
		}
		if !errors.Is(err, stream.ErrNone) {
			p.must(err)
		}
	}
}

func (p *page) run(command string) {
	p.Helper()
	p.Logf("$ %s", command)
	cmd := exec.CommandContext(p.within(), "sh", "-c", command)
	cmd.Dir = p.dir
	cmd.Env = []string{"HOME=" + p.dir, "NATS_URL=" + p.url, "PATH=" + p.dir + string(os.PathListSeparator) + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil {
		p.Errorf("%s: %v\n%s", command, err, out)
	}
}
