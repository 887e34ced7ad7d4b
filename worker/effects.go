package worker

import (
	"context"
	"fmt"
	"maps"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/scripting"
)

// fillOutbox turns what the script asked for into the effects and open calls of the commit.
func (j *judge) fillOutbox(ctx context.Context, t *trial, ran scripting.Script, out *scripting.Outcome) error {
	if len(out.Effects)+len(out.Cancelled) == 0 {
		return nil
	}
	t.next.Calls = maps.Clone(t.next.Calls)
	t.cancel(out.Cancelled)
	for _, e := range out.Effects {
		var err error
		if e.Call != nil {
			err = j.addCall(t, ran, e.Call)
		} else {
			err = j.addDispatch(ctx, t, ran, e.Dispatch)
		}
		if err != nil {
			return err
		}
	}
	if len(t.next.Calls) > job.MaxCalls {
		return dead(job.ReasonTooLarge, "the context would have %d open calls and timers, at most %d are allowed", len(t.next.Calls), job.MaxCalls)
	}
	return nil
}

// cancel closes open calls. Nothing else is needed: a performer asks before each try whether its call is open, and an
// answer to a call that is not is late (rule 15).
func (t *trial) cancel(ids []string) {
	for _, id := range ids {
		if _, open := t.next.Calls[id]; open {
			delete(t.next.Calls, id)
			t.next.Report.Cancelled = append(t.next.Report.Cancelled, id)
		}
	}
}

func (j *judge) addCall(t *trial, ran scripting.Script, c *scripting.Call) error {
	service, err := j.services.Services().For(c.URL)
	if err != nil {
		return dead(job.ReasonService, "call %s: %v", c.ID, err)
	}
	if len(c.Tag) > maxTag {
		return dead(job.ReasonTooLarge, "call %s: its tag has %d bytes, at most %d are allowed: keep more in the context's state", c.ID, len(c.Tag), maxTag)
	}
	request := &job.Request{Method: c.Method, URL: c.URL, Body: c.Body, Timeout: c.Timeout, IdempotencyKey: c.IdempotencyKey}
	for _, h := range c.Header {
		request.Header = append(request.Header, job.HeaderLine(h))
	}
	if d := j.allow.call(ran, c.ID, service, request); d != nil {
		return d
	}
	if c.Cancelled {
		t.next.Report.Cancelled = append(t.next.Report.Cancelled, c.ID)
		return t.add(job.Effect{Kind: job.EffectCall, Service: service.Name, Request: &job.Request{Method: c.Method, URL: c.URL}, Cancelled: true})
	}
	if t.next.Calls == nil {
		t.next.Calls = map[string]job.OpenCall{}
	}
	open := job.OpenCall{
		Service: service.Name, Operation: c.Operation, Then: c.Then, Catch: c.Catch, Tag: c.Tag, Parent: t.job.ID, Release: t.release,
	}
	if service.Name == job.Timer {
		if open.Due, err = job.ParseTimerURL(c.URL); err != nil {
			return dead(job.ReasonMalformed, "timer %s: %v", c.ID, err)
		}
	}
	t.next.Calls[c.ID] = open
	return t.add(job.Effect{Kind: job.EffectCall, Service: service.Name, Request: request})
}

func (j *judge) addDispatch(ctx context.Context, t *trial, ran scripting.Script, d *scripting.Dispatch) error {
	to := t.job.Address
	if d.Worker != "" {
		to.Pool = d.Worker
	}
	if d.Context != "" {
		to.Context = d.Context
	}
	if err := to.Valid(); err != nil {
		return dead(job.ReasonMalformed, "dispatch %s: %v", d.ID, err)
	}
	if d := j.allow.dispatch(d.ID, t.job.Address, to); d != nil {
		return d
	}
	if to.Pool != t.job.Address.Pool {
		switch ok, err := j.poolExists(ctx, to.Pool); {
		case err != nil:
			return fmt.Errorf("look for worker pool %s: %w", to.Pool, err)
		case !ok:
			return dead(job.ReasonNoPool, "dispatch %s: no worker pool named %s", d.ID, to.Pool)
		}
	}
	out := &job.Dispatched{To: to.String(), Caller: t.job.Address.String(), Script: d.Script, Source: d.Source, Data: d.Data}
	if to == t.job.Address {
		out.Release = t.release
	}
	if ran.Source != "" && d.Script == scripting.InlineName(ran.Source) {
		out.Script, out.Source = "", ran.Source
	}
	return t.add(job.Effect{Kind: job.EffectJob, Job: out})
}

func (t *trial) add(e job.Effect) error {
	encoded, err := job.Encode(e)
	if err != nil {
		return dead(job.ReasonTooLarge, "effect %d can't be encoded: %v", len(t.next.Outbox), err)
	}
	if len(encoded) > maxEffect {
		return dead(job.ReasonTooLarge, "effect %d has %d bytes, at most %d are allowed", len(t.next.Outbox), len(encoded), maxEffect)
	}
	if t.outbox += len(encoded); t.outbox > maxOutbox {
		return dead(job.ReasonTooLarge, "what the job asked for has %d bytes, at most %d are allowed", t.outbox, maxOutbox)
	}
	t.next.Outbox = append(t.next.Outbox, e)
	return nil
}
