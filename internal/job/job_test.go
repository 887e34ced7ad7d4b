package job_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// message is a job on payments.cus_42 with these header lines, each "name: value".
func message(body string, lines ...string) job.Message {
	m := job.Message{Subject: "payments.cus_42", Sequence: 7, Time: time.Unix(1, 0).UTC(), Data: []byte(body), Header: map[string][]string{}}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		m.Header[name] = append(m.Header[name], value)
	}
	return m
}

const (
	inline = "Content-Type: application/vnd.thence.job+json"
	answer = "Content-Type: application/vnd.thence.answer+json"
)

func TestParse(t *testing.T) {
	deadline := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	origin := job.Origin{Address: job.Address{Pool: "payments", Context: "cus_1"}, Sequence: 12, Index: 3}
	for _, test := range []struct {
		name string
		in   job.Message
		want job.Job // Address, Sequence and Time are added
	}{
		{"plain source", message(`print("hi")`), job.Job{ID: "seq-7", Source: `print("hi")`}},
		{"source with its type", message(`x := 1`, "Content-Type: text/x-tengo; charset=UTF-8"), job.Job{ID: "seq-7", Source: "x := 1"}},
		{"source as text", message(`x := 1`, "Content-Type: text/plain; charset=us-ascii"), job.Job{ID: "seq-7", Source: "x := 1"}},
		{"a caller's id", message("x := 1", "Nats-Msg-Id: order-77", "Thence-Caller: shop"),
			job.Job{ID: "order-77", CallerID: "order-77", Caller: "shop", Source: "x := 1"}},
		{"script without data", message("", "Thence-Script: checkout"), job.Job{ID: "seq-7", Script: "checkout"}},
		{"script with JSON", message(`{"a":1}`, "Thence-Script: checkout", "Content-Type: application/json"),
			job.Job{ID: "seq-7", Script: "checkout", Data: []byte(`{"a":1}`)}},
		{"script with JSON that says nothing", message(`[1]`, "Thence-Script: checkout"), job.Job{ID: "seq-7", Script: "checkout", Data: []byte(`[1]`)}},
		{"script with text that says nothing", message(`a "b"`, "Thence-Script: checkout"),
			job.Job{ID: "seq-7", Script: "checkout", Data: []byte(`"a \"b\""`)}},
		{"JSON as text", message(`{"a":1}`, "Thence-Script: checkout", "Content-Type: text/plain"),
			job.Job{ID: "seq-7", Script: "checkout", Data: []byte(`"{\"a\":1}"`)}},
		{"empty text", message(``, "Thence-Script: checkout", "Content-Type: text/plain"), job.Job{ID: "seq-7", Script: "checkout", Data: []byte(`""`)}},
		{"inline", message(`{"source":"x := data","name":"main.tengo","data":{"a":1}}`, inline),
			job.Job{ID: "seq-7", Source: "x := data", Name: "main.tengo", Data: []byte(`{"a":1}`)}},
		{"inline source kept by a context", message("", "Thence-Script: inline-0123456789abcdef"), job.Job{ID: "seq-7", Script: "inline-0123456789abcdef"}},
		{"deadline", message("x := 1", "Thence-Deadline: 2026-01-02T15:04:05Z"), job.Job{ID: "seq-7", Source: "x := 1", Deadline: deadline}},
		{"trace", message("x := 1", "traceparent: 00-aa-bb-01"), job.Job{ID: "seq-7", Source: "x := 1", Trace: "00-aa-bb-01"}},
		{"trace in the other case", message("x := 1", "Traceparent: 00-aa-bb-01"), job.Job{ID: "seq-7", Source: "x := 1", Trace: "00-aa-bb-01"}},
		{"a trace that can't be one", message("x := 1", "traceparent: a\nb"), job.Job{ID: "seq-7", Source: "x := 1"}},
		{"headers of others", message("x := 1", "X-Request-Id: 1", "Nats-Expected-Stream: JOBS_payments"), job.Job{ID: "seq-7", Source: "x := 1"}},
		{"an effect", message(`{"a":1}`, "Nats-Msg-Id: 0123", "Thence-Source: payments.cus_1.12-3", "Thence-Parent: order-77", "Thence-Script: next"),
			job.Job{ID: "payments.cus_1.12-3", Origin: origin, Parent: "order-77", Script: "next", Data: []byte(`{"a":1}`)}},
		{"an answer", message(`{"status":200,"body":"ok","attempts":1,"duration_ms":2}`, answer, "Thence-Call: 12-0", "Nats-Msg-Id: 0123"),
			job.Job{ID: "answer-12-0", Call: "12-0", Answer: &job.Answer{Status: 200, Body: job.Text("ok"), Attempts: 1, Duration: 2}}},
		{"an answer for the error script", message(`{"source":"x := 1","attempts":2,"duration_ms":0}`, answer, "Thence-Source: payments.cus_1.12-3"),
			job.Job{ID: "payments.cus_1.12-3", Origin: origin, Source: "x := 1", Answer: &job.Answer{Attempts: 2, Source: "x := 1"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := test.want
			want.Address, want.Sequence, want.Time = job.Address{Pool: "payments", Context: "cus_42"}, 7, time.Unix(1, 0).UTC()
			got, err := job.Parse(test.in)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	on := func(subject string) job.Message { return job.Message{Subject: subject, Data: []byte("x := 1")} }
	headers := "Nats-Msg-Id, Thence-Script, Thence-Caller, Thence-Deadline, Thence-Parent, Thence-Source, Thence-Call, Thence-Release, Thence-Proof, Content-Type"
	for _, test := range []struct {
		name string
		in   job.Message
		want string
	}{
		{"one token", on("payments"), `subject "payments": want 2 tokens, <pool>.<context>, got 1`},
		{"three tokens", on("payments.a.b"), `subject "payments.a.b": want 2 tokens, <pool>.<context>, got 3`},
		{"empty context", on("payments."), `subject "payments.": the context is empty, want <pool>.<context>`},
		{"wildcard", on("payments.*"), `subject "payments.*": a context has no wildcard and no space`},
		{"pool name", on("pay ments.a"), `worker pool "pay ments": a name is 1 to 32 of a-z A-Z 0-9 _ -`},
		{"pool of the keys", on("thence-keys.a"), `worker pool "thence-keys": the name is taken by the bucket of the installation's keys`},
		{"pool of the inboxes", on("_INBOX.a"), `worker pool "_INBOX": the name is taken by the answers to requests`},
		{"case of ours", message("x", "thence-script: a"), `header "thence-script": the name is case-sensitive, write Thence-Script`},
		{"case of NATS'", message("x", "nats-msg-id: a"), `header "nats-msg-id": the name is case-sensitive, write Nats-Msg-Id`},
		{"case of the type", message("x", "content-type: a"), `header "content-type": the name is case-sensitive, write Content-Type`},
		{"unknown", message("x", "Thence-Skript: a"), `there is no header "Thence-Skript"; those of a job are ` + headers},
		{"unknown in another case", message("x", "THENCE-x: a"), `there is no header "THENCE-x"; those of a job are ` + headers},
		{"twice", message("x", "Thence-Script: a", "Thence-Script: b"), `header Thence-Script is given 2 times`},
		{"empty script", message("x", "Thence-Script: "), `header Thence-Script is empty: leave it out, or give it a value`},
		{"the first of several", message("x", "nats-msg-id: a", "Thence-X: a", "Thence-Script: "), `header Thence-Script is empty: leave it out, or give it a value`},
		{"script name", message("x", "Thence-Script: a-b"), `header Thence-Script: "a-b" is no script name (letters, digits and _, at most 100)`},
		{"script path", message("x", "Thence-Script: ../a"), `header Thence-Script: "../a" is no script name (letters, digits and _, at most 100)`},
		{"release", message("x", "Thence-Release: 1"), `header Thence-Release: "1" is no release: want 12 of 0-9 a-f`},
		{"caller", message("x", "Thence-Caller: a\tb"), `header Thence-Caller: want at most 161 printable characters`},
		{"caller with a terminal's escape", message("x", "Thence-Caller: \u009b31m"), `header Thence-Caller: want at most 161 printable characters`},
		{"long caller", message("x", "Thence-Caller: "+strings.Repeat("a", 162)), `header Thence-Caller: want at most 161 printable characters`},
		{"id", message("x", "Nats-Msg-Id: \xff"), `header Nats-Msg-Id: want at most 256 printable characters`},
		{"long id", message("x", "Nats-Msg-Id: "+strings.Repeat("a", 257)), `header Nats-Msg-Id: want at most 256 printable characters`},
		{"deadline", message("x", "Thence-Deadline: tomorrow"), `header Thence-Deadline: "tomorrow" is no RFC 3339 time, such as 2026-01-02T15:04:05Z`},
		{"source", message("x", "Thence-Source: a.b"), `header Thence-Source: subject "a": want 2 tokens, <pool>.<context>, got 1`},
		{"source's id", message("x", "Thence-Source: a.b.0-1"), `header Thence-Source: "0-1": want <sequence>-<index>`},
		{"source written otherwise", message("x", "Thence-Source: a.b.012-1"), `header Thence-Source: "012-1": want <sequence>-<index>`},
		{"source's context", message("x", "Thence-Source: a.b!.1-1"), `header Thence-Source: context "b!": a name is 1 to 128 of a-z A-Z 0-9 _ = / -`},
		{"call", message("x", "Thence-Call: one", answer), `header Thence-Call: "one" is no call id`},
		{"source and call", message("x", "Thence-Call: 1-0", "Thence-Source: a.b.1-1"), `headers Thence-Source and Thence-Call exclude each other`},
		{"call that answers nothing", message("x", "Thence-Call: 1-0"), `header Thence-Call without Content-Type: application/vnd.thence.answer+json`},
		{"answer to nothing", message("{}", answer), `an answer without Thence-Call, Thence-Source or Thence-Parent`},
		{"answer", message("{", answer, "Thence-Call: 1-0"), `the answer is not JSON: unexpected end of JSON input`},
		{"answer that is not UTF-8", message("{\"tag\":\"\xff\"}", answer, "Thence-Call: 1-0"), `the answer is not JSON: it is not UTF-8`},
		{"no type", message("x", "Content-Type: text/"), `header Content-Type: "text/": mime: expected token after slash`},
		{"charset", message("x", "Content-Type: text/plain; charset=latin1"), `header Content-Type: charset "latin1": want utf-8`},
		{"type of data", message("x", "Thence-Script: a", "Content-Type: text/html"),
			`header Content-Type: a script's data is application/json or text/plain, not "text/html"`},
		{"inline beside a script", message("{}", "Thence-Script: a", inline),
			`header Content-Type: a script's data is application/json or text/plain, not "application/vnd.thence.job+json"`},
		{"data is no JSON", message("{", "Thence-Script: a", "Content-Type: application/json"),
			`Content-Type says application/json, but the body is not JSON: unexpected end of JSON input`},
		{"empty data is no JSON", message("", "Thence-Script: a", "Content-Type: application/json"),
			`Content-Type says application/json, but the body is not JSON: unexpected end of JSON input`},
		{"JSON that is not UTF-8", message("\"\xff\"", "Thence-Script: a", "Content-Type: application/json"),
			`Content-Type says application/json, but the body is not JSON: it is not UTF-8`},
		{"data is neither", message("\"\xff\"", "Thence-Script: a"), `the body is neither JSON nor UTF-8 text`},
		{"text is none", message("\xff", "Thence-Script: a", "Content-Type: text/plain"), `the body is neither JSON nor UTF-8 text`},
		{"type of source", message("{}", "Content-Type: application/json"),
			`header Content-Type is "application/json" and there is no Thence-Script: without a script's name the body is Tengo source (text/x-tengo)`},
		{"empty body", message(""), `nothing to run: the body is empty and there is no Thence-Script`},
		{"blank body", message(" \n"), `nothing to run: the body is empty and there is no Thence-Script`},
		{"source is not UTF-8", message("x := \"\xff\""), `the source is not UTF-8`},
		{"inline is none", message("x := 1", inline),
			`Content-Type says application/vnd.thence.job+json, but the body is not: invalid character 'x' looking for beginning of value`},
		{"inline without source", message(`{"data":1}`, inline), `nothing to run: the body is empty and there is no Thence-Script`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := job.Parse(test.in)
			if !errors.Is(err, job.ErrMalformed) {
				t.Fatalf("got %v, want ErrMalformed", err)
			}
			if got := strings.TrimPrefix(err.Error(), "malformed job: "); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestCopyLeavesTheProofOut(t *testing.T) {
	m := message("x := 1", "Thence-Proof: secret", "Thence-Caller: shop")
	got := m.Copy()
	want := job.Original{Subject: m.Subject, Sequence: 7, Time: m.Time, Header: map[string][]string{"Thence-Caller": {"shop"}}, Data: job.Text("x := 1")}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("payments.cus_42", "Thence-Script", "checkout", "Content-Type", "application/json", []byte(`{"a":1}`))
	f.Add("payments.cus_42", "Thence-Call", "1-0", "Content-Type", job.TypeAnswer, []byte(`{"status":200,"body":{"base64":"/w=="}}`))
	f.Add("payments.cus_42", "Thence-Source", "a.b.1-0", "Thence-Deadline", "2026-01-02T15:04:05Z", []byte("x := 1"))
	f.Add("payments.cus_42", "nats-msg-id", "1", "Content-Type", job.TypeInline, []byte(`{"source":"x","data":[1]}`))
	f.Fuzz(func(t *testing.T, subject, name1, value1, name2, value2 string, body []byte) {
		m := job.Message{Subject: subject, Sequence: 9, Header: map[string][]string{name1: {value1}, name2: {value2}}, Data: body}
		j, err := job.Parse(m)
		if err != nil {
			if !errors.Is(err, job.ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
			return
		}
		if j.Address.String() != subject || j.ID == "" {
			t.Errorf("got %+v for %q", j, subject)
		}
		if _, err := job.Encode(job.Commit{Report: job.Report{Job: j.ID, Input: &job.Input{Data: j.Data, Source: j.Source, Answer: j.Answer}}}); err != nil {
			t.Errorf("the job's input can't be kept: %v", err)
		}
	})
}
