package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// A rule changes a chain's record and says why, or leaves it as it is and returns "".

// repair removes members that are gone. A joining one that has confirmed that it has everything serves from now on.
func (k *Keeper) repair(now Instant, c *Chain) string {
	var keep, lost []chain.Member
	var why []string
	for _, m := range c.Members {
		if reason := k.gone(now, c.ID, m.Replica); reason != "" {
			lost, why = append(lost, m), append(why, reason)
		} else {
			keep = append(keep, k.promoted(*c, m))
		}
	}
	if len(lost) == 0 {
		return ""
	}
	if !slices.ContainsFunc(keep, serves) {
		return k.restart(now, c, keep, lost)
	}
	// If nobody was heard of lately, then perhaps all have lost power. Whoever stays the last would have to return before the chain can go
	// on; as long as nobody is removed any of them will do.
	if slices.ContainsFunc(lost, serves) && !slices.ContainsFunc(keep, func(m chain.Member) bool { return serves(m) && k.recent(now, m.Replica) }) {
		return ""
	}
	c.Members = keep
	for _, m := range lost {
		if m.State != chain.Syncing {
			k.keepPlace(c, m)
		}
	}
	return "removed: " + strings.Join(why, ", ")
}

// keepPlace keeps the place of a lost member for its node, unless its disk has failed or it is to hold no replicas.
func (k *Keeper) keepPlace(c *Chain, m chain.Member) {
	if s := k.nodes[m.Node].status(c.ID, m.Replica); (s == nil || s.Failed == "") && !k.orders[m.Node].value.Drain && !slices.Contains(c.Away, m.Node) {
		c.Away = append(c.Away, m.Node)
	}
}

func serves(m chain.Member) bool { return m.State == chain.Serving }
func joins(m chain.Member) bool  { return m.State == chain.Joining }

func (k *Keeper) recent(now Instant, r chain.Replica) bool {
	silence, ok := k.silent(now, r)
	return ok && silence <= k.config.Lease/2
}

// promoted is a member as it can be from now on: a joining one that has said that it has all that its predecessor had in this epoch serves.
func (k *Keeper) promoted(c Chain, m chain.Member) chain.Member {
	if m.State == chain.Joining {
		if s := k.member(c, m.Replica); s != nil && s.Linked {
			m.State = chain.Serving
		}
	}
	return m
}

// restart lets a chain of which all serving members are gone begin again with one of their nodes.
func (k *Keeper) restart(now Instant, c *Chain, keep, lost []chain.Member) string {
	best, line := k.first(now, *c)
	if line && slices.ContainsFunc(keep, joins) {
		return "" // it may answer reads; its lease is being taken away
	}
	if best != "" {
		for _, m := range lost {
			if m.Node != best && m.State == chain.Serving {
				k.keepPlace(c, m)
			}
		}
		reason := fmt.Sprintf("all that served were gone; node %s has returned and begins", best)
		if line {
			r := Recovery{At: k.calendar, Node: best, Known: k.known(*c)}
			if has := k.nodes[best].replica(c.ID); has != nil {
				r.Has = has.Last
			}
			k.renew(c, r)
			reason = fmt.Sprintf("all that served have crashed; node %s has most and begins anew, up to entry %d of %d that are known", best, r.Has, r.Known)
		}
		c.Members = append([]chain.Member{{Replica: k.process(best), State: chain.Serving}}, keep...)
		return reason
	}
	// Nobody of them is there yet. What did not serve can go.
	rest := slices.DeleteFunc(slices.Clone(c.Members), func(m chain.Member) bool { return !serves(m) && slices.Contains(lost, m) })
	if len(rest) == len(c.Members) {
		return ""
	}
	c.Members = rest
	return "removed a replica that is lost before it served"
}

// first is the node with which a chain can begin again of which all serving members are gone; "" for none. Each of them has all that was acknowledged on its
// disk; of those that are there the one with most in its log is taken. In an unsynced chain only one that ended cleanly has. If none did, the one with most
// begins, but not before all are there, and on a line of its own: what it lost may be elsewhere, even as committed.
func (k *Keeper) first(now Instant, c Chain) (best fabric.NodeID, line bool) {
	most, away := uint64(0), false
	line = c.Unsynced
	for _, m := range c.Members {
		if m.State != chain.Serving {
			continue
		}
		n := k.nodes[m.Node]
		if s := n.status(c.ID, m.Replica); !k.alive(now, m.Node) || n.Incarnation <= m.Incarnation {
			away = away || s == nil || s.Failed == ""
			continue
		}
		has := n.replica(c.ID)
		if has == nil && c.Fresh {
			has = &Replica{}
		}
		if has == nil || has.Failed != "" {
			continue
		}
		clean := !c.Unsynced || has.Clean == m.Incarnation
		if best == "" || line && clean || line == !clean && has.Last > most {
			best, most, line = m.Node, has.Last, !clean
		}
	}
	if line && away {
		return "", false
	}
	return best, line && most >= c.Line.Sequence // or else the line that there is has not begun yet
}

// advance takes a replica that is being filled a step further.
func (k *Keeper) advance(_ Instant, c *Chain) string {
	m, ok := c.last()
	if !ok {
		return ""
	}
	s := k.member(*c, m.Replica)
	if s == nil || !s.Linked {
		return ""
	}
	last := &c.Members[len(c.Members)-1]
	switch {
	case m.State == chain.Joining:
		last.State = chain.Serving
		return fmt.Sprintf("node %s has all and serves", m.Node)
	case s.Behind <= k.config.Near:
		last.State = chain.Joining
		return fmt.Sprintf("node %s is %d entries behind and joins", m.Node, s.Behind)
	}
	return ""
}

// made notes that the replicas of a new chain have been made.
func (k *Keeper) made(_ Instant, c *Chain) string {
	if !c.Fresh {
		return ""
	}
	for _, m := range c.Members {
		if s := k.nodes[m.Node].status(c.ID, m.Replica); s == nil || s.Epoch < c.Line.Epoch {
			return ""
		}
	}
	c.Fresh = false
	return "its replicas are made"
}

// fill adds a replica if there are too few, or one is on its way to another node.
func (k *Keeper) fill(now Instant, c *Chain) string {
	if _, filling := c.last(); filling || len(c.Members) == 0 || c.Split != nil || !k.served(now, *c) {
		return ""
	}
	if missing := k.factor(*c) - len(c.Members); missing > 0 {
		return k.replace(now, c, missing)
	}
	if c.Move != nil && c.Move.To != "" && c.On(c.Move.To) < 0 && k.fit(now, *c, c.Move.To) {
		return k.add(c, c.Move.To, fmt.Sprintf("moves from node %s to node %s", c.Move.From, c.Move.To))
	}
	return ""
}

// served says whether a serving member is there, from which another can be filled.
func (k *Keeper) served(now Instant, c Chain) bool {
	return slices.ContainsFunc(c.Members, func(m chain.Member) bool {
		return serves(m) && k.gone(now, c.ID, m.Replica) == "" && k.recent(now, m.Replica)
	})
}

// replace fills one of the missing places: with a node that has data of the chain, with one whose place is kept, or at last with another.
func (k *Keeper) replace(now Instant, c *Chain, missing int) string {
	if n, ok := k.choose(now, *c, holder); ok {
		return k.add(c, n, fmt.Sprintf("node %s has a copy and comes back", n))
	}
	c.Away = slices.DeleteFunc(c.Away, func(away fabric.NodeID) bool { return k.orders[away].value.Drain }) // that is not coming back
	for _, n := range c.Away {
		if k.fit(now, *c, n) {
			return k.add(c, n, fmt.Sprintf("node %s comes back", n))
		}
	}
	if len(c.Away) >= missing && now-k.watches[c.ID].away < k.config.Grace {
		return ""
	}
	n, ok := k.choose(now, *c, fresh)
	if !ok {
		return ""
	}
	reason := fmt.Sprintf("node %s gets a replica", n)
	if len(c.Away) >= missing {
		reason += fmt.Sprintf(" in place of node %s, which did not return", c.Away[0])
		c.Away = c.Away[1:]
	}
	return k.add(c, n, reason)
}

func (k *Keeper) add(c *Chain, n fabric.NodeID, reason string) string {
	c.Members = append(c.Members, chain.Member{Replica: k.process(n), State: chain.Syncing})
	c.Away = slices.DeleteFunc(c.Away, func(away fabric.NodeID) bool { return away == n })
	if len(c.Members) >= k.factor(*c) {
		c.Away = nil
	}
	return reason
}

// retiring are the members that are there and have to go. They get no lease any more, and go once they have none.
func (k *Keeper) retiring(now Instant, c Chain) (all []chain.Replica, reason string) {
	b, exists := k.buckets[c.Bucket]
	if !exists || b.value.State == Deleting {
		for _, m := range c.Members {
			all = append(all, m.Replica)
		}
		return all, "its bucket is deleted"
	}
	if m, ok := c.last(); ok && joins(m) {
		if _, line := k.first(now, c); line && !slices.ContainsFunc(c.Members, func(m chain.Member) bool { return serves(m) && k.gone(now, c.ID, m.Replica) == "" }) {
			return []chain.Replica{m.Replica}, fmt.Sprintf("all others have crashed before node %s had all", m.Node)
		}
	}
	if o := k.watches[c.ID]; o != nil && o.reason != "" {
		if i := c.On(o.retire.Node); i >= 0 && c.Members[i].Replica == o.retire && k.dispensable(now, c, i) {
			return []chain.Replica{o.retire}, o.reason
		}
		return nil, ""
	}
	if c.Move == nil || len(c.Members) <= k.factor(c) {
		return nil, ""
	}
	i := c.On(c.Move.From)
	if _, filling := c.last(); i < 0 || filling || !k.dispensable(now, c, i) {
		return nil, ""
	}
	return []chain.Replica{c.Members[i].Replica}, fmt.Sprintf("moved from node %s", c.Move.From)
}

// dispensable says whether another member serves and is there.
func (k *Keeper) dispensable(now Instant, c Chain, member int) bool {
	for i, m := range c.Members {
		if i != member && serves(m) && k.recent(now, m.Replica) && k.gone(now, c.ID, m.Replica) == "" {
			return true
		}
	}
	return false
}

// retire removes a member that has to go and has no lease any more, and ends moves.
func (k *Keeper) retire(now Instant, c *Chain) string {
	if all, reason := k.retiring(now, *c); len(all) == 1 && k.released(now, c.ID, all[0]) {
		c.Members = slices.DeleteFunc(c.Members, func(m chain.Member) bool { return m.Replica == all[0] })
		if c.Move != nil && c.Move.From == all[0].Node {
			c.Move = nil
		}
		k.watches[c.ID].reason = ""
		return reason
	}
	if c.Move == nil {
		return ""
	}
	to := c.On(c.Move.To)
	_, filling := c.last()
	var reason string
	switch {
	case c.On(c.Move.From) < 0:
		reason = "the move is over"
	case to < 0 && c.Move.To != "" && !k.fit(now, *c, c.Move.To):
		reason = fmt.Sprintf("the move to node %s is given up: it cannot get a replica (it is not there, is drained, its disk is too full, or it could not follow)", c.Move.To)
	case len(c.Members) <= k.factor(*c) && (to >= 0 && !filling || c.Move.To == ""):
		reason = "the move is over: no replica is too many"
	default:
		return ""
	}
	c.Move = nil
	return reason
}

// trim finds the replica that is too many.
func (k *Keeper) trim(_ Instant, c *Chain) string {
	if _, filling := c.last(); filling || c.Move != nil || c.Split != nil || len(c.Members) <= k.factor(*c) {
		return ""
	}
	costs := k.costs()
	worst := slices.MaxFunc(c.Members, func(a, b chain.Member) int {
		return cmp.Or(
			compareBool(k.orders[a.Node].value.Drain, k.orders[b.Node].value.Drain),
			cmp.Compare(k.crowd(*c, a.Node), k.crowd(*c, b.Node)),
			cmp.Compare(costs[a.Node], costs[b.Node]),
			cmp.Compare(score(c.ID, b.Node), score(c.ID, a.Node)),
		)
	})
	c.Move = &Move{From: worst.Node}
	return fmt.Sprintf("a replica is too many; node %s gives it up", worst.Node)
}

func compareBool(a, b bool) int { return int(flag(a)) - int(flag(b)) }
