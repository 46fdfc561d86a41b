package placement

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// RecoverRequest is an operator's wish that a chain begins anew although those that served are lost, and with them perhaps what was acknowledged.
type RecoverRequest struct {
	Chain chain.ID      `json:"chain"`
	From  fabric.NodeID `json:"from,omitempty"`  // begins; empty: the node of which it is known that it has most
	Empty bool          `json:"empty,omitempty"` // with no keys, whatever replicas remain
	// Force gives up also those that may return with all that was acknowledged.
	Force bool   `json:"force,omitempty"`
	Try   bool   `json:"try,omitempty"` // say only what would be done
	By    string `json:"by,omitempty"`  // who asks; the node that is asked sets it
}

// Recovery is how a chain begins anew.
type Recovery struct {
	By   string        `json:"by"` // empty: the keeper, for an unsynced chain of which all had crashed
	At   int64         `json:"at"` // milliseconds since 1970 by the keeper's calendar
	Node fabric.NodeID `json:"node"`
	// Has is the newest entry of what it begins with, and Known the newest one that any replica is known to have had; 0: nothing is known. Entries after Has are lost.
	Has   uint64 `json:"has"`
	Known uint64 `json:"known"`
	Empty bool   `json:"empty"`
	// Waits are the nodes that may have everything, and are given up. They are not in the record.
	Waits []fabric.NodeID `json:"waits,omitempty"`
}

// lineGap is how far a new line is from all sequences that are known. What was acknowledged and is not known of lies between them.
const lineGap = 1 << 40

// Recover lets a chain begin anew with what one node has of it, or with nothing. The recovery says what that means; the change is empty if the request only tries.
func (k *Keeper) Recover(now Instant, q RecoverRequest) (Recovery, Change, error) {
	fail := func(err error) (Recovery, Change, error) {
		return Recovery{}, Change{}, fmt.Errorf("cannot recover chain %d: %w", q.Chain, err)
	}
	c, err := k.lost(now, q.Chain)
	if err != nil {
		return fail(err)
	}
	r := Recovery{By: q.By[:min(len(q.By), maxName)], At: k.calendar, Empty: q.Empty, Known: k.known(c)}
	for _, m := range c.Members {
		if serves(m) && k.mayReturn(now, c, m.Replica) {
			r.Waits = append(r.Waits, m.Node)
		}
	}
	if len(r.Waits) > 0 && !q.Force && !q.Try {
		return fail(fmt.Errorf("%v may return with all that was acknowledged (start them; --force gives them up)", r.Waits))
	}
	if r.Node, r.Has, err = k.remains(now, c, q); err != nil {
		return fail(err)
	}
	if q.Try {
		return r, Change{}, nil
	}
	for _, m := range c.Members {
		if m.State == chain.Joining && m.Node != r.Node && k.gone(now, c.ID, m.Replica) == "" {
			return fail(fmt.Errorf("node %s was about to serve it, and may answer: recover from that node, or stop it", m.Node))
		}
	}
	waits := r.Waits
	r.Waits = nil
	c.Members = []chain.Member{{Replica: k.process(r.Node), State: chain.Serving}}
	c.Away, c.Move, c.Fresh = nil, nil, q.Empty
	k.renew(&c, r)
	c.Epoch++
	change := k.change(c, fmt.Sprintf("begun anew by %s with what node %s has, up to entry %d of %d that are known", r.By, r.Node, r.Has, r.Known))
	told := r
	told.Waits = waits
	return told, change, nil
}

// renew begins a line with the chain's next epoch.
func (k *Keeper) renew(c *Chain, r Recovery) {
	c.Line = chain.Line{Epoch: c.Epoch + 1, Sequence: max(r.Has, r.Known, c.Line.Sequence) + lineGap, Empty: r.Empty}
	c.Recovery = &r
}

// lost is a copy of the record of a chain of which all that served are gone, and which cannot go on by itself.
func (k *Keeper) lost(now Instant, id chain.ID) (Chain, error) {
	held, ok := k.chains[id]
	c := held.value
	b, exists := k.buckets[c.Bucket]
	switch {
	case !ok:
		return Chain{}, fabric.ErrNotFound
	case !exists || b.value.State == Deleting || len(c.Members) == 0:
		return Chain{}, fmt.Errorf("bucket %s is being deleted", c.Bucket)
	case k.busy(ChainKey(id)) || !k.owned(c):
		return Chain{}, fmt.Errorf("%w: its record is being changed; try again", chain.ErrBusy)
	}
	for _, r := range c.Serving() {
		if k.gone(now, id, r) == "" {
			return Chain{}, fmt.Errorf("node %s serves it, or may: nothing is lost", r.Node)
		}
	}
	if n, _ := k.first(now, c); n != "" {
		return Chain{}, fmt.Errorf("node %s has returned with its disk: the chain goes on by itself", n)
	}
	return c.clone(), nil
}

// known is the newest entry that any replica of a chain is known to have had.
func (k *Keeper) known(c Chain) uint64 {
	var newest uint64
	for _, n := range k.nodes {
		if has := n.replica(c.ID); has != nil {
			newest = max(newest, has.Last)
		}
	}
	return newest
}

// mayReturn says whether a replica that is gone may come back with all that was acknowledged. It does not if its node is there and does not have it.
func (k *Keeper) mayReturn(now Instant, c Chain, r chain.Replica) bool {
	n := k.nodes[r.Node]
	if !k.alive(now, r.Node) {
		return true
	}
	has := n.replica(c.ID)
	if c.Unsynced && n.Incarnation > r.Incarnation {
		return false // it has crashed
	}
	return has != nil && (has.Failed == "" || has.Last > 0)
}

// remains finds the node with which a chain begins anew, and the newest entry that it has.
func (k *Keeper) remains(now Instant, c Chain, q RecoverRequest) (fabric.NodeID, uint64, error) {
	nobody := c.clone()
	nobody.Members = nil
	if q.Empty {
		if n := q.From; n != "" {
			if !k.alive(now, n) {
				return "", 0, fmt.Errorf("node %s is not there", n)
			}
			return n, 0, nil
		}
		n, ok := k.choose(now, nobody, fresh)
		if !ok {
			return "", 0, fmt.Errorf("no node can take it")
		}
		return n, 0, nil
	}
	var able []fabric.NodeID
	for _, id := range sorted(k.nodes) {
		if has := k.nodes[id].replica(c.ID); k.alive(now, id) && has != nil && has.Failed == "" && (q.From == "" || q.From == id) {
			able = append(able, id)
		}
	}
	switch {
	case len(able) == 0 && q.From != "":
		return "", 0, fmt.Errorf("node %s is not there, or has nothing of it", q.From)
	case len(able) == 0:
		return "", 0, fmt.Errorf("no node that is there has anything of it (--empty lets it begin with nothing)")
	}
	best := slices.MaxFunc(able, func(a, b fabric.NodeID) int {
		x, y := k.nodes[a].replica(c.ID), k.nodes[b].replica(c.ID)
		return cmp.Or(cmp.Compare(x.Committed, y.Committed), cmp.Compare(x.Last, y.Last))
	})
	return best, k.nodes[best].replica(c.ID).Last, nil
}

// append is the recovery, and the line that began with it, in a record.
func (r *Recovery) append(v []byte, l chain.Line) []byte {
	v = append(binary.AppendUvarint(binary.AppendUvarint(v, l.Epoch), l.Sequence), flag(l.Empty))
	v = appendBytes(binary.AppendVarint(appendBytes(v, r.By), r.At), r.Node)
	return binary.AppendUvarint(binary.AppendUvarint(v, r.Has), r.Known)
}

func (d *decoder) recovery() (*Recovery, chain.Line) {
	l := chain.Line{Epoch: d.uvarint(), Sequence: d.uvarint(), Empty: d.flag()}
	return &Recovery{By: string(d.bytes(maxName)), At: d.varint(), Node: d.node(), Has: d.uvarint(), Known: d.uvarint(), Empty: l.Empty}, l
}
