package sim

import (
	"cmp"
	"maps"
	"slices"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
)

// theChain is the chain of a run.
const theChain chain.ID = 1

// table is fabric.Table: linearizable. What may be late or lost are requests and watches, which is the world's part.
type table struct {
	entries map[string]fabric.Entry
	history []fabric.Entry // all writes
	configs map[uint64]chain.Config
}

func newTable() *table {
	return &table{entries: map[string]fabric.Entry{}, configs: map[uint64]chain.Config{}}
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

func (t *table) record() (placement.Chain, bool) {
	c, err := placement.DecodeChain(t.entries[placement.ChainKey(theChain)].Value)
	return c, err == nil
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
	before, _ := w.table.record()
	if c, err := placement.DecodeChain(value); err == nil && w.options.Break&BreakLine != 0 && c.Line != (chain.Line{}) {
		c.Line, c.Recovery = chain.Line{}, nil
		value = c.Encode()
	}
	at, err := w.table.swap(key, revision, value)
	if err != nil {
		return 0, err
	}
	if c, err := placement.DecodeChain(value); err == nil && key == placement.ChainKey(theChain) {
		w.log("TABLE chain %d epoch %d %v by keeper %d: %s", c.ID, c.Epoch, c.Members, c.Keeper, c.Reason)
		w.table.configs[c.Epoch] = c.Config
		w.truth.configured(before, c)
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
