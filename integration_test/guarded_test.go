package integration_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// guarded is a server with the accounts and users of deploy/nats, and a worker with no more than its own rights. root,
// who may do everything in the account that has the streams, is a test's alone.
type guarded struct {
	url    string
	creds  string // folder of a file of credentials for each user; empty: users have passwords, which are their names
	worker *process
}

// configured are the options that deploy/nats/permissions.conf makes; each user's password is its name.
func configured(t *testing.T) *server.Options {
	t.Helper()
	for role := range shownPermissions(t) {
		t.Setenv("THENCE_"+strings.ToUpper(strings.ReplaceAll(role, "-", "_"))+"_PASSWORD", role)
	}
	options, err := server.ProcessConfigFile("../deploy/nats/permissions.conf")
	if err != nil {
		t.Fatal(err)
	}
	return options
}

// newGuarded is guarded by passwords.
func newGuarded(t *testing.T, workerArgs ...string) *guarded {
	t.Helper()
	o := configured(t)
	at := slices.IndexFunc(o.Accounts, func(a *server.Account) bool { return a.Name == "THENCE" })
	o.Users = append(o.Users, &server.User{Username: "root", Password: "root", Account: o.Accounts[at]})
	return guard(t, o, "", workerArgs...)
}

// guard starts the server and the worker, between them makes the pool.
func guard(t *testing.T, o *server.Options, creds string, workerArgs ...string) *guarded {
	t.Helper()
	o.Host, o.Port, o.JetStream, o.StoreDir, o.NoLog, o.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, t.TempDir(), true, true
	g := &guarded{url: startServer(t, o), creds: creds}
	for range 2 { // what is there is looked at, and stays
		g.run(t, "setup", "init", "--pool", "payments", "--service", "api", "--replicas", "1", "--max-bytes", "1073741824") // as the chart does
	}
	args, env := g.login("worker")
	args = append([]string{"worker", "--pool", "payments", "--log", "json", "--log-level", "debug"}, append(args, workerArgs...)...)
	g.worker = start(t, "worker", env, args...)
	g.worker.await(g.worker.ready)
	return g
}

// startServer runs a server until the test ends, and returns its address.
func startServer(t *testing.T, o *server.Options) string {
	t.Helper()
	return serve(t, o).ClientURL()
}

// serve runs a server until the test ends.
func serve(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	ns, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	return ns
}

// login is how the program is told to be one of the users.
func (g *guarded) login(user string) (args, env []string) {
	args = []string{"--server", g.url, "--inbox-prefix", inboxOf(user)}
	if g.creds != "" {
		return append(args, "--creds", filepath.Join(g.creds, user+".creds")), nil
	}
	return append(args, "--user", user), []string{"NATS_PASSWORD=" + user}
}

// run runs the program as one of the users, who must be able to do it, and returns what it printed.
func (g *guarded) run(t *testing.T, user string, args ...string) string {
	t.Helper()
	login, env := g.login(user)
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	t.Setenv("HOME", t.TempDir())
	out, errs, code := cli(t, append(args, login...)...)
	if code != 0 {
		t.Fatalf("%s, %s: exit code %d\n%s%s", user, strings.Join(args, " "), code, out, errs)
	}
	return out
}

// as connects as one of the users.
func (g *guarded) as(t *testing.T, user string) *nats.Conn {
	t.Helper()
	who := nats.UserInfo(user, user)
	if g.creds != "" {
		who = nats.UserCredentials(filepath.Join(g.creds, user+".creds"))
	}
	nc, err := nats.Connect(g.url, who, nats.CustomInboxPrefix(inboxOf(user)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func inboxOf(user string) string {
	if user == "root" {
		return nats.InboxPrefix[:len(nats.InboxPrefix)-1]
	}
	return "_INBOX_" + user
}

// write writes a file that only its owner reads.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
