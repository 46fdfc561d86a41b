package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/conn"
	"orrery/fabric/chain/wire"
)

// errDown says that a node could not be reached a moment ago, and was not tried again.
var errDown = errors.New("node cannot be reached")

// pause is how long a node that could not be reached is left alone.
const pause = 200 * time.Millisecond

// node is a node that has replicas.
type node struct {
	client  *Client
	id      fabric.NodeID
	address atomic.Pointer[string]

	trip    atomic.Int64 // round trip in ns, smoothed; 0: never measured
	waiting atomic.Int64 // requests under way
	down    atomic.Int64 // until when not to try, ns since 1970

	slots []slot
	turn  atomic.Uint32
}

// slot holds one connection.
type slot struct {
	link   atomic.Pointer[link]
	making sync.Mutex
}

// measured takes a round trip into account.
func (n *node) measured(d time.Duration) {
	old := n.trip.Load()
	if old == 0 {
		n.trip.Store(int64(d))
		return
	}
	n.trip.Store(old + (int64(d)-old)/8)
}

// do sends a request to the node and waits for the answer.
func (n *node) do(ctx context.Context, q *chain.Request, k *call) error {
	l, err := n.link(ctx)
	if err != nil {
		return err
	}
	n.waiting.Add(1)
	defer n.waiting.Add(-1)
	return l.do(ctx, q, k)
}

// link returns a connection, a new one if need be.
func (n *node) link(ctx context.Context) (*link, error) {
	s := &n.slots[0]
	if len(n.slots) > 1 {
		s = &n.slots[int(n.turn.Add(1))%len(n.slots)]
	}
	if l := s.link.Load(); l != nil && !l.dead() {
		return l, nil
	}
	return n.connect(ctx, s)
}

// connect makes a slot's connection, one caller at a time.
func (n *node) connect(ctx context.Context, s *slot) (*link, error) {
	s.making.Lock()
	defer s.making.Unlock()
	if l := s.link.Load(); l != nil {
		if !l.dead() {
			return l, nil
		}
		l.close()
		s.link.Store(nil)
	}
	if !n.reachable() {
		return nil, errDown
	}
	address := n.address.Load()
	if address == nil {
		return nil, fmt.Errorf("%w: no address of node %s is known", errDown, n.id)
	}
	dial, cancel := context.WithTimeout(ctx, n.client.config.DialTimeout)
	defer cancel()
	begun := time.Now()
	raw, err := n.client.config.Dial(dial, *address, n.id)
	if err != nil {
		if ctx.Err() == nil {
			n.down.Store(time.Now().Add(pause).UnixNano())
		}
		if errors.Is(err, fabric.ErrOtherCluster) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", errDown, err)
	}
	if n.trip.Load() == 0 {
		n.trip.Store(int64(time.Since(begun)) / 4) // TCP's and TLS's round trips, until one is measured
	}
	l := newLink(conn.New(raw, conn.Config{Framing: wire.Framing, Room: n.client.config.Room}), n)
	if !n.client.keep(l) {
		l.close()
		return nil, fabric.ErrClosed
	}
	s.link.Store(l)
	return l, nil
}

func (n *node) reachable() bool {
	until := n.down.Load()
	return until == 0 || time.Now().UnixNano() >= until
}

// abandon lets what waits at the node be asked elsewhere: it may be cut off, and never answer.
func (n *node) abandon() {
	for i := range n.slots {
		if l := n.slots[i].link.Load(); l != nil {
			l.abandon()
		}
	}
}

func (n *node) close() {
	for i := range n.slots {
		s := &n.slots[i]
		s.making.Lock()
		if l := s.link.Load(); l != nil {
			l.close()
		}
		s.making.Unlock()
	}
}

// nearest chooses among nodes: of those that are about as near as the nearest, the one that is asked less of two that are drawn. Nodes in
// avoid come last.
func nearest(nodes []*node, avoid *node) *node {
	if len(nodes) == 1 {
		return nodes[0]
	}
	var few [8]*node
	near := few[:0]
	var best int64 = -1
	now := int64(0)
	for _, n := range nodes {
		if n == avoid {
			continue
		}
		if until := n.down.Load(); until != 0 {
			if now == 0 {
				now = time.Now().UnixNano()
			}
			if now < until {
				continue
			}
		}
		if t := n.trip.Load(); best < 0 || t < best {
			best = t
		}
		near = append(near, n)
	}
	if len(near) == 0 {
		return nodes[rand.IntN(len(nodes))] //nolint:gosec // load, not secrets
	}
	// Nodes of one network differ by less than a millisecond, for reasons of the moment.
	limit := 2*best + int64(time.Millisecond)
	kept := near[:0]
	for _, n := range near {
		if n.trip.Load() <= limit {
			kept = append(kept, n)
		}
	}
	if len(kept) == 1 {
		return kept[0]
	}
	i := rand.IntN(len(kept))     //nolint:gosec // see above
	j := rand.IntN(len(kept) - 1) //nolint:gosec // see above
	if j >= i {
		j++
	}
	if kept[j].waiting.Load() < kept[i].waiting.Load() {
		return kept[j]
	}
	return kept[i]
}
