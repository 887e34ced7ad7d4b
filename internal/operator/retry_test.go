package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/thence-dev/thence/internal/job"
)

// A letter's job runs again as a new job with the old one as its parent, at the end of its context's line.
func TestRetry(t *testing.T) {
	b := newBed(t)
	stop := b.work(map[string]string{"pay": "x := 1 + data"})
	seq := b.put("cus_1", `"text"`, map[string][]string{
		job.HeaderScript: {"pay"}, job.HeaderCaller: {"shop"}, job.HeaderID: {"order-1"}, job.HeaderTrace: {"00-1-2-01"}, job.HeaderDeadline: {"2099-01-01T00:00:00Z"},
	})
	b.await("cus_1", ended(seq))
	stop()
	l := b.find(fmt.Sprintf("p.cus_1.%d", seq))
	r, err := b.op.Retry(b.ctx(), l)
	must(t, err)
	equal(t, "what was done", r.Did, Retried)
	b.gone(l.ID)

	b.work(map[string]string{"pay": `import("job").result([data, import("job").parent, import("job").caller])`})
	c := b.await("cus_1", ended(r.Sequence))
	equal(t, "outcome", c.Report.Outcome, job.OutcomeDone)
	equal(t, "result", string(c.Report.Result), `["text","order-1","shop"]`)
	equal(t, "id", c.Report.Job, r.Job)
	equal(t, "trace", c.Report.Trace, "00-1-2-01")
	if _, err := b.op.Retry(b.ctx(), l); !errors.Is(err, ErrGone) {
		t.Errorf("a letter that was retried: got %v, want ErrGone", err)
	}
}

// A retry that was cut off between its job and the letter's end can be run again, and nothing runs twice.
func TestRetryAgain(t *testing.T) {
	b := newBed(t)
	death := job.DeadLetter{Error: job.Error{Reason: "runtime"}, Job: "seq-7", Message: job.Original{Data: job.Text("x := 1")}}
	first, err := b.op.Retry(b.ctx(), b.bury("p.c.7", death))
	must(t, err)
	again, err := b.op.Retry(b.ctx(), b.bury("p.c.7", death)) // as if it had not been removed
	must(t, err)
	equal(t, "the job's id", again.Job, first.Job)
	if first.Repeat || !again.Repeat || again.Sequence != first.Sequence {
		t.Errorf("got %+v and then %+v, want the same job", first, again)
	}
	if jobs := b.stored("c"); len(jobs) != 1 {
		t.Fatalf("%d jobs are on the stream, want 1", len(jobs))
	}
	b.gone("p.c.7")

	other, err := b.op.Retry(b.ctx(), b.bury("p.c.8", death))
	must(t, err)
	if other.Job == first.Job {
		t.Error("two letters have retries of one id")
	}
}

// An answer whose script failed is an answer again: the script sees what it would have seen, though its call is closed.
func TestRetryAnswer(t *testing.T) {
	for name, then := range map[string]string{"of the library": "took", "inline": "inline"} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			scripts := map[string]string{"took": "x := 1 + undefined"}
			stop := b.work(scripts)
			source := `if import("job").response { x := 1 + undefined }; ` +
				`import("http").post("https://api.example.invalid/x", {then: import("job").script, tag: {order: 7}})`
			if then != "inline" {
				source = `import("http").post("https://api.example.invalid/x", {then: "took", tag: {order: 7}})`
			}
			seq := b.put("c", source, nil)
			opened := b.await("c", ended(seq))
			call := job.EffectID(seq, 0)
			service := opened.Calls[call].Service
			if service == "" {
				t.Fatalf("no open call: %+v", opened)
			}
			m, err := b.keys.AnswerMessage(job.Address{Pool: "p", Context: "c"}, service, call, "", job.Answer{
				Status: 200, Header: map[string]string{"Content-Type": "application/json"}, Body: job.Text(`{"n":5}`), Attempts: 2,
			})
			must(t, err)
			answer, _, err := b.pool.PublishJob(b.ctx(), m)
			must(t, err)
			died := b.await("c", ended(answer))
			equal(t, "outcome", died.Report.Outcome, job.OutcomeDead)
			stop()

			l := b.find(fmt.Sprintf("p.c.%d", answer))
			if then == "inline" {
				content, err := l.Content()
				must(t, err)
				equal(t, "source", string(content.Source), source)
				content.Source = []byte(told)
				r, err := b.op.RetryWith(b.ctx(), l, content)
				must(t, err)
				b.work(scripts)
				b.told(r)
				return
			}
			r, err := b.op.Retry(b.ctx(), l)
			must(t, err)
			b.work(map[string]string{"took": told})
			b.told(r)
		})
	}
}

// told is a script that results in what an answer tells it.
const told = `j := import("job"); j.result([data.n, j.tag.order, j.response.status, j.response.attempts, j.caller, j.parent])`

func (b *bed) told(r Result) {
	b.Helper()
	c := b.await("c", ended(r.Sequence))
	equal(b.T, "outcome", c.Report.Outcome, job.OutcomeDone)
	var got []any
	must(b.T, json.Unmarshal(c.Report.Result, &got))
	answered := strings.HasPrefix(fmt.Sprint(got[5]), "answer-")
	if len(got) != 6 || fmt.Sprint(got[:5]) != "[5 7 200 2 default]" || !answered {
		b.Errorf("the script was told %v", got)
	}
}

// What can't be retried is refused, with what to do; and nothing is done.
func TestRefusals(t *testing.T) {
	b := newBed(t)
	tooLarge := job.Text("(700000 bytes, too many to keep; sha256 " + strings.Repeat("0", 64) + ")")
	header := func(pairs ...string) map[string][]string {
		h := map[string][]string{}
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i]] = []string{pairs[i+1]}
		}
		return h
	}
	answer := job.Text(`{"status":200,"body":"{}","attempts":1,"duration_ms":1}`)
	for i, test := range []struct {
		want  string
		name  string // in place of a sequence
		death job.DeadLetter
	}{
		{"too large to keep: 700000 bytes", "", job.DeadLetter{Error: job.Error{Reason: "runtime"}, Message: job.Original{Data: tooLarge}}},
		{"can't be read, and would be a dead letter again", "", job.DeadLetter{Error: job.Error{Reason: job.ReasonMalformed}, Message: job.Original{Data: job.Text("{")}}},
		{"claims an origin that it can't prove", "", job.DeadLetter{Error: job.Error{Reason: job.ReasonForged}, Message: job.Original{Data: job.Text("x := 1")}}},
		{"context was told that it was not made", "12-0", job.DeadLetter{Error: job.Error{Reason: job.ReasonRefused}, Message: job.Original{Subject: "p.c.call.stripe"}}},
		{"message among the calls", "call-12", job.DeadLetter{Error: job.Error{Reason: job.ReasonMalformed}, Message: job.Original{Data: job.Text("x")}}},
		{"no job can go there", "", job.DeadLetter{Error: job.Error{Reason: job.ReasonMalformed}, Message: job.Original{Subject: "p.a!b", Data: job.Text("x := 1")}}},
		{"does not hold its call", "", job.DeadLetter{Error: job.Error{Reason: "runtime"}, Message: job.Original{
			Header: header(job.HeaderCall, "12-0", job.HeaderType, job.TypeAnswer), Data: answer}}},
		{"too large to keep beside it", "", job.DeadLetter{Error: job.Error{Reason: "runtime"}, Script: "inline-0123456789abcdef", Call: &job.OpenCall{}, Message: job.Original{
			Header: header(job.HeaderCall, "12-0", job.HeaderType, job.TypeAnswer), Data: answer}}},
		{"would be a dead letter again", "", job.DeadLetter{Error: job.Error{Reason: "runtime"}, Message: job.Original{
			Header: header(job.HeaderType, job.TypeJSON), Data: job.Text("{}")}}},
		{"no pool that takes elsewhere.c", "13-0", job.DeadLetter{Error: job.Error{Reason: job.ReasonRefused}, Message: job.Original{
			Subject: "elsewhere.c", Data: job.Text("x := 1")}}},
	} {
		name := test.name
		if name == "" {
			name = fmt.Sprint(100 + i)
		}
		if test.death.Job == "" {
			test.death.Job = "order-7"
		}
		l := b.bury("p.c."+name, test.death)
		_, err := b.op.Retry(b.ctx(), l)
		b.refused(err, test.want)
		equal(t, "the letter stays: "+l.ID, b.find(l.ID).Sequence(), l.Sequence())
	}
	must(t, b.pool.Publish(b.ctx(), job.Message{Subject: "p.c.dead.1", Data: []byte("{")}))
	_, err := b.op.Retry(b.ctx(), b.find("p.c.1"))
	b.refused(err, "the letter can't be read")
	if jobs := b.stored("c"); len(jobs) != 0 {
		t.Errorf("%d jobs are on the stream, want none", len(jobs))
	}
}

// The job that a stream refused as an effect is retried where it was meant to go.
func TestRetryEffect(t *testing.T) {
	b := newBed(t)
	l := b.bury("p.c.12-0", job.DeadLetter{Error: job.Error{Reason: job.ReasonRefused}, Job: "order-7", Message: job.Original{
		Subject: "p.ledger", Data: job.Text(`{"source":"import(\"job\").result([import(\"job\").parent, data])","data":4}`),
		Header: map[string][]string{
			job.HeaderSource: {"p.c.12-0"}, job.HeaderParent: {"order-7"}, job.HeaderCaller: {"p.c"}, job.HeaderType: {job.TypeInline}, job.HeaderID: {"0123"},
		},
	}})
	r, err := b.op.Retry(b.ctx(), l)
	must(t, err)
	equal(t, "subject", r.Subject, "p.ledger")
	b.work(nil)
	c := b.await("ledger", ended(r.Sequence))
	equal(t, "result", string(c.Report.Result), `["order-7",4]`)
	equal(t, "marks", len(c.Marks), 0)
	b.gone(l.ID)
}

// What is edited is the source or the data of a body, whatever form that has.
func TestEdit(t *testing.T) {
	b := newBed(t)
	runtime := job.Error{Reason: "runtime"}
	for i, test := range []struct {
		name   string
		header map[string][]string
		body   string
		old    Content
		edited Content
		want   string // body
		typ    string
	}{
		{"source", nil, "x := 1", Content{Source: []byte("x := 1")}, Content{Source: []byte("x := 2")}, "x := 2", ""},
		{"source that gets data", nil, "x := 1", Content{Source: []byte("x := 1")}, Content{Source: []byte("x := data"), Data: []byte("5"), JSON: true},
			`{"source":"x := data","data":5}`, job.TypeInline},
		{"inline", map[string][]string{job.HeaderType: {job.TypeInline}}, `{"source":"x := 1","name":"a.tengo","data":{"a": 1}}`,
			Content{Source: []byte("x := 1"), Data: []byte(`{"a": 1}`), JSON: true}, Content{Source: []byte("x := 2"), Data: []byte(`{"a":2}`), JSON: true},
			`{"source":"x := 2","name":"a.tengo","data":{"a":2}}`, job.TypeInline},
		{"data", map[string][]string{job.HeaderScript: {"pay"}, job.HeaderType: {job.TypeJSON}}, `{"a":1}`,
			Content{Data: []byte(`{"a":1}`), JSON: true}, Content{Data: []byte(`{"a":2}`), JSON: true}, `{"a":2}`, job.TypeJSON},
		{"text", map[string][]string{job.HeaderScript: {"pay"}, job.HeaderType: {job.TypeText}}, `42`,
			Content{Data: []byte(`42`)}, Content{Data: []byte(`43`)}, `43`, job.TypeText},
	} {
		id := fmt.Sprintf("p.c.%d", 50+i)
		l := b.bury(id, job.DeadLetter{Error: runtime, Job: "order-7", Message: job.Original{Header: test.header, Data: job.Text(test.body)}})
		got, err := l.Content()
		must(t, err)
		if string(got.Source) != string(test.old.Source) || string(got.Data) != string(test.old.Data) || got.JSON != test.old.JSON {
			t.Errorf("%s: the content is %s and %s, %v", test.name, got.Source, got.Data, got.JSON)
		}
		_, err = b.op.RetryWith(b.ctx(), l, test.edited)
		must(t, err)
		jobs := b.stored("c")
		m := jobs[len(jobs)-1]
		equal(t, test.name+": body", string(m.Data), test.want)
		equal(t, test.name+": type", m.Get(job.HeaderType), test.typ)
		equal(t, test.name+": parent", m.Get(job.HeaderParent), "order-7")
		must(t, b.keys.Verify(m))
		b.gone(id)
	}
}

// A malformed body can be mended; what can't be mended by a body is refused.
func TestEditRefusals(t *testing.T) {
	b := newBed(t)
	malformed := job.Error{Reason: job.ReasonMalformed, Message: "not JSON"}
	script := map[string][]string{job.HeaderScript: {"pay"}, job.HeaderType: {job.TypeJSON}}
	l := b.bury("p.c.1", job.DeadLetter{Error: malformed, Job: "j", Message: job.Original{Header: script, Data: job.Text(`{"a":`)}})
	c, err := l.Content()
	must(t, err)
	equal(t, "content", string(c.Data), `{"a":`)
	_, err = b.op.RetryWith(b.ctx(), l, Content{Data: []byte(`{"a":`), JSON: true})
	b.refused(err, "the data is not JSON")
	_, err = b.op.RetryWith(b.ctx(), l, Content{Source: []byte("x := 1")})
	b.refused(err, "runs the library's script pay and has no source")
	_, err = b.op.RetryWith(b.ctx(), l, Content{Data: []byte(`{"a":1}`), JSON: true})
	must(t, err)

	l = b.bury("p.c.2", job.DeadLetter{Error: malformed, Job: "j", Message: job.Original{
		Header: map[string][]string{"thence-script": {"pay"}}, Data: job.Text(`{"a":1}`)}})
	_, err = b.op.RetryWith(b.ctx(), l, Content{Source: []byte("x := 1")})
	b.refused(err, `header "thence-script": the name is case-sensitive`)
	l = b.bury("p.c.3", job.DeadLetter{Error: job.Error{Reason: "runtime"}, Job: "j", Message: job.Original{Data: job.Text("x := 1")}})
	_, err = b.op.RetryWith(b.ctx(), l, Content{Source: []byte(" ")})
	b.refused(err, "nothing to run")
}
