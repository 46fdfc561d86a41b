package placement

import (
	"bytes"
	"fmt"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// Step decides what is to be done. now is a reading of the clock at which this keeper was certainly the keeper (see the package's comment), never
// less than one before; calendar is the date in milliseconds since 1970, for people.
func (k *Keeper) Step(now Instant, calendar int64) Output {
	k.calendar = calendar
	var out Output
	out.Grants = k.grant(now)
	for _, name := range sorted(k.buckets) {
		out.Changes = append(out.Changes, k.tendBucket(now, k.buckets[name].value)...)
	}
	for _, id := range sorted(k.chains) {
		if _, busy := k.pending[ChainKey(id)]; busy {
			continue
		}
		if c, ok := k.tend(now, k.chains[id].value); ok {
			out.Changes = append(out.Changes, c)
		}
	}
	out.Changes = append(out.Changes, k.shorten(now)...)
	out.Changes = append(out.Changes, k.bear(now)...)
	out.Changes = append(out.Changes, k.balance(now)...)
	return out
}

// tendBucket makes the chains of a bucket that is being created, and removes a bucket without chains that is being deleted.
func (k *Keeper) tendBucket(now Instant, b Bucket) []Change {
	if _, busy := k.pending[BucketKey(b.Name)]; busy {
		return nil
	}
	switch b.State {
	case Creating:
		return k.create(now, b)
	case Deleting:
		for _, id := range sorted(k.chains) {
			if k.chains[id].value.Bucket == b.Name {
				return nil
			}
		}
		return []Change{remove(k, k.buckets, b.Name, BucketKey(b.Name), fmt.Sprintf("bucket %s: deleted", b.Name))}
	case Ready:
	}
	return nil
}

// create makes the chains of a bucket that are missing; once all are there it says so.
func (k *Keeper) create(now Instant, b Bucket) []Change {
	var all []Change
	complete := true
	for i := range len(b.Splits) + 1 {
		id := b.First + chain.ID(i)
		if _, ok := k.chains[id]; ok {
			continue
		}
		complete = false
		if _, busy := k.pending[ChainKey(id)]; busy {
			continue
		}
		var keys chain.Range
		if i > 0 {
			keys.Start = b.Splits[i-1]
		}
		if i < len(b.Splits) {
			keys.End = b.Splits[i]
		}
		c := Chain{Config: chain.Config{ID: id, Bucket: b.Name, Range: keys, Epoch: 1, Unsynced: b.Durability == Replicated}, Fresh: true}
		for range b.Factor {
			if n, ok := k.choose(now, c, fresh); ok {
				c.Members = append(c.Members, chain.Member{Replica: k.process(n), State: chain.Serving})
			}
		}
		if len(c.Members) == b.Factor || len(c.Members) > 0 && (k.generation == 1 || now-k.start >= k.config.Lease) { // a new keeper gives nodes time to report; the first of a cluster is alone
			all = append(all, k.change(c, "bucket created"))
		}
	}
	if complete {
		b.State = Ready
		all = append(all, put(k, k.buckets, b.Name, BucketKey(b.Name), b, fmt.Sprintf("bucket %s: created", b.Name)))
	}
	return all
}

// process is what runs on a node now.
func (k *Keeper) process(id fabric.NodeID) chain.Replica {
	return chain.Replica{Node: id, Incarnation: k.nodes[id].Incarnation}
}

// tend is the next change of a chain; ok is false if there is none.
func (k *Keeper) tend(now Instant, c Chain) (change Change, ok bool) {
	b, exists := k.buckets[c.Bucket]
	switch {
	case !k.owned(c):
		return k.change(c.clone(), c.Reason), true
	case !exists || b.value.State == Deleting:
		return k.end(now, c)
	}
	k.look(now, c)
	for _, rule := range []func(Instant, *Chain) string{k.repair, k.advance, k.giveUp, k.retire, k.made, k.parted, k.fill, k.trim, k.split} {
		next := c.clone()
		reason := rule(now, &next)
		if reason == "" {
			continue
		}
		if more := k.fill(now, &next); more != "" && !same(c, next) {
			reason += "; " + more
		}
		if !same(c, next) {
			next.Epoch++
		}
		return k.change(next, reason), true
	}
	return Change{}, false
}

// same says whether two records are of one epoch.
func same(a, b Chain) bool {
	if len(a.Members) != len(b.Members) || !bytes.Equal(a.Range.Start, b.Range.Start) || !bytes.Equal(a.Range.End, b.Range.End) {
		return false
	}
	for i, m := range a.Members {
		if m != b.Members[i] {
			return false
		}
	}
	return true
}

// end takes a chain away whose bucket is deleted: first nobody serves it, then it has no record.
func (k *Keeper) end(now Instant, c Chain) (change Change, ok bool) {
	if len(c.Members) == 0 {
		return remove(k, k.chains, c.ID, ChainKey(c.ID), fmt.Sprintf("chain %d: its bucket is deleted", c.ID)), true
	}
	for _, m := range c.Members {
		if !k.released(now, c.ID, m.Replica) {
			return Change{}, false
		}
	}
	next := c.clone()
	next.Members, next.Away, next.Move, next.Split = nil, nil, nil, nil
	next.Epoch++
	return k.change(next, "its bucket is deleted"), true
}
