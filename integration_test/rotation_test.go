package integration_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// locked is a server that asks for certificates. What it asks for, and has, may be exchanged while it runs.
type locked struct {
	t      *testing.T
	ns     *server.Server
	config atomic.Pointer[tls.Config]
}

func newLocked(t *testing.T, config *tls.Config) *locked {
	t.Helper()
	l := &locked{t: t}
	l.config.Store(config)
	now := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: config.Certificates,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return l.config.Load(), nil },
	}
	l.ns = serve(t, &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		TLSConfig: now, TLS: true, TLSVerify: true, TLSTimeout: 60,
	})
	return l
}

// tlsFlags name the files in a folder.
func tlsFlags(dir string) []string {
	return []string{"--tlsca", filepath.Join(dir, "ca.pem"), "--tlscert", filepath.Join(dir, "cert.pem"), "--tlskey", filepath.Join(dir, "key.pem")}
}

// TestTLSRotation exchanges the CA, the server's certificate and the worker's while jobs run. The worker says what is wrong
// while its files are old, and goes on with the new ones, without a restart.
func TestTLSRotation(t *testing.T) {
	ctx := within(t, 3*time.Minute)
	before, after := newAuthority(t, "before"), newAuthority(t, "after")
	l := newLocked(t, before.server())
	dir := t.TempDir()
	before.write(dir, before.issue("worker", time.Now().Add(time.Hour)))
	args := append([]string{"worker", "--pool", "p", "--server", l.ns.ClientURL(), "--log", "json", "--scripts", scripts(t, callScripts)}, tlsFlags(dir)...)
	w := start(t, "worker", nil, args...)
	w.await(w.ready)

	r := rotation{t, func() *nats.Conn { return connectTLS(t, l, dir) }}
	r.publish(ctx, "first")
	noTLS, back := w.logged("no TLS connection to NATS; trying on"), w.logged("NATS is back")
	l.config.Store(after.server())
	kick(t, l.ns, "thence worker p")
	w.await(noTLS)
	after.write(dir, after.issue("worker", time.Now().Add(time.Hour)))
	w.await(back)
	r.publish(ctx, "second")
	r.counted(ctx, 2)
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, w.output())
	}
}

func connectTLS(t *testing.T, l *locked, dir string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(l.ns.ClientURL(), nats.Timeout(time.Minute), nats.RootCAs(filepath.Join(dir, "ca.pem")),
		nats.ClientCert(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// rotation publishes jobs, and looks whether all of them took effect once.
type rotation struct {
	t       *testing.T
	connect func() *nats.Conn
}

// rotatedContexts is among how many contexts a round of jobs is shared out, and rotatedJobs is how many each gets.
const rotatedContexts, rotatedJobs = 10, 20

func (r rotation) publish(ctx context.Context, round string) {
	r.t.Helper()
	pool, err := stream.Open(r.connect(), "p")
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range rotatedContexts * rotatedJobs {
		m := job.Message{Subject: fmt.Sprintf("p.c%d", i%rotatedContexts), Header: map[string][]string{
			job.HeaderScript: {"count"}, nats.MsgIdHdr: {fmt.Sprintf("%s-%d", round, i)},
		}}
		if err := pool.Publish(ctx, m); err != nil {
			r.t.Fatal(err)
		}
	}
}

// counted waits until the jobs of some rounds have taken effect, and sees that none did twice.
func (r rotation) counted(ctx context.Context, rounds int) {
	r.t.Helper()
	pool, err := stream.Open(r.connect(), "p")
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range rotatedContexts {
		n := 0
		err := pool.Watch(ctx, fmt.Sprintf("c%d", i), func(e stream.Entry) bool {
			if e.Data != nil {
				n = counter(r.t, e.Data)
			}
			return n < rounds*rotatedJobs
		})
		if err != nil || n != rounds*rotatedJobs {
			r.t.Fatalf("context c%d: %d jobs took effect, want %d: %v", i, n, rounds*rotatedJobs, err)
		}
	}
}

// TestTLSErrors: what is wrong with a certificate is said, and what to do about it.
func TestTLSErrors(t *testing.T) {
	ca, other := newAuthority(t, "ours"), newAuthority(t, "another")
	l := newLocked(t, ca.server())
	good, stranger, expired, mixed := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	ca.write(good, ca.issue("cli", time.Now().Add(time.Hour)))
	other.write(stranger, other.issue("cli", time.Now().Add(time.Hour)))
	ca.write(expired, ca.issue("cli", time.Now().Add(-time.Hour)))
	ca.write(mixed, ca.issue("cli", time.Now().Add(time.Hour)))
	swapped, err := os.ReadFile(filepath.Join(good, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(mixed, "key.pem"), string(swapped))
	at := func(dir, name string) string { return filepath.Join(dir, name+".pem") }
	old := ca.server()
	old.Certificates = []tls.Certificate{ca.issue("server", time.Now().Add(-time.Hour))}
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"all is well", tlsFlags(good), nil},
		{"another CA", []string{"--tlsca", at(stranger, "ca"), "--tlscert", at(good, "cert"), "--tlskey", at(good, "key")}, []string{"unknown authority", "--tlsca"}},
		{"no certificate", []string{"--tlsca", at(good, "ca")}, []string{"--tlscert and --tlskey"}},
		{"a certificate of another CA", []string{"--tlsca", at(good, "ca"), "--tlscert", at(stranger, "cert"), "--tlskey", at(stranger, "key")}, []string{"--tlscert"}},
		{"a certificate that has expired", tlsFlags(expired), []string{"expired", "--tlscert"}},
		{"no key", []string{"--tlsca", at(good, "ca"), "--tlscert", at(good, "cert")}, []string{"--tlscert and --tlskey go together"}},
		{"a key that is not there", []string{"--tlsca", at(good, "ca"), "--tlscert", at(good, "cert"), "--tlskey", at(good, "none")}, []string{"none.pem", "no such file", "--tlskey"}},
		{"the key of another", tlsFlags(mixed), []string{"does not match", "a pair"}},
		{"a CA that is not there", []string{"--tlsca", at(good, "none")}, []string{"none.pem", "no such file", "--tlsca"}},
		{"a CA that is none", []string{"--tlsca", at(good, "key")}, []string{"key.pem", "--tlsca", "PEM"}},
		{"another name", append(tlsFlags(good), "--server", strings.Replace(l.ns.ClientURL(), "127.0.0.1", "localhost", 1)), []string{"other names", "--server"}},
	} { // a connection may be closed before the client has read why: then it names what may be wrong
		t.Run(c.name, func(t *testing.T) { saysWhy(t, l, c.args, c.want) })
	}
	l.config.Store(old)
	t.Run("a server whose certificate has expired", func(t *testing.T) { saysWhy(t, l, tlsFlags(good), []string{"has expired", "clock"}) })
	plain := newCluster(t)
	t.Run("a server without TLS", func(t *testing.T) {
		saysWhy(t, l, append(tlsFlags(good), "--server", plain.url()), []string{"the server has no TLS"})
	})
}

// saysWhy runs a command with the flags, which fails with all that is wanted in its message; without any it succeeds.
func saysWhy(t *testing.T, l *locked, args, want []string) {
	t.Helper()
	args = append([]string{"init", "--pool", "p", "--server", l.ns.ClientURL()}, args...)
	out, errs, code := cli(t, args...)
	if (code == 0) != (want == nil) {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	for _, part := range want {
		if !strings.Contains(errs, part) {
			t.Errorf("it does not say %q:\n%s", part, errs)
		}
	}
}

// issuer makes users of one account of a server that knows its operator.
type issuer struct {
	t       *testing.T
	ns      *server.Server
	keys    nkeys.KeyPair
	account *jwt.AccountClaims
	op      nkeys.KeyPair
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t}
	op, id := i.pair(nkeys.CreateOperator)
	i.op = op
	resolver := &server.MemAccResolver{}
	_, systemID := i.pair(nkeys.CreateAccount)
	keys, accountID := i.pair(nkeys.CreateAccount)
	i.keys, i.account = keys, jwt.NewAccountClaims(accountID)
	i.account.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	for _, claims := range []*jwt.AccountClaims{jwt.NewAccountClaims(systemID), i.account} {
		token, err := claims.Encode(op)
		if err == nil {
			err = resolver.Store(claims.Subject, token)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	i.ns = serve(t, &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		TrustedOperators: []*jwt.OperatorClaims{jwt.NewOperatorClaims(id)}, AccountResolver: resolver, SystemAccount: systemID,
	})
	return i
}

func (i *issuer) pair(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	i.t.Helper()
	keys, err := create()
	if err != nil {
		i.t.Fatal(err)
	}
	id, err := keys.PublicKey()
	if err != nil {
		i.t.Fatal(err)
	}
	return keys, id
}

// user makes a user, writes its credentials over a file, and returns its id.
func (i *issuer) user(file string) string {
	i.t.Helper()
	keys, id := i.pair(nkeys.CreateUser)
	token, err := jwt.NewUserClaims(id).Encode(i.keys)
	if err != nil {
		i.t.Fatal(err)
	}
	seed, err := keys.Seed()
	if err != nil {
		i.t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		i.t.Fatal(err)
	}
	replace(i.t, file, string(creds))
	return id
}

// revoke has the server end a user's connections, and take none.
func (i *issuer) revoke(id string) {
	i.t.Helper()
	i.account.Revoke(id)
	token, err := i.account.Encode(i.op)
	if err != nil {
		i.t.Fatal(err)
	}
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		i.t.Fatal(err)
	}
	account, err := i.ns.LookupAccount(claims.Subject)
	if err != nil {
		i.t.Fatal(err)
	}
	i.ns.UpdateAccountClaims(account, claims)
}

// TestCredentialsRotation takes a worker's user away while jobs run: once with new credentials in its file before, once after. It
// comes back by itself, and every job takes effect once.
func TestCredentialsRotation(t *testing.T) {
	ctx := within(t, 3*time.Minute)
	i := newIssuer(t)
	dir := t.TempDir()
	file, mine := filepath.Join(dir, "worker.creds"), filepath.Join(dir, "test.creds")
	first := i.user(file)
	i.user(mine)
	w := start(t, "worker", nil, "worker", "--pool", "p", "--server", i.ns.ClientURL(), "--log", "json", "--scripts", scripts(t, callScripts), "--creds", file)
	w.await(w.ready)
	nc, err := nats.Connect(i.ns.ClientURL(), nats.UserCredentials(mine), nats.Timeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	r := rotation{t, func() *nats.Conn { return nc }}

	r.publish(ctx, "first")
	refused, back := w.logged("NATS refuses these credentials; trying on"), w.logged("NATS is back")
	i.revoke(first)
	w.await(refused)
	r.publish(ctx, "second")
	second := i.user(file)
	w.await(back)

	back = w.logged("NATS is back")
	i.user(file)
	r.publish(ctx, "third")
	i.revoke(second)
	w.await(back)
	r.counted(ctx, 3)

	cut := w.logged("a file for NATS can't be read; trying on")
	third, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	kick(t, i.ns, "thence worker p")
	w.await(cut)
	back = w.logged("NATS is back")
	replace(t, file, string(third))
	w.await(back)
	if out, errs, code := cli(t, "init", "--pool", "p", "--server", i.ns.ClientURL(), "--creds", filepath.Join(dir, "none.creds")); code == 0 || !strings.Contains(errs, "--creds") || !strings.Contains(errs, "none.creds") {
		t.Errorf("credentials that are not there: exit code %d\n%s%s", code, out, errs)
	}
}

// kick ends the connections of a name.
func kick(t *testing.T, ns *server.Server, name string) {
	t.Helper()
	all, err := ns.Connz(nil)
	if err != nil {
		t.Fatal(err)
	}
	kicked := 0
	for _, c := range all.Conns {
		if c.Name == name {
			kicked++
			_ = ns.DisconnectClientByID(c.Cid) // it may have gone by itself
		}
	}
	if kicked == 0 {
		t.Fatalf("nobody is called %q", name)
	}
}
