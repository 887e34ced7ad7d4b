package worker

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/scripting"
)

// counting are the scripts around every job that dies: state goes on as if it had not been there.
var counting = map[string]string{
	"count": `
context := import("context")
context.set("n", context.get("n", 0) + 1)
`,
	"fails": `
context := import("context")
context.set("n", 100)
print("before")
x := undefined
x.y.z()
`,
	"endless": `for true {}`,
	"huge":    `context := import("context"); a := "0123456789abcdef"; for i := 0; i < 15; i++ { a += a }; context.set("a", a)`,
	"nopool": `
flow := import("flow")
flow.dispatch({worker: "nowhere", context: "a", script: "count"})
`,
}

// TestDead: a job that can't run becomes a dead letter with its reason, its place in the script and its original
// message. Its context keeps its state and goes on.
func TestDead(t *testing.T) {
	b := newBed(t)
	c := b.config(counting)
	c.Limits = scripting.Limits{Time: 200 * time.Millisecond}
	b.work(c)
	past := time.Now().Add(-time.Minute).Format(time.RFC3339)
	for i, test := range []struct {
		name, body string
		header     []string
		reason     string
		says       []string
		line       int
	}{
		{name: "unknown script", header: []string{job.HeaderScript, "nonesuch"}, reason: "unknown_script", says: []string{"nonesuch"}},
		{name: "does not compile", body: "a := \n)", reason: "compile", line: 2},
		{name: "runtime error", header: []string{job.HeaderScript, "fails"}, reason: "runtime", line: 6},
		{name: "time limit", header: []string{job.HeaderScript, "endless"}, reason: "time_limit", says: []string{"200ms"}},
		{name: "state too large", header: []string{job.HeaderScript, "huge"}, reason: "limit", says: []string{"state"}},
		{name: "no such pool", header: []string{job.HeaderScript, "nopool"}, reason: job.ReasonNoPool, says: []string{"nowhere"}},
		{name: "case-folded header", body: "x", header: []string{"thence-script", "count"}, reason: job.ReasonMalformed,
			says: []string{"thence-script", job.HeaderScript}},
		{name: "unknown header of ours", body: "x := 1", header: []string{"Thence-Scripts", "count"}, reason: job.ReasonMalformed,
			says: []string{"Thence-Scripts"}},
		{name: "data is not JSON", body: "{", header: []string{job.HeaderScript, "count", job.HeaderType, job.TypeJSON}, reason: job.ReasonMalformed,
			says: []string{"not JSON"}},
		{name: "deadline", body: "x := 1", header: []string{job.HeaderDeadline, past}, reason: job.ReasonDeadline, says: []string{"deadline"}},
		{name: "nothing to run", body: " ", reason: job.ReasonMalformed, says: []string{"nothing to run"}},
		{name: "a service without proof", body: "x := 1", header: []string{job.HeaderCaller, "stripe"}, reason: job.ReasonForged, says: []string{"stripe"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := fmt.Sprintf("c%d", i)
			b.publish("p."+name, "", job.HeaderScript, "count")
			dead := b.publish("p."+name, test.body, test.header...)
			last := b.publish("p."+name, "", job.HeaderScript, "count")

			got := b.await(name, dead)
			if got.Report.Outcome != job.OutcomeDead || got.Report.Error == nil || got.Report.Error.Reason != test.reason {
				t.Fatalf("outcome %s, error %+v; want a dead letter with reason %s", got.Report.Outcome, got.Report.Error, test.reason)
			}
			contains(t, "error", got.Report.Error.Message, test.says...)
			if test.line > 0 && got.Report.Error.Line != test.line {
				t.Errorf("line %d, want %d: %+v", got.Report.Error.Line, test.line, got.Report.Error)
			}
			if s := state[struct{ N int }](t, b.await(name, last)); s.N != 2 {
				t.Errorf("n is %d, want 2: the dead job has left a trace, or the context did not go on", s.N)
			}
			l := b.letter(name, fmt.Sprint(dead))
			if l.Error.Reason != test.reason || string(l.Message.Data) != test.body || l.Message.Sequence != dead {
				t.Errorf("dead letter %+v", l)
			}
			for k := 0; k < len(test.header); k += 2 {
				if l.Message.Header[test.header[k]][0] != test.header[k+1] {
					t.Errorf("the dead letter has lost header %s", test.header[k])
				}
			}
		})
	}
}

// TestDeadKeepsOutput: what a script printed before it failed is in its report.
func TestDeadKeepsOutput(t *testing.T) {
	b := newBed(t)
	b.work(b.config(counting))
	got := b.await("c", b.publish("p.c", "", job.HeaderScript, "fails"))
	if !strings.Contains(got.Report.Output, "before") {
		t.Errorf("output %q", got.Report.Output)
	}
}

// TestStray: a job for a context that no bucket can hold is a dead letter too, and blocks nobody (rule 7).
func TestStray(t *testing.T) {
	b := newBed(t)
	b.work(b.config(counting))
	dead := b.publish("p.cus$42", `print("hi")`)
	ok := b.publish("p.cus_42", "", job.HeaderScript, "count")
	b.await("cus_42", ok)
	sub, err := b.nc.SubscribeSync("p.*.dead.*")
	if err != nil {
		t.Fatal(err)
	}
	again := b.publish("p.cus$42", `print("hi")`)
	if _, err := sub.NextMsgWithContext(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{dead, again} {
		l := b.letter("cus$42", fmt.Sprint(seq))
		contains(t, "reason", l.Error.Message, "cus$42", "a-z")
	}
}

// TestForged: an answer that nobody can prove never reaches a script; nor does a forged effect, which could make the
// real one be taken for a repeat (rules 5 and 6).
func TestForged(t *testing.T) {
	b := newBed(t)
	b.work(b.config(counting))
	answer := `{"status":200,"attempts":1,"duration_ms":1,"body":"{}"}`
	for name, header := range map[string][]string{
		"no proof":    {job.HeaderCall, "1-0", job.HeaderType, job.TypeAnswer},
		"wrong proof": {job.HeaderCall, "1-0", job.HeaderType, job.TypeAnswer, job.HeaderProof, "AAAA"},
		"no effect":   {job.HeaderSource, "p.other.9999999999999999-0", job.HeaderScript, "count"},
		"parent":      {job.HeaderParent, "x", job.HeaderScript, "count"},
	} {
		got := b.await("c", b.publish("p.c", answer, header...))
		if got.Report.Outcome != job.OutcomeDead || got.Report.Error.Reason != job.ReasonForged || len(got.Marks) != 0 {
			t.Errorf("%s: %+v, marks %v", name, got.Report, got.Marks)
		}
	}
}

// TestLate: a rightful answer of a call that is not open is recorded and runs nothing; it is no dead letter (rule 5).
func TestLate(t *testing.T) {
	b := newBed(t)
	b.work(b.config(counting))
	first := b.publish("p.c", "", job.HeaderScript, "count")
	b.await("c", first)
	m := job.Message{Subject: "p.c", Data: []byte(`{"status":200,"attempts":1,"duration_ms":1}`), Header: map[string][]string{
		job.HeaderCaller: {"stripe"}, job.HeaderCall: {job.EffectID(first, 0)}, job.HeaderType: {job.TypeAnswer},
	}}
	b.keys.Sign(&m)
	seq, _, err := b.pool.PublishJob(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.await("c", seq); got.Report.Outcome != job.OutcomeLate {
		t.Errorf("outcome %s, want late", got.Report.Outcome)
	}
	if n := b.letters(); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// TestRepeat: a caller's job that comes again after the server has forgotten its id takes no effect (rule 6, recent
// ids).
func TestRepeat(t *testing.T) {
	b := newBed(t)
	stop := b.work(b.config(counting))
	b.await("c", b.publish("p.c", "", job.HeaderScript, "count", job.HeaderID, "order-7"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.work(b.config(counting))
	got := b.await("c", b.publish("p.c", "", job.HeaderScript, "count", job.HeaderID, "order-7"))
	if s := state[struct{ N int }](t, got); got.Report.Outcome != job.OutcomeDuplicate || s.N != 1 {
		t.Errorf("outcome %s, n is %d; want a duplicate, and 1", got.Report.Outcome, s.N)
	}
}

// TestRecentIsBounded: a context remembers the last 256 callers' ids, and no more.
func TestRecentIsBounded(t *testing.T) {
	old := job.Commit{}
	for i := range job.MaxRecent + 44 {
		tr := trial{old: old, job: job.Job{CallerID: fmt.Sprint(i)}}
		if out := tr.remember(); out != "" {
			t.Fatalf("id %d is %s", i, out)
		}
		old.Recent = tr.next.Recent
	}
	if len(old.Recent) != job.MaxRecent*digestLen {
		t.Errorf("%d bytes of recent ids", len(old.Recent))
	}
	for id, want := range map[string]string{"43": "", "44": job.OutcomeDuplicate, "299": job.OutcomeDuplicate} {
		tr := trial{old: old, job: job.Job{CallerID: id}}
		if got := tr.remember(); got != want {
			t.Errorf("id %s: %q, want %q", id, got, want)
		}
	}
}

// TestMarks: a context takes each effect of another once, whatever order repeats come in, and remembers the 1,000
// sources that it used last (rule 6).
func TestMarks(t *testing.T) {
	take := func(marks map[string]job.Mark, at uint64, source string, seq uint64, index int) (string, map[string]job.Mark) {
		tr := trial{
			old: job.Commit{Marks: marks}, message: job.Message{Sequence: at},
			job: job.Job{Origin: job.Origin{Address: job.Address{Pool: "p", Context: source}, Sequence: seq, Index: index}},
		}
		out := tr.mark()
		if out == "" {
			return out, tr.next.Marks
		}
		return out, marks
	}
	var marks map[string]job.Mark
	for i, step := range []struct {
		source string
		seq    uint64
		index  int
		want   string
	}{
		{"a", 10, 0, ""}, {"a", 10, 1, ""}, {"a", 10, 0, job.OutcomeDuplicate}, {"a", 10, 1, job.OutcomeDuplicate},
		{"b", 5, 0, ""}, {"a", 9, 7, job.OutcomeDuplicate}, {"a", 11, 0, ""}, {"b", 5, 0, job.OutcomeDuplicate},
	} {
		var got string
		if got, marks = take(marks, uint64(100+i), step.source, step.seq, step.index); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
	for i := range job.MaxMarks {
		_, marks = take(marks, uint64(1000+i), fmt.Sprintf("s%d", i), 1, 0)
	}
	if len(marks) != job.MaxMarks {
		t.Errorf("%d marks", len(marks))
	}
	if _, kept := marks["p.s0"]; !kept {
		t.Error("a recent source was forgotten before the oldest")
	}
	if _, kept := marks["p.b"]; kept {
		t.Error("the source unused for longest is still there")
	}
}

// TestAnswerThatFails: a response script that fails is a dead letter, closes its call, and runs the call's error script
// once, with the type script_error (rule 16). When that fails too, that is the end.
func TestAnswerThatFails(t *testing.T) {
	b := newBed(t)
	b.work(b.config(map[string]string{
		"start": `
http := import("http")
http.get("https://api.example.com/x", {then: "bad", catch: data, tag: {step: 3}})
`,
		"bad": `x := undefined; x.y()`,
		"caught": `
context := import("context")
job := import("job")
context.set("failure", job.failure)
context.set("tag", job.tag)
context.set("caller", job.caller)
`,
		"caught_badly": `x := undefined; x.y()`,
	}))
	for name, catch := range map[string]string{"a": "caught", "b": "caught_badly"} {
		start := b.publish("p."+name, `"`+catch+`"`, job.HeaderScript, "start")
		opened := b.await(name, start)
		m := job.Message{Subject: "p." + name, Header: map[string][]string{
			job.HeaderCaller: {"default"}, job.HeaderCall: {job.EffectID(start, 0)}, job.HeaderType: {job.TypeAnswer},
		}, Data: []byte(`{"status":200,"attempts":1,"duration_ms":1,"body":"{\"id\":1}","headers":{"Content-Type":"application/json"}}`)}
		b.keys.Sign(&m)
		if len(opened.Calls) != 1 {
			t.Fatalf("open calls: %v", opened.Calls)
		}
		answer, _, err := b.pool.PublishJob(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.await(name, answer); got.Report.Outcome != job.OutcomeDead || len(got.Calls) != 0 {
			t.Errorf("%s: outcome %s, open calls %v", name, got.Report.Outcome, got.Calls)
		}
	}
	got := b.awaitCommit("a", func(c job.Commit) bool { return c.Report.Script == "caught" })
	s := state[struct {
		Failure struct{ Type, Message, Body string }
		Tag     struct{ Step int }
		Caller  string
	}](t, got)
	if s.Failure.Type != job.FailureScript || s.Tag.Step != 3 || s.Caller != "default" || s.Failure.Body != `{"id":1}` {
		t.Errorf("the error script saw %+v", s)
	}
	contains(t, "failure", s.Failure.Message, "bad:1:")
	last := b.awaitCommit("b", func(c job.Commit) bool { return c.Report.Script == "caught_badly" })
	if last.Report.Outcome != job.OutcomeDead || len(last.Outbox) != 1 {
		t.Errorf("the second failure asks for %s", mustJSON(t, last.Outbox))
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
