package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// nearlyFull is the per cent of a bound at which somebody should look.
const nearlyFull = 80

// checkStreams looks whether the pool's streams and buckets are there and are as workers need them.
func checkStreams(ctx context.Context, p *patient) []Finding {
	if !p.may[stream.Look] {
		return []Finding{p.notLookedAt([]string{stream.Look})}
	}
	parts, err := p.pool.Inspect(ctx)
	if err != nil {
		return failed("the streams", err)
	}
	for _, part := range parts {
		if !part.Missing {
			p.parts[part.Name] = part
		}
	}
	if jobs := job.JobsStream(p.name); p.parts[jobs].Name == "" {
		p.parts = map[string]stream.Part{}
		return []Finding{{
			Level: Problem, Found: "there is no worker pool named " + p.name, Why: "without the stream " + jobs + " no job is accepted",
			Do: "thence init --pool " + p.name,
		}}
	}
	var findings []Finding
	for _, part := range parts {
		switch {
		case part.Missing:
			findings = append(findings, Finding{
				Level: Problem, Found: part.Name + " is missing", Why: "a worker makes it when it starts, if it may; until then jobs wait, or fail",
				Do: "thence init --pool " + p.name,
			})
		case part.Unfit != "":
			findings = append(findings, Finding{
				Level: Problem, Found: part.Name + ": " + part.Unfit, Why: "workers refuse to work with it, or lose what they store there",
				Do: editCommand(part.Name) + " for settings that can be changed; else make the pool anew under another name (thence init)",
			})
		}
	}
	return orOK(findings, "all %d are there, with the settings that Thence needs", len(parts))
}

// checkConsumers looks at the settings of the queues' consumers.
func checkConsumers(_ context.Context, p *patient) []Finding {
	var findings []Finding
	n := 0
	for _, part := range p.queues() {
		if len(part.Consumers) == 0 && part.Name == job.JobsStream(p.name) {
			findings = append(findings, Finding{
				Level: Problem, Found: part.Name + " has no consumer", Why: "no worker can be handed a job; those that run end with an error",
				Do: "thence init --pool " + p.name + ", and restart the workers",
			})
		}
		for _, c := range part.Consumers {
			n++
			if c.Unfit != "" {
				findings = append(findings, Finding{
					Level: Problem, Found: fmt.Sprintf("consumer %s of %s: %s", c.Name, part.Name, c.Unfit), Why: "jobs or calls are lost, stranded or taken away by it",
					Do: fmt.Sprintf("nats consumer rm %s %s, and thence init --pool %s", part.Name, c.Name, p.name),
				})
			}
			if c.PausedFor > 0 {
				findings = append(findings, Finding{
					Level: Warning, Found: fmt.Sprintf("consumer %s of %s is paused for %s more", c.Name, part.Name, c.PausedFor.Round(time.Second)),
					Why: "nothing of it is handed out meanwhile", Do: fmt.Sprintf("nats consumer resume %s %s, if nobody wants it so", part.Name, c.Name),
				})
			}
		}
	}
	return orOK(findings, "%d consumers, with the settings that Thence needs", n)
}

// queues are the jobs and calls streams, if they are there.
func (p *patient) queues() []stream.Part {
	var parts []stream.Part
	for _, name := range []string{job.JobsStream(p.name), job.CallsStream(p.name)} {
		if part, ok := p.parts[name]; ok {
			parts = append(parts, part)
		}
	}
	return parts
}

// lagging is how many operations a copy may be behind before it is worth a word.
const lagging = 1000

// checkReplicas looks at the copies of each stream.
func checkReplicas(_ context.Context, p *patient) []Finding {
	var findings []Finding
	fewest := 0
	for _, part := range p.parts {
		if fewest == 0 || part.Replicas < fewest {
			fewest = part.Replicas
		}
		if part.Cluster != "" && part.Leader == "" {
			findings = append(findings, Finding{
				Level: Problem, Found: part.Name + " has no leader", Why: "nothing is read from it or written to it until most of its servers are back",
				Do: "bring its servers back; see `nats stream cluster report`",
			})
		}
		if len(p.servers) >= 3 && part.Replicas == 1 {
			findings = append(findings, Finding{
				Level: Warning, Found: fmt.Sprintf("%s has one replica in a cluster of %d servers", part.Name, len(p.servers)),
				Why: "when its server is away, or its disk is lost, so is the stream", Do: editCommand(part.Name) + " --replicas 3",
			})
		}
		for _, peer := range part.Peers {
			if peer.Offline || !peer.Current && peer.Lag > lagging {
				findings = append(findings, Finding{
					Level: Warning, Found: fmt.Sprintf("the copy of %s on server %s is %s", part.Name, peer.Name, behind(peer)),
					Why: "with one server less the stream may stop", Do: "look after that server; see `nats server report jetstream`",
				})
			}
		}
	}
	return orOK(findings, "%d of each stream, or more", fewest)
}

func behind(peer stream.Peer) string {
	if peer.Offline {
		return "offline"
	}
	return fmt.Sprintf("%d operations behind", peer.Lag)
}

// checkRoom looks how full the streams are, and whether the disk has what their bounds promise.
func checkRoom(_ context.Context, p *patient) []Finding {
	var findings []Finding
	fullest, promised := uint64(0), uint64(0)
	for _, part := range p.parts {
		promised += part.Bound
		if part.Bound == 0 {
			findings = append(findings, Finding{
				Level: Problem, Found: part.Name + " has no bound", Why: "a full disk stops every stream of the server until it is restarted",
				Do: boundCommand(p.name, part.Name),
			})
			continue
		}
		per := part.Bytes * 100 / part.Bound
		if fullest = max(fullest, per); per < nearlyFull {
			continue
		}
		f := Finding{
			Level: Warning, Found: fmt.Sprintf("%s is %d %% full: %d of %d bytes", part.Name, per, part.Bytes, part.Bound),
			Why: whenFull(p.name, part.Name), Do: boundCommand(p.name, part.Name),
		}
		if per >= 99 {
			f.Level = Problem
		}
		findings = append(findings, f)
	}
	if v := p.varz; v != nil && v.JetStream.Config.MaxStore > 0 && int64(promised) > v.JetStream.Config.MaxStore {
		findings = append(findings, Finding{
			Level: Warning, Found: fmt.Sprintf("the pool's streams may hold %d bytes, and server %s has %d for all", promised, v.Name, v.JetStream.Config.MaxStore),
			Why: "the server's storage may be full before a stream refuses", Do: "raise max_file_store in its configuration, or lower the streams' bounds",
		})
	}
	return orOK(findings, "the fullest stream holds %d %% of its bound", fullest)
}

func whenFull(pool, name string) string {
	switch name {
	case job.JobsStream(pool):
		return "when it is full, callers' jobs are refused; what was accepted stays"
	case job.CallsStream(pool):
		return "when it is full, contexts that ask for calls wait until some are answered"
	case job.DeadStream(pool):
		return "when it is full, contexts with a job that fails wait until letters are dropped"
	}
	return "when it is full, no job can end, and workers try on until there is room"
}

// editCommand changes a stream's settings. The nats CLI does not touch the stream of a bucket but as a bucket.
func editCommand(name string) string {
	if bucket, ok := strings.CutPrefix(name, job.ContextsStream("")); ok {
		return "nats kv edit " + bucket
	}
	return "nats stream edit " + name
}

func boundCommand(pool, name string) string {
	switch name {
	case job.CallsStream(pool):
		return "nats stream edit " + name + " --metadata thence_max_bytes=BYTES"
	case job.ContextsStream(pool), job.ContextsStream(job.KeysBucket):
		return editCommand(name) + " --max-bucket-size SIZE, such as 4GB"
	case job.DeadStream(pool):
		return "thence dead drop " + pool + " --older 720h, or nats stream edit " + name + " --max-bytes SIZE, such as 4GB"
	}
	return "nats stream edit " + name + " --max-bytes SIZE, such as 4GB"
}

// checkWorkers looks whether anybody takes jobs and calls, and how they fare.
func checkWorkers(ctx context.Context, p *patient) []Finding {
	var findings []Finding
	looked := false
	there := p.present(ctx)
	for _, part := range p.queues() {
		for _, c := range part.Consumers {
			if c.Unfit != "" || c.PausedFor > 0 {
				continue // said before
			}
			looked = looked || part.Name == job.JobsStream(p.name)
			findings = append(findings, p.fare(part, c, there)...)
		}
	}
	if !looked {
		return append(findings, Finding{Level: Unknown, Found: "nothing hands out jobs: see the consumers"})
	}
	return orOK(findings, "a worker waits for jobs, or is at work on some")
}

// presence is whether any worker of the pool is connected.
type presence int

const (
	unsure presence = iota // it can't be asked
	nobody
	somebody
)

// present asks whether a worker listens. The server says at once when nobody does; workers do not answer on this inbox,
// so their silence says that they are there.
func (p *patient) present(ctx context.Context) presence {
	way, err := p.asker.nc.RTT()
	if err != nil {
		return unsure
	}
	ctx, cancel := context.WithTimeout(ctx, settled+2*way)
	defer cancel()
	switch _, err := p.asker.ask(ctx, job.AskSubject(p.name), nil, nil); {
	case errors.Is(err, nats.ErrNoResponders):
		return nobody
	case err == nil, errors.Is(err, context.DeadlineExceeded):
		return somebody
	}
	return unsure
}

func (p *patient) fare(part stream.Part, c stream.Consumer, there presence) []Finding {
	what, why, do := "jobs", "they wait until a worker runs", "thence worker --pool "+p.name
	if service, ok := strings.CutPrefix(c.Name, "call_"); ok {
		what, why = "calls of "+service, "they wait until a worker runs that has the service"
		do += ", with " + service + " in its --services file or --service, if it is not built in"
	}
	var findings []Finding
	switch {
	case c.Waiting == 0 && c.AckPending == 0 && c.Pending > 0:
		findings = append(findings, Finding{
			Level: Problem, Found: fmt.Sprintf("no worker takes %s: %d wait, the oldest message of %s since %s", what, c.Pending, part.Name, p.age(part.FirstTime)),
			Why: why, Do: do,
		})
	case c.Waiting == 0 && c.AckPending == 0 && what == "jobs":
		findings = append(findings, Finding{
			Level: Warning, Found: "no worker runs: nobody waits for jobs", Why: "jobs that are published will wait", Do: "thence worker --pool " + p.name,
		})
	case c.Waiting == 0 && c.AckPending > 0 && there == nobody:
		findings = append(findings, Finding{
			Level: Problem, Found: fmt.Sprintf("no worker runs: %d %s are handed out to workers that are gone, and %d more wait", c.AckPending, what, c.Pending),
			Why: why + "; then those that were handed out are handed out again", Do: do,
		})
	case c.Waiting == 0 && c.Pending == 0 && c.AckPending > 0 && there == unsure:
		findings = append(findings, Finding{
			Level: Unknown, Found: fmt.Sprintf("%d %s are handed out; whether their workers run still, these credentials may not ask", c.AckPending, what),
		})
	case c.Waiting == 0 && c.Pending > 0:
		findings = append(findings, Finding{
			Level: Warning, Found: fmt.Sprintf("%d %s wait, and no worker asks for more: %d are handed out", c.Pending, what, c.AckPending),
			Why: "the workers are busy, or were ended a moment ago", Do: "look again in a minute; more workers, if it stays so",
		})
	}
	if c.MaxPending > 0 && c.AckPending >= c.MaxPending {
		findings = append(findings, Finding{
			Level: Warning, Found: fmt.Sprintf("all %d %s that may be under way at a time are", c.MaxPending, what), Why: "the others wait",
			Do: fmt.Sprintf("nats consumer edit %s %s --max-pending N, if the service can take more", part.Name, c.Name),
		})
	}
	if many := max(10, c.AckPending/2); c.Redelivered > many {
		findings = append(findings, Finding{
			Level: Warning, Found: fmt.Sprintf("%d of %d %s that are handed out were handed out before", c.Redelivered, c.AckPending, what),
			Why: "workers end without finishing them, or contexts are held", Do: "look at the workers' logs, and at the contexts below",
		})
	}
	return findings
}

func (p *patient) age(t time.Time) string {
	return p.now().Sub(t).Round(time.Second).String()
}

// checkSequences looks whether the streams' sequences and times fit this moment: they begin at the time at which a
// stream was made, so that none comes twice.
func checkSequences(_ context.Context, p *patient) []Finding {
	var findings []Finding
	for _, part := range p.parts {
		now := part.Asked
		if now.IsZero() {
			now = p.now()
		}
		ahead := time.UnixMicro(int64(part.FirstSeq)).Sub(now)
		if part.FirstSeq > 1e15 && ahead > skewHurts {
			findings = append(findings, Finding{
				Level: Warning, Found: fmt.Sprintf("%s begins at %d, which is the time %s from now", part.Name, part.FirstSeq, ahead.Round(time.Second)),
				Why: "it was made while a clock was ahead; made anew before then, it would begin below, and workers would refuse the contexts",
				Do:  "nothing, unless you make it anew: then wait until that time",
			})
		}
		if late := part.LastTime.Sub(now); late > skewHurts {
			findings = append(findings, Finding{
				Level: Problem, Found: fmt.Sprintf("the last message of %s was stored %s from now", part.Name, late.Round(time.Second)),
				Why: "the server's clock went back: deadlines and waits are wrong by that", Do: "run NTP on the servers (chronyc tracking, timedatectl)",
			})
		}
	}
	return orOK(findings, "they begin in the past, and the last messages are not from the future")
}

// checkKeys looks whether the installation's keys can be read.
func checkKeys(ctx context.Context, p *patient) []Finding {
	if _, there := p.parts[job.ContextsStream(job.KeysBucket)]; !there && len(p.parts) > 0 && p.may[stream.Look] {
		return []Finding{noKeys(p.name)}
	}
	_, err := p.pool.ReadKeys(ctx)
	switch {
	case errors.Is(err, stream.ErrNone):
		return []Finding{noKeys(p.name)}
	case err != nil:
		return []Finding{{
			Level: Problem, Found: err.Error(), Why: "workers can't prove where calls, answers and jobs of scripts come from, and refuse to start",
			Do: "restore the bucket " + job.KeysBucket + " from a backup",
		}}
	}
	return []Finding{{Level: OK, Found: "they can be read, and are well-formed"}}
}

func noKeys(pool string) Finding {
	return Finding{
		Level: Problem, Found: "there are no keys", Why: "a worker that starts makes new ones: answers and jobs of scripts that are under way would be dead letters (forged)",
		Do: "restore the bucket " + job.KeysBucket + " from a backup; for a pool that is new: thence init --pool " + pool,
	}
}

// checkLetters counts the dead letters.
func checkLetters(ctx context.Context, p *patient) []Finding {
	reasons := map[string]int{}
	total, held := 0, 0
	err := p.pool.DeadLetters(ctx, "", func(m job.Message) bool {
		l, err := decodeLetter(m)
		if err != nil {
			l.Error.Reason = "broken"
		}
		reasons[l.Error.Reason]++
		if total++; l.Held {
			held++
		}
		return p.Sample < 0 || total < p.Sample
	})
	if err != nil {
		return failed("the dead letters", err)
	}
	if total == 0 {
		return []Finding{{Level: OK, Found: "none"}}
	}
	f := Finding{
		Level: Warning, Found: fmt.Sprintf("%d%s: %s", total, p.cut(total), tally(reasons)), Why: "these jobs did not do what they were meant to",
		Do: "thence dead list " + p.name,
	}
	if held > 0 {
		f.Found += fmt.Sprintf("; %d hold their context", held)
	}
	return []Finding{f}
}

// cut says whether more was there than the sample took.
func (p *patient) cut(n int) string {
	if p.Sample >= 0 && n >= p.Sample {
		return " or more (--sample)"
	}
	return ""
}
