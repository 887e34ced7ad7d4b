package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
)

// natsContext is how to reach a server, as the nats CLI keeps it under a name: $XDG_CONFIG_HOME/nats/context/NAME.json.
// What a context may have beyond what is read here is refused, never left out.
type natsContext struct {
	URL      string `json:"url"`
	User     string `json:"user"`
	Password string `json:"password"`
	Token    string `json:"token"`
	Creds    string `json:"creds"`
	NKey     string `json:"nkey"`
	Cert     string `json:"cert"`
	Key      string `json:"key"`
	CA       string `json:"ca"`
	JWT      string `json:"user_jwt"`
	Seed     string `json:"user_seed"`
	Inbox    string `json:"inbox_prefix"`
	TLSFirst bool   `json:"tls_first"`

	Socks     string `json:"socks_proxy"`
	NSC       string `json:"nsc"`
	Domain    string `json:"jetstream_domain"`
	APIPrefix string `json:"jetstream_api_prefix"`
	CertStore string `json:"windows_cert_store"`
}

// natsContext reads the context that a flag or NATS_CONTEXT names, or the one that is selected in the nats CLI where no
// server is given. The zero context is none.
func (a *app) natsContext() (natsContext, error) {
	name := a.setting(a.connection.context, "NATS_CONTEXT")
	named := name != ""
	if !named && a.setting(a.connection.server, "NATS_URL") != "" {
		return natsContext{}, nil
	}
	dir := a.natsDir()
	if !named {
		if name = selected(dir); name == "" {
			return natsContext{}, nil
		}
	}
	c, err := readNATSContext(dir, name)
	if err != nil && !named {
		err = fmt.Errorf("%w (it is the one that is selected in the nats CLI; --server makes it unneeded)", err)
	}
	return c, err
}

// natsDir is the nats CLI's folder; empty: there is none, as there is no home.
func (a *app) natsDir() string {
	if config := a.setting("", "XDG_CONFIG_HOME"); config != "" {
		return filepath.Join(config, "nats")
	}
	if home := a.setting("", "HOME"); home != "" {
		return filepath.Join(home, ".config", "nats")
	}
	return ""
}

// selected is the name of the context that is selected in the nats CLI; empty: none is, or it can't be read.
func selected(dir string) string {
	name, err := os.ReadFile(filepath.Join(dir, "context.txt"))
	if err != nil || dir == "" {
		return ""
	}
	return strings.TrimSpace(string(name))
}

func readNATSContext(dir, name string) (c natsContext, err error) {
	if name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return c, usageError{fmt.Errorf("NATS context %q: that is no name", name)}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "context", name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("there is no NATS context %q: `nats context list` shows those that there are", name)
	}
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return c, fmt.Errorf("NATS context %s: %w", name, err)
	}
	return c, nil
}

// check refuses what would be left out.
func (c *natsContext) check() error {
	for what, value := range map[string]string{
		"socks_proxy": c.Socks, "nsc": c.NSC, "jetstream_domain": c.Domain, "jetstream_api_prefix": c.APIPrefix, "windows_cert_store": c.CertStore,
	} {
		if value != "" {
			return fmt.Errorf("thence can't use its %s: give --server, --creds and the rest", what)
		}
	}
	for _, value := range []*string{&c.User, &c.Password, &c.Token, &c.Creds, &c.NKey, &c.Cert, &c.Key, &c.CA, &c.JWT, &c.Seed} {
		*value = strings.TrimPrefix(*value, "file://")
		for _, scheme := range []string{"op://", "nsc://", "env://", "data:"} {
			if strings.HasPrefix(*value, scheme) {
				return fmt.Errorf("thence can't look up what begins with %s: give --creds, --nkey or --user", scheme)
			}
		}
	}
	return nil
}

// options are what a context has that no flag has.
func (c *natsContext) options() []nats.Option {
	var opts []nats.Option
	if c.JWT != "" {
		opts = append(opts, nats.UserJWTAndSeed(c.JWT, c.Seed))
	}
	if c.Inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(c.Inbox))
	}
	if c.TLSFirst {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	return opts
}

// file is the path of a file that a context names, which may begin in the user's home.
func (a *app) file(path string) string {
	if rest, inHome := strings.CutPrefix(path, "~/"); inHome {
		return filepath.Join(cmp.Or(a.setting("", "HOME"), "~"), rest)
	}
	return path
}
