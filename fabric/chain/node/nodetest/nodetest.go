// Package nodetest runs chains on several nodes within a test: real connections, certificates and databases, and in place of the chain table's keeper the
// test, which says what the configs are.
package nodetest

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/node"
	"orrery/fabric/chain/replica"
	"orrery/fabric/chain/wire"
	"orrery/fabric/client"
	"orrery/fabric/rpc"
)

// Cluster is nodes that have chains.
type Cluster struct {
	Authorities *authoritytest.Cluster
	Nodes       []*Node
	// CatchUp is what nodes do to have the latest map; nil: nothing.
	CatchUp atomic.Pointer[func(context.Context) error]
	// Splitting are the chains that a change begins to split, until one sets it again. Only changes write it.
	Splitting []chain.ID

	tb   testing.TB
	dir  string
	stop context.CancelFunc
	work sync.WaitGroup

	mu  sync.Mutex
	all chain.Map
}

// Node is one of them.
type Node struct {
	ID        fabric.NodeID
	Authority *authority.Authority
	Address   string
	Node      *node.Node // nil while it is stopped

	incarnation uint64
	stop        func() error
}

// Start starts nodes, and chains of one bucket on all of them, cut at keys.
func Start(tb testing.TB, nodes int, bucket string, cuts ...string) *Cluster {
	tb.Helper()
	c := &Cluster{Authorities: authoritytest.NewCluster(tb, "node-0"), tb: tb, dir: tb.TempDir(), all: chain.Map{Nodes: map[fabric.NodeID]string{}}}
	var ctx context.Context
	ctx, c.stop = context.WithCancel(context.WithoutCancel(tb.Context()))
	tb.Cleanup(c.close)
	for i := range nodes {
		a := c.Authorities.First
		if i > 0 {
			a = c.Authorities.Admit(tb, fmt.Sprint("node-", i), fabric.RoleNode)
		}
		n := &Node{ID: a.Identity().ID, Authority: a, Address: "127.0.0.1:0"}
		c.Nodes = append(c.Nodes, n)
		c.Restart(i)
	}
	c.Change(func(m *chain.Map) {
		start := ""
		for i, end := range append(cuts, "") {
			config := chain.Config{ID: chain.ID(i + 1), Bucket: bucket, Epoch: 1, Range: chain.Range{Start: []byte(start), End: []byte(end)}} //nolint:gosec // small
			for j := range nodes {
				// Heads are spread.
				n := c.Nodes[(i+j)%nodes]
				config.Members = append(config.Members, chain.Member{Replica: n.Replica(), State: chain.Serving})
			}
			m.Chains, start = append(m.Chains, config), end
		}
	})
	c.work.Go(func() { c.lease(ctx) })
	return c
}

// Replica is the node's place in configs.
func (n *Node) Replica() chain.Replica { return chain.Replica{Node: n.ID, Incarnation: n.incarnation} }

// Change changes the map and tells it to all nodes. The test sees to it that the changes are such as a keeper may make.
func (c *Cluster) Change(change func(*chain.Map)) {
	c.tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.all)
	c.all.Revision++
	m := chain.Map{Revision: c.all.Revision, Nodes: map[fabric.NodeID]string{}}
	for _, config := range c.all.Chains {
		config.Members = append([]chain.Member{}, config.Members...)
		m.Chains = append(m.Chains, config)
		if !slices.Contains(c.Splitting, config.ID) {
			m.Settled = append(m.Settled, config.ID)
		}
	}
	for _, n := range c.Nodes {
		m.Nodes[n.ID] = n.Address
	}
	for _, n := range c.Nodes {
		if n.Node != nil {
			if err := n.Node.SetMap(m); err != nil {
				c.tb.Error(err)
			}
		}
	}
}

// lease gives all replicas leases, again and again.
func (c *Cluster) lease(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		c.mu.Lock()
		for _, n := range c.Nodes {
			for _, config := range c.all.Chains {
				if n.Node != nil {
					n.Node.Lease(config.ID, replica.Lease{Sent: n.Node.Now(), Until: n.Node.Now() + 2*time.Second})
				}
			}
		}
		c.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Stop stops a node. It is in the configs as before.
func (c *Cluster) Stop(i int) {
	c.tb.Helper()
	c.mu.Lock()
	n := c.Nodes[i]
	stop := n.stop
	n.Node, n.stop = nil, nil
	c.mu.Unlock()
	if stop != nil {
		if err := stop(); err != nil {
			c.tb.Error(err)
		}
	}
}

// Restart starts a node that is stopped, in a new incarnation, on the disk that it has. It knows no config before Change.
func (c *Cluster) Restart(i int) {
	c.tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.Nodes[i]
	n.incarnation++
	database, err := disk.Open(disk.Config{Directory: filepath.Join(c.dir, string(n.ID))})
	if err != nil {
		c.tb.Fatal(err)
	}
	running, err := node.Open(node.Config{
		Self: n.Replica(), Disk: database, Tick: 10 * time.Millisecond, ResendAfter: 100 * time.Millisecond,
		Dial: func(ctx context.Context, id fabric.NodeID) (net.Conn, error) {
			return rpc.DialNode(ctx, n.Authority, c.address(id), id, wire.Protocol)
		},
		CatchUp: func(ctx context.Context) error {
			if do := c.CatchUp.Load(); do != nil {
				return (*do)(ctx)
			}
			return nil
		},
	})
	if err != nil {
		c.tb.Fatal(err)
	}
	mux := rpc.NewMux(rpc.FabricErrors(), nil)
	mux.HandleConn(wire.Protocol, fabric.RoleViewer, running.Serve, running.Refused)
	server, err := rpc.Listen(c.tb.Context(), rpc.Config{Authority: n.Authority, Listen: n.Address}, mux)
	if err != nil {
		c.tb.Fatal(err)
	}
	n.Address = server.Addr()
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	n.Node = running
	n.stop = func() error {
		cancel()
		if err := running.Close(); err != nil {
			return err
		}
		return <-ended
	}
}

func (c *Cluster) address(id fabric.NodeID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.Nodes {
		if n.ID == id {
			return n.Address
		}
	}
	return ""
}

func (c *Cluster) close() {
	c.stop()
	c.work.Wait()
	for i := range c.Nodes {
		c.Stop(i)
	}
}

// Client opens a client with the rights of a role, which is closed with the test.
func (c *Cluster) Client(name string, role fabric.Role) *client.Client {
	c.tb.Helper()
	config := client.Config{Authority: c.Authorities.Admit(c.tb, name, role)}
	for _, n := range c.Nodes {
		config.Nodes = append(config.Nodes, n.Address)
	}
	opened, err := client.Open(c.tb.Context(), config)
	if err != nil {
		c.tb.Fatal(err)
	}
	c.tb.Cleanup(func() { _ = opened.Close() })
	return opened
}

// Again lets a node that was restarted serve in all chains, alone: all others are taken out of them.
func (c *Cluster) Again(i int) {
	c.tb.Helper()
	c.Change(func(m *chain.Map) {
		for j := range m.Chains {
			m.Chains[j].Epoch++
			m.Chains[j].Members = []chain.Member{{Replica: c.Nodes[i].Replica(), State: chain.Serving}}
		}
	})
}
