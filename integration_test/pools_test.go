package integration_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// tenant is who connects to an account.
type tenant struct {
	t    *testing.T
	url  string
	user string
}

func (n tenant) flags() []string { return []string{"--server", n.url, "--user", n.user} }

func (n tenant) connect() *nats.Conn {
	n.t.Helper()
	nc, err := nats.Connect(n.url, nats.UserInfo(n.user, "secret"), nats.Timeout(time.Minute))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(nc.Close)
	return nc
}

func (n tenant) work(pool string) {
	n.t.Helper()
	library := map[string]string{"count": callScripts["count"], "busy": `for i := 0; i < 100000; i++ {}`}
	args := append([]string{"worker", "--pool", pool, "--log", "json", "--scripts", scripts(n.t, library)}, n.flags()...)
	w := start(n.t, n.user+"/"+pool, []string{"NATS_PASSWORD=secret"}, args...)
	w.await(w.ready)
}

// count has a job counted in a context, and waits until it has come to n.
func (n tenant) count(ctx context.Context, pool, name, id string, want int) {
	n.t.Helper()
	p, err := stream.Open(n.connect(), pool)
	if err != nil {
		n.t.Fatal(err)
	}
	m := job.Message{Subject: pool + "." + name, Header: map[string][]string{job.HeaderScript: {"count"}, nats.MsgIdHdr: {id}}}
	if err := p.Publish(ctx, m); err != nil {
		n.t.Fatal(err)
	}
	got := 0
	err = p.Watch(ctx, name, func(e stream.Entry) bool {
		if e.Data != nil {
			got = counter(n.t, e.Data)
		}
		return got < want
	})
	if err != nil || got != want {
		n.t.Fatalf("%s: pool %s, context %s has come to %d, want %d: %v", n.user, pool, name, got, want, err)
	}
}

// streams are those of the account, with how many messages they have.
func (n tenant) streams(ctx context.Context) map[string]uint64 {
	n.t.Helper()
	js, err := jetstream.New(n.connect())
	if err != nil {
		n.t.Fatal(err)
	}
	all := map[string]uint64{}
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		all[info.Config.Name] = info.State.Msgs
	}
	if err := list.Err(); err != nil {
		n.t.Fatal(err)
	}
	return all
}

func newTenants(t *testing.T) (a, b, poor tenant) {
	t.Helper()
	accounts := []*server.Account{server.NewAccount("A"), server.NewAccount("B"), server.NewAccount("POOR")}
	o := &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 64 << 30, NoLog: true, NoSigs: true, Accounts: accounts,
		Users: []*server.User{
			{Username: "a", Password: "secret", Account: accounts[0]}, {Username: "b", Password: "secret", Account: accounts[1]},
			{Username: "poor", Password: "secret", Account: accounts[2]},
		},
	}
	ns := serve(t, o)
	for name, bytes := range map[string]int64{"A": -1, "B": -1, "POOR": 1 << 20} {
		account, err := ns.LookupAccount(name)
		if err == nil {
			err = account.EnableJetStream(map[string]server.JetStreamAccountLimits{"": {MaxMemory: -1, MaxStore: bytes, MaxStreams: -1, MaxConsumers: -1}}, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("NATS_PASSWORD", "secret")
	return tenant{t, ns.ClientURL(), "a"}, tenant{t, ns.ClientURL(), "b"}, tenant{t, ns.ClientURL(), "poor"}
}

// TestTenants: two accounts with a pool of one name, and two pools in one account, do the same under the same ids, and see
// nothing of each other.
func TestTenants(t *testing.T) {
	ctx := within(t, 3*time.Minute)
	a, b, poor := newTenants(t)
	a.work("payments")
	a.work("mail")
	b.work("payments")
	a.count(ctx, "payments", "cus_42", "order-1", 1)
	a.count(ctx, "payments", "cus_42", "order-2", 2)
	a.count(ctx, "mail", "cus_42", "order-1", 1)
	b.count(ctx, "payments", "cus_42", "order-1", 1)
	for _, n := range []struct {
		tenant
		pool string
		want uint64
	}{{a, "payments", 2}, {a, "mail", 1}, {b, "payments", 1}} {
		if got := n.streams(ctx)[job.ContextsStream(n.pool)]; got != n.want {
			t.Errorf("%s: pool %s has %d commits, want %d", n.user, n.pool, got, n.want)
		}
	}
	if all := b.streams(ctx); all[job.JobsStream("mail")] != 0 || len(all) != 7 {
		t.Errorf("b has %v, want the streams of one pool and the keys", all)
	}
	if keys := keysOf(ctx, t, a); keys == keysOf(ctx, t, b) {
		t.Error("two accounts have one key")
	}
	out, errs, code := cli(t, append([]string{"init", "--pool", "payments"}, poor.flags()...)...)
	if code == 0 || !strings.Contains(errs, "no room for its max_bytes") || !strings.Contains(errs, "--max-bytes") {
		t.Errorf("an account without room: exit code %d\n%s%s", code, out, errs)
	}
}

func keysOf(ctx context.Context, t *testing.T, n tenant) string {
	t.Helper()
	js, err := jetstream.New(n.connect())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, job.KeysBucket)
	if err != nil {
		t.Fatal(err)
	}
	e, err := kv.Get(ctx, "keys")
	if err != nil {
		t.Fatal(err)
	}
	return string(e.Value())
}

// TestNoisyPool: a pool that is flooded up to its bound does not hold up another one, whose jobs all end meanwhile.
func TestNoisyPool(t *testing.T) {
	ctx := within(t, 3*time.Minute)
	const bound, quiet = 2_000, 50
	c := newCluster(t)
	if out, errs, code := cli(t, "init", "--pool", "noisy", "--max-msgs", fmt.Sprint(bound), "--server", c.url()); code != 0 {
		t.Fatalf("%s%s", out, errs)
	}
	n := tenant{t, c.url(), "any"}
	noisy, err := stream.Open(n.connect(), "noisy")
	if err != nil {
		t.Fatal(err)
	}
	flood := flooded{pool: noisy, full: make(chan struct{}), ended: make(chan struct{})}
	flooding, stop := context.WithCancel(ctx)
	go flood.run(flooding)
	defer func() { stop(); <-flood.ended }()
	awaitSignal(ctx, t, flood.full) // before anybody takes its jobs
	if got := n.streams(ctx)[job.JobsStream("noisy")]; got != bound {
		t.Errorf("the full stream has %d jobs, want %d", got, bound)
	}
	n.work("noisy")
	n.work("quiet")
	for i := range quiet {
		n.count(ctx, "quiet", fmt.Sprintf("c%d", i%5), fmt.Sprintf("quiet-%d", i), i/5+1)
	}
	waiting := n.streams(ctx)[job.JobsStream("noisy")]
	stop()
	<-flood.ended
	t.Logf("when the %d jobs of the quiet pool were done, %d of the noisy one waited, %d were taken and %d refused", quiet, waiting, flood.taken, flood.refused)
	if flood.err != nil || flood.refused == 0 || flood.taken < bound {
		t.Errorf("the flood: %d taken, %d refused, %v", flood.taken, flood.refused, flood.err)
	}
	if waiting < bound/4 {
		t.Errorf("the noisy pool had %d jobs left: it was not busy while the quiet one worked", waiting)
	}
}

// flooded publishes jobs to a pool, as fast as they are taken. Its counts may be read once it has ended.
type flooded struct {
	pool           *stream.Pool
	full, ended    chan struct{}
	taken, refused int
	err            error
}

func (f *flooded) run(ctx context.Context) {
	defer close(f.ended)
	for i := 0; ctx.Err() == nil; i++ {
		m := job.Message{Subject: fmt.Sprintf("noisy.c%d", i%100), Header: map[string][]string{job.HeaderScript: {"busy"}}}
		err := f.pool.Publish(ctx, m)
		var refusal *stream.Refusal
		switch {
		case err == nil:
			f.taken++
		case errors.As(err, &refusal):
			if f.refused++; f.refused == 1 {
				close(f.full)
			}
		case ctx.Err() == nil && f.err == nil:
			f.err = err
		}
	}
}
