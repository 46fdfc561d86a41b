package placement

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// held is a record as the keeper knows it.
type held[T any] struct {
	value    T
	revision uint64
}

// Keeper is the state of the node that keeps the chain table. It is not safe for concurrent use.
type Keeper struct {
	config     Config
	generation uint64
	self       fabric.NodeID
	start      Instant
	short      held[KeeperRecord]
	before     fabric.NodeID // of the keeper before, if that node has none but short leases; or else empty

	chains  map[chain.ID]held[Chain]
	buckets map[string]held[Bucket]
	orders  map[fabric.NodeID]held[Node]
	pending map[string]Change // asked for, and not known to have ended
	// unsure are chains of which a change that seemed lost may happen yet. Writing the record again makes it impossible.
	unsure map[chain.ID]bool

	nodes    map[fabric.NodeID]*node
	grants   uint64 // numbers of grants so far
	removed  uint64 // the table's revision when a member was removed last
	releases map[place]release
	watches  map[chain.ID]*observation
	blames   map[fabric.NodeID][]Instant // when links of a node were given up
	loads    map[place]float64           // operations a second, smoothed
	balanced Instant                     // when it was looked for better places last
	ids      uint64                      // chain ids given out by this keeper
	calendar int64                       // milliseconds since 1970, of the last step
}

// place is a chain's replica on a node.
type place struct {
	chain chain.ID
	node  fabric.NodeID
}

// observation is what the keeper remembers of a chain between steps.
type observation struct {
	away   Instant // since when places are kept
	links  map[fabric.NodeID]link
	avoid  map[fabric.NodeID]broken // nodes that could not follow another one
	retire chain.Replica            // is to go, because of its link
	reason string
}

// New begins a keeper. record is what it wrote to KeeperKey, entries are what Prefix held after that, and start is a reading of the clock after it.
func New(config Config, record KeeperRecord, start Instant, entries []fabric.Entry) (*Keeper, error) {
	k := &Keeper{
		config: config.withDefaults(), generation: record.Generation, self: record.Node, start: start,
		chains: map[chain.ID]held[Chain]{}, buckets: map[string]held[Bucket]{}, orders: map[fabric.NodeID]held[Node]{},
		pending: map[string]Change{}, unsure: map[chain.ID]bool{}, nodes: map[fabric.NodeID]*node{}, releases: map[place]release{}, watches: map[chain.ID]*observation{},
		blames: map[fabric.NodeID][]Instant{}, loads: map[place]float64{},
	}
	for _, e := range entries {
		if err := k.Load(e); err != nil {
			return nil, err
		}
		if strings.HasPrefix(e.Key, ChainPrefix) {
			k.removed = max(k.removed, e.Revision)
		}
	}
	if last := k.short.value; last.Generation+1 == record.Generation {
		k.before = last.Node
	}
	return k, nil
}

// Load takes over a record from the table, if it is newer than what the keeper knows, and ends the change of its key that is under way. A zero Revision says that
// there is no such key. The error is a DeposedError if the record is of a later keeper; with any error the keeper is over.
func (k *Keeper) Load(e fabric.Entry) error {
	if err := k.load(e); err != nil {
		return err
	}
	if c, ok := k.pending[e.Key]; ok && c.next != nil && e.Revision == c.Revision {
		k.unsure[c.next.ID] = true
	}
	delete(k.pending, e.Key)
	return nil
}

// Observe is Load for what the table's watch delivers: a change of the key that is under way stays so, and deleted keys are not
// looked at (only the keeper deletes).
func (k *Keeper) Observe(e fabric.Entry) error {
	if e.Value == nil {
		return nil
	}
	return k.load(e)
}

func (k *Keeper) load(e fabric.Entry) error {
	exists := e.Revision > 0
	switch {
	case e.Key == KeeperKey && exists:
		record, err := DecodeKeeper(e.Value)
		if err == nil && record.Generation > k.generation {
			err = DeposedError{record.Generation}
		}
		return err
	case e.Key == ShortKey && e.Revision > k.short.revision:
		record, err := DecodeKeeper(e.Value)
		k.short = held[KeeperRecord]{record, e.Revision}
		return err
	case strings.HasPrefix(e.Key, ChainPrefix):
		return k.loadChain(e)
	case strings.HasPrefix(e.Key, BucketPrefix):
		return take(k.buckets, e, strings.TrimPrefix(e.Key, BucketPrefix), DecodeBucket)
	case strings.HasPrefix(e.Key, NodePrefix):
		return take(k.orders, e, fabric.NodeID(strings.TrimPrefix(e.Key, NodePrefix)), DecodeNode)
	}
	return nil
}

func (k *Keeper) loadChain(e fabric.Entry) error {
	var n uint64
	if _, err := fmt.Sscanf(strings.TrimPrefix(e.Key, ChainPrefix), "%016x", &n); err != nil || ChainKey(chain.ID(n)) != e.Key {
		return fmt.Errorf("%w: %q is no chain's key", chain.ErrCorrupt, e.Key)
	}
	id := chain.ID(n)
	before := k.chains[id]
	if err := take(k.chains, e, id, DecodeChain); err != nil {
		return err
	}
	c, ok := k.chains[id]
	k.changed(before, c)
	switch {
	case !ok:
		return nil
	case c.value.ID != id:
		return fmt.Errorf("%w: the record of chain %d is at the key of chain %d", chain.ErrCorrupt, c.value.ID, id)
	case c.value.Keeper > k.generation:
		return DeposedError{c.value.Keeper}
	}
	return nil
}

func take[K comparable, T any](all map[K]held[T], e fabric.Entry, key K, decode func([]byte) (T, error)) error {
	switch {
	case e.Revision == 0:
		delete(all, key)
		return nil
	case e.Revision <= all[key].revision:
		return nil
	}
	value, err := decode(e.Value)
	if err != nil {
		return fmt.Errorf("key %q of the chain table: %w", e.Key, err)
	}
	all[key] = held[T]{value, e.Revision}
	return nil
}

// Written ends a change that succeeded. revision is what the table returned; any for one that deleted.
func (k *Keeper) Written(key string, revision uint64) {
	if c, ok := k.pending[key]; ok {
		delete(k.pending, key)
		c.written(revision)
	}
}

// ask notes a change as under way.
func (k *Keeper) ask(c Change) Change {
	k.pending[c.Key] = c
	return c
}

// put is the change of a record; value is what it will be.
func put[K comparable, T interface{ Encode() []byte }](k *Keeper, all map[K]held[T], id K, key string, value T, reason string) Change {
	return k.ask(Change{Key: key, Revision: all[id].revision, Value: value.Encode(), Reason: reason, written: func(revision uint64) {
		if revision > all[id].revision {
			all[id] = held[T]{value, revision}
		}
	}})
}

// remove is the deletion of a record.
func remove[K comparable, T any](k *Keeper, all map[K]held[T], id K, key, reason string) Change {
	return k.ask(Change{Key: key, Revision: all[id].revision, Reason: reason, written: func(uint64) { delete(all, id) }})
}

// shorten writes down that this keeper's node has short leases only: all that older keepers may have given to it have run out.
func (k *Keeper) shorten(now Instant) []Change {
	own := KeeperRecord{Generation: k.generation, Node: k.self}
	if k.short.value == own || k.busy(ShortKey) || now-k.start < k.config.expiry() {
		return nil
	}
	return []Change{k.ask(Change{Key: ShortKey, Revision: k.short.revision, Value: own.Encode(), Reason: "this keeper's node has short leases only", written: func(revision uint64) {
		if revision > k.short.revision {
			k.short = held[KeeperRecord]{own, revision}
		}
	}})}
}

// change is the write of a chain's next record.
func (k *Keeper) change(next Chain, reason string) Change {
	next.Reason, next.Changed, next.Keeper = reason[:min(len(reason), maxReason)], k.calendar, k.generation
	c := put(k, k.chains, next.ID, ChainKey(next.ID), next, fmt.Sprintf("chain %d, epoch %d: %s", next.ID, next.Epoch, reason))
	written := c.written
	c.next = &next
	c.written = func(revision uint64) {
		before := k.chains[next.ID]
		written(revision)
		k.changed(before, k.chains[next.ID])
	}
	return k.ask(c)
}

// changed notes that a chain's record is another one.
func (k *Keeper) changed(before, after held[Chain]) {
	if after.revision == before.revision {
		return
	}
	delete(k.unsure, after.value.ID)
	if len(leaving(before.value, after.value)) > 0 {
		k.removed = max(k.removed, after.revision)
	}
}

// leaving are the replicas that may answer before and may not after: they are no members any more, or have to be filled again.
func leaving(before, after Chain) []chain.Replica {
	var all []chain.Replica
	for _, m := range before.Members {
		if i := after.On(m.Node); i < 0 || after.Members[i].Replica != m.Replica || after.Members[i].State == chain.Syncing && m.State != chain.Syncing {
			all = append(all, m.Replica)
		}
	}
	return all
}

// sorted are the keys of a map, in order, so that steps are the same whatever the order of maps.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
