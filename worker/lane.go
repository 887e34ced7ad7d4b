package worker

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/thence-dev/thence/internal/crash"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// intake takes deliveries, sorts them into lanes, one a context, and keeps each until its job has taken effect.
//
// A lane is a goroutine that lives while its context has deliveries. At most slots of them work at a time; a lane gives
// its slot up now and then, so a context with many jobs starves nobody. Of a lane's deliveries the first few are held:
// kept alive with in-progress acks. The others are parked: given back with a long delay, and acked all the same once
// their job has taken effect, because the lane goes through its context by reading heads, not by waiting for
// deliveries.
type intake struct {
	rounds  *rounds
	slots   *semaphore.Weighted
	ackWait time.Duration

	mu    sync.Mutex
	room  *sync.Cond // signalled when held shrinks, or stopping is set
	lanes map[string]*lane
	held  int
	stop  bool
	fatal error
	wg    sync.WaitGroup

	acks   chan ack      // of jobs that have taken effect
	halted chan struct{} // closed when stop is set
}

type lane struct {
	name    string
	latest  *stream.Delivery    // what was handed out last, acked or not
	waiting map[uint64]*waiting // by sequence
	order   sequences           // of waiting, and of some that wait no more
	target  uint64              // the delivery at hand
	ran     int                 // jobs since others had the slot
	begun   uint64              // see goal
	stuck   bool                // the lane waits for something that may take long: it holds nothing meanwhile
	held    int
	more    bool // others were handed jobs of this context, or were killed with them: go on while there are heads
}

// waiting is a delivery whose job has not taken effect yet.
type waiting struct {
	*stream.Delivery
	renewed time.Time
	parked  bool
}

// first is the delivery with the lowest sequence; nil when there is none.
func (l *lane) first() *waiting {
	for len(l.order) > 0 {
		if w := l.waiting[l.order[0]]; w != nil {
			return w
		}
		heap.Pop(&l.order)
	}
	return nil
}

// sequences is a heap with the lowest on top.
type sequences []uint64

func (s sequences) Len() int           { return len(s) }
func (s sequences) Less(i, j int) bool { return s[i] < s[j] }
func (s sequences) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *sequences) Push(x any)        { *s = append(*s, x.(uint64)) }
func (s *sequences) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

const (
	maxHeld     = 2048 // deliveries held at a time, over all lanes
	maxLaneHeld = 64   // deliveries held at a time of one context; more are parked
	parkTime    = 30 * time.Second
	turn        = 32 // jobs of one context before others get its slot
)

func newIntake(r *rounds, slots int, ackWait time.Duration) *intake {
	in := &intake{
		rounds: r, slots: semaphore.NewWeighted(int64(slots)), ackWait: ackWait, lanes: map[string]*lane{},
		acks: make(chan ack, maxHeld), halted: make(chan struct{}),
	}
	in.room = sync.NewCond(&in.mu)
	return in
}

// add puts a delivery into its lane, and starts the lane when there is none. It blocks while too many deliveries are
// held. ctx is that of the lanes.
func (in *intake) add(ctx context.Context, d *stream.Delivery) {
	in.rounds.sawSequence(d.Message.Sequence)
	_, name, _ := strings.Cut(d.Message.Subject, ".") // whatever it is: one that no bucket can hold has a lane too
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.held >= maxHeld && !in.stop {
		in.room.Wait()
	}
	if in.stop {
		in.giveBack(d)
		return
	}
	l := in.lanes[name]
	if l == nil {
		l = &lane{name: name, waiting: map[uint64]*waiting{}}
		in.lanes[name] = l
		in.wg.Go(func() { in.run(ctx, l) })
	}
	in.hold(l, d)
}

// hold records a delivery in a lane, and parks it when the lane has many.
func (in *intake) hold(l *lane, d *stream.Delivery) {
	if job.ValidContext(l.name) == nil {
		d.Message.Header, d.Message.Data = nil, nil // the job is read from the stream when it is its turn
	}
	w := &waiting{Delivery: d, renewed: time.Now()}
	if old := l.waiting[d.Message.Sequence]; old != nil {
		in.release(l, old)
	}
	if l.held >= maxLaneHeld || l.stuck {
		w.parked = true
		in.try(d.GiveBack(parkTime))
	} else {
		l.held++
		in.held++
	}
	l.more = l.more || d.Delivered > 1
	l.latest = d
	l.waiting[d.Message.Sequence] = w
	heap.Push(&l.order, d.Message.Sequence)
}

func (in *intake) release(l *lane, w *waiting) {
	if !w.parked {
		l.held--
		in.held--
		in.room.Signal()
	}
}

// try logs an ack that could not be sent. Acks are best effort: without one the message comes again and is recognised.
func (in *intake) try(err error) {
	if err != nil {
		in.rounds.log.Debug("ack not sent", "error", err)
	}
}

func (in *intake) giveBack(d *stream.Delivery) {
	crash.Here(crash.GiveBackBefore)
	in.try(d.GiveBack(0))
}

// run works a lane until its context has no delivery left.
func (in *intake) run(ctx context.Context, l *lane) {
	if in.slots.Acquire(ctx, 1) != nil {
		in.abandon(l)
		return
	}
	defer in.slots.Release(1)
	for failures := 0; ; {
		g, ok := in.next(ctx, l)
		if !ok {
			return
		}
		err := in.work(ctx, l, g)
		switch {
		case err == nil:
			failures = 0
		case errors.Is(err, errGone):
			in.leave(l, g.target)
		case errors.Is(err, errLeave):
			in.rounds.log.Warn("a job that was handed out is not found in its context; left for its next delivery",
				"context", l.name, "sequence", g.target, "delivered", g.delivered)
			in.leave(l, g.target)
		case errors.Is(err, errHeld):
			in.setAside(l)
			return
		case ctx.Err() != nil || errors.Is(err, errStopping):
			in.abandon(l)
			return
		default:
			in.failed(ctx, l, err, failures)
			failures++
		}
	}
}

// work advances a lane's context to one goal.
func (in *intake) work(ctx context.Context, l *lane, g goal) error {
	if err := job.ValidContext(l.name); err != nil {
		return in.stray(ctx, l, g.target, err)
	}
	return in.rounds.advance(ctx, g)
}

// next chooses the lane's next goal: its first delivery, or, where others may have left jobs behind, whatever there is.
// It ends the lane when there is none.
func (in *intake) next(ctx context.Context, l *lane) (goal, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.stop {
		in.abandonLocked(l)
		return goal{}, false
	}
	g := goal{
		name: l.name, target: math.MaxUint64, begun: &l.begun,
		applied: func(seq uint64) { in.applied(l, seq) },
		yield:   func() error { return in.yield(l) },
		away:    func(do func() error) error { return in.stuck(l, do) },
		brief:   in.away,
	}
	if w := l.first(); w != nil {
		l.target = w.Message.Sequence
		g.target, g.delivered = l.target, w.Delivered
		return g, true
	}
	l.target = 0
	if l.more && ctx.Err() == nil && job.ValidContext(l.name) == nil {
		l.more = false
		return g, true
	}
	delete(in.lanes, l.name)
	return goal{}, false
}

func (in *intake) stopping() bool {
	select {
	case <-in.halted:
		return true
	default:
		return false
	}
}

// errStopping ends a lane between two jobs.
var errStopping = errors.New("the worker is stopping")

// yield gives a lane's slot to others every so many jobs.
func (in *intake) yield(l *lane) error {
	if in.stopping() {
		return errStopping
	}
	if l.ran++; l.ran%turn != 0 {
		return nil
	}
	return in.away(func() error { return nil })
}

// away does something while others have the lane's slot.
func (in *intake) away(do func() error) error {
	in.slots.Release(1)
	err := do()
	_ = in.slots.Acquire(context.Background(), 1) // can't fail without an end of its context; the slot is always there to be released again
	return err
}

// stuck does something that may take long. The lane's slot goes to others meanwhile, and its place among what is held:
// its deliveries are parked.
func (in *intake) stuck(l *lane, do func() error) error {
	in.mu.Lock()
	l.stuck = true
	for _, w := range l.waiting {
		if !w.parked {
			in.release(l, w)
			w.parked, w.renewed = true, time.Now()
			in.try(w.GiveBack(parkTime))
		}
	}
	in.mu.Unlock()
	err := in.away(do)
	in.mu.Lock()
	l.stuck = false
	in.mu.Unlock()
	return err
}

// ack ends a job's message by a delivery of it, or of another job.
type ack struct {
	by       *stream.Delivery
	sequence uint64
}

// applied acks a job that has taken effect, whoever it was handed to: the one who was may have died, or given it back for long,
// as jobs of held contexts are.
func (in *intake) applied(l *lane, seq uint64) {
	in.mu.Lock()
	done := ack{l.latest, seq}
	if w := l.waiting[seq]; w != nil {
		done.by = w.Delivery
		in.release(l, w)
		delete(l.waiting, seq)
	}
	in.mu.Unlock()
	in.acks <- done
}

// ack sends acks until the lanes have ended and acks is closed. Lanes leave theirs here, as a connection's lock is held
// while it writes: a lane that waited for it could not run its next job meanwhile.
func (in *intake) ack() {
	for done := range in.acks {
		crash.Here(crash.AckBefore)
		in.try(done.by.AckFor(done.sequence))
		crash.Here(crash.AckAfter)
	}
}

// leave forgets a delivery without an ack.
func (in *intake) leave(l *lane, seq uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if w := l.waiting[seq]; w != nil {
		in.release(l, w)
		delete(l.waiting, seq)
	}
}

func (in *intake) abandon(l *lane) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.abandonLocked(l)
}

// abandonLocked gives back everything that a lane holds, and ends it.
func (in *intake) abandonLocked(l *lane) {
	for _, w := range l.waiting {
		in.giveBack(w.Delivery)
		in.release(l, w)
	}
	l.waiting = nil
	delete(in.lanes, l.name)
}

// failed waits before a lane tries again; what can't get better by itself stops the worker.
func (in *intake) failed(ctx context.Context, l *lane, err error, failures int) {
	var f *fatalError
	if errors.As(err, &f) {
		in.halt(f)
		return
	}
	if failures == 0 {
		in.rounds.log.Warn("context is held up; trying on", "context", l.name, "error", err)
	}
	wait := func() error { return in.rounds.pause(ctx, min(50*time.Millisecond<<min(failures, 7), 5*time.Second)) }
	if failures < 3 {
		_ = in.away(wait)
	} else {
		_ = in.stuck(l, wait)
	}
}

// halt gives back what is not at hand, and ends every lane after the job that it is at. why is nil for an orderly stop.
func (in *intake) halt(why error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.stop {
		return
	}
	in.stop, in.fatal = true, why
	for _, l := range in.lanes {
		for seq, w := range l.waiting {
			if seq != l.target {
				in.giveBack(w.Delivery)
				in.release(l, w)
				delete(l.waiting, seq)
			}
		}
	}
	in.room.Broadcast()
	close(in.halted)
}

// renew keeps what is held from being handed to others, until ctx ends.
func (in *intake) renew(ctx context.Context) {
	tick := time.NewTicker(in.ackWait / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			in.renewOnce(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

func (in *intake) renewOnce(now time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, l := range in.lanes {
		for _, w := range l.waiting {
			switch age := now.Sub(w.renewed); {
			case w.parked && age > parkTime*2/3:
				w.renewed = now
				in.try(w.GiveBack(parkTime))
			case !w.parked && age > in.ackWait/6:
				w.renewed = now
				in.try(w.Working())
			}
		}
	}
}

// stray ends a job whose context can't have a commit: its dead letter is all that is recorded (rule 7).
func (in *intake) stray(ctx context.Context, l *lane, seq uint64, why error) error {
	in.mu.Lock()
	w := l.waiting[seq]
	in.mu.Unlock()
	if w == nil {
		return nil
	}
	a := job.Address{Pool: in.rounds.pool, Context: l.name}
	e := job.Error{Reason: job.ReasonMalformed, Message: why.Error()}
	c := job.Commit{Applied: seq, Outbox: []job.Effect{{Kind: job.EffectDead}}, Report: job.Report{
		Job: fmt.Sprintf("seq-%d", seq), Sequence: seq, Outcome: job.OutcomeDead, Error: &e, Published: w.Message.Time, Started: time.Now().UTC(),
		Caller: w.Message.Get(job.HeaderCaller),
	}}
	f := flush{address: a, commit: c, applied: w.Message}
	if in.rounds.outbox.publish(ctx, f) != nil {
		if err := in.stuck(l, func() error { return in.rounds.insist(ctx, f) }); err != nil {
			return err
		}
	}
	in.rounds.ended(l.name, c.Report)
	in.applied(l, seq)
	return nil
}
