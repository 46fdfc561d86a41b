package placement

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// want is which nodes choose looks at.
type want int

const (
	fresh  want = iota // any
	holder             // those that have data of the chain
)

// choose picks the node for a chain's next replica: in a zone with fewest of its members, then with the least to do, then by rendezvous hashing.
func (k *Keeper) choose(now Instant, c Chain, w want) (fabric.NodeID, bool) {
	var able []fabric.NodeID
	for _, id := range sorted(k.nodes) {
		has := k.nodes[id].replica(c.ID)
		if k.fit(now, c, id) && (w == fresh || has != nil) && !slices.Contains(c.Away, id) || w == holder && has != nil && k.fit(now, c, id) {
			able = append(able, id)
		}
	}
	if len(able) == 0 {
		return "", false
	}
	costs := k.costs()
	return slices.MinFunc(able, func(a, b fabric.NodeID) int {
		return cmp.Or(
			cmp.Compare(k.crowd(c, a), k.crowd(c, b)),
			cmp.Compare(costs[a], costs[b]),
			cmp.Compare(score(c.ID, b), score(c.ID, a)),
		)
	}), true
}

// fit says whether a node can get a replica of a chain.
func (k *Keeper) fit(now Instant, c Chain, id fabric.NodeID) bool {
	n := k.nodes[id]
	if !k.alive(now, id) || c.On(id) >= 0 || k.orders[id].value.Drain || k.avoids(now, c, id) {
		return false
	}
	if has := n.replica(c.ID); has != nil {
		return has.Failed == ""
	}
	return n.Free >= k.config.Reserve+k.size(c)
}

// size is how many bytes a replica of a chain has, as its members say.
func (k *Keeper) size(c Chain) uint64 {
	var most uint64
	for _, m := range c.Members {
		if s := k.nodes[m.Node].status(c.ID, m.Replica); s != nil {
			most = max(most, s.Bytes)
		}
	}
	return most
}

// crowd is how many members of a chain are in a node's zone. Nodes without a zone are zones of their own.
func (k *Keeper) crowd(c Chain, id fabric.NodeID) int {
	if k.nodes[id] == nil {
		return 0
	}
	zone, count := k.nodes[id].Zone, 0
	for _, m := range c.Members {
		if n := k.nodes[m.Node]; n != nil && zone != "" && n.Zone == zone && m.Node != id {
			count++
		}
	}
	return count
}

// score is a node's place among equals for a chain (rendezvous hashing).
func score(id chain.ID, node fabric.NodeID) uint64 {
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(id)))
	h.Write([]byte(node))
	return mix(h.Sum64())
}

// mix spreads a hash over all its bits.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
