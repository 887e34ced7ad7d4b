package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/thence-dev/thence/dispatcher"
)

// lines are the messages of a log, as they come.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

func (l lines) await(t *testing.T, part string) {
	t.Helper()
	for {
		select {
		case line := <-l:
			if strings.Contains(line, "secret") {
				t.Errorf("the password is in the log: %s", line)
			}
			if strings.Contains(line, part) {
				return
			}
		case <-time.After(time.Minute):
			t.Fatalf("no line with %q after a minute", part)
		}
	}
}

// serving starts a server, which ends with the test.
func serving(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	ns, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(ns.Shutdown)
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	return ns
}

// A worker whose credentials are refused says so once and goes on trying: they may be put right on the server.
func TestWorkerOutlivesRefusedCredentials(t *testing.T) {
	options := server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: "a", Password: "old", NoLog: true, NoSigs: true}
	ns := serving(t, &options)
	a := &app{lookupEnv: func(string) (string, bool) { return "", false }}
	a.connection.server = strings.Replace(ns.ClientURL(), "nats://", "nats://a:secret@", 1)
	log := make(lines, 1000)
	connected := make(chan error, 1)
	go func() {
		nc, err := a.connectForEver(t.Context(), "test", slog.New(slog.NewTextHandler(log, nil)))
		if err == nil {
			nc.Close()
		}
		connected <- err
	}()
	log.await(t, "NATS refuses these credentials; trying on")
	options.Port, options.Password = ns.Addr().(*net.TCPAddr).Port, "secret"
	if err := ns.ReloadOptions(&options); err != nil {
		t.Fatal(err)
	}
	if err := <-connected; err != nil {
		t.Error(err)
	}
}

// What is not permitted gets no answer: the command says why, and not that a time is over. What it knows of what was done it says still.
func TestDeniedIsNoTimeout(t *testing.T) {
	user := &server.User{Username: "a", Password: "secret", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Deny: []string{"$JS.API.>"}}, Subscribe: &server.SubjectPermission{Deny: []string{"_INBOX.>"}},
	}}
	ns := serving(t, &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Users: []*server.User{user}, NoLog: true, NoSigs: true})
	told := make(lines, 100)
	a := &app{lookupEnv: func(string) (string, bool) { return "", false }, stderr: told}
	a.connection.server = strings.Replace(ns.ClientURL(), "nats://", "nats://a:secret@", 1)
	nc, err := a.connect("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	late := fmt.Errorf("its job 7 is on the stream: %w", context.DeadlineExceeded)
	if err := a.orDenied(late); !errors.Is(err, late) {
		t.Errorf("got %v before anything was denied", err)
	}
	if err := nc.Publish("$JS.API.STREAM.INFO.DEAD_p", nil); err != nil {
		t.Fatal(err)
	}
	told.await(t, `Permissions Violation for Publish to "$JS.API.STREAM.INFO.DEAD_p"`)
	const denied = "these credentials may not do that, as the server says above: `thence doctor` lists what they may"
	if err := a.orDenied(context.DeadlineExceeded); err.Error() != denied {
		t.Errorf("got %v", err)
	}
	if err := a.orDenied(late); err.Error() != denied+" (its job 7 is on the stream)" {
		t.Errorf("got %v", err)
	}
	if err := a.notEnded(dispatcher.Receipt{ID: "j", Worker: "p", Context: "c", Sequence: 7}, time.Second); err.Error() !=
		"job j is accepted in p.c as 7; whether it has ended these credentials may not see, as the server says above" {
		t.Errorf("got %v", err)
	}
	other := errors.New("no such letter")
	if err := a.orDenied(other); !errors.Is(err, other) {
		t.Errorf("got %v", err)
	}
	// Who may not listen may still have done it.
	if _, err := nc.SubscribeSync(nc.NewInbox()); err != nil {
		t.Fatal(err)
	}
	told.await(t, `Permissions Violation for Subscription to "_INBOX.`)
	if err := a.orDenied(late); !strings.Contains(err.Error(), "may not hear the answer") || !strings.Contains(err.Error(), "(its job 7 is on the stream)") {
		t.Errorf("got %v", err)
	}
}
