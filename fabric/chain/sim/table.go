package sim

import (
	"cmp"
	"maps"
	"slices"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
)

// theChain is the chain of a run, or its first one.
const theChain chain.ID = 1

// table is fabric.Table: linearizable. What may be late or lost are requests and watches, which is the world's part.
type table struct {
	entries map[string]fabric.Entry
	history []fabric.Entry // all writes
	configs map[term]chain.Config
}

// term is an epoch of a chain.
type term struct {
	chain chain.ID
	epoch uint64
}

func newTable() *table {
	return &table{entries: map[string]fabric.Entry{}, configs: map[term]chain.Config{}}
}

func (t *table) swap(key string, revision uint64, value []byte) (uint64, error) {
	if t.entries[key].Revision != revision {
		return 0, fabric.ErrConflict
	}
	e := fabric.Entry{Key: key, Value: value, Revision: uint64(len(t.history) + 1)}
	t.history = append(t.history, e)
	if t.entries[key] = e; value == nil {
		delete(t.entries, key)
	}
	return e.Revision, nil
}

func (t *table) list() []fabric.Entry {
	return slices.SortedFunc(maps.Values(t.entries), func(a, b fabric.Entry) int { return cmp.Compare(a.Key, b.Key) })
}

func (t *table) record(id chain.ID) (placement.Chain, bool) {
	c, err := placement.DecodeChain(t.entries[placement.ChainKey(id)].Value)
	return c, err == nil
}

// chains are the records of all chains, in the order of their ids.
func (t *table) chains() []placement.Chain {
	var all []placement.Chain
	for _, e := range t.list() {
		if c, err := placement.DecodeChain(e.Value); err == nil && e.Key == placement.ChainKey(c.ID) {
			all = append(all, c)
		}
	}
	return all
}

// found writes the records of the run's bucket and chain.
func (w *world) found() {
	b := placement.Bucket{Name: "b", Factor: w.nature.factor, Durability: placement.Synced, State: placement.Ready, First: theChain}
	c := placement.Chain{Config: chain.Config{ID: theChain, Bucket: "b", Epoch: 1, Unsynced: w.nature.unsynced}, Fresh: true, Reason: "founded"}
	if w.nature.unsynced {
		b.Durability = placement.Replicated
	}
	for _, n := range w.nodes[:w.nature.factor] {
		c.Members = append(c.Members, chain.Member{Replica: n.process.self, State: chain.Serving})
	}
	_, _ = w.swap(placement.BucketKey("b"), 0, b.Encode())
	_, _ = w.swap(placement.ChainKey(theChain), 0, c.Encode())
}

// swap writes to the table and lets nodes' watches see it.
func (w *world) swap(key string, revision uint64, value []byte) (uint64, error) {
	if c, err := placement.DecodeChain(value); err == nil && w.options.Break&BreakLine != 0 && c.Line != (chain.Line{}) {
		c.Line, c.Recovery = chain.Line{}, nil
		value = c.Encode()
	}
	before, _ := placement.DecodeChain(w.table.entries[key].Value)
	at, err := w.table.swap(key, revision, value)
	if err != nil {
		return 0, err
	}
	if c, err := placement.DecodeChain(value); err == nil && key == placement.ChainKey(c.ID) {
		w.log("TABLE chain %d epoch %d %v by keeper %d: %s", c.ID, c.Epoch, c.Members, c.Keeper, c.Reason)
		w.table.configs[term{c.ID, c.Epoch}] = c.Config
		w.adopted(c)
		if t := w.truths[c.ID]; t != nil {
			t.configured(before, c)
		} else {
			w.fail("chain %d has members, and none of them a part of chain %d", c.ID, c.Parent)
		}
	}
	for _, n := range w.nodes {
		if n.process != nil {
			n.process.look()
		}
	}
	for _, k := range w.keepers {
		k.look()
	}
	return at, nil
}
