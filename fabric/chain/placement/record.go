package placement

import (
	"fmt"
	"slices"
	"strings"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// Where the chain table's records are in fabric.Table.
const (
	Prefix       = "fabric/chain/"
	KeeperKey    = Prefix + "keeper"
	ShortKey     = Prefix + "short"   // a KeeperRecord: see Keeper.shorten
	BucketPrefix = Prefix + "bucket/" // + name
	ChainPrefix  = Prefix + "chain/"  // + id, 16 hexadecimal digits
	NodePrefix   = Prefix + "node/"   // + node id
)

// SharedBucket is the bucket of fabric/shared: what the nodes of a cluster share. It has one chain, which is never split.
const SharedBucket = "system"

// BucketKey is where a bucket's record is.
func BucketKey(name string) string { return BucketPrefix + name }

// ChainKey is where a chain's record is.
func ChainKey(id chain.ID) string { return fmt.Sprintf("%s%016x", ChainPrefix, uint64(id)) }

// NodeKey is where what an operator decided about a node is.
func NodeKey(id fabric.NodeID) string { return NodePrefix + string(id) }

// KeeperRecord says who the keeper is.
type KeeperRecord struct {
	Generation uint64        `json:"generation"` // grows with every keeper
	Node       fabric.NodeID `json:"node"`
}

// Durability is what an acknowledged write survives. The numbers are in the chain table.
type Durability byte

// The durabilities.
const (
	// Synced writes are on the disk of every replica when they are acknowledged.
	Synced Durability = 1
	// Replicated writes are in the memory of every replica when they are acknowledged, and on disks a little later. They survive as long as one replica
	// does not crash; if all crash, the last ones may be lost (../DESIGN.md, "Unsynced chains").
	Replicated Durability = 2
)

// BucketState is how far a bucket is. The numbers are in the chain table.
type BucketState byte

// The states of a bucket.
const (
	Creating BucketState = 1 // not all of its chains are there
	Ready    BucketState = 2
	Deleting BucketState = 3 // its chains stop, then they go, then it goes
)

// Bucket is a bucket's record.
type Bucket struct {
	Name       string      `json:"name"`
	Factor     int         `json:"factor"` // replicas that each chain should have
	Durability Durability  `json:"durability"`
	State      BucketState `json:"state"`
	Created    int64       `json:"created"`          // milliseconds since 1970
	First      chain.ID    `json:"first"`            // the chain of its first partition; the others' ids follow
	Splits     [][]byte    `json:"splits,omitempty"` // where it was cut into partitions when it was created, sorted
}

// Move is a replica's way to another node: To is added, and when it serves From goes. To may be empty: the chain
// has one replica too many.
type Move struct {
	From fabric.NodeID `json:"from"`
	To   fabric.NodeID `json:"to,omitempty"`
}

// Split is a boundary that a chain is about to write: the keys from Range.Start on leave it, for the chain Child. Epoch is the one that began with it.
type Split struct {
	Child chain.ID    `json:"child"`
	Range chain.Range `json:"range"`
	Epoch uint64      `json:"epoch"`
}

// Chain is a chain's record.
type Chain struct {
	chain.Config
	// Keeper is the generation of the keeper that wrote the record last.
	Keeper uint64 `json:"keeper"`
	// Fresh says that no replica is known to have been made yet. Only in a fresh chain may a serving member, or the first that
	// returns when all are gone, begin with nothing.
	Fresh bool `json:"fresh,omitempty"`
	// Parent is the chain that this one was split from; 0 for none. Its replicas are made of the parent's.
	Parent chain.ID `json:"parent,omitempty"`
	// Away are nodes whose replica was removed because they are lost. Their place is kept for a while.
	Away  []fabric.NodeID `json:"away,omitempty"`
	Move  *Move           `json:"move,omitempty"`
	Split *Split          `json:"split,omitempty"`
	// Recovery is how it began anew last, by an operator's act or because all crashed that had unsynced writes; nil: never.
	Recovery *Recovery `json:"recovery,omitempty"`
	// Reason is why it was changed last, and Changed when, in milliseconds since 1970 by the keeper's calendar. Both are for people.
	Reason  string `json:"reason"`
	Changed int64  `json:"changed"`
}

// Serving are the members that serve, head first.
func (c Chain) Serving() []chain.Replica {
	var all []chain.Replica
	for _, m := range c.Members {
		if m.State == chain.Serving {
			all = append(all, m.Replica)
		}
	}
	return all
}

// On returns the index of the member on a node; -1 for none.
func (c Chain) On(node fabric.NodeID) int {
	return slices.IndexFunc(c.Members, func(m chain.Member) bool { return m.Node == node })
}

// last is the member that is not serving yet; ok is false if all serve.
func (c Chain) last() (m chain.Member, ok bool) {
	if n := len(c.Members); n > 0 && c.Members[n-1].State != chain.Serving {
		return c.Members[n-1], true
	}
	return chain.Member{}, false
}

// clone is a copy that shares no slice that is written to.
func (c Chain) clone() Chain {
	c.Members, c.Away = slices.Clone(c.Members), slices.Clone(c.Away)
	return c
}

// Node is what an operator decided about a node.
type Node struct {
	ID fabric.NodeID `json:"id"`
	// Drain says that the node is to hold no replicas.
	Drain bool `json:"drain"`
}

// CheckBucketName says why a name cannot be a bucket's.
func CheckBucketName(name string) error {
	switch {
	case name == "" || len(name) > maxName:
		return fmt.Errorf("bucket name %q: it needs 1 to %d characters", name, maxName)
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "":
		return fmt.Errorf("bucket name %q: only a-z, 0-9, '-', '_' and '.' are allowed", name)
	case strings.Trim(name[:1], "-_.") == "":
		return fmt.Errorf("bucket name %q: it begins with a letter or a digit", name)
	}
	return nil
}
