package monitor

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox"
	"github.com/thence-dev/thence/worker"
)

var _ worker.Observer = (*Monitor)(nil)

// worked is a monitor of a worker that has done something of everything.
func worked(t *testing.T) (*Monitor, chan struct{}) {
	t.Helper()
	m := New("payments", map[string]string{"thence": "v1.2.3", "go": "go1.26", "tengo": "v2.17.0", "nats.go": "v1.55.0"})
	ready := make(chan struct{})
	m.Watch(Source{
		Ready: ready, Connected: func() bool { return true },
		Sandbox: func() (sandbox.Stats, bool) {
			return sandbox.Stats{Processes: 3, Waiting: 4, Started: 5, Refused: 1, Killed: map[scripting.ErrorKind]uint64{"memory_limit": 2}, Wait: 1500 * time.Millisecond}, true
		},
		Inspect: func(context.Context) ([]stream.Part, error) {
			return []stream.Part{
				{Name: "JOBS_payments", Messages: 7, Bytes: 700, Bound: 1000, Consumers: []stream.Consumer{{Name: "workers", Pending: 6, AckPending: 1, Waiting: 2}}},
				{Name: "CALLS_payments", Consumers: []stream.Consumer{{Name: "call_stripe", PausedFor: time.Minute}}},
				{Name: "KV_thence-keys", Messages: 1}, {Name: "DEAD_payments", Missing: true},
			}, nil
		},
	})
	m.JobEnded("done", "", 20*time.Millisecond, time.Millisecond)
	m.JobEnded("dead", "runtime", time.Second, time.Millisecond)
	m.CommitTried("stored")
	m.CommitTried("conflict")
	m.CallSent("stripe")("answered")
	m.CallSent("stripe") // under way
	m.OutboxWaits()()
	m.OutboxWaits()
	return m, ready
}

func TestMetrics(t *testing.T) {
	m, ready := worked(t)
	close(ready)
	want := `
# HELP thence_build_info 1; the labels are what this worker was built from.
# TYPE thence_build_info gauge
thence_build_info{goversion="go1.26",nats_go="v1.55.0",pool="payments",tengo="v2.17.0",version="v1.2.3"} 1
# HELP thence_call_tries_total Tries of calls, by outcome: answered, retry, given_back, or the type of the final failure.
# TYPE thence_call_tries_total counter
thence_call_tries_total{outcome="answered",pool="payments",service="stripe"} 1
# HELP thence_calls_in_flight Tries of calls that this worker has under way.
# TYPE thence_calls_in_flight gauge
thence_calls_in_flight{pool="payments",service="stripe"} 1
# HELP thence_commits_total Writes to contexts, by result: stored, conflict (another worker was first), unknown (refused or not answered).
# TYPE thence_commits_total counter
thence_commits_total{pool="payments",result="conflict"} 1
thence_commits_total{pool="payments",result="stored"} 1
thence_commits_total{pool="payments",result="unknown"} 0
# HELP thence_consumer_paused_seconds How long a consumer stays paused; 0: it is not.
# TYPE thence_consumer_paused_seconds gauge
thence_consumer_paused_seconds{consumer="call_stripe",pool="payments"} 60
thence_consumer_paused_seconds{consumer="workers",pool="payments"} 0
# HELP thence_consumer_pending Messages that wait to be handed to a worker: of workers jobs, of call_NAME calls to the service of that name.
# TYPE thence_consumer_pending gauge
thence_consumer_pending{consumer="call_stripe",pool="payments"} 0
thence_consumer_pending{consumer="workers",pool="payments"} 6
# HELP thence_jobs_total Jobs that this worker ended, by outcome, and dead letters by reason as well.
# TYPE thence_jobs_total counter
thence_jobs_total{outcome="dead",pool="payments",reason="runtime"} 1
thence_jobs_total{outcome="done",pool="payments",reason=""} 1
# HELP thence_outboxes_waiting Contexts that wait because their effects can't be published.
# TYPE thence_outboxes_waiting gauge
thence_outboxes_waiting{pool="payments"} 1
# HELP thence_outbox_waits_total Times that a context's effects could not be published at once.
# TYPE thence_outbox_waits_total counter
thence_outbox_waits_total{pool="payments"} 2
# HELP thence_ready 1 while this worker takes jobs, as /readyz has it.
# TYPE thence_ready gauge
thence_ready{pool="payments"} 1
# HELP thence_sandbox_kills_total Child processes that a script ended, by what it did.
# TYPE thence_sandbox_kills_total counter
thence_sandbox_kills_total{pool="payments",reason="memory_limit"} 2
# HELP thence_stream_messages Messages that a stream of the pool holds: jobs, calls, dead_letters or contexts.
# TYPE thence_stream_messages gauge
thence_stream_messages{pool="payments",stream="calls"} 0
thence_stream_messages{pool="payments",stream="jobs"} 7
`
	var names []string
	for line := range strings.Lines(want) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			names = append(names, strings.Fields(rest)[0])
		}
	}
	if err := testutil.GatherAndCompare(m.registry, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

// The names, types and help texts are those that promtool check metrics accepts.
func TestMetricsLint(t *testing.T) {
	m, ready := worked(t)
	close(ready)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsWithoutServer(t *testing.T) {
	m, _ := worked(t)
	s := *m.source.Load()
	s.Inspect = func(context.Context) ([]stream.Part, error) { return nil, errors.New("no answer") }
	m.Watch(s)
	status, body := get(t, m, "/metrics")
	if status != http.StatusOK || !strings.Contains(body, `thence_pool_answered{pool="payments"} 0`) || !strings.Contains(body, "thence_jobs_total") {
		t.Errorf("status %d:\n%s", status, body)
	}
	if strings.Contains(body, "thence_stream_messages") {
		t.Error("numbers are shown that nobody told")
	}
}

func TestProbes(t *testing.T) {
	m, ready := worked(t)
	connected := true
	s := *m.source.Load()
	s.Connected = func() bool { return connected }
	expect := func(status int, line string) {
		t.Helper()
		if got, body := get(t, m, "/readyz"); got != status || strings.TrimSpace(body) != line {
			t.Errorf("readyz: %d %q, want %d %q", got, body, status, line)
		}
		if got, body := get(t, m, "/healthz"); got != http.StatusOK {
			t.Errorf("healthz: %d %q", got, body)
		}
	}
	m.source.Store(nil)
	expect(http.StatusServiceUnavailable, "the worker waits for NATS")
	m.Watch(s)
	expect(http.StatusServiceUnavailable, "the worker is setting up its pool")
	close(ready)
	expect(http.StatusOK, "ready")
	connected = false
	expect(http.StatusServiceUnavailable, "NATS is away")
	connected = true
	m.Drain()
	expect(http.StatusServiceUnavailable, "the worker is stopping")
}

func get(t *testing.T, m *Monitor, path string) (status int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}
