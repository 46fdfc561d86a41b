package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/internal/clock"
)

// place is a chain as the client knows it.
type place struct {
	config  chain.Config
	head    *node   // nil: the chain has no replica
	readers []*node // those that serve
	session *session
}

// routes is the chain map, made ready for looking up. It does not change.
type routes struct {
	revision uint64
	buckets  map[string][]*place // sorted by the beginning of their ranges
}

// find returns the place of a key.
func (r *routes) find(bucket string, key []byte) (*place, error) {
	places := r.buckets[bucket]
	i := sort.Search(len(places), func(i int) bool { return bytes.Compare(places[i].config.Range.Start, key) > 0 })
	if i == 0 || !places[i-1].config.Range.Contains(key) {
		if len(places) == 0 {
			return nil, fmt.Errorf("bucket %q: %w", bucket, fabric.ErrNotFound)
		}
		return nil, fmt.Errorf("no chain of bucket %q has the key (its chains are being changed): %w", bucket, chain.ErrOutOfRange)
	}
	return places[i-1], nil
}

// together says why a command cannot be one of one chain: its keys are of several, as far as the map says.
func (r *routes) together(bucket string, c *chain.Command) error {
	if len(c.If)+len(c.Do) < 2 {
		return nil
	}
	var first []byte
	var of *place
	for i := range len(c.If) + len(c.Do) {
		var key []byte
		if i < len(c.If) {
			key = c.If[i].Key
		} else {
			key = c.Do[i-len(c.If)].Key
		}
		p, err := r.find(bucket, key)
		switch {
		case err != nil: // the chain finds out
		case of == nil:
			first, of = key, p
		case of != p:
			return fmt.Errorf("%w: %q and %q are of different chains (a transaction is of one)", chain.ErrOutOfRange, shortened(first), shortened(key))
		}
	}
	return nil
}

// overlapping returns the places that have keys of a range, in order.
func (r *routes) overlapping(bucket string, keys chain.Range) ([]*place, error) {
	if len(r.buckets[bucket]) == 0 {
		return nil, fmt.Errorf("bucket %q: %w", bucket, fabric.ErrNotFound)
	}
	var found []*place
	for _, p := range r.buckets[bucket] {
		if _, ok := overlap(p.config.Range, keys); ok {
			found = append(found, p)
		}
	}
	return found, nil
}

// overlap is what two ranges have in common.
func overlap(a, b chain.Range) (chain.Range, bool) {
	start, end := a.Start, a.End
	if bytes.Compare(b.Start, start) > 0 {
		start = b.Start
	}
	if len(end) == 0 || len(b.End) > 0 && bytes.Compare(b.End, end) < 0 {
		end = b.End
	}
	return chain.Range{Start: start, End: end}, len(end) == 0 || bytes.Compare(start, end) < 0
}

// learn takes a map over. Of a chain that both know, the config of the later epoch counts.
func (c *Client) learn(m *chain.Map) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	for id, address := range m.Nodes {
		c.nodeAt(id, address)
	}
	old := c.routes.Load()
	if old != nil && m.Revision < old.revision {
		return
	}
	next := &routes{revision: m.Revision, buckets: map[string][]*place{}}
	var replaced []*node
	for _, config := range m.Chains {
		p := c.places[config.ID]
		if p == nil || p.config.Epoch < config.Epoch {
			s := newSession()
			old := p
			if p != nil {
				s = p.session
			}
			p = c.newPlace(config, s)
			if old != nil {
				replaced = append(replaced, old.without(p)...)
			}
			c.places[config.ID] = p
		}
		next.buckets[p.config.Bucket] = append(next.buckets[p.config.Bucket], p)
	}
	for _, places := range next.buckets {
		slices.SortFunc(places, func(a, b *place) int { return bytes.Compare(a.config.Range.Start, b.config.Range.Start) })
	}
	c.routes.Store(next)
	close(c.changed)
	c.changed = make(chan struct{})
	for _, n := range replaced {
		n.abandon()
	}
}

// without are the nodes that are not asked any more because the chain has another config now: those that do not serve it, and a head that is none.
func (p *place) without(next *place) []*node {
	var all []*node
	for _, n := range p.readers {
		if !slices.Contains(next.readers, n) {
			all = append(all, n)
		}
	}
	if p.head != nil && p.head != next.head && !slices.Contains(all, p.head) {
		all = append(all, p.head)
	}
	return all
}

func (c *Client) newPlace(config chain.Config, s *session) *place {
	p := &place{config: config, session: s}
	for i, m := range config.Members {
		n := c.nodeAt(m.Node, "")
		if i == 0 {
			p.head = n
		}
		if m.State == chain.Serving {
			p.readers = append(p.readers, n)
		}
	}
	if n := len(p.readers); c.config.PlainReads && n > 1 {
		p.readers = p.readers[n-1:]
	}
	return p
}

// nodeAt returns a node, and keeps its address if one is given.
func (c *Client) nodeAt(id fabric.NodeID, address string) *node {
	n := c.nodes[id]
	if n == nil {
		n = &node{client: c, id: id, slots: make([]slot, c.config.Connections)}
		c.nodes[id] = n
	}
	if address != "" {
		if old := n.address.Load(); old == nil || *old != address {
			n.address.Store(&address)
			n.down.Store(0)
		}
	}
	return n
}

// follow keeps the map up to date: a node tells when it has a newer one. One after the other is asked, because one may be cut off from the others and not know it.
func (c *Client) follow(ctx context.Context) {
	for turn := 0; ctx.Err() == nil; turn++ {
		nodes := c.known()
		from := uint64(0)
		if r := c.routes.Load(); r != nil {
			from = r.revision
		}
		m, err := c.askNode(ctx, nodes[turn%len(nodes)], from, chain.MapNewer)
		switch {
		case err != nil:
			clock.Wait(ctx, pause)
		case m != nil:
			c.learn(m)
		}
	}
}

// refresh asks for a newer map than the one that did not do, and waits for it, or for a moment.
func (c *Client) refresh(ctx context.Context, stale *routes, attempt int) {
	c.mu.Lock()
	changed := c.changed
	c.mu.Unlock()
	if c.routes.Load() != stale {
		return
	}
	select {
	case c.refreshing <- struct{}{}:
		_ = c.ask(ctx) // if it is not newer, the wait below is what helps
		<-c.refreshing
	default:
	}
	if c.routes.Load() != stale {
		return
	}
	timer := time.NewTimer(backoff(attempt))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// backoff is how long to wait before another attempt.
func backoff(attempt int) time.Duration {
	return min(2*time.Millisecond<<min(attempt, 10), 100*time.Millisecond)
}

// ask asks the nodes that are known, one after the other, for a map that is newer than the client's.
func (c *Client) ask(ctx context.Context) error {
	var errs []error
	answered := false
	from := uint64(0)
	if r := c.routes.Load(); r != nil {
		from = r.revision
	}
	for _, n := range c.known() {
		m, err := c.askNode(ctx, n, from, chain.MapNow)
		if err == nil {
			if m != nil && (from == 0 || m.Revision > from) {
				c.learn(m)
				return nil
			}
			answered = true
			continue
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	if answered {
		return nil
	}
	return fmt.Errorf("cannot learn where the chains are: %w", errors.Join(errs...))
}

// confirm asks for the latest map, because the client's knows nothing of a bucket, which may have been made just now. It returns nil if there is a newer map, and
// unknown if there is none.
func (c *Client) confirm(ctx context.Context, r *routes, unknown error) error {
	for {
		var errs []error
		for _, n := range c.known() {
			m, err := c.askNode(ctx, n, r.revision, chain.MapLatest)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if m != nil && m.Revision > r.revision {
				c.learn(m)
			}
			if c.routes.Load() != r {
				return nil
			}
			return unknown
		}
		if !clock.Wait(ctx, pause) { // not fabric.ErrNotFound: nobody knows
			return fmt.Errorf("%v, as far as is known, and no node can say whether that is the latest: %w", unknown, errors.Join(append(errs, ctx.Err())...))
		}
	}
}

func (c *Client) askNode(ctx context.Context, n *node, from uint64, when int) (*chain.Map, error) {
	k := newCall()
	defer k.free()
	q := chain.Request{Ask: chain.AskMap, From: from, Limit: when}
	if err := n.do(ctx, &q, k); err != nil {
		return nil, err
	}
	if len(k.answer.Map) == 0 {
		return nil, nil //nolint:nilnil // nothing newer
	}
	var m chain.Map
	if err := json.Unmarshal(k.answer.Map, &m); err != nil {
		return nil, fmt.Errorf("map of node %s: %w: %w", n.id, chain.ErrCorrupt, err)
	}
	return &m, nil
}

// known are all nodes, those first that can be reached, the nearest first, and the given addresses last.
func (c *Client) known() []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	nodes := make([]*node, 0, len(c.nodes)+len(c.seeds))
	for _, n := range c.nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *node) int {
		if x, y := a.reachable(), b.reachable(); x != y {
			if x {
				return -1
			}
			return 1
		}
		return int(a.trip.Load()/1000 - b.trip.Load()/1000)
	})
	return append(nodes, c.seeds...)
}
