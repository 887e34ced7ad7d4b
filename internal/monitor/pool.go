package monitor

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// poolCollector asks the server at each scrape what the pool's streams hold. A server that does not answer costs these
// metrics and no others: thence_pool_answered is 0 then.
type poolCollector struct {
	monitor *Monitor
	streams map[string]string // what is said of a stream, by its name
}

func newPoolCollector(m *Monitor, pool string) *poolCollector {
	return &poolCollector{m, map[string]string{
		job.JobsStream(pool): "jobs", job.CallsStream(pool): "calls", job.DeadStream(pool): "dead_letters", job.ContextsStream(pool): "contexts",
	}}
}

// askFor bounds the asking: a scrape mostly may take 10 seconds.
const askFor = 3 * time.Second

var (
	poolAnswered = prometheus.NewDesc("thence_pool_answered", "1 when the server told what the pool's streams hold, else 0.", nil, nil)

	streamMessages = prometheus.NewDesc("thence_stream_messages", "Messages that a stream of the pool holds: jobs, calls, dead_letters or contexts.", []string{"stream"}, nil)
	streamBytes    = prometheus.NewDesc("thence_stream_bytes", "Bytes that a stream of the pool holds.", []string{"stream"}, nil)
	streamLimit    = prometheus.NewDesc("thence_stream_limit_bytes", "Bytes that a stream of the pool may hold.", []string{"stream"}, nil)

	consumerPending  = prometheus.NewDesc("thence_consumer_pending", "Messages that wait to be handed to a worker: of workers jobs, of call_NAME calls to the service of that name.", []string{"consumer"}, nil)
	consumerInFlight = prometheus.NewDesc("thence_consumer_in_flight", "Messages that are handed to workers and not ended.", []string{"consumer"}, nil)
	consumerPulls    = prometheus.NewDesc("thence_consumer_waiting_pulls", "Requests of workers that wait for a message; 0 when no worker takes any.", []string{"consumer"}, nil)
	consumerPaused   = prometheus.NewDesc("thence_consumer_paused_seconds", "How long a consumer stays paused; 0: it is not.", []string{"consumer"}, nil)
)

// Describe implements [prometheus.Collector].
func (c *poolCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		poolAnswered, streamMessages, streamBytes, streamLimit, consumerPending, consumerInFlight, consumerPulls, consumerPaused,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *poolCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	parts, err := c.ask()
	if err != nil || parts == nil {
		gauge(poolAnswered, 0)
		return
	}
	gauge(poolAnswered, 1)
	for _, part := range parts {
		name, ours := c.streams[part.Name]
		if !ours || part.Missing {
			continue
		}
		gauge(streamMessages, float64(part.Messages), name)
		gauge(streamBytes, float64(part.Bytes), name)
		gauge(streamLimit, float64(part.Bound), name)
		for _, consumer := range part.Consumers {
			gauge(consumerPending, float64(consumer.Pending), consumer.Name)
			gauge(consumerInFlight, float64(consumer.AckPending), consumer.Name)
			gauge(consumerPulls, float64(consumer.Waiting), consumer.Name)
			gauge(consumerPaused, consumer.PausedFor.Seconds(), consumer.Name)
		}
	}
}

func (c *poolCollector) ask() ([]stream.Part, error) {
	source := c.monitor.source.Load()
	if source == nil || !source.Connected() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askFor)
	defer cancel()
	return source.Inspect(ctx)
}
