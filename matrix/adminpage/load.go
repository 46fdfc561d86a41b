package adminpage

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// How often the server's load is looked at, and how much of it is remembered: half an hour.
const (
	loadInterval = 5 * time.Second
	loadSamples  = 360
)

// Sample is the load of a server in the time before a moment.
type Sample struct {
	Time      time.Time
	Requests  float64 // a second, as are messages
	Messages  float64
	Usual     float64 // seconds that half of the answers took at most, but for those that wait for something new
	Slow      float64 // that nearly all took at most: 99 of 100
	Waiting   int     // clients that wait for something new
	Memory    float64 // bytes
	Processor float64 // cores
}

// Load watches the load of a server.
type Load struct {
	from    prometheus.Gatherer
	waiting func() int
	now     func() time.Time

	mu      sync.Mutex
	last    counted
	samples []Sample
}

// NewLoad watches the metrics of a server, and how many clients wait.
func NewLoad(from prometheus.Gatherer, waiting func() int, now func() time.Time) *Load {
	return &Load{from: from, waiting: waiting, now: now}
}

// Run looks at the load until the context ends.
func (l *Load) Run(ctx context.Context) {
	tick := time.NewTicker(loadInterval)
	defer tick.Stop()
	for {
		l.Look()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Samples are those that are remembered, the oldest first.
func (l *Load) Samples() []Sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.samples)
}

// counted is what the server has counted since it began.
type counted struct {
	at        time.Time
	requests  float64
	messages  float64
	processor float64 // seconds
	memory    float64
	buckets   map[float64]float64 // answers that took at most so many seconds
}

// Look takes a sample.
func (l *Load) Look() {
	families, err := l.from.Gather()
	if err != nil && len(families) == 0 {
		return // the next one may succeed
	}
	c := tally(families)
	c.at = l.now()
	waiting := l.waiting()
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.last
	l.last = c
	seconds := c.at.Sub(before.at).Seconds()
	if before.at.IsZero() || seconds <= 0 {
		return
	}
	if len(l.samples) >= loadSamples {
		l.samples = slices.Delete(l.samples, 0, len(l.samples)-loadSamples+1)
	}
	l.samples = append(l.samples, Sample{
		Time: c.at, Requests: (c.requests - before.requests) / seconds, Messages: (c.messages - before.messages) / seconds, Usual: quantile(.5, before.buckets, c.buckets),
		Slow: quantile(.99, before.buckets, c.buckets), Waiting: waiting, Memory: c.memory, Processor: (c.processor - before.processor) / seconds,
	})
}

func tally(families []*dto.MetricFamily) counted {
	c := counted{buckets: map[float64]float64{}}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "homeserver_requests_total":
				c.requests += m.GetCounter().GetValue()
				if strings.Contains(label(m, "request"), "/send/{type}") {
					c.messages += m.GetCounter().GetValue()
				}
			case "homeserver_request_seconds":
				for _, b := range m.GetHistogram().GetBucket() {
					c.buckets[b.GetUpperBound()] += float64(b.GetCumulativeCount())
				}
				c.buckets[math.Inf(1)] += float64(m.GetHistogram().GetSampleCount())
			case "process_cpu_seconds_total":
				c.processor = m.GetCounter().GetValue()
			case "process_resident_memory_bytes":
				c.memory = m.GetGauge().GetValue()
			}
		}
	}
	return c
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// quantile is how long the given part of the answers between two counts took at most, as nearly as their buckets tell.
func quantile(part float64, before, after map[float64]float64) float64 {
	var bounds []float64
	for b := range after {
		bounds = append(bounds, b)
	}
	slices.Sort(bounds)
	total := after[math.Inf(1)] - before[math.Inf(1)]
	if total <= 0 {
		return 0
	}
	low, below := 0.0, 0.0
	for _, b := range bounds {
		n := after[b] - before[b]
		if n >= part*total {
			if math.IsInf(b, 1) {
				return low
			}
			return low + (b-low)*(part*total-below)/max(n-below, 1)
		}
		low, below = b, n
	}
	return low
}
