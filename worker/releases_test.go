package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
)

// heard is a logger that tells of the releases that a worker turns to.
type heard struct {
	slog.Handler
	turned chan string
}

func hearing() heard { return heard{slog.DiscardHandler, make(chan string, 16)} }

func (h heard) Enabled(context.Context, slog.Level) bool { return true }
func (h heard) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h heard) WithGroup(string) slog.Handler            { return h }
func (h heard) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "the pool's release has changed" {
		return nil
	}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "release" {
			h.turned <- a.Value.String()
		}
		return true
	})
	return nil
}

func (h heard) await(t *testing.T, release string) {
	t.Helper()
	for end := time.After(30 * time.Second); ; {
		select {
		case got := <-h.turned:
			if got == release {
				return
			}
		case <-end:
			t.Fatalf("the worker did not turn to release %s", release)
		}
	}
}

// push makes a library the pool's current release.
func (b *bed) push(l *scripting.Library) {
	b.t.Helper()
	ctx := within(b.t, 20*time.Second)
	if err := b.pool.StoreRelease(ctx, ReleaseOf(l)); err != nil {
		b.t.Fatal(err)
	}
	now, err := b.pool.CurrentRelease(ctx)
	if err != nil && !errors.Is(err, stream.ErrNoRelease) {
		b.t.Fatal(err)
	}
	if _, err := b.pool.TurnRelease(ctx, stream.Turn{Name: l.Release(), By: "test"}, now.Revision); err != nil {
		b.t.Fatal(err)
	}
}

// flow is a library whose scripts say which version they are of. A flow asks the API, and its answer asks once more,
// and dispatches a job to its own context and one to another.
func flow(t *testing.T, url string, version int) *scripting.Library {
	t.Helper()
	trail := fmt.Sprintf(`
context := import("context")
context.set("trail", append(context.get("trail", []), import("job").script + " %d"))
`, version)
	return library(t, map[string]string{
		"begin":  trail + fmt.Sprintf("import(\"http\").get(%q, {then: \"middle\"})", url),
		"middle": trail + fmt.Sprintf("flow := import(\"flow\")\nflow.dispatch({script: \"own\"})\nflow.dispatch({context: \"other\", script: \"own\"})\nimport(\"http\").get(%q, {then: \"end\"})", url),
		"own":    trail,
		"end":    trail,
	})
}

// TestFlowKeepsItsRelease pushes a release while a flow waits for an API. The flow goes on with its own, to its end; what
// begins afterwards, or elsewhere, begins on the new one.
func TestFlowKeepsItsRelease(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	asked, answer := make(chan struct{}, 8), make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-answer
	}))
	defer api.Close()
	let := sync.OnceFunc(func() { close(answer) })
	defer let()
	one, two := flow(t, api.URL, 1), flow(t, api.URL, 2)
	h := hearing()
	c := b.config(nil)
	c.Library, c.Runner, c.Logger = one, scripting.NewEngine(nil), slog.New(h)
	c.Services = []Service{{Name: "local", URL: api.URL, AllowPrivate: true}}
	defer b.working(c)()
	b.publish("p.c", "", job.HeaderScript, "begin")
	<-asked
	b.push(two)
	h.await(t, two.Release())
	let()
	done := b.awaitCommit("c", func(c job.Commit) bool {
		return strings.Count(string(c.State), " 1") == 4 || strings.Contains(string(c.State), " 2")
	})
	for _, want := range []string{"begin 1", "middle 1", "own 1", "end 1"} {
		contains(t, "the flow", string(done.State), want)
	}
	equal(t, "the release of its last job", done.Report.Release, one.Release())
	elsewhere := b.awaitCommit("other", func(job.Commit) bool { return true })
	equal(t, "the release of what it began elsewhere", elsewhere.Report.Release, two.Release())
	after := b.await("c", b.publish("p.c", "", job.HeaderScript, "own"))
	contains(t, "what a caller publishes now", string(after.State), "own 2")
}

// TestHeldJobIsMendedByAPush: a job that failed and holds its context runs on what was pushed meanwhile, though it
// answers a call of a flow that began before.
func TestHeldJobIsMendedByAPush(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	api := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer api.Close()
	scripts := map[string]string{"begin": fmt.Sprintf("import(\"http\").get(%q, {then: \"end\"})", api.URL), "end": "undefined.x()"}
	h := hearing()
	c := b.config(scripts)
	c.Logger, c.HoldOn = slog.New(h), []string{"end"}
	c.Services = []Service{{Name: "local", URL: api.URL, AllowPrivate: true}}
	defer b.working(c)()
	b.publish("p.c", "", job.HeaderScript, "begin")
	held := b.awaitCommit("c", func(c job.Commit) bool { return c.Held != nil })
	equal(t, "the job that may run on another release", held.Renewed, held.Held.Sequence)
	scripts["end"] = "import(\"context\").set(\"mended\", true)"
	mended := library(t, scripts)
	b.push(mended)
	h.await(t, mended.Release())
	b.decide(resume)
	done := b.awaitCommit("c", func(c job.Commit) bool { return c.Applied == held.Renewed })
	equal(t, "its end", done.Report.Outcome+" "+done.Report.Release, job.OutcomeDone+" "+mended.Release())
	equal(t, "the next job", done.Renewed, 0)
}

// TestReleaseIsMissing: a flow whose release is not there is never run on another. Its job is a dead letter that says
// what is missing, and its error script is told.
func TestReleaseIsMissing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	gone := "0123456789ab"
	b.open1(t, job.OpenCall{Service: "default", Then: "end", Parent: "x", Release: gone})
	defer b.working(b.config(map[string]string{"end": "print(1)"}))()
	answer, err := b.keys.AnswerMessage(job.Address{Pool: "p", Context: "c"}, "default", "5-0", "", job.Answer{Status: 200, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	seq, _, err := b.pool.PublishJob(within(t, 10*time.Second), answer)
	if err != nil {
		t.Fatal(err)
	}
	done := b.await("c", seq)
	equal(t, "outcome", done.Report.Outcome, job.OutcomeDead)
	equal(t, "reason", done.Report.Error.Reason, job.ReasonNoRelease)
	contains(t, "the reason", done.Report.Error.Message, gone, "no such release")
	equal(t, "the release", done.Report.Release, gone)
	equal(t, "open calls", len(done.Calls), 0)
}

// open1 writes a context with one open call, 5-0.
func (b *bed) open1(t *testing.T, call job.OpenCall) {
	t.Helper()
	data, err := job.Encode(job.Commit{Version: job.Version, State: []byte("{}"), Calls: map[string]job.OpenCall{"5-0": call}})
	if err == nil {
		_, err = b.pool.Commit(within(t, 10*time.Second), "c", data, stream.Base{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCallersChooseNoRelease: who can't prove to be a worker can't have a job run on a release of its choice.
func TestCallersChooseNoRelease(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.config(map[string]string{"s": "print(1)"})
	defer b.working(c)()
	seq := b.publish("p.c", "", job.HeaderScript, "s", job.HeaderRelease, c.Library.Release())
	done := b.await("c", seq)
	equal(t, "outcome", done.Report.Outcome+" "+done.Report.Error.Reason, job.OutcomeDead+" "+job.ReasonForged)
}

// TestNoLibrary: a worker without scripts of its own runs what the pool has, and refuses to start where it has nothing.
func TestNoLibrary(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.config(nil)
	c.Library = nil
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(within(t, 20*time.Second)); !errors.Is(err, stream.ErrNoRelease) {
		t.Errorf("a pool without a release: %v", err)
	}
	b.push(library(t, map[string]string{"s": "print(1)"}))
	defer b.working(c)()
	equal(t, "output", b.await("c", b.publish("p.c", "", job.HeaderScript, "s")).Report.Output, "1\n")
}

// shelf is a store with one release, 1 as named has it, or an error.
type shelf struct {
	turns chan stream.Turn

	mu    sync.Mutex
	loads int
	err   error
}

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *shelf) LoadRelease(_ context.Context, name string) (stream.Release, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	return stream.Release{Name: name, Scripts: map[string]string{"s": "1"}}, s.err
}

func (s *shelf) WatchRelease(ctx context.Context, heard func(stream.Turn)) error {
	for {
		select {
		case t := <-s.turns:
			heard(t)
		case <-ctx.Done():
			return nil
		}
	}
}

// named is the name of the release whose only script is a number.
func named(i int) string {
	l := new(scripting.Library)
	l.Load(map[string]string{"s": fmt.Sprint(i)})
	return l.Release()
}

// TestReleasesAreKept: of the releases that jobs need beside the current one the last few are kept, and none is read
// twice while it is.
func TestReleasesAreKept(t *testing.T) {
	r := newReleases(&shelf{}, quiet(), func(*scripting.Library) error { return nil }, library(t, nil))
	keep := func(name string) {
		l := new(scripting.Library)
		l.Load(map[string]string{"s": name})
		r.keep(l)
	}
	for i := range keptReleases + 1 {
		keep(fmt.Sprint(i))
	}
	for i := 1; i <= keptReleases; i++ {
		if l := r.find(named(i)); l == nil {
			t.Errorf("release %d of the last %d is not kept", i, keptReleases)
		}
	}
	if r.find(named(0)) != nil {
		t.Error("more are kept than should be")
	}
	r.find(named(1))
	keep("new")
	if r.find(named(1)) == nil || r.find(named(2)) != nil {
		t.Error("what was used last has gone, and not what was not")
	}
}

// TestTurn: a worker stays with the release that it has where the new one is damaged, and asks again where it could only
// not be read.
func TestTurn(t *testing.T) {
	synctest.Test(t, testTurn)
}

func testTurn(t *testing.T) {
	s, before := &shelf{}, library(t, nil)
	r := newReleases(s, quiet(), func(*scripting.Library) error { return nil }, before)
	for _, c := range []struct {
		err     error
		decided bool
	}{{stream.ErrDamaged, true}, {stream.ErrNoRelease, true}, {context.DeadlineExceeded, false}} {
		s.err = c.err
		if decided := r.turn(t.Context(), stream.Turn{Name: named(1)}); decided != c.decided || r.current.Load() != before {
			t.Errorf("%v: decided %v, want %v; the release is %s", c.err, decided, c.decided, r.current.Load().Release())
		}
	}
	s.err = nil
	r.use = func(*scripting.Library) error { return errors.New("too large") }
	if !r.turn(t.Context(), stream.Turn{Name: named(1)}) || r.current.Load() != before {
		t.Error("it waits for a release that its runner can't take, or says that it runs it")
	}
	r.use = func(*scripting.Library) error { return nil }
	if !r.turn(t.Context(), stream.Turn{Name: named(1)}) || r.current.Load().Release() != named(1) || r.find(before.Release()) != before {
		t.Error("it did not turn, or let go of the one before")
	}
	if !r.turn(t.Context(), stream.Turn{Name: before.Release(), Revision: 5}) || !r.turn(t.Context(), stream.Turn{Name: named(1), Revision: 4}) ||
		r.current.Load() != before {
		t.Error("an earlier turn undid a later one")
	}
	looks := s.loads
	if _, err := r.of(t.Context(), named(1)); err != nil || s.loads != looks {
		t.Errorf("%v, after %d looks more", err, s.loads-looks)
	}
}

// TestDamagedReleaseIsMended: the current release is damaged when a worker hears of it, and is stored again without
// another turn.
func TestDamagedReleaseIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{err: stream.ErrDamaged, turns: make(chan stream.Turn)}
		r := newReleases(s, quiet(), func(*scripting.Library) error { return nil }, library(t, nil))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- r.follow(ctx) }()
		s.turns <- stream.Turn{Name: named(1), Revision: 1}
		_ = pause(ctx, 3*unreadPause)
		if r.current.Load().Release() == named(1) {
			t.Error("a damaged release is the current one")
		}
		s.fail(nil)
		_ = pause(ctx, 2*unreadPause)
		if r.current.Load().Release() != named(1) {
			t.Error("the release is whole again, and the worker does not know it")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
