package placement

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// slack is by how much one node's cost may exceed another's before a replica moves. A move changes the difference by about two, so that none is
// followed by its opposite.
const slack = 1.5

// costs is how much each node has to do. A replica counts one; being head a quarter more, because it orders writes; and half of what its share of all
// operations is, compared to the average one's.
func (k *Keeper) costs() map[fabric.NodeID]float64 {
	costs := map[fabric.NodeID]float64{}
	var total, replicas float64
	for _, load := range k.loads {
		total += load
	}
	count := func(c Chain) {
		for i, m := range c.Members {
			costs[m.Node]++
			if i == 0 {
				costs[m.Node] += 0.25
			}
			replicas++
		}
		if c.Move != nil { // as it will be
			costs[c.Move.From]--
			if c.Move.To != "" && c.On(c.Move.To) < 0 {
				costs[c.Move.To]++
			}
		}
	}
	for id, c := range k.chains {
		if k.pending[ChainKey(id)].next == nil {
			count(c.value)
		}
	}
	for _, p := range k.pending {
		if p.next != nil {
			count(*p.next)
		}
	}
	if total >= busy {
		for at, load := range k.loads {
			costs[at.node] += load / total * replicas / 2
		}
	}
	return costs
}

// busy is from how many operations a second on, in the whole cluster, load counts.
const busy = 100

// weigh smooths what replicas report of their load, over some ten seconds.
func (k *Keeper) weigh() {
	seen := map[place]bool{}
	for id, n := range k.nodes {
		for _, r := range n.Replicas {
			at := place{r.Chain, id}
			seen[at] = true
			k.loads[at] += (r.Reads + r.Writes - k.loads[at]) / 10
		}
	}
	for at := range k.loads {
		if !seen[at] {
			delete(k.loads, at)
		}
	}
}

// balance begins moves: away from nodes that are to be drained, to zones that a chain is not in yet, and from nodes with much to do to those with little. It looks once a second.
func (k *Keeper) balance(now Instant) []Change {
	if now-k.balanced < time.Second {
		return nil
	}
	k.balanced = now
	k.weigh()
	var all []Change
	for budget := k.config.Moves - k.moving(); budget > 0; budget-- {
		c, ok := k.move(now)
		if !ok {
			break
		}
		all = append(all, c)
	}
	return all
}

// moving is how many chains are on the move, or have a replica that is being filled.
func (k *Keeper) moving() int {
	n := 0
	for id, c := range k.chains {
		next := c.value
		if p := k.pending[ChainKey(id)]; p.next != nil {
			next = *p.next
		}
		if _, filling := next.last(); filling || next.Move != nil {
			n++
		}
	}
	return n
}

func (k *Keeper) move(now Instant) (Change, bool) {
	costs := k.costs()
	for _, id := range sorted(k.chains) {
		if c := k.chains[id].value; k.settled(now, c) {
			if from, to, why := k.better(now, c, costs); why != "" {
				c = c.clone()
				c.Move = &Move{From: from, To: to}
				return k.change(c, fmt.Sprintf("to be moved from node %s to node %s: %s", from, to, why)), true
			}
		}
	}
	return Change{}, false
}

// settled says whether a chain has all its replicas, all of them serve, and nothing is under way.
func (k *Keeper) settled(now Instant, c Chain) bool {
	if k.busy(ChainKey(c.ID)) || !k.owned(c) || c.Move != nil || c.Split != nil || c.Fresh || len(c.Members) != k.factor(c) || k.buckets[c.Bucket].value.State != Ready {
		return false
	}
	for _, m := range c.Members {
		if s := k.member(c, m.Replica); m.State != chain.Serving || s == nil || !s.Linked || !k.recent(now, m.Replica) {
			return false
		}
	}
	return true
}

// better finds a better place for one of a chain's replicas.
func (k *Keeper) better(now Instant, c Chain, costs map[fabric.NodeID]float64) (from, to fabric.NodeID, why string) {
	for _, m := range c.Members {
		if !k.orders[m.Node].value.Drain {
			continue
		}
		rest := c.clone()
		rest.Members = slices.DeleteFunc(rest.Members, func(other chain.Member) bool { return other == m })
		for _, n := range k.steady(now, c, 0) {
			if to == "" || cmp.Or(cmp.Compare(k.crowd(rest, n), k.crowd(rest, to)), cmp.Compare(costs[n], costs[to])) < 0 {
				to = n
			}
		}
		if to != "" {
			return m.Node, to, "it is drained"
		}
	}
	if now-k.start < k.config.Grace {
		return "", "", "" // not all nodes may have been heard of
	}
	for _, m := range c.Members {
		rest := c.clone()
		rest.Members = slices.DeleteFunc(rest.Members, func(other chain.Member) bool { return other == m })
		for _, n := range k.steady(now, c, k.config.Grace) {
			switch had, has := k.crowd(rest, m.Node), k.crowd(rest, n); {
			case has < had:
				return m.Node, n, "it is in a zone that the chain is not in yet"
			case has == had && costs[m.Node]-costs[n] > slack:
				return m.Node, n, "it has less to do"
			}
		}
	}
	return "", "", ""
}

// steady are the nodes that can get a replica of a chain, and have been there for a while.
func (k *Keeper) steady(now Instant, c Chain, since Instant) []fabric.NodeID {
	var all []fabric.NodeID
	for _, id := range sorted(k.nodes) {
		if k.fit(now, c, id) && now-k.nodes[id].born >= since {
			all = append(all, id)
		}
	}
	return all
}
