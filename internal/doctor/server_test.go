package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/stream"
)

// serve starts a server with options of its own.
func serve(t *testing.T, o *natsserver.Options) *natsserver.Server {
	t.Helper()
	o.Host, o.Port, o.NoLog, o.NoSigs, o.StoreDir = "127.0.0.1", natsserver.RANDOM_PORT, true, true, t.TempDir()
	ns, err := natsserver.NewServer(o)
	must(t, err)
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	return ns
}

func connect(t *testing.T, ns *natsserver.Server, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(ns.ClientURL(), opts...)
	must(t, err)
	t.Cleanup(nc.Close)
	return nc
}

func TestNoJetStream(t *testing.T) {
	b := bedOn(t, connect(t, serve(t, &natsserver.Options{})))
	b.finds("jetstream", Problem, "JetStream is not enabled")
}

func TestSmallPayload(t *testing.T) {
	b := bedOn(t, connect(t, serve(t, &natsserver.Options{JetStream: true, MaxPayload: 64 << 10})))
	b.finds("payload", Problem, "the server's max_payload is 65536")
}

func TestOldServerAndClocks(t *testing.T) {
	b := bedOn(t, connect(t, serve(t, &natsserver.Options{JetStream: true})))
	now := time.Now()
	e := &examination{nc: b.nc, servers: []server{
		{Name: "old", Version: "2.10.0", offset: time.Millisecond, between: time.Second},
		{Name: "ahead", Version: stream.MinServer, offset: 5 * time.Second, between: time.Second},
		{Name: "behind", Version: stream.MinServer, offset: -2 * time.Minute, between: time.Second},
	}, now: func() time.Time { return now }}
	f := checkServers(b.ctx(), e)
	if len(f) != 1 || f[0].Level != Problem || !strings.Contains(f[0].Found, "server old: nats-server 2.10.0") {
		t.Errorf("got %+v", f)
	}
	f = checkClocks(b.ctx(), e)
	if len(f) != 2 || f[0].Level != Warning || !strings.Contains(f[0].Found, "server ahead is 4s") || f[1].Level != Problem || !strings.Contains(f[1].Found, "server behind is 2m0s") {
		t.Errorf("got %+v", f)
	}
}

// A nearly full account is told before it refuses.
func TestAccountLimits(t *testing.T) {
	b := bedOn(t, limited(t))
	b.make(stream.Options{MaxBytes: 1 << 20})
	b.finds("jetstream", Warning, "the account uses 8 of 9 streams")
}

// limited is a connection to an account that may have nine streams.
func limited(t *testing.T) *nats.Conn {
	t.Helper()
	account := natsserver.NewAccount("A")
	ns := serve(t, &natsserver.Options{JetStream: true, JetStreamMaxStore: 64 << 30, Accounts: []*natsserver.Account{account}, Users: []*natsserver.User{{Username: "a", Password: "a", Account: account}}})
	registered, err := ns.LookupAccount("A")
	must(t, err)
	must(t, registered.EnableJetStream(map[string]natsserver.JetStreamAccountLimits{
		"": {MaxMemory: -1, MaxStore: -1, MaxStreams: 9, MaxConsumers: -1},
	}, nil))
	return connect(t, ns, nats.UserInfo("a", "a"))
}

// Of a cluster every server is seen.
func TestCluster(t *testing.T) {
	t.Parallel()
	var first *natsserver.Server
	for i := range 3 {
		o := &natsserver.Options{ServerName: fmt.Sprint("n", i), Cluster: natsserver.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: -1}}
		if first != nil {
			o.Routes = natsserver.RoutesFromStr("nats://" + first.ClusterAddr().String())
		}
		ns := serve(t, o)
		if first == nil {
			first = ns
		}
	}
	b := bedOn(t, connect(t, first))
	e := &examination{nc: b.nc, asker: newAsker(b.nc), now: time.Now}
	defer e.asker.close()
	for ctx := b.ctx(); len(e.servers) < 3 && ctx.Err() == nil; { // until they have found each other
		e.servers = nil
		e.find(ctx)
	}
	want := "n0 " + stream.MinServer + ", n1 " + stream.MinServer + ", n2 " + stream.MinServer
	if f := checkServers(b.ctx(), e); f[0].Level != OK || !strings.Contains(f[0].Found, want) {
		t.Errorf("got %+v, want %s", f, want)
	}
	if f := checkClocks(b.ctx(), e); f[0].Level != OK || !strings.Contains(f[0].Found, "3 of 3 servers") {
		t.Errorf("got %+v", f)
	}
}

// Streams of one replica in a cluster of three, and copies that lag or are away, are told.
func TestReplicas(t *testing.T) {
	p := &patient{examination: &examination{servers: make([]server, 3)}, name: "p", parts: map[string]stream.Part{
		"JOBS_p": {Name: "JOBS_p", Replicas: 1, Cluster: "c", Leader: "n0"},
	}}
	for want, peers := range map[string]stream.Part{
		"JOBS_p has one replica in a cluster of 3 servers": {Name: "JOBS_p", Replicas: 1, Cluster: "c", Leader: "n0"},
		"JOBS_p has no leader":                             {Name: "JOBS_p", Replicas: 3, Cluster: "c"},
		"on server n1 is offline":                          {Name: "JOBS_p", Replicas: 3, Cluster: "c", Leader: "n0", Peers: []stream.Peer{{Name: "n1", Offline: true}}},
		"on server n1 is 5000 operations behind":           {Name: "JOBS_p", Replicas: 3, Cluster: "c", Leader: "n0", Peers: []stream.Peer{{Name: "n1", Lag: 5000}}},
	} {
		p.parts["JOBS_p"] = peers
		if f := checkReplicas(t.Context(), p); len(f) != 1 || f[0].Level == OK || !strings.Contains(f[0].Found, want) {
			t.Errorf("got %+v, want %s", f, want)
		}
	}
	p.parts["JOBS_p"] = stream.Part{Name: "JOBS_p", Replicas: 3, Cluster: "c", Leader: "n0", Peers: []stream.Peer{{Name: "n1", Current: true}}}
	if f := checkReplicas(t.Context(), p); len(f) != 1 || f[0].Level != OK {
		t.Errorf("got %+v, want that all is well", f)
	}
}

// permissions as subjects.md shows them, in short.
func caller() *natsserver.Permissions {
	return &natsserver.Permissions{
		Publish: &natsserver.SubjectPermission{Allow: []string{
			"p.*", "$JS.API.STREAM.INFO.KV_p", "$JS.API.STREAM.INFO.JOBS_p", "$JS.API.CONSUMER.CREATE.KV_p.>", "$JS.API.DIRECT.GET.KV_p.>", "$JS.API.DIRECT.GET.DEAD_p",
		}},
		Subscribe: &natsserver.SubjectPermission{Allow: []string{"_INBOX.>"}},
	}
}

func TestPermissions(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*natsserver.Permissions)
		level  Level
		text   string
	}{
		"a caller": {func(*natsserver.Permissions) {}, OK, "these credentials fit a caller, caller that awaits its jobs; they may not write contexts"},
		"a caller who does not wait": {func(p *natsserver.Permissions) { p.Publish.Allow = p.Publish.Allow[:1] }, OK,
			"these credentials fit a caller; they may not"},
		"a caller who may forge": {func(p *natsserver.Permissions) {
			p.Publish.Allow = append(p.Publish.Allow, "$JS.API.STREAM.MSG.GET.*")
		}, Problem, "may also read the keys"},
		"a worker": {func(p *natsserver.Permissions) {
			p.Publish.Allow = []string{"p.>", "$KV.p.*", "$O.p-bodies.>", "$JS.API.DIRECT.>", "$JS.API.STREAM.MSG.GET.>", "$JS.API.STREAM.INFO.>", "$JS.API.CONSUMER.>"}
		}, OK, "fit a caller, caller that awaits its jobs, worker, console; they may not make streams"},
		"nobody":    {func(p *natsserver.Permissions) { p.Publish.Allow = []string{"other.>"} }, Problem, "these credentials fit nobody"},
		"no answer": {func(p *natsserver.Permissions) { p.Subscribe.Allow = []string{"other.>"} }, Problem, "Permissions Violation for Subscription"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			permissions := caller()
			test.change(permissions)
			b := permitted(t, permissions)
			b.finds("permissions", test.level, test.text)
		})
	}
}

// A denial is heard, and not waited for: each request is answered, or nobody is there to, or it is denied.
func TestDenialsAreHeard(t *testing.T) {
	t.Parallel()
	b := permitted(t, caller())
	pool, err := stream.Open(b.nc, "p")
	must(t, err)
	a := newAsker(b.nc)
	defer a.close()
	a.patience = time.Minute // as long as b.ctx: no answer is late, however slow the machine is
	denied := 0
	for _, r := range pool.Rights() {
		for _, q := range r.Requests {
			_, err := a.ask(b.ctx(), q.Subject, q.Header, q.Body)
			switch {
			case errors.Is(err, errDenied):
				denied++
			case err != nil && !errors.Is(err, nats.ErrNoResponders):
				t.Errorf("%s: got %v", q.Subject, err)
			}
		}
	}
	if denied == 0 {
		t.Error("nothing is denied to a caller")
	}
}

// A stream that a full disk has stopped looks well to clients: its server's monitoring knows.
func TestStoppedStream(t *testing.T) {
	b := newBed(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/varz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"server_name":"n","jetstream":{"config":{"sync_always":true}}}`))
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":"unavailable","error":"JetStream stream '$G \u003e JOBS_p' write error: no space left on device"}`))
	})
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	b.o.Monitor = web.URL + "/varz"
	b.finds("jetstream", Problem, "says that it is unavailable: JetStream stream '$G > JOBS_p' write error: no space left on device")
}

// A server that does not answer is no matter of permissions.
func TestSilence(t *testing.T) {
	b := newBed(t)
	a := newAsker(b.nc)
	defer a.close()
	a.patience = 0
	p := &patient{examination: &examination{asker: a}, name: "p", pool: b.pool}
	found := checkRights(b.ctx(), p)
	if len(found) != 1 || found[0].Level != Problem || !strings.Contains(found[0].Found, "the server does not answer, and does not refuse either: follow contexts, ") {
		t.Errorf("got %+v", found)
	}
	if f := checkStreams(b.ctx(), p); len(f) != 1 || f[0].Found != "not looked at: the server does not answer who wants to look at streams" {
		t.Errorf("got %+v", f)
	}
}

// The requests by which permissions are learnt change nothing.
func TestRightsChangeNothing(t *testing.T) {
	b := newBed(t)
	b.put("c", "x := 1")
	look := func() []stream.Part {
		parts, err := b.pool.Inspect(b.ctx())
		must(t, err)
		for i := range parts {
			parts[i].Asked, parts[i].Answer = time.Time{}, 0
			for j := range parts[i].Consumers {
				parts[i].Consumers[j].Waiting = 0
			}
		}
		return parts
	}
	before := look()
	b.examine()
	for i, part := range look() {
		if fmt.Sprint(part) != fmt.Sprint(before[i]) {
			t.Errorf("%s was %+v, and is %+v", part.Name, before[i], part)
		}
	}
	names := map[string]bool{}
	for _, r := range b.pool.Rights() {
		names[r.Name] = true
		for _, q := range r.Requests {
			if strings.HasPrefix(q.Subject, "$JS.API.") && string(q.Body) != "{" {
				t.Errorf("%s is a request that JetStream can read: %s", q.Subject, q.Body)
			}
		}
	}
	for _, role := range roles {
		if i := slices.IndexFunc(role.needs, func(n string) bool { return !names[n] }); i >= 0 {
			t.Errorf("a %s needs %q, which nothing tries", role.name, role.needs[i])
		}
	}
	if _, err := b.pool.NextJob(b.ctx(), "thence-doctor", 1); !errors.Is(err, stream.ErrNone) {
		t.Errorf("a job is left: %v", err)
	}
}

// The permissions that subjects.md shows are enough for whom it says.
func TestShownPermissions(t *testing.T) {
	page, err := os.ReadFile("../../subjects.md")
	must(t, err)
	fits := map[string]string{
		"caller": "caller that awaits its jobs", "worker": "worker", "on-call": "operator", "console": "console", "setup": "setup",
	} // a publisher, who may publish in one context, fits nobody whom the doctor knows
	blocks := regexp.MustCompile("(?s)\n```json permissions (\\S+)\n(.*?)\n```\n").FindAllStringSubmatch(string(page), -1)
	blocks = slices.DeleteFunc(blocks, func(b []string) bool { return fits[b[1]] == "" })
	if len(blocks) != len(fits) {
		t.Fatalf("the page shows %d permissions, want %d", len(blocks), len(fits))
	}
	for _, block := range blocks {
		t.Run(block[1], func(t *testing.T) {
			t.Parallel()
			permissions := new(natsserver.Permissions)
			must(t, json.Unmarshal([]byte(strings.ReplaceAll(block[2], "payments", "p")), permissions))
			b := permitted(t, permissions)
			b.finds("permissions", OK, fits[block[1]])
			for _, f := range b.examine() {
				if block[1] == "on-call" && f.Level == Unknown && f.Check != "sync" {
					t.Errorf("somebody on call can't see this: %+v", f)
				}
			}
		})
	}
}

// permitted is a bed of a user with some permissions.
func permitted(t *testing.T, permissions *natsserver.Permissions) *bed {
	t.Helper()
	ns := serve(t, &natsserver.Options{JetStream: true, Users: []*natsserver.User{
		{Username: "all", Password: "all"}, {Username: "some", Password: "some", Permissions: permissions},
	}})
	bedOn(t, connect(t, ns, nats.UserInfo("all", "all"))).make(stream.Options{MaxBytes: 1 << 20})
	inbox := "_INBOX"
	if own, ok := strings.CutSuffix(permissions.Subscribe.Allow[0], ".>"); ok && strings.HasPrefix(own, "_INBOX_") {
		inbox = own
	}
	b := bedOn(t, connect(t, ns, nats.UserInfo("some", "some"), nats.CustomInboxPrefix(inbox)))
	b.o.Pools = []string{"p"}
	return b
}
