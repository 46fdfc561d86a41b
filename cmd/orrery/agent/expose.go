package agent

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"orrery/fabric"
	"orrery/fabric/rpc"
)

// metricsPath is where the node's metrics are, as Prometheus reads them, for whoever has a viewer's certificate or the socket.
const metricsPath = "/metrics"

// refusals count what the node turned away.
type refusals struct {
	rpc    *prometheus.CounterVec
	gossip prometheus.Counter
}

// openMetrics makes the metrics of the node's own parts, and offers all.
func (n *Node) openMetrics(m *rpc.Mux) (refusals, error) {
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
	for _, c := range []prometheus.Collector{r.rpc, r.gossip, dropped{n}} {
		if err := n.registry.Register(c); err != nil {
			return r, err
		}
	}
	m.HandleHTTP(metricsPath, fabric.RoleViewer, promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{}))
	return r, nil
}

func (r refusals) count(why string) { r.rpc.WithLabelValues(why).Inc() }

// dropped is what discovery dropped.
type dropped struct{ node *Node }

var droppedTotal = prometheus.NewDesc("orrery_discovery_dropped_total", "Datagrams of discovery that were malformed or too many, by way.", []string{"way"}, nil)

// Describe is a Collector's.
func (d dropped) Describe(c chan<- *prometheus.Desc) { c <- droppedTotal }

// Collect is a Collector's.
func (d dropped) Collect(c chan<- prometheus.Metric) {
	if d.node.discovery == nil {
		return // the node is starting
	}
	for way, count := range d.node.discovery.Dropped() {
		c <- prometheus.MustNewConstMetric(droppedTotal, prometheus.CounterValue, float64(count), way)
	}
}
