// Package embedded runs a NATS server in this process: for `thence up`, for the demo, and for tests. It is a real
// server, with file storage; only the process is shared.
package embedded

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
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
	opts := &server.Options{
		ServerName: "thence", JetStream: true, StoreDir: o.Store, SyncAlways: o.SyncAlways,
		NoSigs: true, NoLog: true, DontListen: o.Listen == "", JetStreamMaxStore: o.MaxStore,
	}
	if o.Listen != "" {
		host, port, err := net.SplitHostPort(o.Listen)
		if err != nil {
			return nil, fmt.Errorf("embedded server: listen address %q: want host:port: %w", o.Listen, err)
		}
		if opts.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("embedded server: listen address %q: port: %w", o.Listen, err)
		}
		if opts.Port == 0 {
			opts.Port = server.RANDOM_PORT
		}
		opts.Host = host
		if l, err := net.Listen("tcp", o.Listen); err != nil { // the server would only log it, and never become ready
			return nil, fmt.Errorf("embedded server: %w: choose another with --listen", err)
		} else if err := l.Close(); err != nil {
			return nil, err
		}
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded server: %w", err)
	}
	var log fatal
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

// fatal is a log that keeps nothing but why the server could not start.
type fatal struct {
	mu   sync.Mutex
	text string
}

// Fatalf implements server.Logger.
func (f *fatal) Fatalf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.text = fmt.Sprintf(format, args...)
}

func (f *fatal) why() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text
}

// Noticef implements server.Logger.
func (*fatal) Noticef(string, ...any) {}

// Warnf implements server.Logger.
func (*fatal) Warnf(string, ...any) {}

// Errorf implements server.Logger.
func (*fatal) Errorf(string, ...any) {}

// Debugf implements server.Logger.
func (*fatal) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (*fatal) Tracef(string, ...any) {}

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
