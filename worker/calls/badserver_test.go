package calls

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// Bounds of a try against a server that means ill.
const (
	badTimeout = 250 * time.Millisecond // of a try that ends by it
	badTime    = 10 * time.Second       // of any, on a machine that has other things to do
	badMemory  = 4 << 20                // bytes allocated for it, the server's share included
)

// head begins an answer of 200.
const head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"

// badServers are behaviours of a server, and what becomes of a call to it.
var badServers = []struct {
	name    string
	serve   func(net.Conn)
	scheme  string // default http
	typ     string // of failure; empty: none
	message string // part of it
	final   bool   // it is not retried
}{
	{name: "silence", serve: func(c net.Conn) { hold(c) }, typ: job.FailureTimeout, message: "no whole answer within 250ms"},
	{name: "a header by the byte", serve: func(c net.Conn) { drip(c, head+strings.Repeat("X-Slow: 1\r\n", 1000)) }, typ: job.FailureTimeout},
	{name: "a body by the byte", serve: func(c net.Conn) { say(c, head+"\r\n"); drip(c, strings.Repeat("slow ", 1000)) }, typ: job.FailureTimeout},
	{name: "a body that stops", serve: func(c net.Conn) { say(c, head+"Content-Length: 100\r\n\r\nhalf"); hold(c) }, typ: job.FailureTimeout},
	{name: "an endless body", serve: func(c net.Conn) { say(c, head+"\r\n"); flood(c, "endless ") }, typ: job.FailureTooLarge, final: true},
	{name: "endless chunks", serve: func(c net.Conn) {
		say(c, head+"Transfer-Encoding: chunked\r\n\r\n")
		flood(c, "8\r\nendless!\r\n")
	}, typ: job.FailureTooLarge, final: true},
	{name: "an endless header line", serve: func(c net.Conn) { say(c, head+"X-Endless: "); flood(c, "endless") }, typ: job.FailureConnection, message: "exceeded"},
	{name: "endless header lines", serve: func(c net.Conn) { say(c, head); flood(c, "X-Endless: line\r\n") }, typ: job.FailureConnection, message: "exceeded"},
	{name: "an endless status line", serve: func(c net.Conn) { say(c, "HTTP/1.1 200 "); flood(c, "OK") }, typ: job.FailureConnection, message: "exceeded"},
	{name: "an endless stream of 1xx", serve: func(c net.Conn) { flood(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") }, typ: job.FailureConnection, message: "exceeded"},
	{name: "a switch of protocols", serve: func(c net.Conn) {
		say(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
		hold(c)
	}, typ: job.FailureConnection, message: "101", final: true},
	{name: "a length that is too long", serve: func(c net.Conn) { say(c, head+"Content-Length: 100\r\n\r\nhalf") }, typ: job.FailureConnection, message: "the answer broke off in the middle: unexpected EOF"},
	{name: "a length that is too short", serve: func(c net.Conn) { say(c, head+"Content-Length: 4\r\n\r\nhalf and more") }},
	{name: "a length below zero", serve: func(c net.Conn) { say(c, head+"Content-Length: -1\r\n\r\nx") }, typ: job.FailureConnection, message: "Content-Length"},
	{name: "a length beyond numbers", serve: func(c net.Conn) { say(c, head+"Content-Length: 99999999999999999999\r\n\r\nx") }, typ: job.FailureConnection, message: "Content-Length"},
	{name: "two lengths", serve: func(c net.Conn) { say(c, head+"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx") }, typ: job.FailureConnection, message: "Content-Length"},
	{name: "a promise of exabytes", serve: func(c net.Conn) { say(c, head+"Content-Length: 9000000000000000000\r\n\r\n"); hold(c) }, typ: job.FailureTimeout},
	{name: "a gzip bomb", serve: func(c net.Conn) { say(c, head+"Content-Encoding: gzip\r\n\r\n"+bomb()) }, typ: job.FailureTooLarge, final: true},
	{name: "gzip that is none", serve: func(c net.Conn) { say(c, head+"Content-Encoding: gzip\r\n\r\nnot gzip at all") }, typ: job.FailureConnection, message: "gzip"},
	{name: "gzip that ends early", serve: func(c net.Conn) { say(c, head+"Content-Encoding: gzip\r\n\r\n"+zipped("half")[:12]) }, typ: job.FailureConnection, message: "unexpected EOF"},
	{name: "chunks of no size", serve: func(c net.Conn) { say(c, head+"Transfer-Encoding: chunked\r\n\r\nxyz\r\ngarbage\r\n") }, typ: job.FailureConnection, message: "chunk"},
	{name: "a chunk beyond numbers", serve: func(c net.Conn) { say(c, head+"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n") }, typ: job.FailureConnection, message: "chunk"},
	{name: "endless chunk extensions", serve: func(c net.Conn) { say(c, head+"Transfer-Encoding: chunked\r\n\r\n1;"); flood(c, "extension") }, typ: job.FailureConnection},
	{name: "a chunk that does not end", serve: func(c net.Conn) { say(c, head+"Transfer-Encoding: chunked\r\n\r\n5\r\nhel") }, typ: job.FailureConnection, message: "unexpected EOF"},
	{name: "an endless trailer", serve: func(c net.Conn) { say(c, head+"Transfer-Encoding: chunked\r\n\r\n0\r\n"); flood(c, "X-Trailer: 1\r\n") }, typ: job.FailureConnection},
	{name: "a close at once", serve: func(net.Conn) {}, typ: job.FailureConnection},
	{name: "a close in the header", serve: func(c net.Conn) { say(c, head) }, typ: job.FailureConnection, message: "EOF"},
	{name: "a reset in the body", serve: func(c net.Conn) { say(c, head+"Content-Length: 9\r\n\r\nhalf"); reset(c) }, typ: job.FailureConnection},
	{name: "another protocol", serve: func(c net.Conn) { say(c, "SSH-2.0-OpenSSH_9.6\r\n") }, typ: job.FailureConnection, message: "malformed"},
	{name: "a status that is none", serve: func(c net.Conn) { say(c, "HTTP/1.1 abc OK\r\n\r\n") }, typ: job.FailureConnection, message: "malformed"},
	{name: "a header with no colon", serve: func(c net.Conn) { say(c, "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n") }, typ: job.FailureConnection, message: "malformed"},
	{name: "a header with a zero byte", serve: func(c net.Conn) { say(c, "HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n") }, typ: job.FailureConnection, message: "malformed"},
	{name: "a smuggled answer", serve: func(c net.Conn) {
		say(c, head+"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\nx")
	}, typ: job.FailureConnection, message: "transfer encoding"},
	{name: "HTTP where TLS belongs", serve: func(c net.Conn) { say(c, head+"\r\nx") }, scheme: "https", typ: job.FailureConnection},
	{name: "silence where TLS belongs", serve: func(c net.Conn) { hold(c) }, scheme: "https", typ: job.FailureTimeout},
}

// TestBadServers is not parallel: it counts what it allocates.
func TestBadServers(t *testing.T) {
	log.SetOutput(io.Discard) // net/http writes there what a server sends unasked
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	bomb() // not to be counted
	for _, test := range badServers {
		t.Run(test.name, func(t *testing.T) {
			scheme := test.scheme
			if scheme == "" {
				scheme = "http"
			}
			s := Service{Name: "api", URL: scheme + "://" + rawServer(t, test.serve), AllowPrivate: true, Timeout: badTime}.withDefaults()
			if test.typ == job.FailureTimeout {
				s.Timeout = badTimeout
			}
			c := newClient(s, alone(s, nil))
			defer c.close()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			got := c.send(t.Context(), job.Call{Key: "k", Request: job.Request{Method: "POST", URL: s.URL + "/x"}})
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			f := got.answer.Failure
			if f == nil {
				f = &job.Failure{}
			}
			equal(t, "type ("+f.Message+")", f.Type, test.typ)
			equal(t, "message "+f.Message, strings.Contains(f.Message, test.message), true)
			equal(t, "retry", got.retry, test.typ != "" && !test.final)
			if took > badTime {
				t.Errorf("it took %s", took)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > badMemory {
				t.Errorf("%d bytes were allocated, want at most %d", used, badMemory)
			}
		})
	}
}

// rawServer serves connections by hand, after their request was read, and closes each at the end of serve.
func rawServer(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	var ends sync.WaitGroup
	ends.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			ends.Go(func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 4096))
				serve(conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); ends.Wait() })
	return l.Addr().String()
}

func say(c net.Conn, text string) { _, _ = io.WriteString(c, text) }

// hold keeps a connection open until the other side closes it.
func hold(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// drip writes a byte at a time, until the other side has had enough.
func drip(c net.Conn, text string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := range len(text) {
		<-tick.C
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return
		}
	}
}

// flood writes the same for ever, until the other side has had enough.
func flood(c net.Conn, text string) {
	block := bytes.Repeat([]byte(text), 1+(16<<10)/len(text))
	for {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// bomb is 64 MiB of zeros, zipped.
var bomb = sync.OnceValue(func() string { return zipped(strings.Repeat("\x00", 64<<20)) })

func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

// reset ends a connection without the usual farewell.
func reset(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }

// TestCertificates: an API's certificate must be good, by the system's roots or by the service's own.
func TestCertificates(t *testing.T) {
	t.Parallel()
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) }))
	api.Config.ErrorLog = log.New(io.Discard, "", 0)
	api.StartTLS()
	t.Cleanup(api.Close)
	old := httptest.NewUnstartedServer(api.Config.Handler)
	old.Config.ErrorLog = api.Config.ErrorLog
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10} // it is what must be refused
	old.StartTLS()
	t.Cleanup(old.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
	elsewhere := strings.Replace(api.URL, "127.0.0.1", "localhost", 1) // the certificate is not for that name
	for _, test := range []struct {
		name, url string
		ca        []byte
		message   string // of the failure; empty: none
		retry     bool
	}{
		{"by an unknown CA", api.URL, nil, "the service's `ca` names its file", false},
		{"by the service's CA", api.URL, ca, "", false},
		{"for another name", elsewhere, ca, "certificate", false},
		{"by an old protocol", old.URL, ca, "protocol version", true},
	} {
		s := Service{Name: "api", URL: test.url, AllowPrivate: true, CA: test.ca}.withDefaults()
		ok(t, s.validate())
		c := newClient(s, alone(s, nil))
		got := c.send(t.Context(), job.Call{Request: job.Request{Method: "GET", URL: test.url + "/x"}})
		c.close()
		if f := got.answer.Failure; f == nil && test.message != "" || f != nil && (test.message == "" || f.Type != job.FailureConnection || !strings.Contains(f.Message, test.message)) {
			t.Errorf("%s: got %+v", test.name, got.answer)
		}
		equal(t, test.name+": retry", got.retry, test.retry)
	}
	if err := (Service{Name: "api", URL: "https://a.com", CA: []byte("none")}).withDefaults().validate(); err == nil || err.Error() != "service api: there is no certificate in its CA: want PEM" {
		t.Errorf("got %v", err)
	}
}
