package simulation

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// handed takes a call that was handed to a process.
func (o *oracle) handed(p *Process, q *queue, m *message) {
	if q != o.world.server.calls {
		return
	}
	var c callMessage
	o.read(m, &c)
	name := strings.Split(m.Subject, ".")[1]
	t := p.handed[name+"."+c.ID]
	if t == nil {
		t = &try{}
		p.handed[name+"."+c.ID] = t
	}
	_, open := o.line(name).last.Calls[c.ID]
	t.closed = !open
	t.handed++
}

// looked takes a look at a context, by a process that is about to send calls: each open call that it shows may be sent
// once, and where several copies of it were handed out before, once for each of them, as they may share the look.
func (o *oracle) looked(p *Process, name string, e stream.Entry) {
	if e.Data == nil {
		return
	}
	var c kept
	if err := json.Unmarshal(e.Data, &c); err != nil {
		o.world.violate("commits can be read", "context %s, revision %d: %v", name, e.Revision, err)
	}
	for call := range c.Calls {
		if t := p.handed[name+"."+call]; t != nil {
			t.looks = max(t.looks+1, t.handed)
		}
	}
}

// expiry is how long the API remembers an idempotency key.
const expiry = 24 * time.Hour

// requested takes a request that arrived at the API.
func (o *oracle) requested(p *Process, name, call string, keys []string) {
	w, id := o.world, name+"."+call
	w.stats.Requests++
	e := o.effects[id]
	if e == nil || e.kind != job.EffectCall || len(keys) != 1 {
		w.violate("no effect of what is not committed", "request for call %s with keys %q", id, keys)
		return
	}
	if e.requests == 0 {
		e.first, e.key = time.Now(), keys[0]
	}
	e.requests++
	if owner, used := o.keys[keys[0]]; e.key != keys[0] || used && owner != id {
		w.violate("one idempotency key a call", "call %s was sent under %s and %s (of %q)", id, e.key, keys[0], owner)
	}
	o.keys[keys[0]] = id
	if since := time.Since(e.first); since > expiry {
		w.violate("no try after its key has expired", "call %s was tried %s after its first try", id, since)
	}
	t := p.handed[id]
	t.sends++
	if t.closed && t.looks < t.sends {
		w.violate("no try begins that could know that its answer is recorded", "call %s, by %s", id, p.Name)
	}
}
