package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// callers publish jobs. Some say so twice, as their answer was lost; some pretend to be somebody else.
type callers struct {
	world *World
	left  int // publishes that were not accepted or given up yet
	count int
}

// strayContext is one that no bucket can hold.
const strayContext = "no!context"

func (c *callers) begin(w *World) {
	c.world = w
	for range w.plan.jobs {
		c.plan(time.Duration(w.rng.Float64() * float64(w.plan.span)))
	}
}

// plan enters a job into the agenda.
func (c *callers) plan(after time.Duration) {
	w := c.world
	c.count++
	p := w.program(2)
	m := job.Message{
		Subject: job.Address{Pool: Pool, Context: w.plan.contexts[w.rng.IntN(len(w.plan.contexts))]}.String(),
		Data:    encode(Order{Program: *p}),
		Header:  map[string][]string{job.HeaderScript: {p.Script()}, job.HeaderType: {job.TypeJSON}},
	}
	if chance(w.rng, 0.85) {
		m.Header[job.HeaderID] = []string{fmt.Sprint("job-", c.count)}
	}
	if chance(w.rng, w.plan.strays) {
		m.Subject = job.Address{Pool: Pool, Context: strayContext}.String()
	}
	c.at(after, m)
	for chance(w.rng, w.plan.repeats) && m.Get(job.HeaderID) != "" {
		after += between(w.rng, 100*time.Millisecond, 5*time.Minute)
		c.at(after, m)
	}
	if chance(w.rng, w.plan.forgeries) {
		c.left++
		w.agenda.at(time.Now().Add(after+between(w.rng, time.Millisecond, time.Minute)), c.forge)
	}
}

func (c *callers) at(after time.Duration, m job.Message) {
	c.left++
	c.world.agenda.at(time.Now().Add(after), func() { c.publish(m) })
}

// publish puts a job on the stream. While the server is away or full it tries again, or gives up.
func (c *callers) publish(m job.Message) {
	w := c.world
	err := errTimeout
	var stored *message
	if w.server.up {
		stored, err = w.server.publish(m)
	}
	switch {
	case err == nil:
		c.left--
		w.note("caller", "publishes", m.Subject, stored.Sequence, 0, m.Get(job.HeaderID))
	case !w.quiet && chance(w.rng, 0.3):
		c.left--
		w.note("caller", "gives up", m.Subject, 0, 0, m.Get(job.HeaderID))
	default:
		w.agenda.at(time.Now().Add(time.Second), func() { c.publish(m) })
	}
}

// forge publishes a message that says it is a worker's, and is not: the answer to an open call, an effect of a job, a
// child of one, or a job that chooses its release.
func (c *callers) forge() {
	c.left--
	w := c.world
	name, call, effect := w.oracle.victim()
	if !w.server.up || w.quiet || effect == "" {
		return
	}
	m := job.Message{
		Subject: job.Address{Pool: Pool, Context: name}.String(), Data: encode(Order{}),
		Header: map[string][]string{job.HeaderScript: {Plain}, job.HeaderType: {job.TypeJSON}, job.HeaderSource: {effect}},
	}
	switch {
	case call != "" && chance(w.rng, 0.6):
		m.Data = []byte(`{"status":200,"attempts":1,"duration_ms":1}`)
		m.Header = map[string][]string{job.HeaderCall: {call}, job.HeaderType: {job.TypeAnswer}, job.HeaderCaller: {Service}}
	case len(w.releases.turns) > 1 && chance(w.rng, 0.3):
		delete(m.Header, job.HeaderSource)
		m.Header[job.HeaderRelease] = []string{w.releases.turns[0].Name}
	case chance(w.rng, 0.3):
		delete(m.Header, job.HeaderSource)
		m.Header[job.HeaderParent] = []string{effect}
	}
	w.oracle.forging = true
	stored, err := w.server.publish(m)
	w.oracle.forging = false
	if err == nil {
		w.note("caller", "forges", m.Subject, stored.Sequence, 0, call+" "+effect)
	}
}

func (c *callers) done() bool { return c.left == 0 }

// program draws what a job does, and what comes of it down to a depth.
func (w *World) program(depth int) *Program {
	p := &Program{Fails: chance(w.rng, 0.08), Cancels: chance(w.rng, w.plan.cancels)}
	if w.plan.killers && depth == 2 && chance(w.rng, 0.2) {
		p.Kills = []int{1 + w.rng.IntN(14), 1000}[w.rng.IntN(2)]
	}
	steps := 0
	if depth > 0 {
		steps = []int{0, 0, 0, 1, 1, 1, 2, 3}[w.rng.IntN(8)]
	}
	for range steps {
		p.Steps = append(p.Steps, w.drawStep(depth-1))
	}
	return p
}

func (w *World) drawStep(depth int) Step {
	if chance(w.rng, 0.5) {
		return Step{To: w.plan.contexts[w.rng.IntN(len(w.plan.contexts))], Run: w.program(depth)}
	}
	s := Step{Then: w.program(depth), Cancelled: chance(w.rng, w.plan.cancels)}
	if chance(w.rng, 0.7) {
		s.Catch = w.program(0)
	}
	if chance(w.rng, w.plan.timers) {
		s.After = between(w.rng, time.Millisecond, 4*time.Minute)
	}
	return s
}

// pick is one of the keys of a map, chosen by the seed.
func pick[V any](w *World, of map[string]V) string {
	if len(of) == 0 {
		return ""
	}
	keys := make([]string, 0, len(of))
	for k := range of {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys[w.rng.IntN(len(keys))]
}
