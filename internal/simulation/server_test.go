package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is the simulated server and a real one, which are asked the same.
type pair struct {
	t     *testing.T
	ctx   context.Context //nolint:containedctx // bounds every wait of a test
	rng   *rand.Rand
	model *server
	first struct{ jobs, calls uint64 } // sequences of the real streams, less those of the model

	store string
	real  *embedded.Server
	nc    *nats.Conn
	js    jetstream.JetStream
	pool  *stream.Pool

	revisions map[string]uint64
}

// TestModelIsTheServer: the simulated server and a real one answer the same to the same operations, in an order that
// nobody thought of: repeats of ids, revisions that are wrong, reads from anywhere, acks, dead letters that take each
// other's place, schedules that do, and a restart in the middle.
func TestModelIsTheServer(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, seed)
			operations := []func() (model, real string){p.publish, p.publish, p.next, p.next, p.commit, p.ack, p.dead, p.schedule}
			for i := range 250 {
				if i == 125 {
					p.restart()
				}
				n := p.rng.IntN(len(operations))
				if model, real := operations[n](); model != real {
					t.Fatalf("operation %d, of kind %d: the model says %s, the server %s", i, n, model, real)
				}
			}
		})
	}
}

func newPair(t *testing.T, seed uint64) *pair {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	p := &pair{t: t, ctx: ctx, rng: rand.New(rand.NewPCG(seed, 1)), store: t.TempDir(), revisions: map[string]uint64{}}
	w := &World{rng: p.rng, trace: newTrace(time.Now()), plan: plan{inFlight: 2}}
	w.oracle = newOracle(w)
	w.server = newServer(w)
	p.model = w.server
	p.start()
	t.Cleanup(func() { p.nc.Close(); p.real.Close() })
	p.first.jobs = p.info(job.JobsStream(Pool)).Config.FirstSeq - p.model.jobs.config.FirstSeq
	p.first.calls = p.info(job.CallsStream(Pool)).Config.FirstSeq - p.model.calls.config.FirstSeq
	return p
}

func (p *pair) start() {
	p.t.Helper()
	var err error
	if p.real, err = embedded.Start(embedded.Options{Store: p.store, MaxStore: 64 << 30}); err != nil {
		p.t.Fatal(err)
	}
	if p.nc, err = p.real.Connect(); err != nil {
		p.t.Fatal(err)
	}
	if p.js, err = jetstream.New(p.nc); err != nil {
		p.t.Fatal(err)
	}
	if p.pool, err = stream.Ensure(p.ctx, p.nc, Pool, stream.Options{Services: map[string]int{Service: 2}}); err != nil {
		p.t.Fatal(err)
	}
}

// restart makes both servers forget what they know only in memory.
func (p *pair) restart() {
	p.nc.Close()
	p.real.Close()
	p.start()
	for _, q := range p.model.queues() {
		q.forget()
	}
}

func (p *pair) info(name string) *jetstream.StreamInfo {
	p.t.Helper()
	s, err := p.js.Stream(p.ctx, name)
	if err != nil {
		p.t.Fatal(err)
	}
	return s.CachedInfo()
}

func (p *pair) name() string { return []string{"a", "b"}[p.rng.IntN(2)] }

// publish publishes a job, often under an id that was there before.
func (p *pair) publish() (model, real string) {
	m := job.Message{Subject: Pool + "." + p.name(), Data: []byte(`{"program":{}}`), Header: map[string][]string{}}
	if chance(p.rng, 0.8) {
		m.Header[job.HeaderID] = []string{fmt.Sprint("id-", p.rng.IntN(40))}
	}
	before := p.model.jobs.last
	stored, err := p.model.publish(m)
	if err != nil {
		return err.Error(), ""
	}
	seq, duplicate, err := p.pool.PublishJob(p.ctx, m)
	return fmt.Sprint(stored.Sequence, p.model.jobs.last == before, nil), fmt.Sprint(seq-p.first.jobs, duplicate, err)
}

// next reads a context's next job from a sequence on.
func (p *pair) next() (model, real string) {
	name, back := p.name(), uint64(p.rng.IntN(20))
	from := p.model.jobs.last - min(back, p.model.jobs.last-p.model.jobs.config.FirstSeq+1)
	m, err := p.model.nextJob(name, from, p.model.jobs.edits)
	model = fmt.Sprint(m.Sequence, errors.Is(err, stream.ErrNone))
	m, err = p.pool.NextJob(p.ctx, name, from+p.first.jobs)
	if err == nil {
		m.Sequence -= p.first.jobs
	}
	return model, fmt.Sprint(m.Sequence, errors.Is(err, stream.ErrNone))
}

// commit writes a context, sometimes on a revision that it does not have.
func (p *pair) commit() (model, real string) {
	name := p.name()
	revision := p.revisions[name]
	if chance(p.rng, 0.3) {
		revision += uint64(p.rng.IntN(3))
	}
	data := []byte(`{"v":1}`)
	n, err := p.model.commit(name, data, revision)
	if err == nil {
		p.revisions[name] = n
	}
	got, realErr := p.pool.Commit(p.ctx, name, data, stream.Base{Revision: revision})
	e, readErr := p.pool.Context(p.ctx, name)
	return fmt.Sprint(n, err, p.model.context(name, p.model.contexts.edits).Revision, nil), fmt.Sprint(got, realErr, e.Revision, readErr)
}

// ack takes the consumer's next job and ends it.
func (p *pair) ack() (model, real string) {
	c, err := p.js.Consumer(p.ctx, job.JobsStream(Pool), stream.JobsConsumer().Durable)
	if err != nil {
		p.t.Fatal(err)
	}
	m := p.model.consumers()[0].fresh()
	if m == nil {
		return fmt.Sprint(0), fmt.Sprint(c.CachedInfo().NumPending)
	}
	p.model.consumers()[0].take(m.Sequence, time.Now())
	p.model.said(fmt.Sprintf("$JS.ACK.%s.workers.1.%d", job.JobsStream(Pool), m.Sequence), "+ACK")
	msg, err := c.Next()
	if err != nil {
		return fmt.Sprint(m.Sequence), err.Error()
	}
	meta, err := msg.Metadata()
	if err != nil {
		p.t.Fatal(err)
	}
	return fmt.Sprint(m.Sequence, nil), fmt.Sprint(meta.Sequence.Stream-p.first.jobs, msg.DoubleAck(p.ctx))
}

// dead publishes a dead letter, perhaps where one stands already.
func (p *pair) dead() (model, real string) {
	m := job.Message{Subject: letterOf(p.name(), uint64(1+p.rng.IntN(4))), Data: []byte(`{"held":true}`)}
	_, err := p.model.publish(m)
	realErr := p.pool.Publish(p.ctx, m)
	return fmt.Sprint(p.model.dead.count(), err), fmt.Sprint(p.info(job.DeadStream(Pool)).State.Msgs, realErr)
}

// schedule puts a retry on a timer that another may stand on, with or without an id.
func (p *pair) schedule() (model, real string) {
	a := job.Address{Pool: Pool, Context: p.name()}
	m := job.Message{Subject: a.RetrySubject(fmt.Sprintf("1-%d", p.rng.IntN(3))), Data: []byte(`{"id":"1-0"}`), Header: map[string][]string{
		"Nats-Schedule": {"@at " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}, "Nats-Schedule-Target": {a.CallSubject(Service)},
	}}
	if chance(p.rng, 0.6) {
		m.Header[job.HeaderID] = []string{fmt.Sprint("timer-", p.rng.IntN(8))}
	}
	_, err := p.model.publish(m)
	realErr := p.pool.Publish(p.ctx, m)
	state := p.info(job.CallsStream(Pool)).State
	return fmt.Sprint(p.model.calls.count(), p.model.calls.last, err), fmt.Sprint(state.Msgs, state.LastSeq-p.first.calls, realErr)
}
