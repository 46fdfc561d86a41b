package embed

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"orrery/fabric/membership"
	"orrery/fabric/rpc"
)

// refusals count what the node turned away.
type refusals struct {
	rpc    *prometheus.CounterVec
	gossip prometheus.Counter
}

func (r refusals) count(why string) { r.rpc.WithLabelValues(why).Inc() }

// count makes the metrics of what the parts count that know nothing of metrics.
func (n *Node) count() (refusals, error) {
	r := refusals{
		rpc: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "orrery", Subsystem: "rpc", Name: "refused_total",
			Help: "What the node's port turned away: handshakes, certificates, connections in a crowd, requests by role, streams without a header.",
		}, []string{"why"}),
		gossip: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "orrery", Subsystem: "gossip", Name: "refused_total", Help: "Datagrams and connections that were no gossip of this cluster.",
		}),
	}
	for _, why := range rpc.Refusals() {
		r.rpc.WithLabelValues(why) // there, as zero, before the first
	}
	if n.config.Registerer == nil {
		return r, nil
	}
	counter := func(name, help string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "orrery", Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	traffic := func() (t membership.Traffic) {
		if members := n.members.Load(); members != nil {
			t = members.Traffic()
		}
		return t
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		r.rpc, r.gossip,
		dropped{n},
		counter("gossip_sent_bytes_total", "Bytes of gossip sent, without the headers of the network.", func() uint64 { return traffic().Sent }),
		counter("gossip_received_bytes_total", "Bytes of gossip received, likewise.", func() uint64 { return traffic().Received }),
		counter("event_sent_total", "Events that this node sent.", func() uint64 { return n.events.Status().Sent }),
		counter("event_received_total", "Events of other nodes that came into the log.", func() uint64 { return n.events.Status().Received }),
		counter("event_refused_total", "What came as an event and was none, or not of whom it named.", func() uint64 { return n.events.Status().Garbage }),
		counter("event_missed_total", "Events that no node had any more.", func() uint64 { return n.events.Status().Missed }),
	} {
		errs = append(errs, n.config.Registerer.Register(c))
	}
	return r, errors.Join(errs...)
}

// dropped is what discovery dropped.
type dropped struct{ node *Node }

var droppedTotal = prometheus.NewDesc("orrery_discovery_dropped_total", "Datagrams of discovery that were malformed or too many, by way.", []string{"way"}, nil)

// Describe is a Collector's.
func (d dropped) Describe(c chan<- *prometheus.Desc) { c <- droppedTotal }

// Collect is a Collector's.
func (d dropped) Collect(c chan<- prometheus.Metric) {
	finder := d.node.discovery.Load()
	if finder == nil {
		return
	}
	for way, count := range finder.Dropped() {
		c <- prometheus.MustNewConstMetric(droppedTotal, prometheus.CounterValue, float64(count), way)
	}
}
