package node

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// metrics are what the node counts.
type metrics struct {
	connections prometheus.Gauge
	refused     *prometheus.CounterVec
	readNow     prometheus.Counter
	readLater   prometheus.Counter
	readTimes   prometheus.Histogram
	writes      *prometheus.CounterVec
	writeTimes  prometheus.Histogram
	messages    *prometheus.CounterVec
	sent        prometheus.Counter
	received    prometheus.Counter
	dropped     prometheus.Counter
	failed      prometheus.Gauge
	syncs       prometheus.Histogram
	entries     prometheus.Histogram
	copied      prometheus.Counter
}

// stale counts a message that is of before, on which the replica does not act.
func (r *runner) stale(m *replica.Message) {
	switch {
	case m.To != r.node.config.Self:
		r.node.metrics.refused.WithLabelValues("incarnation").Inc()
	case m.Epoch < r.config.Epoch && m.Kind != replica.KindRefused:
		r.node.metrics.refused.WithLabelValues("epoch").Inc()
	}
}

// answerBuckets are from 5 microseconds to 5 seconds.
var answerBuckets = prometheus.ExponentialBuckets(0.000005, 2, 21)

// sampled is of how many reads one is measured: the clock would be a good part of what a read costs.
const sampled = 16

// begun is when a read arrived, if it is measured; 0: it is not.
func (s *session) begun() replica.Instant {
	if s.reads++; s.reads%sampled != 1 {
		return 0
	}
	return s.node.Now()
}

// readSince measures a read.
func (s *session) readSince(begun replica.Instant) {
	if begun > 0 {
		s.node.metrics.readTimes.Observe((s.node.Now() - begun).Seconds())
	}
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	const space, part = "orrery", "chain"
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: space, Subsystem: part, Name: name, Help: help}, labels)
	}
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: space, Subsystem: part, Name: "connections", Help: "Connections that clients and other nodes have to this node's replicas."}),
		refused:     counter("refused_total", "What was turned away: connections by certificate, frames that are corrupt or cut short, requests by role, messages by sender, and those of an older epoch or to an earlier incarnation of this node.", "why"),
		writes:      counter("writes_total", "Commands answered, by whether the outcome was known.", "outcome"),
		messages:    counter("messages_total", "Messages of replicas, sent and received.", "direction"),
		dropped:     prometheus.NewCounter(prometheus.CounterOpts{Namespace: space, Subsystem: part, Name: "messages_dropped_total", Help: "Messages to other nodes that were dropped because these do not take them; they are repeated."}),
		failed:      prometheus.NewGauge(prometheus.GaugeOpts{Namespace: space, Subsystem: part, Name: "replicas_failed", Help: "Replicas that were taken out because the disk returned an error. Somebody has to look at the disk."}),
		syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: space, Subsystem: part, Name: "sync_seconds", Help: "How long it took to make entries durable.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		entries: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: space, Subsystem: part, Name: "sync_entries", Help: "Entries that one sync made durable.", Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
		readTimes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: space, Subsystem: part, Name: "read_seconds", Buckets: answerBuckets,
			Help: "How long reads took, from the arrival of the request to the answer. One of sixteen on each connection is measured.",
		}),
		writeTimes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: space, Subsystem: part, Name: "write_seconds", Help: "How long commands took, from the arrival of the request to the answer.", Buckets: answerBuckets,
		}),
		copied: prometheus.NewCounter(prometheus.CounterOpts{Namespace: space, Subsystem: part, Name: "copied_bytes_total", Help: "Bytes of state sent to replicas that were too far behind."}),
	}
	reads := counter("reads_total", "Reads answered: at once, or after asking the tail or waiting.", "how")
	m.readNow, m.readLater = reads.WithLabelValues("now"), reads.WithLabelValues("later")
	m.sent, m.received = m.messages.WithLabelValues("sent"), m.messages.WithLabelValues("received")
	// So that they are there, as zeros, before the first event.
	for _, why := range []string{"certificate", "corrupt", "truncated", "role", "sender", "epoch", "incarnation"} {
		m.refused.WithLabelValues(why)
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.connections, m.refused, reads, m.readTimes, m.writes, m.writeTimes, m.messages, m.dropped, m.failed, m.syncs, m.entries, m.copied} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// outcomeOf is the label of a command's end.
func outcomeOf(err error) string {
	switch {
	case err == nil:
		return "known"
	case errors.Is(err, chain.ErrUnknown):
		return "unknown"
	}
	return "refused"
}
