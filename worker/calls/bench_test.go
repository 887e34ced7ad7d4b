package calls

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/thence-dev/thence/internal/job"
)

// BenchmarkSend compares tries of calls over HTTP/1.1 as they are sent with the same over net/http's Transport, in turns of one
// call at a time and of 64. The ratio of two lines of one run is what counts: the API takes its part of both.
func BenchmarkSend(b *testing.B) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}))
	defer api.Close()
	s := Service{Name: "api", URL: api.URL, AllowPrivate: true}.withDefaults()
	theirs := alone(s, nil)
	theirs.transport = &http.Transport{MaxIdleConnsPerHost: 64}
	for _, sender := range []struct {
		name string
		*client
	}{{"transport", newClient(s, theirs)}, {"own", newClient(s, alone(s, nil))}} {
		b.Cleanup(sender.close)
		for _, n := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", sender.name, n), func(b *testing.B) { sendAll(b, sender.client, n) })
		}
	}
}

// sendAll keeps n calls in flight.
func sendAll(b *testing.B, c *client, n int) {
	call := job.Call{Key: "k", Request: job.Request{
		Method: http.MethodPost, URL: c.service.URL, Body: job.Text(`{"amount":1200,"currency":"eur"}`),
		Header: []job.HeaderLine{{Name: "Content-Type", Value: "application/json"}},
	}}
	b.ReportAllocs()
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			for range (b.N + i) / n {
				if got := c.send(b.Context(), call); got.answer.Status != http.StatusOK {
					b.Error(got.answer.Failure)
					return
				}
			}
		})
	}
	group.Wait()
}
