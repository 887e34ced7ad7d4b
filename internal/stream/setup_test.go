package stream

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

func TestEnsureMakesEverything(t *testing.T) {
	t.Parallel()
	before := time.Now().UnixMicro()
	p := newPool(t, Options{MaxBytes: 1 << 20})
	for _, test := range []struct {
		stream, subjects string
		retention        jetstream.RetentionPolicy
		schedules        bool
	}{
		{"JOBS_payments", "payments.*", jetstream.WorkQueuePolicy, false},
		{"CALLS_payments", "payments.*.call.* payments.*.retry.* payments.*.sent.*", jetstream.WorkQueuePolicy, true},
		{"DEAD_payments", "payments.*.dead.*", jetstream.LimitsPolicy, false},
		{"KV_payments", "$KV.payments.>", jetstream.LimitsPolicy, false},
		{"OBJ_payments-bodies", "$O.payments-bodies.C.> $O.payments-bodies.M.>", jetstream.LimitsPolicy, false},
	} {
		s := get(p.js.Stream(within(t), test.stream))(t)
		c := s.CachedInfo().Config
		equal(t, test.stream+" subjects", strings.Join(c.Subjects, " "), test.subjects)
		equal(t, test.stream+" retention", c.Retention, test.retention)
		if test.schedules { // the server refuses discard new there
			equal(t, test.stream+" bound", c.Metadata[callsBound], "1048576")
		} else {
			equal(t, test.stream+" discard", c.Discard, jetstream.DiscardNew)
			want := int64(1 << 20)
			if test.stream == "KV_payments" {
				want *= bucketShare
			}
			equal(t, test.stream+" max_bytes", c.MaxBytes, want)
		}
		equal(t, test.stream+" storage", c.Storage, jetstream.FileStorage)
		equal(t, test.stream+" direct", c.AllowDirect, true)
		equal(t, test.stream+" schedules", c.AllowMsgSchedules, test.schedules)
		// Rule 2: jobs and calls streams begin at the time in microseconds.
		if test.retention == jetstream.WorkQueuePolicy && (c.FirstSeq < uint64(before) || c.FirstSeq > uint64(time.Now().UnixMicro())) {
			t.Errorf("%s: first_seq is %d, want the time, some %d", test.stream, c.FirstSeq, before)
		}
	}
	c := get(p.js.Consumer(within(t), "JOBS_payments", "workers"))(t).CachedInfo().Config
	// Rule 9: the consumer has no max_deliver.
	equal(t, "max_deliver", c.MaxDeliver, -1)
	equal(t, "ack wait", c.AckWait, 5*time.Second)
	equal(t, "max_ack_pending", c.MaxAckPending, -1)
}

// A calls stream that was made by a version which knew fewer subjects gets the others, and keeps what it holds.
func TestEnsureAddsSubjects(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{MaxBytes: 1 << 20})
	s := get(p.js.Stream(within(t), "CALLS_payments"))(t)
	old := s.CachedInfo().Config
	old.Subjects = []string{"payments.*.call.*", "payments.*.retry.*"}
	get(p.js.UpdateStream(within(t), old))(t)
	if err := p.Publish(within(t), job.Message{Subject: "payments.a.call.x"}); err != nil {
		t.Fatal(err)
	}
	get(Ensure(within(t), p.nc, "payments", Options{}))(t)
	now := get(p.js.Stream(within(t), "CALLS_payments"))(t).CachedInfo()
	equal(t, "subjects", strings.Join(now.Config.Subjects, " "), "payments.*.call.* payments.*.retry.* payments.*.sent.*")
	equal(t, "first_seq", now.Config.FirstSeq, old.FirstSeq)
	equal(t, "messages", now.State.Msgs, 1)
	old.Subjects = []string{"payments.*.retry.*", "payments.*.call.*"}
	get(p.js.UpdateStream(within(t), old))(t)
	if _, err := Ensure(within(t), p.nc, "payments", Options{}); !errors.Is(err, ErrUnfit) {
		t.Errorf("other subjects: got %v", err)
	}
}

// Rule 2: a stream keeps the first_seq that it was made with, however many workers start.
func TestEnsureAgainAndAtOnce(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	ctx := within(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := Ensure(ctx, nc, "payments", Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	p := get(Ensure(ctx, nc, "payments", Options{}))(t)
	first := p.stored(t, "JOBS_payments").FirstSeq
	seq := p.put(t, "a", "x", nil)
	p = get(Ensure(ctx, nc, "payments", Options{MaxBytes: 5}))(t)
	equal(t, "first_seq", p.stored(t, "JOBS_payments").FirstSeq, first)
	equal(t, "the first job", seq, first)
	equal(t, "max_bytes of streams that exist", get(p.js.Stream(ctx, "JOBS_payments"))(t).CachedInfo().Config.MaxBytes, 1<<30)
}

func TestEnsureRefusesUnfitStreams(t *testing.T) {
	t.Parallel()
	const change = ". Change it with `nats stream edit`, or use another pool name"
	for _, test := range []struct {
		name   string
		which  int // of Pool.streams
		change func(*jetstream.StreamConfig)
		want   string
	}{
		{"retention", 0, func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy },
			"stream JOBS_payments does not fit: its retention is Limits, want workqueue" + change},
		{"schedules", 0, func(c *jetstream.StreamConfig) { c.AllowMsgSchedules, c.Discard = true, jetstream.DiscardOld },
			"stream JOBS_payments does not fit: it allows schedules, TTL, roll-up or batches: by headers alone, whoever may publish jobs could then do more than that" + change},
		{"batches", 0, func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = true },
			"stream JOBS_payments does not fit: it allows schedules, TTL, roll-up or batches: by headers alone, whoever may publish jobs could then do more than that" + change},
		{"fast batches", 0, func(c *jetstream.StreamConfig) { c.AllowBatchPublish = true },
			"stream JOBS_payments does not fit: it allows fast batches (allow_batched): their one ack may count jobs that the stream never got, " +
				"and a job counts as accepted once it is acked" + change},
		{"first_seq", 0, func(c *jetstream.StreamConfig) { c.FirstSeq = 5 },
			"stream JOBS_payments does not fit: its first_seq is 5, want the time in microseconds (above 10^15): sequences must never repeat when a stream is made again" + change},
		{"no first_seq", 1, func(c *jetstream.StreamConfig) { c.FirstSeq = 0 },
			"stream CALLS_payments does not fit: its first_seq is 0, want the time in microseconds (above 10^15): sequences must never repeat when a stream is made again" + change},
		{"discard", 0, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
			"stream JOBS_payments does not fit: it discards old messages when full, want discard new" + change},
		{"no bound", 0, func(c *jetstream.StreamConfig) { c.MaxBytes = -1 },
			"stream JOBS_payments does not fit: " + noBound + change},
		{"subjects", 0, func(c *jetstream.StreamConfig) { c.Subjects = []string{"payments.*", "other"} },
			`stream JOBS_payments does not fit: its subjects are ["payments.*" "other"], want ["payments.*"]` + change},
		{"direct", 0, func(c *jetstream.StreamConfig) { c.AllowDirect = false }, "stream JOBS_payments does not fit: it does not allow direct gets" + change},
		{"an age that drops jobs", 0, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
			"stream JOBS_payments does not fit: its max_age is 1h0m0s, and drops jobs that wait for longer: what was accepted must stay" + change},
		{"a limit that drops jobs", 0, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
			"stream JOBS_payments does not fit: it keeps 1 messages a subject and drops the oldest: what was accepted must stay (with discard_new_per_subject it refuses instead)" + change},
		{"small answers", 0, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 },
			"stream JOBS_payments does not fit: its max_msg_size is 1000, want 524288 or more: answers and calls of that size are ours, and would be refused for good" + change},
		{"small calls", 1, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 },
			"stream CALLS_payments does not fit: its max_msg_size is 1000, want 524288 or more: answers and calls of that size are ours, and would be refused for good" + change},
		{"a limit that drops calls", 1, func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 },
			"stream CALLS_payments does not fit: it has a limit, and would drop old calls when it is reached; workers keep it below thence_max_bytes in its metadata instead" + change},
		{"no schedules", 1, func(c *jetstream.StreamConfig) { c.AllowMsgSchedules = false },
			"stream CALLS_payments does not fit: it does not allow message schedules, which retries wait on" + change},
		{"dead letters", 2, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 2 },
			"stream DEAD_payments does not fit: it keeps 2 messages a subject, want 1" + change},
		{"dead letters that go when it is full", 2, func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
			"stream DEAD_payments does not fit: it discards old letters when full, want discard new: a job that fails would take another's letter away" + change},
		{"dead letters' retention", 2, func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
			"stream DEAD_payments does not fit: its retention is WorkQueue, want limits" + change},
	} {
		t.Run(test.name, func(t *testing.T) {
			nc := connect(t)
			p := get(Open(nc, "payments"))(t)
			config := p.streams(Options{}.withDefaults())[test.which].config
			test.change(&config)
			get(p.js.CreateStream(within(t), config))(t)
			refused(t, p, test.want)
		})
	}
}

// A bound of jobs a context that refuses new ones takes nothing away.
func TestEnsureTakesBoundOfContexts(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	config := get(p.js.Stream(within(t), "JOBS_payments"))(t).CachedInfo().Config
	config.MaxMsgsPerSubject, config.DiscardNewPerSubject = 1, true
	get(p.js.UpdateStream(within(t), config))(t)
	get(Ensure(within(t), p.nc, "payments", Options{}))(t)
	m := job.Message{Subject: "payments.cus_42", Data: []byte("x := 1")}
	ok(t, p.Publish(within(t), m))
	var no *Refusal
	if err := p.Publish(within(t), m); !errors.As(err, &no) {
		t.Errorf("got %v, want a refusal", err)
	}
}

// A stream of counters refuses all that is published there, and can't be made another.
func TestEnsureRefusesCounters(t *testing.T) {
	t.Parallel()
	contexts := jetstream.StreamConfig{
		Name: "KV_payments", Subjects: []string{"$KV.payments.>"}, MaxMsgsPerSubject: history, MaxBytes: 1 << 20, AllowDirect: true, DenyDelete: true, AllowRollup: true,
	}
	_, _, dead := Streams("payments", Options{MaxBytes: 1 << 20})
	for _, config := range []jetstream.StreamConfig{dead, Rates("payments", Options{}), contexts} {
		t.Run(config.Name, func(t *testing.T) {
			p := get(Open(connect(t), "payments"))(t)
			config.AllowMsgCounter, config.Discard = true, jetstream.DiscardOld // the server has it only so
			get(p.js.CreateStream(within(t), config))(t)
			refused(t, p, "stream "+config.Name+" does not fit: it takes nothing but increments of counters (allow_msg_counter), and no edit changes that. "+
				"Remove it with `nats stream rm "+config.Name+"`, or use another pool name")
			if err := p.Publish(within(t), job.Message{Subject: strings.NewReplacer("*", "a", ">", "a").Replace(config.Subjects[0])}); err == nil {
				t.Error("it takes what is no increment")
			}
			config.AllowMsgCounter = false
			if _, err := p.js.UpdateStream(within(t), config); err == nil {
				t.Error("an edit changes that")
			}
		})
	}
}

func refused(t *testing.T, p *Pool, want string) {
	t.Helper()
	_, err := Ensure(within(t), p.nc, p.Name, Options{})
	if !errors.Is(err, ErrUnfit) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestEnsureRefusesUnfitBuckets(t *testing.T) {
	t.Parallel()
	const change = ". Change its stream KV_payments with `nats stream edit`, or use another pool name"
	for _, test := range []struct {
		name   string
		config jetstream.KeyValueConfig
		want   string
	}{
		{"TTL", jetstream.KeyValueConfig{TTL: time.Hour, History: 64, MaxBytes: 1 << 20}, "its values expire after 1h0m0s, and a context must not"},
		{"history", jetstream.KeyValueConfig{MaxBytes: 1 << 20}, "its history is 1, want 64: it is the contexts' timeline, in which callers look for reports"},
		{"no bound", jetstream.KeyValueConfig{History: 64}, noBound},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := get(Open(connect(t), "payments"))(t)
			test.config.Bucket = "payments"
			get(p.js.CreateKeyValue(within(t), test.config))(t)
			refused(t, p, "bucket payments does not fit: "+test.want+change)
		})
	}
}

// Rule 9: max_deliver strands messages on a work queue.
func TestEnsureRefusesUnfitConsumers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config jetstream.ConsumerConfig
		want   string
	}{
		"max_deliver": {jetstream.ConsumerConfig{MaxDeliver: 5}, "its max_deliver is 5, which strands messages on a work queue; want none"},
		"filter":      {jetstream.ConsumerConfig{FilterSubject: "payments.a"}, `its filter is "payments.a", want ""`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, Options{})
			ok(t, p.js.DeleteConsumer(within(t), "JOBS_payments", "workers"))
			test.config.Durable, test.config.AckPolicy = "workers", jetstream.AckExplicitPolicy
			get(p.js.CreateConsumer(within(t), "JOBS_payments", test.config))(t)
			refused(t, p, "consumer workers of stream JOBS_payments does not fit: "+test.want)
		})
	}
	t.Run("tuned", func(t *testing.T) {
		p := newPool(t, Options{})
		tuned := jetstream.ConsumerConfig{Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute, MaxAckPending: 10}
		get(p.js.UpdateConsumer(within(t), "JOBS_payments", tuned))(t)
		get(Ensure(within(t), p.nc, "payments", Options{}))(t)
		d := get(p.Jobs(within(t), 1))(t)
		defer d.close(t)
		equal(t, "ack wait", d.AckWait(), time.Minute)
	})
}

func TestEnsureExplains(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	if _, err := Ensure(within(t), nc, "a.b", Options{}); err == nil || err.Error() != `worker pool "a.b": a name is 1 to 32 of a-z A-Z 0-9 _ -` {
		t.Errorf("got %v", err)
	}
	_, err := Ensure(within(t), nc, "payments", Options{MaxBytes: 1 << 60})
	if err == nil || !strings.HasPrefix(err.Error(), "stream JOBS_payments: the server has no room for its max_bytes: ") {
		t.Errorf("got %v", err)
	}
	p := get(Open(nc, "payments"))(t)
	get(p.js.CreateStream(within(t), jetstream.StreamConfig{Name: "all", Subjects: []string{"payments.>"}}))(t)
	_, err = Ensure(within(t), nc, "payments", Options{})
	if err == nil || !strings.HasPrefix(err.Error(), "stream JOBS_payments: another stream takes its subjects: ") {
		t.Errorf("got %v", err)
	}
}

func TestCheckServer(t *testing.T) {
	for _, version := range []string{"2.15.2", "2.15.10", "2.16.0", "3.0.0", "v2.15.2", "2.15.3-RC.1"} {
		if err := checkServer(version); err != nil {
			t.Errorf("%s: %v", version, err)
		}
	}
	for _, version := range []string{"2.15.1", "2.9.25", "1.99.99", "2.14", "unknown"} {
		want := "nats-server " + version + " does not fit: Thence needs 2.15.2 or newer (work queues, schedules and syncs of older ones lose messages)"
		if err := checkServer(version); !errors.Is(err, ErrUnfit) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if err := checkServer(""); err == nil || errors.Is(err, ErrUnfit) {
		t.Errorf("without a server: %v", err)
	}
}

// Rule 5: the installation has one key, made by the first worker.
func TestKeysAreMadeOnce(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	ctx := within(t)
	rings := make([]job.Keyring, 8)
	var all sync.WaitGroup
	for i := range rings {
		all.Go(func() {
			p, err := Open(nc, "payments")
			if err == nil {
				rings[i], err = p.Keys(ctx, Options{})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	var m job.Message
	rings[0].Sign(&m)
	for _, ring := range rings {
		equal(t, "signing key", ring.Signing(), rings[0].Signing())
		ok(t, ring.Verify(m))
	}
	p := get(Open(nc, "other"))(t)
	equal(t, "another pool's", get(p.Keys(ctx, Options{}))(t).Signing(), rings[0].Signing())

	kv := get(p.js.KeyValue(ctx, job.KeysBucket))(t)
	get(kv.Put(ctx, "keys", []byte("[]")))(t)
	if _, err := p.Keys(ctx, Options{}); err == nil || err.Error() != "bucket thence-keys, key keys: no key in the keyring" {
		t.Errorf("got %v", err)
	}
}
