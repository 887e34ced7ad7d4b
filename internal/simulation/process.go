package simulation

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Process is what a worker process has of the world: its server, its APIs, its luck. A process that was killed hears
// errors until it has ended, and nothing that it does then is seen by anybody.
type Process struct {
	Name string

	world  *World
	number int
	kill   context.CancelFunc
	killed chan struct{} // closed when it is killed; one that is told to end is not
	life   processLife
	turned chan stream.Turn // of which it hears

	// Guarded by world.mu, like all that goroutines of the process touch.
	taking  []*Deliveries
	said    []word          // acks on their way to the server
	answers []func()        // what it hears when it goes on after a stop
	handed  map[string]*try // calls that were handed to it
	cuts    uint64          // how often its connection was cut, not counting what the server did to it
	goesBy  uint64          // revision of the turn whose release it takes for the current one
}

type processLife struct {
	dead    bool
	stopped bool // as by SIGSTOP
	ending  bool // told to end
	ended   bool
}

// word is what was said about a delivery.
type word struct {
	round  uint64 // the scheduler's
	reply  string
	text   string
	before bool // it had left the process when that was stopped
}

// try is what a process knows of one call.
type try struct {
	closed bool // when it was handed out last
	handed int  // how often it was
	looks  int  // sends that looks at the leader allow, which found the call open
	sends  int
}

// errKilled is all that a killed process hears.
var errKilled = errors.New("the simulated process was killed")

// Slots is how many contexts the process works on at a time.
func (p *Process) Slots() int { return p.world.plan.slots }

// InFlight is how many calls the pool makes at a time.
func (p *Process) InFlight() int { return p.world.plan.inFlight }

// Holds tells whether jobs under the script [Brittle] hold their context when they fail.
func (p *Process) Holds() bool { return p.world.plan.holds }

// Mended tells whether programs that fail do so no longer where they hold their context.
func (p *Process) Mended() bool {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	return p.world.mended && p.world.plan.holds
}

// Jitter is a part of a duration: at random from one history, process and moment to the next, and the same in each run
// of the same history.
func (p *Process) Jitter(d time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, p.world.seed, p.number, time.Now().UnixNano(), d)
	return time.Duration(h.Sum64() % uint64(max(1, d)))
}

// Die kills the process that calls it, and returns what that hears. It ends before the next move, not at once: what other
// goroutines of it do at the same moment would else come before its end or after, as Go's scheduler has it.
func (p *Process) Die() error {
	p.world.mu.Lock()
	p.world.dying = append(p.world.dying, p)
	p.world.mu.Unlock()
	<-p.killed
	return errKilled
}

// Publish says something about a delivery. It is heard some time later, or never.
func (p *Process) Publish(reply string, data []byte) error {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	if p.life.dead {
		return errKilled
	}
	if p.life.stopped && string(data) == "+WPI" {
		return nil // a stopped process does not renew
	}
	// Words that are said in one round have no order but that of each delivery.
	said := word{round: p.world.round, reply: reply, text: string(data)}
	i := len(p.said)
	for i > 0 && p.said[i-1].round == said.round && p.said[i-1].reply > said.reply {
		i--
	}
	p.said = slices.Insert(p.said, i, said)
	p.world.ring()
	return nil
}

// Jobs opens the deliveries of the pool's jobs.
func (p *Process) Jobs() *Deliveries { return p.open(p.world.server.jobs.consumers[0]) }

// Calls opens the deliveries of a service's calls. Services that no call goes to have none.
func (p *Process) Calls(service string) *Deliveries {
	if service != Service && service != job.Timer {
		return p.open(nil)
	}
	return p.open(p.world.server.calls.consumer(stream.CallsConsumer(Pool, service, 1).Durable))
}

func (p *Process) open(c *consumer) *Deliveries {
	d := &Deliveries{
		process: p, wait: 5 * time.Second, messages: make(chan *stream.Delivery, ahead), stopped: make(chan struct{}), lost: make(chan struct{}),
	}
	if c != nil {
		d.stream, d.consumer, d.wait = c.queue.config.Name, c.config.Durable, c.config.AckWait
	}
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	p.taking = append(p.taking, d)
	return d
}

// ahead is how many messages a process is handed before it takes the first.
const ahead = 32

// Deliveries hands out a consumer's messages to a process.
type Deliveries struct {
	process  *Process
	stream   string // empty: nothing comes
	consumer string
	wait     time.Duration
	messages chan *stream.Delivery
	once     sync.Once
	stopped  chan struct{}
	lost     chan struct{} // closed when the consumer was deleted
}

// AckWait is how long a message may lie without a word.
func (d *Deliveries) AckWait() time.Duration { return d.wait }

// Stop ends the deliveries; Next hands out what has arrived.
func (d *Deliveries) Stop() { d.once.Do(func() { close(d.stopped) }) }

// Close is Stop for deliveries that nobody takes.
func (d *Deliveries) Close() { d.Stop() }

// Next waits for a message.
func (d *Deliveries) Next() (*stream.Delivery, error) {
	select {
	case one := <-d.messages:
		return one, nil
	default:
	}
	select {
	case one := <-d.messages:
		return one, nil
	case <-d.stopped:
		return nil, stream.ErrStopped
	case <-d.lost:
		return nil, fmt.Errorf("consumer of stream %s: the server says %q", d.stream, "consumer deleted")
	}
}

// lose is what a process hears when its consumer was deleted. The caller holds the world's mu.
func (d *Deliveries) lose() {
	select {
	case <-d.lost:
	default:
		close(d.lost)
	}
}

// takes tells whether a message may be handed out here.
func (d *Deliveries) takes(c *consumer) bool {
	select {
	case <-d.stopped:
		return false
	case <-d.lost:
		return false
	default:
		return d.stream == c.queue.config.Name && d.consumer == c.config.Durable && len(d.messages) < cap(d.messages)
	}
}

// Journal is the process's way to the streams.
type Journal struct {
	process *Process
	sends   bool // it is the performer's: each look that shows an open call is leave to send it once
}

// Journal is the streams as the process's rounds use them.
func (p *Process) Journal() *Journal { return &Journal{process: p} }

// Performing is the streams as the process's performer of calls uses them.
func (p *Process) Performing() *Journal { return &Journal{process: p, sends: true} }

// Context reads a context by a direct get.
func (j *Journal) Context(ctx context.Context, name string) (stream.Entry, error) {
	w, over := j.process.world, j.Connection()
	a := j.process.ask(ctx, "context", name, 0, func() answer {
		e := w.server.context(name, w.seenOf(w.server.contexts))
		e.Over = over
		return answer{entry: e, number: e.Revision}
	})
	return a.entry, a.err
}

// ContextFromLeader reads a context from its stream's leader, or from one that does not know yet that it is none.
func (j *Journal) ContextFromLeader(ctx context.Context, name string) (stream.Entry, error) {
	w, over, what := j.process.world, j.Connection(), "context!"
	if j.sends {
		what = "look"
	}
	a := j.process.ask(ctx, what, name, 0, func() answer {
		e := w.server.context(name, w.ledBy(w.server.contexts))
		e.Over = over
		if j.sends {
			w.oracle.looked(j.process, name, e)
		}
		return answer{entry: e, number: e.Revision}
	})
	return a.entry, a.err
}

// NextJob reads the next job of a context by a direct get.
func (j *Journal) NextJob(ctx context.Context, name string, from uint64) (job.Message, error) {
	w := j.process.world
	a := j.process.ask(ctx, "next", name, from, func() answer {
		m, err := w.server.nextJob(name, from, w.seenOf(w.server.jobs))
		return answer{message: m, number: m.Sequence, err: err}
	})
	return a.message, a.err
}

// NextJobFromLeader reads the next job of a context from the leader.
func (j *Journal) NextJobFromLeader(ctx context.Context, name string, from uint64) (job.Message, error) {
	w := j.process.world
	a := j.process.ask(ctx, "next!", name, from, func() answer {
		m, err := w.server.nextJob(name, from, w.ledBy(w.server.jobs))
		return answer{message: m, number: m.Sequence, err: err}
	})
	return a.message, a.err
}

// Connection tells one connection of the process to the server from the next.
func (j *Journal) Connection() uint64 {
	j.process.world.mu.Lock()
	defer j.process.world.mu.Unlock()
	return j.process.cuts + j.process.world.losses + 1
}

// errCut is what a commit meets that was to go over a connection which is gone.
var errCut = fmt.Errorf("the connection is gone: %w", stream.ErrConflict)

// LastJob is the sequence of the stream's last job.
func (j *Journal) LastJob(ctx context.Context) (uint64, error) {
	w := j.process.world
	a := j.process.ask(ctx, "last", "", 0, func() answer { return answer{number: w.server.jobs.lastSeen(w.ledBy(w.server.jobs))} })
	return a.number, a.err
}

// Commit writes a context on an expected revision.
func (j *Journal) Commit(ctx context.Context, name string, data []byte, on stream.Base) (uint64, error) {
	w := j.process.world
	a := j.process.tell(ctx, "commit", name, on.Revision, func() answer {
		if on.Over != 0 && on.Over != j.Connection() {
			return answer{err: errCut}
		}
		n, err := w.server.commit(name, data, on.Revision)
		return answer{number: n, err: err}
	})
	return a.number, a.err
}

// Publish puts a message on the stream that takes its subject.
func (j *Journal) Publish(ctx context.Context, m job.Message) error {
	w := j.process.world
	return j.process.tell(ctx, "publish", m.Subject, sourceOf(m), func() answer {
		stored, err := w.server.publish(m)
		if err != nil {
			return answer{err: err}
		}
		return answer{number: stored.Sequence}
	}).err
}

// sourceOf tells two messages apart that go to the same subject at the same time.
func sourceOf(m job.Message) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(m.Get(job.HeaderSource) + m.Get(job.HeaderCall) + m.Get(job.HeaderID)))
	return h.Sum64() % 1e6
}

// RoomForCalls returns an error that wraps stream.ErrFull while the calls are over their bound.
func (j *Journal) RoomForCalls(context.Context) error {
	j.process.world.mu.Lock()
	defer j.process.world.mu.Unlock()
	return j.process.world.callsFull
}

// PurgeRetry removes the timer of a call's next try.
func (j *Journal) PurgeRetry(ctx context.Context, at job.Address, call string) (bool, error) {
	w := j.process.world
	subject := at.RetrySubject(call)
	a := j.process.tell(ctx, "purge", subject, 0, func() answer {
		if w.server.failing {
			return answer{err: errUnavailable}
		}
		was := w.server.calls.lastOf(subject)
		w.server.calls.clear(subject)
		return answer{number: was}
	})
	return a.number != 0, a.err
}

// PoolExists tells whether there is a pool of that name.
func (j *Journal) PoolExists(_ context.Context, name string) (bool, error) { return name == Pool, nil }

// MaxPayload is the largest message that the server takes.
func (j *Journal) MaxPayload() int { return 1 << 20 }

// DiesOf tells whether the process that runs a job dies of it, where its program kills so many.
func (p *Process) DiesOf(seq uint64, times int) bool {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	if p.life.dead || p.world.oracle.deaths[seq] >= times {
		return false
	}
	p.world.oracle.deaths[seq]++
	return true
}
