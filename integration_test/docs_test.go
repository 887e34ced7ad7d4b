package integration_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// block is a fenced block of a page.
type block struct {
	language string
	info     string // what stands behind the language
	text     string // without the last line's end
	line     int
}

// blocks reads the fenced blocks of a page at the repository's root.
func blocks(t *testing.T, page string) (all []block, text string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", page))
	if err != nil {
		t.Fatal(err)
	}
	var open *block
	var lines []string
	for i, l := range strings.Split(string(raw), "\n") {
		fence, isFence := strings.CutPrefix(l, "```")
		switch {
		case open == nil && isFence:
			language, info, _ := strings.Cut(fence, " ")
			open, lines = &block{language: language, info: strings.TrimSpace(info), line: i + 1}, nil
		case open != nil && isFence:
			open.text = strings.Join(lines, "\n")
			all, open = append(all, *open), nil
		case open != nil:
			lines = append(lines, l)
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block does not end", page, open.line)
	}
	return all, string(raw)
}

// commands are the lines of a shell block, without comments, continued lines joined.
func (b block) commands() []string {
	var all []string
	for l := range strings.SplitSeq(strings.ReplaceAll(b.text, "\\\n", " "), "\n") {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			all = append(all, strings.TrimPrefix(l, "$ "))
		}
	}
	return all
}

// reader follows a page as a newcomer does: it writes the files and runs the commands, in their order.
type reader struct {
	t       *testing.T
	cluster *cluster
	shell   *shell
	stripe  string
}

// stripeKey is the only key of the imitated Stripe.
const stripeKey = "sk_test_4eC39HqLyjWDarjtT1zdp7dc"

// TestReadme runs every command of README.md, and fails for one that it does not know how to run.
func TestReadme(t *testing.T) {
	buildNATS(t)
	t.Parallel()
	c := newCluster(t)
	r := &reader{t: t, cluster: c, shell: newShell(t, c), stripe: newStripe(t, stripeKey)}
	ctx := within(t, 2*time.Minute)
	all, _ := blocks(t, "README.md")
	if len(all) == 0 {
		t.Fatal("README.md has no blocks")
	}
	for _, b := range all {
		switch b.language {
		case "tengo":
			if b.info != "" {
				r.shell.write(t, b.info, b.text+"\n")
			}
		case "sh":
			for _, command := range b.commands() {
				t.Logf("README.md:%d: %s", b.line, command)
				r.follow(ctx, command)
			}
		case "bash", "shell", "console":
			t.Errorf("README.md:%d: a block of commands is marked %s: mark it sh, so that it is run here", b.line, b.language)
		}
	}
}

// follow runs one command.
func (r *reader) follow(ctx context.Context, command string) {
	r.t.Helper()
	run, isRun := strings.CutPrefix(command, "go run ./cmd/thence ")
	words := strings.Fields(command)
	switch {
	case command == "go test ./...": // it is what runs this
	case words[0] == "go" && !isRun, words[0] == "make":
		r.t.Fatalf("don't know how to run %q", command)
	case isRun && strings.HasPrefix(run, "up"):
		r.up(strings.Fields(run))
	case isRun:
		r.shell.run(ctx, r.t, "thence "+run)
	case words[0] == "thence" && len(words) > 1 && words[1] == "up":
		r.up(words[1:])
	case words[0] == "thence" && len(words) > 1 && words[1] == "worker", words[0] != "thence" && words[0] != "nats":
		r.t.Fatalf("don't know how to run %q", command)
	default:
		r.shell.run(ctx, r.t, command)
	}
}

// up starts what runs on, on another address and with the imitated Stripe, and makes its server the one of what
// follows. env is set beside Stripe's key.
func (r *reader) up(args []string, env ...string) {
	r.t.Helper()
	r.cluster.server.Close() // its address is free now
	args = append(args, "--listen", r.cluster.listen, "--store", filepath.Join(r.shell.dir, "store"), "--service", "stripe="+r.stripe, "--log", "json")
	if at := indexOf(args, "--services"); at >= 0 {
		args[at+1] = filepath.Join(r.shell.dir, args[at+1])
	}
	if at := indexOf(args, "--scripts"); at >= 0 {
		args[at+1] = filepath.Join(r.shell.dir, args[at+1])
		if err := os.MkdirAll(args[at+1], 0o750); err != nil {
			r.t.Fatal(err)
		}
	}
	up := start(r.t, "up", append(env, "THENCE_SECRET_STRIPE_KEY="+stripeKey), args...)
	up.await(up.ready)
	r.t.Cleanup(func() {
		if code := up.stop(); code != 0 {
			r.t.Errorf("up: exit code %d\n%s", code, up.output())
		}
	})
}

func indexOf(args []string, flag string) int {
	for i, a := range args[:len(args)-1] {
		if a == flag {
			return i
		}
	}
	return -1
}
