package job_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// roundTrip encodes v, decodes it, and returns both forms.
func roundTrip[T any](t *testing.T, v T) (encoded []byte, back T) {
	t.Helper()
	encoded, err := job.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(encoded, &back); err != nil {
		t.Fatalf("%v in %s", err, encoded)
	}
	return encoded, back
}

func TestText(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"empty", "", `""`},
		{"plain", "print(\"hi\")\n", `"print(\"hi\")\n"`},
		{"HTML", "<a>&</a>", `"<a>&</a>"`},
		{"beyond ASCII", "né €", `"né €"`},
		{"binary", "\xff\x00", `{"base64":"/wA="}`},
		{"half a character", "a\xe2\x82", `{"base64":"YeKC"}`},
		{"much escaped", strings.Repeat("\x01", 100), `{"base64":"` + strings.Repeat("AQEB", 33) + `AQ=="}`},
		{"little escaped", strings.Repeat("\"", 60), `"` + strings.Repeat(`\"`, 60) + `"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			encoded, back := roundTrip(t, job.Text(test.in))
			if string(encoded) != test.want {
				t.Errorf("got %s, want %s", encoded, test.want)
			}
			if string(back) != test.in {
				t.Errorf("came back as %q", back)
			}
		})
	}
	var text job.Text
	for _, bad := range []string{`5`, `{"base64":"!"}`, `[`} {
		if err := json.Unmarshal([]byte(bad), &text); err == nil {
			t.Errorf("%s was taken for text", bad)
		}
	}
}

func TestTextGrowsByAThirdAtMost(t *testing.T) {
	for _, unit := range []string{"a", "\"", "\x01", "\xff", "€", "\u2028"} {
		in := bytes.Repeat([]byte(unit), 10_000)
		encoded, _ := roundTrip(t, job.Text(in))
		if most := len(in)*4/3 + 64; len(encoded) > most {
			t.Errorf("%q: %d bytes became %d, want at most %d", unit, len(in), len(encoded), most)
		}
	}
}

func TestWireRoundTrips(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 4, 5, 123456789, time.UTC)
	answer := &job.Answer{
		Status: 402, Header: map[string]string{"Request-Id": "req_1"}, Body: job.Text(`{"error":1}`), Attempts: 2, Duration: 1.5,
		Failure: &job.Failure{Type: "card_error", Message: "declined", Code: "card_declined"}, Tag: json.RawMessage(`{"a":1}`), Source: "x",
	}
	request := job.Request{
		Method: "POST", URL: "https://api.stripe.com/v1/customers", Body: job.Text("name=Ada"), Timeout: time.Second, IdempotencyKey: "k",
		Header: []job.HeaderLine{{Name: "Authorization", Value: "Bearer ", Secret: "stripe_key"}},
	}
	commit := job.Commit{
		Version: job.Version, State: json.RawMessage(`{"n":1}`), Applied: 5, Attempt: "a", Key: "k1", Recent: "0123456789abcdef",
		Report: job.Report{
			Job: "seq-5", Sequence: 5, Outcome: job.OutcomeDead, Script: "checkout", Published: now, Started: now, Took: 0.25, Worker: "w",
			Input: &job.Input{Data: json.RawMessage(`1`), Source: "x", Answer: answer, Size: 3, SHA256: "00"}, Output: "hi", OutputCut: true,
			Result: json.RawMessage(`null`), Trace: "00-1-2-01",
			Error: &job.Error{Reason: "runtime", Message: "m", Script: "checkout", Line: 1, Column: 2, Code: "x()", Trace: []job.Frame{{Script: "s", Line: 1, Column: 2}}},
		},
		Calls:   map[string]job.OpenCall{"5-0": {Service: "stripe", Operation: "create_customer", Then: "a", Catch: "b", Tag: json.RawMessage(`1`), Parent: "p"}},
		Sources: map[string]string{"inline-0123456789abcdef": "x := 1"}, Marks: map[string]job.Mark{"payments.cus_1": {1, 2, 3}},
		Outbox: []job.Effect{
			{Kind: job.EffectCall, Service: "stripe", Request: &request},
			{Kind: job.EffectJob, Job: &job.Dispatched{To: "a.b", Caller: "c", Script: "s", Source: "x", Data: json.RawMessage(`1`), Answer: answer}},
			{Kind: job.EffectDead},
		},
		Tries: &job.Tries{Sequence: 6, Count: 2},
	}
	check(t, commit)
	check(t, *answer)
	check(t, job.Call{
		ID: "5-0", Service: "stripe", Revision: 3, Key: "k", Parent: "seq-5", Request: request, Attempt: 1, First: now, Last: "timeout", Trace: "t",
	})
	check(t, job.DeadLetter{
		Error: *commit.Report.Error, Job: "seq-5", Context: "a.b", Script: "s", Release: "r", Caller: "c", Time: now, Worker: "w",
		Message: job.Original{Subject: "a.b", Sequence: 5, Time: now, Header: map[string][]string{"A": {"b", "c"}}, Data: job.Text("\xff")},
	})
	check(t, job.Inline{Source: "x < 1 && y", Name: "main.tengo", Data: json.RawMessage(`{"a":"<>"}`)})

	encoded, err := job.Encode(commit)
	if err != nil {
		t.Fatal(err)
	}
	got, err := job.DecodeCommit(encoded)
	if err != nil || !reflect.DeepEqual(got, commit) {
		t.Errorf("DecodeCommit: %v, %+v", err, got)
	}
}

func check[T any](t *testing.T, v T) {
	t.Helper()
	encoded, back := roundTrip(t, v)
	if !reflect.DeepEqual(back, v) {
		t.Errorf("%T came back otherwise: %s\ngot  %+v\nwant %+v", v, encoded, back, v)
	}
}

func TestDecodeCommitRefuses(t *testing.T) {
	for value, want := range map[string]string{
		`hello`:   "the context's value is no commit: invalid character 'h' looking for beginning of value",
		`{"v":2}`: "the context's value has version 2; this worker knows 1: bring the pool to one version",
		`{}`:      "the context's value has version 0; this worker knows 1: bring the pool to one version",
	} {
		if _, err := job.DecodeCommit([]byte(value)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", value, err, want)
		}
	}
}
