package monitor

import "github.com/prometheus/client_golang/prometheus"

// sandboxCollector reads the sandbox's own counts at each scrape.
type sandboxCollector struct{ monitor *Monitor }

var (
	sandboxProcesses = prometheus.NewDesc("thence_sandbox_processes", "Child processes that are ready to run scripts.", nil, nil)
	sandboxWaiting   = prometheus.NewDesc("thence_sandbox_jobs_waiting", "Jobs that wait for a child process to run their script.", nil, nil)
	sandboxStarts    = prometheus.NewDesc("thence_sandbox_starts_total", "Child processes that were started, the first ones and those that replaced others.", nil, nil)
	sandboxKills     = prometheus.NewDesc("thence_sandbox_kills_total", "Child processes that a script ended, by what it did.", []string{"reason"}, nil)
	sandboxRefused   = prometheus.NewDesc("thence_sandbox_refused_total", "Jobs that were not run, as their script or their caller had ended child processes before.", nil, nil)
	sandboxBusy      = prometheus.NewDesc("thence_sandbox_busy_total", "Times that the queue of the sandbox was full.", nil, nil)
	sandboxWait      = prometheus.NewDesc("thence_sandbox_wait_seconds_total", "Time that jobs waited for a child process, of all jobs together.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (c *sandboxCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sandboxProcesses, sandboxWaiting, sandboxStarts, sandboxKills, sandboxRefused, sandboxBusy, sandboxWait} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *sandboxCollector) Collect(ch chan<- prometheus.Metric) {
	source := c.monitor.source.Load()
	if source == nil {
		return
	}
	s, ok := source.Sandbox()
	if !ok {
		return
	}
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	send(sandboxProcesses, prometheus.GaugeValue, float64(s.Processes))
	send(sandboxWaiting, prometheus.GaugeValue, float64(s.Waiting))
	send(sandboxStarts, prometheus.CounterValue, float64(s.Started))
	send(sandboxRefused, prometheus.CounterValue, float64(s.Refused))
	send(sandboxBusy, prometheus.CounterValue, float64(s.Busy))
	send(sandboxWait, prometheus.CounterValue, s.Wait.Seconds())
	for reason, n := range s.Killed {
		send(sandboxKills, prometheus.CounterValue, float64(n), string(reason))
	}
}
