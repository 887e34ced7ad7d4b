package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/job"
)

// statuses are headers that the server alone should be able to use: a client library takes a message without a body
// that has them for a word of the server.
var statuses = []map[string][]string{
	{"Status": {"400"}},
	{"Status": {"404"}},
	{"Status": {"408"}},
	{"Status": {"100"}, "Description": {"Idle Heartbeat"}},
	{"Status": {"409"}, "Description": {"Consumer Deleted"}},
	{"Status": {"409"}, "Description": {"Leadership Change"}},
	{"Status": {"503"}},
}

// Whoever may publish jobs can give them any header. None of them ends a worker's deliveries, or makes a job invisible.
func TestHeadersOfTheServerInAJob(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	d := get(p.Jobs(within(t), 8))(t)
	defer d.close(t)
	for _, header := range statuses {
		seq := p.put(t, "a", "", header)
		got := d.next(t, 1)[0]
		equal(t, "sequence", got.Message.Sequence, seq)
		equal(t, "status", got.Message.Get("Status"), header["Status"][0])
		ok(t, got.Ack())
	}
}

// The same for reads: they tell a job's place by what the server says, not by what the job's headers do.
func TestHeadersOfTheServerInAJobThatIsRead(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	all := append([]map[string][]string{
		{"Nats-Sequence": {"1"}},
		{"Nats-Sequence": {"x"}},
		{"Nats-Time-Stamp": {"2001-01-01T00:00:00Z"}},
		{"Nats-Subject": {"payments.other"}},
		{"Nats-Stream": {"OTHER"}},
		{"Status": {"500"}, "Nats-Sequence": {"1"}},
	}, statuses...)
	for _, header := range all {
		before := p.put(t, "a", "x", nil)
		seq := p.put(t, "a", "", header)
		direct := get(p.NextJob(within(t), "a", before+1))(t)
		leader := get(p.NextJobFromLeader(within(t), "a", before+1))(t)
		equal(t, "sequence", direct.Sequence, seq)
		equal(t, "sequence by the leader", leader.Sequence, seq)
		equal(t, "subject", direct.Subject, "payments.a")
		if !direct.Time.Equal(leader.Time) {
			t.Errorf("%v: time is %s, by the leader %s", header, direct.Time, leader.Time)
		}
	}
}

// An ack counts after a give-back with a delay, and removes the message from the work queue: so a worker may put
// deliveries aside that it has no room for, and end them once their jobs have taken effect.
func TestAckAfterGiveBack(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	d := get(p.Jobs(within(t), 8))(t)
	defer d.close(t)
	for range 3 {
		p.put(t, "a", "x", nil)
	}
	all := d.next(t, 3)
	for _, one := range all {
		ok(t, one.GiveBack(30*time.Second))
	}
	ok(t, all[1].Working()) // too late, harmless
	for _, one := range all {
		ok(t, one.Ack())
	}
	last := p.put(t, "a", "y", nil)
	fourth := d.next(t, 1)[0]
	equal(t, "the next delivery", fourth.Message.Sequence, last)
	ok(t, p.acked(t, fourth))
	equal(t, "left on the work queue", p.stored(t, "JOBS_payments").Msgs, 0)
	equal(t, "left with the consumer", p.pending(t, "JOBS_payments", workers), 0)
}

// An ack counts for whatever message its subject names of those that the consumer handed out, given back or not.
func TestAckForAnother(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	d := get(p.Jobs(within(t), 2))(t)
	defer d.close(t)
	p.put(t, "a", "x", nil)
	second := p.put(t, "a", "y", nil)
	all := d.next(t, 2)
	ok(t, all[1].GiveBack(time.Hour))
	ok(t, all[0].AckFor(second))
	third := p.put(t, "a", "z", nil)
	equal(t, "the next delivery", d.next(t, 1)[0].Message.Sequence, third)
	ok(t, p.acked(t, all[0]))
	equal(t, "left on the work queue", p.stored(t, "JOBS_payments").Msgs, 1)
	equal(t, "the first that is left", p.stored(t, "JOBS_payments").FirstSeq, third)
}

func TestReplyFor(t *testing.T) {
	t.Parallel()
	equal(t, "plain", replyFor("$JS.ACK.JOBS_p.workers.3.17.21.1700000000.5", 4), "$JS.ACK.JOBS_p.workers.3.4.21.1700000000.5")
	equal(t, "with a domain", replyFor("$JS.ACK.hub.HASH.JOBS_p.workers.3.17.21.1700000000.5", 4), "$JS.ACK.hub.HASH.JOBS_p.workers.3.4.21.1700000000.5")
	equal(t, "with a domain and a last token", replyFor("$JS.ACK.hub.HASH.JOBS_p.workers.3.17.21.1700000000.5.rnd", 4), "$JS.ACK.hub.HASH.JOBS_p.workers.3.4.21.1700000000.5.rnd")
}

func TestGiveBack(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	d := get(p.Jobs(within(t), 8))(t)
	defer d.close(t)
	header := map[string][]string{"Thence-Script": {"s"}}
	seq := p.put(t, "a", "x", header)
	first := d.next(t, 1)[0]
	equal(t, "delivered", first.Delivered, 1)
	equal(t, "subject", first.Message.Subject, "payments.a")
	equal(t, "data", string(first.Message.Data), "x")
	equal(t, "header", first.Message.Get("Thence-Script"), "s")
	equal(t, "time", first.Message.Time.IsZero(), false)
	ok(t, first.GiveBack(0))
	second := d.next(t, 1)[0]
	equal(t, "sequence", second.Message.Sequence, seq)
	equal(t, "delivered again", second.Delivered, 2)
	began := time.Now()
	ok(t, second.GiveBack(200*time.Millisecond))
	third := d.next(t, 1)[0]
	if waited := time.Since(began); third.Delivered != 3 || waited < 200*time.Millisecond {
		t.Errorf("delivery %d came after %s", third.Delivered, waited)
	}
	ok(t, third.Ack())
}

// Rule 9: in-progress acks keep a job from being handed to others, for as long as they come.
func TestWorking(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	const wait = time.Second
	config := jetstream.ConsumerConfig{Durable: workers, AckPolicy: jetstream.AckExplicitPolicy, AckWait: wait, MaxAckPending: maxAckPending}
	get(p.js.UpdateConsumer(within(t), "JOBS_payments", config))(t)
	d := get(p.Jobs(within(t), 8))(t)
	defer d.close(t)
	kept, left := p.put(t, "a", "kept", nil), p.put(t, "b", "left", nil)
	all := d.next(t, 2)
	equal(t, "sequences", fmt.Sprint(sequences(all)), fmt.Sprint([]uint64{kept, left}))
	ctx, stop := context.WithCancel(within(t))
	var last, pause atomic.Int64 // in-progress acks: when the last one went out, and the longest time between two
	last.Store(time.Now().UnixNano())
	var renewing sync.WaitGroup
	renewing.Go(func() {
		for tick := time.Tick(wait / 20); ctx.Err() == nil; <-tick {
			if err := errors.Join(all[0].Working(), p.nc.FlushWithContext(ctx)); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			now := time.Now().UnixNano()
			pause.Store(max(pause.Load(), now-last.Swap(now)))
		}
	})
	defer renewing.Wait()
	defer stop()
	for again := 0; again < 2; { // twice the one that nobody kept
		one := d.next(t, 1)[0]
		if one.Message.Sequence == left {
			again++
			continue
		}
		// A machine that was away for long tells nothing.
		if longest := time.Duration(max(pause.Load(), time.Now().UnixNano()-last.Load())); longest < wait/4 {
			t.Fatalf("the job that was kept was handed out again; the longest pause of its acks was %s", longest)
		}
	}
}

func TestStopHandsOutWhatHasArrived(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	const jobs = 20
	for range jobs {
		p.put(t, "a", "x", nil)
	}
	d := get(p.Jobs(within(t), jobs))(t)
	all := d.next(t, 1)
	for ctx := within(t); len(d.messages) < jobs-1; { // all have arrived; a word to the server and back in between
		ok(t, p.nc.FlushWithContext(ctx))
	}
	d.Stop()
	d.Stop() // may be called again
	for {
		one, err := d.Next()
		if errors.Is(err, ErrStopped) {
			break
		}
		ok(t, err)
		all = append(all, one)
	}
	if _, err := d.Next(); !errors.Is(err, ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
	equal(t, "handed out", len(all), jobs)
	for _, one := range all {
		ok(t, one.GiveBack(0))
	}
	next := get(p.Jobs(within(t), jobs))(t)
	defer next.close(t)
	equal(t, "for the next worker", len(next.next(t, jobs)), jobs)
}

func TestStopWakesNext(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	d := get(p.Jobs(within(t), 8))(t)
	ended := make(chan error)
	go func() {
		_, err := d.Next()
		ended <- err
	}()
	d.Stop()
	if err := <-ended; !errors.Is(err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", err)
	}
}

// Many deliveries in small batches: none is lost between two pulls.
func TestDeliveriesGoOn(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	d := get(p.Jobs(within(t), 4))(t)
	defer d.close(t)
	other := get(p.Jobs(within(t), 4))(t)
	defer other.close(t)
	const jobs = 200
	for range jobs / 2 {
		p.put(t, "a", "x", nil)
		p.put(t, "b", "x", nil)
	}
	seen := make(chan uint64, jobs)
	var both sync.WaitGroup
	for _, some := range []*Deliveries{d, other} {
		both.Go(func() {
			for {
				one, err := some.Next()
				if err != nil {
					return
				}
				if err := one.Ack(); err != nil {
					t.Error(err)
				}
				seen <- one.Message.Sequence
			}
		})
	}
	distinct := map[uint64]bool{}
	for len(distinct) < jobs {
		select {
		case seq := <-seen:
			distinct[seq] = true
		case <-within(t).Done():
			t.Fatalf("%d of %d jobs came", len(distinct), jobs)
		}
	}
	d.Stop()
	other.Stop()
	both.Wait()
}

func TestDeliveriesOutliveTheServersAbsence(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	start := func(listen string) *embedded.Server {
		return get(embedded.Start(embedded.Options{Store: store, Listen: listen, MaxStore: 16 << 30}))(t)
	}
	server := start("127.0.0.1:0")
	nc := get(nats.Connect(server.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0)))(t)
	defer nc.Close()
	p := get(Ensure(within(t), nc, "payments", Options{}))(t)
	d := get(p.Jobs(within(t), 8))(t)
	defer d.close(t)
	p.put(t, "a", "1", nil)
	ok(t, d.next(t, 1)[0].Ack())
	ok(t, nc.Flush())

	back := nc.StatusChanged(nats.CONNECTED)
	defer nc.RemoveStatusListener(back)
	listen := strings.TrimPrefix(server.URL(), "nats://")
	server.Close()
	server = start(listen)
	defer server.Close()
	<-back
	seq := p.put(t, "a", "2", nil)
	began := time.Now()
	got := d.next(t, 1)[0]
	equal(t, "the next job", got.Message.Sequence, seq)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it came %s after it was published", took)
	}
}

func TestDeliveriesOfADeletedConsumer(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	d := get(p.Jobs(within(t), 8))(t)
	p.put(t, "a", "1", nil)
	d.next(t, 1)
	ok(t, p.js.DeleteConsumer(within(t), "JOBS_payments", workers))
	_, err := d.Next()
	if err == nil || err.Error() != `consumer workers of stream JOBS_payments: the server says "consumer deleted"` {
		t.Errorf("got %v", err)
	}
	d.close(t)
}

// Rule 2: a stream that was deleted and made again goes on above the old one, and an ack held from the old one touches
// nothing.
func TestSequencesNeverRepeat(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	d := get(p.Jobs(within(t), 8))(t)
	last := p.put(t, "a", "old", nil)
	held := d.next(t, 1)[0]
	d.Stop()
	ok(t, p.js.DeleteStream(within(t), "JOBS_payments"))
	d.close(t)

	p = get(Ensure(within(t), p.nc, "payments", Options{}))(t)
	seq := p.put(t, "a", "new", nil)
	if seq <= last {
		t.Errorf("the new stream's first job has sequence %d, the old one's last %d", seq, last)
	}
	ok(t, held.Ack())
	ok(t, p.nc.Flush())
	equal(t, "jobs after the old ack", p.stored(t, "JOBS_payments").Msgs, 1)
	d = get(p.Jobs(within(t), 8))(t)
	defer d.close(t)
	now := d.next(t, 1)[0]
	ok(t, held.Ack()) // now that the new consumer has it out too
	ok(t, held.GiveBack(0))
	p.put(t, "b", "other", nil)
	ok(t, p.acked(t, d.next(t, 1)[0]))
	equal(t, "jobs after the old ack", p.stored(t, "JOBS_payments").Msgs, 1)
	ok(t, p.acked(t, now))
	equal(t, "jobs after the new one's", p.stored(t, "JOBS_payments").Msgs, 0)
}

// Rule 12: a message on a timer comes to its target when it is due; one that was due in the past comes at once.
// Purging its subject cancels it.
func TestTimers(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	d := get(p.Calls(within(t), "stripe", 10, 8))(t)
	defer d.close(t)
	a := job.Address{Pool: "payments", Context: "a"}
	set := func(id string, at time.Time) {
		t.Helper()
		ok(t, p.Publish(within(t), job.Message{Subject: a.RetrySubject(id), Data: []byte(id), Header: map[string][]string{
			"Nats-Schedule": {"@at " + at.UTC().Format(time.RFC3339Nano)}, "Nats-Schedule-Target": {a.CallSubject("stripe")}, "Thence-Proof": {"p"},
		}}))
	}
	set("1-0", time.Now().Add(time.Hour))
	for name, ahead := range map[string]time.Duration{"2-0": -time.Hour, "3-0": 150 * time.Millisecond, "4-0": 310 * time.Millisecond} {
		at := time.Now().Add(ahead)
		set(name, at)
		began := time.Now()
		m := d.next(t, 1)[0].Message
		equal(t, "which", string(m.Data), name)
		equal(t, "subject", m.Subject, "payments.a.call.stripe")
		equal(t, "proof", m.Get("Thence-Proof"), "p")
		t.Logf("ahead by %s: %s after it was set, %s after it was due", ahead, time.Since(began), time.Since(at))
		// The server looks at its timers every 250 ms at most, so none comes sooner than that.
		if late := time.Since(at); late < 0 || ahead > 0 && late > 20*time.Second || time.Since(began) > 20*time.Second {
			t.Errorf("%s came %s after it was due", name, late)
		}
	}
	ok(t, get(p.js.Stream(within(t), "CALLS_"+p.Name))(t).Purge(within(t), jetstream.WithPurgeSubject(a.RetrySubject("1-0"))))
	equal(t, "timers and calls that are left", p.stored(t, "CALLS_payments").Msgs, 3) // the three that came, unacked
	if _, err := p.js.Stream(within(t), "CALLS_payments"); err != nil {
		t.Fatal(err)
	}
}

// The consumer's max_ack_pending bounds the calls under way, over all workers; ended calls make room.
func TestCallsInFlight(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{})
	d := get(p.Calls(within(t), "stripe", 2, 8))(t)
	defer d.close(t)
	for range 3 {
		ok(t, p.Publish(within(t), job.Message{Subject: "payments.a.call.stripe"}))
	}
	ok(t, p.Publish(within(t), job.Message{Subject: "payments.a.call.other"}))
	all := d.next(t, 2)
	equal(t, "under way", p.pending(t, "CALLS_payments", "call_stripe"), 2)
	ok(t, all[0].Ack())
	third := d.next(t, 1)[0]
	equal(t, "the third", third.Message.Sequence, all[1].Message.Sequence+1)
}
