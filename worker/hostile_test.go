package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
)

// publishRaw publishes a message with a header block that no client library would write, and returns once the stream
// has it.
func (b *bed) publishRaw(subject, header, body string) {
	b.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.server.URL(), "nats://"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		b.t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB raw 1\r\nHPUB %s raw %d %d\r\n%s%s\r\n",
		subject, len(header), len(header)+len(body), header, body)
	if err != nil {
		b.t.Fatal(err)
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if strings.Contains(lines.Text(), `"stream":"JOBS_p"`) {
			return
		}
	}
	b.t.Fatal("the stream has not taken the message")
}

// TestRawHeaders: a header block that can't be read, or that hides what the server writes behind it, makes a dead
// letter at worst, and neither holds its context up nor makes a job take effect twice.
func TestRawHeaders(t *testing.T) {
	const script = `context := import("context"); context.set("raw", context.get("raw", 0) + 1)`
	for name, header := range map[string]string{
		"no colon":      "NATS/1.0\r\nfoo\r\n\r\n",
		"no version":    "HELLO\r\nfoo: bar\r\n\r\n",
		"no end":        "NATS/1.0\r\nfoo: bar",
		"line feeds":    "NATS/1.0\nfoo: bar\n\n",
		"two blocks":    "NATS/1.0\r\nA: b\r\n\r\nC: d\r\n\r\n",
		"forged place":  "NATS/1.0\r\nNats-Sequence: %d\r\nNats-Subject: p.c\r\nNats-Time-Stamp: 2026-01-02T15:04:05Z\r\n\r\nC: d\r\n\r\n",
		"forged behind": "NATS/1.0\r\nNats-Sequence: %d\r\nNats-Subject: p.c\r\nNats-Time-Stamp: 2026-01-02T15:04:05Z\r\n" + strings.Repeat("a:b\r\n", 200) + "\r\nC: d\r\n\r\n",
		"status":        "NATS/1.0 404 Message Not Found\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newListeningBed(t)
			b.work(b.config(counting))
			first := b.publish("p.c", "", job.HeaderScript, "count")
			b.await("c", first)
			b.publishRaw("p.c", strings.ReplaceAll(header, "%d", fmt.Sprint(first)), script)
			last := b.publish("p.c", "", job.HeaderScript, "count")
			got := state[struct{ N, Raw int }](t, b.await("c", last))
			if dead := b.letters(); got.N != 2 || got.Raw+dead != 1 {
				t.Errorf("n is %d, want 2; the raw job took effect %d times, and there are %d dead letters: want one of them", got.N, got.Raw, dead)
			}
		})
	}
}

// TestLongContext: a script in the longest pool and context there can be may dispatch: its target takes the job.
func TestLongContext(t *testing.T) {
	b := newBed(t)
	pool, long := strings.Repeat("p", 32), strings.Repeat("c", 128)
	c := b.config(map[string]string{"count": counting["count"], "send": `import("flow").dispatch({context: "short", script: "count"})`})
	c.Pool = pool
	b.work(c)
	other, err := stream.Ensure(within(t, 10*time.Second), b.nc, pool, stream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.pool = other
	b.publish(pool+"."+long, "", job.HeaderScript, "send")
	if got := b.awaitCommit("short", func(job.Commit) bool { return true }); got.Report.Outcome != job.OutcomeDone {
		t.Errorf("%+v", got.Report.Error)
	}
}

// TestLargeDeath: a job that dies with all that it may bring along has a dead letter that fits, and its context goes
// on.
func TestLargeDeath(t *testing.T) {
	b := newBed(t)
	// As much as a context may keep: state, and open calls with tags.
	full := job.Commit{Version: job.Version, State: json.RawMessage(`{"a":"` + strings.Repeat("a", 250_000) + `"}`), Calls: map[string]job.OpenCall{}}
	for i := range 90 {
		full.Calls[job.EffectID(1, i)] = job.OpenCall{Service: "default", Tag: json.RawMessage(`"` + strings.Repeat("t", 7000) + `"`)}
	}
	encoded, err := job.Encode(full)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.pool.Commit(t.Context(), "c", encoded, stream.Base{}); err != nil {
		t.Fatal(err)
	}
	b.work(b.config(map[string]string{
		"count": counting["count"],
		"dies":  `text := import("text"); for i := 0; i < 60; i++ { print(text.repeat("<\"", 500)) }; x := undefined; x.y()`,
	}))
	for _, body := range []string{
		strings.Repeat("<a>", 170_000), // a job of the largest size, of what JSON makes longest
		strings.Repeat("\x01", 170_000),
		`"` + strings.Repeat("<", 30_000) + `"`,
	} {
		dead := b.publish("p.c", body, job.HeaderScript, "dies")
		if got := b.await("c", dead); got.Report.Outcome != job.OutcomeDead {
			t.Errorf("outcome %s", got.Report.Outcome)
		}
		if l := b.letter("c", fmt.Sprint(dead)); string(l.Message.Data) != body {
			t.Errorf("the dead letter has %d bytes of %d", len(l.Message.Data), len(body))
		}
	}
	if s := state[struct{ N int }](t, b.await("c", b.publish("p.c", "", job.HeaderScript, "count"))); s.N != 1 {
		t.Errorf("n is %d", s.N)
	}
}

// TestBothFull: calls that wait for room give way in the end, as the answers that would make room may wait behind the
// jobs that wait for the calls.
func TestBothFull(t *testing.T) {
	b := newBed(t)
	ctx := within(t, 20*time.Second)
	w, err := New(b.config(crashScripts))
	if err != nil {
		t.Fatal(err)
	}
	r := w.rounds(b.pool, b.keys, only{w.config.Library})
	r.outbox.stream, r.outbox.overBound = full{b.pool}, 200*time.Millisecond
	b.publish("p.c", "", job.HeaderScript, "start")
	if err := b.drive(ctx, r, &brittle{left: -2}); err != nil {
		t.Fatal(err)
	}
	e, err := b.pool.ContextFromLeader(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := job.DecodeCommit(e.Data); err != nil || len(c.Calls) != 2 {
		t.Errorf("open calls %v, %v", c.Calls, err)
	}
}

// full is a journal whose calls stream is over its bound.
type full struct{ journal }

func (full) RoomForCalls(context.Context) error { return stream.ErrFull }

// TestStrangeContexts: whatever a subject allows for a context ends as a dead letter, and disturbs nobody: not even one
// so long that a subject made of it would break the connection.
func TestStrangeContexts(t *testing.T) {
	b := newListeningBed(t)
	c := b.config(counting)
	nc, err := nats.Connect(b.server.URL()) // over TCP the server holds a line to its limit
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c.Conn = nc
	b.work(c)
	for _, name := range []string{"a*b", "a>b", "x$y", strings.Repeat("x", 4040)} {
		seq := b.publish("p."+name, "x := 1")
		if l := b.letter(name, fmt.Sprint(seq)); l.Error.Reason != job.ReasonMalformed || l.Message.Subject != "p."+name {
			t.Errorf("%.20s: %s, subject %.30s", name, l.Error.Reason, l.Message.Subject)
		}
	}
	b.await("c", b.publish("p.c", "", job.HeaderScript, "count"))
}

// TestTurns: contexts with many jobs give way to others now and then, even where they are as many as there are slots.
func TestTurns(t *testing.T) {
	b := newBed(t)
	const hot = 1000
	for range hot {
		b.publish("p.hot", "", job.HeaderScript, "count")
	}
	seq := b.publish("p.small", "", job.HeaderScript, "count")
	c := b.config(counting)
	c.Slots = 1
	b.work(c)
	b.await("small", seq)
	e, err := b.pool.ContextFromLeader(t.Context(), "hot")
	if err != nil {
		t.Fatal(err)
	}
	done, err := job.DecodeCommit(e.Data)
	if err != nil {
		t.Fatal(err)
	}
	if n := state[struct{ N int }](t, done).N; n > hot/2 {
		t.Errorf("the hot context had done %d of %d jobs before the other had a turn", n, hot)
	}
}

// busy is a runner in which the scripts of slow contexts wait for a turn that does not come until they are let go.
type busy struct {
	scripting.Runner
	letGo chan struct{}
}

func (b busy) Run(ctx context.Context, in scripting.Input) (*scripting.Outcome, error) {
	if strings.HasPrefix(in.Job.Context, "slow") {
		select {
		case <-b.letGo:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return b.Runner.Run(ctx, in)
}

// TestWaitingForTheRunner: jobs that wait for their turn in the runner keep nobody's slot, so it is the runner that
// decides who is next, and not who came first.
func TestWaitingForTheRunner(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.config(counting)
	c.Slots = 2
	runner := busy{c.Runner, make(chan struct{})}
	c.Runner = runner
	defer b.working(c)()
	var slow []uint64
	for i := range 8 {
		slow = append(slow, b.publish(fmt.Sprintf("p.slow%d", i), "", job.HeaderScript, "count"))
	}
	b.await("good", b.publish("p.good", "", job.HeaderScript, "count"))
	close(runner.letGo)
	for i, seq := range slow {
		b.await(fmt.Sprintf("slow%d", i), seq)
	}
}
