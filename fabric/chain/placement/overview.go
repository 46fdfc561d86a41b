package placement

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// Overview is how all is, for people.
type Overview struct {
	Keeper     fabric.NodeID `json:"keeper"`
	Generation uint64        `json:"generation"`
	Buckets    []Bucket      `json:"buckets"`
	Chains     []ChainView   `json:"chains"`
	Nodes      []NodeView    `json:"nodes"`
	Stale      *Stale        `json:"stale,omitempty"` // nil: the keeper says so
}

// ChainView is a chain and what its members said of themselves last.
type ChainView struct {
	Chain
	Members []MemberView `json:"members"`
	// Waits says why the chain is not as it should be; empty if it is.
	Waits string `json:"waits,omitempty"`
}

// On is the place of a node's replica in the chain; -1 if it has none. It looks at the views, which are all that a view in JSON has of the members.
func (v ChainView) On(node fabric.NodeID) int {
	return slices.IndexFunc(v.Members, func(m MemberView) bool { return m.Node == node })
}

// MemberView is a member and its last report.
type MemberView struct {
	chain.Member
	Gone   string   `json:"gone,omitempty"`   // why it answers nothing any more
	Status *Replica `json:"status,omitempty"` // nil: it said nothing yet
}

// NodeView is a node as the keeper sees it.
type NodeView struct {
	ID          fabric.NodeID `json:"id"`
	Incarnation uint64        `json:"incarnation"`
	Zone        string        `json:"zone"`
	Free        uint64        `json:"free"`
	Replicas    int           `json:"replicas"`
	Drain       bool          `json:"drain"`
	// Silent is for how long nothing was heard of it.
	Silent time.Duration `json:"silent"`
	Alive  bool          `json:"alive"` // it has a lease
}

// Overview says how all is.
func (k *Keeper) Overview(now Instant) Overview {
	o := Overview{Keeper: k.self, Generation: k.generation, Buckets: k.Buckets()}
	for _, c := range k.Chains() {
		v := ChainView{Chain: c, Waits: k.waits(now, c)}
		v.Away, _ = k.kept(c)
		for _, m := range c.Members {
			v.Members = append(v.Members, MemberView{Member: m, Gone: k.gone(now, c.ID, m.Replica), Status: k.nodes[m.Node].status(c.ID, m.Replica)})
		}
		o.Chains = append(o.Chains, v)
	}
	for _, id := range sorted(k.nodes) {
		n := k.nodes[id]
		o.Nodes = append(o.Nodes, NodeView{
			ID: id, Incarnation: n.Incarnation, Zone: n.Zone, Free: n.Free, Replicas: len(n.Replicas), Drain: k.orders[id].value.Drain,
			Silent: now - n.heard, Alive: k.alive(now, id),
		})
	}
	return o
}

// waits says what a chain waits for.
func (k *Keeper) waits(now Instant, c Chain) string {
	kept, given := k.kept(c)
	gone := slices.DeleteFunc(slices.Clone(c.Serving()), func(r chain.Replica) bool { return k.gone(now, c.ID, r) == "" })
	m, filling := c.last()
	switch {
	case len(c.Members) == 0:
		return "its bucket is being deleted"
	case len(gone) == len(c.Serving()) && c.Unsynced:
		return fmt.Sprintf("all that served are gone: one that was shut down in order has to return, or all, of which the one with most begins (%v); if they never will: orrery kv recover", nodesOf(gone))
	case len(gone) == len(c.Serving()):
		return fmt.Sprintf("all that served are gone: one of them has to return with its disk (%v); if none ever will: orrery kv recover", nodesOf(gone))
	case filling && m.State == chain.Syncing:
		return fmt.Sprintf("node %s is being filled", m.Node)
	case filling:
		return fmt.Sprintf("node %s joins", m.Node)
	case c.Split != nil:
		return fmt.Sprintf("it is being split, into chain %d too", c.Split.Child)
	case c.Move != nil:
		return fmt.Sprintf("node %s is to give its replica up", c.Move.From)
	case len(c.Members) < k.factor(c) && len(kept) > 0:
		return fmt.Sprintf("%d of %d replicas: a place is kept for %v", len(c.Members), k.factor(c), kept)
	case len(c.Members) < k.factor(c) && c.Bucket == SharedBucket && !k.others(now, c):
		return "" // it is on all nodes that there are: a small cluster is not ill
	case len(c.Members) < k.factor(c) && len(given) > 0:
		return fmt.Sprintf("%d of %d replicas: %v had one and is to hold none, and no other node can take it (none is there, or disks are full)", len(c.Members), k.factor(c), given)
	case len(c.Members) < k.factor(c):
		return fmt.Sprintf("%d of %d replicas: no other node can take one (none is there, or disks are full)", len(c.Members), k.factor(c))
	}
	return ""
}

// kept are the nodes for which places of a chain are kept, and those that had a place and are to hold no replicas any more: another node gets it as soon as there is one.
func (k *Keeper) kept(c Chain) (kept, given []fabric.NodeID) {
	for _, n := range c.Away {
		if k.orders[n].value.Drain {
			given = append(given, n)
		} else {
			kept = append(kept, n)
		}
	}
	return kept, given
}

// others says whether there is a node without a replica of a chain.
func (k *Keeper) others(now Instant, c Chain) bool {
	for id := range k.nodes {
		if k.alive(now, id) && c.On(id) < 0 && !k.orders[id].value.Drain {
			return true
		}
	}
	return false
}

func nodesOf(all []chain.Replica) []fabric.NodeID {
	var ids []fabric.NodeID
	for _, r := range all {
		ids = append(ids, r.Node)
	}
	return ids
}

// ErrOnlyCopy says that a node has the only copy of something.
var ErrOnlyCopy = errors.New("nobody else has the keys")

// OnlyOn says which chain has a replica on a node, and none that serves on another one that belongs to the cluster. If there are several it is not SharedBucket's.
func (o *Overview) OnlyOn(id fabric.NodeID, belongs func(fabric.NodeID) bool) (bucket string, err error) {
	for _, c := range o.Chains {
		elsewhere := slices.ContainsFunc(c.Members, func(m MemberView) bool {
			return m.Node != id && belongs(m.Node) && m.State == chain.Serving && m.Gone == ""
		})
		if c.On(id) >= 0 && !elsewhere && (bucket == "" || bucket == SharedBucket) {
			bucket, err = c.Bucket, fmt.Errorf("%w of chain %d of bucket %s", ErrOnlyCopy, c.ID, c.Bucket)
		}
	}
	return bucket, err
}
