package main

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stripefake"
)

func TestPlain(t *testing.T) {
	const steering = "a\x1b[2J\u009b\u202eb\x7f"
	if got, want := plain(steering+"\n"), "a\uFFFD[2J\uFFFD\uFFFDb\uFFFD\uFFFD"; got != want {
		t.Errorf("plain: got %q, want %q", got, want)
	}
	if got, want := plainText("a\tb\r\n\x1bc\n"), "a    b\n\uFFFDc\n"; got != want {
		t.Errorf("plainText: got %q, want %q", got, want)
	}
	if got, want := plain("né € 漢 \xff"), "né € 漢 \uFFFD"; got != want {
		t.Errorf("plain: got %q, want %q", got, want)
	}
	encoded, err := json.Marshal(steering)
	if err != nil {
		t.Fatal(err)
	}
	safe := plainJSON(encoded)
	if i := bytes.IndexFunc(safe, steers); i >= 0 {
		t.Errorf("plainJSON: %q steers at %d", safe, i)
	}
	var back string
	if err := json.Unmarshal(safe, &back); err != nil || back != steering {
		t.Errorf("plainJSON: came back as %q, %v", back, err)
	}
}

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		in   string
		want []string
	}{
		{"", []string{""}},
		{"1234567890", []string{"1234567890"}},
		{"one two three", []string{"one two", "three"}},
		{`{"a":12,"b":3}`, []string{`{"a":12,`, `"b":3}`}},
		{"12345678901234", []string{"1234567890", "1234"}},
		{"ééééééééééé", []string{"éééééééééé", "é"}},
	} {
		if got := wrap(test.in, 10); !reflect.DeepEqual(got, test.want) {
			t.Errorf("wrap %q: got %q, want %q", test.in, got, test.want)
		}
	}
}

func TestCommitLinesFitTheirWidth(t *testing.T) {
	long := strings.Repeat("word, ", 60)
	result, err := json.Marshal(map[string]string{"text": long, "name": "\u009b"})
	if err != nil {
		t.Fatal(err)
	}
	c := job.Commit{
		Applied: 7, Calls: map[string]job.OpenCall{"7-0": {Service: "default"}},
		Outbox: []job.Effect{{Kind: job.EffectCall, Request: &job.Request{Method: "POST", URL: "https://example.com/" + strings.Repeat("x", 200)}}},
		Report: job.Report{Worker: "worker-a", Caller: "demo", Script: "checkout", Outcome: job.OutcomeDone, Result: result},
	}
	dead := c
	dead.Report.Error = &job.Error{Reason: "runtime", Message: long, Script: "checkout", Line: 3, Column: 4}
	for _, c := range []job.Commit{c, dead} {
		for _, l := range commitLines("cus_42", "0.10", c) {
			if n := len([]rune(l)); n > width || strings.ContainsFunc(l, steers) {
				t.Errorf("%d characters, want at most %d: %q", n, width, l)
			}
		}
	}
}

// terminal is a pseudo-terminal's end that isatty takes for one.
func terminal(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestColour(t *testing.T) {
	tty := terminal(t)
	env := func(vars map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) {
			v, ok := vars[name]
			return v, ok
		}
	}
	for _, test := range []struct {
		name string
		app  *app
		want bool
	}{
		{"a terminal", &app{stdout: tty, lookupEnv: env(nil)}, true},
		{"NO_COLOR", &app{stdout: tty, lookupEnv: env(map[string]string{"NO_COLOR": "1"})}, false},
		{"NO_COLOR without a value", &app{stdout: tty, lookupEnv: env(map[string]string{"NO_COLOR": ""})}, true},
		{"a dumb terminal", &app{stdout: tty, lookupEnv: env(map[string]string{"TERM": "dumb"})}, false},
		{"a pipe", &app{stdout: new(bytes.Buffer), lookupEnv: env(nil)}, false},
	} {
		if got := test.app.colour(); got != test.want {
			t.Errorf("%s: got %t, want %t", test.name, got, test.want)
		}
	}
	for colour, want := range map[bool]string{true: "\x1b[31mx\x1b[0m", false: "x"} {
		if got := newTimeline(nil, colour).paint(red, "x"); got != want {
			t.Errorf("colour %t: got %q, want %q", colour, got, want)
		}
	}
}

func TestPayments(t *testing.T) {
	request := func(key string, executed bool) stripefake.Request {
		return stripefake.Request{Operation: "create_payment_intent", IdempotencyKey: key, Executed: executed}
	}
	all := []stripefake.Request{{Operation: "create_customer", IdempotencyKey: "c"}, request("a", true), request("a", false), request("b", true)}
	if asked, requests, err := payments(all); asked != 2 || requests != 3 || err != nil {
		t.Errorf("got %d payments in %d requests, %v", asked, requests, err)
	}
	for _, more := range []stripefake.Request{request("b", true), request("c", false)} {
		if _, _, err := payments(append(all, more)); err == nil {
			t.Errorf("%+v: no error", more)
		}
	}
}
