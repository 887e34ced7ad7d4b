package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// entry is one revision of a context.
type entry struct {
	revision uint64
	time     time.Time
	commit   job.Commit
}

// records are all that a pool has to show for itself.
type records struct {
	contexts map[string][]entry          // oldest first; at most the last 64 of each
	dead     map[string][]job.DeadLetter // by context
	left     []*jetstream.RawStreamMsg   // jobs that are on the stream still
	lastOnly bool                        // contexts hold their last entry alone
}

// readRecords reads them, when the pool is quiet; of contexts, if it is told so, the last commit alone.
func (p *pool) readRecords(ctx context.Context, lastOnly bool) (*records, error) {
	r := &records{contexts: map[string][]entry{}, dead: map[string][]job.DeadLetter{}, lastOnly: lastOnly}
	err := p.each(ctx, job.ContextsStream(p.name), lastOnly, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		c, err := job.DecodeCommit(m.Data())
		if err != nil {
			return fmt.Errorf("%s, revision %d: %w", m.Subject(), meta.Sequence.Stream, err)
		}
		name := strings.TrimPrefix(m.Subject(), "$KV."+p.name+".")
		r.contexts[name] = append(r.contexts[name], entry{meta.Sequence.Stream, meta.Timestamp, c})
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = p.each(ctx, job.DeadStream(p.name), false, func(m jetstream.Msg, _ *jetstream.MsgMetadata) error {
		var letter job.DeadLetter
		if err := json.Unmarshal(m.Data(), &letter); err != nil {
			return fmt.Errorf("%s: %w", m.Subject(), err)
		}
		_, name, _ := strings.Cut(letter.Context, ".")
		r.dead[name] = append(r.dead[name], letter)
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.left, err = p.leftOver(ctx, 100)
	return r, err
}

// each hands over every message of a stream that does not change, or the last one of every subject.
func (p *pool) each(ctx context.Context, stream string, lastOnly bool, do func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	s, err := p.current(ctx, stream)
	if err != nil {
		return err
	}
	config := jetstream.OrderedConsumerConfig{}
	if lastOnly {
		config.DeliverPolicy = jetstream.DeliverLastPerSubjectPolicy
	}
	c, err := s.OrderedConsumer(ctx, config)
	if err != nil {
		return err
	}
	info, err := soon(ctx, c.Info)
	if err != nil {
		return err
	}
	if all := s.CachedInfo().State.Msgs; !lastOnly && info.NumPending != all {
		return fmt.Errorf("stream %s: a consumer was made where there are %d of its %d messages", stream, info.NumPending, all)
	}
	if info.NumPending == 0 {
		return nil
	}
	messages, err := c.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	for left := info.NumPending; left > 0; left-- {
		m, err := messages.Next(jetstream.NextMaxWait(nextWait))
		if err != nil {
			return fmt.Errorf("read stream %s, %d messages before its end: %w", stream, left, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if err := do(m, meta); err != nil {
			return err
		}
	}
	return nil
}

// nextWait is how long a message that a stream says to have may take: after a loss of power the store may miss one.
const nextWait = 20 * time.Second

// soon is a request that is given up after two seconds: a server that has only just made a consumer may not answer.
func soon[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return ask(ctx)
}

// leftOver reads the first jobs that the stream still holds.
func (p *pool) leftOver(ctx context.Context, most uint64) ([]*jetstream.RawStreamMsg, error) {
	s, err := p.js.Stream(ctx, job.JobsStream(p.name))
	if err != nil {
		return nil, err
	}
	state := s.CachedInfo().State
	var left []*jetstream.RawStreamMsg
	for seq := state.FirstSeq; uint64(len(left)) < min(state.Msgs, most) && seq <= state.LastSeq; seq++ {
		if m, err := s.GetMsg(ctx, seq); err == nil {
			left = append(left, m)
		}
	}
	return left, nil
}

// current waits until every server has all of a stream. A consumer may be made on any of them, and would not see what
// its server has yet to hear of.
func (p *pool) current(ctx context.Context, stream string) (jetstream.Stream, error) {
	var s jetstream.Stream
	err := insist(ctx, "the replicas of "+stream+" differ", func(ctx context.Context) (err error) {
		if s, err = p.js.Stream(ctx, stream); err != nil {
			return err
		}
		cluster := s.CachedInfo().Cluster
		if cluster == nil {
			return nil
		}
		for _, r := range cluster.Replicas {
			if !r.Current || r.Offline || r.Lag > 0 {
				return fmt.Errorf("%s is %d behind (current: %t)", r.Name, r.Lag, r.Current)
			}
		}
		return nil
	})
	return s, err
}

// last is what a context came to.
func (r *records) last(context string) (job.Commit, bool) {
	all := r.contexts[context]
	if len(all) == 0 {
		return job.Commit{}, false
	}
	return all[len(all)-1].commit, true
}

// runs are the entries of a context that ended a job. A worker's note that it begins a suspicious job, and what an
// operator does, are entries too: they keep the attempt of the job before.
func (r *records) runs(context string) []entry {
	if r.lastOnly {
		return nil
	}
	var runs []entry
	for i, e := range r.contexts[context] {
		if i == 0 && e.commit.Report.Job == "" || i > 0 && e.commit.Attempt == r.contexts[context][i-1].commit.Attempt {
			continue
		}
		runs = append(runs, e)
	}
	return runs
}

// historyKept is how many revisions of a context the bucket keeps.
const historyKept = 64

// whole tells whether no revision of a context was dropped for its age.
func (r *records) whole(context string) bool {
	return !r.lastOnly && len(r.contexts[context]) < historyKept
}
