package worker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/internal/crash"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/worker/calls"
)

// outbox publishes what commits owe to the world.
type outbox struct {
	stream  journal
	keys    job.Keyring
	worker  string
	log     *slog.Logger
	now     func() time.Time
	clock   calls.Clock // of timers
	pause   func(ctx context.Context, d time.Duration) error
	givesUp time.Duration // how long a definite refusal is retried

	overBound time.Duration // how long effects wait for room among the calls
	maxLetter int           // bytes of a dead letter
}

// publish puts a commit's effects on their streams: effects to one subject in order, each stored before the next is
// sent (rule 4); subjects side by side. Each is tried once; how to go on after an error is for insist.
func (o *outbox) publish(ctx context.Context, f flush) error {
	return o.each(ctx, f, func(ctx context.Context, i int, m job.Message) error {
		return o.send(ctx, f.commit.Outbox[i].Kind, m)
	})
}

// insist is publish until all effects are stored, or have been refused for so long that they became dead letters
// themselves. How long that is counts for the outbox as a whole, not for each effect in turn.
func (o *outbox) insist(ctx context.Context, f flush) error {
	p := &patience{began: o.now()}
	f.again = true
	return o.each(ctx, f, func(ctx context.Context, i int, m job.Message) error {
		return o.insistOn(ctx, f, i, m, p)
	})
}

// patience is how long an outbox has been waiting.
type patience struct {
	began time.Time

	mu      sync.Mutex
	refused map[string]time.Time // since when a subject refuses, without a success or another error in between
}

// refusedSince records how a try on a subject ended, and returns since when it refuses; zero: it does not.
func (p *patience) refusedSince(subject string, refuses bool, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !refuses {
		delete(p.refused, subject)
		return time.Time{}
	}
	if p.refused == nil {
		p.refused = map[string]time.Time{}
	}
	if p.refused[subject].IsZero() {
		p.refused[subject] = now
	}
	return p.refused[subject]
}

// flush is a commit whose outbox is to be published.
type flush struct {
	address  job.Address
	commit   job.Commit
	revision uint64
	applied  job.Message // the job that the commit ended
	again    bool        // some of it may have been published before, and long ago
}

// numbered is the message of an effect.
type numbered struct {
	index int
	job.Message
}

// each makes the effects' messages and hands them to send, in order for each subject.
func (o *outbox) each(ctx context.Context, f flush, send func(context.Context, int, job.Message) error) error {
	if len(f.commit.Outbox) == 1 && !f.commit.Outbox[0].Cancelled {
		m, err := o.message(f, 0)
		if err != nil {
			return err
		}
		return send(ctx, 0, m)
	}
	bySubject := map[string][]numbered{}
	for i, e := range f.commit.Outbox {
		if e.Cancelled {
			continue
		}
		m, err := o.message(f, i)
		if err != nil {
			return err
		}
		bySubject[m.Subject] = append(bySubject[m.Subject], numbered{i, m})
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for _, line := range bySubject {
		group.Go(func() error {
			for _, m := range line {
				if err := send(ctx, m.index, m.Message); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// patienceWhenFull is how long effects wait for room among the calls. Then they are published over the bound: the
// answers that would make room may themselves be waiting for room among the jobs, which these effects hold up. What
// that adds is one outbox a context.
const patienceWhenFull = 30 * time.Second

// insistOn publishes one message until it is stored. A stream that is full, or gone, is asked again for a while; then
// the effect becomes a dead letter and counts as published, so that its context can go on.
func (o *outbox) insistOn(ctx context.Context, f flush, i int, m job.Message, p *patience) error {
	kind := f.commit.Outbox[i].Kind
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := o.send(ctx, kind, m)
		if errors.Is(err, stream.ErrFull) && o.now().Sub(p.began) >= o.overBound {
			err = o.stream.Publish(ctx, m)
		}
		since := p.refusedSince(m.Subject, definite(err), o.now())
		if err == nil {
			return nil
		}
		if wait == 20*time.Millisecond {
			o.log.Warn("an effect can't be published; trying on", "context", f.address.Context, "subject", m.Subject, "error", err)
		}
		if kind != job.EffectDead && !since.IsZero() && o.now().Sub(since) >= o.givesUp {
			return o.giveUp(ctx, f, i, m, err)
		}
		if err := o.pause(ctx, wait); err != nil {
			return err
		}
	}
}

// definite tells a refusal from a failure to get an answer. A calls stream over its bound is neither: it empties by
// itself.
func definite(err error) bool {
	var no *stream.Refusal
	return errors.As(err, &no) || errors.Is(err, stream.ErrNoStream)
}

// giveUp turns an effect that is refused for good into a dead letter. A call's error script hears of it as well, as of
// a call whose outcome is not known: should this process end before the job is acked, the next one tries to publish the
// call again.
func (o *outbox) giveUp(ctx context.Context, f flush, i int, m job.Message, why error) error {
	dead := f
	dead.commit.Outbox = slices.Clone(f.commit.Outbox)
	dead.commit.Outbox[i] = job.Effect{Kind: job.EffectDead}
	if err := o.insistOn(ctx, dead, i, o.refusedLetter(f, i, m, why), &patience{}); err != nil || f.commit.Outbox[i].Kind != job.EffectCall {
		return err
	}
	answer, err := o.keys.AnswerMessage(f.address, f.commit.Outbox[i].Service, job.EffectID(f.commit.Applied, i), f.commit.Report.Trace, job.Answer{
		Failure: &job.Failure{Type: job.FailureUnknown, Message: "the call could not be queued for its service: " + why.Error()},
	})
	if err != nil {
		return err
	}
	return o.tell(ctx, f, answer)
}

// tell publishes an answer, for as long as effects are tried: the jobs stream may be full of jobs that wait for this
// one.
func (o *outbox) tell(ctx context.Context, f flush, answer job.Message) error {
	for began := o.now(); ; {
		err := o.stream.Publish(ctx, answer)
		if err == nil {
			return nil
		}
		if o.now().Sub(began) >= o.givesUp {
			o.log.Error("a call's error script can't be told that the call was given up", "context", f.address.Context, "error", err)
			return nil // the dead letter tells it
		}
		if err := o.pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

func (o *outbox) send(ctx context.Context, kind string, m job.Message) error {
	crash.Here(crash.OutboxBefore)
	crash.Here(beforeEffect[kind])
	if kind == job.EffectCall {
		if err := o.stream.RoomForCalls(ctx); err != nil {
			return err
		}
	}
	if err := o.stream.Publish(ctx, m); err != nil {
		return err
	}
	crash.Here(crash.OutboxAfter)
	return nil
}

var beforeEffect = map[string]crash.Point{job.EffectCall: crash.OutboxCall, job.EffectJob: crash.OutboxJob, job.EffectDead: crash.OutboxDead}

func (o *outbox) refusedLetter(f flush, i int, m job.Message, why error) job.Message {
	e := job.Error{Reason: job.ReasonRefused, Message: why.Error(), Script: f.commit.Report.Script}
	return o.deadMessage(f.address, job.EffectID(f.commit.Applied, i), o.letter(f, e, m.Copy()))
}

// message makes the message of one effect. Its id and what it asks for are the same however often it is made (rule 5).
func (o *outbox) message(f flush, i int) (job.Message, error) {
	e, report := f.commit.Outbox[i], f.commit.Report
	origin := job.Origin{Address: f.address, Sequence: f.commit.Applied, Index: i}
	switch {
	case e.Kind == job.EffectDead && report.Error != nil:
		letter := o.letter(f, *report.Error, f.applied.Copy())
		letter.Call, letter.Source = e.Call, e.Source
		return o.deadMessage(f.address, fmt.Sprint(f.commit.Applied), letter), nil
	case e.Kind == job.EffectCall && e.Request != nil:
		return o.callMessage(f, origin, e)
	case e.Kind == job.EffectJob && e.Job != nil:
		return o.jobMessage(f.commit, origin, e.Job)
	}
	return job.Message{}, fmt.Errorf("context %s: effect %d of job %d is of an unknown kind %q", f.address, i, f.commit.Applied, e.Kind)
}

func (o *outbox) callMessage(f flush, origin job.Origin, e job.Effect) (job.Message, error) {
	c := f.commit
	call := job.Call{
		ID: origin.ID(), Service: e.Service, Revision: f.revision, Parent: c.Report.Job, Request: *e.Request, Trace: c.Report.Trace,
		Key: e.Request.IdempotencyKey,
	}
	if e.Service == job.Timer {
		return o.timerMessage(f, call)
	}
	if call.Key == "" {
		call.Key = o.keys.IdempotencyKey(c.Key, origin)
	}
	if f.again { // the stream may not know that it had this call, nor that the call was sent (rule 14)
		call.First = c.Report.Started
	}
	body, err := job.Encode(call)
	if err != nil {
		return job.Message{}, err
	}
	m := job.Message{Subject: f.address.CallSubject(e.Service), Data: body, Header: map[string][]string{
		job.HeaderID: {o.keys.MessageID(c.Key, e.Kind, origin)},
	}}
	o.keys.Sign(&m)
	return m, nil
}

// timerMessage puts a timer on the server's clock. Published again after it was due, it is due at once, and finds its call
// closed (rule 17).
func (o *outbox) timerMessage(f flush, call job.Call) (job.Message, error) {
	due, err := job.ParseTimerURL(call.Request.URL)
	if err != nil {
		return job.Message{}, err
	}
	return o.keys.Scheduled(f.address, call, due.Add(-o.clock.Ahead()))
}

func (o *outbox) jobMessage(c job.Commit, origin job.Origin, d *job.Dispatched) (job.Message, error) {
	m := job.Message{Subject: d.To, Header: map[string][]string{
		job.HeaderID:     {o.keys.MessageID(c.Key, job.EffectJob, origin)},
		job.HeaderSource: {origin.String()},
		job.HeaderCaller: {d.Caller},
		job.HeaderParent: {c.Report.Job},
	}}
	if d.Release != "" {
		m.Header[job.HeaderRelease] = []string{d.Release}
	}
	if d.Script != "" {
		m.Header[job.HeaderScript] = []string{d.Script}
	}
	if c.Report.Trace != "" {
		m.Header[job.HeaderTrace] = []string{c.Report.Trace}
	}
	typ, body, err := dispatchedBody(d)
	m.Data = body
	if typ != "" {
		m.Header[job.HeaderType] = []string{typ}
	}
	o.keys.Sign(&m)
	return m, err
}

func dispatchedBody(d *job.Dispatched) (typ string, body []byte, err error) {
	switch {
	case d.Answer != nil:
		body, err = job.Encode(d.Answer)
		return job.TypeAnswer, body, err
	case d.Source != "":
		body, err = job.Encode(job.Inline{Source: d.Source, Data: d.Data})
		return job.TypeInline, body, err
	case d.Data != nil:
		return job.TypeJSON, d.Data, nil
	}
	return "", nil, nil
}

func (o *outbox) letter(f flush, e job.Error, m job.Original) job.DeadLetter {
	r := f.commit.Report
	return job.DeadLetter{
		Error: e, Job: r.Job, Context: f.address.String(), Script: r.Script, Release: r.Release, Caller: r.Caller,
		Revision: f.revision, Time: r.Started, Worker: o.worker, Message: m,
	}
}

// deadMessage is a dead letter on its way. The stream keeps one message a subject, so a repeat changes nothing (rule
// 7). Of a message that is too large to go along its size and digest do.
func (o *outbox) deadMessage(a job.Address, id string, letter job.DeadLetter) job.Message {
	body, err := job.Encode(letter)
	if err != nil || len(body) > o.maxLetter {
		sum := sha256.Sum256(letter.Message.Data)
		letter.Message.Data = fmt.Appendf(nil, "(%d bytes, too many to keep; sha256 %x)", len(letter.Message.Data), sum)
		letter.Message.Header, letter.Source = nil, ""
		body = encode(letter)
	}
	return job.Message{Subject: a.DeadSubject(id), Data: body}
}
