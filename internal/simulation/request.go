package simulation

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// request is a goroutine that waits for an answer.
type request struct {
	process *Process
	what    string
	where   string
	number  uint64
	at      time.Time
	do      func() answer // performs it; called by the scheduler
	heard   chan answer
	web     *http.Request // to an API
	writes  bool          // it stores something
	before  bool          // it had left the process when that was stopped
	over    bool          // answered, or its goroutine waits no more
}

type answer struct {
	entry   stream.Entry
	message job.Message
	number  uint64
	status  int // of an API's response
	err     error
}

// patience is how long a process waits for an answer of the server.
const patience = 5 * time.Second

// ask parks the goroutine until the scheduler has an answer, or ctx ends.
func (p *Process) ask(ctx context.Context, what, where string, number uint64, do func() answer) answer {
	return p.park(ctx, &request{process: p, what: what, where: where, number: number, do: do})
}

// tell is ask for what is to be stored.
func (p *Process) tell(ctx context.Context, what, where string, number uint64, do func() answer) answer {
	return p.park(ctx, &request{process: p, what: what, where: where, number: number, do: do, writes: true})
}

func (p *Process) park(ctx context.Context, r *request) answer {
	w := p.world
	w.mu.Lock()
	if p.life.dead {
		w.mu.Unlock()
		return answer{err: errKilled}
	}
	r.at, r.heard = time.Now(), make(chan answer, 1)
	i, _ := slices.BinarySearchFunc(w.parked, r, order)
	for i < len(w.parked) && order(w.parked[i], r) == 0 {
		i++
	}
	w.parked = slices.Insert(w.parked, i, r)
	w.ring()
	w.mu.Unlock()
	select {
	case a := <-r.heard:
		return a
	case <-ctx.Done():
		w.mu.Lock()
		r.over = true
		w.mu.Unlock()
		return answer{err: ctx.Err()}
	}
}

// order is that of parked requests: by what they are, so that it does not matter which of several goroutines came first.
func order(a, b *request) int {
	return cmp.Or(
		cmp.Compare(a.process.number, b.process.number), cmp.Compare(a.what, b.what), cmp.Compare(a.where, b.where), cmp.Compare(a.number, b.number),
	)
}

// ready are the parked requests that may be performed.
func (w *World) ready() []*request {
	var ready []*request
	for _, r := range w.parked {
		if !r.process.life.stopped || r.before {
			ready = append(ready, r)
		}
	}
	return ready
}

func (w *World) unpark(r *request) {
	if i := slices.Index(w.parked, r); i >= 0 {
		w.parked = slices.Delete(w.parked, i, i+1)
	}
}

// fate is what becomes of a request.
type fate string

const (
	done       fate = ""
	answerLost fate = "answer lost"
	lost       fate = "lost"
	late       fate = "late"
	refused    fate = "no answer about it"
)

func (w *World) drawFate() fate {
	if w.quiet {
		return done
	}
	x := w.rng.Float64()
	for _, f := range []struct {
		p float64
		fate
	}{{w.plan.answerLost, answerLost}, {w.plan.requestLost, lost}, {w.plan.late, late}, {w.plan.refused, refused}} {
		if x < f.p {
			return f.fate
		}
		x -= f.p
	}
	return done
}

// errUnavailable is a word of the server that is none about the message.
var errUnavailable = errors.New("the simulated server is not available (error 10008)")

// perform does what a request asks for, or what becomes of it instead.
func (w *World) perform(r *request) {
	w.unpark(r)
	if r.web != nil {
		w.arrive(r)
		return
	}
	f := w.drawFate()
	if !w.server.up {
		f = []fate{lost, late}[w.rng.IntN(2)]
	}
	switch f {
	case done:
		if a := w.carryOut(r, f); w.server.failing && r.writes {
			w.failed(r, a)
		} else {
			w.reply(r, a)
		}
	case answerLost:
		w.carryOut(r, f)
		w.timeOut(r)
	case lost:
		w.note(r.process.Name, r.what, r.where, r.number, 0, string(lost))
		w.timeOut(r)
	case late:
		w.note(r.process.Name, r.what, r.where, r.number, 0, "under way")
		w.timeOut(r)
		w.agenda.at(time.Now().Add(between(w.rng, 100*time.Millisecond, 30*time.Second)), func() { w.arriveLate(r) })
	case refused:
		w.note(r.process.Name, r.what, r.where, r.number, 0, string(refused))
		w.reply(r, answer{err: errUnavailable})
	}
}

// arriveLate carries out a request that was under way for long, perhaps longer than its sender lived.
func (w *World) arriveLate(r *request) {
	if !w.server.up {
		w.agenda.at(time.Now().Add(time.Second), func() { w.arriveLate(r) })
		return
	}
	w.reply(r, w.carryOut(r, late))
}

func (w *World) carryOut(r *request, f fate) answer {
	a := r.do()
	how := string(f)
	if a.err != nil {
		how = strings.TrimSpace(how + " " + a.err.Error())
	}
	w.note(r.process.Name, r.what, r.where, r.number, a.number, how)
	return a
}

// timeOut ends the process's patience with a request that is not answered by then.
func (w *World) timeOut(r *request) {
	w.agenda.at(r.at.Add(patience), func() { w.reply(r, answer{err: errTimeout}) })
}

// reply hands an answer to the goroutine that waits for it. A stopped process hears it when it goes on.
func (w *World) reply(r *request, a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.over {
		return
	}
	if r.process.life.stopped {
		r.process.answers = append(r.process.answers, func() {
			if r.web == nil && time.Since(r.at) > patience && chance(w.rng, 0.5) {
				a = answer{err: errTimeout} // its patience is over at the same moment
			}
			w.reply(r, a)
		})
		return
	}
	r.over = true
	r.heard <- a
}

// RoundTrip sends a request to the API.
func (p *Process) RoundTrip(req *http.Request) (*http.Response, error) {
	a := p.park(req.Context(), &request{process: p, what: "request", where: req.URL.Path, web: req})
	if a.err != nil {
		return nil, a.err
	}
	return response(req, a.status), nil
}

// arrive is a request's arrival at the API.
func (w *World) arrive(r *request) {
	x := w.rng.Float64()
	if w.quiet {
		x = 1
	}
	api := w.plan.api
	context, call := callOf(r.web)
	w.oracle.requested(r.process, context, call, keysOf(r.web.Header))
	status, how := http.StatusOK, "200"
	switch {
	case x < api.silent:
		w.note(r.process.Name, r.what, r.where, 0, 0, "no answer")
		return
	case x < api.silent+api.broken:
		w.note(r.process.Name, r.what, r.where, 0, 0, "connection reset")
		w.reply(r, answer{err: errReset})
		return
	case x < api.silent+api.broken+api.busy:
		status, how = http.StatusTooManyRequests, "429"
	case x < api.silent+api.broken+api.busy+api.failing/2:
		status, how = http.StatusBadGateway, "502"
	case x < api.silent+api.broken+api.busy+api.failing:
		status, how = http.StatusPaymentRequired, "402"
	}
	w.note(r.process.Name, r.what, r.where, 0, 0, how)
	took := between(w.rng, time.Millisecond, 50*time.Millisecond)
	if chance(w.rng, api.slow) && !w.quiet {
		took = between(w.rng, 100*time.Millisecond, 20*time.Second)
	}
	w.agenda.at(time.Now().Add(took), func() { w.reply(r, answer{status: status}) })
}

var errReset = errors.New("connection reset by the simulated peer")

// callOf reads a request's path: /<context>/<call>.
func callOf(req *http.Request) (name, call string) {
	name, call, _ = strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	return name, call
}

// keysOf are a request's idempotency keys, in whatever case the header's name is written.
func keysOf(h http.Header) []string {
	var keys []string
	for name, values := range h {
		if strings.EqualFold(name, "Idempotency-Key") {
			keys = append(keys, values...)
		}
	}
	return keys
}

func response(req *http.Request, status int) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}}
	if status == http.StatusTooManyRequests {
		h.Set("Retry-After", "2")
	}
	return &http.Response{
		Status: fmt.Sprint(status, " ", http.StatusText(status)), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Request: req, Body: io.NopCloser(bytes.NewReader([]byte(`{}`))),
	}
}
