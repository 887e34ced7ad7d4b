package calls

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/internal/crash"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Config says what a Performer works with. All fields from Bodies on may be left out.
type Config struct {
	Streams  Streams
	Take     func(context.Context, Service) (Deliveries, error) // opens the deliveries of a service's calls
	Keys     job.Keyring
	Services *Declared
	Secrets  Secrets

	// Stands makes what was read of a context stand, or returns stream.ErrConflict where there is something else to read by now.
	Stands func(ctx context.Context, name string, e stream.Entry) error

	Grace  time.Duration // how long calls under way may take to end after Run's ctx did
	Logger *slog.Logger

	Bodies    Bodies                            // of the pool; nil: none are stored or read, as in simulations
	Pacing    Pacing                            // how fast services are called; nil: as fast as calls are handed out
	Transport http.RoundTripper                 // sends requests in place of the network; simulations have one
	Jitter    func(time.Duration) time.Duration // a random part of a duration; default: rand.N
	Observer  Observer                          // hears of each try; default: nobody does
	Clock     Clock                             // of the time that tries may take; default: the machine's
}

// Streams is what a performer needs of the pool's streams. *stream.Pool is one.
type Streams interface {
	ContextFromLeader(ctx context.Context, name string) (stream.Entry, error)
	Publish(ctx context.Context, m job.Message) error
}

// Deliveries hands out a service's calls. *stream.Deliveries is one.
type Deliveries interface {
	Next() (*stream.Delivery, error)
	AckWait() time.Duration
	Stop()
	Close()
}

// Performer makes a pool's calls. Open is called once, then Run.
type Performer struct {
	config Config
	now    func() time.Time
	looks  *looks

	mu       sync.Mutex
	serving  map[string]*serving           // by service
	inFlight map[uint64][]*stream.Delivery // by the sequence of the call's message; more than one where that was given out anew
}

// Batch is how many calls of a service are asked for ahead.
const Batch = 64

// maxAge is how long after its first try a call is still tried, unless its service says otherwise. Stripe forgets an Idempotency-Key after 24 hours; a
// try after that could be a second execution (rule 14).
const maxAge = 23 * time.Hour

// New makes a performer.
func New(c Config) *Performer {
	if c.Jitter == nil {
		c.Jitter = rand.N[time.Duration]
	}
	if c.Observer == nil {
		c.Observer = Unobserved{}
	}
	if c.Clock == nil {
		c.Clock = MachineClock{}
	}
	return &Performer{config: c, now: time.Now, looks: newLooks(), serving: map[string]*serving{}, inFlight: map[uint64][]*stream.Delivery{}}
}

// Run performs calls of all services until ctx ends, of those that are declared at the time. It then takes no more, lets
// the calls under way end within the grace period, and gives the others back: whoever takes them sends them under the
// same Idempotency-Key.
func (p *Performer) Run(ctx context.Context) error {
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	group, ctx := errgroup.WithContext(ctx)
	p.mu.Lock()
	for _, s := range p.serving {
		p.begin(ctx, work, group, s)
	}
	p.mu.Unlock()
	group.Go(func() error { return p.follow(ctx, work, group) })
	if p.config.Pacing != nil {
		group.Go(func() error { return p.listen(ctx) })
	}
	renewing, stopRenewing := context.WithCancel(work)
	var renewer sync.WaitGroup
	renewer.Go(func() { p.renew(renewing) })
	ended := make(chan struct{})
	var stopper sync.WaitGroup
	stopper.Go(func() {
		select {
		case <-ctx.Done():
			_ = pause(work, p.config.Grace)
			cut()
		case <-ended:
		}
	})
	err := group.Wait()
	close(ended)
	cut()
	stopRenewing()
	renewer.Wait()
	stopper.Wait()
	return err
}

// serve takes a service's calls, each performed by a goroutine of its own, and waits for them in the end. The
// consumer's max_ack_pending bounds them.
func (p *Performer) serve(ctx, work context.Context, s *serving) error {
	var under sync.WaitGroup
	defer s.client.close()
	defer under.Wait()
	defer context.AfterFunc(ctx, s.taking.Stop)()
	for {
		d, err := s.taking.Next()
		if errors.Is(err, stream.ErrStopped) && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("take calls of %s: %w", s.service.Name, err)
		}
		if ctx.Err() != nil {
			p.try(d.GiveBack(0))
			continue
		}
		crash.Here(crash.CallTaken)
		if !p.hold(s, d) {
			continue
		}
		under.Go(func() {
			if u := p.prepare(ctx, work, s, d); u != nil {
				under.Go(func() {
					u.try.exchange()
					p.finish(ctx, work, u)
				})
			}
		})
	}
}

// hold keeps a call from being handed to others, until let. It returns false when this worker has it: its words to the server were
// on their way for too long, and what comes of it counts for the message however often it is handed out.
func (p *Performer) hold(by *serving, d *stream.Delivery) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	seq := d.Message.Sequence
	same := func(other *stream.Delivery) bool { return other.Message.Time.Equal(d.Message.Time) }
	if slices.ContainsFunc(p.inFlight[seq], same) {
		return false
	}
	by.inFlight.Add(1)
	p.inFlight[seq] = append(p.inFlight[seq], d)
	return true
}

// forget ends a hold, and tells whether the sequence is another message's by now: a server that lost its power gives it out anew,
// and what is said about the one counts for the other.
func (p *Performer) forget(d *stream.Delivery) (another bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seq := d.Message.Sequence
	left := slices.DeleteFunc(p.inFlight[seq], func(other *stream.Delivery) bool { return other == d })
	if p.inFlight[seq] = left; len(left) == 0 {
		delete(p.inFlight, seq)
	}
	return len(left) > 0
}

// let ends a call's message, or gives it back, as err says: nil is a call that has served. taking ends before work does.
func (p *Performer) let(taking context.Context, by *serving, d *stream.Delivery, err error) {
	by.inFlight.Add(-1)
	switch another := p.forget(d); {
	case another:
	case err == nil:
		crash.Here(crash.CallAckBefore)
		p.try(d.Ack())
		crash.Here(crash.CallAckAfter)
	case taking.Err() != nil:
		p.try(d.GiveBack(0))
	default:
		p.config.Logger.Warn("call is held up; it comes again", "subject", d.Message.Subject, "error", err)
		p.try(d.GiveBack(time.Second))
	}
}

func (p *Performer) try(err error) {
	if err != nil {
		p.config.Logger.Debug("ack not sent", "error", err)
	}
}

func (p *Performer) renew(ctx context.Context) {
	for pause(ctx, p.shortest()/3) == nil {
		p.mu.Lock()
		for _, held := range p.inFlight {
			p.try(held[0].Working())
		}
		p.mu.Unlock()
	}
}

// read reads a call's message, which only a worker can have made.
func (p *Performer) read(m job.Message) (job.Address, job.Call, error) {
	var call job.Call
	a, err := job.ParseCallSubject(m.Subject)
	if err != nil {
		return a, call, err
	}
	if err := p.config.Keys.Verify(m); err != nil {
		return a, call, err
	}
	if err := json.Unmarshal(m.Data, &call); err != nil {
		return a, call, fmt.Errorf("the call is not JSON: %w", err)
	}
	call.From = a
	_, _, err = job.ParseEffectID(call.ID)
	return a, call, err
}

// bury ends a message that is no call of ours as a dead letter.
func (p *Performer) bury(ctx context.Context, m job.Message, why error) error {
	a, err := job.ParseCallSubject(m.Subject)
	if err != nil && a.Context == "" { // can't be: the consumer takes no such subject
		return err
	}
	reason := job.ReasonMalformed
	if errors.Is(why, job.ErrNoProof) {
		reason = job.ReasonForged
	}
	id := fmt.Sprintf("call-%d", m.Sequence)
	p.config.Logger.Warn("call is a dead letter", "context", a.Context, "job_id", id, "reason", reason, "error", why)
	body, err := job.Encode(job.DeadLetter{
		Error: job.Error{Reason: reason, Message: why.Error()}, Job: id, Context: a.String(), Time: p.now().UTC(), Message: m.Copy(),
	})
	if err != nil {
		return err
	}
	return p.config.Streams.Publish(ctx, job.Message{Subject: a.DeadSubject(id), Data: body})
}

// retryLater has a call tried again once its wait is over. Where the API asks for a wait that the call is too old for by
// then, what it said is the answer at once.
func (p *Performer) retryLater(ctx context.Context, a job.Address, call job.Call, s Service, got result) error {
	call.Last = got.answer.Failure.Message
	at := p.now().Add(s.wait(call.Attempt, got.after, p.config.Jitter))
	if got.after > 0 && at.Sub(call.First) > s.MaxAge {
		return p.answer(ctx, a, call, got.answer)
	}
	if fits, err := p.later(ctx, a, call, at); fits || err != nil {
		return err
	}
	return p.answer(ctx, a, call, got.answer)
}

// postponed is how long a call is put off at most. A timer that is due before the pause ends hands the call to the paused
// consumer, which keeps it for as long as need be; one that is due later would outlast a pause that an operator cuts short.
const postponed = time.Second

// postpone puts a call off that got its slot while its service is paused. It leaves the consumer's hands for that: given back it
// would be handed out again beside the one call that may be.
func (p *Performer) postpone(ctx context.Context, by *serving, a job.Address, call job.Call) (bool, error) {
	now := p.now()
	until := by.brake.paused(now)
	if by.pacer == nil || until.IsZero() {
		return false, nil
	}
	return p.later(ctx, a, call, now.Add(min(until.Sub(now), postponed)))
}

// later puts a call on the server's timer, and lets go of it: nobody waits, and the wait takes no place among the calls in
// flight. fits is false when the call leaves no room for a timer.
func (p *Performer) later(ctx context.Context, a job.Address, call job.Call, at time.Time) (fits bool, err error) {
	m, err := p.config.Keys.Scheduled(a, call, at)
	if err != nil || len(m.Data) > job.MaxJob-4<<10 {
		return false, err
	}
	crash.Here(crash.CallRetryBefore)
	defer crash.Here(crash.CallRetryAfter)
	return true, p.insist(ctx, a, call, m)
}

// wait is how long the next try waits after attempt tries: the backoff doubled each time up to the service's longest wait, three
// quarters to the whole of it at random, or what the API asked for if that is longer.
func (s Service) wait(attempt int, asked time.Duration, jitter func(time.Duration) time.Duration) time.Duration {
	d := min(s.Backoff, s.MaxWait)
	for range attempt - 1 {
		d = min(2*d, s.MaxWait)
	}
	return max(d-jitter(d/4+1), asked)
}

// answer puts what came of a call on the stream, as a job of its context.
func (p *Performer) answer(ctx context.Context, a job.Address, call job.Call, ans job.Answer) error {
	ans.Attempts = call.Attempt
	m, err := p.config.Keys.AnswerMessage(a, call.Service, call.ID, call.Trace, ans)
	if err != nil {
		return err
	}
	crash.Here(crash.CallAnswerBefore)
	defer crash.Here(crash.CallAnswerAfter)
	return p.insist(ctx, a, call, m)
}

// insist publishes until the stream has the message. The call's own message is held meanwhile, so that the call is not
// sent again.
func (p *Performer) insist(ctx context.Context, a job.Address, call job.Call, m job.Message) error {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := p.config.Streams.Publish(ctx, m)
		if err == nil {
			return nil
		}
		if wait == 20*time.Millisecond {
			p.config.Logger.Warn("an answer can't be stored; trying on", "context", a.Context, "call", call.ID, "error", err)
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

func (p *Performer) logTry(a job.Address, call job.Call, got result) {
	attrs := []any{"context", a.Context, "service", call.Service, "call", call.ID, "attempt", call.Attempt, "status", got.answer.Status,
		"took_ms", got.answer.Duration}
	if f := got.answer.Failure; f != nil {
		p.config.Logger.Info("call failed", append(attrs, "type", f.Type, "retry", got.retry, "error", f.Message)...)
		return
	}
	p.config.Logger.Debug("call answered", attrs...)
}

func outcomeUnknown(call job.Call, maxAge time.Duration) job.Answer {
	return job.Answer{Failure: &job.Failure{
		Type: job.FailureUnknown,
		Message: fmt.Sprintf("the first try may have been at %s, more than %s ago, and its outcome is not known (last try: %s); the API may have forgotten the Idempotency-Key",
			call.First.Format(time.RFC3339), maxAge, cmp.Or(call.Last, "not recorded")),
	}}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
