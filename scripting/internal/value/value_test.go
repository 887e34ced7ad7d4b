package value_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

func str(s string) *tengo.String { return &tengo.String{Value: s} }
func num(i int64) *tengo.Int     { return &tengo.Int{Value: i} }

// TestMapAgainstGo does the same to a Map and to a Go map, across the size at which a Map changes its form.
func TestMapAgainstGo(t *testing.T) {
	g := rand.New(rand.NewPCG(1, 2))
	m, model := &value.Map{}, map[string]int64{}
	for step := range 20_000 {
		key := fmt.Sprintf("k%d", g.IntN(20+step/50))
		if g.IntN(3) == 0 {
			m.Delete(key)
			delete(model, key)
		} else {
			m.Set(key, num(int64(step)))
			model[key] = int64(step)
		}
		if m.Len() != len(model) {
			t.Fatalf("step %d: %d keys, want %d", step, m.Len(), len(model))
		}
		if step%100 == 0 {
			compare(t, m, model)
		}
	}
}

func compare(t *testing.T, m *value.Map, model map[string]int64) {
	t.Helper()
	if want := slices.Sorted(maps.Keys(model)); !slices.Equal(m.Keys(), want) {
		t.Fatalf("keys %v, want %v", m.Keys(), want)
	}
	for k, v := range m.All() {
		if got := v.(*tengo.Int).Value; got != model[k] {
			t.Fatalf("%s is %d, want %d", k, got, model[k])
		}
	}
	c := m.Copy().(*value.Map)
	if !m.Equals(c) || !slices.Equal(c.Keys(), m.Keys()) {
		t.Fatal("the copy differs")
	}
}

func TestFreezeIsACopy(t *testing.T) {
	m := value.MapOf([]tengo.Object{str("a"), num(1)})
	f := m.Freeze()
	m.Set("a", num(2))
	if v, _ := f.Get("a"); v.(*tengo.Int).Value != 1 {
		t.Error("the frozen map changed")
	}
	if err := f.IndexSet(str("a"), num(3)); err == nil {
		t.Error("a script can change a frozen map")
	}
}

func TestAppendNeverOverwrites(t *testing.T) {
	base := value.NewArray(nil)
	for i := range 100 {
		a, err := base.Append([]tengo.Object{num(int64(i))})
		if err != nil {
			t.Fatal(err)
		}
		b, err := base.Append([]tengo.Object{num(-1)})
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Items[i].(*tengo.Int).Value; got != int64(i) {
			t.Fatalf("element %d became %d", i, got)
		}
		_ = b
		base = a
	}
	if got := base.String(); !strings.HasPrefix(got, "[0, 1, 2, 3") || !strings.HasSuffix(got, "98, 99]") {
		t.Error(got)
	}
}

func TestEncode(t *testing.T) {
	tests := []struct {
		o    tengo.Object
		want string
	}{
		{num(2), "2"}, {&tengo.Float{Value: 2}, "2.0"}, {&tengo.Float{Value: 0}, "0.0"},
		{&tengo.Float{Value: math.Copysign(0, -1)}, "-0.0"}, {&tengo.Float{Value: 1e21}, "1e+21"},
		{&tengo.Float{Value: 1e20}, "100000000000000000000.0"}, {&tengo.Float{Value: 1e-7}, "1e-07"},
		{num(math.MinInt64), "-9223372036854775808"},
		{str("a\"\\\n\r\t\x01é\u2028<"), `"a\"\\\n\r\t\u0001é` + "\u2028" + `<"`},
		{&tengo.Char{Value: 'é'}, `"é"`}, {&value.Bytes{Value: []byte("hi")}, `"aGk="`},
		{&tengo.Time{Value: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("x", 3600))}, `"2026-01-02T02:04:05.000006Z"`},
		{tengo.UndefinedValue, "null"}, {nil, "null"}, {tengo.TrueValue, "true"},
		{value.NewArray([]tengo.Object{num(1), nil}), "[1,null]"},
		{value.MapOf([]tengo.Object{str("b"), num(1), str("a"), num(2), str("b"), num(3)}), `{"a":2,"b":3}`},
		{&value.Error{Value: str("no")}, `{"error":"no"}`},
	}
	for _, tt := range tests {
		got, err := value.Encode("v", tt.o)
		if err != nil || string(got) != tt.want {
			t.Errorf("%v: %s, %v, want %s", tt.o, got, err, tt.want)
		}
		if !json.Valid(got) {
			t.Errorf("%s is not JSON", got)
		}
	}
}

func TestEncodeErrorsNameThePath(t *testing.T) {
	deep := func(o tengo.Object) tengo.Object {
		return value.MapOf([]tengo.Object{str("items"), value.NewArray([]tengo.Object{num(1), value.MapOf([]tengo.Object{str("x y"), o})})})
	}
	cyclic := value.NewArray([]tengo.Object{nil})
	cyclic.Items[0] = cyclic
	tests := []struct {
		o    tengo.Object
		want string
	}{
		{deep(&tengo.Float{Value: math.NaN()}), `v.items[1]["x y"]: the number NaN`},
		{deep(&tengo.Float{Value: math.Inf(-1)}), `v.items[1]["x y"]: the number -Inf`},
		{deep(&value.Secret{Name: "k"}), `v.items[1]["x y"]: a secret`},
		{deep(str("\xff")), `v.items[1]["x y"]: text that is not valid UTF-8`},
		{deep(&tengo.Time{Value: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}), "a time in the year 10000"},
		{value.MapOf([]tengo.Object{str("\xff"), num(1)}), "text that is not valid UTF-8"},
		{&value.Error{Value: &tengo.UserFunction{Name: "f"}}, "v.value: a value of type user-function:f"},
		{cyclic, "v: the value nests deeper"},
		{&tengo.Map{Value: map[string]tengo.Object{}}, "v: a value of type map cannot be JSON"},
	}
	for _, tt := range tests {
		if _, err := value.Encode("v", tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

func TestDecode(t *testing.T) {
	tests := []struct{ in, want string }{
		{` {"b" : 1 , "a" : [ ] } `, `{"a":[],"b":1}`},
		{`2`, "2"}, {`2.0`, "2.0"}, {`1e3`, "1000.0"}, {`1E-2`, "0.01"}, {`-0`, "0"}, {`-0.0`, "-0.0"},
		{`9223372036854775807`, "9223372036854775807"}, {`9223372036854775808`, "9223372036854776000.0"},
		{`"\u00e9\ud83d\ude00\/\b\f"`, `"é😀/\u0008\u000c"`},
		{`"\ud83d"`, `"` + "\uFFFD" + `"`}, {`"\ud83d\u0041"`, `"` + "\uFFFD" + `A"`}, {`"\ude00"`, `"` + "\uFFFD" + `"`},
		{`[true,false,null]`, `[true,false,null]`},
		{`{"a":1,"a":2}`, `{"a":2}`},
	}
	for _, tt := range tests {
		o, err := value.Decode([]byte(tt.in))
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if got, err := value.Encode("v", o); err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.in, got, err, tt.want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, in := range []string{
		``, ` `, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{a:1}`, `[`, `[1`, `[1,`, `[1,]`, `[,]`, `]`,
		`01`, `-`, `1.`, `.5`, `1e`, `1e+`, `+1`, `0x1`, `1 2`, `tru`, `nul`, `NaN`, `Infinity`, `'a'`, `"`, `"\`, `"\x"`, `"\u12"`,
		`"\uzzzz"`, `"\ud83d\uzzzz"`, "\"\n\"", "\"\\n\x01\"", "\"\xff\"", "\"\\n\xff\"", `1e999`, `-1e999`,
		strings.Repeat("[", 200) + strings.Repeat("]", 200), strings.Repeat("[", 1_000_000), strings.Repeat(`{"a":`, 100_000),
	} {
		if o, err := value.Decode([]byte(in)); err == nil {
			t.Errorf("%.40s is taken for %v", in, o)
		}
		if len(in) < 1000 && strings.HasPrefix(in, "{") && json.Valid([]byte(in)) {
			t.Errorf("%s is JSON after all", in)
		}
	}
}

func TestMembers(t *testing.T) {
	got, err := value.Members([]byte(` { "b" : [1, 2] , "a":{"x":1}, "a": 3.0 } `))
	want := []value.Member{{Key: "b", Raw: "[1, 2]"}, {Key: "a", Raw: `{"x":1}`}, {Key: "a", Raw: "3.0"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, in := range []string{"", "[]", "{", `{"a":}`, `{"a":1}x`, `{"a":[}`} {
		if _, err := value.Members([]byte(in)); err == nil {
			t.Errorf("%s is taken", in)
		}
	}
}

// FuzzDecode holds the decoder to encoding/json, and the encoder to what the decoder reads.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.0,"x\n",null,true],"b":{"c":-1e-7}}`, `"\ud83d\ude00"`, `[[[]]]`, `12345678901234567890`, `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := value.Decode(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("%q is not JSON", data)
		}
		first, err := value.Encode("v", o)
		if err != nil {
			t.Fatalf("what was decoded of %q cannot be encoded: %v", data, err)
		}
		again, err := value.Decode(first)
		if err != nil {
			t.Fatalf("%q, encoded of %q, cannot be decoded: %v", first, data, err)
		}
		if second, err := value.Encode("v", again); err != nil || string(second) != string(first) {
			t.Fatalf("%q became %q (%v)", first, second, err)
		}
		if !value.Equal(o, again) {
			t.Fatalf("%v became %v", o, again)
		}
	})
}
