package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// queue is what a look at the calls stream found.
type queue struct {
	calls, timers int
	oldest        time.Time // of the calls that wait to be made
	known         map[string]bool
	strays        []string
	full          bool // the sample was
}

// checkCalls compares the calls that contexts wait for with those that are on their way.
func checkCalls(ctx context.Context, p *patient) []Finding {
	q, err := p.queued(ctx)
	if err != nil {
		return failed("the calls", err)
	}
	var findings []Finding
	if age := p.now().Sub(q.oldest); q.calls > 0 && age > p.Stuck {
		findings = append(findings, Finding{
			Level: Warning, Found: fmt.Sprintf("%d calls wait or are under way, the oldest for %s", q.calls, age.Round(time.Second)),
			Why: "a service that is slow, or that no worker performs calls to, holds up its flows", Do: "see that a worker knows the service (--service), and how it answers: its log",
		})
	}
	if len(q.strays) > 0 {
		findings = append(findings, Finding{
			Level: Warning, Found: fmt.Sprintf("calls for more than %s that no context waits for: %s", p.Stuck, some(q.strays)),
			Why: "they are not sent: a worker removes them when it is handed them", Do: "nothing, if a worker runs; one that stays was acked, and shown again by a server that lost its power: remove it (nats stream rmm)",
		})
	}
	lost, err := p.lost(ctx, q)
	if err != nil {
		return append(findings, failed("the calls that contexts wait for", err)...)
	}
	if len(lost) > 0 {
		findings = append(findings, Finding{
			Level: Problem, Found: "contexts wait for calls that are not on their way: " + some(lost),
			Why: "their flows do not go on by themselves: somebody removed the calls, or an old backup was restored",
			Do:  "thence context cancel POOL.CONTEXT CALL, and submit what should happen in its place",
		})
	}
	more := ""
	if q.full {
		more = " or more (--sample)"
	}
	return orOK(findings, "%d to be made or under way, %d to be tried again later; contexts wait for %d%s", q.calls, q.timers, len(p.survey.open), more)
}

// queued reads the calls stream, up to the sample.
func (p *patient) queued(ctx context.Context) (queue, error) {
	q := queue{known: map[string]bool{}}
	err := p.pool.QueuedCalls(ctx, "", func(m job.Message) bool {
		name, id, timer := callOf(m)
		if timer {
			q.timers++
		} else if q.calls++; q.oldest.IsZero() || m.Time.Before(q.oldest) {
			q.oldest = m.Time
		}
		q.known[name+" "+id] = true
		if p.now().Sub(m.Time) > p.Stuck && !timer && p.closed(ctx, name, id) {
			q.strays = append(q.strays, p.name+"."+name+" "+id)
		}
		q.full = p.Sample >= 0 && q.calls+q.timers >= p.Sample
		return !q.full && ctx.Err() == nil
	})
	return q, err
}

// callOf is the context and the id of a call, or of the timer of one.
func callOf(m job.Message) (name, id string, timer bool) {
	part := strings.Split(m.Subject, ".")
	if len(part) != 4 {
		return "", "", false
	}
	if part[2] == "retry" {
		return part[1], part[3], true
	}
	var c job.Call
	if json.Unmarshal(m.Data, &c) != nil {
		return part[1], "", false
	}
	return part[1], c.ID, false
}

// closed tells whether the context does not wait for the call.
func (p *patient) closed(ctx context.Context, name, id string) bool {
	c, err := p.context(ctx, name)
	_, open := c.Calls[id]
	return err == nil && !open
}

func (p *patient) context(ctx context.Context, name string) (job.Commit, error) {
	entry, err := p.pool.ContextFromLeader(ctx, name)
	if err != nil || entry.Data == nil {
		return job.Commit{}, err
	}
	return job.DecodeCommit(entry.Data)
}

// lost are the calls that contexts wait for, and that are neither on their way nor answered. Calls move while they are looked
// at, so each is looked at once more by itself.
func (p *patient) lost(ctx context.Context, q queue) ([]string, error) {
	var lost []string
	for _, key := range slices.Sorted(maps.Keys(p.survey.open)) {
		call := p.survey.open[key]
		if q.known[key] || p.now().Sub(call.since) < p.Stuck {
			continue
		}
		there, err := p.underWay(ctx, call)
		if err != nil {
			return lost, err
		}
		if !there && !p.closed(ctx, call.context, call.id) {
			lost = append(lost, fmt.Sprintf("%s.%s %s (%s)", p.name, call.context, call.id, call.service))
		}
	}
	return lost, nil
}

// underWay tells whether a call, the timer of its next try, or its answer is on a stream. It looks twice at what may
// move in between.
func (p *patient) underWay(ctx context.Context, call openCall) (bool, error) {
	for range 2 {
		found := false
		err := p.pool.QueuedCalls(ctx, call.context, func(m job.Message) bool {
			_, id, _ := callOf(m)
			found = id == call.id
			return !found
		})
		if found || err != nil {
			return found, err
		}
	}
	from := uint64(1)
	for range maxJobs {
		m, err := p.pool.NextJobFromLeader(ctx, call.context, from)
		if errors.Is(err, stream.ErrNone) {
			return false, nil
		}
		if err != nil || m.Get(job.HeaderCall) == call.id {
			return err == nil, err
		}
		from = m.Sequence + 1
	}
	return true, nil // a context with so many jobs has not come to it
}

// maxJobs is how many jobs of a context are looked through for an answer.
const maxJobs = 1000
