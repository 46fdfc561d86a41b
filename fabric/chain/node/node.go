package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/replica"
)

// Config is what a Node needs.
type Config struct {
	Self chain.Replica // the incarnation is greater than any before
	Disk *disk.Disk    // of the node alone; Close closes it
	// Dial connects to another node, for wire.Protocol, and proves that it is that one.
	Dial func(ctx context.Context, id fabric.NodeID) (net.Conn, error)
	// CatchUp returns when the node was told (SetMap) all that the chain table had when it was called. nil: there is no table to ask.
	CatchUp func(ctx context.Context) error
	// MaxPending is how many bytes of entries a replica keeps that are not committed, and of requests that wait; 0: 32 MiB.
	MaxPending int
	// ResendAfter is how long a link between replicas may make no progress before messages are sent again; 0: 500 ms.
	ResendAfter time.Duration
	// Tick is how often time is told to a replica; 0: 50 ms.
	Tick time.Duration
	// CopyRate is how many bytes of state a second are sent to replicas that are too far behind, together; 0: 64 MiB.
	CopyRate int
	// SyncEvery is how often entries of unsynced chains are made durable; 0: 100 ms.
	SyncEvery time.Duration
	// PlainReads lets only tails answer, as in plain chain replication. For comparison.
	PlainReads bool
	Registerer prometheus.Registerer // nil: no metrics
	Logger     *slog.Logger          // nil: discard
}

func (c Config) withDefaults() Config {
	if c.MaxPending == 0 {
		c.MaxPending = 32 << 20
	}
	if c.ResendAfter == 0 {
		c.ResendAfter = 500 * time.Millisecond
	}
	if c.Tick == 0 {
		c.Tick = 50 * time.Millisecond
	}
	if c.CopyRate == 0 {
		c.CopyRate = 64 << 20
	}
	if c.SyncEvery == 0 {
		c.SyncEvery = 100 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Node runs the replicas of one node.
type Node struct {
	config  Config
	metrics *metrics
	begun   time.Time

	ctx    context.Context //nolint:containedctx // of the whole node: replicas and peers live as long as it
	cancel context.CancelFunc
	work   sync.WaitGroup

	runners atomic.Pointer[map[chain.ID]*runner]

	mu      sync.Mutex
	closed  bool
	peers   map[fabric.NodeID]*peer
	closing map[int]func()
	parting map[chain.ID]bool // chains that are being split off

	rmu sync.Mutex // held while a replica is replaced
	amu sync.Mutex // held while one is added

	cmu       sync.Mutex
	receiving map[chain.ID]*incoming // the newest copy of each
	number    int
	chains    chain.Map
	encoded   []byte
	changed   chan struct{} // closed when the map is new
}

// Open opens the replicas that are on the disk. They do nothing before Configure.
func Open(config Config) (*Node, error) {
	config = config.withDefaults()
	m, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, fmt.Errorf("cannot open the chains: %w", err)
	}
	n := &Node{
		config: config, metrics: m, begun: time.Now(), peers: map[fabric.NodeID]*peer{}, closing: map[int]func(){}, parting: map[chain.ID]bool{}, receiving: map[chain.ID]*incoming{}, changed: make(chan struct{}),
	}
	n.runners.Store(&map[chain.ID]*runner{})
	n.ctx, n.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // ends with Close
	if err := n.openAll(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the chains: %w", err), n.Close())
	}
	return n, nil
}

// openAll opens the replicas that have a store: what is in it may be all that is left of a chain.
func (n *Node) openAll() error {
	ids, err := n.config.Disk.List()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := n.add(id); err != nil {
			return fmt.Errorf("chain %d: %w", id, err)
		}
	}
	return nil
}

// Close stops the replicas and ends all connections. Requests that wait are answered with an error, or not at all.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	ending := n.closing
	n.closing = nil
	n.mu.Unlock()
	n.cancel()
	for _, end := range ending {
		end()
	}
	var errs []error
	for _, r := range *n.runners.Load() {
		errs = append(errs, r.leave())
	}
	n.work.Wait()
	return errors.Join(append(errs, n.config.Disk.Close())...)
}

// Now reads the clock that leases are of.
func (n *Node) Now() replica.Instant { return time.Since(n.begun) }

// enter begins something that Close waits for.
func (n *Node) enter() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.work.Add(1)
	}
	return !n.closed
}

// onClose sees to it that Close calls end, unless what is returned is called before.
func (n *Node) onClose(end func()) (forget func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		end()
		return func() {}
	}
	n.number++
	number := n.number
	n.closing[number] = end
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.closing, number)
	}
}

// runner returns a chain's replica here, or nil.
func (n *Node) runner(id chain.ID) *runner { return (*n.runners.Load())[id] }

// peer returns the way to another node.
func (n *Node) peer(id fabric.NodeID) *peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[id]
	if p == nil {
		p = &peer{node: n, id: id, out: make(chan []byte, 256)}
		n.peers[id] = p
		if !n.closed {
			n.work.Go(func() { p.run(n.ctx) })
		}
	}
	return p
}

// SetMap tells the node where all chains are, so that it can tell clients; and its own replicas their configs. Maps come in the order of their revisions.
func (n *Node) SetMap(m chain.Map) error {
	encoded, err := json.Marshal(m)
	if err != nil {
		return err
	}
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return fabric.ErrClosed
	}
	n.chains, n.encoded = m, encoded
	close(n.changed)
	n.changed = make(chan struct{})
	n.mu.Unlock()
	var errs []error
	for _, c := range m.Chains {
		errs = append(errs, n.configure(c, slices.Contains(m.Settled, c.ID), m.Parting[c.ID]))
	}
	return errors.Join(errs...)
}

// mapAfter returns the map if it is newer than a revision, and what tells of the next one.
func (n *Node) mapAfter(revision uint64) ([]byte, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.encoded == nil || n.chains.Revision <= revision && revision > 0 {
		return nil, n.changed
	}
	return n.encoded, n.changed
}

// configure tells a replica of this node its config. One that is not here yet is made if the config names it. child is the chain that is yet to be split off; 0: none.
func (n *Node) configure(c chain.Config, settled bool, child chain.ID) error {
	r := n.runner(c.ID)
	if r == nil {
		if !names(c, n.config.Self) {
			return nil
		}
		var err error
		if r, err = n.add(c.ID); err != nil {
			return fmt.Errorf("chain %d: %w", c.ID, err)
		}
	}
	r, err := n.renew(r, c, child)
	if err != nil {
		return fmt.Errorf("chain %d: %w", c.ID, err)
	}
	r.configure(c, settled)
	return nil
}

func names(c chain.Config, self chain.Replica) bool {
	for _, m := range c.Members {
		if m.Replica == self {
			return true
		}
	}
	return false
}

// add makes the runner of a chain, unless there is one: a part that was made, and a config that names this node, may come at the same time.
func (n *Node) add(id chain.ID) (*runner, error) {
	n.amu.Lock()
	defer n.amu.Unlock()
	if r := n.runner(id); r != nil {
		return r, nil
	}
	r, err := n.openRunner(id)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errors.Join(fabric.ErrClosed, r.close())
	}
	next := maps.Clone(*n.runners.Load())
	next[id] = r
	n.runners.Store(&next)
	return r, nil
}

// Lease lets the replica of a chain answer reads.
func (n *Node) Lease(id chain.ID, l replica.Lease) {
	if r := n.runner(id); r != nil {
		r.setLease(l)
	}
}

// Status says how the replicas are.
func (n *Node) Status() []replica.Status {
	var all []replica.Status
	for _, r := range *n.runners.Load() {
		all = append(all, r.status())
	}
	return all
}

// Refused counts a connection that was turned away by its certificate. It is what rpc.Mux.HandleConn wants.
func (n *Node) Refused(error) { n.metrics.refused.WithLabelValues("certificate").Inc() }
