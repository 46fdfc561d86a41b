package placement

import (
	"fmt"
	"slices"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// node is what the keeper knows of a node by its reports.
type node struct {
	Report
	born     Instant // when the process was heard of first
	heard    Instant // when the newest report came
	answered bool    // it has its grant
	seen     uint64  // number of the newest grant of this keeper that the node acts on
}

// release is the keeper's wish that a node has no lease for a chain.
type release struct {
	number uint64  // the node has none once it acts on the grant with this number
	since  Instant // or Config.expiry after this
}

// Report takes over what a node says. now is when it came. Reports that are older than one that came are ignored.
func (k *Keeper) Report(now Instant, r Report) {
	n := k.nodes[r.Node]
	if n != nil && (r.Incarnation < n.Incarnation || r.Incarnation == n.Incarnation && r.Sequence <= n.Sequence) {
		return
	}
	next := &node{Report: r, born: now, heard: now}
	if n != nil && n.Incarnation == r.Incarnation {
		next.seen = n.seen
		if now-n.heard < k.config.Lease {
			next.born = n.born
		}
	}
	if r.Seen.Generation == k.generation {
		next.seen = max(next.seen, r.Seen.Number)
	}
	k.nodes[r.Node] = next
}

// alive says whether a node was heard of within a lease's time.
func (k *Keeper) alive(now Instant, id fabric.NodeID) bool {
	n := k.nodes[id]
	return n != nil && now-n.heard < k.config.Lease
}

// silent is for how long nothing was heard of a replica's process; ok is false if it never was.
func (k *Keeper) silent(now Instant, r chain.Replica) (silence time.Duration, ok bool) {
	n := k.nodes[r.Node]
	if n == nil || n.Incarnation != r.Incarnation {
		return now - k.start, false
	}
	return now - n.heard, true
}

// gone says why a replica of a chain certainly answers nothing any more; "" if it may.
func (k *Keeper) gone(now Instant, id chain.ID, r chain.Replica) string {
	n := k.nodes[r.Node]
	if n != nil && n.Incarnation > r.Incarnation {
		return fmt.Sprintf("node %s has restarted", r.Node)
	}
	if s := n.status(id, r); s != nil && s.Failed != "" {
		return fmt.Sprintf("the replica on node %s has stopped: %s", r.Node, s.Failed)
	}
	limit := k.config.expiry()
	silence, heard := k.silent(now, r)
	if !heard && r.Node == k.before {
		limit /= ownShare
	}
	if silence >= limit {
		return fmt.Sprintf("the lease of node %s has run out", r.Node)
	}
	return ""
}

// status is what the node said of a replica; nil if it did not.
func (n *node) status(id chain.ID, r chain.Replica) *Replica {
	if n == nil || n.Incarnation != r.Incarnation {
		return nil
	}
	return n.replica(id)
}

// replica is what the node says of the replica of a chain that it has; nil if it has none.
func (n *node) replica(id chain.ID) *Replica {
	if n == nil {
		return nil
	}
	i := slices.IndexFunc(n.Replicas, func(r Replica) bool { return r.Chain == id })
	if i < 0 {
		return nil
	}
	return &n.Replicas[i]
}

// member is what a member says of itself in the chain's epoch; nil if it did not say anything yet.
func (k *Keeper) member(c Chain, r chain.Replica) *Replica {
	s := k.nodes[r.Node].status(c.ID, r)
	if s == nil || s.Epoch != c.Epoch || s.Failed != "" {
		return nil
	}
	return s
}

// grant answers the reports that came up to now, which is when the keeper was certainly the keeper.
func (k *Keeper) grant(now Instant) []Grant {
	var all []Grant
	for _, id := range sorted(k.nodes) {
		n := k.nodes[id]
		if n.answered || n.heard > now {
			continue
		}
		n.answered = true
		k.grants++
		lease := k.config.granted()
		if id == k.self {
			lease /= ownShare
		}
		all = append(all, Grant{
			Node: id, Incarnation: n.Incarnation, Sequence: n.Sequence, ID: GrantID{k.generation, k.grants},
			Lease: lease, Revision: k.removed, Without: k.without(now, n), Drop: k.drop(now, n),
		})
	}
	return all
}

// without are the chains that the next grant to a node does not cover.
func (k *Keeper) without(now Instant, n *node) []chain.ID {
	var all []chain.ID
	for _, id := range sorted(k.chains) {
		c := k.chains[id].value
		at := place{id, n.Node}
		if !k.withheld(now, c, n) {
			delete(k.releases, at)
			continue
		}
		all = append(all, id)
		if _, ok := k.releases[at]; !ok {
			k.releases[at] = release{number: k.grants, since: now}
		}
	}
	return all
}

// withheld says whether a node is to have no lease for a chain: its record may be changed by the keeper before, or the node is about to leave the chain.
func (k *Keeper) withheld(now Instant, c Chain, n *node) bool {
	i := c.On(n.Node)
	if i < 0 {
		return false
	}
	if !k.owned(c) {
		return true
	}
	member := c.Members[i].Replica
	if next := k.pending[ChainKey(c.ID)].next; next != nil && slices.Contains(leaving(c, *next), member) {
		return true
	}
	retire, _ := k.retiring(now, c)
	return slices.Contains(retire, member)
}

// owned says whether nobody but this keeper can change a chain's record.
func (k *Keeper) owned(c Chain) bool { return c.Keeper == k.generation && !k.unsure[c.ID] }

// released says whether a replica has certainly no lease for a chain.
func (k *Keeper) released(now Instant, id chain.ID, r chain.Replica) bool {
	if k.gone(now, id, r) != "" {
		return true
	}
	n := k.nodes[r.Node]
	at, ok := k.releases[place{id, r.Node}]
	if !ok || n == nil || n.Incarnation != r.Incarnation {
		return false
	}
	return n.seen >= at.number || now-max(at.since, k.start) >= k.config.expiry()
}

// drop are the replicas that a node need not keep.
func (k *Keeper) drop(now Instant, n *node) []Drop {
	var all []Drop
	for _, r := range n.Replicas {
		c, ok := k.chains[r.Chain]
		switch {
		case !ok && !k.expected(r.Chain):
			all = append(all, Drop{Chain: r.Chain, Epoch: r.Epoch})
		case ok && k.needless(now, c.value, n.Node):
			all = append(all, Drop{Chain: r.Chain, Epoch: c.value.Epoch})
		}
	}
	return all
}

// expected says whether a chain that has no record is about to get one.
func (k *Keeper) expected(id chain.ID) bool {
	if _, ok := k.pending[ChainKey(id)]; ok {
		return true
	}
	for _, c := range k.chains {
		if c.value.Split != nil && c.value.Split.Child == id {
			return true
		}
	}
	return false
}

// needless says whether a chain can do without what a node that is no member has of it: it has all its replicas, and they serve.
func (k *Keeper) needless(now Instant, c Chain, id fabric.NodeID) bool {
	if k.busy(ChainKey(c.ID)) || !k.owned(c) || c.On(id) >= 0 {
		return false
	}
	if len(c.Members) == 0 {
		return k.buckets[c.Bucket].value.State == Deleting
	}
	if slices.Contains(c.Away, id) || c.Move != nil || len(c.Members) < k.factor(c) {
		return false
	}
	for _, m := range c.Members {
		if m.State != chain.Serving || !k.alive(now, m.Node) || k.gone(now, c.ID, m.Replica) != "" {
			return false
		}
	}
	return true
}

// factor is how many replicas a chain should have.
func (k *Keeper) factor(c Chain) int { return k.buckets[c.Bucket].value.Factor }
