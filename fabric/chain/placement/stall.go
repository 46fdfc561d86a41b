package placement

import (
	"fmt"
	"slices"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// link is how far a member was, seen from the one before it, and since when it does not do what it should do.
type link struct {
	epoch     uint64
	before    chain.Replica
	last      uint64  // the member's
	bytes     uint64  // the member's
	committed uint64  // the one before's
	forth     Instant // since when the member gets nothing, although there is something
	back      Instant // since when the one before does not hear what is committed
}

// broken is a link that was given up.
type broken struct {
	with  fabric.NodeID
	until Instant
}

// look keeps what is remembered of a chain up to date.
func (k *Keeper) look(now Instant, c Chain) {
	o := k.watches[c.ID]
	if o == nil {
		o = &observation{away: now, links: map[fabric.NodeID]link{}, avoid: map[fabric.NodeID]broken{}}
		k.watches[c.ID] = o
	}
	if len(c.Away) == 0 {
		o.away = now
	}
	if i := c.On(o.retire.Node); i < 0 || c.Members[i].Replica != o.retire || !k.dispensable(now, c, i) {
		o.retire, o.reason = chain.Replica{}, ""
	}
	for i, m := range c.Members {
		if i > 0 {
			o.links[m.Node] = k.link(now, c, i, o.links[m.Node])
		}
	}
}

// link is how far the member at a place is, with what was seen before.
func (k *Keeper) link(now Instant, c Chain, i int, old link) link {
	l := link{epoch: c.Epoch, before: c.Members[i-1].Replica, forth: now, back: now}
	if s := k.member(c, c.Members[i].Replica); s != nil {
		l.last, l.bytes = s.Last, s.Bytes
	}
	if s := k.member(c, l.before); s != nil {
		l.committed = s.Committed
	}
	if l.epoch != old.epoch || l.before != old.before {
		return l
	}
	if l.last == old.last && l.bytes == old.bytes && k.stuck(c, i) != "" {
		l.forth = old.forth
	}
	if l.committed == old.committed && k.unheard(c, i) != "" {
		l.back = old.back
	}
	return l
}

// stuck says why the member at a place does not have what the one before it has; "" if it has all.
func (k *Keeper) stuck(c Chain, i int) string {
	p, s := k.member(c, c.Members[i-1].Replica), k.member(c, c.Members[i].Replica)
	switch {
	case s == nil:
		return "has not taken over its config"
	case p == nil:
		return "waits for the one before it to take over its config"
	case !s.Linked:
		return "has no link"
	case p.Last > s.Last:
		return "gets no entries"
	}
	return ""
}

// unheard says why the one before a member does not know what the member knows to be committed; "" if it does.
func (k *Keeper) unheard(c Chain, i int) string {
	p, s := k.member(c, c.Members[i-1].Replica), k.member(c, c.Members[i].Replica)
	if p != nil && s != nil && s.Committed > p.Committed {
		return "is not heard"
	}
	return ""
}

// giveUp finds a link without progress whose nodes are both there (a cut between them, for instance), and lets one of them go: the one that had most links given up, or
// else the later one.
func (k *Keeper) giveUp(now Instant, c *Chain) string {
	o := k.watches[c.ID]
	if o.reason != "" {
		return ""
	}
	for i := 1; i < len(c.Members); i++ {
		m, before := c.Members[i], c.Members[i-1]
		limit := k.config.Stall
		if m.State == chain.Syncing {
			limit = max(limit, k.config.Grace) // a copy takes its time
		}
		var why string
		switch l := o.links[m.Node]; {
		case now-l.forth >= limit:
			why = k.stuck(*c, i)
		case now-l.back >= limit:
			why = k.unheard(*c, i)
		}
		if why == "" || !k.recent(now, m.Replica) || !k.recent(now, before.Replica) {
			continue
		}
		k.blame(now, m.Node)
		k.blame(now, before.Node)
		at := i
		worse := len(k.blames[before.Node]) > len(k.blames[m.Node]) || k.member(*c, before.Replica) == nil
		if worse && m.State == chain.Serving {
			at = i - 1
		}
		if !k.dispensable(now, *c, at) {
			continue
		}
		o.avoid[m.Node] = broken{before.Node, now + k.config.Grace}
		o.avoid[before.Node] = broken{m.Node, now + k.config.Grace}
		reason := fmt.Sprintf("the link from node %s to node %s is given up: the second %s for %v", before.Node, m.Node, why, limit)
		if c.Members[at].State == chain.Syncing { // it answers nothing
			c.Members = c.Members[:at]
			return reason
		}
		o.retire, o.reason = c.Members[at].Replica, reason
		return ""
	}
	return ""
}

// blame notes that a link of a node was given up.
func (k *Keeper) blame(now Instant, id fabric.NodeID) {
	old := func(at Instant) bool { return now-at > 10*k.config.Stall }
	k.blames[id] = append(slices.DeleteFunc(k.blames[id], old), now)
}

// avoids says whether a node could not follow, lately, the one that it would follow.
func (k *Keeper) avoids(now Instant, c Chain, id fabric.NodeID) bool {
	o := k.watches[c.ID]
	if o == nil || len(c.Members) == 0 {
		return false
	}
	b, ok := o.avoid[id]
	return ok && now < b.until && c.Members[len(c.Members)-1].Node == b.with
}
