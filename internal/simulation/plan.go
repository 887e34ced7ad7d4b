package simulation

import (
	"math"
	"math/rand/v2"
	"time"
)

// plan is what a history is like. Each has some kinds of harm and not others: where all come together, few histories
// get far enough to show what two of them do to each other.
type plan struct {
	processes int
	contexts  []string
	jobs      int
	span      time.Duration // over which callers publish
	moves     int           // until the harm ends

	// How often a request of a process meets each fate, of one.
	answerLost, requestLost, late, refused float64

	stale        float64 // of direct reads that a replica answers
	ackLost      float64
	handoutLost  float64
	repeats      float64 // of jobs that their caller publishes again
	forgeries    float64
	strays       float64
	cancels      float64 // of jobs that close what is open, and of calls that are taken back at once
	timers       float64 // of calls that are timers
	request, ack int     // weights of moves
	handout      int
	time         int
	slow         int // process that gets its turn more seldom; -1: none

	harm     float64 // of moves that do harm
	harms    []weighted
	api      api
	holds    bool
	killers  bool
	slots    int
	inFlight int
}

type weighted struct {
	weight int
	kind   harm
}

// api is what becomes of requests, of one; what is left succeeds.
type api struct{ silent, broken, busy, failing, slow float64 }

func newPlan(r *rand.Rand) plan {
	p := plan{
		processes: 1 + r.IntN(3), contexts: []string{"a", "b", "c", "d"}[:2+r.IntN(3)], jobs: 2 + r.IntN(9),
		span: between(r, 20*time.Millisecond, 4*time.Minute), moves: 80 + r.IntN(350),
		request: 1 + r.IntN(20), ack: 1 + r.IntN(20), handout: 1 + r.IntN(20), time: 1 + r.IntN(3), slow: -1,
		harm: 0.002 + 0.03*r.Float64()*r.Float64(), slots: 128, inFlight: 1 + r.IntN(4),
		killers: chance(r, 0.03), holds: chance(r, 0.15),
	}
	some := func(often, most float64) float64 {
		if !chance(r, often) {
			return 0
		}
		return most * r.Float64()
	}
	p.answerLost, p.requestLost, p.late, p.refused = some(0.4, 0.15), some(0.3, 0.1), some(0.35, 0.1), some(0.2, 0.1)
	p.stale, p.ackLost, p.handoutLost = some(0.5, 0.8), some(0.3, 0.3), some(0.3, 0.1)
	p.repeats, p.forgeries, p.strays, p.cancels = some(0.5, 0.5), some(0.3, 0.3), some(0.1, 0.1), some(0.3, 0.4)
	p.timers = some(0.4, 0.6)
	p.api = api{some(0.2, 0.2), some(0.3, 0.3), some(0.3, 0.4), some(0.3, 0.4), some(0.4, 0.6)}
	if chance(r, 0.3) {
		p.slow = r.IntN(p.processes)
	}
	if chance(r, 0.1) {
		p.slots = 1 + r.IntN(3)
	}
	for _, w := range allHarm {
		if chance(r, 0.4) {
			p.harms = append(p.harms, w)
		}
	}
	if len(p.harms) == 0 {
		p.harms = allHarm
	}
	return p
}

func chance(r *rand.Rand, p float64) bool { return p > 0 && r.Float64() < p }

// between is a duration whose logarithm is uniform: of every order of magnitude as many.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return time.Duration(float64(low) * math.Pow(float64(high)/float64(low), r.Float64()))
}
