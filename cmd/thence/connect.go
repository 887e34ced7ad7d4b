package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"
)

// connection says how to reach NATS: flags first, then the variables that the nats CLI reads too, then its context.
type connection struct {
	server, context, creds, nkey, user, cert, key, ca, inbox string
}

// defaultServer is where a NATS server listens unless told otherwise.
const defaultServer = nats.DefaultURL

func (c *connection) flags(f *pflag.FlagSet) {
	f.StringVarP(&c.server, "server", "s", "", "NATS server URLs, separated by commas (NATS_URL, default "+defaultServer+")")
	f.StringVar(&c.context, "nats-context", "", "the nats CLI's context of this name (NATS_CONTEXT, default the selected one where no server is given)")
	f.StringVar(&c.creds, "creds", "", "file of user credentials (NATS_CREDS)")
	f.StringVar(&c.nkey, "nkey", "", "file of an nkey seed (NATS_NKEY)")
	f.StringVar(&c.user, "user", "", "user name (NATS_USER; the password is read from NATS_PASSWORD, a token from NATS_TOKEN)")
	f.StringVar(&c.cert, "tlscert", "", "file of the client's TLS certificate (NATS_CERT)")
	f.StringVar(&c.key, "tlskey", "", "file of its key (NATS_KEY)")
	f.StringVar(&c.inbox, "inbox-prefix", "", "subject below which answers to this client come, where it may not subscribe to _INBOX.> (NATS_INBOX_PREFIX)")
	f.StringVar(&c.ca, "tlsca", "", "file of the CA that signed the server's certificate (NATS_CA)")
}

// setting is a flag, or else a variable.
func (a *app) setting(flag, variable string) string {
	if flag != "" {
		return flag
	}
	value, _ := a.lookupEnv(variable)
	return value
}

// reach is where the server is, and with what to go there.
func (a *app) reach() (server string, opts []nats.Option, err error) {
	kept, err := a.natsContext()
	if err != nil {
		return "", nil, err
	}
	server = cmp.Or(a.setting(a.connection.server, "NATS_URL"), kept.URL, defaultServer)
	if a.named() {
		kept.Creds, kept.NKey, kept.User, kept.Password, kept.Token, kept.JWT, kept.Seed = "", "", "", "", "", "", ""
	}
	who, err := a.identity(kept)
	if err != nil {
		return "", nil, err
	}
	secured, err := a.tls(kept)
	return server, slices.Concat(kept.options(), who, secured), err
}

// named tells whether a flag or a variable says as whom to connect: then nothing of a context's identity counts, as two of them
// can't be had.
func (a *app) named() bool {
	c := a.connection
	return cmp.Or(a.setting(c.creds, "NATS_CREDS"), a.setting(c.nkey, "NATS_NKEY"), a.setting(c.user, "NATS_USER"), a.setting("", "NATS_TOKEN")) != ""
}

// identity is as whom to connect.
func (a *app) identity(kept natsContext) ([]nats.Option, error) {
	c := a.connection
	var opts []nats.Option
	if creds := cmp.Or(a.setting(c.creds, "NATS_CREDS"), a.file(kept.Creds)); creds != "" {
		opt := nats.UserCredentials(creds)
		if err := tryCredentials(opt); err != nil {
			return nil, fmt.Errorf("credentials for NATS (--creds, NATS_CREDS): %w", err)
		}
		opts = append(opts, opt)
	}
	if nkey := cmp.Or(a.setting(c.nkey, "NATS_NKEY"), a.file(kept.NKey)); nkey != "" {
		opt, err := nats.NkeyOptionFromSeed(nkey)
		if err != nil {
			return nil, fmt.Errorf("nkey file %s: %w", nkey, err)
		}
		opts = append(opts, opt)
	}
	if user := cmp.Or(a.setting(c.user, "NATS_USER"), kept.User); user != "" {
		opts = append(opts, nats.UserInfo(user, cmp.Or(a.setting("", "NATS_PASSWORD"), kept.Password)))
	}
	if token := cmp.Or(a.setting("", "NATS_TOKEN"), kept.Token); token != "" {
		opts = append(opts, nats.Token(token))
	}
	if inbox := a.setting(c.inbox, "NATS_INBOX_PREFIX"); inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(inbox))
	}
	return opts, nil
}

// tls are the files for TLS. The client reads them at each connect, so that what was renewed counts from the next one on; here it
// is seen to that they can be read now.
func (a *app) tls(kept natsContext) ([]nats.Option, error) {
	c := a.connection
	var opts []nats.Option
	if ca := cmp.Or(a.setting(c.ca, "NATS_CA"), a.file(kept.CA)); ca != "" {
		opt := nats.RootCAs(ca)
		if err := opt(new(nats.Options)); err != nil {
			return nil, fmt.Errorf("the CA of NATS (--tlsca, NATS_CA): %w: it has to be a file in PEM", err)
		}
		opts = append(opts, opt)
	}
	cert, key := cmp.Or(a.setting(c.cert, "NATS_CERT"), a.file(kept.Cert)), cmp.Or(a.setting(c.key, "NATS_KEY"), a.file(kept.Key))
	if (cert == "") != (key == "") {
		return nil, usageError{errors.New("--tlscert and --tlskey go together")}
	}
	if cert != "" {
		opt := nats.ClientCert(cert, key)
		if err := opt(new(nats.Options)); err != nil {
			return nil, fmt.Errorf("certificate for NATS (--tlscert and --tlskey, NATS_CERT and NATS_KEY): %w: they have to be a pair, in PEM", err)
		}
		opts = append(opts, opt)
	}
	return opts, nil
}

// connect opens a connection for one command, and fails at once when there is no server. The caller closes it.
func (a *app) connect(name string) (*nats.Conn, error) { return a.connectWithin(name, 5*time.Second) }

func (a *app) connectWithin(name string, timeout time.Duration) (*nats.Conn, error) {
	server, opts, err := a.reach()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(server, append(opts, nats.Name("thence "+name), nats.Timeout(timeout), nats.ErrorHandler(a.hear))...)
	if err != nil {
		return nil, connectError(server, err)
	}
	return nc, nil
}

// hear tells what the server says on a connection while a command runs. It does not answer what it does not permit: it says
// so here, and the command sees a time-out.
func (a *app) hear(_ *nats.Conn, _ *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		a.denied.Store(true)
		if strings.Contains(err.Error(), "for Subscription to") {
			a.deaf.Store(true)
		}
	}
	a.notef("%s\n", plain(err.Error()))
}

// orDenied is err, or what stands behind a time-out when the server has said so. What err says of what was done stays.
func (a *app) orDenied(err error) error {
	if !a.denied.Load() || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	text := "these credentials may not do that, as the server says above: `thence doctor` lists what they may"
	if a.deaf.Load() {
		text = "these credentials may not hear the answer, as the server says above, so it may be done or not: --inbox-prefix says where they may listen"
	}
	if said := strings.TrimSuffix(strings.TrimSuffix(err.Error(), context.DeadlineExceeded.Error()), ": "); said != "" {
		text += " (" + said + ")"
	}
	return errors.New(text)
}

// connectForEver opens a connection that outlives the server's absence, and waits until it is there. Each change is one
// line of log.
func (a *app) connectForEver(ctx context.Context, name string, log *slog.Logger) (*nats.Conn, error) {
	server, opts, err := a.reach()
	if err != nil {
		return nil, err
	}
	connected := make(chan struct{}, 1)
	trouble := &trouble{log: log, server: redact(server)}
	opts = append(opts, nats.Name("thence "+name), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(trouble.wait),
		nats.ConnectHandler(func(*nats.Conn) { connected <- struct{}{} }),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() { // by us, at the end
				log.Warn("NATS is away; waiting for it", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			trouble.over()
			log.Info("NATS is back", "server", nc.ConnectedUrlRedacted())
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { trouble.tell(err) }), // before there was a connection
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { trouble.tell(err) }))
	nc, err := nats.Connect(server, opts...)
	if err != nil {
		return nil, connectError(server, err)
	}
	trouble.conn.Store(nc)
	if !nc.IsConnected() {
		log.Warn("no NATS server yet; waiting for it", "server", redact(server))
	}
	select {
	case <-connected:
		trouble.over()
		return nc, nil
	case <-ctx.Done():
		nc.Close()
		return nil, ctx.Err()
	}
}

// redact takes passwords out of a list of URLs.
func redact(urls string) string {
	list := strings.Split(urls, ",")
	for i, s := range list {
		if u, err := url.Parse(strings.TrimSpace(s)); err == nil {
			list[i] = u.Redacted()
		}
	}
	return strings.Join(list, ",")
}
