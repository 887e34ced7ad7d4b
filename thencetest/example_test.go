package thencetest_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/thencetest"
)

// order has a script that calls an API, and two that take what comes back.
var order = thencetest.Scripts(map[string]string{
	"order": `
http := import("http")
http.post("https://api.acme.dev/orders", {json: {amount: data.amount}, then: "order_accepted", catch: "order_failed"})`,
	"order_accepted": `
context := import("context")
job := import("job")
context.set("order_id", data.id)
job.result("accepted")`,
	"order_failed": `
job := import("job")
job.result("failed: " + job.failure.type)`,
})

// program stands in for the *testing.T of a test, as an example has none.
type program struct{ ends []func() }

func (p *program) Helper()                      {}
func (p *program) Context() context.Context     { return context.Background() }
func (p *program) Cleanup(end func())           { p.ends = append(p.ends, end) }
func (p *program) Errorf(s string, args ...any) { fmt.Printf(s+"\n", args...) }
func (p *program) Fatalf(s string, args ...any) { panic(fmt.Sprintf(s, args...)) }

func (p *program) TempDir() string {
	dir, err := os.MkdirTemp("", "thencetest-")
	if err != nil {
		panic(err)
	}
	p.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (p *program) end() {
	for i := len(p.ends) - 1; i >= 0; i-- {
		p.ends[i]()
	}
}

// A whole flow: a server, a worker, and an API that is down once.
func Example() {
	t := &program{} // in a test: the *testing.T
	defer t.end()

	acme := thencetest.NewService(t, "acme", "https://api.acme.dev")
	acme.On("POST /orders").Answer(503, nil).Answer(201, `{"id": "ord_1"}`)
	pool := thencetest.Start(t, thencetest.Config{Scripts: order, Services: []*thencetest.Service{acme}})

	flow := pool.Run("cus_42", "order", map[string]any{"amount": 2000})
	flow.WantJobs("order", "order_accepted")
	fmt.Println(string(flow.State), string(flow.Result()))
	for _, request := range acme.Requests() {
		fmt.Println(request.Method, request.Path, request.Body, request.Key == acme.Requests()[0].Key)
	}
	// Output:
	// {"order_id":"ord_1"} "accepted"
	// POST /orders {"amount":2000} true
	// POST /orders {"amount":2000} true
}

// One script after the other, without a server.
func ExampleRun() {
	t := &program{} // in a test: the *testing.T
	defer t.end()

	out := thencetest.Run(t, thencetest.Job{Scripts: order, Script: "order", Data: thencetest.JSON(`{"amount": 2000}`)})
	fmt.Println(out.Calls[0].Method, out.Calls[0].URL, string(out.Calls[0].Body))

	accepted := out.Answer(0, `{"id": "ord_1"}`)
	fmt.Println(string(accepted.State), string(accepted.Result))

	failed := out.Fail(0, thencetest.Failure{Type: "http_error", Status: 422})
	fmt.Println(string(failed.State), string(failed.Result))
	// Output:
	// POST https://api.acme.dev/orders {"amount":2000}
	// {"order_id":"ord_1"} "accepted"
	// {} "failed: http_error"
}

// A month in which nothing happens.
func ExamplePool_Advance() {
	t := &program{} // in a test: the *testing.T
	defer t.end()

	pool := thencetest.Start(t, thencetest.Config{Scripts: thencetest.Scripts(map[string]string{
		"begin_trial": `
flow := import("flow")
flow.dispatch({script: "trial_ends", after: "720h"})`,
		"trial_ends": `
context := import("context")
context.set("plan", "none")`,
	})})

	trial := pool.Dispatch(dispatcher.Job{Context: "cus_42", Script: "begin_trial"})
	pool.Advance(30 * 24 * time.Hour)
	flow := pool.Await(trial)
	flow.WantJobs("begin_trial", "trial_ends")
	fmt.Println(string(flow.State))
	// Output:
	// {"plan":"none"}
}
