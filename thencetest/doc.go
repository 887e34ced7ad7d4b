// Package thencetest tests scripts and flows in Go.
//
// [Run] runs one script, without a server: it gives the script its data and state, and returns what it left behind, the
// state, the result, the calls and jobs that it asked for. [Outcome.Answer] and [Outcome.Fail] go on with what a call
// would bring back, so that a whole flow can be followed by hand:
//
//	out := thencetest.Run(t, thencetest.Job{Script: "new_customer", Scripts: os.DirFS("scripts"), Data: order})
//	out = out.Answer(0, `{"id": "cus_1"}`)
//	out.WantState(`{"customer_id": "cus_1", "status": "paying"}`)
//
// [Start] starts all that a flow needs in the test's process: a NATS server on a folder of its own, a worker pool with a
// worker, and the APIs that its scripts call. [Pool.Run] dispatches a job, waits for the whole flow, and fails the test
// when a job of it becomes a dead letter:
//
//	func TestOrder(t *testing.T) {
//		acme := thencetest.NewService(t, "acme", "https://api.acme.dev")
//		acme.On("POST /orders").Answer(503, nil).Answer(201, `{"id": "ord_1"}`)
//		pool := thencetest.Start(t, thencetest.Config{Scripts: os.DirFS("scripts"), Services: []*thencetest.Service{acme}})
//
//		flow := pool.Run("cus_42", "order", map[string]any{"amount": 2000})
//		flow.WantState(`{"order_id": "ord_1"}`)
//		flow.WantJobs("order", "order_accepted")
//	}
//
// Everything ends with the test. Nothing leaves the machine: URLs that no service of the test owns can't be called, and
// Stripe is an imitation unless the test brings a service of that name ([NewStripe] has the imitation's requests).
// Secrets have made-up values.
//
// # What is real
//
// The server, the worker, its commits and its calls over HTTP are those of production. Scripts run in the test's
// process, not in the sandbox: the limits that bound a run hold, but a script that is out to end its process ends the
// test.
//
// # Time
//
// With [Run] a script's clock is its job's time, which [Job] sets; [Outcome.Fire] goes on when a timer is due.
//
// A pool has a clock that a test turns: [Pool.Advance] lets a month pass without waiting for it.
//
//	trial := pool.Dispatch(dispatcher.Job{Context: "cus_42", Script: "begin_trial"})
//	pool.Advance(30 * 24 * time.Hour)
//	pool.Await(trial).WantJobs("begin_trial", "trial_ends")
//
// Timers of scripts, time-outs of calls that [Route.Hang], next tries, Retry-After and the deadlines of jobs go by it. Else
// it runs as any clock. So services are declared here with a back-off of a millisecond: a next try then takes what the
// server's timer takes, a quarter of a second, whatever back-off production has.
package thencetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
)

// TB is the part of testing.TB that the package uses.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	TempDir() string
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// JSON is data that is given as it stands.
type JSON = json.RawMessage

// encode is v as JSON; nil for nil.
func encode(t TB, what string, v any) []byte {
	t.Helper()
	if v == nil {
		return nil
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("thencetest: %s: %v", what, err)
	}
	return encoded
}

// wantJSON compares by value: the order of keys and the space between them don't count.
func wantJSON(t TB, what string, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("thencetest: the %s that is wanted is no JSON: %v\n%s", what, err, want)
	}
	if len(got) > 0 {
		if err := json.Unmarshal(got, &g); err != nil {
			t.Fatalf("thencetest: the %s is no JSON: %v\n%s", what, err, got)
		}
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, indented(got), indented([]byte(want)))
	}
}

func indented(raw []byte) string {
	var b bytes.Buffer
	if len(raw) == 0 || json.Indent(&b, raw, "  ", "  ") != nil {
		return fmt.Sprintf("  none %s", raw)
	}
	return "  " + b.String()
}
