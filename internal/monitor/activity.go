package monitor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// activity counts what a worker does: it is a worker's Observer.
type activity struct {
	jobs     *prometheus.CounterVec
	waited   prometheus.Histogram
	took     prometheus.Histogram
	commits  *prometheus.CounterVec
	tries    *prometheus.CounterVec
	tryTook  *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	waits    prometheus.Counter
	waiting  prometheus.Gauge
}

// Buckets, in seconds. A job's script may run for a second unless told otherwise, and is mostly done within
// milliseconds; a try of a call may take 30 seconds; a job may wait in a backlog for as long as there is one.
var (
	jobBuckets  = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	callBuckets = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	waitBuckets = []float64{.001, .005, .025, .1, .5, 1, 5, 15, 60, 300, 900, 3600, 14400}
)

func newActivity() activity {
	return activity{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "thence_jobs_total", Help: "Jobs that this worker ended, by outcome, and dead letters by reason as well.",
		}, []string{"outcome", "reason"}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "thence_job_wait_seconds", Help: "Time from when a job was published until it was begun.", Buckets: waitBuckets,
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "thence_job_duration_seconds", Help: "Time that a job took once it was begun: its script and the wait for a child to run it.", Buckets: jobBuckets,
		}),
		commits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "thence_commits_total", Help: "Writes to contexts, by result: stored, conflict (another worker was first), unknown (refused or not answered).",
		}, []string{"result"}),
		tries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "thence_call_tries_total", Help: "Tries of calls, by outcome: answered, retry, given_back, or the type of the final failure.",
		}, []string{"service", "outcome"}),
		tryTook: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "thence_call_try_duration_seconds", Help: "Time that a try of a call took.", Buckets: callBuckets,
		}, []string{"service"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "thence_calls_in_flight", Help: "Tries of calls that this worker has under way.",
		}, []string{"service"}),
		waits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "thence_outbox_waits_total", Help: "Times that a context's effects could not be published at once.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "thence_outboxes_waiting", Help: "Contexts that wait because their effects can't be published.",
		}),
	}
}

func (a *activity) register(r prometheus.Registerer) {
	r.MustRegister(a.jobs, a.waited, a.took, a.commits, a.tries, a.tryTook, a.inFlight, a.waits, a.waiting)
	a.jobs.WithLabelValues("done", "") // what has not happened yet is 0, not missing: rate() sees the first one
	for _, result := range []string{"stored", "conflict", "unknown"} {
		a.commits.WithLabelValues(result)
	}
}

// JobEnded implements worker.Observer.
func (a *activity) JobEnded(outcome, reason string, waited, took time.Duration) {
	a.jobs.WithLabelValues(outcome, reason).Inc()
	a.waited.Observe(waited.Seconds())
	a.took.Observe(took.Seconds())
}

// CommitTried implements worker.Observer.
func (a *activity) CommitTried(result string) { a.commits.WithLabelValues(result).Inc() }

// OutboxWaits implements worker.Observer.
func (a *activity) OutboxWaits() (ended func()) {
	a.waits.Inc()
	a.waiting.Inc()
	return a.waiting.Dec
}

// CallSent implements worker.Observer.
func (a *activity) CallSent(service string) (ended func(outcome string)) {
	began, inFlight := time.Now(), a.inFlight.WithLabelValues(service)
	inFlight.Inc()
	return func(outcome string) {
		inFlight.Dec()
		a.tries.WithLabelValues(service, outcome).Inc()
		a.tryTook.WithLabelValues(service).Observe(time.Since(began).Seconds())
	}
}
