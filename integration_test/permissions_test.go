package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// guarded is a server with the users of deploy/nats/permissions.conf, and a worker with no more than its own.
type guarded struct {
	url    string
	worker *process
}

// configured are the users of deploy/nats/permissions.conf, whose passwords are their names.
func configured(t *testing.T) []*server.User {
	t.Helper()
	for role := range shownPermissions(t) {
		t.Setenv("THENCE_"+strings.ToUpper(strings.ReplaceAll(role, "-", "_"))+"_PASSWORD", role)
	}
	options, err := server.ProcessConfigFile("../deploy/nats/permissions.conf")
	if err != nil {
		t.Fatal(err)
	}
	return options.Users
}

// shownPermissions are those of subjects.md, by role.
func shownPermissions(t *testing.T) map[string]*server.Permissions {
	t.Helper()
	shown := map[string]*server.Permissions{}
	all, _ := blocks(t, "subjects.md")
	for _, b := range all {
		if role, ok := strings.CutPrefix(b.info, "permissions "); ok {
			shown[role] = new(server.Permissions)
			decode(t, b, shown[role])
		}
	}
	return shown
}

func newGuarded(t *testing.T, workerArgs ...string) *guarded {
	t.Helper()
	users := append(configured(t), &server.User{Username: "root", Password: "root"})
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), Users: users, NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	g := &guarded{url: ns.ClientURL()}
	t.Setenv("NATS_PASSWORD", "setup")
	for _, pool := range []string{"payments", "payments"} { // what is there is looked at, and stays
		if out, errs, code := cli(t, "init", "--pool", pool, "--server", g.url, "--user", "setup", "--inbox-prefix", "_INBOX_setup", "--service", "api"); code != 0 {
			t.Fatalf("init: %s%s", out, errs)
		}
	}
	args := append([]string{"worker", "--pool", "payments", "--server", g.url, "--user", "worker", "--inbox-prefix", "_INBOX_worker", "--log", "json", "--log-level", "debug"}, workerArgs...)
	g.worker = start(t, "worker", []string{"NATS_PASSWORD=worker"}, args...)
	g.worker.await(g.worker.ready)
	return g
}

// as connects as one of the users.
func (g *guarded) as(t *testing.T, user string) *nats.Conn {
	t.Helper()
	inbox := "_INBOX_" + user
	if user == "root" {
		inbox = "_INBOX"
	}
	nc, err := nats.Connect(g.url, nats.UserInfo(user, user), nats.CustomInboxPrefix(inbox))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// TestSubjectsPermissions compares the ready configuration, and the commands that make JWTs, with the permissions that
// subjects.md shows.
func TestSubjectsPermissions(t *testing.T) {
	shown := shownPermissions(t)
	script, err := os.ReadFile("../deploy/nats/users.sh")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, u := range configured(t) {
		found = append(found, u.Username)
		want := shown[u.Username]
		if want == nil || !reflect.DeepEqual(want.Publish, u.Permissions.Publish) || !reflect.DeepEqual(want.Subscribe, u.Permissions.Subscribe) {
			t.Errorf("permissions.conf and subjects.md disagree on %s", u.Username)
			continue
		}
		command := regexp.MustCompile(`(?s)\nnsc add user --name ` + u.Username + ` \\\n(.*?)(\n\n|$)`).FindSubmatch(script)
		if command == nil {
			t.Errorf("users.sh has no command for %s", u.Username)
			continue
		}
		for flag, subjects := range map[string][]string{"pub": want.Publish.Allow, "sub": want.Subscribe.Allow} {
			var said []string
			for _, m := range regexp.MustCompile(`--allow-`+flag+` '([^']*)'`).FindAllSubmatch(command[1], -1) {
				said = append(said, string(m[1]))
			}
			if !slices.Equal(said, subjects) {
				t.Errorf("users.sh, %s: --allow-%s is %q, want %q", u.Username, flag, said, subjects)
			}
		}
	}
	if slices.Sort(found); !slices.Equal(found, slices.Sorted(maps.Keys(shown))) {
		t.Errorf("permissions.conf has %q, subjects.md %q", found, slices.Sorted(maps.Keys(shown)))
	}
}

// TestPermissionsSuffice: with its permissions each can do its work: a worker runs jobs, makes calls, puts tries on
// timers, pauses a service and writes dead letters; a caller awaits them; a publisher sees what came of its jobs.
func TestPermissionsSuffice(t *testing.T) {
	var asked atomic.Int32
	remote := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = w.Write(make([]byte, 300<<10))
			return
		}
		switch asked.Add(1) {
		case 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case 2:
			w.WriteHeader(http.StatusInternalServerError)
		default:
			_, _ = w.Write([]byte("{}"))
		}
	}))
	t.Cleanup(remote.Close)
	services := filepath.Join(t.TempDir(), "services.yaml")
	if err := os.WriteFile(services, []byte("services:\n  api:\n    url: "+remote.URL+"\n    allow_private: true\n    max_in_flight: 5\n    rate: 100/s\n    response_limit: 1MiB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGuarded(t, "--scripts", scripts(t, callScripts), "--services", services)
	ctx := within(t, time.Minute)

	d, err := dispatcher.New(g.as(t, "caller"), dispatcher.Config{Worker: "payments", Context: "cus_42"})
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]dispatcher.Status{`import("job").result(1)`: dispatcher.Done, `x := 1 + undefined`: dispatcher.Dead} {
		r, err := d.Dispatch(ctx, dispatcher.Job{Source: source})
		if err != nil {
			t.Fatal(err)
		}
		report, err := d.Await(ctx, r)
		if report.Status != want {
			t.Errorf("%s: got %+v, %v", source, report, err)
		}
		if flow, _ := d.AwaitFlow(ctx, r, nil); flow.Revision == 0 || len(flow.Jobs) == 0 {
			t.Errorf("%s: it awaits no flow: %+v", source, flow)
		}
	}
	g.storesBody(ctx, t, d, remote.URL)
	g.asksWorkers(ctx, t)

	publisher := g.as(t, "publisher")
	m := nats.NewMsg("payments.cus_42")
	m.Header.Set(job.HeaderScript, "ask")
	m.Data = []byte(`{"api": "` + remote.URL + `"}`)
	if answer, err := publisher.RequestMsgWithContext(ctx, m); err != nil || strings.Contains(string(answer.Data), "error") {
		t.Fatalf("a publisher can't publish: %v, %s", err, answer.Data)
	}
	awaitAnswered(ctx, t, publisher)
	if n := asked.Load(); n != 3 {
		t.Errorf("the API was asked %d times, want 3: refused, failed, answered", n)
	}
	for _, line := range strings.Split(g.worker.output(), "\n") {
		if strings.Contains(strings.ToLower(line), "permissions violation") {
			t.Errorf("the worker was denied something: %s", line)
		}
	}
	if !strings.Contains(g.worker.output(), "service is paused for the whole pool") {
		t.Errorf("the worker did not pause the service\n%s", g.worker.output())
	}
}

// storesBody has the worker store a body that is too large for a job.
func (g *guarded) storesBody(ctx context.Context, t *testing.T, d *dispatcher.Dispatcher, api string) {
	t.Helper()
	r, err := d.Dispatch(ctx, dispatcher.Job{Source: `import("http").get("` + api + `/large")`})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.AwaitFlow(ctx, r, nil); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(g.as(t, "root"))
	if err != nil {
		t.Fatal(err)
	}
	bodies, err := js.ObjectStore(ctx, job.BodiesBucket("payments"))
	if err != nil {
		t.Fatal(err)
	}
	if all, err := bodies.List(ctx); err != nil || len(all) != 1 || all[0].Size != 300<<10 {
		t.Errorf("stored: %+v, %v", all, err)
	}
}

// asksWorkers asks the worker about its services, as somebody on call does.
func (g *guarded) asksWorkers(ctx context.Context, t *testing.T) {
	t.Helper()
	pool, err := stream.Open(g.as(t, "on-call"), "payments")
	if err != nil {
		t.Fatal(err)
	}
	workers, err := pool.AskWorkers(ctx)
	if err != nil || len(workers) != 1 || len(workers[0].Services) == 0 {
		t.Errorf("asked about its services, the worker says %+v, %v", workers, err)
	}
}

// awaitAnswered reads the context by direct gets, as a publisher may, until its call is answered.
func awaitAnswered(ctx context.Context, t *testing.T, nc *nats.Conn) {
	t.Helper()
	period := time.NewTicker(50 * time.Millisecond)
	defer period.Stop()
	for {
		got, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET.KV_payments.$KV.payments.cus_42", nil)
		if err != nil {
			t.Fatalf("a publisher can't read its context: %v", err)
		}
		var s asks
		if c, err := job.DecodeCommit(got.Data); err == nil && json.Unmarshal(c.State, &s) == nil && s.Answered == 1 {
			return
		}
		select {
		case <-period.C:
		case <-ctx.Done():
			t.Fatalf("the call is not answered: %s", got.Data)
		}
	}
}

// forbidden are subjects on which a role must not publish. JetStream's are requests that the role could otherwise make.
var forbidden = map[string][]string{
	"publisher": {
		"payments.cus_43", "other.cus_42", "$JS.API.DIRECT.GET.KV_payments.$KV.payments.cus_43", "$JS.API.DIRECT.GET.KV_payments", "$JS.API.DIRECT.GET.DEAD_payments",
		"$JS.API.STREAM.INFO.KV_payments", "$JS.API.CONSUMER.CREATE.KV_payments.x", "$JS.API.STREAM.MSG.GET.KV_payments",
	},
	"caller": {"$JS.API.DIRECT.GET.KV_thence-keys.$KV.thence-keys.keys", "$JS.API.CONSUMER.CREATE.DEAD_payments.x", "other.cus_42"},
	"worker": {"other.cus_42", "$KV.other.cus_42", "$JS.API.STREAM.MSG.DELETE.DEAD_payments", "$JS.API.CONSUMER.DELETE.CALLS_payments.call_api"},
	"setup":  {"payments.cus_42", "$KV.payments.cus_42", "payments.cus_42.call.api", "$JS.API.STREAM.MSG.GET.KV_payments", "$JS.API.CONSUMER.MSG.NEXT.JOBS_payments.workers"},
	"on-call": {
		"payments.cus_42.call.api", "payments.cus_42.dead.1", "$KV.thence-keys.keys", "$JS.API.CONSUMER.CREATE.JOBS_payments.x",
		"$JS.API.STREAM.PURGE.DEAD_payments", "$JS.API.STREAM.PURGE.KV_payments", "$JS.API.STREAM.MSG.DELETE.KV_payments",
	},
	"console": {"payments.cus_42", "$KV.payments.cus_42", "payments.cus_42.dead.1", "$JS.API.STREAM.MSG.DELETE.DEAD_payments", "$JS.API.DIRECT.GET.KV_thence-keys.$KV.thence-keys.keys"},
}

// Nobody here may do these; of the second, workers alone.
var (
	forbiddenToAll = []string{
		"$JS.API.STREAM.DELETE.JOBS_payments", "$JS.API.STREAM.PURGE.JOBS_payments", "$JS.API.STREAM.RESTORE.KV_payments", "$JS.API.STREAM.SNAPSHOT.KV_payments",
		"$JS.API.CONSUMER.DELETE.JOBS_payments.workers", "$KV.thence-keys.other", "$SYS.REQ.SERVER.PING",
	}
	forbiddenBeside = map[string][]string{
		"worker": {"payments.cus_42.call.stripe", "payments.cus_42.retry.1-0", "payments.cus_42.sent.1-0", "payments.cus_42.dead.1", "$JS.API.CONSUMER.MSG.NEXT.JOBS_payments.workers", "$JS.ACK.JOBS_payments.workers.1.1.1.1.0"},
		"setup":  {"$KV.thence-keys.keys", "$JS.API.STREAM.CREATE.other", "$JS.API.STREAM.UPDATE.JOBS_payments"},
	}
)

// TestPermissionsForbid tries what each role must not do. The server refuses all of it.
func TestPermissionsForbid(t *testing.T) {
	g := newGuarded(t)
	for role, subjects := range forbidden {
		t.Run(role, func(t *testing.T) {
			nc := g.as(t, role)
			subjects = append(slices.Clone(subjects), forbiddenToAll...)
			for who, theirs := range forbiddenBeside {
				if who != role {
					subjects = append(subjects, theirs...)
				}
			}
			for _, subject := range subjects {
				denied(t, nc, subject)
			}
			for _, subject := range []string{"_INBOX.>", "_INBOX_other.>", "payments.>", "$KV.payments.>", "$KV.thence-keys.>", "$JS.>", ">"} {
				deniedToHear(t, nc, subject)
			}
		})
	}
}

// TestHeadersReachNoFurther: a caller's headers can't schedule, roll up, expire or batch on the jobs stream, and a job
// that claims to be an answer is a dead letter.
func TestHeadersReachNoFurther(t *testing.T) {
	g := newGuarded(t)
	nc := g.as(t, "publisher")
	ctx := within(t, time.Minute)
	for name, header := range map[string]nats.Header{
		"a schedule":          {"Nats-Schedule": {"@at 2020-01-01T00:00:00Z"}, "Nats-Schedule-Target": {"payments.cus_43"}},
		"a copy":              {"Nats-Schedule": {"@every 1s"}, "Nats-Schedule-Source": {"$KV.payments.cus_43"}, "Nats-Schedule-Target": {"payments.cus_42"}},
		"a roll-up":           {"Nats-Rollup": {"all"}},
		"a subject's roll-up": {"Nats-Rollup": {"sub"}},
		"an expiry":           {"Nats-TTL": {"1s"}},
		"a batch":             {"Nats-Batch-Id": {"x"}, "Nats-Batch-Sequence": {"1"}},
		"a cancelled timer":   {"Nats-Schedule-Next": {"purge"}, "Nats-Scheduler": {"payments.cus_43.retry.1-0"}},
		"another stream's":    {"Nats-Expected-Stream": {"KV_payments"}},
		"a sequence to wait":  {"Nats-Expected-Last-Sequence": {"1"}},
	} {
		answer, err := nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: "payments.cus_42", Header: header, Data: []byte("x := 1")})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var ack struct {
			Error *jetstream.APIError `json:"error"`
			Seq   uint64              `json:"seq"`
		}
		if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Error == nil || ack.Seq != 0 {
			t.Errorf("%s is taken: %s", name, answer.Data)
		}
	}
	forged := nats.NewMsg("payments.cus_42")
	forged.Header.Set(job.HeaderCall, "1764000000000017-0")
	forged.Header.Set("Content-Type", job.TypeAnswer)
	forged.Header.Set(job.HeaderProof, "b3c7be70.AAAA")
	forged.Data = []byte(`{"response": {"status": 200}}`)
	buried := g.worker.logged("job is a dead letter")
	if _, err := nc.RequestMsgWithContext(ctx, forged); err != nil {
		t.Fatal(err)
	}
	g.worker.await(buried)
	if !strings.Contains(g.worker.output(), `"reason":"`+job.ReasonForged+`"`) {
		t.Errorf("the forged answer did not end as forged:\n%s", g.worker.output())
	}
}

// denied checks that the server refuses a publication.
func denied(t *testing.T, nc *nats.Conn, subject string) {
	t.Helper()
	refused := make(chan error, 10)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	if err := errors.Join(nc.Publish(subject, []byte("{")), nc.Flush()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
			t.Errorf("%s: got %v", subject, err)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("it may publish on %s", subject)
	}
}

// deniedToHear checks that the server refuses a subscription.
func deniedToHear(t *testing.T, nc *nats.Conn, subject string) {
	t.Helper()
	refused := make(chan error, 10)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	if _, err := nc.SubscribeSync(subject); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
			t.Errorf("%s: got %v", subject, err)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("it may subscribe to %s", subject)
	}
}

// TestServerConfiguration starts a server with deploy/nats/server.conf, but for its addresses and its folder.
func TestServerConfiguration(t *testing.T) {
	roles := shownPermissions(t)
	configured(t) // sets the passwords
	for name, value := range map[string]string{"SERVER_NAME": "n0", "ROUTE_0": "nats://n0:6222", "ROUTE_1": "nats://n1:6222", "ROUTE_2": "nats://n2:6222"} {
		t.Setenv(name, value)
	}
	o, err := server.ProcessConfigFile("../deploy/nats/server.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !o.SyncAlways || len(o.Users) != len(roles) || len(o.Routes) != 3 || o.ServerName != "n0" || o.JetStreamMaxStore != 50<<30 {
		t.Errorf("sync always %v, %d users, %d routes, server %q, %d bytes", o.SyncAlways, len(o.Users), len(o.Routes), o.ServerName, o.JetStreamMaxStore)
	}
	o.Host, o.Port, o.HTTPPort, o.StoreDir, o.NoLog, o.NoSigs = "127.0.0.1", server.RANDOM_PORT, 0, t.TempDir(), true, true
	o.Cluster, o.Routes = server.ClusterOpts{}, nil
	ns, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	t.Setenv("NATS_PASSWORD", "setup")
	if out, errs, code := cli(t, "init", "--pool", "payments", "--server", ns.ClientURL(), "--user", "setup", "--inbox-prefix", "_INBOX_setup"); code != 0 {
		t.Errorf("init: %s%s", out, errs)
	}
	if _, err := nats.Connect(ns.ClientURL()); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without a password: got %v", err)
	}
}
