package calls

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/thence-dev/thence/internal/stream"
)

// Rate is how many calls to a service the whole pool may begin in a time: 25 in a second, say. They begin at even
// distances. The zero value is no limit.
type Rate struct {
	Calls int
	Per   time.Duration
	Burst int // how many may begin at once after a silence; default 1
}

// periods are what a rate may be counted by.
var periods = []struct {
	name string
	time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}}

// ParseRate reads a rate such as 25/s, 100/m or 1000/h.
func ParseRate(text string) (Rate, error) {
	number, per, _ := strings.Cut(text, "/")
	calls, err := strconv.Atoi(strings.TrimSpace(number))
	for _, p := range periods {
		if err == nil && calls > 0 && strings.TrimSpace(per) == p.name {
			return Rate{Calls: calls, Per: p.Duration}, nil
		}
	}
	return Rate{}, fmt.Errorf("want calls in a time, such as 25/s, 100/m or 1000/h, got %q", text)
}

// String is the rate as ParseRate reads it, with its burst.
func (r Rate) String() string {
	if r.Calls == 0 {
		return ""
	}
	per := r.Per.String()
	for _, p := range periods {
		if r.Per == p.Duration {
			per = p.name
		}
	}
	text := fmt.Sprintf("%d/%s", r.Calls, per)
	if r.Burst > 1 {
		text += fmt.Sprintf(", burst %d", r.Burst)
	}
	return text
}

func (r Rate) validate() error {
	if r.Calls < 0 || r.Burst < 0 || r.Per < 0 || (r.Calls > 0) != (r.Per > 0) || r.Calls == 0 && r.Burst > 0 {
		return errors.New("rate: want calls in a time, such as 25 in a second, and a burst only beside them")
	}
	if r.Calls > 0 && r.distance() <= 0 {
		return errors.New("rate: want less than a billion calls in a second")
	}
	return nil
}

// distance is the time from one call to the next.
func (r Rate) distance() time.Duration { return r.Per / time.Duration(r.Calls) }

// early is how much before its time a call may begin, where others have not used theirs.
func (r Rate) early() time.Duration { return time.Duration(max(1, r.Burst)-1) * r.distance() }

// useful is how many calls in flight a rate can make use of, each taking as long as it may.
func (r Rate) useful(timeout time.Duration) int {
	return max(1, r.Burst) + int(math.Ceil(float64(timeout+ahead)/float64(r.distance())))
}

// Bounds of reservations. Together they bound what is lost with a worker that dies, and how long after its slot a call
// may begin.
const (
	ahead   = 500 * time.Millisecond // slots are reserved that begin within that time
	tooLate = 250 * time.Millisecond // after its begin a slot is thrown away
	resync  = time.Minute            // then the server is asked for its time again, before the next reservation
	asks    = 3                      // how often at most, while answers are not quick
	quick   = 5 * time.Millisecond   // an answer that is near enough
	spare   = 256                    // slots that were given back and not taken yet; of more, few would be before they are too late
	askew   = 5 * time.Second        // how much the clocks of a cluster's servers, and what workers know of them, may differ
)

// Marks are the rates' marks, which all workers of the pool share. *stream.Pool has them.
type Marks interface {
	RateMark(ctx context.Context, service string) (stream.RateMark, error)
	SetRateMark(ctx context.Context, service string, mark stream.RateMark) (stream.RateMark, error)
	RateClock(ctx context.Context) (time.Time, error)
}

// pacer gives the slots of a service's rate to this worker's calls. It reserves them by moving the pool's mark (GCRA), several
// at a time where several calls wait, so that each slot is given out once by whichever worker. Slots are times of the
// server's clock: those of the workers don't matter.
type pacer struct {
	service string
	rate    Rate
	marks   Marks
	jitter  func(time.Duration) time.Duration
	waiting atomic.Int64 // calls that wait for a slot, or for theirs to begin
	wanting atomic.Int64 // of them, those that have none

	returned chan time.Time // slots whose calls were not sent, for who has the turn

	turn  chan struct{} // holds a token; who has it may use what follows
	slots []time.Time   // reserved, by this worker's monotonic clock, first to begin first
	mark  stream.RateMark
	known bool // mark is what the server had when it was last read or written
	clock clock
}

// clock is another's time: what it was, and when that was here.
type clock struct{ theirs, ours time.Time }

func (c clock) now() time.Time             { return c.theirs.Add(time.Since(c.ours)) }
func (c clock) here(t time.Time) time.Time { return c.ours.Add(t.Sub(c.theirs)) }
func (c clock) old() bool                  { return c.ours.IsZero() || time.Since(c.ours) > resync }

func newPacer(s Service, marks Marks, jitter func(time.Duration) time.Duration) *pacer {
	if s.Rate.Calls == 0 || marks == nil {
		return nil
	}
	p := &pacer{service: s.Name, rate: s.Rate, marks: marks, jitter: jitter, turn: make(chan struct{}, 1), returned: make(chan time.Time, spare)}
	p.turn <- struct{}{}
	return p
}

// wait returns a call's slot when it may begin, and an error when ctx has ended or the mark can't be moved. Calls get their slots in the
// order in which they come, within this worker. Without a pacer there is nothing to wait for.
func (p *pacer) wait(ctx context.Context) (time.Time, error) {
	if p == nil {
		return time.Time{}, nil
	}
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	for {
		slot, err := p.take(ctx)
		if err != nil {
			return slot, err
		}
		if err := pause(ctx, time.Until(slot)); err != nil {
			return slot, err
		}
		if time.Since(slot) <= tooLate {
			return slot, nil
		}
	}
}

// giveBack leaves a slot that wait returned to the next call, since nothing was sent in it.
func (p *pacer) giveBack(slot time.Time) {
	if p == nil {
		return
	}
	select {
	case p.returned <- slot:
	default: // nobody has taken any for long
	}
}

// take takes a slot that was given back or reserved, or reserves some.
func (p *pacer) take(ctx context.Context) (time.Time, error) {
	p.wanting.Add(1)
	defer p.wanting.Add(-1)
	select {
	case <-p.turn:
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
	defer func() { p.turn <- struct{}{} }()
	for {
		if slot, ok := p.first(); ok {
			return slot, nil
		}
		if err := p.reserve(ctx); err != nil {
			return time.Time{}, err
		}
	}
}

// first takes the first slot that is not too late, if there is one. Those that were given back are before the others.
func (p *pacer) first() (slot time.Time, ok bool) {
	for {
		select {
		case slot = <-p.returned:
		default:
			if len(p.slots) == 0 {
				return time.Time{}, false
			}
			slot, p.slots = p.slots[0], p.slots[1:]
		}
		if time.Since(slot) <= tooLate {
			return slot, true
		}
	}
}

// rest waits for d, until a slot is given back, or until ctx ends.
func (p *pacer) rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case slot := <-p.returned:
		p.slots = append(p.slots, slot) // reserve has none
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reserve moves the mark, once its slots are near. It reserves none when another worker was first, or a slot is given back.
func (p *pacer) reserve(ctx context.Context) error {
	if err := p.prepare(ctx); err != nil {
		return err
	}
	now := p.clock.now()
	n := p.rate.batch(p.wanting.Load())
	begin := p.rate.begin(p.mark.Next, now)
	if near := begin.Add(-p.rate.early() - ahead); near.After(now) {
		p.known = false // others move it meanwhile
		return p.rest(ctx, near.Sub(now))
	}
	next := p.mark
	next.Next = begin.Add(time.Duration(n) * p.rate.distance()).UTC()
	moved, err := p.marks.SetRateMark(ctx, p.service, next)
	if errors.Is(err, stream.ErrConflict) {
		p.known = false
		return pause(ctx, p.jitter(10*time.Millisecond))
	}
	if err != nil {
		p.known = false
		return fmt.Errorf("move the mark of the rate of service %s: %w", p.service, err)
	}
	p.mark = moved
	for i := range n {
		slot := begin.Add(time.Duration(i)*p.rate.distance() - p.rate.early())
		p.slots = append(p.slots, p.clock.here(later(slot, now)))
	}
	return nil
}

// prepare reads the server's clock and the mark where they are not known.
func (p *pacer) prepare(ctx context.Context) error {
	if p.clock.old() {
		if err := p.setClock(ctx); err != nil {
			return err
		}
	}
	if p.known {
		return nil
	}
	mark, err := p.marks.RateMark(ctx, p.service)
	p.mark, p.known = mark, err == nil
	return err
}

// setClock asks the server for its time. The server looked at its clock somewhen between question and answer, and is taken to
// have done so at the end: so no slot begins here before it does there, and each later by no more than the answer took. Of
// a few answers the one that was on its way for the shortest time is right for all.
func (p *pacer) setClock(ctx context.Context) error {
	var best clock
	for range asks {
		asked := time.Now()
		theirs, err := p.marks.RateClock(ctx)
		if err != nil {
			return err
		}
		now := clock{theirs, time.Now()}
		if best.ours.IsZero() || now.here(theirs).Before(best.here(theirs)) {
			best = now
		}
		if now.ours.Sub(asked) <= quick {
			break
		}
	}
	p.clock = best
	return nil
}

// batch is how many slots are reserved at a time for so many calls that wait.
func (r Rate) batch(waiting int64) int { return int(max(1, min(waiting, int64(ahead/r.distance())))) }

// begin is when the first free slot begins: at the mark, or now where that has passed. A mark that is farther ahead than any
// reservation reaches is of another rate, or the server's clock was put back.
func (r Rate) begin(mark, now time.Time) time.Time {
	if reach := 2*ahead + r.distance() + r.early() + askew; mark.Before(now) || mark.Sub(now) > reach {
		return now
	}
	return mark
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
