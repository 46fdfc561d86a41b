package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain"
	"orrery/fabric/chain/wire"
	"orrery/fabric/rpc"
	"orrery/internal/clock"
)

// Config is what a Client needs.
type Config struct {
	// Nodes are addresses, host:port, of nodes of the cluster. One that answers is enough: it knows the others.
	Nodes []string
	// Authority is who the client is.
	Authority *authority.Authority
	// Dial connects to the node at an address, and proves that it is the node with that id; an empty id means any node of the
	// cluster. nil: TCP and TLS as Authority.
	Dial func(ctx context.Context, address string, id fabric.NodeID) (net.Conn, error)
	// DialTimeout is how long one connection may take to be made; 0: 2 s.
	DialTimeout time.Duration
	// Connections is how many connections there are to each node; 0: 1, which is the fastest unless the network loses packets.
	Connections int
	// Room is about how many bytes wait to be sent on each connection before callers wait; 0: 1 MiB.
	Room int
	// PlainReads asks only tails, for nodes of which only they answer (node.Config has the same). For comparison.
	PlainReads bool
}

func (c Config) withDefaults() (Config, error) {
	if len(c.Nodes) == 0 {
		return c, errors.New("no address of a node is given")
	}
	if c.Dial == nil {
		holder := c.Authority
		if holder == nil {
			return c, errors.New("no authority is given")
		}
		c.Dial = func(ctx context.Context, address string, id fabric.NodeID) (net.Conn, error) {
			return rpc.DialNode(ctx, holder, address, id, wire.Protocol)
		}
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = 2 * time.Second
	}
	if c.Connections == 0 {
		c.Connections = 1
	}
	return c, nil
}

// Client talks to the chains of a cluster. It is safe for concurrent use, and one is enough for a program.
type Client struct {
	config Config
	routes atomic.Pointer[routes]

	refreshing chan struct{} // holds a token while somebody asks for the map
	stop       context.CancelFunc
	work       sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	nodes   map[fabric.NodeID]*node
	seeds   []*node
	places  map[chain.ID]*place
	changed chan struct{} // closed when routes are new
}

// Open connects to a cluster and learns where its chains are. ctx governs only that.
func Open(ctx context.Context, config Config) (*Client, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("cannot open a client: %w", err)
	}
	c := &Client{
		config: config, refreshing: make(chan struct{}, 1), changed: make(chan struct{}),
		nodes: map[fabric.NodeID]*node{}, places: map[chain.ID]*place{},
	}
	for _, address := range config.Nodes {
		n := &node{client: c, slots: make([]slot, 1)}
		n.address.Store(&address)
		c.seeds = append(c.seeds, n)
	}
	var life context.Context
	life, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	for c.routes.Load() == nil {
		if err := c.ask(ctx); err != nil && (errors.Is(err, fabric.ErrOtherCluster) || errors.Is(err, fabric.ErrForbidden) || !clock.Wait(ctx, pause)) {
			return nil, errors.Join(fmt.Errorf("cannot open a client: %w", err), c.Close())
		}
	}
	c.work.Go(func() { c.follow(life) })
	return c, nil
}

// Close ends the connections. Calls that wait return fabric.ErrClosed; writes among them may or may not have happened.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	nodes := make([]*node, 0, len(c.nodes)+len(c.seeds))
	for _, n := range c.nodes {
		nodes = append(nodes, n)
	}
	nodes = append(nodes, c.seeds...)
	c.mu.Unlock()
	c.stop()
	for _, n := range nodes {
		n.close()
	}
	c.work.Wait()
	return nil
}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// keep says whether a new connection may be used.
func (c *Client) keep(*link) bool { return !c.isClosed() }
