package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count requests by what they ask.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	waiting  prometheus.Gauge
}

func newMetrics() metrics {
	return metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "homeserver_requests_total", Help: "Requests that were answered."}, []string{"request", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "homeserver_request_seconds", Help: "How long answers took, but for those that wait for something new.", Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10},
		}, []string{"request"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "homeserver_requests_under_way", Help: "Requests that are not answered yet."}),
	}
}

// Describe is that of prometheus.Collector.
func (a *API) Describe(c chan<- *prometheus.Desc) {
	a.metrics.requests.Describe(c)
	a.metrics.seconds.Describe(c)
	a.metrics.waiting.Describe(c)
}

// Collect is that of prometheus.Collector.
func (a *API) Collect(c chan<- prometheus.Metric) {
	a.metrics.requests.Collect(c)
	a.metrics.seconds.Collect(c)
	a.metrics.waiting.Collect(c)
}

// counting is a writer that notes the answer's status.
type counting struct {
	http.ResponseWriter

	status int
}

func (c *counting) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// measure serves a request of a route, and counts it.
func (a *API) measure(w http.ResponseWriter, r *http.Request) {
	c := &counting{w, http.StatusOK}
	a.metrics.waiting.Inc()
	begun := time.Now()
	defer func() {
		a.metrics.waiting.Dec()
		route := r.Pattern
		if route == "" {
			route = "/"
		}
		a.metrics.requests.WithLabelValues(route, strconv.Itoa(c.status)).Inc()
		if !strings.Contains(r.URL.RawQuery, "timeout=") {
			a.metrics.seconds.WithLabelValues(route).Observe(time.Since(begun).Seconds())
		}
	}()
	a.mux.ServeHTTP(c, r)
}
