package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// A letter is removed by its place, so that one which took its place is not.
func TestRemoveDead(t *testing.T) {
	p := newPool(t, Options{})
	at := job.Address{Pool: "payments", Context: "a"}
	letter := job.Message{Subject: at.DeadSubject("7"), Data: []byte("{}")}
	ok(t, p.Publish(within(t), letter))
	old := get(p.DeadFromLeader(within(t), letter.Subject))(t)
	ok(t, p.Publish(within(t), letter))
	equal(t, "the old one was there", get(p.RemoveDead(within(t), old.Sequence))(t), false)
	now := get(p.DeadFromLeader(within(t), letter.Subject))(t)
	equal(t, "the new one was there", get(p.RemoveDead(within(t), now.Sequence))(t), true)
	equal(t, "it was there once more", get(p.RemoveDead(within(t), now.Sequence))(t), false)
	if _, err := p.DeadFromLeader(within(t), letter.Subject); !errors.Is(err, ErrNone) {
		t.Errorf("a letter that was removed: %v", err)
	}
	if _, err := get(Open(p.nc, "nobody"))(t).RemoveDead(within(t), 1); err == nil {
		t.Error("a letter of a pool that does not exist is removed")
	}
}

// Each call's timer has a subject of its own: the others stay.
func TestPurgeRetry(t *testing.T) {
	p := newPool(t, Options{})
	at := job.Address{Pool: "payments", Context: "a"}
	for _, id := range []string{"1-0", "1-1"} {
		ok(t, p.Publish(within(t), job.Message{Subject: at.RetrySubject(id), Data: []byte("{}"), Header: map[string][]string{
			"Nats-Schedule": {"@at " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}, "Nats-Schedule-Target": {at.CallSubject("default")},
		}}))
	}
	equal(t, "there was a timer", get(p.PurgeRetry(within(t), at, "1-0"))(t), true)
	equal(t, "there was one still", get(p.PurgeRetry(within(t), at, "1-0"))(t), false)
	var left []string
	ok(t, p.QueuedCalls(within(t), "", func(m job.Message) bool { left = append(left, m.Subject); return true }))
	equal(t, "left", fmt.Sprint(left), "[payments.a.retry.1-1]")
}

func TestReadKeys(t *testing.T) {
	p := newPool(t, Options{})
	if _, err := p.ReadKeys(within(t)); err == nil {
		t.Error("keys are read that nobody made")
	}
	made := get(p.Keys(within(t), Options{}))(t)
	equal(t, "key", get(p.ReadKeys(within(t)))(t).Signing(), made.Signing())
}

func TestPools(t *testing.T) {
	p := newPool(t, Options{})
	get(Ensure(within(t), p.nc, "mail", Options{}))(t)
	_, err := p.js.CreateStream(within(t), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
	ok(t, err)
	equal(t, "pools", strings.Join(get(Pools(within(t), p.nc))(t), " "), "mail payments")
	account := get(LookAtAccount(within(t), p.nc))(t)[""]
	equal(t, "streams", account.Streams, 15)
	equal(t, "most streams", account.MaxStreams, -1)
}

// Contexts are read by revision and all of them, their last commits alone.
func TestReadContexts(t *testing.T) {
	p := newPool(t, Options{})
	first := get(p.Commit(within(t), "a", []byte("1"), Base{}))(t)
	get(p.Commit(within(t), "a", []byte("2"), Base{Revision: first}))(t)
	other := get(p.Commit(within(t), "b", []byte("3"), Base{}))(t)
	equal(t, "a at its first revision", string(get(p.ContextAt(within(t), "a", first))(t).Data), "1")
	for _, revision := range []uint64{other, 99} {
		if _, err := p.ContextAt(within(t), "a", revision); !errors.Is(err, ErrNone) {
			t.Errorf("a at revision %d: %v", revision, err)
		}
	}
	all := map[string]string{}
	ok(t, p.Contexts(within(t), func(name string, e Entry) bool { all[name] = string(e.Data); return true }))
	equal(t, "contexts", fmt.Sprint(all), "map[a:2 b:3]")
	n := 0
	ok(t, p.Contexts(within(t), func(string, Entry) bool { n++; return false }))
	equal(t, "contexts until told to stop", n, 1)
}

func TestWaiting(t *testing.T) {
	p := newPool(t, Options{})
	p.put(t, "a", "x", nil)
	p.put(t, "a", "x", nil)
	p.put(t, "b", "x", nil)
	equal(t, "waiting", fmt.Sprint(get(p.Waiting(within(t)))(t)), "map[a:2 b:1]")
}

// Letters that come while others are gone through are left out: else what is done about each could go on for ever.
func TestDeadLettersEnd(t *testing.T) {
	p := newPool(t, Options{})
	n := 0
	add := func() {
		ok(t, p.Publish(within(t), job.Message{Subject: fmt.Sprintf("payments.a.dead.%d", n), Data: []byte("{}")}))
		n++
	}
	add()
	add()
	seen := 0
	ok(t, p.DeadLetters(within(t), "", func(job.Message) bool { seen++; add(); return seen < 10 }))
	equal(t, "letters", seen, 2)
}

// Letters that somebody else removes meanwhile are not waited for.
func TestDeadLettersRemoved(t *testing.T) {
	p := newPool(t, Options{})
	for i := range 1000 { // more than are asked for ahead
		ok(t, p.Publish(within(t), job.Message{Subject: fmt.Sprintf("payments.a.dead.%d", i), Data: []byte("{}")}))
	}
	seen := 0
	ok(t, p.DeadLetters(within(t), "a", func(job.Message) bool {
		if seen++; seen == 1 {
			s, err := p.js.Stream(within(t), "DEAD_payments")
			ok(t, err)
			ok(t, s.Purge(within(t)))
		}
		return true
	}))
	if seen == 0 || seen == 1000 {
		t.Errorf("%d letters were seen; some of them were removed", seen)
	}
}

// A consumer that is gone in the middle (its server was, or nobody used it for long) is made anew, where it was.
func TestScanGoesOn(t *testing.T) {
	p := newPool(t, Options{})
	for i := range 3 * scanBatch {
		ok(t, p.Publish(within(t), job.Message{Subject: fmt.Sprintf("payments.a.dead.%d", i), Data: []byte("{}")}))
		get(p.Commit(within(t), fmt.Sprintf("c%d", i), []byte("{}"), Base{}))(t)
	}
	loseConsumers := func(stream string) {
		s := get(p.js.Stream(within(t), stream))(t)
		names := s.ConsumerNames(within(t))
		for name := range names.Name() {
			ok(t, s.DeleteConsumer(within(t), name))
		}
		ok(t, names.Err())
	}
	var seen []uint64
	ok(t, p.DeadLetters(within(t), "", func(m job.Message) bool {
		if seen = append(seen, m.Sequence); len(seen)%200 == 0 {
			loseConsumers("DEAD_payments")
		}
		return true
	}))
	equal(t, "letters", len(slices.Compact(seen)), 3*scanBatch)
	equal(t, "in order", slices.IsSorted(seen), true)
	var names []string
	ok(t, p.Contexts(within(t), func(name string, _ Entry) bool {
		if names = append(names, name); len(names) == scanBatch {
			loseConsumers("KV_payments")
		}
		return true
	}))
	equal(t, "contexts", len(slices.Compact(names)), 3*scanBatch)
}

// What can't be read is said so, and not tried on and on.
func TestScanThatIsRefused(t *testing.T) {
	p := newPool(t, Options{})
	last := jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy} // the server wants a filter with it
	err := p.scan(within(t), "DEAD_payments", last, nil)
	if err == nil || !strings.Contains(err.Error(), "filter subject is not set") || strings.Contains(err.Error(), "hand out") {
		t.Errorf("got %v", err)
	}
}

// Where one stream of a pool is gone, that is what is said, and not that there is no pool.
func TestReadMissingStream(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	ok(t, p.js.DeleteStream(within(t), "DEAD_payments"))
	err := p.DeadLetters(within(t), "", nil)
	if err == nil || err.Error() != "the pool payments has no stream DEAD_payments: `thence init --pool payments` makes it anew, without what was in it" {
		t.Errorf("got %v", err)
	}
	ok(t, p.js.DeleteStream(within(t), "JOBS_payments"))
	err = p.DeadLetters(within(t), "", nil)
	if err == nil || !strings.HasPrefix(err.Error(), "no worker pool named payments on this server: ") {
		t.Errorf("got %v", err)
	}
}

// A context that is written all the time is in each list, and a list of calls ends while others come.
func TestListsOfBusyPool(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	ctx, stop := context.WithCancel(within(t))
	var group sync.WaitGroup
	group.Go(func() {
		for revision := uint64(0); ctx.Err() == nil; {
			if next, err := p.Commit(ctx, "busy", []byte("{}"), Base{Revision: revision}); err == nil {
				revision = next
			}
		}
	})
	group.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_ = p.Publish(ctx, job.Message{Subject: fmt.Sprintf("payments.a%d.call.acme", i%100), Data: []byte("{}")})
		}
	})
	for entry := (Entry{}); entry.Data == nil; {
		entry = get(p.ContextFromLeader(ctx, "busy"))(t)
	}
	for range 20 {
		names := 0
		ok(t, p.Contexts(ctx, func(string, Entry) bool { names++; return true }))
		equal(t, "contexts", names, 1)
	}
	ok(t, p.QueuedCalls(ctx, "", func(job.Message) bool { return true }))
	stop()
	group.Wait()
}

func TestInspect(t *testing.T) {
	p := newPool(t, Options{MaxBytes: 1 << 20})
	p.put(t, "a", "x", nil)
	get(p.Keys(within(t), Options{}))(t)
	ok(t, p.js.DeleteStream(within(t), "DEAD_payments"))
	parts := get(p.Inspect(within(t)))(t)
	var names []string
	for _, part := range parts {
		names = append(names, part.Name)
		equal(t, part.Name+" is missing", part.Missing, part.Name == "DEAD_payments")
		equal(t, part.Name+" is unfit", part.Unfit, "")
	}
	equal(t, "parts", strings.Join(names, " "), "JOBS_payments CALLS_payments DEAD_payments RATES_payments OBJ_payments-bodies RELEASES_payments KV_payments KV_thence-keys")
	jobs, calls := parts[0], parts[1]
	equal(t, "messages", jobs.Messages, 1)
	equal(t, "bound of the jobs", jobs.Bound, 1<<20)
	equal(t, "bound of the calls", calls.Bound, 1<<20)
	if len(jobs.Consumers) != 1 || jobs.Consumers[0].Name != "workers" || jobs.Consumers[0].Pending != 1 || jobs.Consumers[0].Unfit != "" {
		t.Errorf("consumers: %+v", jobs.Consumers)
	}
	if skew := time.Since(jobs.Asked); skew < 0 || skew > time.Minute {
		t.Errorf("it was asked at %s", jobs.Asked)
	}
	equal(t, "an old server", errors.Is(CheckServer("2.10.1"), ErrUnfit), true)
	equal(t, "this server", CheckServer(MinServer), nil)
}

// What permits something is asked by what can't be carried out: it is no JSON, or is for a stream that there is not.
func TestRights(t *testing.T) {
	p := newPool(t, Options{})
	var names []string
	for _, r := range p.Rights() {
		names = append(names, r.Name)
		for _, q := range r.Requests {
			switch stream := q.Header.Get(jetstream.ExpectedStreamHeader); {
			case stream == "" && string(q.Body) != "{":
				t.Errorf("%s: %s has a body that can be read: %q", r.Name, q.Subject, q.Body)
			case stream != "" && !slices.Contains([]string{PublishJobs, PublishContexts, PublishCalls, PublishLetters, PublishBodies}, r.Name):
				t.Errorf("%s: %s is a message, want a request to JetStream", r.Name, q.Subject)
			}
		}
	}
	slices.Sort(names)
	equal(t, "rights of one name", len(slices.Compact(names)), len(p.Rights()))
}
