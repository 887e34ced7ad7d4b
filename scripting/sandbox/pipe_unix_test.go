//go:build unix

package sandbox

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// TestReadWithoutSleep: who looks for an answer without sleep finds it, hears that the pipe has ended, and leaves it to the
// poller to say when its time is over, or that nobody waits any longer.
func TestReadWithoutSleep(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	r, err := newPipeReader(in)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	for name, until := range map[string]time.Time{"for as long as it takes": time.Now().Add(time.Hour), "not at all": {}} {
		r.until = until
		wrote := make(chan error, 1)
		go func() {
			_, err := out.Write([]byte("answer"))
			wrote <- err
		}()
		n, err := r.Read(b)
		if err != nil || !bytes.Equal(b[:n], []byte("answer")) {
			t.Errorf("%s: got %q, %v", name, b[:n], err)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
	}
	r.until = time.Now().Add(briefRun)
	if err := in.SetReadDeadline(time.Now().Add(briefRun / 2)); err != nil { // while it looks
		t.Fatal(err)
	}
	if _, err := r.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v of a pipe whose deadline is over", err)
	}
	if err := in.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	r.until = time.Now().Add(time.Hour)
	ended := make(chan error, 1)
	go func() { ended <- out.Close() }()
	if _, err := r.Read(b); !errors.Is(err, io.EOF) {
		t.Errorf("got %v of a pipe that has ended", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestWhoIsWaitedFor: without sleep a caller waits only for a script that is known to be quick and was so last, while nothing
// else runs, and where the program may use another core.
func TestWhoIsWaitedFor(t *testing.T) {
	quick := conduct{short: shortRuns, last: briefRun - 1}
	slowLast := conduct{short: shortRuns, last: briefRun}
	unknown := conduct{short: shortRuns - 1}
	if !quick.brief() || slowLast.brief() || unknown.brief() {
		t.Errorf("quick %v, slow the last time %v, unknown %v", quick.brief(), slowLast.brief(), unknown.brief())
	}
	own, other := &process{jobs: []*task{{}}}, &process{}
	s := &Sandbox{cores: 2, processes: []*process{own, other}}
	if !s.idleBut(own) {
		t.Error("a job that is alone is not waited for")
	}
	if s.cores = 1; s.idleBut(own) {
		t.Error("it waits on the only core")
	}
	if s.cores, other.jobs = 2, []*task{{}}; s.idleBut(own) {
		t.Error("it waits while others have jobs")
	}
}
