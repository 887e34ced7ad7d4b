package calls

import (
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// TestHTTP2: where an API offers HTTP/2 it is spoken, and many calls at a time share its connections.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	var connections, others atomic.Int64
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			others.Add(1)
		}
		w.Write([]byte("ok"))
	}))
	api.EnableHTTP2 = true
	api.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	api.StartTLS()
	t.Cleanup(api.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
	s := Service{Name: "api", URL: api.URL, AllowPrivate: true, CA: ca}.withDefaults()
	c := newClient(s, alone(s, nil))
	t.Cleanup(c.close)
	call := func() {
		if got := c.send(t.Context(), job.Call{Request: job.Request{Method: "GET", URL: api.URL}}); got.answer.Status != 200 {
			t.Errorf("got %+v", got.answer.Failure)
		}
	}
	call() // until the first connection is there each call dials
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			for range 10 {
				call()
			}
		})
	}
	group.Wait()
	equal(t, "requests over another version", others.Load(), 0)
	if n := connections.Load(); n > 3 {
		t.Errorf("1,001 calls, 100 at a time, took %d connections", n)
	}
}

// TestConnectionsAreFound: calls that fill connections make as many as they need, and not one each; those of an API that
// takes no connection wait for none.
func TestConnectionsAreFound(t *testing.T) {
	t.Parallel()
	const streams, conns = 100, 4 // before an API says how many streams it has, net/http takes it to have 100
	var connections, come atomic.Int64
	all := make(chan struct{})
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" {
			return
		}
		if come.Add(1) == streams*conns {
			close(all)
		}
		<-all
	}))
	api.EnableHTTP2 = true
	api.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	api.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	api.StartTLS()
	t.Cleanup(api.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
	s := Service{Name: "api", URL: api.URL, AllowPrivate: true, CA: ca, Timeout: time.Minute}.withDefaults()
	c := newClient(s, alone(s, nil))
	t.Cleanup(c.close)
	c.connecting.patience = time.Minute // however slow this machine is
	call := func(path string) {
		if got := c.send(t.Context(), job.Call{Request: job.Request{Method: "GET", URL: api.URL + path}}); got.answer.Status != 200 {
			t.Errorf("got %+v", got.answer.Failure)
		}
	}
	call("/first")
	var group sync.WaitGroup
	for range streams * conns {
		group.Go(func() { call("/") })
	}
	group.Wait()
	if n := connections.Load(); n < conns || n > conns+conns/2 {
		t.Errorf("%d calls at a time took %d connections, want %d", streams*conns, n, conns)
	}
	c.connecting.turn <- struct{}{} // somebody looks, and finds none
	c.connecting.patience = time.Millisecond
	call("/first")
	equal(t, "turns that are taken", len(c.connecting.turn), 1)
}

// TestOnceWaitsForNobody: calls that are sent once share no connection, so they wait for no turn to look for one.
func TestOnceWaitsForNobody(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	api.EnableHTTP2 = true
	api.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	api.StartTLS()
	t.Cleanup(api.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
	s := Service{Name: "api", URL: api.URL, AllowPrivate: true, CA: ca, Never: true, Timeout: time.Minute}.withDefaults()
	c := newClient(s, alone(s, nil))
	t.Cleanup(c.close)
	for range 3 {
		got := c.send(t.Context(), job.Call{Request: job.Request{Method: "GET", URL: api.URL}})
		equal(t, "status", got.answer.Status, http.StatusOK)
	}
	equal(t, "connections", connections.Load(), 3)
	if c.connecting != nil {
		t.Error("calls wait for connections that they can't use")
	}
}

// TestRedirectsAreElsewhere: the connection that a redirect led to does not count for what the API speaks.
func TestRedirectsAreElsewhere(t *testing.T) {
	t.Parallel()
	old := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(old.Close)
	api := httptest.NewUnstartedServer(http.RedirectHandler(old.URL, http.StatusFound))
	api.EnableHTTP2 = true
	api.StartTLS()
	t.Cleanup(api.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
	s := Service{Name: "api", URL: api.URL, MoreURLs: []string{old.URL}, AllowPrivate: true, CA: ca, Timeout: time.Minute}.withDefaults()
	c := newClient(s, alone(s, nil))
	t.Cleanup(c.close)
	got := c.send(t.Context(), job.Call{Request: job.Request{Method: "GET", URL: api.URL}})
	equal(t, "status", got.answer.Status, http.StatusOK)
	equal(t, "the API speaks HTTP/2", c.connecting.shared.Load(), true)
}

// TestFiles: an answer that says to be a file is one, also of an API that otherwise answers with JSON.
func TestFiles(t *testing.T) {
	t.Parallel()
	for kind, good := range map[string]bool{
		"application/pdf": true, "application/octet-stream": true, "application/json": false, "text/html; charset=utf-8": false, "text/plain": false, "": false,
	} {
		url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{kind}
			w.Write([]byte("%PDF-1.4 ..."))
		}))
		s := Service{Name: "api", URL: url, AllowPrivate: true, ErrorMember: true}.withDefaults()
		c := newClient(s, alone(s, nil))
		got := c.send(t.Context(), job.Call{Request: job.Request{Method: "GET", URL: url}})
		c.close()
		equal(t, "taken as an answer: "+kind, got.answer.Failure == nil, good)
	}
}

// TestStripesFiles: what goes to Stripe's files is Stripe's, and sent to an imitation with everything else.
func TestStripesFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run(t, r.performer(t, r.stripe()))
	services := must(NewServices(r.stripe()))(t)
	equal(t, "owner", must(services.For("https://files.stripe.com/v1/quotes/qt_1/pdf"))(t).Name, "stripe")
	request := post("/v1/customers", "name=Ada")
	request.URL = "https://files.stripe.com/v1/customers"
	o := r.open(t, "a", "stripe", request)
	equal(t, "status", o.answer(t).Status, 200)
	o.requests(t, 1)
}
