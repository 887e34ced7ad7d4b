package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/worker/calls"
)

// TestSubjectsExamples decodes every example of subjects.md with the types that workers decode it with, parses every
// job, and verifies every proof with the keys that the page shows.
func TestSubjectsExamples(t *testing.T) {
	all, _ := blocks(t, "subjects.md")
	var keys job.Keyring
	seen := map[string]int{}
	for _, b := range all {
		if b.info == "keys" {
			decode(t, b, &keys)
		}
	}
	for _, b := range all {
		if b.language == "sh" {
			continue
		}
		kind, _, _ := strings.Cut(b.info, " ")
		example, known := examples[b.language+" "+kind]
		if !known {
			t.Errorf("subjects.md:%d: no test knows an example named %q: say in the info string what it is", b.line, b.language+" "+b.info)
			continue
		}
		seen[b.language+" "+kind]++
		if example != nil {
			example(t, b, keys)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(examples)) {
		if seen[name] == 0 {
			t.Errorf("subjects.md has no example %q", name)
		}
	}
}

// examples check an example by its language and the first word behind it. Those of nil have a test of their own.
var examples = map[string]func(*testing.T, block, job.Keyring){
	"json stream":      nil,
	"json consumer":    nil,
	"json permissions": nil,
	"json commit": func(t *testing.T, b block, keys job.Keyring) {
		var c job.Commit
		decode(t, b, &c)
		if _, err := job.DecodeCommit([]byte(b.text)); err != nil {
			t.Errorf("subjects.md:%d: %v", b.line, err)
		}
		if c.Key != keys.Signing() || c.Report.Sequence != c.Applied {
			t.Errorf("subjects.md:%d: the commit of another story: %+v", b.line, c)
		}
	},
	"json sent":   func(t *testing.T, b block, _ job.Keyring) { decode(t, b, new(calls.Sent)) },
	"json inline": func(t *testing.T, b block, _ job.Keyring) { decode(t, b, new(job.Inline)) },
	"json object": func(t *testing.T, b block, _ job.Keyring) {
		var object jetstream.ObjectInfo
		decode(t, b, &object)
		var answer job.Answer
		decode(t, block{text: object.Metadata["thence_answer"], line: b.line}, &answer)
		if answer.Stored == nil || answer.Stored.Name != object.Name || answer.Stored.Digest != object.Digest || uint64(answer.Stored.Size) != object.Size {
			t.Errorf("subjects.md:%d: the object of another answer: %+v", b.line, answer.Stored)
		}
	},
	"json slowdown": func(t *testing.T, b block, _ job.Keyring) { decode(t, b, new(stream.Slowdown)) },
	"json rate":     func(t *testing.T, b block, _ job.Keyring) { decode(t, b, new(stream.RateMark)) },
	"json turn":     func(t *testing.T, b block, _ job.Keyring) { decode(t, b, new(stream.Turn)) },
	"json release-head": func(t *testing.T, b block, _ job.Keyring) {
		decode(t, b, new(struct{ Parts, Scripts, Bytes int }))
	},
	"json told": func(t *testing.T, b block, _ job.Keyring) { decode(t, b, new(stream.WorkerServices)) },
	"json keys": func(t *testing.T, b block, keys job.Keyring) { decode(t, b, &keys) },
	"json dead-letter": func(t *testing.T, b block, _ job.Keyring) {
		var l job.DeadLetter
		decode(t, b, &l)
		if _, err := job.ParseAddress(l.Context); err != nil || l.Error.Reason == "" {
			t.Errorf("subjects.md:%d: %v, %+v", b.line, err, l)
		}
	},
	"text job": func(t *testing.T, b block, keys job.Keyring) {
		m := b.message(t)
		j, err := job.Parse(m)
		if err != nil {
			t.Fatalf("subjects.md:%d: %v", b.line, err)
		}
		if j.Call != "" || j.Origin.Valid() || j.Parent != "" {
			b.verify(t, keys, m)
		}
		if j.Answer != nil {
			decode(t, block{text: string(m.Data), line: b.line}, new(job.Answer))
		}
		if j.Origin.Valid() && m.Get(job.HeaderID) != keys.MessageID(keys.Signing(), job.EffectJob, j.Origin) {
			t.Errorf("subjects.md:%d: the effect's message id is not its HMAC", b.line)
		}
	},
	"text refused": func(t *testing.T, b block, _ job.Keyring) {
		if j, err := job.Parse(b.message(t)); !errors.Is(err, job.ErrMalformed) {
			t.Errorf("subjects.md:%d: it is read as %+v, %v", b.line, j, err)
		}
	},
	"text call":  checkCall,
	"text retry": checkCall,
	"text timer": checkTimer,
}

// checkTimer checks a timer's message, whose proof is that of the message it becomes.
func checkTimer(t *testing.T, b block, keys job.Keyring) {
	m := b.message(t)
	a, err := job.ParseCallSubject(m.Get(job.HeaderScheduleTarget))
	if err != nil {
		t.Fatalf("subjects.md:%d: %v", b.line, err)
	}
	var c job.Call
	decode(t, block{text: string(m.Data), line: b.line}, &c)
	due, err := job.ParseTimerURL(c.Request.URL)
	if err != nil {
		t.Fatalf("subjects.md:%d: %v", b.line, err)
	}
	want, err := keys.Scheduled(a, c, due)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m.Header, want.Header) || m.Subject != want.Subject {
		t.Errorf("subjects.md:%d: on %s, with headers %v, want %s, %v", b.line, m.Subject, m.Header, want.Subject, want.Header)
	}
}

// checkCall checks a call's message, or the timer of its next try, whose proof is that of the message it becomes.
func checkCall(t *testing.T, b block, keys job.Keyring) {
	m := b.message(t)
	if target := m.Get("Nats-Schedule-Target"); target != "" {
		m.Subject = target
	}
	a, err := job.ParseCallSubject(m.Subject)
	if err != nil {
		t.Fatalf("subjects.md:%d: %v", b.line, err)
	}
	b.verify(t, keys, m)
	var c job.Call
	decode(t, block{text: string(m.Data), line: b.line}, &c)
	seq, index, err := job.ParseEffectID(c.ID)
	if err != nil {
		t.Fatalf("subjects.md:%d: %v", b.line, err)
	}
	origin := job.Origin{Address: a, Sequence: seq, Index: index}
	if c.Key != keys.IdempotencyKey(keys.Signing(), origin) {
		t.Errorf("subjects.md:%d: the call's key is not its HMAC", b.line)
	}
	if id := m.Get(job.HeaderID); id != "" && id != keys.MessageID(keys.Signing(), job.EffectCall, origin) {
		t.Errorf("subjects.md:%d: the call's message id is not its HMAC", b.line)
	}
}

// decode decodes an example, and refuses fields that the type does not have.
func decode(t *testing.T, b block, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(b.text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("subjects.md:%d: %v", b.line, err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Errorf("subjects.md:%d: more than one value", b.line)
	}
}

// message reads an example of a message: its subject, its headers, an empty line, its body.
func (b block) message(t *testing.T) job.Message {
	t.Helper()
	head, body, _ := strings.Cut(b.text, "\n\n")
	lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	m := job.Message{Subject: lines[0], Sequence: 1764000000000017, Time: time.Unix(1764000000, 0), Header: map[string][]string{}, Data: []byte(body)}
	for _, l := range lines[1:] {
		name, value, ok := strings.Cut(l, ": ")
		if !ok {
			t.Fatalf("subjects.md:%d: %q is no header", b.line, l)
		}
		m.Header[name] = append(m.Header[name], value)
	}
	return m
}

func (b block) verify(t *testing.T, keys job.Keyring, m job.Message) {
	t.Helper()
	if err := keys.Verify(m); err != nil {
		t.Errorf("subjects.md:%d: %v", b.line, err)
	}
}

// TestSubjectsIsComplete: the page names every header, content type, reason, outcome and size that the code has, and
// every field of what is stored.
func TestSubjectsIsComplete(t *testing.T) {
	_, text := blocks(t, "subjects.md")
	want := []string{job.JobsStream("payments"), job.CallsStream("payments"), job.DeadStream("payments"), job.ContextsStream("payments"), job.BodiesStream("payments"),
		job.ReleasesStream("payments"), "`" + job.KeysBucket + "`"}
	for name, value := range constants(t) {
		for _, group := range []string{"Header", "Type", "Reason", "Outcome", "Effect", "Failure"} {
			if strings.HasPrefix(name, group) {
				want = append(want, "`"+value+"`")
			}
		}
	}
	types := []reflect.Type{
		reflect.TypeFor[job.Commit](), reflect.TypeFor[job.Call](), reflect.TypeFor[job.DeadLetter](), reflect.TypeFor[job.Inline](), reflect.TypeFor[job.Answer](),
	}
	for _, name := range fields(map[reflect.Type]bool{}, types...) {
		if !strings.Contains(text, `"`+name+`":`) && !strings.Contains(text, "`"+name+"`") {
			t.Errorf("subjects.md does not show the field %s", name)
		}
	}
	want = append(want,
		fmt.Sprintf("%d KiB", job.MaxJob>>10), fmt.Sprintf("%d KiB", job.MaxKept>>10), fmt.Sprintf("| %d |", job.MaxRecent),
		fmt.Sprintf("%d,%03d", job.MaxCalls/1000, job.MaxCalls%1000), fmt.Sprintf("%d,%03d", job.MaxMarks/1000, job.MaxMarks%1000))
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("subjects.md does not say %s", w)
		}
	}
}

// constants are the texts of package job's constants.
func constants(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../internal/job/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("package job: %d files, %v", len(files), err)
	}
	found := map[string]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != len(spec.Names) {
				return true
			}
			for i, name := range spec.Names {
				if lit, ok := spec.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					found[name.Name], _ = strconv.Unquote(lit.Value)
				}
			}
			return true
		})
	}
	return found
}

// fields are the names of all fields of some types, and of the types in them.
func fields(done map[reflect.Type]bool, types ...reflect.Type) []string {
	var names []string
	for _, typ := range types {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || done[typ] || typ == reflect.TypeFor[time.Time]() {
			continue
		}
		done[typ] = true
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name == "-" { // it does not travel
				continue
			}
			names = append(names, name)
			names = append(names, fields(done, typ.Field(i).Type)...)
		}
	}
	return names
}

// TestSubjectsSettings compares the settings that the page shows with those of the streams and consumers that a worker
// makes.
func TestSubjectsSettings(t *testing.T) {
	c := newCluster(t)
	startPayments(t, c)
	js, err := jetstream.New(c.connect())
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	shown := map[string]bool{}
	all, _ := blocks(t, "subjects.md")
	for _, b := range all {
		what := strings.Fields(b.info)
		switch {
		case b.language == "json" && len(what) == 2 && what[0] == "stream":
			s, err := js.Stream(ctx, what[1])
			if err != nil {
				t.Fatal(err)
			}
			decode(t, b, new(jetstream.StreamConfig))
			compare(t, b, s.CachedInfo().Config)
			shown[what[1]] = true
		case b.language == "json" && len(what) == 3 && what[0] == "consumer":
			con, err := js.Consumer(ctx, what[1], what[2])
			if err != nil {
				t.Fatal(err)
			}
			decode(t, b, new(jetstream.ConsumerConfig))
			compare(t, b, con.CachedInfo().Config)
			shown[what[1]+" "+what[2]] = true
		}
	}
	for name := range js.ListStreams(ctx).Info() {
		if !shown[name.Config.Name] {
			t.Errorf("subjects.md does not show stream %s", name.Config.Name)
		}
	}
	for _, name := range []string{"JOBS_payments workers", "CALLS_payments call_stripe"} {
		if !shown[name] {
			t.Errorf("subjects.md does not show consumer %s", name)
		}
	}
}

// compare checks that each setting that the page shows is the real one.
func compare(t *testing.T, b block, real any) {
	t.Helper()
	encoded, err := json.Marshal(real)
	if err != nil {
		t.Fatal(err)
	}
	var page, have map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal([]byte(b.text), &page), json.Unmarshal(encoded, &have)); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(page)) {
		if name == "metadata" {
			compareMetadata(t, b, page[name], have[name])
			continue
		}
		if want, got := compacted(t, page[name]), compacted(t, have[name]); want != got {
			t.Errorf("subjects.md:%d: %s is %s on the page and %s on the server", b.line, name, want, got)
		}
	}
}

func compareMetadata(t *testing.T, b block, page, have json.RawMessage) {
	t.Helper()
	var want, got map[string]string
	if err := errors.Join(json.Unmarshal(page, &want), json.Unmarshal(have, &got)); err != nil {
		t.Fatal(err)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("subjects.md:%d: metadata %s is %q on the page and %q on the server", b.line, name, value, got[name])
		}
	}
}

// compacted is a value in one form. What is left out counts as the zero value that it would be.
func compacted(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	if len(raw) == 0 {
		return "false"
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}
