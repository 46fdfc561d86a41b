// Package membership knows who is there: SWIM with Lifeguard, by
// hashicorp/memberlist with compression off.
//
// A Membership is one node's view: Members, each with a state that is a hint (only the table decides who owns what).
// It joins whatever Found tells it of, and never gives up on a node that it once knew, so that a partition heals whenever it
// ends. Gossip is encrypted with the cluster's keys and labelled with its id, so members of other clusters are not
// heard. Broadcast spreads small events, each delivered at most once to each member, with a Lamport time.
//
// A member is alive, then suspect, and alive again if it refutes that in time, or dead; left is told apart by a message
// that the leaver spreads first. The package owns its sockets and goroutines; Close waits for them.
package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"orrery/fabric"
)

// How a member was found, besides discovery's ways.
const (
	viaSelf   = "self"
	viaGossip = "gossip"
)

// Profile is how eager the failure detection is.
type Profile int

// The profiles.
const (
	LAN   Profile = iota // a dead node is noticed in about five seconds, and busy machines are not taken for dead
	Local                // nodes of one machine: about three seconds
)

// Config is what a Membership needs.
type Config struct {
	Identity fabric.Identity
	Version  string   // of the binary
	Zone     string   // machines that may fail together; empty: not said
	Roles    []string // free words for what the node is for
	RPC      string   // host:port of the node's mutual-TLS listener, as others reach it
	Bind     string   // host:port of the gossip, UDP and TCP; port 0 chooses one
	Keys     [][]byte // gossip keys, the one in use first
	Profile  Profile
	// Refused says that a node cannot be a member, for it was put out. It must not wait. Nil: all can.
	Refused func(id fabric.NodeID) bool
	// Changed is told all members whenever one changed; changes in quick succession are one. Nil: nobody.
	Changed func([]fabric.Member)
	// Event is told every event that somebody else broadcast. Nil: nobody. Both are called from one goroutine,
	// never after Close has returned, and must not call Close.
	Event func(Event)
	// Lose says of each datagram whether it is lost on its way, to try out a bad network. Nil: none is.
	Lose func() bool
	// Garbage is told whenever something came that is no gossip of this cluster. Nil: nobody. It must not wait.
	Garbage func()
	Logger  *slog.Logger // nil discards

	cut      func(network, to string) bool // of tests: whether nothing reaches an address
	patience time.Duration                 // of tests: instead of the profile's
}

// Membership is one node's view of the cluster. Safe for concurrent use.
type Membership struct {
	config    Config
	list      *memberlist.Memberlist
	settings  *memberlist.Config // of list
	transport *transport
	keyring   *memberlist.Keyring
	meta      []byte
	gossip    string // host:port where others reach it
	events    *events
	cancel    context.CancelFunc
	work      sync.WaitGroup
	kick      chan struct{} // wakes the reconnect loop
	changed   chan struct{} // wakes the notifier
	strain    atomic.Int64
	doubted   atomic.Bool // by somebody, who is to hear that this node lives
	stats     stats

	mu         sync.Mutex
	members    map[fabric.NodeID]*member
	leavers    map[fabric.NodeID]bool // said that they leave
	candidates map[fabric.NodeID]*candidate
	repair     repair
	watchers   map[chan struct{}]bool
	closed     bool
}

// member is what is remembered of a node.
type member struct {
	fabric.Member
	gossip    string
	said      []byte // its metadata, as it came
	newlyDead bool   // and perhaps it left
}

// Start opens the sockets and begins to gossip, alone until Found tells of others. It ends by Close.
func Start(ctx context.Context, config Config) (*Membership, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if len(config.Keys) == 0 {
		return nil, errors.New("cannot gossip: no gossip key (only a node has one)")
	}
	m := &Membership{
		config: config, kick: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		members: map[fabric.NodeID]*member{}, leavers: map[fabric.NodeID]bool{}, candidates: map[fabric.NodeID]*candidate{}, watchers: map[chan struct{}]bool{},
	}
	m.repair.born = time.Now()
	m.strain.Store(config.Profile.caution().first())
	if config.patience == 0 {
		m.config.patience = config.Profile.patience()
	}
	var err error
	if m.meta, err = config.says(); err != nil {
		return nil, fmt.Errorf("cannot gossip: %w", err)
	}
	if m.keyring, err = memberlist.NewKeyring(config.Keys, config.Keys[0]); err != nil {
		return nil, fmt.Errorf("cannot gossip: %w", err)
	}
	own, err := m.listConfig(ctx)
	if err != nil {
		return nil, err
	}
	m.settings = own
	m.events = newEvents(config.Identity.ID, own.RetransmitMult)
	if m.transport, err = listen(ctx, own.BindAddr, own.BindPort, config.Logger); err != nil {
		return nil, fmt.Errorf("cannot gossip at %s: %w", config.Bind, err)
	}
	m.transport.lose, m.transport.cut = config.Lose, config.cut
	own.Transport = m.transport
	if m.list, err = memberlist.Create(own); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot gossip at %s: %w", config.Bind, err), m.transport.Shutdown())
	}
	m.gossip = m.list.LocalNode().Address() // memberlist writes to its node at any later time
	ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	m.work.Go(func() { m.reconnect(ctx) })
	m.work.Go(func() { m.observe(ctx) })
	m.work.Go(func() { m.notify(ctx) })
	return m, nil
}

func (m *Membership) listConfig(ctx context.Context) (*memberlist.Config, error) {
	host, port, err := net.SplitHostPort(m.config.Bind)
	if err != nil {
		return nil, fmt.Errorf("cannot gossip at %q: %w", m.config.Bind, err)
	}
	c := m.config.Profile.settings()
	if c.BindPort, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("cannot gossip at %q: %w", m.config.Bind, err)
	}
	if c.BindAddr = host; host == "" {
		c.BindAddr = "0.0.0.0"
	}
	c.AdvertiseAddr = advertised(ctx, c.BindAddr, m.config.RPC)
	c.Name = string(m.config.Identity.ID)
	c.Label = m.config.Identity.Cluster
	c.Keyring = m.keyring
	c.Delegate, c.Events, c.Alive, c.Conflict, c.Ping = m, m, m, m, m
	c.LogOutput = logWriter{m.config.Logger, &m.stats, m.config.Garbage}
	return c, nil
}

// Gossip is the host:port that others reach this node's gossip at.
func (m *Membership) Gossip() string { return m.gossip }

// Self is this node.
func (m *Membership) Self() fabric.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	if own := m.members[m.config.Identity.ID]; own != nil {
		return own.Member
	}
	return fabric.Member{
		ID: m.config.Identity.ID, Name: m.config.Identity.Name, Address: m.config.RPC, Version: m.config.Version, Zone: m.config.Zone, Roles: sorted(m.config.Roles),
		Via: viaSelf,
	}
}

// Members are all nodes that this one knows or knew, sorted by name.
func (m *Membership) Members() []fabric.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]fabric.Member, 0, len(m.members))
	for id, known := range m.members {
		one := known.Member
		if c := m.candidates[id]; c != nil && c.beacon.Via != "" {
			one.Via = c.beacon.Via
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b fabric.Member) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Lookup returns a node's RPC address; fabric.ErrNotFound for one that nobody knows. A node that is believed dead has one too: the
// belief may be wrong. It fits rpc.ClientConfig.
func (m *Membership) Lookup(_ context.Context, id fabric.NodeID) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.members[id]; known != nil {
		return known.Address, nil
	}
	if c := m.candidates[id]; c != nil && c.beacon.RPC != "" {
		return c.beacon.RPC, nil
	}
	return "", fmt.Errorf("node %s: %w among the members", id, fabric.ErrNotFound)
}

// Beacons are the nodes that are there, for newcomers, and to be kept as seeds for the next start.
func (m *Membership) Beacons() []fabric.Beacon {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []fabric.Beacon
	for id, known := range m.members {
		if known.State.Present() {
			all = append(all, fabric.Beacon{Cluster: m.config.Identity.Cluster, ID: id, Name: known.Name, RPC: known.Address, Gossip: known.gossip})
		}
	}
	slices.SortFunc(all, func(a, b fabric.Beacon) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Forget drops a member that is dead or left: it is not looked for any more. It comes back by itself if it lives.
func (m *Membership) Forget(id fabric.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.members[id]; known != nil && known.State.Present() {
		return
	}
	delete(m.members, id)
	delete(m.candidates, id)
	m.wake(m.changed)
}

// Leave tells the others that this node goes for good, as far as ctx allows, and then closes. Without it they take the
// node for dead, and look for it.
func (m *Membership) Leave(ctx context.Context) error {
	m.mu.Lock()
	closed := m.closed
	m.leavers[m.config.Identity.ID] = true
	m.mu.Unlock()
	if closed {
		return fmt.Errorf("cannot leave: membership is %w", fabric.ErrClosed)
	}
	var err error
	if m.list.NumMembers() > 1 {
		select {
		case <-m.events.leave():
		case <-ctx.Done():
			err = ctx.Err()
		}
		timeout := 5 * time.Second
		if end, ok := ctx.Deadline(); ok {
			timeout = max(time.Millisecond, min(timeout, time.Until(end)))
		}
		err = errors.Join(err, m.list.Leave(timeout))
	}
	return errors.Join(err, m.Close())
}

// Close ends the gossip without a word to the others.
func (m *Membership) Close() error {
	m.mu.Lock()
	closed := m.closed
	m.closed = true
	m.mu.Unlock()
	if closed {
		return nil
	}
	m.cancel()
	err := m.list.Shutdown()
	m.work.Wait()
	return err
}

// notify tells the config's functions what happened. Where many join at once the members are told only so often.
func (m *Membership) notify(ctx context.Context) {
	changed, wait := m.changed, time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			m.wakeWatchers()
			if m.config.Changed != nil {
				m.config.Changed(m.Members())
			}
			changed = nil
			wait.Reset(tellPause)
		case <-wait.C:
			changed = m.changed
		case e := <-m.events.arrived:
			if m.config.Event != nil {
				m.config.Event(e)
			}
		}
	}
}

// tellPause is the least time between two tellings of changes.
const tellPause = 200 * time.Millisecond

// Changes returns a channel that yields after a member changed, until ctx ends; changes that nobody looked at are one.
func (m *Membership) Changes(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	m.mu.Lock()
	m.watchers[c] = true
	m.mu.Unlock()
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		delete(m.watchers, c)
		m.mu.Unlock()
	})
	return c
}

func (m *Membership) wakeWatchers() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.watchers {
		m.wake(c)
	}
}

func (m *Membership) wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
