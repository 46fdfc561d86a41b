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

// countAll registers what the parts that stand on the fabric count, and the process itself.
func (n *Node) countAll() error {
	counter := func(name, help string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "orrery", Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		counter("router_requests_total", "Requests that the router passed on to an instance.", n.router.Requests),
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
