package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// outbox publishes what commits owe to the world.
type outbox struct {
	stream  journal
	keys    job.Keyring
	worker  string
	log     *slog.Logger
	now     func() time.Time
	pause   func(ctx context.Context, d time.Duration) error
	givesUp time.Duration // how long a definite refusal is retried
}

// publish puts a commit's effects on their streams: effects to one subject in order, each stored before the next is sent (rule 4); subjects side
// by side. It returns when all are stored, or have been refused for so long that they became dead letters themselves.
func (o *outbox) publish(ctx context.Context, a job.Address, c job.Commit, revision uint64, applied job.Message) error {
	if len(c.Outbox) == 0 {
		return nil
	}
	if len(c.Outbox) == 1 {
		m, err := o.message(a, c, revision, 0, applied)
		if err != nil {
			return err
		}
		return o.insist(ctx, a, c, 0, m)
	}
	return o.publishAll(ctx, a, c, revision, applied)
}

func (o *outbox) publishAll(ctx context.Context, a job.Address, c job.Commit, revision uint64, applied job.Message) error {
	type numbered struct {
		index int
		job.Message
	}
	bySubject := map[string][]numbered{}
	for i := range c.Outbox {
		m, err := o.message(a, c, revision, i, applied)
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
				if err := o.insist(ctx, a, c, m.index, m.Message); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// insist publishes one message until it is stored. A stream that is full, or gone, is asked again for a while; then the effect
// becomes a dead letter and counts as published, so that its context can go on.
func (o *outbox) insist(ctx context.Context, a job.Address, c job.Commit, index int, m job.Message) error {
	var refused time.Time
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := o.send(ctx, c.Outbox[index].Kind, m)
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		var no *stream.Refusal
		if errors.As(err, &no) || errors.Is(err, stream.ErrNoStream) {
			if refused.IsZero() {
				refused = o.now()
				o.log.Warn("an effect is refused; trying on", "context", a.Context, "subject", m.Subject, "error", err)
			}
			if o.now().Sub(refused) >= o.givesUp && c.Outbox[index].Kind != job.EffectDead {
				return o.insist(ctx, a, deadOutbox(c, index), index, o.refusedLetter(a, c, index, m, err))
			}
		} else {
			refused = time.Time{}
		}
		if err := o.pause(ctx, wait); err != nil {
			return err
		}
	}
}

func (o *outbox) send(ctx context.Context, kind string, m job.Message) error {
	if kind == job.EffectCall {
		if err := o.stream.RoomForCalls(ctx); err != nil {
			return err
		}
	}
	return o.stream.Publish(ctx, m)
}

// deadOutbox marks the effect as a dead letter, so that its publication is insisted on without end.
func deadOutbox(c job.Commit, index int) job.Commit {
	c.Outbox = append([]job.Effect(nil), c.Outbox...)
	c.Outbox[index] = job.Effect{Kind: job.EffectDead}
	return c
}

func (o *outbox) refusedLetter(a job.Address, c job.Commit, index int, m job.Message, why error) job.Message {
	id := job.EffectID(c.Applied, index)
	letter := o.letter(a, c, job.Error{Reason: job.ReasonRefused, Message: why.Error(), Script: c.Report.Script}, m.Copy())
	return o.deadMessage(a, id, letter)
}

// message makes the message of one effect. It is the same however often it is made (rule 5).
func (o *outbox) message(a job.Address, c job.Commit, revision uint64, index int, applied job.Message) (job.Message, error) {
	e := c.Outbox[index]
	origin := job.Origin{Address: a, Sequence: c.Applied, Index: index}
	switch {
	case e.Kind == job.EffectDead && c.Report.Error != nil:
		return o.deadMessage(a, fmt.Sprint(c.Applied), o.letter(a, c, *c.Report.Error, applied.Copy())), nil
	case e.Kind == job.EffectCall && e.Request != nil:
		return o.callMessage(a, c, revision, origin, e)
	case e.Kind == job.EffectJob && e.Job != nil:
		return o.jobMessage(c, origin, e.Job)
	}
	return job.Message{}, fmt.Errorf("context %s: effect %d of job %d is of an unknown kind %q", a, index, c.Applied, e.Kind)
}

func (o *outbox) callMessage(a job.Address, c job.Commit, revision uint64, origin job.Origin, e job.Effect) (job.Message, error) {
	call := job.Call{
		ID: origin.ID(), Service: e.Service, Revision: revision, Parent: c.Report.Job, Request: *e.Request, Trace: c.Report.Trace,
		Key: e.Request.IdempotencyKey,
	}
	if call.Key == "" {
		call.Key = o.keys.IdempotencyKey(c.Key, origin)
	}
	body, err := job.Encode(call)
	if err != nil {
		return job.Message{}, err
	}
	m := job.Message{Subject: a.CallSubject(e.Service), Data: body, Header: map[string][]string{
		job.HeaderID: {o.keys.MessageID(c.Key, e.Kind, origin)},
	}}
	o.keys.Sign(&m)
	return m, nil
}

func (o *outbox) jobMessage(c job.Commit, origin job.Origin, d *job.Dispatched) (job.Message, error) {
	m := job.Message{Subject: d.To, Header: map[string][]string{
		job.HeaderID:     {o.keys.MessageID(c.Key, job.EffectJob, origin)},
		job.HeaderSource: {origin.String()},
		job.HeaderCaller: {d.Caller},
		job.HeaderParent: {c.Report.Job},
	}}
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

func (o *outbox) letter(a job.Address, c job.Commit, e job.Error, m job.Original) job.DeadLetter {
	r := c.Report
	return job.DeadLetter{
		Error: e, Job: r.Job, Context: a.String(), Script: r.Script, Release: r.Release, Caller: r.Caller,
		Time: r.Started, Worker: o.worker, Message: m,
	}
}

// deadMessage is a dead letter on its way. The stream keeps one message a subject, so a repeat changes nothing (rule 7).
func (o *outbox) deadMessage(a job.Address, id string, letter job.DeadLetter) job.Message {
	return job.Message{Subject: a.DeadSubject(id), Data: encode(letter)}
}
