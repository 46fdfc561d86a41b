package replica

import (
	"slices"

	"orrery/fabric/chain"
)

// maxCuts is how many splits of its chain a replica remembers.
const maxCuts = 16

// cut is a split of the chain: from an epoch on its range is smaller than before.
type cut struct {
	before chain.Range
	epoch  uint64
	exact  bool // epoch is the one; otherwise it is the first that may be
}

// shrink notes how the next config's range differs from this one's.
func (r *Replica) shrink(next *chain.Config) {
	if r.chain.Epoch == 0 || next.Range.Includes(r.chain.Range) {
		return
	}
	r.cuts = append(r.cuts, cut{r.chain.Range, r.chain.Epoch + 1, next.Epoch == r.chain.Epoch+1})
	if len(r.cuts) > maxCuts {
		r.cuts = r.cuts[1:]
	}
}

// has says whether all keys of a read are in the chain's range. What the replica has of others is of before a split.
func (r *Replica) has(q *Read) bool {
	if r.broken(RuleRange) {
		return true
	}
	if q.Keys == nil {
		return r.chain.Range.Contains(q.Key)
	}
	return r.chain.Range.Includes(*q.Keys)
}

// Horizon says which entries tell all that happened to the keys in a range: 0 stands for all of them. Otherwise another chain has some of the keys now. Then it is those
// of epochs before the one returned; and if that is exact, also the first entry of it or a later one, the boundary, with which the other chain's log begins. What
// comes behind that has sequences that mean something else in the other chain. It changes nothing.
func (r *Replica) Horizon(keys chain.Range) (epoch uint64, exact bool) {
	if r.chain.Range.Includes(keys) {
		return 0, true
	}
	for _, c := range slices.Backward(r.cuts) {
		if c.before.Includes(keys) {
			return c.epoch, c.exact
		}
	}
	return 1, false
}
