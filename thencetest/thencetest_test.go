package thencetest_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/thencetest"
	"github.com/thence-dev/thence/worker"
)

// The client library leaves a goroutine behind where an object is stored so quickly that its publisher ends before that begins.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

// recorder is a test whose failures are looked at. What would end it ends the function that verdict runs.
type recorder struct {
	*testing.T
	said []string
}

type fatal struct{}

func (r *recorder) Errorf(s string, args ...any) { r.said = append(r.said, fmt.Sprintf(s, args...)) }

func (r *recorder) Fatalf(s string, args ...any) {
	r.Errorf(s, args...)
	panic(fatal{})
}

// verdict is what a test says that runs fn; empty: it passes.
func verdict(t *testing.T, fn func(t thencetest.TB)) string {
	t.Helper()
	r := &recorder{T: t}
	func() {
		defer func() {
			if end := recover(); end != nil && end != (fatal{}) {
				panic(end)
			}
		}()
		fn(r)
	}()
	return strings.Join(r.said, "\n")
}

func wantVerdict(t *testing.T, want string, fn func(t thencetest.TB)) {
	t.Helper()
	got := verdict(t, fn)
	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("the test says %q, want %q", got, want)
	}
}

func TestStripe(t *testing.T) {
	t.Parallel()
	stripe := thencetest.NewStripe(t)
	pool := thencetest.Start(t, thencetest.Config{Services: []*thencetest.Service{stripe}})
	order := map[string]any{"email": "ada@example.com", "amount": 2000, "currency": "usd", "price": "price_1", "payment_method": "pm_card_visa"}
	flow := pool.Run("cus_42", "checkout", order)
	flow.WantJobs("checkout", "checkout_customer_created", "checkout_paid", "checkout_subscribed")
	flow.WantResult(`{"status": "completed", "customer": "cus_0001", "payment_intent": "pi_0001", "subscription": "sub_0001", "subscription_status": "active"}`)

	stripe.On("POST /v1/payment_intents").Answer(402, `{"error": {"type": "card_error", "code": "card_declined", "message": "No."}}`)
	flow = pool.Run("cus_43", "checkout", order)
	flow.WantJobs("checkout", "checkout_customer_created", "checkout_failed")
	flow.WantResult(`{"status": "declined", "kind": "card", "message": "No.", "step": "create_payment_intent"}`)

	if key := stripe.Requests()[0].Header.Get("Authorization"); key != "Bearer test_stripe_key" {
		t.Errorf("the key that is sent: %q", key)
	}
}

// scripts call an API, and end with what came of it.
var scripts = thencetest.Scripts(map[string]string{
	"ask":      `import("http").get("https://api.acme.dev/v1/thing", {then: "ends", catch: "ends"})`,
	"ends":     `job := import("job"); job.result(job.failure ? job.failure.type : data)`,
	"wrong":    `x := 1 + undefined`,
	"outside":  `import("http").get("https://example.com/", {then: "ends", catch: "ends"})`,
	"for_ever": `import("flow").dispatch({script: "for_ever"})`,
	"tells":    `import("flow").dispatch({context: "other", script: "told", data: 5})`,
	"told":     `import("context").set("told", data)`,
})

func TestAnswers(t *testing.T) {
	t.Parallel()
	acme := thencetest.NewService(t, "acme", "https://api.acme.dev/v1")
	pool := thencetest.Start(t, thencetest.Config{Scripts: scripts, Services: []*thencetest.Service{acme}})

	acme.On("GET /v1/thing").Reset().Answer(200, map[string]any{"n": 1})
	pool.Run("reset", "ask", nil).WantResult(`{"n": 1}`)
	pool.Run("again", "ask", nil).WantResult(`{"n": 1}`)
	acme.On("GET /v1/thing").Answer(400, nil)
	pool.Run("once_more", "ask", nil).WantResult(`{"n": 1}`)
	pool.Run("refused", "ask", nil).WantResult(`"http_error"`)
	if n := len(acme.Requests()); n != 5 {
		t.Errorf("%d requests, want 5", n)
	}
}

// TestTimeout waits for a time-out, as short as the test has set it.
func TestTimeout(t *testing.T) {
	t.Parallel()
	acme := thencetest.NewService(t, "acme", "https://api.acme.dev/v1")
	acme.Config.Timeout, acme.Config.Attempts = 50*time.Millisecond, 1
	acme.On("GET /v1/thing").Hang()
	pool := thencetest.Start(t, thencetest.Config{Scripts: scripts, Services: []*thencetest.Service{acme}})
	pool.Run("cus_42", "ask", nil).WantResult(`"timeout"`)
}

func TestOtherContexts(t *testing.T) {
	t.Parallel()
	pool := thencetest.Start(t, thencetest.Config{Scripts: scripts})
	pool.Run("cus_42", "tells", nil).WantJobs("tells")
	next := pool.Await(pool.Dispatch(dispatcher.Job{Context: "other", Source: "x := 1"}))
	next.WantState(`{"told": 5}`)
	var state struct{ Told int }
	if pool.State("other", &state); state.Told != 5 {
		t.Errorf("state %+v", state)
	}
	got, err := pool.Conn().Request("test.raw", []byte(`import("context").set("raw", true)`), time.Minute)
	if err != nil || !strings.Contains(string(got.Data), `"stream":"JOBS_test"`) {
		t.Errorf("published by hand: %v, %v", got, err)
	}
	dead := pool.Await(pool.Dispatch(dispatcher.Job{Context: "dead", Script: "wrong"}))
	if dead.Err == nil || dead.Err.Reason != "runtime" {
		t.Errorf("got %v, want the dead job's error", dead.Err)
	}
}

func TestPoolFailsTheTest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		want string
		fn   func(t thencetest.TB)
	}{
		"no such folder": {"the field Scripts can't be read: ", func(t thencetest.TB) {
			thencetest.Run(t, thencetest.Job{Scripts: os.DirFS("nope"), Script: "order"})
		}},
		"dead letter": {"is a dead letter (runtime): wrong:1:6: invalid operation: int + undefined", func(t thencetest.TB) {
			thencetest.Start(t, thencetest.Config{Scripts: scripts}).Run("a", "wrong", nil)
		}},
		"a call to the world": {"is a dead letter (no_service)", func(t thencetest.TB) {
			thencetest.Start(t, thencetest.Config{Scripts: scripts}).Run("a", "outside", nil)
		}},
		"an answer that nobody wrote": {"service acme was asked for GET /v1/thing, and the test does not say what it answers", func(t thencetest.TB) {
			acme := thencetest.NewService(t, "acme", "https://api.acme.dev/v1")
			thencetest.Start(t, thencetest.Config{Scripts: scripts, Services: []*thencetest.Service{acme}}).Run("a", "ask", nil)
		}},
		"a flow without an end": {"the flow in test.a has not ended (context deadline exceeded): it waits for", func(t thencetest.TB) {
			thencetest.Start(t, thencetest.Config{Scripts: scripts, Wait: 300 * time.Millisecond}).Run("a", "for_ever", nil)
		}},
		"other jobs": {"the flow ran tells, want told", func(t thencetest.TB) {
			thencetest.Start(t, thencetest.Config{Scripts: scripts}).Run("a", "tells", nil).WantJobs("told")
		}},
		"another state": {"state:\n  {}\nwant:\n  {\n    \"a\": 1\n  }", func(t thencetest.TB) {
			thencetest.Start(t, thencetest.Config{Scripts: scripts}).Run("a", "tells", nil).WantState(`{"a":1}`)
		}},
		"no context": {"no job of context b has taken effect", func(t thencetest.TB) {
			thencetest.Start(t, thencetest.Config{Scripts: scripts}).State("b", nil)
		}},
		"a library that does not compile": {"y is not declared", func(t thencetest.TB) {
			thencetest.Start(t, thencetest.Config{Scripts: thencetest.Scripts(map[string]string{"a": "x := y"})})
		}},
		"a worker that can't be": {"Slots, Grace, Replicas, MaxBytes and KeepBodies can't be negative", func(t thencetest.TB) {
			thencetest.Start(t, thencetest.Config{Worker: func(c *worker.Config) { c.Slots = -1 }})
		}},
		"no URL": {`service acme: "acme.dev" is no URL`, func(t thencetest.TB) { thencetest.NewService(t, "acme", "acme.dev") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantVerdict(t, test.want, test.fn)
		})
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	out := thencetest.Run(t, thencetest.Job{
		Source: `
job := import("job"); context := import("context"); http := import("http"); flow := import("flow")
if job.failure { job.result([job.failure.type, job.tag, data]) } else if job.response { job.result([data, job.response.status, job.caller]) }
http.get("https://api.acme.dev/", {then: job.script, catch: job.script, tag: "t"})
flow.dispatch({script: "checkout"})
context.set("n", context.get("n", 0) + 1)
print(data, job.time, job.context, job.caller)`,
		Data: "text", State: map[string]any{"n": 1}, Caller: "ada", Context: "cus_1", Time: time.Date(2030, 2, 3, 4, 5, 6, 0, time.UTC),
	})
	out.WantState(`{"n": 2}`)
	out.WantResult(`null`)
	if got, want := out.Output, "text 2030-02-03 04:05:06 +0000 UTC cus_1 ada\n"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	if len(out.Calls) != 1 || len(out.Jobs) != 1 || out.Jobs[0].Script != "checkout" {
		t.Errorf("it asks for %+v and %+v", out.Calls, out.Jobs)
	}
	out.Answer(0, "plain text").WantResult(`["plain text", 200, "default"]`)
	out.Answer(0, []int{1}).Answer(0, nil).WantState(`{"n": 4}`)
	out.Fail(0, thencetest.Failure{Type: "timeout"}).WantResult(`["timeout", "t", null]`)

	broken := thencetest.Run(t, thencetest.Job{Source: `x := 1 + undefined`, State: map[string]any{"n": 1}})
	broken.WantState(`{"n": 1}`)
	if broken.Err == nil || broken.Err.Kind != "runtime" {
		t.Errorf("got %v, want a runtime error", broken.Err)
	}
}

func TestRunTimer(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	out := thencetest.Run(t, thencetest.Job{Scripts: waiting, Script: "trial", Time: began})
	if len(out.Calls) != 0 || len(out.Timers) != 1 || !out.Timers[0].Due.Equal(began.AddDate(0, 0, 30)) || out.Timers[0].Script != "trial_ends" {
		t.Fatalf("calls %+v, timers %+v", out.Calls, out.Timers)
	}
	out.Fire(0).WantResult(`["pro", "trial", 720]`)
	wantVerdict(t, "there is no timer 1: the script set 1", func(t thencetest.TB) {
		thencetest.Run(t, thencetest.Job{Scripts: waiting, Script: "trial"}).Fire(1)
	})
}

func TestRunFailsTheTest(t *testing.T) {
	t.Parallel()
	silent := thencetest.Job{Source: `import("stripe").customers.list({}, {then: "", catch: ""})`}
	for want, fn := range map[string]func(t thencetest.TB){
		`there is no script "chekout" in the library; did you mean "checkout"?`: func(t thencetest.TB) { thencetest.Run(t, thencetest.Job{Script: "chekout"}) },
		"y is not declared":                          func(t thencetest.TB) { thencetest.Run(t, thencetest.Job{Source: "x := y"}) },
		"there is no call 1: the script asked for 1": func(t thencetest.TB) { thencetest.Run(t, silent).Answer(1, nil) },
		"there is no call 0: the script asked for 0, and failed: ": func(t thencetest.TB) {
			thencetest.Run(t, thencetest.Job{Source: "x := 1 + undefined"}).Answer(0, nil)
		},
		"names no script for this":            func(t thencetest.TB) { thencetest.Run(t, silent).Answer(0, nil) },
		"the state that is wanted is no JSON": func(t thencetest.TB) { thencetest.Run(t, silent).WantState("{") },
		"data: json: unsupported type":        func(t thencetest.TB) { thencetest.Run(t, thencetest.Job{Source: "x := 1", Data: context.Background}) },
	} {
		wantVerdict(t, want, fn)
	}
}

// waiting are scripts that let time pass.
var waiting = thencetest.Scripts(map[string]string{
	"trial": `
context := import("context"); flow := import("flow"); times := import("times")
context.set("began", times.now())
flow.dispatch({script: "trial_ends", after: "720h", data: {plan: "pro"}, tag: "trial"})`,
	"trial_ends": `
context := import("context"); job := import("job"); times := import("times")
began := times.parse(times.format_rfc3339_nano, context.get("began"))
job.result([data.plan, job.tag, times.sub(times.now(), began) / times.hour])`,
	"daily":   `flow := import("flow"); context := import("context"); context.set("ran", context.get("ran", 0) + 1); if context.get("ran") < 4 { flow.dispatch({script: "daily", after: "24h"}) }`,
	"both":    `flow := import("flow"); flow.dispatch({script: "second", after: "2h"}); flow.dispatch({script: "first", after: "1h"})`,
	"first":   `import("context").set("first", true)`,
	"second":  `import("context").set("second", true)`,
	"ask":     `import("http").get("https://api.acme.dev/v1/thing", {then: "ends", catch: "ends"})`,
	"patient": `import("http").get("https://api.acme.dev/v1/thing", {timeout: "10m", then: "ends", catch: "ends"})`,
	"ends":    `job := import("job"); job.result(job.failure ? job.failure.type : data)`,
})

// TestAdvance: a month passes in no time.
func TestAdvance(t *testing.T) {
	t.Parallel()
	pool := thencetest.Start(t, thencetest.Config{Scripts: waiting})
	trial := pool.Dispatch(dispatcher.Job{Context: "cus_42", Script: "trial"})
	pool.Advance(719 * time.Hour)
	pool.Advance(time.Hour)
	flow := pool.Await(trial)
	flow.WantJobs("trial", "trial_ends")
	flow.WantResult(`["pro", "trial", 720]`)

	daily := pool.Dispatch(dispatcher.Job{Context: "cus_43", Script: "daily"})
	for range 3 {
		pool.Advance(24 * time.Hour)
	}
	pool.Await(daily).WantJobs("daily", "daily", "daily", "daily")

	both := pool.Dispatch(dispatcher.Job{Context: "cus_44", Script: "both"})
	pool.Advance(time.Hour)
	pool.Advance(0) // at rest again: the first has come, and the second has not
	var state map[string]bool
	if pool.State("cus_44", &state); !state["first"] || state["second"] {
		t.Errorf("after an hour: %v", state)
	}
	pool.Advance(time.Hour)
	pool.Await(both).WantJobs("both", "first", "second")
	if ahead := time.Until(pool.Now()); ahead < 794*time.Hour-time.Minute || ahead > 794*time.Hour+time.Minute {
		t.Errorf("the clock is %s ahead", ahead)
	}
}

// TestAdvanceCalls: calls time out, next tries are due, and pauses end.
func TestAdvanceCalls(t *testing.T) {
	t.Parallel()
	acme := thencetest.NewService(t, "acme", "https://api.acme.dev/v1")
	acme.Config.Attempts, acme.Config.Backoff, acme.Config.MaxWait = 2, time.Hour, time.Hour
	acme.On("GET /v1/thing").Hang().Answer(200, map[string]any{"n": 1})
	pool := thencetest.Start(t, thencetest.Config{Scripts: waiting, Services: []*thencetest.Service{acme}})
	asked := pool.Dispatch(dispatcher.Job{Context: "cus_42", Script: "ask"})
	pool.Advance(29 * time.Second)
	if n := len(acme.Requests()); n != 1 {
		t.Fatalf("%d requests, want 1", n)
	}
	pool.Advance(time.Second) // the service's time-out is 30s
	pool.Advance(time.Hour)   // and its back-off an hour
	pool.Await(asked).WantResult(`{"n": 1}`)
}

// TestAdvanceTimeout: a call times out for good, at the time that its script gave it.
func TestAdvanceTimeout(t *testing.T) {
	t.Parallel()
	acme := thencetest.NewService(t, "acme", "https://api.acme.dev/v1")
	acme.Config.Attempts = 1
	acme.On("GET /v1/thing").Hang()
	pool := thencetest.Start(t, thencetest.Config{Scripts: waiting, Services: []*thencetest.Service{acme}})
	asked := pool.Dispatch(dispatcher.Job{Context: "cus_42", Script: "patient"})
	pool.Advance(9 * time.Minute)
	pool.Advance(time.Minute)
	pool.Await(asked).WantResult(`"timeout"`)
}

// TestAdvancePause: an API that asked to be left alone for an hour is asked again after it.
func TestAdvancePause(t *testing.T) {
	t.Parallel()
	acme := thencetest.NewService(t, "acme", "https://api.acme.dev/v1")
	acme.On("GET /v1/thing").Do(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	}).Answer(200, map[string]any{"n": 1})
	pool := thencetest.Start(t, thencetest.Config{Scripts: waiting, Services: []*thencetest.Service{acme}})
	asked := pool.Dispatch(dispatcher.Job{Context: "cus_42", Script: "ask"})
	pool.Advance(59 * time.Minute)
	pool.Advance(time.Minute)
	pool.Await(asked).WantResult(`{"n": 1}`)
}

// TestAdvanceDeadline: a job that has not begun by its deadline is dead.
func TestAdvanceDeadline(t *testing.T) {
	t.Parallel()
	pool := thencetest.Start(t, thencetest.Config{Scripts: waiting})
	pool.Advance(time.Hour)
	late := pool.Await(pool.Dispatch(dispatcher.Job{Context: "cus_42", Script: "first", Deadline: time.Now().Add(30 * time.Minute)}))
	if late.Err == nil || late.Err.Reason != "deadline" {
		t.Errorf("got %v, want the deadline", late.Err)
	}
	pool.Run("cus_42", "first", nil)
}
