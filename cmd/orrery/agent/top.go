package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"

	"orrery/dashboard/terminal"
	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/placement"
	"orrery/fabric/rpc"
)

const (
	procNodeUsage = "/orrery.fabric.v1.Fabric/Usage"
	procTop       = "/orrery.dashboard.v1.Dashboard/Top"
)

// askLimit is how long others may take to say how they are.
const askLimit = 1500 * time.Millisecond

func (n *Node) serveTop(m *rpc.Mux) {
	n.serveMetrics(m)
	rpc.Unary(m, procNodeUsage, fabric.RoleViewer, func(context.Context, *Empty) (*terminal.Usage, error) {
		u, err := n.usage()
		return &u, err
	})
	rpc.Unary(m, procTop, fabric.RoleViewer, func(ctx context.Context, _ *Empty) (*terminal.Snapshot, error) {
		s := n.top(ctx)
		return &s, nil
	})
}

// Top says how the cluster is, as the node sees it.
func (c *Client) Top(ctx context.Context) (terminal.Snapshot, error) {
	return ask[terminal.Snapshot](ctx, c.to, procTop, &Empty{})
}

// usage is this node's own.
func (n *Node) usage() (terminal.Usage, error) {
	u := terminal.Usage{Started: n.started, Memory: residentBytes(), Load: machineLoad(), Processors: runtime.NumCPU()}
	u.Free, _ = disk.Free(filepath.Join(n.dir, "chains")) // not known is not worth an error
	traffic := n.base.Membership().Traffic()
	u.Counters.Gossip = traffic.Sent + traffic.Received
	u.Counters.Requests = n.router.Requests()
	events := n.events.Status()
	u.Counters.Events, u.Counters.Refused = events.Sent, events.Garbage
	families, err := n.registry.Gather()
	for _, f := range families {
		switch f.GetName() {
		case "orrery_chain_reads_total":
			u.Counters.Reads = total(f)
		case "orrery_chain_writes_total":
			u.Counters.Writes = total(f)
		case "orrery_chain_refused_total", "orrery_rpc_refused_total", "orrery_gossip_refused_total":
			u.Counters.Refused += total(f)
		case "orrery_chain_read_seconds":
			u.Counters.ReadTimes = histogram(f)
		case "orrery_chain_write_seconds":
			u.Counters.WriteTimes = histogram(f)
		case "orrery_chain_sync_seconds":
			u.Counters.Syncs = histogram(f)
		}
	}
	return u, err
}

// total is the sum of a counter's values, whatever their labels.
func total(f *dto.MetricFamily) (sum uint64) {
	for _, m := range f.GetMetric() {
		sum += uint64(m.GetCounter().GetValue())
	}
	return sum
}

func histogram(f *dto.MetricFamily) terminal.Histogram {
	var h terminal.Histogram
	for _, m := range f.GetMetric() {
		for _, b := range m.GetHistogram().GetBucket() {
			h.Bounds = append(h.Bounds, b.GetUpperBound())
			h.Counts = append(h.Counts, b.GetCumulativeCount())
		}
		h.Counts = append(h.Counts, m.GetHistogram().GetSampleCount())
	}
	return h
}

// machineLoad is the load of the last minute; 0 where the system does not tell.
func machineLoad() float64 {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(content), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return load
}

// usages asks all nodes that should be there, at once; a node that does not answer in time is left out.
func (n *Node) usages(ctx context.Context, members []fabric.Member) map[fabric.NodeID]terminal.Usage {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var mu sync.Mutex
	all := map[fabric.NodeID]terminal.Usage{}
	var wait sync.WaitGroup
	for _, m := range members {
		if m.State != fabric.MemberAlive && m.State != fabric.MemberSuspect {
			continue
		}
		wait.Go(func() {
			u, err := n.usageOf(ctx, m.ID)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all[m.ID] = u
		})
	}
	wait.Wait()
	return all
}

func (n *Node) usageOf(ctx context.Context, id fabric.NodeID) (terminal.Usage, error) {
	if id == n.identity.ID {
		return n.usage()
	}
	return ask[terminal.Usage](ctx, n.peer(id), procNodeUsage, &Empty{})
}

// top is what this node sees. It needs no quorum: what cannot be found out is missing, and the trouble says why.
func (n *Node) top(ctx context.Context) terminal.Snapshot {
	members := n.Members()
	names := map[fabric.NodeID]string{}
	for _, m := range members {
		names[m.ID] = m.Name
	}
	s := terminal.Snapshot{Cluster: n.clusterName(), Node: n.identity.Name, Leader: nameOr(names, n.table.Status().Leader)}
	var overview *placement.Overview
	var failed error
	var wait sync.WaitGroup
	wait.Go(func() {
		overview, failed = n.chains.Known(ctx)
	})
	usages := n.usages(ctx, members)
	wait.Wait()
	services := n.chronicle.summary(&s)
	for _, m := range members {
		node := terminal.Node{
			Name: m.Name, ID: string(m.ID), State: string(m.State), Address: m.Address, Version: m.Version, Zone: m.Zone, Roles: m.Roles,
			Since: m.Since, Via: m.Via, Services: services[m.ID],
		}
		if u, ok := usages[m.ID]; ok {
			node.Usage = &u
		}
		s.Nodes = append(s.Nodes, node)
	}
	if failed == nil {
		addChains(&s, overview, names)
		if overview.Stale != nil {
			failed = errors.New(named(overview.Stale.String(), names))
		}
	}
	if failed != nil {
		s.Trouble = "how the chains are is not known: " + failed.Error()
	}
	s.Time = time.Now()
	return s
}

// addChains adds what the keeper of the chains says, or what was known last: who the members are and no more.
func addChains(s *terminal.Snapshot, o *placement.Overview, names map[fabric.NodeID]string) {
	s.Keeper = nameOr(names, o.Keeper)
	for _, v := range o.Nodes {
		if i := slices.IndexFunc(s.Nodes, func(n terminal.Node) bool { return n.ID == string(v.ID) }); i >= 0 {
			s.Nodes[i].Replicas, s.Nodes[i].Drain = v.Replicas, v.Drain
		}
	}
	for _, v := range o.Chains {
		c := terminal.Chain{ID: uint64(v.ID), Bucket: v.Bucket, Range: KeyRange(v.Range), Epoch: v.Epoch, Waits: named(v.Waits, names), Reason: named(v.Reason, names)}
		for _, m := range v.Members {
			c.Members = append(c.Members, replicaOf(m, names))
		}
		s.Chains = append(s.Chains, c)
	}
}

func replicaOf(m placement.MemberView, names map[fabric.NodeID]string) terminal.Replica {
	states := map[chain.State]string{chain.Serving: "serving", chain.Joining: "joining", chain.Syncing: "syncing"}
	r := terminal.Replica{Node: named(string(m.Node), names), State: states[m.State], Gone: named(m.Gone, names)}
	if m.Status == nil {
		return r
	}
	r.Known, r.Failed = true, m.Status.Failed
	r.Last, r.Durable, r.Committed = m.Status.Last, m.Status.Durable, m.Status.Committed
	r.Bytes, r.Reads, r.Writes = m.Status.Bytes, m.Status.Reads, m.Status.Writes
	return r
}

// nameOr is a node's name, or its id if it is no member.
func nameOr(names map[fabric.NodeID]string, id fabric.NodeID) string {
	return cmp.Or(names[id], string(id))
}

// named puts the names of nodes in the place of their ids.
func named(text string, names map[fabric.NodeID]string) string {
	for id, name := range names {
		text = strings.ReplaceAll(text, string(id), name)
	}
	return text
}

// KeyRange prints a range of keys; what is not set is left open.
func KeyRange(r chain.Range) string {
	quoted := func(key []byte) string {
		if len(key) == 0 {
			return ""
		}
		return strconv.Quote(string(key))
	}
	return fmt.Sprintf("[%s, %s)", quoted(r.Start), quoted(r.End))
}
