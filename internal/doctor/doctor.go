// Package doctor looks at a deployment as it stands, and says what is wrong with it: the servers, the pools' streams
// and consumers, the contexts, the calls and the dead letters, and what the credentials in use permit.
//
// It changes nothing. What it asks for is what operators may read; to learn what is permitted it sends requests that
// do nothing where they are (see stream.Right). Each check is a function of its own with a name, and finds at least one
// thing: that all is well is found too. What a check can't know from where it looks is said to be unknown, never well.
//
// Contexts and calls are looked at in samples, so that a doctor is no burden on a pool with millions of them.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Level says how bad a finding is.
type Level string

// Levels of findings.
const (
	OK      Level = "ok"
	Unknown Level = "unknown" // it can't be known from here
	Warning Level = "warning" // it works, and may not for long, or loses something when a machine does
	Problem Level = "problem" // something does not work, or is lost
)

// Finding is one thing that a check found.
type Finding struct {
	Check string `json:"check"`
	Pool  string `json:"pool,omitempty"`
	Level Level  `json:"level"`
	Found string `json:"found"`
	Why   string `json:"why,omitempty"` // it matters
	Do    string `json:"do,omitempty"`  // what to do, with the command
}

// Options of an examination. The zero value examines all pools by samples.
type Options struct {
	Pools   []string      // default: all that there are
	Monitor string        // URL of a server's /varz, for what no client is told
	Stuck   time.Duration // how long a context may stand still with jobs to run; default 5 minutes
	Sample  int           // contexts and calls of a pool that are looked at; default 10,000, -1: all
}

func (o Options) withDefaults() Options {
	if o.Stuck == 0 {
		o.Stuck = 5 * time.Minute
	}
	if o.Sample == 0 {
		o.Sample = 10_000
	}
	return o
}

// examination is one look at a deployment.
type examination struct {
	Options
	nc      *nats.Conn
	asker   *asker
	now     func() time.Time
	servers []server
	varz    *varz
	report  func(Finding)
}

// check looks at one thing. Its findings need neither their check's name nor the pool.
type check[T any] struct {
	name  string
	needs []string // rights without which it can't look
	look  func(context.Context, T) []Finding
}

// Examine looks at a deployment over nc, and hands over each finding as it is made. It takes nc's error handler for as long
// as it runs. Its error is that of a look that could not be taken at all.
func Examine(ctx context.Context, nc *nats.Conn, o Options, report func(Finding)) error {
	for _, pool := range o.Pools {
		if err := job.ValidPool(pool); err != nil {
			return err
		}
	}
	e := &examination{Options: o.withDefaults(), nc: nc, asker: newAsker(nc), now: time.Now, report: report}
	defer e.asker.close()
	switch err := e.asker.inbox(ctx); {
	case errors.Is(err, errDenied):
		e.report(Finding{
			Check: "permissions", Level: Problem, Found: err.Error(), Why: "no answer of the server reaches this client, so nothing can be known",
			Do: "start it with the inbox prefix that these credentials permit (--inbox-prefix), or permit them to subscribe to _INBOX.>",
		})
		return nil
	case err != nil:
		return err
	}
	e.find(ctx)
	for _, c := range []check[*examination]{
		{"server", nil, checkServers}, {"clock", nil, checkClocks}, {"jetstream", nil, checkJetStream}, {"payload", nil, checkPayload},
		{"sync", nil, checkSync},
	} {
		e.run("", c.name, c.look(ctx, e))
	}
	pools, findings := e.pools(ctx)
	e.run("", "pools", findings)
	for _, name := range pools {
		if err := e.examinePool(ctx, name); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (e *examination) run(pool, name string, findings []Finding) {
	for _, f := range findings {
		f.Check, f.Pool = name, pool
		e.report(f)
	}
}

// pools are those that are asked for, or all.
func (e *examination) pools(ctx context.Context) ([]string, []Finding) {
	if len(e.Pools) > 0 {
		return e.Pools, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var pools []string
	_, err := e.asker.ask(ctx, "$JS.API.STREAM.NAMES", nil, nil)
	if err == nil {
		pools, err = stream.Pools(ctx, e.nc)
	}
	switch {
	case err != nil:
		return nil, []Finding{{Level: Unknown, Found: "the streams can't be listed: " + err.Error(), Do: "name the pools with --pool"}}
	case len(pools) == 0:
		return nil, []Finding{{
			Level: Warning, Found: "there is no worker pool on this server", Why: "nothing takes jobs",
			Do: "thence init --pool NAME, or thence worker --pool NAME",
		}}
	}
	return pools, []Finding{{Level: OK, Found: strings.Join(pools, ", ")}}
}

// patient is a pool, and what the checks before have found of it.
type patient struct {
	*examination
	name   string
	pool   *stream.Pool
	may    map[string]bool // rights
	silent map[string]bool // rights of which nobody says whether they are permitted
	parts  map[string]stream.Part
	survey *survey
}

func (e *examination) examinePool(ctx context.Context, name string) error {
	pool, err := stream.Open(e.nc, name)
	if err != nil {
		return err
	}
	p := &patient{examination: e, name: name, pool: pool, parts: map[string]stream.Part{}}
	e.run(name, "permissions", checkRights(ctx, p))
	findings := checkStreams(ctx, p)
	if e.run(name, "streams", findings); len(p.parts) == 0 && p.may[stream.Look] {
		return nil // there is nothing to look at, and that was said
	}
	for _, c := range []check[*patient]{
		{"consumers", []string{stream.Look}, checkConsumers}, {"replicas", []string{stream.Look}, checkReplicas}, {"room", []string{stream.Look}, checkRoom},
		{"workers", []string{stream.Look}, checkWorkers}, {"sequences", []string{stream.Look}, checkSequences},
		{"keys", []string{stream.ReadKeys}, checkKeys}, {"contexts", []string{stream.ListContexts}, checkContexts},
		{"ahead", []string{stream.ListContexts, stream.Look}, checkAhead}, {"stuck", []string{stream.ReadJobs, stream.ReadLeaders, stream.Look}, checkStuck},
		{"calls", []string{stream.ListContexts, stream.ReadLeaders}, checkCalls}, {"dead letters", []string{stream.ListLetters}, checkLetters},
	} {
		if lacking := p.lacks(c.needs); len(lacking) > 0 {
			e.run(name, c.name, []Finding{p.notLookedAt(lacking)})
			continue
		}
		e.run(name, c.name, c.look(ctx, p))
	}
	return nil
}

func (p *patient) lacks(rights []string) []string {
	return slices.DeleteFunc(slices.Clone(rights), func(r string) bool { return p.may[r] })
}

// notLookedAt says why a look was not taken.
func (p *patient) notLookedAt(lacking []string) Finding {
	if slices.ContainsFunc(lacking, func(r string) bool { return p.silent[r] }) {
		return Finding{Level: Unknown, Found: "not looked at: the server does not answer who wants to " + strings.Join(lacking, ", or ")}
	}
	return Finding{Level: Unknown, Found: "not looked at: these credentials may not " + strings.Join(lacking, ", or ")}
}

// failed is the finding of a look that could not be taken.
func failed(what string, err error) []Finding {
	if errors.Is(err, context.Canceled) {
		return []Finding{{Level: Unknown, Found: what + ": interrupted"}}
	}
	return []Finding{{Level: Problem, Found: fmt.Sprintf("%s: %v", what, err), Why: "what can't be read here workers can't read either, unless it is a matter of permissions"}}
}

// orOK is the findings, or when there are none that all is well.
func orOK(findings []Finding, format string, args ...any) []Finding {
	if len(findings) > 0 {
		return findings
	}
	return []Finding{{Level: OK, Found: fmt.Sprintf(format, args...)}}
}

// some names the first few of many.
func some(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
