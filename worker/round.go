package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/thence-dev/thence/internal/crash"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// journal is what the protocol needs of the streams. *stream.Pool is one.
type journal interface {
	Context(ctx context.Context, name string) (stream.Entry, error)
	ContextFromLeader(ctx context.Context, name string) (stream.Entry, error)
	NextJob(ctx context.Context, name string, from uint64) (job.Message, error)
	NextJobFromLeader(ctx context.Context, name string, from uint64) (job.Message, error)
	LastJob(ctx context.Context) (uint64, error)
	Commit(ctx context.Context, name string, data []byte, on stream.Base) (uint64, error)
	Connection() uint64
	Publish(ctx context.Context, m job.Message) error
	RoomForCalls(ctx context.Context) error
	PurgeRetry(ctx context.Context, a job.Address, call string) (bool, error)
	PoolExists(ctx context.Context, name string) (bool, error)
	MaxPayload() int
}

// rounds takes the jobs of contexts to their ends: head of the line, run, commit, outbox. It is used by many lanes at
// once, each context by one of them (rule 1 of the protocol: one job of a context at a time in this process).
type rounds struct {
	pool     string
	log      *slog.Logger
	stream   journal
	judge    *judge
	views    *views
	outbox   *outbox
	stats    *stats
	observer Observer
	seen     atomic.Uint64 // a sequence that the jobs stream has reached
	acked    acked

	pause    func(ctx context.Context, d time.Duration) error
	jitter   func(time.Duration) time.Duration // a random part of a duration
	patience time.Duration                     // how long a begun job is left to the worker that began it
}

// Poison: where a delivery was handed out more than suspiciousAfter times, each head on the way to it is counted in the
// context before it is begun, and is a dead letter once workers began it maxTries times and did not come back. Delivery
// counts alone would not do: a job that waits behind its context is handed out again and again without being begun.
const (
	suspiciousAfter = 5
	maxTries        = 5
)

// errLeave says that nothing can be done about a delivery now: leave it unacked, it comes again.
var errLeave = errors.New("left for its next delivery")

// errGone is errLeave for a delivery whose job took effect and is on the stream no more: another worker acked it.
var errGone = fmt.Errorf("acked by another worker: %w", errLeave)

// goal is how far a lane wants its context taken.
type goal struct {
	name      string
	target    uint64           // sequence of a job that was handed to this process; math.MaxUint64: as far as there are jobs
	delivered uint64           // how often the target was handed out
	applied   func(seq uint64) // called for each job that has taken effect and whose outbox is published
	yield     func() error     // called between two jobs; its error ends the way

	away  func(do func() error) error // does what may take long, while others have the lane's slot
	brief func(do func() error) error // the same for what does not
	begun *uint64                     // the job under suspicion that this process has counted last
}

// advance takes a context on, job by job, until the goal's target has taken effect and its outbox is published. It runs
// the first job that was not applied, whoever was handed it: nothing runs because it was delivered, only because it is
// the head (rule 1).
func (r *rounds) advance(ctx context.Context, g goal) error {
	leader := false
	for {
		v, err := r.load(ctx, g.name, leader)
		if err != nil {
			return err
		}
		crash.Here(crash.ContextRead)
		if v.commit.Applied >= g.target {
			if err := r.reached(ctx, g, v); !errors.Is(err, stream.ErrConflict) {
				return err
			}
			leader = true // a replica may lag
			continue
		}
		if v.commit.Held != nil {
			if leader {
				return errHeld
			}
			leader = true // it may go on by now
			continue
		}
		over := r.stream.Connection()
		head, err := r.head(ctx, &v, g, leader)
		switch {
		case errors.Is(err, stream.ErrConflict):
			leader = true
			continue
		case errors.Is(err, stream.ErrNone) && g.target == math.MaxUint64:
			return nil
		case errors.Is(err, stream.ErrNone) || err == nil && head.Sequence > g.target:
			if leader {
				return errLeave // the leaders say that the delivered job is gone
			}
			r.views.forget(g.name) // a stale read: ask the leaders
			leader = true
			continue
		case err != nil:
			return err
		}
		leader = false
		crash.Here(crash.HeadRead)
		if r.stands(v) { // but that this is the head was only read: a server whose disk is gone passes over what it can't show
			v.base.Over = over
		}
		if err := r.step(ctx, g, v, head); err != nil {
			return err
		}
		if err := g.yield(); err != nil {
			return err
		}
	}
}

// reached ends a delivery whose job was applied. It makes sure that the commit which says so stands, and publishes the outbox
// once more when the target is the last applied job and nobody is known to have done so.
func (r *rounds) reached(ctx context.Context, g goal, v view) error {
	if g.delivered <= 1 && r.left(v) {
		return errGone // as good as: who applied it acks it, or it comes again
	}
	if !r.stands(v) || v.commit.Applied == g.target && !v.flushed {
		if err := r.reachAgain(ctx, g, v); err != nil {
			return err
		}
	}
	if err := r.checkAhead(ctx, g, v.commit.Applied); err != nil {
		return err
	}
	g.applied(g.target)
	return nil
}

// reachAgain is for a delivery whose job was applied by another, or by a process before this one, or nobody knows by whom.
func (r *rounds) reachAgain(ctx context.Context, g goal, v view) error {
	m, err := r.stream.NextJob(ctx, g.name, g.target)
	if errors.Is(err, stream.ErrNone) || err == nil && m.Sequence != g.target {
		m, err = r.stream.NextJobFromLeader(ctx, g.name, g.target) // a replica that lags may not have it yet
	}
	if errors.Is(err, stream.ErrNone) || err == nil && m.Sequence != g.target {
		return errGone // it was acked meanwhile; or the leader is one no longer, and does not know it
	}
	if err != nil {
		return err
	}
	if err := r.prove(ctx, g.name, &v); err != nil {
		return err
	}
	r.views.put(g.name, v)
	if v.commit.Applied != g.target || v.flushed {
		return nil
	}
	crash.Here(crash.ReflushBefore)
	defer crash.Here(crash.ReflushAfter)
	return r.flush(ctx, g, &v, m, true)
}

// A stream may seem to end before a job that was applied, although it does not: for as long as a leader that was cut off
// from the other servers does not know it (ten seconds), and while a new one catches up, their word is an old one.
const (
	aheadPatience = 15 * time.Second
	aheadPause    = time.Second
)

// checkAhead stops the worker when a context is ahead of its stream, and stays so: then the stream was made anew with a
// clock that went back, or the bucket comes from elsewhere, and new jobs would be taken for applied ones (rule 2).
func (r *rounds) checkAhead(ctx context.Context, g goal, applied uint64) error {
	if applied <= r.seen.Load() {
		return nil
	}
	last, err := r.stream.LastJob(ctx)
	for waited := time.Duration(0); err == nil && applied > last; waited += aheadPause {
		if waited >= aheadPatience {
			return r.isAhead(g.name, applied, last)
		}
		if err := g.away(func() error { return r.pause(ctx, aheadPause) }); err != nil {
			return err
		}
		last, err = r.stream.LastJob(ctx)
	}
	if err != nil {
		return err
	}
	r.sawSequence(last)
	return nil
}

func (r *rounds) isAhead(name string, applied, last uint64) error {
	return &fatalError{fmt.Errorf("context %s.%s has applied job %d, but its stream ends at %d: the stream %s was made anew with an earlier clock, "+
		"or the bucket %s comes from another server. Nothing was lost; restore the stream that belongs to the bucket, or start with an empty bucket",
		r.pool, name, applied, last, job.JobsStream(r.pool), r.pool)}
}

// sawSequence records that the stream has come as far as seq.
func (r *rounds) sawSequence(seq uint64) {
	for {
		seen := r.seen.Load()
		if seq <= seen || r.seen.CompareAndSwap(seen, seq) {
			return
		}
	}
}

// fatalError is what no retry can mend: the worker stops and says so.
type fatalError struct{ error }

func (e *fatalError) Unwrap() error { return e.error }

// load returns the context as it is cached, or as the stream has it.
func (r *rounds) load(ctx context.Context, name string, leader bool) (view, error) {
	if v, ok := r.views.get(name); ok && !leader && (r.stands(v) || v.base.Over == r.stream.Connection()) {
		return v, nil
	}
	read := r.stream.Context
	if leader {
		read = r.stream.ContextFromLeader
	}
	entry, err := read(ctx, name)
	if err != nil {
		return view{}, err
	}
	v, err := r.viewOf(name, entry)
	if err != nil {
		return view{}, err
	}
	r.views.put(name, v)
	return v, nil
}

// viewOf is a context as it was read.
func (r *rounds) viewOf(name string, entry stream.Entry) (view, error) {
	v := view{base: entry.Base(), size: len(entry.Data)}
	if entry.Data != nil {
		var err error
		if v.commit, err = job.DecodeCommit(entry.Data); err != nil {
			return view{}, fmt.Errorf("context %s.%s: %w", r.pool, name, err)
		}
	}
	return v, nil
}

// head returns the first job that was not applied. When it meets the applied one first, that one's ack is missing, and
// so perhaps its outbox: it publishes that before it goes on.
func (r *rounds) head(ctx context.Context, v *view, g goal, leader bool) (job.Message, error) {
	next := r.stream.NextJob
	if leader {
		next = r.stream.NextJobFromLeader
	}
	from := v.commit.Applied
	if v.flushed {
		from++
	}
	m, err := next(ctx, g.name, from)
	if err != nil || m.Sequence != v.commit.Applied || v.flushed {
		return m, err
	}
	if len(v.commit.Outbox) > 0 && r.left(*v) {
		if err := r.giveWay(ctx, g); err != nil {
			return m, err
		}
		if m, err = next(ctx, g.name, from); err != nil || m.Sequence != v.commit.Applied {
			return m, err
		}
	}
	crash.Here(crash.ReflushBefore)
	if err := r.flush(ctx, g, v, m, true); err != nil {
		return m, err
	}
	crash.Here(crash.ReflushAfter)
	if r.stands(*v) {
		g.applied(m.Sequence) // so that nobody else need write it again
	}
	return next(ctx, g.name, v.commit.Applied+1)
}

// flush publishes the outbox of the context's last commit, which stands by then. again says that somebody may have done so
// before.
func (r *rounds) flush(ctx context.Context, g goal, v *view, applied job.Message, again bool) error {
	if len(v.commit.Outbox) > 0 {
		if err := r.prove(ctx, g.name, v); err != nil {
			return err
		}
	}
	f := flush{job.Address{Pool: r.pool, Context: g.name}, v.commit, v.base.Revision, applied, again}
	if len(v.commit.Outbox) > 0 && r.outbox.publish(ctx, f) != nil {
		if err := g.away(func() error { return r.insist(ctx, f) }); err != nil {
			return err
		}
	}
	crash.Here(crash.OutboxDone)
	v.flushed = true
	r.views.put(g.name, *v)
	return nil
}

// insist publishes an outbox that could not be published at once, however long that takes.
func (r *rounds) insist(ctx context.Context, f flush) error {
	defer r.observer.OutboxWaits()()
	return r.outbox.insist(ctx, f)
}

// step runs the head and commits what came of it. A lost race is no error: the next turn of the loop sees what the
// winner did.
func (r *rounds) step(ctx context.Context, g goal, v view, head job.Message) error {
	tries, err := r.begin(ctx, g, &v, head)
	if err != nil || tries < 0 {
		return err
	}
	crash.Here(crash.RunBefore)
	var next job.Commit
	var encoded []byte
	err = g.brief(func() (err error) { // a runner has its own order of who is next: it can't choose among those who wait here
		next, encoded, err = r.judge.verdict(ctx, head, v.commit, tries)
		return err
	})
	if err != nil {
		return err
	}
	crash.Here(crash.RunAfter)
	if r.judge.holds(next.Report) && !skips(v.commit, head) {
		return r.hold(ctx, g, v, head, next)
	}
	crash.Here(crash.CommitBefore)
	revision, err := r.commit(ctx, g.name, encoded, v.base)
	if errors.Is(err, stream.ErrConflict) {
		crash.Here(crash.CommitLost)
		r.stats.lostRaces.Add(1)
		r.log.Debug("lost a race for a context", "context", g.name, "sequence", head.Sequence)
		return r.giveWay(ctx, g)
	} else if err != nil {
		return err
	}
	crash.Here(crash.CommitAfter)
	done := view{base: stream.Base{Revision: revision}, commit: next, size: len(encoded), flushed: len(next.Outbox) == 0}
	r.views.put(g.name, done)
	r.ended(g.name, next.Report)
	if !done.flushed {
		if err := r.flush(ctx, g, &done, head, false); err != nil {
			return err
		}
	}
	if len(next.Report.Cancelled) > 0 {
		_ = g.brief(func() error { r.purge(ctx, g.name, next); return nil })
	}
	g.applied(head.Sequence)
	return nil
}

// giveWay waits a moment in which whoever is at the context may go on.
func (r *rounds) giveWay(ctx context.Context, g goal) error {
	return g.brief(func() error { return r.pause(ctx, 10*time.Millisecond+r.jitter(40*time.Millisecond)) })
}

// purge removes the timers of calls that the job cancelled, as far as it can: one that is left wakes its call for
// nothing.
func (r *rounds) purge(ctx context.Context, name string, c job.Commit) {
	for _, id := range c.Report.Cancelled {
		if seq, _, _ := job.ParseEffectID(id); seq == c.Applied {
			continue // it was never published
		}
		if _, err := r.stream.PurgeRetry(ctx, job.Address{Pool: r.pool, Context: name}, id); err != nil {
			r.log.Debug("the timer of a cancelled call is left", "context", name, "call", id, "error", err)
			return
		}
	}
}

// commit writes the context. Whatever goes wrong, what this process thought of the context is forgotten: only a commit
// that was acked may be followed by its outbox (rule 3).
func (r *rounds) commit(ctx context.Context, name string, encoded []byte, on stream.Base) (uint64, error) {
	over := r.stream.Connection()
	got, err := r.stream.Commit(ctx, name, encoded, on)
	if err != nil {
		r.views.forget(name)
	} else if r.stream.Connection() == over {
		r.acked.add(stream.Base{Revision: got, Over: over})
	}
	switch {
	case err == nil:
		r.observer.CommitTried(commitStored)
	case errors.Is(err, stream.ErrConflict):
		r.observer.CommitTried(commitConflict)
	default:
		r.observer.CommitTried(commitUnknown)
	}
	return got, err
}

// begin counts, in the context, that a job under suspicion is begun, and returns how often it has been. It returns a
// negative number when another worker is at the job and the context has to be read anew.
func (r *rounds) begin(ctx context.Context, g goal, v *view, head job.Message) (int, error) {
	last := v.commit.Tries
	known := last != nil && last.Sequence == head.Sequence
	if !known && g.delivered <= suspiciousAfter {
		return 0, nil
	}
	count := 1
	if known && *g.begun == head.Sequence {
		return last.Count, nil // by this process, which is there still: what went wrong was not the job's doing
	}
	if known {
		count = last.Count + 1
		var same bool
		err := g.away(func() (err error) { same, err = r.leaveToOther(ctx, g.name, v.base.Revision); return err })
		if err != nil || !same {
			return -1, err
		}
	}
	if count > maxTries {
		return count, nil
	}
	marked := v.commit
	marked.Version, marked.Tries, marked.Deed, marked.Repeats = job.Version, &job.Tries{Sequence: head.Sequence, Count: count}, nil, 0
	if marked.State == nil {
		marked.State = []byte("{}")
	}
	encoded, err := job.Encode(marked)
	if err != nil {
		return -1, err
	}
	crash.Here(crash.MarkBefore)
	revision, err := r.commit(ctx, g.name, encoded, v.base)
	if errors.Is(err, stream.ErrConflict) {
		return -1, nil
	} else if err != nil {
		return -1, err
	}
	crash.Here(crash.MarkAfter)
	r.views.put(g.name, view{base: stream.Base{Revision: revision}, commit: marked, size: len(encoded), flushed: v.flushed})
	v.commit, v.base.Revision = marked, revision // over the same connection still: the head may have been only read
	*g.begun = head.Sequence
	return count, nil
}

// leaveToOther waits as long as a worker that began the job may need, and tells whether the context is as it was: then
// that worker did not come back.
func (r *rounds) leaveToOther(ctx context.Context, name string, revision uint64) (bool, error) {
	if err := r.pause(ctx, r.patience); err != nil {
		return false, err
	}
	now, err := r.stream.ContextFromLeader(ctx, name)
	if err != nil {
		return false, err
	}
	if now.Revision != revision {
		r.views.forget(name)
	}
	return now.Revision == revision, nil
}

// ended counts and logs a job that has taken effect.
func (r *rounds) ended(name string, rep job.Report) {
	r.stats.count(rep.Outcome)
	reason := ""
	if rep.Outcome == job.OutcomeDead {
		reason = rep.Error.Reason
	}
	var waited time.Duration
	if !rep.Published.IsZero() { // clocks of two machines
		waited = max(0, rep.Started.Sub(rep.Published))
	}
	r.observer.JobEnded(rep.Outcome, reason, waited, time.Duration(rep.Took*float64(time.Millisecond)))
	r.logOutcome(name, rep)
}

func (r *rounds) logOutcome(name string, rep job.Report) {
	if rep.Outcome != job.OutcomeDead && !r.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	attrs := []any{"job_id", rep.Job, "context", name, "script", rep.Script, "caller", rep.Caller, "took_ms", rep.Took}
	if rep.Outcome == job.OutcomeDead {
		r.log.Warn("job is a dead letter", append(attrs, "reason", rep.Error.Reason, "error", rep.Error.String())...)
		return
	}
	r.log.Debug("job has ended", append(attrs, "outcome", rep.Outcome)...)
}
