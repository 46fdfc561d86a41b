package agent

import (
	"context"
	"errors"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"orrery/fabric"
	"orrery/fabric/rpc"
)

const procMetrics = "/orrery.fabric.v1.Fabric/Metrics"

func (n *Node) serveMetrics(m *rpc.Mux) {
	rpc.Unary(m, procMetrics, fabric.RoleViewer, func(context.Context, *Empty) (*Text, error) {
		text, err := n.metricsText()
		return &Text{text}, err
	})
}

// Metrics is what the node counts, as Prometheus reads it.
func (c *Client) Metrics(ctx context.Context) (string, error) {
	text, err := ask[Text](ctx, c.to, procMetrics, &Empty{})
	return text.Value, err
}

// countAll registers what the parts count that know nothing of metrics, and the process itself.
func (n *Node) countAll() error {
	counter := func(name, help string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "orrery", Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		counter("gossip_sent_bytes_total", "Bytes of gossip sent, without the headers of the network.", func() uint64 { return n.members.Traffic().Sent }),
		counter("gossip_received_bytes_total", "Bytes of gossip received, likewise.", func() uint64 { return n.members.Traffic().Received }),
		counter("router_requests_total", "Requests that the router passed on to an instance.", n.router.Requests),
		counter("event_sent_total", "Events that this node sent.", func() uint64 { return n.events.Status().Sent }),
		counter("event_received_total", "Events of other nodes that came into the log.", func() uint64 { return n.events.Status().Received }),
		counter("event_refused_total", "What came as an event and was none, or not of whom it named.", func() uint64 { return n.events.Status().Garbage }),
		counter("event_missed_total", "Events that no node had any more.", func() uint64 { return n.events.Status().Missed }),
	} {
		errs = append(errs, n.registry.Register(c))
	}
	return errors.Join(errs...)
}

func (n *Node) metricsText() (string, error) {
	families, err := n.registry.Gather()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}
