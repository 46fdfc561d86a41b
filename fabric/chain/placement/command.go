package placement

import (
	"fmt"
	"slices"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// idsPerKeeper is how many chains a keeper can give ids to. Ids are generation * idsPerKeeper + n, so that no two keepers give the same one.
const idsPerKeeper = 1_000_000

// take gives out n ids in a row, and returns the first.
func (k *Keeper) takeIDs(n int) (chain.ID, error) {
	if k.ids+uint64(n) >= idsPerKeeper {
		return 0, fmt.Errorf("the keeper of the chain table has given out %d ids of chains; restart its node", k.ids)
	}
	first := k.generation*idsPerKeeper + k.ids + 1
	k.ids += uint64(n)
	return chain.ID(first), nil
}

// CreateBucket makes a bucket. Its name, factor, durability, splits and date are the caller's. It has its chains some steps later, when its state is Ready.
func (k *Keeper) CreateBucket(b Bucket) (Change, error) {
	key := BucketKey(b.Name)
	if _, ok := k.buckets[b.Name]; ok || k.busy(key) {
		return Change{}, fmt.Errorf("%w: there is a bucket %s", fabric.ErrConflict, b.Name)
	}
	first, err := k.takeIDs(len(b.Splits) + 1)
	if err != nil {
		return Change{}, err
	}
	b.State, b.First = Creating, first
	if err := checkBucket(b); err != nil {
		return Change{}, err
	}
	return put(k, k.buckets, b.Name, key, b, fmt.Sprintf("bucket %s: to be created with %d partitions", b.Name, len(b.Splits)+1)), nil
}

// DeleteBucket deletes a bucket and all that is in it.
func (k *Keeper) DeleteBucket(name string) (Change, error) {
	b, ok := k.buckets[name]
	switch {
	case !ok:
		return Change{}, fmt.Errorf("%w: bucket %s", fabric.ErrNotFound, name)
	case k.busy(BucketKey(name)):
		return Change{}, fmt.Errorf("%w: bucket %s is being changed; try again", chain.ErrBusy, name)
	}
	b.value.State = Deleting
	return put(k, k.buckets, name, BucketKey(name), b.value, fmt.Sprintf("bucket %s: to be deleted", name)), nil
}

// Move moves a chain's replica from a node to another.
func (k *Keeper) Move(now Instant, id chain.ID, from, to fabric.NodeID) (Change, error) {
	c, err := k.idle(id)
	switch {
	case err != nil:
		return Change{}, err
	case c.On(from) < 0:
		return Change{}, fmt.Errorf("cannot move chain %d: node %s has no replica of it", id, from)
	case c.On(to) >= 0:
		return Change{}, fmt.Errorf("cannot move chain %d: node %s has a replica of it already", id, to)
	case !k.fit(now, c, to):
		return Change{}, fmt.Errorf("cannot move chain %d: node %s is not there, is drained, or its disk is too full", id, to)
	}
	c.Move = &Move{From: from, To: to}
	return k.change(c, fmt.Sprintf("to be moved from node %s to node %s", from, to)), nil
}

// Split cuts a chain in two at a key.
func (k *Keeper) Split(now Instant, id chain.ID, key []byte) (Change, error) {
	c, err := k.idle(id)
	if err != nil {
		return Change{}, err
	}
	if why := k.indivisible(now, c, key); why != "" {
		return Change{}, fmt.Errorf("cannot split chain %d at %q: %s", id, key, why)
	}
	if err := k.cut(&c, key); err != nil {
		return Change{}, err
	}
	c.Epoch++
	return k.change(c, fmt.Sprintf("split at %q", key)), nil
}

// idle is a copy of a chain's record of which nothing is under way.
func (k *Keeper) idle(id chain.ID) (Chain, error) {
	c, ok := k.chains[id]
	switch {
	case !ok:
		return Chain{}, fmt.Errorf("%w: chain %d", fabric.ErrNotFound, id)
	case k.busy(ChainKey(id)) || !k.owned(c.value) || c.value.Move != nil || c.value.Split != nil:
		return Chain{}, fmt.Errorf("%w: chain %d is being changed (%s); try again later", chain.ErrBusy, id, c.value.Reason)
	}
	return c.value.clone(), nil
}

func (k *Keeper) busy(key string) bool {
	_, ok := k.pending[key]
	return ok
}

// Drain says whether a node is to hold no replicas from now on.
func (k *Keeper) Drain(id fabric.NodeID, drain bool) (Change, error) {
	if id == "" || len(id) > maxName {
		return Change{}, fmt.Errorf("node %q: no id of a node", id)
	}
	if k.busy(NodeKey(id)) {
		return Change{}, fmt.Errorf("%w: node %s is being changed; try again", chain.ErrBusy, id)
	}
	return put(k, k.orders, id, NodeKey(id), Node{ID: id, Drain: drain}, fmt.Sprintf("node %s: drain %v", id, drain)), nil
}

// Buckets are the buckets, by name.
func (k *Keeper) Buckets() []Bucket {
	var all []Bucket
	for _, name := range sorted(k.buckets) {
		all = append(all, k.buckets[name].value)
	}
	return all
}

// Chains are the chains' records, by id.
func (k *Keeper) Chains() []Chain {
	var all []Chain
	for _, id := range sorted(k.chains) {
		all = append(all, k.chains[id].value.clone())
	}
	return slices.Clip(all)
}
