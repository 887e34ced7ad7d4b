package calls

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// large is an API whose bodies may be large, at a handler.
func (r *rig) large(t *testing.T, h http.HandlerFunc) Service {
	t.Helper()
	return Service{Name: "api", URL: serve(t, h), AllowPrivate: true, ResponseLimit: 8 << 20, Attempts: 1}
}

// get opens a call to the service api.
func (r *rig) get(t *testing.T, s Service, name string, header ...job.HeaderLine) *opened {
	t.Helper()
	return r.open(t, name, s.Name, job.Request{Method: http.MethodGet, URL: s.URL + "/export", Header: header})
}

// part opens a call for a part of a body, and returns its answer.
func (r *rig) part(t *testing.T, name, call, query string) job.Answer {
	t.Helper()
	o := r.prepare(t, name, Body, job.Request{Method: http.MethodGet, URL: "body:" + call + "?" + query})
	defer func() { ok(t, o.answers.Unsubscribe()) }()
	o.revision = must(r.pool.ContextFromLeader(r.ctx, name))(t).Revision
	o.commit(t, true)
	o.publish(t)
	return o.answer(t)
}

func (r *rig) keptMessages(t *testing.T) uint64 { return r.info(t, "OBJ_payments-bodies").State.Msgs }

// TestLargeBody: a body that is too large for a job is stored, and read in parts, by its own context alone.
func TestLargeBody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	body := strings.Repeat("0123456789abcde\n", 1<<20/16) + "ü€"
	s := r.large(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/csv")
		_, _ = io.WriteString(w, body)
	})
	run(t, r.performer(t, s))
	o := r.get(t, s, "a")
	whole := o.answer(t)
	if whole.Failure != nil || whole.Stored == nil || len(whole.Body) > 0 {
		t.Fatalf("got %+v, %+v", whole, whole.Failure)
	}
	equal(t, "size", whole.Stored.Size, int64(len(body)))
	equal(t, "type", whole.Stored.Type, "text/csv")
	equal(t, "name", whole.Stored.Name, "a."+o.call.ID)
	var read strings.Builder
	parts := 0
	for next := int64(0); next != 0 || parts == 0; parts++ {
		got := r.part(t, "a", o.call.ID, fmt.Sprintf("length=%d&offset=%d", job.MaxPart, next))
		equal(t, "status", got.Status, http.StatusPartialContent)
		equal(t, "offset", got.Stored.Offset, next)
		read.Write(got.Body)
		next = got.Stored.Next
	}
	equal(t, "parts", parts, 5)
	equal(t, "what the parts make", read.String() == body, true)
	for _, other := range []string{"b", "a/" + o.call.ID} {
		gone := r.part(t, other, o.call.ID, "length=1&offset=0")
		equal(t, "failure for another context", gone.Failure.Type, job.FailureGone)
	}
}

// TestPart: a part ends where a character does, or is in base64; what can't be asked for is rejected.
func TestPart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	body := strings.Repeat("x", maxInline) + "aü€𝄞z"
	s := r.large(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
	run(t, r.performer(t, s))
	call := r.get(t, s, "a").answer(t).Stored.Name[len("a."):]
	for _, test := range []struct {
		offset, length int
		more, body     string
		next           int
	}{
		{maxInline, 2, "", "a", maxInline + 1},
		{maxInline, 3, "", "aü", maxInline + 3},
		{maxInline + 3, 2, "", "\xe2\x82", maxInline + 5}, // there is nothing else in it
		{maxInline + 1, 8, "", "ü€", maxInline + 6},
		{maxInline + 6, 100, "", "𝄞z", 0},
		{maxInline, 2, "&encoding=base64", base64.StdEncoding.EncodeToString([]byte("a\xc3")), maxInline + 2},
	} {
		got := r.part(t, "a", call, fmt.Sprintf("length=%d&offset=%d%s", test.length, test.offset, test.more))
		if string(got.Body) != test.body || got.Stored.Next != int64(test.next) || got.Header["Content-Type"] != job.TypeText {
			t.Errorf("%d at %d: %q, next %d", test.length, test.offset, got.Body, got.Stored.Next)
		}
	}
	for _, bad := range []string{"length=1&offset=-1", "length=0&offset=0", "length=262145&offset=0", "length=1", fmt.Sprint("length=1&offset=", len(body))} {
		got := r.part(t, "a", call, bad)
		if got.Failure == nil || got.Failure.Type != job.FailureRejected {
			t.Errorf("%s: %+v", bad, got)
		}
	}
	equal(t, "what is no call", r.part(t, "a", "1", "length=1&offset=0").Failure.Type, job.FailureRejected)
}

// TestLargeBodyFails: a body that is over the limit, or is cut off, is the failure that a small one would be, and
// nothing of it is kept; of an API's own failure nothing is stored.
func TestLargeBodyFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	piece := strings.Repeat("x", 1<<20)
	mode := ""
	s := r.large(t, func(w http.ResponseWriter, _ *http.Request) {
		switch mode {
		case "cut":
			w.Header().Set("Content-Length", fmt.Sprint(2<<20))
			_, _ = io.WriteString(w, piece)
		case "status":
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, piece)
		default:
			for range 9 {
				_, _ = io.WriteString(w, piece)
			}
		}
	})
	run(t, r.performer(t, s))
	for _, test := range []struct{ mode, typ string }{
		{"long", job.FailureTooLarge}, {"cut", job.FailureConnection}, {"status", job.FailureHTTP},
	} {
		mode = test.mode
		got := r.get(t, s, test.mode).failure(t, test.typ, 1)
		if got.Stored != nil || len(got.Body) > 0 || got.Status == 0 {
			t.Errorf("%s: %+v", test.mode, got)
		}
		equal(t, test.mode+": messages", r.keptMessages(t), 0)
	}
}

// TestNoRoomForBody: where the bucket is full the call is tried again, as bodies go with time, and then fails.
func TestNoRoomForBody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	config := r.info(t, "OBJ_payments-bodies").Config
	config.MaxBytes = 1 << 20
	must(r.js.UpdateStream(r.ctx, config))(t)
	var requests atomic.Int64
	s := r.large(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		_, _ = io.WriteString(w, strings.Repeat("x", 2<<20))
	})
	s.Attempts, s.Backoff = 2, 1
	run(t, r.performer(t, s))
	got := r.get(t, s, "a").failure(t, job.FailureTooLarge, 2)
	if !strings.Contains(got.Failure.Message, "no room") || !strings.Contains(got.Failure.Message, "payments-bodies") || got.Status != http.StatusOK {
		t.Errorf("%+v, %+v", got, got.Failure)
	}
	equal(t, "requests", requests.Load(), 2)
	equal(t, "messages", r.keptMessages(t), 0)
}

// TestSecretInLargeBody: a secret that an API sends back stands nowhere in what is stored, wherever the borders of the
// pieces are in which it comes.
func TestSecretInLargeBody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	secret := "canary-" + strings.Repeat("0123456789", 10)
	r.secrets["api_key"] = secret
	must(r.nc.Subscribe("$O.>", func(m *nats.Msg) { _, _ = r.seen.Write(m.Data) }))(t)
	s := r.large(t, func(w http.ResponseWriter, req *http.Request) {
		got := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
		w.Header().Set("X-Echo", got)
		for i := range 2*128<<10/64 + 2048 { // each border of a chunk lies within one of them
			_, _ = io.WriteString(w, strings.Repeat("x", i%64)+got)
		}
	})
	run(t, r.performer(t, s))
	o := r.get(t, s, "a", job.HeaderLine{Name: "Authorization", Value: "Bearer ", Secret: "api_key"})
	got := o.answer(t)
	equal(t, "header", got.Header["X-Echo"], redacted)
	var all []byte
	for at := int64(0); at < got.Stored.Size; at += job.MaxPart {
		part, _, err := r.pool.ReadBody(r.ctx, o.address, o.call.ID, at, job.MaxPart)
		ok(t, err)
		all = append(all, part...)
	}
	equal(t, "places", bytes.Count(all, []byte(redacted)), 2*128<<10/64+2048)
	equal(t, "secrets", bytes.Contains(all, []byte("0123")), false)
	equal(t, "secrets seen on the way", r.seen.has(secret), false)
}

// TestRedactingReader: a text that is read in pieces is redacted as the whole text is.
func TestRedactingReader(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 7))
	var r redactor
	for _, secret := range []string{"aab", "aabb", "ba&c", "abababab"} {
		r.knows(secret)
	}
	for range 2000 {
		text := make([]byte, random.IntN(200))
		for i := range text {
			text[i] = "aabb&c\\u0026YW"[random.IntN(14)]
		}
		want := r.redact(result{answer: job.Answer{Body: text}}).answer.Body
		for name, from := range map[string]io.Reader{
			"whole": bytes.NewReader(text), "bytes": iotest.OneByteReader(bytes.NewReader(text)), "end with data": iotest.DataErrReader(bytes.NewReader(text)),
		} {
			got := must(io.ReadAll(r.reader(from)))(t)
			if !bytes.Equal(got, want) {
				t.Fatalf("%s: %q: got %q, want %q", name, text, got, want)
			}
		}
	}
	cut := iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("xaabx")))
	if _, err := io.ReadAll(r.reader(cut)); err == nil {
		t.Error("an error of what is read is lost")
	}
}

// TestLargeBodiesAtOnce: twenty bodies of 8 MiB come at a time, and what is in memory of them, over the API, the worker
// and the server, which all are in this process, stays far below their sum.
func TestLargeBodiesAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("measures memory, which the race detector makes more of")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(50)) // so that little of the heap is garbage
	const bodies, size = 20, 8 << 20
	r := newRig(t)
	config := r.info(t, "OBJ_payments-bodies").Config
	config.MaxBytes = 1 << 30
	must(r.js.UpdateStream(r.ctx, config))(t)
	var cancel context.CancelFunc
	r.ctx, cancel = context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	var begun atomic.Int64
	var peak atomic.Uint64
	together := make(chan struct{})
	piece := bytes.Repeat([]byte("x"), 64<<10)
	s := r.large(t, func(w http.ResponseWriter, _ *http.Request) {
		if begun.Add(1) == bodies {
			close(together)
		}
		<-together
		for i := range size / len(piece) {
			_, _ = w.Write(piece)
			if i%16 == 0 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				for old := peak.Load(); m.HeapInuse > old && !peak.CompareAndSwap(old, m.HeapInuse); old = peak.Load() {
				}
			}
		}
	})
	s.Timeout = 2 * time.Minute
	run(t, r.performer(t, s))
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var calls []*opened
	for i := range bodies {
		calls = append(calls, r.get(t, s, fmt.Sprint("c", i)))
	}
	for _, o := range calls {
		got := o.answer(t)
		if got.Stored == nil || got.Stored.Size != size {
			t.Fatalf("%+v, %+v", got, got.Failure)
		}
	}
	grown := int64(peak.Load()) - int64(before.HeapInuse)
	t.Logf("%d bodies of %d MiB at a time: the heap grew by %d MiB", bodies, size>>20, grown>>20)
	if grown > bodies*size/2 {
		t.Errorf("the heap grew by %d MiB, want less than half of the %d MiB of the bodies", grown>>20, bodies*size>>20)
	}
}

var _ Bodies = (*stream.Pool)(nil)
