package agent

import (
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"orrery/fabric"
	"orrery/fabric/rpc"
)

// metricsPath is where the node's metrics are, as Prometheus reads them, for whoever has a viewer's certificate or the socket.
const metricsPath = "/metrics"

// offerMetrics offers all metrics of the node.
func (n *Node) offerMetrics(m *rpc.Mux) {
	m.HandleHTTP(metricsPath, fabric.RoleViewer, promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{}))
}
