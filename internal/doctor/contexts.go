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

// survey is what a look at the pool's contexts found.
type survey struct {
	contexts int
	applied  uint64 // the highest, and whose
	ahead    string
	held     []Finding
	tried    []string
	broken   []string
	open     map[string]openCall // by context and id
}

// openCall is a call that its context waits for.
type openCall struct {
	context, id, service string
	since                time.Time // of the context's last commit: it was opened then, or before
}

// checkContexts reads the last commit of each context, up to the sample, and says which ones wait for somebody.
func checkContexts(ctx context.Context, p *patient) []Finding {
	s := &survey{open: map[string]openCall{}}
	p.survey = s
	err := p.pool.Contexts(ctx, func(name string, e stream.Entry) bool {
		s.add(p.name, name, e)
		s.contexts++
		return p.Sample < 0 || s.contexts < p.Sample
	})
	if err != nil {
		return failed("the contexts", err)
	}
	var findings []Finding
	findings = append(findings, s.held...)
	if len(findings) > maxHeld {
		findings = append(findings[:maxHeld], Finding{
			Level: Warning, Found: fmt.Sprintf("%d more contexts are held", len(s.held)-maxHeld), Why: "their jobs wait on the stream until somebody decides",
			Do: "thence context list " + p.name + " --held",
		})
	}
	if len(s.tried) > 0 {
		findings = append(findings, Finding{
			Level: Warning, Found: "a job is under suspicion of killing workers in " + some(s.tried), Why: "after five it becomes a dead letter (poison)",
			Do: "look at the workers' logs and memory; thence context history POOL.CONTEXT",
		})
	}
	if len(s.broken) > 0 {
		findings = append(findings, Finding{
			Level: Problem, Found: "can't be read: " + some(s.broken), Why: "workers stop at a context that they can't read",
			Do: "bring all workers to one version; or see who else writes to the bucket " + p.name,
		})
	}
	return orOK(findings, "%d%s, none of them held or under suspicion", s.contexts, p.cut(s.contexts))
}

// maxHeld is how many held contexts are named.
const maxHeld = 10

func (s *survey) add(pool, name string, e stream.Entry) {
	if e.Data == nil {
		return
	}
	at := pool + "." + name
	c, err := job.DecodeCommit(e.Data)
	if err != nil {
		s.broken = append(s.broken, at+" ("+err.Error()+")")
		return
	}
	if c.Applied > s.applied {
		s.applied, s.ahead = c.Applied, at
	}
	if h := c.Held; h != nil {
		s.held = append(s.held, Finding{
			Level: Warning, Found: fmt.Sprintf("%s is held since %s by %s%s", at, h.Since.UTC().Format(time.RFC3339), h.By, why(*h)),
			Why: "its jobs wait on the stream until somebody decides", Do: decide(at, *h),
		})
	}
	if t := c.Tries; t != nil {
		s.tried = append(s.tried, fmt.Sprintf("%s (job %d, begun %d times)", at, t.Sequence, t.Count))
	}
	for id, call := range c.Calls {
		s.open[name+" "+id] = openCall{name, id, call.Service, e.Time}
	}
}

// decide is what lets a context go on.
func decide(at string, h job.Held) string {
	if h.Sequence == 0 {
		return "thence context resume " + at + ", when what it was paused for is over"
	}
	letter := fmt.Sprintf("%s.%d", at, h.Sequence)
	return fmt.Sprintf("thence dead show %s; then thence dead retry %s, or thence dead drop %s to go on without the job", letter, letter, letter)
}

func why(h job.Held) string {
	switch {
	case h.Sequence != 0 && h.Error != nil:
	case h.Why == "":
		return ""
	default:
		return ": " + cut(h.Why, 200)
	}
	return fmt.Sprintf(": its job %s failed (%s: %s)", h.Job, h.Error.Reason, cut(h.Error.String(), 200))
}

func cut(s string, n int) string {
	if s, _, _ = strings.Cut(s, "\n"); len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// checkAhead looks whether a context has taken a job that its stream has not reached.
func checkAhead(ctx context.Context, p *patient) []Finding {
	last, err := p.pool.LastJob(ctx) // after the contexts were read: it only grows
	if err != nil {
		return failed("the end of the jobs", err)
	}
	if s := p.survey; s.applied > last {
		return []Finding{{
			Level: Problem, Found: fmt.Sprintf("context %s has applied job %d, and the stream of jobs ends at %d", s.ahead, s.applied, last),
			Why: "the stream was made anew by a clock that went back, or the contexts come from another server: workers stop, as new jobs would be taken for old ones",
			Do:  fmt.Sprintf("restore the stream %s that belongs to the bucket %s, or begin with an empty bucket under another pool name", job.JobsStream(p.name), p.name),
		}}
	}
	return []Finding{{Level: OK, Found: fmt.Sprintf("no context is ahead of the stream of jobs (%d)", last)}}
}

// checkStuck looks at the contexts that have jobs: each should have moved lately, or its jobs have come lately.
func checkStuck(ctx context.Context, p *patient) []Finding {
	waiting, err := p.pool.Waiting(ctx)
	if err != nil {
		return failed("the jobs that wait", err)
	}
	var stuck, unflushed []string
	looked := 0
	for _, name := range slices.Sorted(maps.Keys(waiting)) {
		if looked++; p.Sample >= 0 && looked > p.Sample {
			break
		}
		standing, unsent, err := p.standing(ctx, name)
		if err != nil {
			return failed("context "+p.name+"."+name, err)
		}
		if standing {
			stuck = append(stuck, fmt.Sprintf("%s.%s (%d jobs)", p.name, name, waiting[name]))
		}
		if unsent {
			unflushed = append(unflushed, p.name+"."+name)
		}
	}
	var findings []Finding
	if len(stuck) > 0 {
		findings = append(findings, Finding{
			Level: Problem, Found: fmt.Sprintf("stands still for more than %s, with jobs to run: %s", p.Stuck, some(stuck)),
			Why: "these jobs are accepted, and nobody runs them", Do: "see that a worker runs, and what it logs: thence worker --pool " + p.name + " --log-level debug",
		})
	}
	if len(unflushed) > 0 {
		findings = append(findings, Finding{
			Level: Problem, Found: fmt.Sprintf("a job took effect more than %s ago and is on the stream still, and what it asked for may not be on its way: %s", p.Stuck, some(unflushed)),
			Why: "the worker that ran it ended before it published the outbox, or a stream refuses it; whoever is handed the job publishes it again",
			Do:  "see that a worker runs, and what it logs (\"an effect can't be published\")",
		})
	}
	return orOK(findings, "%d%s contexts have jobs on the stream, none stands still", min(looked, len(waiting)), p.cut(looked))
}

// standing tells of a context with jobs on the stream whether it stands still, and whether its outbox may be unsent.
func (p *patient) standing(ctx context.Context, name string) (still, unsent bool, err error) {
	first, err := p.pool.NextJob(ctx, name, 1)
	if errors.Is(err, stream.ErrNone) {
		return false, false, nil // it has ended meanwhile
	}
	if err != nil || p.now().Sub(first.Time) < p.Stuck {
		return false, false, err
	}
	if nameless(name) {
		return true, false, nil
	}
	entry, err := p.pool.ContextFromLeader(ctx, name)
	if err != nil || p.now().Sub(entry.Time) < p.Stuck {
		return false, false, err
	}
	c, readable := decodeCommit(entry)
	if !readable || c.Held != nil {
		return false, false, nil // said before
	}
	unsent = first.Sequence == c.Applied && len(c.Outbox) > 0
	head, err := p.pool.NextJob(ctx, name, c.Applied+1)
	if errors.Is(err, stream.ErrNone) {
		return false, unsent, nil
	}
	return err == nil && p.now().Sub(head.Time) >= p.Stuck, unsent, err
}

// nameless tells whether no bucket can hold the context: it has no commit, only a dead letter to come.
func nameless(name string) bool { return job.ValidContext(name) != nil }

// decodeCommit reads a context's last commit, the zero one if there is none.
func decodeCommit(e stream.Entry) (c job.Commit, readable bool) {
	if e.Data == nil {
		return c, true
	}
	c, err := job.DecodeCommit(e.Data)
	return c, err == nil
}

// decodeLetter reads a dead letter.
func decodeLetter(m job.Message) (job.DeadLetter, error) {
	var l job.DeadLetter
	err := json.Unmarshal(m.Data, &l)
	return l, err
}

// tally is a count by name, the largest first.
func tally(counts map[string]int) string {
	names := slices.SortedFunc(maps.Keys(counts), func(x, y string) int {
		if counts[x] != counts[y] {
			return counts[y] - counts[x]
		}
		return strings.Compare(x, y)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", counts[name], name)
	}
	return strings.Join(names, ", ")
}
