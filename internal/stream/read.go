package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// Watch hands each commit of a context to fn, first those that the bucket's history still holds, oldest first, then new
// ones as they come, until fn returns false or ctx ends. After the history it calls fn once with a zero entry.
func (p *Pool) Watch(ctx context.Context, name string, fn func(Entry) bool) error {
	if err := job.ValidContext(name); err != nil { // a wildcard would show all contexts as one
		return err
	}
	kv, err := p.bucket(ctx)
	if err != nil {
		return err
	}
	w, err := kv.Watch(ctx, name, jetstream.IncludeHistory())
	if err != nil {
		return fmt.Errorf("watch context %s.%s: %w", p.Name, name, err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case e, open := <-w.Updates():
			if !open {
				return fmt.Errorf("watch context %s.%s: the connection is closed", p.Name, name)
			}
			if !fn(watched(e)) {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func watched(e jetstream.KeyValueEntry) Entry {
	if e == nil {
		return Entry{}
	}
	entry := Entry{Revision: e.Revision(), Time: e.Created()}
	if e.Operation() == jetstream.KeyValuePut {
		entry.Data = e.Value()
	}
	return entry
}

// History returns the commits of a context that the bucket still holds, oldest first.
func (p *Pool) History(ctx context.Context, name string) ([]Entry, error) {
	var all []Entry
	err := p.Watch(ctx, name, func(e Entry) bool {
		if e.Revision != 0 {
			all = append(all, e)
		}
		return e.Revision != 0
	})
	return all, err
}

func (p *Pool) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := p.js.KeyValue(ctx, p.Name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, p.noPool()
	}
	return kv, err
}

func (p *Pool) noPool() error {
	return fmt.Errorf("no worker pool named %s on this server: start one with `thence worker --pool %s`, or make it with `thence init --pool %s`",
		p.Name, p.Name, p.Name)
}

// Dead reads one dead letter; ErrNone when there is none.
func (p *Pool) Dead(ctx context.Context, a job.Address, id string) (job.Message, error) {
	body, err := json.Marshal(getRequest{LastFor: a.DeadSubject(id)})
	if err != nil {
		return job.Message{}, err
	}
	return p.direct(ctx, "$JS.API.DIRECT.GET."+job.DeadStream(p.Name), body)
}

// DeadLetters hands the pool's dead letters to fn, oldest first, until fn returns false. context is a context's name,
// or empty for all.
func (p *Pool) DeadLetters(ctx context.Context, context string, fn func(job.Message) bool) error {
	if context == "" {
		context = "*"
	}
	s, err := p.js.Stream(ctx, job.DeadStream(p.Name))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return p.noPool()
	}
	if err != nil {
		return err
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{p.Name + "." + context + ".dead.*"}})
	if err != nil {
		return err
	}
	return drain(ctx, c, fn)
}

// drain hands over what an ordered consumer has pending, and stops there.
func drain(ctx context.Context, c jetstream.Consumer, fn func(job.Message) bool) error {
	if info, err := c.Info(ctx); err != nil || info.NumPending == 0 {
		return err
	}
	iter, err := c.Messages()
	if err != nil {
		return err
	}
	defer iter.Stop()
	for {
		msg, err := iter.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		m := job.Message{Subject: msg.Subject(), Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Header: msg.Headers(), Data: msg.Data()}
		if !fn(m) || meta.NumPending == 0 {
			return nil
		}
	}
}
