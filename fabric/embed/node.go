package embed

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain/keeper"
	"orrery/fabric/chain/node"
	"orrery/fabric/chain/placement"
	"orrery/fabric/client"
	"orrery/fabric/discovery"
	"orrery/fabric/discovery/roster"
	"orrery/fabric/event"
	"orrery/fabric/membership"
	"orrery/fabric/rotation"
	"orrery/fabric/rpc"
	"orrery/fabric/table"
	"orrery/fabric/table/courier"
	"orrery/internal/clock"
	"orrery/internal/folder"
)

// Node is this process as a node of its cluster. Safe for concurrent use.
type Node struct {
	config Config
	life   context.Context //nolint:containedctx // of the node: until Close, or a part fails
	end    context.CancelCauseFunc
	parts  *errgroup.Group
	done   chan struct{}
	err    error // when done is closed: why it ended
	unlock func()

	authority *authority.Authority
	identity  fabric.Identity
	registrar *authority.Registrar
	roll      *authority.Roll
	rolled    chan struct{} // closed when there is a roll
	enrolled  chan struct{} // closed when the node belongs to the table and has its name
	client    *rpc.Client
	server    *rpc.Server
	courier   *courier.Courier
	table     *table.Table
	seen      *roster.Book
	members   atomic.Pointer[membership.Membership] // nil while it starts
	rotator   *rotation.Rotator
	discovery atomic.Pointer[discovery.Service] // nil while it starts
	events    *event.Service

	replicas *node.Node
	keeper   *keeper.Keeper
	chains   *keeper.Anywhere
	reporter *keeper.Reporter

	mu   sync.Mutex
	keys *client.Client
}

// open starts a node whose settings are complete.
func open(ctx context.Context, c Config) (*Node, error) {
	unlock, err := folder.Lock(c.Directory)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	n := &Node{config: c, end: end, done: make(chan struct{}), unlock: unlock, rolled: make(chan struct{}), enrolled: make(chan struct{})}
	n.parts, n.life = errgroup.WithContext(life)
	if err := n.start(ctx); err != nil {
		n.end(err)
		return nil, errors.Join(fmt.Errorf("cannot start the node in %s: %w", c.Directory, err), n.finish())
	}
	n.run()
	go func() {
		defer close(n.done)
		err := n.parts.Wait()
		if cause := context.Cause(n.life); err == nil && !errors.Is(cause, fabric.ErrClosed) {
			err = cause
		}
		n.err = errors.Join(err, n.finish())
	}()
	return n, nil
}

// start opens the parts, each after those that it needs.
func (n *Node) start(ctx context.Context) (err error) {
	c := n.config
	if n.authority, err = authority.Open(c.identity()); err != nil {
		return err
	}
	n.identity = n.authority.Identity()
	n.seen = roster.Load(filepath.Join(c.Directory, seenFile))
	n.client = rpc.NewClient(rpc.ClientConfig{Authority: n.authority, Lookup: n.lookup, Admit: n.admit, Errors: c.sentinels(), Logger: c.Logger})
	n.courier = courier.New(n.life, n.client)
	n.table, err = table.Open(table.Config{
		Self: n.identity.ID, Directory: filepath.Join(c.Directory, "table"), Transport: n.courier, Tick: 50 * time.Millisecond, Logger: c.Logger,
	})
	if err != nil {
		return err
	}
	if n.registrar, err = authority.NewRegistrar(n.authority, n.table); err != nil {
		return err
	}
	if err := n.openRoll(); err != nil {
		return err
	}
	if err := n.openChains(); err != nil {
		return err
	}
	n.events, err = event.Open(event.Config{
		Authority: n.authority, Directory: filepath.Join(c.Directory, "events"), Peer: n.client.Node, Logger: c.Logger, Members: n.Members,
		Broadcast: func(name string, payload []byte) error { return n.members.Load().Broadcast(name, payload) },
	})
	if err != nil {
		return err
	}
	if c.Prepare != nil {
		if err := c.Prepare(n.life, n); err != nil {
			return err
		}
	}
	return n.openNetwork(ctx)
}

// openNetwork opens the listeners and joins the gossip.
func (n *Node) openNetwork(ctx context.Context) (err error) {
	c := n.config
	refused, err := n.count()
	if err != nil {
		return err
	}
	n.server, err = rpc.Listen(ctx, rpc.Config{
		Authority: n.authority, Listen: c.Listen, Unix: filepath.Join(c.Directory, socketFile), Admit: n.admit, Refused: refused.count, Logger: c.Logger,
	}, n.mux())
	if err != nil {
		return err
	}
	profile := membership.LAN
	if c.Loopback {
		profile = membership.Local
	}
	members, err := membership.Start(ctx, membership.Config{
		Identity: n.identity, Version: c.Version, Zone: c.Zone, Roles: c.Roles, RPC: n.Address(), Bind: c.Gossip, Keys: n.authority.GossipKeys(),
		Refused: func(id fabric.NodeID) bool { return n.roll.Out(id) != nil }, Profile: profile, Changed: c.Changed,
		Event: func(e membership.Event) { n.events.Heard(e.Name, e.Payload) }, Garbage: refused.gossip.Inc, Logger: c.Logger,
	})
	if err != nil {
		return err
	}
	n.members.Store(members)
	n.openRotation(members)
	found := c.discovery()
	if !c.NoRemembered {
		found.Seeds = n.seen.Seeds(n.identity.Cluster)
	}
	found.Resolve = func(ctx context.Context, address string) (fabric.Beacon, error) {
		b, err := rpc.Call[empty, fabric.Beacon](ctx, n.client.Address(address), procBeacon, &empty{})
		if err != nil {
			return fabric.Beacon{}, err
		}
		return *b, nil
	}
	finder, err := discovery.New(found, n.beacon(), members.Found)
	n.discovery.Store(finder)
	return err
}

// run runs the parts, until the node's life ends or one of them does.
func (n *Node) run() {
	parts := []func(context.Context) error{
		n.server.Run, n.discovery.Load().Run, n.rotator.Run, n.roll.Run, n.keeper.Run, n.reporter.Run, n.events.Run, n.enroll, n.remember, n.inquire, n.follow,
	}
	for _, part := range append(parts, n.config.Parts...) {
		n.parts.Go(func() error {
			if err := part(n.life); err != nil && n.life.Err() == nil {
				return err
			}
			return nil
		})
	}
	n.expel() // who was put out while this node did not look
	n.greet()
}

// greet lets those who vote on the table know that this node is there: one of them leads it, and may have tried in vain to reach this node.
func (n *Node) greet() {
	for _, id := range n.table.Status().Voters {
		if id != n.identity.ID {
			n.courier.Greet(id)
		}
	}
}

// follow ends when the table does.
func (n *Node) follow(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.table.Done():
		return n.table.Err()
	}
}

// finish closes what start has opened.
func (n *Node) finish() error {
	var errs []error
	if n.config.Finish != nil {
		errs = append(errs, n.config.Finish())
	}
	n.mu.Lock()
	keys := n.keys
	n.mu.Unlock()
	if keys != nil {
		errs = append(errs, keys.Close())
	}
	if members := n.members.Load(); members != nil {
		errs = append(errs, members.Close())
	}
	if n.events != nil {
		errs = append(errs, n.events.Close())
	}
	if n.replicas != nil {
		errs = append(errs, n.replicas.Close())
	}
	if n.server != nil {
		errs = append(errs, n.server.Close())
	}
	if n.client != nil {
		n.client.Close()
	}
	if n.table != nil {
		errs = append(errs, n.table.Close())
	}
	if n.courier != nil {
		n.courier.Wait()
	}
	n.unlock()
	return errors.Join(errs...)
}

// Stop begins to stop the node, and does not wait. It may be called by what the node runs.
func (n *Node) Stop() { n.end(fabric.ErrClosed) }

// Close stops the node and waits. To the others it is a node that is away; see Leave.
func (n *Node) Close() error {
	n.Stop()
	<-n.done
	return n.err
}

// Done is closed when the node has ended: by Close or Leave, or because a part of it failed or it was put out of the cluster. Err says why.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err is nil while the node runs, and after Close and Leave.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

// Ready returns when the node belongs to its cluster and its table can be written, which needs a majority of the voting nodes.
func (n *Node) Ready(ctx context.Context) error {
	select {
	case <-n.enrolled:
		return nil
	case <-n.done:
		return errors.Join(fmt.Errorf("node %s: %w", n.identity.Name, fabric.ErrClosed), n.err)
	case <-ctx.Done():
		return fmt.Errorf("node %s has not found its cluster, or that has no majority of its voting nodes: %w", n.identity.Name, ctx.Err())
	}
}

// Identity is who this node is.
func (n *Node) Identity() fabric.Identity { return n.identity }

// Address is where other nodes and clients reach this one.
func (n *Node) Address() string { return n.config.reachable(n.server.Addr()) }

// Members are the nodes as this one sees them: a hint of who is there.
func (n *Node) Members() []fabric.Member {
	if members := n.members.Load(); members != nil {
		return members.Members()
	}
	return nil
}

// Table holds a few thousand small keys, the same on all nodes. Those that begin with fabric/ are the cluster's own.
func (n *Node) Table() *table.Table { return n.table }

// Events are events to all nodes, messages to one, and queries to many.
func (n *Node) Events() *event.Service { return n.events }

// Chains create and delete buckets, move their replicas, and say how they are.
func (n *Node) Chains() *keeper.Anywhere { return n.chains }

// Peer is another node, or this one, as the target of procedures (Config.Serve, rpc.Call).
func (n *Node) Peer(id fabric.NodeID) *rpc.Peer { return n.client.Node(id) }

// Keys is a client of the replicated keys; it is closed with the node.
func (n *Node) Keys(ctx context.Context) (*client.Client, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.keys != nil {
		return n.keys, nil
	}
	if n.life.Err() != nil {
		return nil, fmt.Errorf("node %s: %w", n.identity.Name, fabric.ErrClosed)
	}
	c := client.Config{Nodes: []string{n.Address()}, Authority: n.authority}
	for _, m := range n.Members() {
		if m.State.Present() && m.ID != n.identity.ID {
			c.Nodes = append(c.Nodes, m.Address)
		}
	}
	keys, err := client.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	n.keys = keys
	return keys, nil
}

// Bucket returns the bucket of a name, which is created if there is none, with a replica of each key on so many nodes (fewer while there are fewer nodes); see Chains for more.
func (n *Node) Bucket(ctx context.Context, name string, factor int) (*client.Bucket, error) {
	keys, err := n.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for {
		err := n.chains.CreateBucket(ctx, placement.Bucket{Name: name, Factor: factor, Durability: placement.Synced})
		switch {
		case err == nil || errors.Is(err, fabric.ErrConflict):
			return keys.Bucket(name), nil
		case !errors.Is(err, keeper.ErrNotKeeper) || !clock.Wait(ctx, 50*time.Millisecond): // the table has a new leader now and then
			return nil, fmt.Errorf("cannot create bucket %s: %w", name, err)
		}
	}
}

// Token returns a token with which one more process can Join, within ttl.
func (n *Node) Token(ctx context.Context, ttl time.Duration) (string, error) {
	t, err := n.registrar.Issue(ctx, fabric.RoleNode, ttl)
	if err != nil {
		return "", err
	}
	return t.Encode(), nil
}

// The parts of the node, for programs that build more on them. The node closes them.

// Membership is who is there; nil while Config.Prepare runs.
func (n *Node) Membership() *membership.Membership { return n.members.Load() }

// Registrar has the names, tokens and people of the cluster.
func (n *Node) Registrar() *authority.Registrar { return n.registrar }

// Roll knows whose certificates count.
func (n *Node) Roll() *authority.Roll { return n.roll }

// Client reaches the other nodes.
func (n *Node) Client() *rpc.Client { return n.client }

// Rotator changes the gossip's key; nil while Config.Prepare runs.
func (n *Node) Rotator() *rotation.Rotator { return n.rotator }

// Replicas are the chains' replicas on this node.
func (n *Node) Replicas() *node.Node { return n.replicas }

// present are the nodes that should be there.
func (n *Node) present() []fabric.NodeID {
	var all []fabric.NodeID
	for _, m := range n.Members() {
		if m.State.Present() {
			all = append(all, m.ID)
		}
	}
	return all
}

// alive says whether a node should be there.
func (n *Node) alive(id fabric.NodeID) bool { return slices.Contains(n.present(), id) }
