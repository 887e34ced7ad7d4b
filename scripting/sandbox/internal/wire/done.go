package wire

import (
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/thence-dev/thence/scripting"
)

// Done is how a job ended: with an outcome, with an error, or with both, as a [scripting.Runner] returns them.
type Done struct {
	Number  uint64
	Took    time.Duration
	Retire  bool // the child has grown, and asks to be replaced
	Outcome *scripting.Outcome
	Err     *scripting.Error
}

// AppendDone appends a frame that ends a job. It is an error when the outcome is larger than a frame; buf is then as
// it was.
func AppendDone(buf []byte, d *Done) ([]byte, error) {
	start := len(buf)
	buf = binary.AppendUvarint(Begin(buf, KindDone), d.Number)
	buf = binary.AppendUvarint(buf, uint64(max(d.Took, 0)))
	buf = appendBool(buf, d.Retire)
	buf = appendBool(buf, d.Err != nil)
	if d.Err != nil {
		text, err := json.Marshal(d.Err)
		if err != nil {
			return buf[:start], err
		}
		buf = appendText(buf, text)
	}
	buf = appendBool(buf, d.Outcome != nil)
	if d.Outcome != nil {
		buf = appendOutcome(buf, d.Outcome)
	}
	if err := End(buf, start); err != nil {
		return buf[:start], err
	}
	return buf, nil
}

func appendOutcome(buf []byte, o *scripting.Outcome) []byte {
	buf = appendOptional(buf, o.State)
	buf = appendOptional(buf, o.Result)
	buf = appendText(buf, o.Output)
	buf = appendBool(buf, o.OutputCut)
	buf = binary.AppendUvarint(buf, uint64(len(o.Effects)))
	for i := range o.Effects {
		buf = appendEffect(buf, &o.Effects[i])
	}
	buf = binary.AppendUvarint(buf, uint64(len(o.Cancelled)))
	for _, id := range o.Cancelled {
		buf = appendText(buf, id)
	}
	return appendUsage(buf, o.Usage)
}

func appendUsage(buf []byte, u *scripting.Usage) []byte {
	buf = appendBool(buf, u != nil)
	if u == nil {
		return buf
	}
	for _, n := range []int64{int64(u.Time), u.Memory, u.Allocs, int64(u.Source), int64(u.State), int64(u.Output),
		int64(u.Effects), int64(u.Outbox), int64(u.Result)} {
		buf = binary.AppendVarint(buf, n)
	}
	return buf
}

func appendEffect(buf []byte, e *scripting.Effect) []byte {
	buf = appendBool(buf, e.Dispatch != nil)
	if d := e.Dispatch; d != nil {
		for _, s := range []string{d.ID, d.Worker, d.Context, d.Script, d.Source} {
			buf = appendText(buf, s)
		}
		return appendOptional(buf, d.Data)
	}
	c := e.Call
	for _, s := range []string{c.ID, c.Operation, c.Method, c.URL} {
		buf = appendText(buf, s)
	}
	buf = binary.AppendUvarint(buf, uint64(len(c.Header)))
	for _, h := range c.Header {
		buf = appendText(appendText(appendText(buf, h.Name), h.Value), h.Secret)
	}
	buf = appendOptional(buf, c.Body)
	buf = binary.AppendVarint(buf, int64(c.Timeout))
	for _, s := range []string{c.IdempotencyKey, c.Then, c.Catch} {
		buf = appendText(buf, s)
	}
	return appendBool(appendOptional(buf, c.Tag), c.Cancelled)
}

// ParseDone decodes a KindDone. The outcome's byte strings are parts of the body.
func ParseDone(body []byte) (Done, error) {
	d := decoder{b: body}
	done := Done{Number: d.uvarint(), Took: time.Duration(d.uvarint()), Retire: d.bool()}
	if d.bool() {
		done.Err = &scripting.Error{}
		if json.Unmarshal(d.bytes(), done.Err) != nil {
			return Done{}, ErrFormat
		}
	}
	if d.bool() {
		done.Outcome = d.outcome()
	}
	if done.Err == nil && done.Outcome == nil {
		return Done{}, ErrFormat
	}
	return done, d.close()
}

func (d *decoder) outcome() *scripting.Outcome {
	o := &scripting.Outcome{State: d.optional(), Result: d.optional(), Output: d.text(), OutputCut: d.bool()}
	const smallest = 7 // bytes of a dispatch whose members are all empty
	if n := d.count(smallest); n > 0 {
		o.Effects = make([]scripting.Effect, 0, n)
		for range n {
			o.Effects = append(o.Effects, d.effect())
		}
	}
	for range d.count(1) {
		o.Cancelled = append(o.Cancelled, d.text())
	}
	if d.bool() {
		o.Usage = &scripting.Usage{Time: time.Duration(d.varint()), Memory: d.varint(), Allocs: d.varint(), Source: int(d.varint()),
			State: int(d.varint()), Output: int(d.varint()), Effects: int(d.varint()), Outbox: int(d.varint()), Result: int(d.varint())}
	}
	return o
}

func (d *decoder) effect() scripting.Effect {
	if d.bool() {
		return scripting.Effect{Dispatch: &scripting.Dispatch{ID: d.text(), Worker: d.text(), Context: d.text(),
			Script: d.text(), Source: d.text(), Data: d.optional()}}
	}
	c := &scripting.Call{ID: d.text(), Operation: d.text(), Method: d.text(), URL: d.text()}
	if n := d.count(3); n > 0 {
		c.Header = make([]scripting.Header, n)
		for i := range c.Header {
			c.Header[i] = scripting.Header{Name: d.text(), Value: d.text(), Secret: d.text()}
		}
	}
	c.Body, c.Timeout = d.optional(), time.Duration(d.varint())
	c.IdempotencyKey, c.Then, c.Catch = d.text(), d.text(), d.text()
	c.Tag, c.Cancelled = d.optional(), d.bool()
	return scripting.Effect{Call: c}
}
