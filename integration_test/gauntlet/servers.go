package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// servers are NATS: one server, or a cluster of three, each in a process of its own with a store that outlives it.
type servers struct {
	dir    string // of logs and stores
	binary string
	always bool // fsync before every ack
	nodes  []*node
}

// node is one server. Its address and its store stay when it is killed and started again.
type node struct {
	name    string
	store   string
	listen  string
	cluster string   // empty: it is alone
	within  []string // the command that starts it in a network namespace
	most    int64    // bytes of its store; zero: far more than is needed
	proc    *process
}

// newServers lays out n servers on loopback. Nothing is started.
func newServers(dir, binary string, n int, always bool) (*servers, error) {
	s := &servers{dir: dir, binary: binary, always: always}
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, err
	}
	for i := range n {
		name := fmt.Sprintf("n%d", i+1)
		one := &node{name: name, store: filepath.Join(dir, "store-"+name), listen: ports[2*i]}
		if n > 1 {
			one.cluster = ports[2*i+1]
		}
		s.nodes = append(s.nodes, one)
	}
	return s, os.MkdirAll(dir, 0o700)
}

// freePorts finds addresses on loopback that nobody listens on now.
func freePorts(n int) ([]string, error) {
	var held []net.Listener // until the last is found, so that none comes twice
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		held, addresses = append(held, l), append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// start starts every server that does not run, and waits until they take requests for streams.
func (s *servers) start(ctx context.Context) error {
	for _, n := range s.nodes {
		if err := s.startNode(n); err != nil {
			return err
		}
	}
	for _, n := range s.nodes {
		if _, err := n.proc.ready(ctx); err != nil {
			return err
		}
	}
	return s.awaitStreams(ctx)
}

func (s *servers) startNode(n *node) error {
	if n.proc != nil && n.proc.alive() {
		return nil
	}
	args := []string{serverRole, "-name", n.name, "-store", n.store, "-listen", n.listen, fmt.Sprintf("-always=%t", s.always)}
	if n.most > 0 {
		args = append(args, "-max-store", fmt.Sprint(n.most))
	}
	if n.cluster != "" {
		var routes []string
		for _, other := range s.nodes {
			routes = append(routes, other.cluster)
		}
		args = append(args, "-cluster", n.cluster, "-routes", strings.Join(routes, ","))
	}
	var err error
	n.proc, err = start(launch{name: n.name, dir: s.dir, within: n.within, binary: s.binary, args: args})
	return err
}

// restart starts a server that was killed, and waits until clients can connect to it.
func (s *servers) restart(ctx context.Context, n *node) error {
	if err := s.startNode(n); err != nil {
		return err
	}
	_, err := n.proc.ready(ctx)
	return err
}

// awaitStreams waits until JetStream answers: in a cluster that takes a leader.
func (s *servers) awaitStreams(ctx context.Context) error {
	nc, err := connect(s.url())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return insist(ctx, "JetStream does not answer", func(ctx context.Context) error {
		_, err := js.AccountInfo(ctx)
		return err
	})
}

// insist does something until it succeeds or ctx ends; then its last error is told.
func insist(ctx context.Context, what string, do func(ctx context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := do(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (%w)", what, err, context.Cause(ctx))
		}
	}
}

// url is where all of them are reached.
func (s *servers) url() string {
	var urls []string
	for _, n := range s.nodes {
		urls = append(urls, n.url())
	}
	return strings.Join(urls, ",")
}

func (n *node) url() string { return "nats://" + n.listen }

func (s *servers) replicas() int { return len(s.nodes) }

// leader is the server that leads a stream now.
func (s *servers) leader(ctx context.Context, nc *nats.Conn, stream string) (*node, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	var leads *node
	err = insist(ctx, "no leader of "+stream, func(ctx context.Context) error {
		found, err := js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		info := found.CachedInfo().Cluster
		if info == nil || info.Leader == "" {
			return fmt.Errorf("stream %s has no leader", stream)
		}
		for _, n := range s.nodes {
			if n.name == info.Leader {
				leads = n
				return nil
			}
		}
		return fmt.Errorf("stream %s is led by %s, which is none of ours", stream, info.Leader)
	})
	return leads, err
}

// end kills all of them.
func (s *servers) end() {
	for _, n := range s.nodes {
		if n.proc != nil {
			n.proc.kill()
		}
	}
}
