package calls

import (
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

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
