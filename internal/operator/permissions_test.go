package operator

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Everything that an operator does can be done with the permissions that subjects.md shows for those on call.
func TestOnCallPermissions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../subjects.md")
	must(t, err)
	shown := regexp.MustCompile("(?s)\n```json permissions on-call\n(.*?)\n```\n").FindSubmatch(page)
	if shown == nil {
		t.Fatal("subjects.md does not show the permissions of those on call")
	}
	onCall := new(server.Permissions)
	must(t, json.Unmarshal([]byte(strings.ReplaceAll(string(shown[1]), "payments", "p")), onCall))
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		Users: []*server.User{{Username: "all", Password: "x"}, {Username: "on-call", Password: "x", Permissions: onCall}},
	})
	must(t, err)
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	connect := func(user string) *nats.Conn {
		nc, err := nats.Connect(ns.ClientURL(), nats.UserInfo(user, "x"), nats.CustomInboxPrefix("_INBOX_"+user))
		must(t, err)
		t.Cleanup(nc.Close)
		return nc
	}
	b := &bed{T: t, nc: connect("all")}
	b.pool, err = stream.Ensure(b.ctx(), b.nc, "p", stream.Options{MaxBytes: 1 << 20, Services: map[string]int{"acme": 7}})
	must(t, err)
	b.keys, err = b.pool.Keys(b.ctx(), stream.Options{})
	must(t, err)
	pool, err := stream.Open(connect("on-call"), "p")
	must(t, err)
	b.op, err = New(pool, "ada")
	must(t, err)

	b.store("c", full())
	must(t, b.op.Pause(b.ctx(), "c", ""))
	_, note, err := b.op.Resume(b.ctx(), "c")
	must(t, err)
	equal(t, "note", note, "")
	_, err = b.op.Cancel(b.ctx(), "c", nil)
	must(t, err)
	_, err = b.op.Reset(b.ctx(), "c")
	must(t, err)
	b.bury("p.c.7", job.DeadLetter{Error: job.Error{Reason: "runtime"}, Job: "order-7", Message: job.Original{Data: job.Text("x := 1")}})
	b.bury("p.c.8", job.DeadLetter{Error: job.Error{Reason: "runtime"}, Job: "order-8"})
	count, err := b.op.Count(b.ctx(), Filter{})
	must(t, err)
	equal(t, "letters", count.Total, 2)
	_, err = b.op.Retry(b.ctx(), b.find("p.c.7"))
	must(t, err)
	_, err = b.op.Drop(b.ctx(), b.find("p.c.8"))
	must(t, err)
	b.looksAtServices(pool)
}

// looksAtServices pauses a service, looks at it, and asks a worker about it.
func (b *bed) looksAtServices(onCall *stream.Pool) {
	_, err := onCall.PauseCalls(b.ctx(), "acme", time.Now().Add(time.Hour))
	must(b.T, err)
	s, err := onCall.Service(b.ctx(), "acme")
	must(b.T, err)
	equal(b.T, "paused by", s.PausedBy, stream.ByOperator)
	_, err = onCall.ResumeCalls(b.ctx(), "acme")
	must(b.T, err)
	answering, stop := context.WithCancel(b.ctx())
	ended := make(chan error, 1)
	go func() {
		ended <- b.pool.AnswerAsked(answering, func() stream.WorkerServices { return stream.WorkerServices{Worker: "w"} })
	}()
	for answers := []stream.WorkerServices(nil); len(answers) == 0; { // it listens some time after it was begun
		answers, err = onCall.AskWorkers(b.ctx())
		must(b.T, err)
	}
	stop()
	must(b.T, <-ended)
}
