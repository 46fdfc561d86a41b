package embed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/keeper"
	"orrery/fabric/chain/node"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/wire"
	"orrery/fabric/rpc"
)

// openChains opens the replicas on this process's disk. They do nothing before the chain table says what they are.
func (n *Node) openChains() error {
	c, dir := n.config, filepath.Join(n.config.Directory, "chains")
	incarnation, err := node.NextIncarnation(dir)
	if err != nil {
		return err
	}
	database, err := disk.Open(disk.Config{Directory: filepath.Join(dir, "data"), Logger: c.Logger})
	if err != nil {
		return fmt.Errorf("cannot open the chains' disk in %s: %w", dir, err)
	}
	self := chain.Replica{Node: n.identity.ID, Incarnation: incarnation}
	n.replicas, err = node.Open(node.Config{
		Self: self, Disk: database, Logger: c.Logger, Registerer: c.Registerer,
		Dial: func(ctx context.Context, id fabric.NodeID) (net.Conn, error) {
			return n.client.DialNode(ctx, id, wire.Protocol)
		},
		CatchUp: func(ctx context.Context) error { return n.reporter.CatchUp(ctx) }, // nothing is served before there is a reporter
	})
	if err != nil {
		return err
	}
	n.keeper = keeper.New(keeper.Config{
		Self: n.identity.ID, Table: n.table, Logger: c.Logger, Leads: func() bool { return n.table.Status().Leader == n.identity.ID },
	})
	n.chains = &keeper.Anywhere{
		Self: n.identity.ID, Local: n.keeper, Leader: func() fabric.NodeID { return n.table.Status().Leader }, Peer: n.client.Node, Own: c.Own,
		Last: &keeper.Last{
			Table: n.table, Voters: func() []fabric.NodeID { return n.table.Status().Voters },
			Heard: func() time.Time { return n.reporter.Heard() }, Ping: n.ping,
		},
	}
	n.reporter = keeper.NewReporter(keeper.ReporterConfig{
		Self: self, Zone: c.Zone, Table: n.table, Replicas: n.replicas, Send: n.report, Logger: c.Logger,
		Free:      func() (uint64, error) { return disk.Free(dir) },
		Addresses: n.addresses,
	})
	return nil
}

// addresses are where nodes are reached. Before the membership knows them it is where they were seen before: whoever asks for keys then need not wait for it.
func (n *Node) addresses() map[fabric.NodeID]string {
	all := map[fabric.NodeID]string{}
	for _, b := range n.seen.All() {
		all[b.ID] = b.RPC
	}
	for _, m := range n.Members() {
		all[m.ID] = m.Address
	}
	return all
}

// ping asks a node for anything at all.
func (n *Node) ping(ctx context.Context, id fabric.NodeID) error {
	if id == n.identity.ID {
		return nil
	}
	_, err := rpc.Call[empty, fabric.Beacon](ctx, n.Peer(id), procBeacon, &empty{})
	return err
}

// report tells the keeper of the chains how this node's replicas are. Who was put out hears of it here first.
func (n *Node) report(ctx context.Context, r *placement.Report) (*placement.Grant, error) {
	g, err := n.chains.Report(ctx, r)
	if errors.Is(err, fabric.ErrEvicted) {
		n.end(err)
	}
	return g, err
}
