package main

import (
	"bufio"
	"errors"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/scripting/sandbox"
)

var update = flag.Bool("update", false, "rewrite what the scripts expect")

func TestMain(m *testing.M) {
	sandbox.Main() // the test is the program, and so are its workers' children
	testscript.Main(m, map[string]func(){"thence": func() {
		completionTimeout = time.Minute
		main()
	}})
}

// TestScript runs the program as a user does, each script beside a NATS server of its own in $NATS_URL. Beside
// testscript's own commands there are:
//
//	exits CODE thence ...     run it, and want that exit code
//	start NAME thence ...     run it in the background, and wait until its worker is ready
//	terminate NAME            end it with SIGTERM and want exit code 0; stdout and stderr are then what it printed
//	publish SUBJECT BODY [NAME:VALUE]...
//	                          publish a job as a client of NATS does, with headers
//	await REGEXP thence ...   run it again and again until its standard output matches
//	capture VARIABLE REGEXP   set a variable to what the group matches in stdout or stderr
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			server, err := embedded.Start(embedded.Options{Store: filepath.Join(env.WorkDir, ".nats"), Listen: "127.0.0.1:0", MaxStore: 64 << 30})
			if err != nil {
				return err
			}
			env.Defer(server.Close)
			env.Setenv("NATS_URL", server.URL())
			env.Setenv("ADDRESS", strings.TrimPrefix(server.URL(), "nats://"))
			free, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			env.Setenv("FREE", free.Addr().String()) // free again, for scripts that need to know an address beforehand
			if err := free.Close(); err != nil {
				return err
			}
			env.Values[running{}] = map[string]*background{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "start": start, "terminate": terminate, "capture": capture, "publish": publish, "await": await,
		},
	})
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func capture(ts *testscript.TestScript, _ bool, args []string) {
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	for _, file := range []string{"stdout", "stderr"} {
		if found := re.FindStringSubmatch(ts.ReadFile(file)); found != nil {
			ts.Setenv(args[0], found[1])
			return
		}
	}
	ts.Fatalf("no match for %s", args[1])
}

func await(ts *testscript.TestScript, _ bool, args []string) {
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for began := time.Now(); time.Since(began) < time.Minute; {
		if ts.Exec(args[1], args[2:]...) == nil && re.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("no match for %s after a minute", args[0])
}

func publish(ts *testscript.TestScript, _ bool, args []string) {
	nc, err := nats.Connect(ts.Getenv("NATS_URL"))
	ts.Check(err)
	defer nc.Close()
	m := nats.NewMsg(args[0])
	m.Data = []byte(args[1])
	for _, header := range args[2:] {
		name, value, _ := strings.Cut(header, ":")
		m.Header[name] = []string{value}
	}
	_, err = nc.RequestMsg(m, 10*time.Second) // its answer is the stream's ack
	ts.Check(err)
}

// running is the key of a script's programs in the background.
type running struct{}

// background is the program in the background.
type background struct {
	cmd    *exec.Cmd
	stdout strings.Builder
	ready  chan struct{}
	ended  chan struct{}

	mu     sync.Mutex
	stderr strings.Builder
}

func start(ts *testscript.TestScript, _ bool, args []string) {
	b := &background{cmd: exec.Command(args[1], args[2:]...), ready: make(chan struct{}), ended: make(chan struct{})}
	b.cmd.Dir, b.cmd.Stdout = ts.MkAbs("."), &b.stdout
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "NATS_URL", "THENCE_SECRET_STRIPE_KEY"} {
		b.cmd.Env = append(b.cmd.Env, name+"="+ts.Getenv(name))
	}
	stderr, err := b.cmd.StderrPipe()
	ts.Check(err)
	ts.Check(b.cmd.Start())
	go func() {
		defer close(b.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			b.mu.Lock()
			b.stderr.WriteString(lines.Text() + "\n")
			b.mu.Unlock()
			if strings.Contains(lines.Text(), "worker is ready") {
				close(b.ready)
			}
		}
		_ = b.cmd.Wait() // how it ended is looked at by terminate
	}()
	ts.Defer(func() {
		_ = b.cmd.Process.Signal(os.Kill) // it may have ended
		<-b.ended
	})
	select {
	case <-b.ready:
	case <-b.ended:
		ts.Fatalf("%s has ended:\n%s", args[0], b.log())
	case <-time.After(time.Minute):
		ts.Fatalf("%s is not ready after a minute:\n%s", args[0], b.log())
	}
	programs(ts)[args[0]] = b
}

func terminate(ts *testscript.TestScript, _ bool, args []string) {
	b := programs(ts)[args[0]]
	ts.Check(b.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-b.ended:
	case <-time.After(time.Minute):
		ts.Fatalf("%s does not stop:\n%s", args[0], b.log())
	}
	_, _ = ts.Stdout().Write([]byte(b.stdout.String()))
	_, _ = ts.Stderr().Write([]byte(b.log()))
	if code := b.cmd.ProcessState.ExitCode(); code != 0 {
		ts.Fatalf("%s: exit code %d:\n%s", args[0], code, b.log())
	}
}

func programs(ts *testscript.TestScript) map[string]*background {
	return ts.Value(running{}).(map[string]*background)
}

func (b *background) log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stderr.String()
}
