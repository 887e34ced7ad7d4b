package scripting

import (
	"reflect"
	"time"
)

// Bound is one of the bounds of a source, and how much of it the source takes.
type Bound struct {
	Name string // what is bounded, in words: "bytes of source"
	Used int
	Most int
}

// Inspect compiles a script without running it, and tells how near it is to the bounds of sources. The error is an
// *[Error].
func (e *Engine) Inspect(s Script, l Limits) ([]Bound, error) {
	l = l.WithDefaults()
	p, _, err := e.lib.program(s, l, &e.inline)
	if err != nil {
		return nil, err
	}
	bounds := []Bound{{"bytes of source", len(e.source(s)), l.Source}}
	for _, b := range p.Bounds() {
		bounds = append(bounds, Bound(b))
	}
	return bounds, nil
}

func (e *Engine) source(s Script) string {
	if s.Source == "" {
		return e.lib.sources[s.Name]
	}
	return s.Source
}

// usage tells what a run has taken, of which m has what is left.
func (m *machine) usage(in Input, out *Outcome, took time.Duration) *Usage {
	u := &Usage{Time: took, Allocs: m.allocated(), Source: len(in.Script.Source), State: len(out.State), Result: len(m.run.Result()),
		Output: len(out.Output), Effects: len(m.run.Effects())}
	for _, e := range m.run.Effects() {
		u.Outbox += outboxSize(effectOf(e))
	}
	return u
}

// allocated is how many values the VM has made. Tengo counts them down from the limit and one more, in a field of its
// own.
func (m *machine) allocated() int64 {
	left := reflect.ValueOf(m.vm).Elem().FieldByName("allocs")
	if !left.IsValid() || !left.CanInt() {
		return 0
	}
	return m.allocs + 1 - left.Int()
}

// outboxSize is what an effect counts for Limits.Outbox.
func outboxSize(e Effect) int {
	if d := e.Dispatch; d != nil {
		return len(d.Worker) + len(d.Context) + len(d.Script) + len(d.Source) + len(d.Data)
	}
	c := e.Call
	n := len(c.URL) + len(c.Body) + len(c.Tag) + len(c.IdempotencyKey) + len(c.Then) + len(c.Catch)
	for _, h := range c.Header {
		n += len(h.Name) + len(h.Value) + len(h.Secret)
	}
	return n
}
