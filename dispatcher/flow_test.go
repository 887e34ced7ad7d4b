package dispatcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/operator"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/thencetest"
)

// flowRig is a pool with a worker, whose scripts call an API at https://api.acme.dev.
type flowRig struct {
	*dispatcher.Dispatcher
	*testing.T
	nc  *nats.Conn
	ctx context.Context //nolint:containedctx // a test's own
}

func newFlowRig(t *testing.T, answer http.HandlerFunc, scripts map[string]string) *flowRig {
	t.Helper()
	acme := thencetest.NewService(t, "acme", "https://api.acme.dev")
	acme.On("/").Do(answer)
	nc := thencetest.Start(t, thencetest.Config{Scripts: thencetest.Scripts(scripts), Services: []*thencetest.Service{acme}}).Conn()
	d := must(dispatcher.New(nc, dispatcher.Config{Worker: "test", Context: "cus_42"}))(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return &flowRig{d, t, nc, ctx}
}

// begin dispatches the script first.
func (r *flowRig) begin() dispatcher.Receipt {
	r.Helper()
	return must(r.Dispatch(r.ctx, dispatcher.Job{Script: "first"}))(r)
}

// await awaits the flow, and returns what its jobs ran, in order.
func (r *flowRig) await(receipt dispatcher.Receipt) (dispatcher.Flow, string, error) {
	r.Helper()
	var seen []string
	flow, err := r.AwaitFlow(r.ctx, receipt, func(report dispatcher.Report) {
		seen = append(seen, strings.TrimSpace(report.Script+" "+report.Failed)+":"+string(report.Status))
	})
	equal(r, "jobs that were reported", len(seen), len(flow.Jobs))
	return flow, strings.Join(seen, " "), err
}

func echo(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/refuse" {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	_, _ = w.Write([]byte(`{"path": "` + r.URL.Path + `"}`))
}

const callTwice = `
http := import("http")
http.get("https://api.acme.dev/one", {then: "answered", catch: "refused"})
http.get("https://api.acme.dev/two", {then: "answered", catch: "refused"})`

const answered = `
context := import("context"); flow := import("flow"); job := import("job")
n := context.get("n", 0) + 1
context.set("n", n)
job.result(n)
if n == 2 { flow.dispatch({script: "last", data: {n: n}}) }`

func TestAwaitFlow(t *testing.T) {
	t.Parallel()
	r := newFlowRig(t, echo, map[string]string{
		"first": callTwice, "answered": answered, "refused": `import("job").result("refused")`,
		"last": `import("flow").dispatch({context: "elsewhere", script: "refused"}); import("job").result("done")`,
	})
	flow, jobs, err := r.await(r.begin())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "jobs", jobs, "first:done answered:done answered:done last:done")
	equal(t, "result", string(flow.Result()), `"done"`)
	var state struct{ N int }
	if err := json.Unmarshal(flow.State, &state); err != nil || state.N != 2 {
		t.Errorf("state %s (%v)", flow.State, err)
	}
	equal(t, "revision", flow.Revision, flow.Jobs[3].Revision)

	// A flow that has ended before it is awaited is there at once.
	again, err := r.AwaitFlow(r.ctx, dispatcher.Receipt{ID: "x", Worker: "test", Context: "cus_42", Sequence: flow.Jobs[0].Sequence}, nil)
	if err != nil || len(again.Jobs) != 4 {
		t.Errorf("awaited again: %d jobs, %v", len(again.Jobs), err)
	}
}

func TestAwaitFlowThatFails(t *testing.T) {
	t.Parallel()
	r := newFlowRig(t, echo, map[string]string{
		"first":   `import("http").get("https://api.acme.dev/one", {then: "breaks", catch: "refused"})`,
		"breaks":  `x := [1][0] + undefined`,
		"refused": `import("http").get("https://api.acme.dev/refuse", {then: "breaks", catch: "ends"})`,
		"ends":    `import("job").result("given up")`,
	})
	flow, jobs, err := r.await(r.begin())
	var dead *dispatcher.JobError
	if !errors.As(err, &dead) {
		t.Fatalf("got %v, want the dead job's error", err)
	}
	equal(t, "the job in the middle that failed", dead.Script, "breaks")
	equal(t, "jobs", jobs, "first:done breaks:dead refused script_error:done ends http_error:done")
	equal(t, "result", string(flow.Result()), `"given up"`)
}

func TestAwaitFlowGivesUp(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}), make(chan struct{})
	r := newFlowRig(t, func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-release
	}, map[string]string{
		"first": `import("http").get("https://api.acme.dev/slow", {then: "first", catch: "first"})`,
	})
	t.Cleanup(func() { close(release) })
	receipt := r.begin()
	<-asked
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	_, err := r.AwaitFlow(ctx, receipt, func(dispatcher.Report) { cancel() })
	var open *dispatcher.OpenError
	if !errors.As(err, &open) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if len(open.Waits) != 1 || !strings.HasPrefix(open.Waits[0], "the answer of call ") {
		t.Errorf("waits for %q", open.Waits)
	}

	// Its only call is cancelled by an operator: nothing is left.
	wait := make(chan error, 1)
	go func() {
		_, err := r.AwaitFlow(r.ctx, receipt, nil)
		wait <- err
	}()
	if _, err := must(operator.New(must(stream.Open(r.nc, "test"))(t), "ada"))(t).Cancel(r.ctx, "cus_42", nil); err != nil {
		t.Fatal(err)
	}
	if err := <-wait; err != nil {
		t.Error(err)
	}
}

// TestAwaitFlowWithoutAWorker says that the job has not run; and that it waits for an operator when the context is held.
func TestAwaitFlowWithoutAWorker(t *testing.T) {
	t.Parallel()
	h := &history{rig: newRig(t), name: "cus_42"}
	receipt := must(h.Dispatch(h.ctx, dispatcher.Job{Source: "x := 1"}))(t)
	opens := func(want string) {
		t.Helper()
		var err error
		for wait := 200 * time.Millisecond; wait < 10*time.Second; wait *= 2 { // on a busy machine it may have seen nothing yet
			ctx, cancel := context.WithTimeout(h.ctx, wait)
			_, err = h.AwaitFlow(ctx, receipt, nil)
			cancel()
			if err == nil || strings.Contains(err.Error(), want) {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	opens("its job " + receipt.ID + ", which has not run: is a worker of pool payments running?")

	if err := must(operator.New(h.pool, "ada"))(t).Pause(h.ctx, "cus_42", "wrong price"); err != nil {
		t.Fatal(err)
	}
	opens("its job " + receipt.ID + ", which has not run; an operator: the context is held since ")

	repeat := must(h.Dispatch(h.ctx, dispatcher.Job{ID: receipt.ID, Context: "cus_43", Source: "x := 1"}))(t)
	ctx, cancel := context.WithCancel(h.ctx)
	cancel()
	if _, err := h.AwaitFlow(ctx, repeat, nil); err == nil || !strings.Contains(err.Error(), "its id was taken") {
		t.Errorf("got %v, want that the id may be of a job of another context", err)
	}

	// The job took effect, and another stands behind it.
	c := job.Commit{Version: job.Version, State: json.RawMessage(`{}`), Applied: receipt.Sequence, Report: job.Report{
		Job: receipt.ID, Sequence: receipt.Sequence, Outcome: job.OutcomeDone}}
	entry := must(h.pool.Context(h.ctx, "cus_42"))(t)
	h.revision = must(h.pool.Commit(h.ctx, "cus_42", must(job.Encode(c))(t), entry.Base()))(t)
	behind := must(h.Dispatch(h.ctx, dispatcher.Job{Source: "x := 2"}))(t)
	opens(fmt.Sprintf("job %d on its subject", behind.Sequence))
}

func TestAwaitFlowOfADeletedContext(t *testing.T) {
	t.Parallel()
	h := &history{rig: newRig(t), name: "cus_42"}
	h.commit(job.Report{Job: "job-1", Sequence: 1, Outcome: job.OutcomeDone})
	wait := make(chan error, 1)
	seen := make(chan struct{})
	go func() {
		_, err := h.AwaitFlow(h.ctx, h.receipt(2), func(dispatcher.Report) { close(seen) })
		wait <- err
	}()
	open := job.Commit{Version: job.Version, State: json.RawMessage(`{}`), Applied: 2, Calls: map[string]job.OpenCall{"2-0": {Service: "stripe"}},
		Report: job.Report{Job: "job-2", Sequence: 2, Outcome: job.OutcomeDone}}
	must(h.pool.Commit(h.ctx, "cus_42", must(job.Encode(open))(t), stream.Base{Revision: h.revision}))(t)
	<-seen
	deleted := job.Message{Subject: "$KV.payments.cus_42", Header: map[string][]string{"KV-Operation": {"DEL"}}}
	if err := h.pool.Publish(h.ctx, deleted); err != nil {
		t.Fatal(err)
	}
	if err := <-wait; !errors.Is(err, dispatcher.ErrDeleted) {
		t.Errorf("got %v", err)
	}
}
