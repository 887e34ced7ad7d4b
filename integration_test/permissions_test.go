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

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

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

// TestSubjectsPermissions compares the ready configuration, and the commands that make JWTs, with the permissions that
// subjects.md shows.
func TestSubjectsPermissions(t *testing.T) {
	shown := shownPermissions(t)
	script, err := os.ReadFile("../deploy/nats/users.sh")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, u := range configured(t).Users {
		found = append(found, u.Username)
		want := shown[u.Username]
		if want == nil || !reflect.DeepEqual(want.Publish, u.Permissions.Publish) || !reflect.DeepEqual(want.Subscribe, u.Permissions.Subscribe) {
			t.Errorf("permissions.conf and subjects.md disagree on %s", u.Username)
			continue
		}
		command := regexp.MustCompile(`(?s)\nnsc add user --name ` + u.Username + ` --account ` + u.Account.Name + ` \\\n(.*?)(\n\n|$)`).FindSubmatch(script)
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

// TestSubjectsAccounts compares what accounts share, in the ready configuration and in the commands, with what their users may
// ask: no import reaches further than the permissions of those who are in the account.
func TestSubjectsAccounts(t *testing.T) {
	raw, err := os.ReadFile("../deploy/nats/permissions.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := string(raw)
	script, err := os.ReadFile("../deploy/nats/users.sh")
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string][]string{} // accounts, by subject
	for _, m := range regexp.MustCompile(`\{(?:service|stream): "([^"]+)"[^}\n]*, accounts: \[([^\]]+)\]`).FindAllStringSubmatch(conf, -1) {
		exported[m[1]] = strings.Split(m[2], ", ")
	}
	imported := map[string][]string{}
	for account, roles := range map[string][]string{"CALLERS": {"caller"}, "CONSOLE": {"console"}} {
		_, block, _ := strings.Cut(conf, "  "+account+" {")
		block, _, _ = strings.Cut(block, "\n  }\n")
		want := []string{"$JS.API.INFO"}
		for _, role := range roles {
			p := shownPermissions(t)[role]
			want = slices.Concat(want, p.Publish.Allow, p.Subscribe.Allow)
		}
		var got []string
		for _, m := range regexp.MustCompile(`account: THENCE, subject: "([^"]+)"`).FindAllStringSubmatch(block, -1) {
			got = append(got, m[1])
			imported[m[1]] = append(imported[m[1]], account)
		}
		if !slices.Equal(got, want) {
			t.Errorf("permissions.conf: %s imports %q, want what its users may ask: %q", account, got, want)
		}
		list := regexp.MustCompile(`(?s)\n` + strings.ToLower(account) + `=\(\n(.*?)\n\)`).FindSubmatch(script)
		if list == nil {
			t.Fatalf("users.sh has no list for %s", account)
		}
		if said := strings.Fields(strings.ReplaceAll(string(list[1]), "'", "")); !slices.Equal(said, want) {
			t.Errorf("users.sh: %s imports %q, want %q", account, said, want)
		}
	}
	for _, accounts := range imported {
		slices.Sort(accounts)
	}
	if diff := cmp.Diff(imported, exported); diff != "" {
		t.Errorf("permissions.conf does not export what is imported:\n%s", diff)
	}
}

// TestPermissionsSuffice: with its permissions each can do its work: a worker runs jobs, makes calls, puts tries on
// timers, pauses a service and writes dead letters; a caller awaits them; a publisher sees what came of its jobs.
func TestPermissionsSuffice(t *testing.T) { permissionsSuffice(t, newGuarded) }

func permissionsSuffice(t *testing.T, guard func(t *testing.T, workerArgs ...string) *guarded) {
	t.Helper()
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
	write(t, services, "services:\n  api:\n    url: "+remote.URL+"\n    allow_private: true\n    max_in_flight: 5\n    rate: 100/s\n    response_limit: 1MiB\n")
	g := guard(t, "--scripts", scripts(t, callScripts), "--services", services)
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
	g.looks(ctx, t)

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

// looks has the console show what there is: contexts, one of them as it is written, letters and services.
func (g *guarded) looks(ctx context.Context, t *testing.T) {
	t.Helper()
	for command, want := range map[string]string{
		"context list payments": "cus_42", "context get payments.cus_42": "cus_42", "context history payments.cus_42": "dead",
		"dead list payments": "payments.cus_42.", "dead list payments --count": "runtime", "service list payments": "api",
	} {
		if out := g.run(t, "console", strings.Fields(command)...); !strings.Contains(out, want) {
			t.Errorf("%s shows a console nothing of %q:\n%s", command, want, out)
		}
	}
	pool, err := stream.Open(g.as(t, "console"), "payments")
	if err != nil {
		t.Fatal(err)
	}
	before, written := 0, g.as(t, "caller")
	err = pool.Watch(ctx, "cus_42", func(e stream.Entry) bool {
		if e.Revision == 0 { // all that was there has been shown
			if _, err := written.RequestWithContext(ctx, "payments.cus_42", []byte(`print("more")`)); err != nil {
				t.Error(err)
			}
			before++
			return true
		}
		return before == 0
	})
	if err != nil || before != 1 {
		t.Errorf("a console does not see what is written: %v", err)
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
