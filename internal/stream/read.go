package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

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
// or empty for all. Letters that come while it runs are left out, so that it ends.
func (p *Pool) DeadLetters(ctx context.Context, context string, fn func(job.Message) bool) error {
	if context == "" {
		context = "*"
	}
	return p.scan(ctx, job.DeadStream(p.Name), jetstream.ConsumerConfig{FilterSubject: p.Name + "." + context + ".dead.*"}, fn)
}

// Contexts hands the last commit of every context to fn, in the order in which they were written, until fn returns
// false.
func (p *Pool) Contexts(ctx context.Context, fn func(name string, e Entry) bool) error {
	last := jetstream.ConsumerConfig{FilterSubject: "$KV." + p.Name + ".>", DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy}
	return p.scan(ctx, job.ContextsStream(p.Name), last, func(m job.Message) bool {
		e, _ := entry(m, nil)
		return fn(strings.TrimPrefix(m.Subject, "$KV."+p.Name+"."), e)
	})
}

// ContextAt reads one commit of a context by its revision; ErrNone when the bucket's history does not hold it.
func (p *Pool) ContextAt(ctx context.Context, name string, revision uint64) (Entry, error) {
	m, err := p.fromLeader(ctx, job.ContextsStream(p.Name), getRequest{Seq: revision})
	if err == nil && m.Subject != (job.Address{Pool: p.Name, Context: name}).ContextSubject() {
		return Entry{}, ErrNone // it is another context's
	}
	if err != nil {
		return Entry{}, err
	}
	return entry(m, nil)
}

// Waiting counts the messages on the jobs stream, by context.
func (p *Pool) Waiting(ctx context.Context) (map[string]uint64, error) {
	s, err := p.js.Stream(ctx, job.JobsStream(p.Name))
	if err != nil {
		return nil, p.readError(ctx, job.JobsStream(p.Name), err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(p.Name+".*"))
	if err != nil {
		return nil, err
	}
	waiting := map[string]uint64{}
	for subject, n := range info.State.Subjects {
		waiting[strings.TrimPrefix(subject, p.Name+".")] = n
	}
	return waiting, nil
}

// QueuedCalls hands the messages of the calls stream to fn, calls and then timers of retries, each oldest first, until
// fn returns false. context is a context's name, or empty for all. Those that come while it runs are left out, so that it
// ends. It does not take them from those who perform them.
func (p *Pool) QueuedCalls(ctx context.Context, context string, fn func(job.Message) bool) error {
	if context == "" {
		context = "*"
	}
	s, err := p.js.Stream(ctx, job.CallsStream(p.Name))
	if err != nil {
		return p.readError(ctx, job.CallsStream(p.Name), err)
	}
	last := s.CachedInfo().State.LastSeq
	for _, kind := range []string{".call.*", ".retry.*"} {
		for from := uint64(1); ; {
			m, err := p.fromLeader(ctx, job.CallsStream(p.Name), getRequest{Seq: from, NextFor: p.Name + "." + context + kind})
			if errors.Is(err, ErrNone) {
				break
			}
			if err != nil {
				return err
			}
			if m.Sequence > last {
				break
			}
			if !fn(m) {
				return nil
			}
			from = m.Sequence + 1
		}
	}
	return nil
}

// readError says what is not there: the pool, or but one stream of it.
func (p *Pool) readError(ctx context.Context, stream string, err error) error {
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if exists, look := p.PoolExists(ctx, p.Name); look == nil && exists && stream != job.JobsStream(p.Name) {
		return fmt.Errorf("the pool %s has no stream %s: `thence init --pool %s` makes it anew, without what was in it", p.Name, stream, p.Name)
	}
	return p.noPool()
}
