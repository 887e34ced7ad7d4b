package simulation

import (
	"fmt"
	"time"

	"github.com/thence-dev/thence/internal/stream"
)

// harm is something bad that is done to the world.
type harm string

const (
	crash       harm = "crash"        // a process is killed
	stop        harm = "stop"         // a process is stopped, and goes on later
	deploy      harm = "deploy"       // a process is told to end, and another one is started
	cut         harm = "cut"          // a connection is cut, with all acks that are on it
	restart     harm = "restart"      // the server restarts
	failover    harm = "failover"     // another server leads: nothing is forgotten
	depose      harm = "depose"       // a leader is cut off from the other servers, and answers for a while
	outage      harm = "outage"       // the server restarts while workers are killed
	full        harm = "full"         // a stream has no room
	remakeJobs  harm = "remake jobs"  // the stream of jobs is deleted and made anew
	remakeCalls harm = "remake calls" // the stream of calls is
	night       harm = "night"        // no worker runs for more than a day
	pauses      harm = "pause"        // an operator holds a context
	powers      harm = "power"        // the server loses its power: its disk first
	cancels     harm = "cancel"       // an operator closes an open call
)

var allHarm = []weighted{
	{10, crash}, {8, stop}, {3, deploy}, {4, cut}, {5, restart}, {2, failover}, {5, depose}, {4, outage}, {4, full}, {2, remakeJobs}, {1, remakeCalls}, {1, night}, {2, pauses}, {3, cancels}, {5, powers},
}

func (w *World) harm() {
	weights := make([]int, len(w.plan.harms))
	for i, h := range w.plan.harms {
		weights[i] = h.weight
	}
	w.stats.Harms++
	switch kind := w.plan.harms[w.draw(weights)].kind; kind {
	case crash:
		w.onProcess(w.crash)
	case stop:
		w.onProcess(w.stop)
	case deploy:
		w.onProcess(w.deploy)
	case cut:
		w.onProcess(w.cut)
	case restart, failover:
		w.restart(kind == restart)
	case depose:
		w.depose()
	case outage:
		w.outage()
	case full:
		w.fill()
	case remakeJobs:
		w.remake(w.server.jobs)
	case remakeCalls:
		w.remake(w.server.calls)
	case night:
		w.night()
	case pauses:
		w.pause()
	case cancels:
		w.cancel()
	case powers:
		w.power()
	}
}

// onProcess does something to one of the processes that are alive.
func (w *World) onProcess(do func(*Process)) {
	if alive := w.living(); len(alive) > 0 {
		do(alive[w.rng.IntN(len(alive))])
	}
}

func (w *World) living() []*Process {
	var alive []*Process
	for _, p := range w.processes {
		if !p.life.dead && !p.life.ending && !p.life.ended {
			alive = append(alive, p)
		}
	}
	return alive
}

func (w *World) crash(p *Process) {
	w.kill(p)
	w.succeed(between(w.rng, 10*time.Millisecond, 20*time.Second))
}

// succeed starts a process after a while.
func (w *World) succeed(after time.Duration) {
	w.agenda.at(time.Now().Add(after), w.spawn)
}

// kill ends a process at once. Of what it had sent, some arrives all the same.
func (w *World) kill(p *Process) {
	w.note(p.Name, "is killed", "", 0, 0, "")
	w.mu.Lock()
	if !p.life.dead {
		close(p.killed)
	}
	p.life.dead, p.life.stopped = true, false
	var mine []*request
	for _, r := range w.parked {
		if r.process == p {
			mine = append(mine, r)
		}
	}
	for _, r := range mine {
		w.unpark(r)
	}
	if n := len(p.said); n > 0 {
		p.said = p.said[:w.rng.IntN(n+1)]
	}
	w.mu.Unlock()
	for _, r := range mine {
		w.reply(r, answer{err: errKilled})
		if r.web == nil && chance(w.rng, 0.3) && w.broken == nil {
			w.agenda.at(time.Now().Add(between(w.rng, time.Millisecond, 10*time.Second)), func() { w.arriveLate(r) })
		}
	}
	for _, do := range p.answers {
		do()
	}
	p.answers = nil
	p.kill()
}

// stop stops a process, and lets it go on later: after its server has given its work to others, and perhaps has
// forgotten its ids.
func (w *World) stop(p *Process) {
	if p.life.stopped {
		return
	}
	after := between(w.rng, 200*time.Millisecond, 5*time.Minute)
	w.note(p.Name, "is stopped", "", 0, 0, "for "+after.Round(time.Millisecond).String())
	w.mu.Lock()
	p.life.stopped = true
	for _, r := range w.parked {
		r.before = r.before || r.process == p && chance(w.rng, 0.5)
	}
	sent := w.rng.IntN(len(p.said) + 1)
	for i := range p.said[:sent] {
		p.said[i].before = true
	}
	w.mu.Unlock()
	w.agenda.at(time.Now().Add(after), func() { w.goOn(p) })
}

func (w *World) goOn(p *Process) {
	if !p.life.stopped {
		return
	}
	w.note(p.Name, "goes on", "", 0, 0, "")
	w.mu.Lock()
	p.life.stopped = false
	w.mu.Unlock()
	heard := p.answers
	p.answers = nil
	for _, do := range heard {
		do()
		w.pass(time.Microsecond)
	}
}

func (w *World) deploy(p *Process) {
	if p.life.stopped {
		return
	}
	w.note(p.Name, "is to end", "", 0, 0, "")
	p.life.ending = true
	p.kill()
	w.succeed(between(w.rng, 10*time.Millisecond, 5*time.Second))
}

func (w *World) cut(p *Process) {
	w.note(p.Name, "is cut off", "", 0, 0, fmt.Sprintf("with %d acks", len(p.said)))
	w.mu.Lock()
	p.said = nil
	p.cuts++
	w.mu.Unlock()
}

func (w *World) restart(forgets bool) {
	if !w.server.up || w.server.failing {
		return
	}
	away := between(w.rng, 50*time.Millisecond, 20*time.Second)
	w.note("server", "is away", "", 0, 0, fmt.Sprintf("for %s, forgets %v", away.Round(time.Millisecond), forgets))
	for _, p := range w.processes {
		w.mu.Lock()
		p.said = p.said[:w.rng.IntN(len(p.said)+1)]
		w.mu.Unlock()
	}
	w.mu.Lock()
	w.losses++
	w.mu.Unlock()
	w.server.restart(away, forgets)
}

// depose makes a stream's leader one that was: until it knows, which takes ten seconds at most, it answers those who can
// reach it by what it knew when it was cut off. It can write nothing.
func (w *World) depose() {
	q := []*queue{w.server.jobs, w.server.contexts}[w.rng.IntN(2)]
	if q.former != 0 || q.edits == 0 {
		return
	}
	q.former = q.edits
	after := between(w.rng, time.Second, 10*time.Second)
	w.note("server", "is cut off", q.config.Name, 0, 0, "for "+after.Round(time.Millisecond).String())
	w.agenda.at(time.Now().Add(after), func() { q.former = 0 })
	if chance(w.rng, 0.5) { // a worker on the same machine is lost with it
		w.agenda.at(time.Now().Add(between(w.rng, time.Millisecond, after)), func() {
			if !w.quiet {
				w.onProcess(w.crash)
			}
		})
	}
}

// ledBy is how many edits of a queue the server has seen that answers as its leader.
func (w *World) ledBy(q *queue) int {
	if q.former != 0 && !w.quiet && chance(w.rng, 0.5) {
		return q.former
	}
	return q.edits
}

// outage takes the server and some of the workers at once, as the loss of a machine does.
func (w *World) outage() {
	for _, p := range w.living() {
		if chance(w.rng, 0.6) {
			w.crash(p)
		}
	}
	w.restart(true)
}

// fill leaves a stream without room for a while.
func (w *World) fill() {
	after := between(w.rng, 500*time.Millisecond, 4*time.Minute)
	switch w.rng.IntN(3) {
	case 0:
		w.limit(w.server.jobs, w.server.jobs.bytes+int64(w.rng.IntN(3000)), after)
	case 1:
		w.limit(w.server.contexts, 1, after)
	default:
		w.note("operator", "calls are full", "", 0, 0, "for "+after.Round(time.Millisecond).String())
		w.setFull(stream.ErrFull)
		w.agenda.at(time.Now().Add(after), func() { w.setFull(nil) })
	}
}

func (w *World) setFull(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.callsFull = err
}

func (w *World) limit(q *queue, bytes int64, after time.Duration) {
	w.note("operator", "limits", q.config.Name, uint64(max(1, bytes)), 0, "for "+after.Round(time.Millisecond).String())
	q.config.MaxBytes = max(1, bytes)
	w.agenda.at(time.Now().Add(after), func() { q.config.MaxBytes = 1 << 30 })
}

// remake deletes a stream with all that is in it, and makes it anew. Processes hear that their consumer is gone, and
// end; one that is stopped has acks for the old stream.
func (w *World) remake(q *queue) {
	if !w.server.up || w.server.failing {
		return
	}
	w.note("operator", "makes anew", q.config.Name, 0, 0, fmt.Sprintf("with %d messages", q.count()))
	w.oracle.deleted(q)
	if q == w.server.jobs {
		w.server.makeJobs()
	} else {
		w.server.makeCalls()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.processes {
		for _, d := range p.taking {
			if d.stream == q.config.Name {
				d.lose()
			}
		}
	}
}

// dusk is how long the night takes to fall: longer than anything stays under way.
const dusk = 2 * time.Minute

// night is a day and more without any worker.
func (w *World) night() {
	for _, p := range w.living() {
		w.kill(p)
	}
	w.note("world", "night", "", 0, 0, "")
	w.agenda.at(time.Now().Add(dusk), w.sleepUntilMorning)
}

func (w *World) sleepUntilMorning() {
	if late := w.living(); len(late) > 0 && !w.quiet { // they were about to start when it fell
		for _, p := range late {
			w.kill(p)
		}
		w.agenda.at(time.Now().Add(dusk), w.sleepUntilMorning)
		return
	}
	if !w.quiet {
		w.pass(25*time.Hour + between(w.rng, time.Second, time.Hour))
	}
	w.note("world", "morning", "", 0, 0, "")
	for range w.plan.processes {
		w.succeed(between(w.rng, time.Millisecond, time.Second))
	}
}

// mend ends all harm: everything is there again, and everybody goes on.
func (w *World) mend() {
	for _, p := range w.processes {
		w.goOn(p)
	}
	w.setFull(nil)
	for _, q := range w.server.queues() {
		q.config.MaxBytes = 1 << 30
		q.replicas = [2]int{q.edits, q.edits}
	}
	w.mu.Lock()
	w.mended = true
	w.mu.Unlock()
	if len(w.living()) == 0 {
		w.spawn()
	}
	w.operate()
}

// seenOf is how many edits of a queue the server that answers a direct get has seen. A replica goes forward only.
func (w *World) seenOf(q *queue) int {
	if w.quiet || !chance(w.rng, w.plan.stale) {
		return q.edits
	}
	i := w.rng.IntN(len(q.replicas))
	behind := q.edits - q.replicas[i]
	if behind > 0 && chance(w.rng, 0.6) {
		q.replicas[i] += 1 + w.rng.IntN(behind)
	}
	return q.replicas[i]
}
