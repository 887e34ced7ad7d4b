package integration_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// tool is a pinned program that is built beside thence, once for all tests that use it.
type tool struct {
	name, modfile, path string
	once                sync.Once
	err                 error
	out                 string
}

var (
	natsCLI = &tool{name: "nats", modfile: "tools/nats.mod", path: "github.com/nats-io/natscli/nats"}
	nscCLI  = &tool{name: "nsc", modfile: "tools/nsc.mod", path: "github.com/nats-io/nsc/v2"}
)

// build builds the tool. Where its modules can't be fetched a test is skipped, and says so; all else that fails is a failure.
func (b *tool) build(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds " + b.name)
	}
	b.once.Do(func() {
		run := exec.Command("go", "build", "-modfile="+b.modfile, "-o", filepath.Join(filepath.Dir(thence), b.name), b.path)
		run.Dir = ".."
		out, err := run.CombinedOutput()
		b.out, b.err = string(out), err
	})
	if b.err != nil && unfetched.MatchString(b.out) {
		t.Skipf("NOT TESTED: the modules of %s (%s) can't be fetched:\n%s", b.name, b.modfile, b.out)
	}
	if b.err != nil {
		t.Fatalf("build %s: %v\n%s", b.name, b.err, b.out)
	}
}

// unfetched is what go says when a proxy does not have a module, can't be reached, or is switched off.
var unfetched = regexp.MustCompile(`: (Get "|reading )https?://|module lookup disabled by GOPROXY=off`)

// buildNATS builds the nats CLI beside the program.
func buildNATS(t *testing.T) {
	t.Helper()
	natsCLI.build(t)
}

// shell is where a reader's commands run: the program and the nats CLI on the path, NATS in NATS_URL.
type shell struct {
	dir string
	env []string
}

func newShell(t *testing.T, c *cluster) *shell {
	t.Helper()
	s := &shell{dir: t.TempDir()}
	s.env = []string{"HOME=" + s.dir, "NATS_URL=" + c.url(), "PATH=" + filepath.Dir(thence) + string(os.PathListSeparator) + os.Getenv("PATH")}
	return s
}

func (s *shell) write(t *testing.T, file, text string) {
	t.Helper()
	path := filepath.Join(s.dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs a line, which must succeed, and returns what it printed.
func (s *shell) run(ctx context.Context, t *testing.T, line string) (stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, s.env, &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", line, err, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// awaitCommit waits for a commit of a context, and returns it.
func awaitCommit(ctx context.Context, t *testing.T, c *cluster, a job.Address, fits func(job.Commit) bool) job.Commit {
	t.Helper()
	pool, err := stream.Open(c.connect(), a.Pool)
	if err != nil {
		t.Fatal(err)
	}
	var got job.Commit
	var seen strings.Builder
	err = pool.Watch(ctx, a.Context, func(e stream.Entry) bool {
		if e.Data == nil {
			return true
		}
		seen.WriteString(string(e.Data) + "\n")
		got, err = job.DecodeCommit(e.Data)
		if err != nil {
			t.Error(err)
		}
		return err == nil && !fits(got)
	})
	if err != nil {
		t.Fatalf("context %s: %v, having seen\n%s", a, errors.Join(err, context.Cause(ctx)), seen.String())
	}
	return got
}

// startPayments starts a worker of the pool payments with an imitation of Stripe, and waits until it takes jobs.
func startPayments(t *testing.T, c *cluster) {
	t.Helper()
	w := start(t, "payments", []string{"THENCE_SECRET_STRIPE_KEY=" + stripeKey}, "worker", "--pool", "payments", "--server", c.url(), "--log", "json",
		"--service", "stripe="+newStripe(t, stripeKey))
	w.await(w.ready)
}

// TestNATSCommandLine publishes jobs and looks at contexts as a person does with the nats CLI.
func TestNATSCommandLine(t *testing.T) {
	buildNATS(t)
	t.Parallel()
	c := newCluster(t)
	startPayments(t, c)
	ctx := within(t, time.Minute)
	s := newShell(t, c)
	at := func(name string) job.Address { return job.Address{Pool: "payments", Context: name} }
	ended := func(job.Commit) bool { return true }

	t.Run("source", func(t *testing.T) {
		out, log := s.run(ctx, t, `nats pub payments.cus_42 --jetstream --no-templates 'print("hi")'`)
		if !strings.Contains(out+log, "Stored in Stream: JOBS_payments") {
			t.Errorf("got %s%s", out, log)
		}
		r := awaitCommit(ctx, t, c, at("cus_42"), ended).Report
		if r.Outcome != job.OutcomeDone || r.Output != "hi\n" || r.Job == "" || r.Caller != "" {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("a file on standard input", func(t *testing.T) {
		s.write(t, "first.tengo", "context := import(\"context\")\ncontext.set(\"n\", {a: {b: 1}})\nprint(\"{{ Count }}\")\n")
		s.run(ctx, t, `nats pub payments.file --jetstream --no-templates < first.tengo`)
		commit := awaitCommit(ctx, t, c, at("file"), ended)
		if commit.Report.Output != "{{ Count }}\n" || string(commit.State) != `{"n":{"a":{"b":1}}}` {
			t.Errorf("got %+v with state %s", commit.Report, commit.State)
		}
	})
	t.Run("a library script", func(t *testing.T) {
		s.run(ctx, t, `nats pub payments.lib --jetstream --no-templates -H Thence-Script:checkout -H Thence-Caller:shop `+
			`'{"email": "ada@example.com", "amount": 2000, "currency": "usd", "price": "price_monthly", "payment_method": "pm_card_visa"}'`)
		commit := awaitCommit(ctx, t, c, at("lib"), func(c job.Commit) bool { return len(c.Calls) == 0 })
		if !strings.Contains(string(commit.State), `"status":"completed"`) || commit.Report.Caller != "stripe" {
			t.Errorf("got %+v with state %s", commit.Report, commit.State)
		}
	})
	t.Run("an id twice", func(t *testing.T) {
		const line = `nats pub payments.twice --jetstream --no-templates -H Nats-Msg-Id:order-77 'context := import("context"); context.set("n", context.get("n", 0) + 1)'`
		s.run(ctx, t, line)
		if out, log := s.run(ctx, t, line); !strings.Contains(out+log, "Duplicate: true") {
			t.Errorf("got %s%s", out, log)
		}
		s.run(ctx, t, `nats pub payments.twice --jetstream --no-templates -H Nats-Msg-Id:last 'x := 1'`)
		commit := awaitCommit(ctx, t, c, at("twice"), func(c job.Commit) bool { return c.Report.Job == "last" })
		if string(commit.State) != `{"n":1}` {
			t.Errorf("got %+v with state %s", commit.Report, commit.State)
		}
	})
	t.Run("the bucket", func(t *testing.T) {
		awaitCommit(ctx, t, c, at("cus_42"), ended)
		value, _ := s.run(ctx, t, `nats kv get payments cus_42 --raw`)
		commit, err := job.DecodeCommit([]byte(value))
		if err != nil || commit.Report.Input == nil || commit.Report.Input.Source != `print("hi")` {
			t.Errorf("got %v, %s", err, value)
		}
		history, _ := s.run(ctx, t, `nats kv history payments twice`)
		if n := strings.Count(history, `twice`); n < 2 || !strings.Contains(history, "PUT") {
			t.Errorf("got\n%s", history)
		}
	})
	t.Run("a header in lower case", func(t *testing.T) {
		s.run(ctx, t, `nats pub payments.lower --jetstream --no-templates -H thence-script:checkout '{}'`)
		r := awaitCommit(ctx, t, c, at("lower"), ended).Report
		if r.Error == nil || r.Error.Reason != job.ReasonMalformed || !strings.Contains(r.Error.Message, `header "thence-script": the name is case-sensitive, write Thence-Script`) {
			t.Fatalf("got %+v", r.Error)
		}
		if out, _ := s.run(ctx, t, `thence dead list payments.lower`); !strings.Contains(out, "write Thence-Script") {
			t.Errorf("dead list: got\n%s", out)
		}
	})
	t.Run("templates", func(t *testing.T) { // what --no-templates is for
		s.run(ctx, t, `nats pub payments.template --jetstream 'print("{{ Count }}")'`)
		if r := awaitCommit(ctx, t, c, at("template"), ended).Report; r.Output != "1\n" {
			t.Errorf("the CLI left a template as it was: the docs need not warn of it any more. Got %+v", r)
		}
	})
}
