package servicefile

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/thence-dev/thence/worker/calls"
)

var update = flag.Bool("update", false, "rewrite services.schema.json")

const whole = `# all there is
services:
  acme:
    url: [https://api.acme.com/v2, "https://files.acme.com"]
    endpoint: http://127.0.0.1:8080
    auth: {bearer: acme_key}
    inline: true
    max_in_flight: 10
    rate: {calls: 25/s, burst: 5}
    breaker: {failures: 20, window: 1m, max_pause: 5m}
    timeout: {total: 1m30s, connect: 5s, first_byte: 20s}
    retry:
      attempts: 3
      backoff: 100ms
      max_wait: 1m
      max_age: 12h
      statuses: [429, 5xx]
    idempotency_header: X-Request-Id
    error_member: true
    response_limit: 64KiB
    redirects: 0
    allow_private: true
    ports: [443, 8443]
    ca: ca.pem
  mail:
    url: https://mail.example.com
    auth:
      basic:
        user: robot
        secret: mail_password
    rate: 100/m
    breaker: off
    retry: never
    idempotency_header: none
    ports: 443
    response_limit: 4096
  weather:
    url: https://weather.example.com
    auth: {header: {name: X-Api-Key, secret: weather_key}}
    retry: {statuses: 503}
    inline: false
  default: off
`

func TestParse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	api := httptest.NewTLSServer(http.NotFoundHandler())
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
	api.Close()
	ok(t, os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600))
	ok(t, os.WriteFile(filepath.Join(dir, "services.yaml"), []byte(whole), 0o600))
	got, err := Load(filepath.Join(dir, "services.yaml"))
	ok(t, err)
	want := []calls.Service{
		{
			Name: "acme", URL: "https://api.acme.com/v2", MoreURLs: []string{"https://files.acme.com"}, Endpoint: "http://127.0.0.1:8080",
			Auth: calls.Auth{Kind: calls.AuthBearer, Secret: "acme_key"}, Inline: true, MaxInFlight: 10,
			Rate: calls.Rate{Calls: 25, Per: time.Second, Burst: 5}, Breaker: calls.Breaker{Failures: 20, Window: time.Minute, MaxPause: 5 * time.Minute},
			Timeout: 90 * time.Second, ConnectTimeout: 5 * time.Second, FirstByte: 20 * time.Second,
			Attempts: 3, Backoff: 100 * time.Millisecond, MaxWait: time.Minute, MaxAge: 12 * time.Hour, RetryOn: []string{"429", "5xx"},
			IdempotencyHeader: "X-Request-Id", ErrorMember: true, ResponseLimit: 64 << 10, Redirects: -1, AllowPrivate: true, Ports: []int{443, 8443}, CA: ca,
		},
		{
			Name: "mail", URL: "https://mail.example.com", Auth: calls.Auth{Kind: calls.AuthBasic, User: "robot", Secret: "mail_password"}, Never: true,
			Rate: calls.Rate{Calls: 100, Per: time.Minute}, Breaker: calls.Breaker{Off: true},
			IdempotencyHeader: calls.NoIdempotencyHeader, Ports: []int{443}, ResponseLimit: 4096,
		},
		{
			Name: "weather", URL: "https://weather.example.com", Auth: calls.Auth{Kind: calls.AuthHeader, Header: "X-Api-Key", Secret: "weather_key"}, RetryOn: []string{"503"},
		},
		{Name: "default", Off: true},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(calls.Service{})); diff != "" {
		t.Error(diff)
	}
}

// A text may be written as a block, which to the schema is a text like any other.
func TestTextInABlock(t *testing.T) {
	t.Parallel()
	got, err := Parse("f.yaml", []byte("services:\n  acme:\n    url: >-\n      https://api.acme.com\n    auth:\n      bearer: |-\n        acme_key\n"))
	ok(t, err)
	want := []calls.Service{{Name: "acme", URL: "https://api.acme.com", Auth: calls.Auth{Kind: calls.AuthBearer, Secret: "acme_key"}}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(calls.Service{})); diff != "" {
		t.Error(diff)
	}
}

// TestFieldsAreComplete fails when a service gets a field that the file does not have.
func TestFieldsAreComplete(t *testing.T) {
	var all calls.Service
	services, err := Parse(filepath.Join(t.TempDir(), "x.yaml"), []byte(strings.ReplaceAll(whole, "    ca: ca.pem\n", "")))
	ok(t, err)
	set := reflect.ValueOf(&all).Elem()
	for _, s := range services {
		v := reflect.ValueOf(s)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && !v.Field(i).IsZero() {
				set.Field(i).Set(v.Field(i))
			}
		}
	}
	for i := range set.NumField() {
		if f := set.Type().Field(i); f.IsExported() && set.Field(i).IsZero() && f.Name != "CA" {
			t.Errorf("no field of the file sets %s", f.Name)
		}
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	in := func(fields string) string { return "services:\n  acme:\n    url: https://a.com\n    " + fields + "\n" }
	for _, test := range []struct{ file, want string }{
		{in("max_inflight: 1"), `f.yaml:4:5: there is no field "max_inflight": did you mean max_in_flight?`},
		{in("colour: red"), `f.yaml:4:5: there is no field "colour"; there are: url, endpoint, auth,`},
		{in("retry: {attempt: 3}"), `f.yaml:4:13: there is no field "attempt": did you mean attempts?`},
		{in("max_in_flight: many"), `f.yaml:4:20: services.acme.max_in_flight: want a whole number from 1 to 100000, got "many"`},
		{in("max_in_flight: 0"), `f.yaml:4:20: services.acme.max_in_flight: want a whole number from 1 to 100000, got "0"`},
		{in("max_in_flight: 1.5"), `f.yaml:4:20: services.acme.max_in_flight: want a whole number from 1 to 100000, got "1.5"`},
		{in("rate: 25/day"), `f.yaml:4:11: services.acme.rate: want calls in a time, such as 25/s, 100/m or 1000/h, got "25/day"`},
		{in("rate: {calls: 0/s}"), `f.yaml:4:19: services.acme.rate.calls: want calls in a time, such as 25/s, 100/m or 1000/h, got "0/s"`},
		{in("rate: {burst: 5}"), `f.yaml:4:11: services.acme.rate: the field calls is missing`},
		{in("rate: {call: 5/s}"), `f.yaml:4:12: there is no field "call": did you mean calls?`},
		{in("auth: {bearer: a_key, basic: {user: a, secret: b}}"), `f.yaml:4:11: services.acme.auth: want one of bearer, basic, header, got 2 fields`},
		{in("auth: {}"), `f.yaml:4:11: services.acme.auth: want one of bearer, basic, header, got 0 fields`},
		{in("auth:\n      bearer: a_key\n      basic: {user: a, secret: b}"), `services.acme.auth: want one of bearer, basic, header, got 2 fields`},
		{in("auth: {basic: {user: a}}"), `f.yaml:4:19: services.acme.auth.basic: the field secret is missing`},
		{in("auth: {basic: {user: 12, secret: a}}"), `f.yaml:4:26: services.acme.auth.basic.user: want a user, without a colon: put 12 in quotes`},
		{in("auth: {header: {name: X Y, secret: a}}"), `f.yaml:4:27: services.acme.auth.header.name: want the name of a header, got "X Y"`},
		{in("auth: {header: {name: Host, secret: a}}"), `f.yaml:2:3: service acme: authentication header: Host says how a request travels, and can't be a secret`},
		{in("max_in_flight: \"10\""), `f.yaml:4:20: services.acme.max_in_flight: want a whole number from 1 to 100000, got the quoted text "10"`},
		{in("max_in_flight: 010"), `f.yaml:4:20: services.acme.max_in_flight: want a whole number from 1 to 100000, got "010"`},
		{in("allow_private: 'true'"), `f.yaml:4:20: services.acme.allow_private: want true or false, got the quoted text "true"`},
		{in("ports: []"), `f.yaml:4:12: services.acme.ports: the list is empty: leave the field out`},
		{in("timeout: {total: 1us}"), `services.acme.timeout.total: want a time such as 500ms, 30s or 1h30m, got "1us"`},
		{in("timeout: {total: 0.0s}"), `services.acme.timeout.total: want a time such as 500ms, 30s or 1h30m, got "0.0s"`},
		{in("retry: {statuses: [200]}"), `services.acme.retry.statuses[0]: want a status from 300 to 599`},
		{in("endpoint: \"https://*.a.com\""), `services.acme.endpoint: want a URL such as http://127.0.0.1:8080, got the quoted text "https://*.a.com"`},
		{in("rate: {calls: 5/s}") + "  other:\n    url: [https://b.com, https://A.com:443/]\n", `f.yaml:5:3: service other: the URL https://A.com:443/ is that of the service acme as well`},
		{"services:\n  default: {auth: {bearer: a_key}}\n", `f.yaml:2:3: service default: its secret would be sent to any URL that scripts name: want a URL beside auth`},
		{"services:\n  timer: {url: https://a.com}\n", `f.yaml:2:3: service timer: the name is taken by a built-in service`},
		{"{}\n", `f.yaml:1:1: the field services is missing`},
		{in("rate: [1/s]"), `f.yaml:4:11: services.acme.rate: want calls in a time, such as 25/s, 100/m or 1000/h, got a list`},
		{in("breaker: never"), `f.yaml:4:14: services.acme.breaker: want off, or fields (failures, window, max_pause), got "never"`},
		{in("breaker: {failures: 0}"), `f.yaml:4:25: services.acme.breaker.failures: want a whole number from 1 to 100000, got "0"`},
		{in("breaker: {windw: 1m}"), `f.yaml:4:15: there is no field "windw": did you mean window?`},
		{in("timeout: 30s"), `f.yaml:4:14: services.acme.timeout: want fields (total, connect, first_byte), got "30s"`},
		{in("timeout: {total: 30}"), `f.yaml:4:22: services.acme.timeout.total: want a time such as 500ms, 30s or 1h30m, got "30"`},
		{in("timeout: {total: -1s}"), `services.acme.timeout.total: want a time such as 500ms, 30s or 1h30m, got "-1s"`},
		{in("retry: sometimes"), `f.yaml:4:12: services.acme.retry: want never, or fields (attempts, backoff, max_wait, max_age, statuses), got "sometimes"`},
		{in("retry: {statuses: [429, 7xx]}"), `f.yaml:4:29: services.acme.retry.statuses[1]: want a status from 300 to 599 such as 429, or a class such as 5xx, got "7xx"`},
		{in("inline: maybe"), `f.yaml:4:13: services.acme.inline: want true or false, got "maybe"`},
		{in("response_limit: 1GiB"), `services.acme.response_limit: want a size such as 64KiB, at most 64MiB, got "1GiB"`},
		{in("response_limit: 65MiB"), `services.acme.response_limit: want a size such as 64KiB, at most 64MiB, got "65MiB"`},
		{in("ports: [443, 70000]"), `f.yaml:4:18: services.acme.ports[1]: want a whole number from 1 to 65535, got "70000"`},
		{in("auth: {bearer: }"), `services.acme.auth.bearer: want the name of a secret, such as acme_key, got nothing`},
		{in("auth: {bearer: a/b}"), `f.yaml:4:20: services.acme.auth.bearer: want the name of a secret, such as acme_key, got "a/b"`},
		{in("ca: nowhere.pem"), `f.yaml:4:9: services.acme.ca: want a file of certificates: open`},
		{in("endpoint: ftp://a.com"), `f.yaml:4:15: services.acme.endpoint: want a URL such as http://127.0.0.1:8080, got "ftp://a.com"`},
		{in("url: https://b.com"), `f.yaml:4:5: mapping key "url" already defined at [3:5]`},
		{in("retry: *anchor"), `services.acme.retry: want never, or fields (attempts, backoff, max_wait, max_age, statuses), got an anchor, alias or tag, which are not read here`},
		{"services:\n  Acme: {url: https://a.com}\n", `f.yaml:2:3: service "Acme": a name is a-z 0-9 _ -`},
		{"services:\n  acme: {}\n", `f.yaml:2:3: service acme: want a URL; only default goes without`},
		{"services:\n  acme: yes please\n", `f.yaml:2:9: services.acme: want fields (url, endpoint, auth,`},
		{"services: []\n", `f.yaml:1:11: services: want fields, got a list`},
		{"servces: {}\n", `f.yaml:1:1: there is no field "servces": did you mean services?`},
		{"", `f.yaml: want one document with the field services`},
		{"a: {\n", `f.yaml:1:4: `},
		{"a\n", `f.yaml:1:1: the file: want fields (services), got "a"`},
		{"services: {}\n---\nservices: {}\n", `f.yaml: want one document with the field services`},
		{in("inline: 1\n    ports: x"), "f.yaml:5:12: services.acme.ports: want a whole number from 1 to 65535, got \"x\""},
	} {
		if _, err := Parse("f.yaml", []byte(test.file)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s\ngot  %v\nwant %s", test.file, err, test.want)
		}
	}
}

func TestSchema(t *testing.T) {
	const path = "services.schema.json"
	want, err := json.MarshalIndent(Schema(), "", "  ")
	ok(t, err)
	want = append(want, '\n')
	if *update {
		ok(t, os.WriteFile(path, want, 0o644))
	}
	got, err := os.ReadFile(path)
	ok(t, err)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("services.schema.json is not what the fields say: go test ./worker/servicefile -update\n%s", diff)
	}
}

// TestWatch follows a file that changes, breaks, and is mended.
func TestWatch(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "services.yaml")
	write := func(text string) { // as a whole, as editors and Kubernetes do
		ok(t, os.WriteFile(path+".new", []byte(text), 0o600))
		ok(t, os.Rename(path+".new", path))
	}
	const first, second = "services: {a: {url: https://a.com}}", "services: {b: {url: https://b.com}}"
	write(first)
	last, err := Load(path)
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	applied, said, ended := make(chan []calls.Service), make(chan string, 10), make(chan struct{})
	log := slog.New(slog.NewTextHandler(lines(said), nil))
	go func() {
		defer close(ended)
		Watch(ctx, path, time.Millisecond, last, func(s []calls.Service) error { applied <- s; return nil }, log)
	}()
	write("services: {a: {rul: https://a.com}}")
	if line := next(t, said); !strings.Contains(line, "those from before stay") || !strings.Contains(line, "did you mean url?") {
		t.Error(line)
	}
	write(second)
	if s := next(t, applied); len(s) != 1 || s[0].Name != "b" {
		t.Errorf("got %v", s)
	}
	if line := next(t, said); !strings.Contains(line, "services are read again") {
		t.Error(line)
	}
	ok(t, os.Remove(path))
	if line := next(t, said); !strings.Contains(line, "no such file") {
		t.Error(line)
	}
	write(first)
	if s := next(t, applied); len(s) != 1 || s[0].Name != "a" {
		t.Errorf("got %v", s)
	}
	cancel()
	<-ended
}

// lines hands on each line that is written.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

func next[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
	return v
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
