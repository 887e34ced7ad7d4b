package calls

import (
	"bufio"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// counting is an API over HTTP/1.1 that counts its connections.
func counting(t *testing.T, h http.HandlerFunc) (api *httptest.Server, connections *atomic.Int64) {
	t.Helper()
	connections = &atomic.Int64{}
	api = httptest.NewUnstartedServer(h)
	api.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	api.Start()
	t.Cleanup(api.Close)
	return api, connections
}

func clientOf(t *testing.T, url string) *client {
	t.Helper()
	s := Service{Name: "api", URL: url, AllowPrivate: true, Timeout: time.Minute}.withDefaults()
	c := newClient(s, alone(s, nil))
	t.Cleanup(c.close)
	return c
}

// TestConnectionsAreUsedAgain: calls that follow each other share a connection, and one that the API has closed meanwhile is not used.
func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	api, connections := counting(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // whole before the answer begins: the rest would be dropped
		_, _ = w.Write(body)
	})
	c := clientOf(t, api.URL)
	call := func(method, body string) {
		got := c.send(t.Context(), job.Call{Key: "k", Request: job.Request{Method: method, URL: api.URL, Body: job.Text(body)}})
		equal(t, "status", got.answer.Status, 200)
		equal(t, "the body comes back", string(got.answer.Body) == body, true)
	}
	for _, size := range []int{1, 0, 100_000, writtenFirst, writtenFirst + 1} {
		call("POST", strings.Repeat("x", size))
	}
	equal(t, "connections", connections.Load(), 1)
	api.CloseClientConnections()
	call("GET", "")
	equal(t, "connections once it was closed", connections.Load(), 2)
}

// TestEarlyAnswer: an API may answer before it has the whole request.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	url := "http://" + rawServer(t, func(c net.Conn) {
		say(c, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
		hold(c)
	})
	c := clientOf(t, url)
	got := c.send(t.Context(), job.Call{Key: "k", Request: job.Request{Method: "POST", URL: url, Body: job.Text(strings.Repeat("x", 8<<20))}})
	equal(t, "status", got.answer.Status, http.StatusRequestEntityTooLarge)
}

// TestGoroutinesOfCalls: a call over HTTP/1.1 that waits has no goroutine beside the one that makes it. It is not parallel: it counts
// all there are.
func TestGoroutinesOfCalls(t *testing.T) {
	const n = 50
	var come sync.WaitGroup
	come.Add(n)
	release := make(chan struct{})
	var others atomic.Int64
	api, _ := counting(t, func(http.ResponseWriter, *http.Request) { come.Done(); <-release })
	c := clientOf(t, api.URL)
	before := runtime.NumGoroutine()
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			got := c.send(t.Context(), job.Call{Key: "k", Request: job.Request{Method: "POST", URL: api.URL}})
			others.Add(int64(got.answer.Status - http.StatusOK))
		})
	}
	come.Wait()
	// The API has two for each connection: its handler, and who notices that the connection ends.
	if most := before + 3*n + 5; runtime.NumGoroutine() > most {
		t.Errorf("%d calls that wait take %d goroutines, the API's included, want at most %d", n, runtime.NumGoroutine()-before, most-before)
	}
	close(release)
	group.Wait()
	equal(t, "answers of another status", others.Load(), 0)
}

// batching is a connection that keeps what is written for a while, so that it comes in one piece.
type batching struct {
	net.Conn
	hold bool
	held []byte
}

func (b *batching) Write(p []byte) (int, error) {
	if b.hold {
		b.held = append(b.held, p...)
		return len(p), nil
	}
	return b.Conn.Write(p)
}

// answers writes answers to one request in one piece, each as a record of its own where there is TLS, and keeps the connection.
func (b *batching) answers(config *tls.Config, answers ...string) error {
	var c net.Conn = b
	if config != nil {
		c = tls.Server(b, config)
	}
	if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
		return err
	}
	b.hold = true
	for _, a := range answers {
		if _, err := io.WriteString(c, a); err != nil {
			return err
		}
	}
	_, err := b.Conn.Write(b.held)
	return err
}

// TestUnaskedAnswer: what comes behind an answer, with it in one piece, is not the next call's: a server that is out of step would
// else answer one call with what was another's.
func TestUnaskedAnswer(t *testing.T) {
	t.Parallel()
	for name, secured := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
			s := Service{Name: "api", URL: name + "://" + l.Addr().String(), AllowPrivate: true}
			var config *tls.Config
			if secured {
				known := httptest.NewTLSServer(nil) // has a certificate for this address
				t.Cleanup(known.Close)
				config = &tls.Config{Certificates: known.TLS.Certificates, MinVersion: tls.VersionTLS12}
				s.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: known.Certificate().Raw})
			}
			var serving sync.WaitGroup
			serving.Go(func() {
				for {
					raw, err := l.Accept()
					if err != nil {
						return
					}
					b := &batching{Conn: raw}
					if err := b.answers(config, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nA", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nB"); err != nil {
						t.Error(err)
					}
					serving.Go(func() { // open until the client lets go of it
						_, _ = io.Copy(io.Discard, raw)
						_ = raw.Close()
					})
				}
			})
			t.Cleanup(func() { _ = l.Close(); serving.Wait() })
			s = s.withDefaults()
			c := newClient(s, alone(s, nil))
			t.Cleanup(c.close)
			for range 3 {
				got := c.send(t.Context(), job.Call{Request: job.Request{Method: "GET", URL: s.URL}})
				if body := string(got.answer.Body); body != "A" {
					t.Errorf("%q: %+v", body, got.answer.Failure)
				}
			}
		})
	}
}
