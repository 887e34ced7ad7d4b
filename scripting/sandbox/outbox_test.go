package sandbox

import (
	"bytes"
	"io"
	"os"
	"sync"
	"testing"
)

// TestOutbox writes much from many sides to a pipe that is read slowly: all of it arrives, each frame in one piece.
func TestOutbox(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var o outbox
	o.open(w)
	var wg sync.WaitGroup
	const writers, frames, size = 8, 50, 10_000
	for i := range writers {
		wg.Go(func() {
			for range frames {
				_ = o.add(true, func(b []byte) ([]byte, error) { return append(b, bytes.Repeat([]byte{byte(i)}, size)...), nil })
				o.flush()
			}
		})
	}
	got := make([]byte, writers*frames*size)
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatal(err)
	}
	for i := range len(got) / size {
		if frame := got[i*size : (i+1)*size]; !bytes.Equal(frame, bytes.Repeat(frame[:1], size)) {
			t.Fatal("a frame is in pieces")
		}
	}
	wg.Wait()
	o.close()
	w.Close()
}

// TestOutboxCloses while a write waits and others flush: after close nobody writes.
func TestOutboxCloses(t *testing.T) {
	for range 20 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		var o outbox
		o.open(w)
		add := func(size int) {
			_ = o.add(false, func(b []byte) ([]byte, error) { return append(b, make([]byte, size)...), nil })
			o.flush()
		}
		add(1 << 20) // more than a pipe takes
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 10 {
					add(40_000)
				}
			})
		}
		wg.Go(func() { r.Close() })
		o.close()
		if o.mu.Lock(); o.writing || o.take() != nil {
			t.Error("somebody writes after close")
		}
		o.mu.Unlock()
		w.Close()
		wg.Wait()
	}
}
