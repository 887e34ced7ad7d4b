package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/job"
)

func (p *Pool) commit(t *testing.T, name, data string, revision uint64) uint64 {
	t.Helper()
	return get(p.Commit(within(t), name, []byte(data), Base{Revision: revision}))(t)
}

// A commit lands only on the revision that it was made on; the first is made on none.
func TestCommit(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	ctx := within(t)
	equal(t, "no commit yet", get(p.Context(ctx, "a"))(t).Revision, 0)
	equal(t, "none by the leader", get(p.ContextFromLeader(ctx, "a"))(t).Revision, 0)
	first := p.commit(t, "a", "1", 0)
	p.commit(t, "b", "1", 0)
	second := p.commit(t, "a", "2", first)
	for _, stale := range []uint64{0, first, second + 1} {
		if _, err := p.Commit(ctx, "a", []byte("3"), Base{Revision: stale}); !errors.Is(err, ErrConflict) {
			t.Errorf("on revision %d: got %v, want ErrConflict", stale, err)
		}
	}
	direct, leader := get(p.Context(ctx, "a"))(t), get(p.ContextFromLeader(ctx, "a"))(t)
	equal(t, "revision", direct.Revision, second)
	equal(t, "data", string(direct.Data), "2")
	equal(t, "revision by the leader", leader.Revision, second)
	equal(t, "data by the leader", string(leader.Data), "2")
	equal(t, "time by the leader", leader.Time, direct.Time)

	kv := get(p.bucket(ctx))(t)
	ok(t, kv.Delete(ctx, "a"))
	for _, e := range []Entry{get(p.Context(ctx, "a"))(t), get(p.ContextFromLeader(ctx, "a"))(t)} {
		if e.Data != nil || e.Revision <= second {
			t.Errorf("a deleted context is %+v", e)
		}
	}
}

// What was read goes with the connection that it was read over: a commit on it is not written over another one.
func TestCommitOverAnotherConnection(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	ctx := within(t)
	acked := p.commit(t, "a", "1", 0)
	read := get(p.ContextFromLeader(ctx, "a"))(t)
	equal(t, "connection", read.Over, p.Connection())
	equal(t, "connection of a direct get", get(p.Context(ctx, "a"))(t).Over, p.Connection())
	back := make(chan struct{})
	p.nc.SetReconnectHandler(func(*nats.Conn) { close(back) })
	ok(t, p.nc.ForceReconnect())
	<-back
	if p.Connection() == read.Over {
		t.Errorf("the new connection has the number of the old one, %d", read.Over)
	}
	if _, err := p.Commit(ctx, "a", []byte("2"), read.Base()); !errors.Is(err, ErrConflict) {
		t.Errorf("on what was read over the old one: got %v, want ErrConflict", err)
	}
	equal(t, "revision", get(p.ContextFromLeader(ctx, "a"))(t).Revision, acked)
	second := p.commit(t, "a", "2", acked)
	read = get(p.ContextFromLeader(ctx, "a"))(t)
	equal(t, "revision", read.Revision, second)
	get(p.Commit(ctx, "a", []byte("3"), read.Base()))(t)
}

func TestOneOfManyCommitsLands(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	ctx := within(t)
	var all sync.WaitGroup
	landed := make(chan uint64, 16)
	for range 16 {
		all.Go(func() {
			revision, err := p.Commit(ctx, "a", []byte("x"), Base{})
			if err == nil {
				landed <- revision
			} else if !errors.Is(err, ErrConflict) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	equal(t, "commits that landed", len(landed), 1)
}

func TestNextJob(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	header := map[string][]string{"Nats-Msg-Id": {"order-77"}, "thence-odd": {"a", "b"}, "Thence-Script": {"s"}}
	first := p.put(t, "a", "1", header)
	p.put(t, "b", "2", nil)
	third := p.put(t, "a", "3", nil)
	reads := map[string]func(ctx context.Context, name string, from uint64) (job.Message, error){
		"direct": p.NextJob, "leader": p.NextJobFromLeader,
	}
	for kind, read := range reads {
		for from, want := range map[uint64]uint64{0: first, 1: first, first: first, first + 1: third, third: third} {
			m := get(read(within(t), "a", from))(t)
			equal(t, fmt.Sprintf("%s from %d", kind, from), m.Sequence, want)
			equal(t, kind+" subject", m.Subject, "payments.a")
			equal(t, kind+" has a time", m.Time.IsZero(), false)
		}
		m := get(read(within(t), "a", first))(t)
		equal(t, kind+" data", string(m.Data), "1")
		equal(t, kind+" headers", fmt.Sprint(m.Header), fmt.Sprint(header))
		for _, name := range []string{"a", "c"} {
			if _, err := read(within(t), name, third+1); !errors.Is(err, ErrNone) {
				t.Errorf("%s: got %v, want ErrNone", kind, err)
			}
		}
	}
	equal(t, "last job", get(p.LastJob(within(t)))(t), third)
}

func TestPublish(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{MaxBytes: 1 << 20})
	ctx := within(t)
	m := job.Message{Subject: "payments.a", Data: []byte("x"), Header: map[string][]string{"Nats-Msg-Id": {"1"}}}
	ok(t, p.Publish(ctx, m))
	ok(t, p.Publish(ctx, m)) // a repeat counts as success
	equal(t, "stored", p.stored(t, "JOBS_payments").Msgs, 1)
	equal(t, "headers that the caller gave", len(m.Header), 1)

	first, duplicate, err := p.PublishJob(ctx, m)
	ok(t, err)
	equal(t, "a repeat is told", duplicate, true)
	equal(t, "with the first one's sequence", first, p.stored(t, "JOBS_payments").LastSeq)

	for _, subject := range []string{"nobody.a", "payments.a.b"} {
		if err := p.Publish(ctx, job.Message{Subject: subject}); !errors.Is(err, ErrNoStream) || !strings.Contains(err.Error(), subject) {
			t.Errorf("%s: got %v, want ErrNoStream", subject, err)
		}
	}
	if _, _, err := p.PublishJob(ctx, job.Message{Subject: "nobody.a"}); !errors.Is(err, ErrNoStream) {
		t.Errorf("got %v, want ErrNoStream", err)
	}
	for name, want := range map[string]bool{"payments": true, "nobody": false} {
		equal(t, name+" exists", get(p.PoolExists(ctx, name))(t), want)
	}
}

func TestPublishIsRefused(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{MaxBytes: 1 << 20})
	refused := func(m job.Message, want string) {
		t.Helper()
		err := p.Publish(within(t), m)
		var no *Refusal
		if !errors.As(err, &no) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	refused(job.Message{Subject: "payments.a", Data: make([]byte, job.MaxJob+1)},
		`the stream refuses "payments.a": message size exceeds maximum allowed (error 10054): a job is at most 512 KiB`)
	for range 2 {
		p.put(t, "a", string(make([]byte, job.MaxJob-1024)), nil)
	}
	refused(job.Message{Subject: "payments.a", Data: make([]byte, 4096)},
		`the stream refuses "payments.a": maximum bytes exceeded (error 10077): it is full; let workers catch up, drop dead letters, or raise max_bytes (nats stream edit)`)
	equal(t, "nothing was dropped for it", p.stored(t, "JOBS_payments").Msgs, 2)
	for _, header := range []string{"Nats-Schedule", "Nats-TTL", "Nats-Rollup"} { // what callers must not have: see the security facts
		m := job.Message{Subject: "payments.a", Header: map[string][]string{header: {"all"}}}
		var no *Refusal
		if err := p.Publish(within(t), m); !errors.As(err, &no) {
			t.Errorf("%s on the jobs stream: got %v, want a refusal", header, err)
		}
	}
}

// Rule 7: a dead letter's subject keeps one message, so that repeating it changes nothing.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	ctx := within(t)
	letters := func(name string) string {
		t.Helper()
		var all []string
		ok(t, p.DeadLetters(ctx, name, func(m job.Message) bool {
			all = append(all, m.Subject+"="+string(m.Data))
			return true
		}))
		return strings.Join(all, " ")
	}
	equal(t, "none", letters(""), "")
	a, b := job.Address{Pool: "payments", Context: "a"}, job.Address{Pool: "payments", Context: "b"}
	for _, subject := range []string{a.DeadSubject("1"), b.DeadSubject("2"), a.DeadSubject("1"), a.DeadSubject("3-0")} {
		ok(t, p.Publish(ctx, job.Message{Subject: subject, Data: []byte("x")}))
	}
	equal(t, "of all", letters(""), "payments.b.dead.2=x payments.a.dead.1=x payments.a.dead.3-0=x")
	equal(t, "of one", letters("a"), "payments.a.dead.1=x payments.a.dead.3-0=x")
	equal(t, "of none", letters("c"), "")
	equal(t, "one", get(p.Dead(ctx, a, "3-0"))(t).Subject, "payments.a.dead.3-0")
	if _, err := p.Dead(ctx, a, "9"); !errors.Is(err, ErrNone) {
		t.Errorf("got %v, want ErrNone", err)
	}
	stopped := 0
	ok(t, p.DeadLetters(ctx, "", func(job.Message) bool { stopped++; return false }))
	equal(t, "letters before fn returned false", stopped, 1)

	other := get(Open(p.nc, "nobody"))(t)
	if err := other.DeadLetters(ctx, "", nil); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("of no pool: %v", err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	ctx := within(t)
	first := p.commit(t, "a", "1", 0)
	second := p.commit(t, "a", "2", first)
	p.commit(t, "b", "x", 0)
	var seen []string
	ok(t, p.Watch(ctx, "a", func(e Entry) bool {
		seen = append(seen, string(e.Data))
		if e.Revision == 0 { // the history has ended
			p.commit(t, "b", "y", p.stored(t, "KV_payments").LastSeq)
			p.commit(t, "a", "3", second)
		}
		return string(e.Data) != "3"
	}))
	equal(t, "what a watch shows", strings.Join(seen, ","), "1,2,,3")

	ending, end := context.WithCancel(ctx)
	err := p.Watch(ending, "a", func(e Entry) bool {
		if e.Revision == 0 {
			end()
		}
		return true
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a watch whose context ended: %v", err)
	}
	if err := get(Open(p.nc, "nobody"))(t).Watch(ctx, "a", nil); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("of no pool: %v", err)
	}
	for _, name := range []string{"", "*", ">", "a.b"} {
		if err := p.Watch(ctx, name, func(Entry) bool { return false }); err == nil {
			t.Errorf("context %q can be watched", name)
		}
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	equal(t, "of none", len(get(p.History(within(t), "a"))(t)), 0)
	var revision uint64
	for i := range history + 6 {
		revision = p.commit(t, "a", fmt.Sprint(i), revision)
	}
	all := get(p.History(within(t), "a"))(t)
	equal(t, "kept", len(all), history)
	equal(t, "the oldest", string(all[0].Data), "6")
	equal(t, "the newest", all[history-1].Revision, revision)
}

func TestClosedConnection(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	d := get(p.Jobs(within(t), 1))(t)
	watched := make(chan error)
	go func() {
		watched <- p.Watch(t.Context(), "a", func(e Entry) bool {
			if e.Revision == 0 {
				p.nc.Close()
			}
			return true
		})
	}()
	if err := <-watched; err == nil {
		t.Error("a watch outlives its connection")
	}
	if _, err := d.Next(); !errors.Is(err, ErrStopped) {
		t.Errorf("deliveries after the connection's end: %v", err)
	}
	d.Stop()
	if _, err := p.Context(t.Context(), "a"); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("a read: %v", err)
	}
}

// What clients write in the ordinary way is read directly: the leader is asked only about header blocks that nobody
// writes.
func TestOrdinaryJobsAreReadDirectly(t *testing.T) {
	t.Parallel()
	nc := connect(t)
	p := get(Ensure(within(t), nc, "payments", Options{MaxBytes: 1 << 20}))(t)
	asked := get(nc.SubscribeSync("$JS.API.STREAM.MSG.GET.>"))(t)
	for _, header := range []map[string][]string{
		nil,
		{"Nats-Msg-Id": {"a"}},
		{"Thence-Script": {"checkout"}, "Thence-Caller": {"shop"}, "Content-Type": {"application/json"}, "traceparent": {"00-1-2-01"}},
		{"X-Twice": {"a", "b"}, "X-Empty": {""}, "X-Umlaut": {"ä"}},
	} {
		seq, _, err := p.PublishJob(within(t), job.Message{Subject: "payments.a", Header: header, Data: []byte("x := 1")})
		if err != nil {
			t.Fatal(err)
		}
		m := get(p.NextJob(within(t), "a", seq))(t)
		equal(t, "sequence", m.Sequence, seq)
		equal(t, "headers", len(m.Header), len(header))
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := asked.Pending(); err != nil || n != 0 {
		t.Errorf("the leader was asked %d times (%v)", n, err)
	}
}
