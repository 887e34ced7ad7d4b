package wire

import (
	"encoding/binary"
	"time"

	"github.com/thence-dev/thence/scripting"
)

// AppendScript appends a frame with a script of the library.
func AppendScript(buf []byte, name, source string) ([]byte, error) {
	start := len(buf)
	buf = appendText(appendText(Begin(buf, KindScript), name), source)
	return buf, End(buf, start)
}

// Script decodes a KindScript.
func Script(body []byte) (name, source string, err error) {
	d := decoder{b: body}
	name, source = d.text(), d.text()
	return name, source, d.close()
}

// AppendReady appends the frame that ends a library.
func AppendReady(buf []byte) ([]byte, error) {
	start := len(buf)
	buf = Begin(buf, KindReady)
	return buf, End(buf, start)
}

// AppendLibrary appends a frame that begins a library in a slot, in place of what was there: its scripts follow, and the
// frame that ends it.
func AppendLibrary(buf []byte, slot int) ([]byte, error) {
	start := len(buf)
	buf = binary.AppendUvarint(Begin(buf, KindLibrary), uint64(slot))
	return buf, End(buf, start)
}

// Library decodes a KindLibrary, for slots from 0 up to most.
func Library(body []byte, most int) (slot int, err error) {
	d := decoder{b: body}
	slot = d.slot(0, most)
	return slot, d.close()
}

// AppendDefine appends a frame that puts a source into a slot, in place of what was there.
func AppendDefine(buf []byte, slot int, source string) ([]byte, error) {
	start := len(buf)
	buf = appendText(binary.AppendUvarint(Begin(buf, KindDefine), uint64(slot)), source)
	return buf, End(buf, start)
}

// Define decodes a KindDefine, for slots from 1 up to most.
func Define(body []byte, most int) (slot int, source string, err error) {
	d := decoder{b: body}
	slot, source = d.slot(1, most), d.text()
	return slot, source, d.close()
}

func (d *decoder) slot(least, most int) int {
	slot := d.uvarint()
	if slot < uint64(least) || slot > uint64(most) {
		d.fail()
		return 0
	}
	return int(slot)
}

// AppendInput appends what a run depends on, but for the source and the library: the part of a KindRun that is the same
// in whichever child it runs.
func AppendInput(buf []byte, in *scripting.Input) []byte {
	buf = appendText(buf, in.Script.Name)
	buf = appendLimits(buf, in.Limits)
	j := &in.Job
	buf = appendText(buf, j.ID)
	buf = binary.AppendUvarint(buf, j.Sequence)
	buf = appendText(buf, j.Worker)
	buf = appendText(buf, j.Context)
	buf = appendText(buf, j.Caller)
	buf = appendText(buf, j.Parent)
	buf = appendText(buf, j.Operation)
	buf = appendTime(buf, j.Time)
	buf = appendText(buf, j.Data)
	buf = appendText(buf, j.Response)
	buf = appendText(buf, j.Failure)
	buf = appendText(buf, j.Tag)
	buf = appendText(buf, j.Calls)
	return appendBool(appendText(buf, in.State), in.Measure)
}

func appendLimits(buf []byte, l scripting.Limits) []byte {
	for _, n := range []int64{int64(l.Time), l.Allocs, int64(l.Source), int64(l.State), int64(l.Output),
		int64(l.Effects), int64(l.Outbox), int64(l.Result)} {
		buf = binary.AppendVarint(buf, n)
	}
	return buf
}

// Place is where a child finds what a job runs: the slot of its library, and that of its source (0: it is the library's
// script of that name).
type Place struct{ Library, Source int }

// AppendRun appends a frame with a job: its number, where its script is, and what AppendInput made.
func AppendRun(buf []byte, number uint64, at Place, input []byte) ([]byte, error) {
	start := len(buf)
	buf = binary.AppendUvarint(Begin(buf, KindRun), number)
	buf = binary.AppendUvarint(buf, uint64(at.Library))
	buf = append(binary.AppendUvarint(buf, uint64(at.Source)), input...)
	return buf, End(buf, start)
}

// Run decodes a KindRun, for slots up to most. The input's byte strings are parts of the body.
func Run(body []byte, most Place) (number uint64, at Place, in scripting.Input, err error) {
	d := decoder{b: body}
	number = d.uvarint()
	at = Place{Library: d.slot(0, most.Library), Source: d.slot(0, most.Source)}
	in.Script.Name = d.text()
	in.Limits = d.limits()
	in.Job = scripting.Job{ID: d.text(), Sequence: d.uvarint(), Worker: d.text(), Context: d.text(), Caller: d.text(),
		Parent: d.text(), Operation: d.text(), Time: d.time(), Data: d.bytes(), Response: d.bytes(), Failure: d.bytes(), Tag: d.bytes(), Calls: d.bytes()}
	in.State, in.Measure = d.bytes(), d.bool()
	return number, at, in, d.close()
}

func (d *decoder) limits() scripting.Limits {
	return scripting.Limits{Time: time.Duration(d.varint()), Allocs: d.varint(), Source: int(d.varint()),
		State: int(d.varint()), Output: int(d.varint()), Effects: int(d.varint()), Outbox: int(d.varint()),
		Result: int(d.varint())}
}
