// Package embedded runs a NATS server in this process: for `thence up`, for the demo, and for tests. It is a real
// server, with file storage; only the process is shared.
package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Options of a server. The zero value has no listener and needs a Store.
type Options struct {
	Store      string // directory of the streams; must be given
	Listen     string // host:port, port 0 for a free one; empty: reachable from this process alone
	SyncAlways bool   // fsync before every ack; else every two minutes, as NATS does by default
	MaxStore   int64  // bytes; zero: what the server finds fit (three quarters of the free disk)

	Name    string       // of the server, unique in its cluster; default: thence
	Cluster *Cluster     // the cluster that the server is a part of; nil: it is alone
	Logger  *slog.Logger // what the server has to say; nil: nothing is kept
}

// Cluster is what a server needs to know of the cluster it is in. Its streams are placed once a majority is there, which
// Start does not wait for.
type Cluster struct {
	Name   string
	Listen string   // host:port for the other servers
	Routes []string // host:port of every server of the cluster; this one's own may be among them
}

// Server is a running server. Close ends it.
type Server struct {
	ns *server.Server
}

// Start starts a server and waits until it is ready.
func Start(o Options) (*Server, error) {
	if o.Store == "" {
		return nil, errors.New("embedded server: want a directory for its store")
	}
	opts, err := o.forServer()
	if err != nil {
		return nil, err
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded server: %w", err)
	}
	log := logger{to: o.Logger}
	ns.SetLoggerV2(&log, false, false, false)
	ns.Start()
	if why := log.why(); why != "" {
		ns.Shutdown()
		return nil, fmt.Errorf("embedded server: %s: is its store %s usable?", why, o.Store)
	}
	if !ns.ReadyForConnections(30 * time.Second) {
		ns.Shutdown()
		return nil, fmt.Errorf("embedded server: not ready after 30 s: is its store %s usable, and not in use by another server?", o.Store)
	}
	if !ns.JetStreamEnabled() {
		ns.Shutdown()
		return nil, fmt.Errorf("embedded server: its store %s could not be opened", o.Store)
	}
	return &Server{ns}, nil
}

// forServer are the options as the server has them. It tries the listen address, as the server would only log that it
// can't be used, and never become ready.
func (o Options) forServer() (*server.Options, error) {
	opts := &server.Options{
		ServerName: cmp.Or(o.Name, "thence"), JetStream: true, StoreDir: o.Store, SyncAlways: o.SyncAlways,
		NoSigs: true, NoLog: o.Logger == nil, DontListen: o.Listen == "", JetStreamMaxStore: o.MaxStore,
	}
	if o.Listen != "" {
		var err error
		if opts.Host, opts.Port, err = address(o.Listen); err != nil {
			return nil, err
		}
		if l, err := net.Listen("tcp", o.Listen); err != nil {
			return nil, fmt.Errorf("embedded server: %w: choose another with --listen", err)
		} else if err := l.Close(); err != nil {
			return nil, err
		}
	}
	if o.Cluster == nil {
		return opts, nil
	}
	opts.Cluster.Name = o.Cluster.Name
	var err error
	if opts.Cluster.Host, opts.Cluster.Port, err = address(o.Cluster.Listen); err != nil {
		return nil, err
	}
	for _, route := range o.Cluster.Routes {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: route})
	}
	return opts, nil
}

func address(listen string) (host string, port int, err error) {
	host, number, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("embedded server: listen address %q: want host:port: %w", listen, err)
	}
	if port, err = strconv.Atoi(number); err != nil {
		return "", 0, fmt.Errorf("embedded server: listen address %q: port: %w", listen, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// Connect opens a connection to the server inside this process. The caller closes it.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append([]nats.Option{nats.InProcessServer(s.ns)}, opts...)...)
}

// URL is where others reach the server; empty without a listener.
func (s *Server) URL() string {
	if s.ns.Addr() == nil {
		return ""
	}
	return s.ns.ClientURL()
}

// Close ends the server and waits until its store is written.
func (s *Server) Close() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}
