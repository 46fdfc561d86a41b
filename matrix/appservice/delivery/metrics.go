package delivery

import "github.com/prometheus/client_golang/prometheus"

// metrics count what is sent to services.
type metrics struct {
	sent     *prometheus.CounterVec
	failures *prometheus.CounterVec
	backlog  *prometheus.Desc
	age      *prometheus.Desc
}

func newMetrics() metrics {
	of := []string{"service"}
	return metrics{
		sent:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homeserver_appservice_events_total", Help: "Events that an application service has taken."}, of),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homeserver_appservice_failures_total", Help: "Transactions that an application service did not take when they were sent."}, of),
		backlog:  prometheus.NewDesc("homeserver_appservice_backlog_events", "Events that an application service has not taken yet.", of, nil),
		age:      prometheus.NewDesc("homeserver_appservice_backlog_seconds", "How long the oldest transaction has been waiting for an application service.", of, nil),
	}
}

func (m *metrics) drop(id string) {
	m.sent.DeleteLabelValues(id)
	m.failures.DeleteLabelValues(id)
}

// Describe is that of prometheus.Collector.
func (d *Delivery) Describe(c chan<- *prometheus.Desc) {
	d.metrics.sent.Describe(c)
	d.metrics.failures.Describe(c)
	c <- d.metrics.backlog
	c <- d.metrics.age
}

// Collect is that of prometheus.Collector.
func (d *Delivery) Collect(c chan<- prometheus.Metric) {
	d.metrics.sent.Collect(c)
	d.metrics.failures.Collect(c)
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, s := range d.senders {
		c <- prometheus.MustNewConstMetric(d.metrics.backlog, prometheus.GaugeValue, float64(s.backlog.Load()), id)
		age := 0.0
		if since := s.since.Load(); since != 0 {
			age = max(0, float64(d.c.Now().UnixMilli()-since)/1000)
		}
		c <- prometheus.MustNewConstMetric(d.metrics.age, prometheus.GaugeValue, age, id)
	}
}
