package placement

import (
	"bytes"
	"fmt"

	"orrery/fabric/chain"
)

// indivisible says why a chain cannot be split at a key now.
func (k *Keeper) indivisible(now Instant, c Chain, key []byte) string {
	switch {
	case c.Bucket == SharedBucket:
		return fmt.Sprintf("bucket %s is one chain always", SharedBucket)
	case !k.settled(now, c):
		return "it has not all its replicas, or something is under way"
	case len(key) > chain.MaxKey || bytes.Compare(key, c.Range.Start) <= 0 || !c.Range.Contains(key):
		return "the key is not within the chain's keys"
	}
	return ""
}

// split splits a chain that is large or has much to do, at the key that its head suggests.
func (k *Keeper) split(now Instant, c *Chain) string {
	if len(c.Members) == 0 {
		return ""
	}
	head := k.member(*c, c.Members[0].Replica)
	if head == nil || head.Split == nil || k.indivisible(now, *c, head.Split) != "" {
		return ""
	}
	var load float64
	for _, m := range c.Members {
		load += k.loads[place{c.ID, m.Node}]
	}
	var why string
	switch {
	case head.Bytes >= k.config.SplitBytes:
		why = fmt.Sprintf("it has %d bytes", head.Bytes)
	case k.config.SplitOps > 0 && load >= k.config.SplitOps:
		why = fmt.Sprintf("it does %.0f operations a second", load)
	default:
		return ""
	}
	key := head.Split
	if k.cut(c, key) != nil {
		return "" // no ids are left; a command says so
	}
	return fmt.Sprintf("split at %q: %s", key, why)
}

// cut takes the keys from key on out of a chain, for a new one. The caller counts the epoch up.
func (k *Keeper) cut(c *Chain, key []byte) error {
	child, err := k.takeIDs(1)
	if err != nil {
		return err
	}
	c.Split = &Split{Child: child, Range: chain.Range{Start: bytes.Clone(key), End: c.Range.End}, Epoch: c.Epoch + 1}
	c.Range.End = c.Split.Range.Start
	return nil
}

// bear makes the records of chains that were split off, once all members of the old chain have their part of the new one. They have it only when they have written
// the boundary, so that none of them answers for these keys in the old chain any more.
func (k *Keeper) bear(now Instant) []Change {
	var all []Change
	for _, id := range sorted(k.chains) {
		c := k.chains[id].value
		if c.Split == nil || len(c.Members) == 0 || !k.owned(c) || k.busy(ChainKey(id)) || k.busy(ChainKey(c.Split.Child)) {
			continue
		}
		if _, ok := k.chains[c.Split.Child]; ok || !k.ripe(now, c) {
			continue
		}
		child := Chain{
			Config: chain.Config{ID: c.Split.Child, Bucket: c.Bucket, Range: c.Split.Range, Epoch: c.Epoch, Members: c.clone().Members, Unsynced: c.Unsynced, Line: c.Line},
			Parent: c.ID, Away: c.clone().Away, Recovery: c.Recovery,
		}
		all = append(all, k.change(child, fmt.Sprintf("split off from chain %d", c.ID)))
	}
	return all
}

// ripe says whether all members serve and have made their part of the chain that is split off.
func (k *Keeper) ripe(now Instant, c Chain) bool {
	for _, m := range c.Members {
		n := k.nodes[m.Node]
		part := n.status(c.Split.Child, m.Replica)
		if m.State != chain.Serving || part == nil || part.Failed != "" || k.member(c, m.Replica) == nil || k.gone(now, c.ID, m.Replica) != "" {
			return false
		}
	}
	return true
}

// parted ends a split whose new chain is there.
func (k *Keeper) parted(_ Instant, c *Chain) string {
	if c.Split == nil {
		return ""
	}
	child := c.Split.Child
	if _, ok := k.chains[child]; !ok {
		return ""
	}
	c.Split = nil
	return fmt.Sprintf("chain %d is split off", child)
}
