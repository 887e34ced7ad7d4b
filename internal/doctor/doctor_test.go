package doctor

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/worker"
)

// A pool with a worker that has done jobs is well, all of it.
func TestHealthy(t *testing.T) {
	b := newBed(t)
	library, err := scripting.NewLibrary(fstest.MapFS{})
	must(t, err)
	w, err := worker.New(worker.Config{Conn: b.nc, Pool: "p", Library: library, Runner: scripting.NewEngine(library), Logger: slog.New(slog.DiscardHandler), Grace: time.Second})
	must(t, err)
	ctx, cancel := context.WithCancel(b.ctx())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	defer func() {
		cancel()
		must(t, <-ended)
	}()
	seq := b.put("c", `import("context").set("n", 1)`)
	must(t, b.pool.Watch(b.ctx(), "c", func(e stream.Entry) bool {
		c, err := job.DecodeCommit(e.Data)
		return err != nil || c.Applied < seq
	}))
	var checks []string
	for _, f := range b.examine() {
		if checks = append(checks, f.Check); f.Level != OK {
			t.Errorf("%+v", f)
		}
	}
	want := []string{
		"server", "clock", "jetstream", "payload", "sync", "pools", "permissions", "streams", "consumers", "replicas", "room", "workers", "sequences",
		"keys", "contexts", "ahead", "stuck", "calls", "dead letters",
	}
	if !slices.Equal(checks, want) {
		t.Errorf("checks: %v, want %v", checks, want)
	}
}

// Each problem is set up on a server, and named.
func TestProblems(t *testing.T) {
	for name, test := range map[string]struct {
		check string
		level Level
		text  string
		harm  func(*bed)
	}{
		"a server that syncs now and then": {"sync", Warning, "server n syncs its files every 2m0s", func(b *bed) {
			b.o.Monitor = monitor(b.T, `{"server_name":"n","jetstream":{"config":{"sync_interval":120000000000}}}`)
		}},
		"no monitor":    {"sync", Unknown, "no client is told", func(b *bed) { b.o.Monitor = "" }},
		"not a monitor": {"sync", Unknown, "is no /varz of a nats-server", func(b *bed) { b.o.Monitor = monitor(b.T, `{}`) }},
		"no such pool":  {"streams", Problem, "there is no worker pool named q", func(b *bed) { b.o.Pools = []string{"q"} }},
		"no pool at all": {"pools", Warning, "there is no worker pool on this server", func(b *bed) {
			must(b.T, b.js.DeleteStream(b.ctx(), "JOBS_p"))
		}},
		"a stream is missing": {"streams", Problem, "DEAD_p is missing", func(b *bed) { must(b.T, b.js.DeleteStream(b.ctx(), "DEAD_p")) }},
		"a stream is unfit": {"streams", Problem, "DEAD_p: it keeps 2 messages a subject, want 1", func(b *bed) {
			b.edit("DEAD_p", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 2 })
		}},
		"a sealed stream": {"streams", Problem, "DEAD_p: it is sealed", func(b *bed) {
			b.edit("DEAD_p", func(c *jetstream.StreamConfig) { c.Sealed = true })
		}},
		"contexts that expire": {"streams", Problem, "KV_p: its values expire after 1h0m0s", func(b *bed) {
			b.edit("KV_p", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })
		}},
		"no bound": {"room", Problem, "DEAD_p has no bound", func(b *bed) {
			b.edit("DEAD_p", func(c *jetstream.StreamConfig) { c.MaxBytes = -1 })
		}},
		"a consumer is unfit": {"consumers", Problem, "consumer workers of JOBS_p: its max_deliver is 5", func(b *bed) {
			c, err := b.js.Consumer(b.ctx(), "JOBS_p", "workers")
			must(b.T, err)
			config := c.CachedInfo().Config
			config.MaxDeliver = 5
			_, err = b.js.UpdateConsumer(b.ctx(), "JOBS_p", config)
			must(b.T, err)
		}},
		"no consumer": {"consumers", Problem, "JOBS_p has no consumer", func(b *bed) { must(b.T, b.js.DeleteConsumer(b.ctx(), "JOBS_p", "workers")) }},
		"a stranger's consumer": {"consumers", Problem, "consumer mine of JOBS_p: Thence did not make it", func(b *bed) {
			must(b.T, b.js.DeleteConsumer(b.ctx(), "JOBS_p", "workers"))
			_, err := b.js.CreateConsumer(b.ctx(), "JOBS_p", jetstream.ConsumerConfig{Durable: "mine", AckPolicy: jetstream.AckExplicitPolicy})
			must(b.T, err)
		}},
		"a paused consumer": {"consumers", Warning, "consumer workers of JOBS_p is paused for 59m", func(b *bed) {
			_, err := b.js.PauseConsumer(b.ctx(), "JOBS_p", "workers", time.Now().Add(59*time.Minute+50*time.Second))
			must(b.T, err)
		}},
		"a stream that fills": {"room", Warning, "JOBS_p is 8", func(b *bed) {
			for range 2 {
				b.put("c", strings.Repeat("x", 430<<10))
			}
		}},
		"a disk that is promised away": {"room", Warning, "and server n has 1000 for all", func(b *bed) {
			b.o.Monitor = monitor(b.T, `{"server_name":"n","jetstream":{"config":{"sync_always":true,"max_storage":1000}}}`)
		}},
		"jobs and no worker": {"workers", Problem, "no worker takes jobs: 1 wait", func(b *bed) { b.put("c", "x := 1") }},
		"no worker":          {"workers", Warning, "no worker runs", func(*bed) {}},
		"jobs of a worker that was killed": {"workers", Problem, "no worker runs: 1 jobs are handed out to workers that are gone, and 1 more wait", func(b *bed) {
			occupy(b)
			b.put("c", "x := 1")
		}},
		"jobs that come again": {"workers", Warning, "11 of 11 jobs that are handed out were handed out before", redeliver},
		"all that may be is":   {"workers", Warning, "all 1 jobs that may be under way", occupy},
		"a stream of the future": {"sequences", Warning, "JOBS_p begins at", func(b *bed) {
			must(b.T, b.js.DeleteStream(b.ctx(), "JOBS_p"))
			jobs, _, _ := stream.Streams("p", stream.Options{})
			jobs.FirstSeq = uint64(time.Now().Add(time.Hour).UnixMicro())
			_, err := b.js.CreateStream(b.ctx(), jobs)
			must(b.T, err)
		}},
		"no keys":     {"keys", Problem, "there are no keys", func(b *bed) { must(b.T, b.js.DeleteStream(b.ctx(), "KV_thence-keys")) }},
		"broken keys": {"keys", Problem, "bucket thence-keys, key keys", func(b *bed) { b.publish("$KV.thence-keys.keys", nil, []string{}) }},
		"a paused context": {"contexts", Warning, "p.c is held since 2026-01-02T03:04:05Z by ada: wrong price", func(b *bed) {
			b.store("c", job.Commit{Held: &job.Held{Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), By: "ada", Why: "wrong price"}})
		}},
		"a context that a job holds": {"contexts", Warning, "its job order-7 failed (runtime: no)", func(b *bed) {
			b.store("c", job.Commit{Held: &job.Held{Sequence: 5, Job: "order-7", Error: &job.Error{Reason: "runtime", Message: "no"}}})
		}},
		"a job under suspicion": {"contexts", Warning, "p.c (job 5, begun 2 times)", func(b *bed) {
			b.store("c", job.Commit{Tries: &job.Tries{Sequence: 5, Count: 2}})
		}},
		"a context of another version": {"contexts", Problem, "p.c (the context's value has version 99", func(b *bed) {
			b.publish("$KV.p.c", nil, map[string]any{"v": 99})
		}},
		"a context ahead of its stream": {"ahead", Problem, "context p.c has applied job 9000000000000000000", func(b *bed) {
			b.store("c", job.Commit{Applied: 9e18})
		}},
		"a context that stands still": {"stuck", Problem, "p.c (1 jobs)", func(b *bed) { b.o.Stuck = 1; b.put("c", "x := 1") }},
		"an outbox that is not sent": {"stuck", Problem, "what it asked for may not be on its way: p.c", func(b *bed) {
			b.o.Stuck = 1
			b.store("c", job.Commit{Applied: b.put("c", "x := 1"), Outbox: []job.Effect{{Kind: job.EffectDead}}})
		}},
		"a call that nobody waits for": {"calls", Warning, "that no context waits for: p.c 12-0", func(b *bed) {
			b.o.Stuck = 1
			b.store("c", job.Commit{})
			b.publish("p.c.call.default", nil, job.Call{ID: "12-0"})
		}},
		"a call that waits": {"calls", Warning, "1 calls wait or are under way, the oldest for", func(b *bed) {
			b.o.Stuck = 1
			b.open("12-0")
			b.publish("p.c.call.default", nil, job.Call{ID: "12-0"})
		}},
		"a call that is lost": {"calls", Problem, "not on their way: p.c 12-0 (default)", func(b *bed) { b.o.Stuck = 1; b.open("12-0") }},
		"dead letters": {"dead letters", Warning, "3: 2 runtime, 1 compile; 1 hold their context", func(b *bed) {
			for i, reason := range []string{"runtime", "compile", "runtime"} {
				b.publish("p.c.dead."+string(rune('1'+i)), nil, job.DeadLetter{Error: job.Error{Reason: reason}, Held: i == 0})
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			test.harm(b)
			b.finds(test.check, test.level, test.text)
		})
	}
}

// A held context is said with the command that lets it go on.
func TestHeldContextsSayWhatToDo(t *testing.T) {
	b := newBed(t)
	b.store("a", job.Commit{Held: &job.Held{By: "ada"}})
	b.store("b", job.Commit{Held: &job.Held{Sequence: 5, Job: "order-7", Error: &job.Error{Reason: "runtime", Message: "no"}}})
	var have []string
	for _, f := range b.examine() {
		if f.Check == "contexts" {
			have = append(have, f.Do)
		}
	}
	want := []string{
		"thence context resume p.a, when what it was paused for is over",
		"thence dead show p.b.5; then thence dead retry p.b.5, or thence dead drop p.b.5 to go on without the job",
	}
	if !slices.Equal(have, want) {
		t.Errorf("got %q, want %q", have, want)
	}
}

// Who may not ask workers does not say that one is there.
func TestWorkersThatCanNotBeAsked(t *testing.T) {
	t.Parallel()
	p := &patient{examination: &examination{}, name: "p"}
	jobs := stream.Part{Name: "JOBS_p"}
	for there, want := range map[presence]Level{unsure: Unknown, nobody: Problem} {
		have := p.fare(jobs, stream.Consumer{Name: "workers", AckPending: 3, MaxPending: -1}, there)
		if len(have) != 1 || have[0].Level != want {
			t.Errorf("got %+v, want one of level %s", have, want)
		}
	}
	if have := p.fare(jobs, stream.Consumer{Name: "workers", AckPending: 3, MaxPending: -1}, somebody); len(have) > 0 {
		t.Errorf("got %+v of workers that are busy", have)
	}
}

// Calls of a service that no worker has declared wait, however many workers run.
func TestServiceThatNoWorkerHas(t *testing.T) {
	b := newBed(t)
	must(t, b.pool.LimitCalls(b.ctx(), "acme", 3))
	b.publish("p.c.call.acme", nil, job.Call{ID: "12-0"})
	for _, f := range b.examine() {
		if strings.HasPrefix(f.Found, "no worker takes calls of acme: 1 wait") {
			if f.Level != Problem || !strings.Contains(f.Do, "with acme in its --services file") {
				t.Errorf("got %+v", f)
			}
			return
		}
	}
	t.Error("it is not found")
}

// open is a context that waits for a call.
func (b *bed) open(id string) {
	b.Helper()
	b.store("c", job.Commit{Calls: map[string]job.OpenCall{id: {Service: "default"}}})
}

// redeliver hands jobs out twice.
func redeliver(b *bed) {
	for range 11 {
		b.put("c", "x := 1")
	}
	c, err := b.js.Consumer(b.ctx(), "JOBS_p", "workers")
	must(b.T, err)
	for again := range 2 {
		batch, err := c.Fetch(11)
		must(b.T, err)
		for m := range batch.Messages() {
			if again == 0 {
				must(b.T, m.Nak())
			}
		}
		must(b.T, batch.Error())
	}
}

// occupy hands out as many jobs as may be.
func occupy(b *bed) {
	c, err := b.js.Consumer(b.ctx(), "JOBS_p", "workers")
	must(b.T, err)
	config := c.CachedInfo().Config
	config.MaxAckPending = 1
	c, err = b.js.UpdateConsumer(b.ctx(), "JOBS_p", config)
	must(b.T, err)
	b.put("c", "x := 1")
	batch, err := c.Fetch(1)
	must(b.T, err)
	for m := range batch.Messages() {
		_ = m
	}
	must(b.T, batch.Error())
}

// What is on its way is not lost, wherever it stands.
func TestCallsUnderWay(t *testing.T) {
	for name, stand := range map[string]func(*bed){
		"a call": func(b *bed) { b.publish("p.c.call.default", nil, job.Call{ID: "12-0"}) },
		"a timer": func(b *bed) {
			b.publish("p.c.retry.12-0", map[string][]string{
				"Nats-Schedule": {"@at " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}, "Nats-Schedule-Target": {"p.c.call.default"},
			}, job.Call{ID: "12-0"})
		},
		"an answer": func(b *bed) {
			b.publish("p.c", map[string][]string{job.HeaderCall: {"12-0"}, job.HeaderType: {job.TypeAnswer}}, job.Answer{Status: 200})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.wait()
			b.open("12-0")
			stand(b)
			b.o.Stuck = time.Nanosecond
			for _, f := range b.examine() {
				if f.Check == "calls" && f.Level == Problem {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// A sample is looked at, and said to be one.
func TestSample(t *testing.T) {
	b := newBed(t)
	for _, name := range []string{"a", "b", "c"} {
		b.store(name, job.Commit{})
	}
	b.o.Sample = 2
	b.finds("contexts", OK, "2 or more (--sample), none of them held")
	b.o.Sample = -1
	b.finds("contexts", OK, "3, none of them held")
}

// An examination that is interrupted says so, and does not say that all is well.
func TestInterrupted(t *testing.T) {
	b := newBed(t)
	heard := 0
	b.nc.SetErrorHandler(func(*nats.Conn, *nats.Subscription, error) { heard++ })
	ctx, cancel := context.WithCancel(b.ctx())
	cancel()
	if err := Examine(ctx, b.nc, b.o, func(Finding) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	b.nc.ErrorHandler()(b.nc, nil, nats.ErrSlowConsumer)
	if heard != 1 {
		t.Error("the connection's error handler is not given back")
	}
}
