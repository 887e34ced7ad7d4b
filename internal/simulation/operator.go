package simulation

import (
	"encoding/json"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// operate decides over what is held, now and then; once it is quiet, over everything that is. What failed it may mend
// first, and decide the next time.
func (w *World) operate() {
	for _, name := range w.plan.contexts {
		held := w.oracle.line(name).last.Held
		if held == nil || !w.server.up {
			continue
		}
		switch {
		case w.releases.mends(held.Sequence):
			w.releases.push(w)
		case w.quiet || chance(w.rng, 0.7):
			w.decide(name, held.Sequence)
		}
	}
	w.agenda.at(time.Now().Add(between(w.rng, time.Second, 20*time.Second)), w.operate)
}

// pause holds a context, as an operator does.
func (w *World) pause() {
	name := w.plan.contexts[w.rng.IntN(len(w.plan.contexts))]
	if w.oracle.line(name).last.Held != nil || !w.server.up {
		return
	}
	w.deed(name, "pause", func(c map[string]json.RawMessage) {
		c["held"] = encode(map[string]any{"since": time.Now(), "by": "ada"})
	})
}

// cancel closes an open call, as an operator does, and removes the timer of its next try, or is cut off before.
func (w *World) cancel() {
	name := w.plan.contexts[w.rng.IntN(len(w.plan.contexts))]
	call := pick(w, w.oracle.line(name).last.Calls)
	if call == "" || !w.server.up {
		return
	}
	w.oracle.cancelling = call
	closed := w.deed(name, "cancel", func(c map[string]json.RawMessage) {
		var calls map[string]json.RawMessage
		_ = json.Unmarshal(c["calls"], &calls) // they were read when they were committed
		delete(calls, call)
		c["calls"] = encode(calls)
	})
	w.oracle.cancelling = ""
	if closed && chance(w.rng, 0.5) {
		w.server.calls.clear(job.Address{Pool: Pool, Context: name}.RetrySubject(call))
	}
}

// decide lets a held context go on: with the job that failed, or without it.
func (w *World) decide(name string, failed uint64) {
	gone := w.deed(name, "resume", func(c map[string]json.RawMessage) {
		if failed != 0 && chance(w.rng, 0.5) {
			var held struct {
				Error json.RawMessage `json:"error"`
			}
			_ = json.Unmarshal(c["held"], &held) // it was read when it was committed
			c["skip"] = encode(map[string]any{"sequence": failed, "error": held.Error})
		}
		delete(c, "held")
	})
	if !gone {
		return
	}
	if letter := w.server.dead.lastShown(letterOf(name, failed), w.server.dead.edits); letter != nil {
		w.server.dead.remove(letter)
	}
	w.wake(name)
}

// wake makes workers look at a context.
func (w *World) wake(name string) {
	m := job.Message{
		Subject: job.Address{Pool: Pool, Context: name}.String(), Header: map[string][]string{job.HeaderType: {job.TypeWake}},
	}
	stored, err := w.server.publish(m)
	if err == nil {
		w.note("operator", "wakes", m.Subject, stored.Sequence, 0, "")
	}
}

// deed changes a context's last commit, and tells whether it was written.
func (w *World) deed(name, what string, change func(map[string]json.RawMessage)) bool {
	e := w.server.context(name, w.server.contexts.edits)
	c := map[string]json.RawMessage{"v": []byte("1"), "state": []byte("{}"), "report": []byte("{}"), "applied": []byte("0"), "attempt": []byte(`""`)}
	if e.Data != nil {
		if err := json.Unmarshal(e.Data, &c); err != nil {
			w.violate("commits can be read", "context %s, revision %d: %v", name, e.Revision, err)
			return false
		}
	}
	change(c)
	c["deed"] = encode(map[string]any{"what": what, "by": "ada", "time": time.Now()})
	n, err := w.server.commit(name, encode(c), e.Revision)
	w.note("operator", what, name, e.Revision, n, "")
	return err == nil
}
