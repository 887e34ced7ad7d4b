package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// tryCredentials reads the file of credentials once: the client itself would go on trying.
func tryCredentials(opt nats.Option) error {
	var o nats.Options
	if err := opt(&o); err != nil {
		return err
	}
	if _, err := o.UserJWT(); err != nil {
		return err
	}
	_, err := o.SignatureCB(nil)
	return err
}

// connectError says what is wrong with a connection, and what to do.
func connectError(server string, err error) error {
	_, hint := cause(err)
	if hint == "" {
		hint = "is it running, and is --server (or NATS_URL) right? `thence up` starts one on this machine"
	}
	return fmt.Errorf("connect to NATS at %s: %w: %s", redact(server), err, hint)
}

// What keeps a connection from a server that is there, as the log says it.
const (
	refused  = "NATS refuses these credentials; trying on"
	insecure = "no TLS connection to NATS; trying on"
	unread   = "a file for NATS can't be read; trying on"
)

// alerts are what the other side of a TLS connection says of this one's certificate. Their type is the standard library's own.
var alerts = []struct{ part, hint string }{
	{"tls: certificate required", "the server wants a certificate of the client: give --tlscert and --tlskey (NATS_CERT, NATS_KEY)"},
	{"tls: expired certificate", "the client's certificate (--tlscert) has expired: write a new one over it, and its key"},
	{"tls: unknown certificate authority", "the server does not know the CA of the client's certificate (--tlscert): have it signed by the one that the server verifies with"},
	{"tls: bad certificate", "the server does not take the client's certificate (--tlscert): is it one for clients, signed by the CA that the server verifies with?"},
}

// cause tells what kind of trouble an error is, and what to do about it; both are empty where there is just no server.
func cause(err error) (kind, hint string) {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAccountAuthExpired):
		return refused, "these credentials have expired: write new ones over them (--creds)"
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthRevoked):
		return refused, "it refuses these credentials: see --creds, --nkey, --user"
	case errors.As(err, &authority):
		return insecure, "the server's certificate is signed by another CA than that in --tlsca (NATS_CA), or than the system's where none is given"
	case errors.As(err, &name):
		return insecure, "the server's certificate is for other names: use one of them in --server (NATS_URL)"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return insecure, "the server's certificate has expired, or is not valid yet: renew it there, or set this machine's clock"
	case errors.Is(err, nats.ErrSecureConnWanted):
		return insecure, "the server has no TLS: switch it on there, or leave out --tlsca, --tlscert and --tlskey"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return unread, "it has to be there, and this user may have to read it"
	case strings.Contains(err.Error(), "private key does not match"), strings.Contains(err.Error(), "failed to parse root certificate"):
		return unread, "it has to be whole: write new files beside the old ones, and rename them"
	}
	for _, a := range alerts {
		if strings.Contains(err.Error(), a.part) {
			return insecure, a.hint
		}
	}
	if errors.Is(err, nats.ErrTLS) {
		return insecure, "it fails in the handshake: a certificate may have expired, or be signed by a CA that the other side does not know: see --tlsca, --tlscert and --tlskey; the server's log says more"
	}
	return "", ""
}

// trouble tells the log what keeps a connection away: each kind once, until the connection is there. Servers of a cluster may
// each have trouble of their own.
type trouble struct {
	log    *slog.Logger
	server string
	conn   atomic.Pointer[nats.Conn]

	mu   sync.Mutex
	told map[string]bool
}

// wait is how long to wait before all servers are tried again. The client asks for it after each round, and keeps what went
// wrong for whoever looks: of a handshake that fails it tells nobody.
func (t *trouble) wait(int) time.Duration {
	if nc := t.conn.Load(); nc != nil {
		t.tell(nc.LastError())
	}
	return 500*time.Millisecond + rand.N(500*time.Millisecond)
}

func (t *trouble) tell(err error) {
	if err == nil {
		return
	}
	kind, hint := cause(err)
	t.mu.Lock()
	again := kind == "" || t.told[kind]
	if !again {
		if t.told == nil {
			t.told = map[string]bool{}
		}
		t.told[kind] = true
	}
	t.mu.Unlock()
	if again {
		t.log.Debug("NATS", "error", err)
		return
	}
	log := t.log.With("server", t.server, "error", err, "do", hint)
	switch kind {
	case refused:
		log.Warn(refused)
	case insecure:
		log.Warn(insecure)
	case unread:
		log.Warn(unread)
	}
}

// over says that the connection is there.
func (t *trouble) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told = nil
}
