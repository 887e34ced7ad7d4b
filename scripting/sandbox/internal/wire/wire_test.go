package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/thence-dev/thence/scripting"
)

var fullInput = scripting.Input{
	Script: scripting.Script{Name: "main"},
	Job: scripting.Job{ID: "id", Sequence: 1 << 60, Worker: "w", Context: "c", Caller: "caller", Parent: "p", Operation: "create_payment_intent",
		Time: time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC), Data: []byte("{}"), Response: []byte("1"), Failure: []byte("2"), Tag: []byte("3"), Calls: []byte("[]")},
	State: []byte(`{"a":1}`), Measure: true,
	Limits: scripting.Limits{Time: time.Second, Allocs: 1, Source: 2, State: 3, Output: 4, Effects: 5, Outbox: 6, Result: 7},
}

var fullDone = Done{
	Number: 9, Took: time.Second, Retire: true,
	Outcome: &scripting.Outcome{State: []byte("{}"), Result: []byte("null"), Output: "o", OutputCut: true, Cancelled: []string{"8-0", "8-1"}, Effects: []scripting.Effect{
		{Call: &scripting.Call{ID: "9-0", Operation: "op", Method: "GET", URL: "https://x.y", Header: []scripting.Header{{Name: "A", Value: "b", Secret: "c"}},
			Body: []byte{}, Timeout: time.Minute, IdempotencyKey: "k", Then: "t", Catch: "c", Tag: []byte("1"), Cancelled: true}},
		{Dispatch: &scripting.Dispatch{ID: "9-1", Worker: "w", Context: "c", Script: "s", Source: "print(1)", Data: []byte("2")}},
		{Call: &scripting.Call{}}, {Dispatch: &scripting.Dispatch{}},
	}, Usage: &scripting.Usage{Time: 1, Memory: 2, Allocs: 3, Source: 4, State: 5, Output: 6, Effects: 7, Outbox: 8, Result: 9}},
	Err: &scripting.Error{Kind: scripting.KindRuntime, Script: "s", Line: 1, Column: 2, Message: "m", Code: "c", Trace: []scripting.Frame{{Script: "s", Line: 1, Column: 2}}},
}

// body reads the only frame of buf.
func body(t testing.TB, buf []byte, want Kind) []byte {
	t.Helper()
	r := NewReader(bytes.NewReader(buf))
	kind, body, err := r.Next()
	if err != nil || kind != want {
		t.Fatalf("kind %d, %v", kind, err)
	}
	if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the frame: %v", err)
	}
	return body
}

func TestRun(t *testing.T) {
	for _, want := range []scripting.Input{{}, fullInput} {
		at := Place{Library: 2, Source: 3}
		buf, err := AppendRun(nil, 5, at, AppendInput(nil, &want))
		if err != nil {
			t.Fatal(err)
		}
		number, place, got, err := Run(body(t, buf, KindRun), at)
		if err != nil || number != 5 || place != at {
			t.Errorf("%d, %d, %v", number, place, err)
		}
		if len(want.Job.Data) == 0 { // empty is the same as nil there
			got.State, got.Job.Data, got.Job.Response, got.Job.Failure, got.Job.Tag, got.Job.Calls = nil, nil, nil, nil, nil, nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for _, most := range []Place{{1, 3}, {2, 2}} {
			if _, _, _, err := Run(body(t, buf, KindRun), most); !errors.Is(err, ErrFormat) {
				t.Errorf("a slot that is not there: %v", err)
			}
		}
	}
}

// TestEveryFieldTravels fails when a field is added to what a job consists of, and not to the frames.
func TestEveryFieldTravels(t *testing.T) {
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		switch {
		case path == "Input.Script.Source" || path == "Input.Library": // which are defined apart from the job
		case v.Kind() == reflect.Pointer:
			walk(path, v.Elem())
		case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]():
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case v.IsZero():
			t.Errorf("%s is not set in this test: add it to the frames and here", path)
		}
	}
	walk("Input", reflect.ValueOf(fullInput))
	walk("Outcome", reflect.ValueOf(fullDone.Outcome))
	walk("Call", reflect.ValueOf(fullDone.Outcome.Effects[0].Call))
	walk("Dispatch", reflect.ValueOf(fullDone.Outcome.Effects[1].Dispatch))
	walk("Header", reflect.ValueOf(fullDone.Outcome.Effects[0].Call.Header[0]))
	walk("Error", reflect.ValueOf(fullDone.Err))
}

func TestDone(t *testing.T) {
	empty := Done{Outcome: &scripting.Outcome{}}
	failed := Done{Number: 1, Err: &scripting.Error{Kind: "k"}}
	for _, want := range []Done{fullDone, empty, failed} {
		buf, err := AppendDone([]byte("before"), &want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseDone(body(t, buf[len("before"):], KindDone))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	}
}

func TestSmallFrames(t *testing.T) {
	buf, _ := AppendScript(nil, "name", "source")
	if name, source, err := Script(body(t, buf, KindScript)); name != "name" || source != "source" || err != nil {
		t.Error(name, source, err)
	}
	buf, _ = AppendDefine(nil, 7, "source")
	if slot, source, err := Define(body(t, buf, KindDefine), 7); slot != 7 || source != "source" || err != nil {
		t.Error(slot, source, err)
	}
	if _, _, err := Define(body(t, buf, KindDefine), 6); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	buf, _ = AppendLibrary(nil, 7)
	if slot, err := Library(body(t, buf, KindLibrary), 7); slot != 7 || err != nil {
		t.Error(slot, err)
	}
	if _, err := Library(body(t, buf, KindLibrary), 6); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	buf, _ = AppendReady(nil)
	if rest := body(t, buf, KindReady); len(rest) > 0 {
		t.Errorf("the end of a library says %q", rest)
	}
	layers := []Layer{{"a", true, ""}, {"b", false, "why"}}
	buf, _ = AppendHello(nil, layers)
	if got, err := Hello(body(t, buf, KindHello)); err != nil || !cmp.Equal(got, layers) {
		t.Error(got, err)
	}
}

func TestReader(t *testing.T) {
	var stream []byte
	sizes := []int{0, 1, 100, 64 << 10, 5, 200 << 10, MaxFrame - 1, 3}
	for i, n := range sizes {
		start := len(stream)
		stream = append(Begin(stream, KindDefine), strings.Repeat(string(rune('a'+i)), n)...)
		if err := End(stream, start); err != nil {
			t.Fatal(err)
		}
	}
	for name, src := range map[string]io.Reader{"whole": bytes.NewReader(stream), "halves": iotest.HalfReader(bytes.NewReader(stream)),
		"with the end": iotest.DataErrReader(bytes.NewReader(stream)), "bytes": iotest.OneByteReader(bytes.NewReader(stream[:400]))} {
		r := NewReader(src)
		for i, n := range sizes {
			kind, body, err := r.Next()
			if name == "bytes" && i == 3 {
				if !errors.Is(err, io.ErrUnexpectedEOF) || len(r.Rest()) == 0 {
					t.Errorf("%s: an end inside a frame: %v", name, err)
				}
				break
			}
			if err != nil || kind != KindDefine || string(body) != strings.Repeat(string(rune('a'+i)), n) {
				t.Fatalf("%s: frame %d: kind %d, %d bytes, %v", name, i, kind, len(body), err)
			}
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	for _, n := range []uint32{0, MaxFrame + 1, 1 << 31, ^uint32(0)} {
		r := NewReader(bytes.NewReader(append(binary.LittleEndian.AppendUint32(nil, n), "xxxxx"...)))
		if _, _, err := r.Next(); !errors.Is(err, ErrFormat) || !r.Buffered() {
			t.Errorf("length %d: %v", n, err)
		}
	}
	large := append(Begin(nil, KindRun), make([]byte, MaxFrame)...)
	if err := End(large, 0); err == nil {
		t.Error("a frame that is too large passes")
	}
}

// FuzzBodies decodes anything: what decodes can be encoded again, to the same.
func FuzzBodies(f *testing.F) {
	run, _ := AppendRun(nil, 5, Place{Source: 3}, AppendInput(nil, &fullInput))
	done, _ := AppendDone(nil, &fullDone)
	hello, _ := AppendHello(nil, []Layer{{"a", true, "b"}})
	define, _ := AppendDefine(nil, 1, "x")
	library, _ := AppendLibrary(nil, 1)
	for _, frame := range [][]byte{run, done, hello, define, library} {
		f.Add(frame[4], frame[header:])
	}
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		var again []byte
		var err error
		switch Kind(kind) {
		case KindRun:
			number, at, in, failed := Run(data, Place{Library: 7, Source: 100})
			if failed != nil {
				return
			}
			again, err = AppendRun(nil, number, at, AppendInput(nil, &in))
		case KindDone:
			d, failed := ParseDone(data)
			if failed != nil {
				return
			}
			again, err = AppendDone(nil, &d)
		case KindHello:
			layers, failed := Hello(data)
			if failed != nil {
				return
			}
			again, err = AppendHello(nil, layers)
		case KindDefine:
			slot, source, failed := Define(data, 100)
			if failed != nil {
				return
			}
			again, err = AppendDefine(nil, slot, source)
		case KindLibrary:
			slot, failed := Library(data, 7)
			if failed != nil {
				return
			}
			again, err = AppendLibrary(nil, slot)
		default:
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		compare(t, Kind(kind), data, again[header:])
	})
}

// compare decodes two bodies to see whether they say the same: numbers and errors have more than one form.
func compare(t *testing.T, kind Kind, x, y []byte) {
	t.Helper()
	decode := func(b []byte) any {
		switch kind {
		case KindRun:
			number, at, in, err := Run(b, Place{Library: 7, Source: 100})
			return []any{number, at, in, err}
		case KindDone:
			d, err := ParseDone(b)
			return []any{d, err}
		case KindHello:
			layers, err := Hello(b)
			return []any{layers, err}
		}
		slot, source, err := Define(b, 100)
		return []any{slot, source, err}
	}
	if first, second := decode(x), decode(y); !reflect.DeepEqual(first, second) {
		t.Fatalf("%v\n%v", first, second)
	}
}

// FuzzReader reads anything, cut anywhere: the frames are the same as those of the whole.
func FuzzReader(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 5, 3, 0, 0, 0, 6, 1, 2}, 3)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1}, 1)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		whole, wholeErr := readAll(bytes.NewReader(data))
		cut, cutErr := readAll(&stepReader{data, max(1, step%100)})
		if !reflect.DeepEqual(whole, cut) || errors.Is(wholeErr, ErrFormat) != errors.Is(cutErr, ErrFormat) {
			t.Fatalf("%d frames and %v, or %d and %v", len(whole), wholeErr, len(cut), cutErr)
		}
	})
}

func readAll(src io.Reader) (frames []string, err error) {
	for r := NewReader(src); ; {
		kind, body, err := r.Next()
		if err != nil {
			return frames, err
		}
		frames = append(frames, string(rune(kind))+string(body))
	}
}

// stepReader gives some bytes at a time.
type stepReader struct {
	data []byte
	step int
}

func (r *stepReader) Read(b []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.data[:min(r.step, len(r.data))])
	r.data = r.data[n:]
	return n, nil
}
