package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/keeper"
	"orrery/fabric/chain/node"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/wire"
	"orrery/fabric/client"
	"orrery/fabric/rpc"
)

// chains is the node's part in the replicated store.
type chains struct {
	replicas *node.Node
	keeper   *keeper.Keeper
	anywhere *keeper.Anywhere
	reporter *keeper.Reporter
}

// openChains opens the replicas that are on this machine's disk. They do nothing before the chain table says what they are.
func (n *Node) openChains() error {
	dir := filepath.Join(n.dir, "chains")
	incarnation, err := node.NextIncarnation(dir)
	if err != nil {
		return err
	}
	database, err := disk.Open(disk.Config{Directory: filepath.Join(dir, "data"), Logger: n.log})
	if err != nil {
		return fmt.Errorf("cannot open the chains' disk in %s: %w", dir, err)
	}
	self := chain.Replica{Node: n.identity.ID, Incarnation: incarnation}
	c := &chains{}
	c.replicas, err = node.Open(node.Config{
		Self: self, Disk: database, Logger: n.log, Registerer: n.registry,
		Dial: func(ctx context.Context, id fabric.NodeID) (net.Conn, error) {
			return n.client.DialNode(ctx, id, wire.Protocol)
		},
		CatchUp: func(ctx context.Context) error { return c.reporter.CatchUp(ctx) }, // nothing is served before there is a reporter
	})
	if err != nil {
		return err
	}
	n.chains = c
	c.keeper = keeper.New(keeper.Config{
		Self: n.identity.ID, Table: n.table, Logger: n.log, Leads: func() bool { return n.table.Status().Leader == n.identity.ID },
	})
	c.anywhere = &keeper.Anywhere{
		Self: n.identity.ID, Local: c.keeper, Leader: func() fabric.NodeID { return n.table.Status().Leader }, Peer: n.client.Node, Own: n.ownBucket,
		Last: &keeper.Last{
			Table: n.table, Voters: func() []fabric.NodeID { return n.table.Status().Voters }, Heard: func() time.Time { return c.reporter.Heard() }, Ping: n.ping,
		},
	}
	c.reporter = keeper.NewReporter(keeper.ReporterConfig{
		Self: self, Zone: n.settings.Zone, Table: n.table, Replicas: c.replicas, Send: n.reportReplicas, Logger: n.log,
		Free: func() (uint64, error) { return disk.Free(dir) }, Addresses: n.whereNodesAre,
	})
	return nil
}

// reportReplicas tells the keeper of the chains how this node's replicas are. Who was put out hears of it here first.
func (n *Node) reportReplicas(ctx context.Context, r *placement.Report) (*placement.Grant, error) {
	g, err := n.chains.anywhere.Report(ctx, r)
	if errors.Is(err, fabric.ErrEvicted) {
		n.putOut(err)
	}
	return g, err
}

// ping asks a node for anything at all.
func (n *Node) ping(ctx context.Context, id fabric.NodeID) error {
	if id == n.identity.ID {
		return nil
	}
	_, err := ask[fabric.Beacon](ctx, n.peer(id), procBeacon, &Empty{})
	return err
}

// whereNodesAre says where each node that is known is reached.
func (n *Node) whereNodesAre() map[fabric.NodeID]string {
	all := map[fabric.NodeID]string{}
	if members := n.reach.Load(); members != nil {
		for _, m := range members.Members() {
			all[m.ID] = m.Address
		}
	}
	return all
}

// serve registers what others may ask of the chains.
func (c *chains) serve(m *rpc.Mux) {
	m.HandleConn(wire.Protocol, fabric.RoleViewer, c.replicas.Serve, c.replicas.Refused)
	keeper.Offer(m, c.keeper, c.anywhere)
}

func (c *chains) run(ctx context.Context, parts *errgroup.Group) {
	parts.Go(func() error { return ignoreEnd(ctx, c.keeper.Run(ctx)) })
	parts.Go(func() error { return ignoreEnd(ctx, c.reporter.Run(ctx)) })
}

// Chains is the keeper of the chain table, wherever it is.
func (c *Client) Chains() keeper.Remote { return keeper.Remote{Peer: c.to.peer} }

// Keys opens a client of the replicated store, as who dir is, which reaches all nodes.
func (c *Client) Keys(ctx context.Context, dir string) (*client.Client, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	holder, err := authority.Open(filepath.Join(dir, "identity"))
	if err != nil {
		return nil, err
	}
	config := client.Config{Authority: holder}
	for _, m := range members {
		if m.State.Present() {
			config.Nodes = append(config.Nodes, m.Address)
		}
	}
	return client.Open(ctx, config)
}
