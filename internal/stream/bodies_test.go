package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

var bodyOwner = job.Address{Pool: "payments", Context: "a/b=1"}

// noise is a body that is not the same anywhere.
func noise(size int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (p *Pool) keep(t *testing.T, call string, r io.Reader) (job.Answer, error) {
	t.Helper()
	head := job.Answer{Status: 200, Header: map[string]string{"Content-Type": "text/csv"}}
	return p.KeepBody(within(t), bodyOwner, call, head, r)
}

// TestKeepBody: a body is read in parts as it was written, whatever pieces it came in, and as any object is by a client
// of NATS.
func TestKeepBody(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	for _, size := range []int{1, bodyChunk - 1, bodyChunk, bodyChunk + 1, 5*bodyChunk + 17} {
		call, body := fmt.Sprintf("%d-0", size), noise(size)
		kept := get(p.keep(t, call, iotest.HalfReader(bytes.NewReader(body))))(t)
		equal(t, "reference", *kept.Stored, job.Stored{Name: "a/b=1." + call, Size: int64(size), Digest: kept.Stored.Digest, Type: "text/csv"})
		for _, at := range []struct{ offset, length int }{{0, size}, {0, 1}, {size - 1, 1}, {size - 1, 100}, {bodyChunk - 1, 2}, {bodyChunk, bodyChunk}, {17, 2 * bodyChunk}} {
			if at.offset >= size {
				continue
			}
			part, stored, err := p.ReadBody(within(t), bodyOwner, call, int64(at.offset), at.length)
			ok(t, err)
			equal(t, "reference as it is read", stored, *kept.Stored)
			if !bytes.Equal(part, body[at.offset:min(size, at.offset+at.length)]) {
				t.Errorf("%d bytes at %d of %d are others", at.length, at.offset, size)
			}
		}
		store := get(p.js.ObjectStore(within(t), "payments-bodies"))(t)
		if !bytes.Equal(get(store.GetBytes(within(t), kept.Stored.Name))(t), body) { // it checks the digest too
			t.Errorf("a client of NATS reads another body of %d bytes", size)
		}
	}
}

// TestBodyOfAnother: a body is found for its own context and call alone.
func TestBodyOfAnother(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	get(p.keep(t, "1-0", strings.NewReader("x")))(t)
	for _, other := range []struct{ context, call string }{{"a", "1-0"}, {"a/b=1", "1-1"}, {"b", "b=1.1-0"}} {
		_, _, err := p.ReadBody(within(t), job.Address{Pool: "payments", Context: other.context}, other.call, 0, 1)
		if !errors.Is(err, ErrNone) {
			t.Errorf("%v: %v", other, err)
		}
	}
}

// TestBodyCut: what can't be read to its end leaves nothing behind, and its error is the reader's.
func TestBodyCut(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	for _, cause := range []error{io.ErrUnexpectedEOF, errors.New("reset")} {
		cut := io.MultiReader(bytes.NewReader(noise(3*bodyChunk-5)), iotest.ErrReader(cause))
		if _, err := p.keep(t, "1-0", cut); !errors.Is(err, cause) {
			t.Errorf("%v, want %v", err, cause)
		}
		equal(t, "messages", p.stored(t, "OBJ_payments-bodies").Msgs, 0)
	}
}

// TestBodyTwice: of two tries of a call the first whole body is the one that is kept, with the answer that it came with.
func TestBodyTwice(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	first := get(p.keep(t, "1-0", strings.NewReader("first")))(t)
	before := p.stored(t, "OBJ_payments-bodies").Msgs
	second, err := p.KeepBody(within(t), bodyOwner, "1-0", job.Answer{Status: 203}, strings.NewReader("second"))
	ok(t, err)
	equal(t, "status", second.Status, first.Status)
	equal(t, "reference", *second.Stored, *first.Stored)
	equal(t, "messages", p.stored(t, "OBJ_payments-bodies").Msgs, before)
	part, _, err := p.ReadBody(within(t), bodyOwner, "1-0", 0, 100)
	ok(t, err)
	equal(t, "body", string(part), "first")
}

// TestBodyFull: a bucket without room says so, and keeps nothing of the body.
func TestBodyFull(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{MaxBytes: 1 << 20})
	if _, err := p.keep(t, "1-0", bytes.NewReader(noise(2<<20))); !errors.Is(err, ErrFull) {
		t.Errorf("%v, want that it is full", err)
	}
	equal(t, "messages", p.stored(t, "OBJ_payments-bodies").Msgs, 0)
	get(p.keep(t, "1-1", bytes.NewReader(noise(1<<19))))(t)
}

// TestBodyWithoutServer: while nobody answers, a body is tried on until its context ends.
func TestBodyWithoutServer(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	ctx, cancel := context.WithCancel(within(t))
	reads := 0
	stop := readerFunc(func(b []byte) (int, error) {
		if reads++; reads == 3 {
			p.nc.Close()
			cancel()
		}
		return len(b), nil
	})
	if _, err := p.KeepBody(ctx, bodyOwner, "1-0", job.Answer{}, stop); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestBodyExpires: after its time a body is gone.
func TestBodyExpires(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{KeepBodies: time.Second})
	get(p.keep(t, "1-0", bytes.NewReader(noise(2*bodyChunk))))(t)
	for ctx := within(t); ; {
		_, _, err := p.ReadBody(ctx, bodyOwner, "1-0", 0, 1)
		if errors.Is(err, ErrNone) {
			return
		}
		ok(t, err)
	}
}

// TestBodyRemoved: an object that somebody deleted or put there is no body.
func TestBodyRemoved(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	get(p.keep(t, "1-0", strings.NewReader("x")))(t)
	store := get(p.js.ObjectStore(within(t), "payments-bodies"))(t)
	ok(t, store.Delete(within(t), "a/b=1.1-0"))
	get(store.PutString(within(t), "a/b=1.1-1", "not ours"))(t)
	for _, call := range []string{"1-0", "1-1"} {
		if _, _, err := p.ReadBody(within(t), bodyOwner, call, 0, 1); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", call, err)
		}
	}
	if _, err := p.keep(t, "1-1", strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), "that no worker made: remove it") {
		t.Errorf("%v", err)
	}
}

// TestBodiesFit: a bucket that would lose bodies before their time, or never lose them, is refused.
func TestBodiesFit(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	js := get(jetstream.New(nc))(t)
	for pool, test := range map[string]struct {
		change func(*jetstream.StreamConfig)
		want   string
	}{
		"old":     {func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discards old"},
		"forever": {func(c *jetstream.StreamConfig) { c.MaxAge = 0 }, "has no max_age"},
		"endless": {func(c *jetstream.StreamConfig) { c.MaxBytes = -1 }, "has no max_bytes"},
	} {
		c := bodies(pool, Options{MaxBytes: 1 << 20}.withDefaults())
		test.change(&c)
		get(js.CreateStream(within(t), c))(t)
		if _, err := Ensure(within(t), nc, pool, Options{MaxBytes: 1 << 20}); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", pool, err)
		}
	}
}
