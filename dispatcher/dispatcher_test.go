package dispatcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a pool named payments, without a worker.
type rig struct {
	*dispatcher.Dispatcher
	*testing.T
	nc   *nats.Conn
	pool *stream.Pool
	ctx  context.Context //nolint:containedctx // a test's own
}

func newRig(t *testing.T) rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	server := must(embedded.Start(embedded.Options{Store: t.TempDir(), MaxStore: 8 << 30}))(t)
	t.Cleanup(server.Close)
	nc := must(server.Connect())(t)
	t.Cleanup(nc.Close)
	pool := must(stream.Ensure(ctx, nc, "payments", stream.Options{MaxBytes: 2 << 20}))(t)
	d := must(dispatcher.New(nc, dispatcher.Config{Caller: "shop", Worker: "payments", Context: "cus_42"}))(t)
	return rig{d, t, nc, pool, ctx}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// stored is the job as a worker reads it.
func (r rig) stored(receipt dispatcher.Receipt) job.Job {
	r.Helper()
	m := must(r.pool.NextJob(r.ctx, receipt.Context, receipt.Sequence))(r)
	return must(job.Parse(m))(r)
}

func TestNew(t *testing.T) {
	if _, err := dispatcher.New(nil, dispatcher.Config{}); err == nil || err.Error() != "dispatcher: the connection is nil" {
		t.Errorf("got %v", err)
	}
}

func TestDispatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	file := filepath.Join(t.TempDir(), "main.tengo")
	if err := os.WriteFile(file, []byte("x := <a>"), 0o600); err != nil {
		t.Fatal(err)
	}
	deadline := time.Date(2026, 1, 2, 15, 4, 5, 6, time.FixedZone("", 3600))
	for _, test := range []struct {
		name string
		in   dispatcher.Job
		want job.Job
	}{
		{"script", dispatcher.Job{Script: "checkout"}, job.Job{Script: "checkout"}},
		{"script with data", dispatcher.Job{Script: "checkout", Data: map[string]any{"b": 1, "a": "<&>"}},
			job.Job{Script: "checkout", Data: []byte(`{"a":"<&>","b":1}`)}},
		{"raw data", dispatcher.Job{Script: "checkout", Data: json.RawMessage(`{"b":2.0}`)}, job.Job{Script: "checkout", Data: []byte(`{"b":2.0}`)}},
		{"text", dispatcher.Job{Script: "checkout", Data: "hi"}, job.Job{Script: "checkout", Data: []byte(`"hi"`)}},
		{"null", dispatcher.Job{Script: "checkout", Data: json.RawMessage(`null`)}, job.Job{Script: "checkout", Data: []byte(`null`)}},
		{"source", dispatcher.Job{Source: "x := data", Data: 5}, job.Job{Source: "x := data", Data: []byte(`5`)}},
		{"file", dispatcher.Job{File: file}, job.Job{Source: "x := <a>", Name: "main.tengo"}},
		{"deadline and trace", dispatcher.Job{Source: "x", Deadline: deadline, Trace: "00-1-2-01"},
			job.Job{Source: "x", Deadline: deadline.UTC(), Trace: "00-1-2-01"}},
		{"its own caller and place", dispatcher.Job{Source: "x", Caller: "me", Context: "b", ID: "order-77"}, job.Job{Source: "x", Caller: "me", ID: "order-77"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			receipt := must(r.Dispatch(r.ctx, test.in))(t)
			got, want := r.stored(receipt), test.want
			if want.Caller == "" {
				want.Caller = "shop"
			}
			if want.ID == "" {
				want.ID = receipt.ID
				equal(t, "characters of a UUID", len(receipt.ID), 36)
			}
			equal(t, "id", got.ID, want.ID)
			equal(t, "receipt's id", receipt.ID, want.ID)
			equal(t, "receipt's pool", receipt.Worker, "payments")
			equal(t, "address", got.Address.String(), "payments."+receipt.Context)
			equal(t, "sequence", got.Sequence, receipt.Sequence)
			equal(t, "caller", got.Caller, want.Caller)
			equal(t, "script", got.Script, want.Script)
			equal(t, "source", got.Source, want.Source)
			equal(t, "name", got.Name, want.Name)
			equal(t, "data", string(got.Data), string(want.Data))
			equal(t, "no data", got.Data == nil, want.Data == nil)
			equal(t, "deadline", got.Deadline, want.Deadline)
			equal(t, "trace", got.Trace, want.Trace)
		})
	}
}

func TestDispatchAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := dispatcher.Job{ID: "order-77", Source: "x := 1"}
	first := must(r.Dispatch(r.ctx, j))(t)
	second := must(r.Dispatch(r.ctx, j))(t)
	equal(t, "the first is a duplicate", first.Duplicate, false)
	equal(t, "the second is a duplicate", second.Duplicate, true)
	equal(t, "its sequence", second.Sequence, first.Sequence)
	j.ID = ""
	equal(t, "without an id", must(r.Dispatch(r.ctx, j))(t).Duplicate, false)
	equal(t, "again without an id", must(r.Dispatch(r.ctx, j))(t).Duplicate, false)
}

func TestDispatchRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	binary := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(binary, []byte{0xff}, 0o600); err != nil {
		t.Fatal(err)
	}
	const one = "invalid job: want exactly one of Script, Source and File, got "
	for _, test := range []struct {
		name string
		in   dispatcher.Job
		want string
	}{
		{"nothing to run", dispatcher.Job{}, one + "0"},
		{"two to run", dispatcher.Job{Script: "a", Source: "b"}, one + "2"},
		{"pool", dispatcher.Job{Worker: "a.b", Script: "a"}, `invalid job: worker pool "a.b": a name is 1 to 32 of a-z A-Z 0-9 _ -`},
		{"context", dispatcher.Job{Context: "a.b", Script: "a"}, `invalid job: context "a.b": a name is 1 to 128 of a-z A-Z 0-9 _ = / -`},
		{"script", dispatcher.Job{Script: "a-b"}, `invalid job: malformed job: header Thence-Script: "a-b" is no script name (letters, digits and _, at most 100)`},
		{"source", dispatcher.Job{Source: " "}, `invalid job: malformed job: nothing to run: the body is empty and there is no Thence-Script`},
		{"id", dispatcher.Job{ID: "a\r\nThence-Call: 1-0", Script: "a"}, `invalid job: malformed job: header Nats-Msg-Id: want at most 256 printable characters`},
		{"space", dispatcher.Job{ID: " a", Script: "a"}, `invalid job: header Nats-Msg-Id: " a" has space at its ends`},
		{"caller", dispatcher.Job{Caller: strings.Repeat("a", 162), Script: "a"}, `invalid job: malformed job: header Thence-Caller: want at most 161 printable characters`},
		{"trace", dispatcher.Job{Trace: "a\nb", Script: "a"}, `invalid job: trace "a\nb": want a W3C traceparent`},
		{"data", dispatcher.Job{Data: func() {}, Script: "a"}, `invalid job: data: json: unsupported type: func()`},
		{"raw data", dispatcher.Job{Data: json.RawMessage(`{`), Script: "a"},
			`invalid job: data: json: error calling MarshalJSON for type json.RawMessage: unexpected end of JSON input`},
		{"file is not there", dispatcher.Job{File: "no/such.tengo"}, `invalid job: open no/such.tengo: no such file or directory`},
		{"file is no text", dispatcher.Job{File: binary}, `invalid job: ` + binary + ` is not UTF-8`},
		{"size", dispatcher.Job{Source: strings.Repeat("x", job.MaxJob)}, ``},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := r.Dispatch(r.ctx, test.in)
			if !errors.Is(err, dispatcher.ErrInvalid) || test.want != "" && err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	if _, err := r.pool.NextJobFromLeader(r.ctx, "cus_42", 1); !errors.Is(err, stream.ErrNone) {
		t.Errorf("something was published: %v", err)
	}
}

// The dispatcher knows to the byte what the stream takes.
func TestLargestJob(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	fits := func(n int) error {
		_, err := r.Dispatch(r.ctx, dispatcher.Job{ID: fmt.Sprint("size-", n), Context: "big", Source: strings.Repeat("x", n)})
		return err
	}
	low, high := 0, job.MaxJob // low+1 fits, high does not
	for high-low > 1 {
		if middle := (low + high) / 2; errors.Is(probe(middle), dispatcher.ErrInvalid) {
			high = middle
		} else {
			low = middle
		}
	}
	if err := fits(low); err != nil {
		t.Errorf("%d bytes of source: %v", low, err)
	}
	err := fits(high)
	if !errors.Is(err, dispatcher.ErrInvalid) || !strings.Contains(err.Error(), "it has 524289 bytes, at most 524288 are allowed: keep large data elsewhere and send its address") {
		t.Errorf("%d bytes of source: %v", high, err)
	}
}

// probe tells, without a server, whether the dispatcher takes n bytes of source.
func probe(n int) error {
	d, err := dispatcher.New(new(nats.Conn), dispatcher.Config{Caller: "shop", Worker: "payments", Context: "big"})
	if err != nil {
		return err
	}
	ended, end := context.WithCancel(context.Background())
	end()
	_, err = d.Dispatch(ended, dispatcher.Job{ID: fmt.Sprint("size-", n), Source: strings.Repeat("x", n)})
	return err
}

func TestNoPool(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, err := r.Dispatch(r.ctx, dispatcher.Job{Worker: "nobody", Source: "x"})
	want := "no worker pool named nobody: nothing takes \"nobody.cus_42\"; start a worker, or run `thence init --pool nobody`"
	if !errors.Is(err, dispatcher.ErrNoPool) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	_, err = r.Await(r.ctx, dispatcher.Receipt{Worker: "nobody", Context: "a", Sequence: 1})
	if err == nil || !strings.HasPrefix(err.Error(), "no worker pool named nobody on this server: ") {
		t.Errorf("got %v", err)
	}
}

// A server whose disk is full answers nothing: the caller hears that his job may be accepted, and what to do.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	taken, err := r.nc.SubscribeSync("silent.cus_42")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.ctx, 50*time.Millisecond)
	defer cancel()
	_, err = r.Dispatch(ctx, dispatcher.Job{ID: "order-7", Worker: "silent", Source: "x"})
	const want = "dispatch job order-7: the server has not answered, so the job may be accepted or not: dispatch it again under this id"
	if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v", err)
	}
	if _, err := taken.NextMsgWithContext(r.ctx); err != nil {
		t.Errorf("the job was not published: %v", err)
	}
}

func TestFullStream(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var err error
	for range 10 {
		if _, err = r.Dispatch(r.ctx, dispatcher.Job{Source: strings.Repeat("x", 500<<10)}); err != nil {
			break
		}
	}
	if err == nil || errors.Is(err, dispatcher.ErrInvalid) || !strings.Contains(err.Error(), "it is full; let workers catch up") {
		t.Errorf("got %v", err)
	}
}
