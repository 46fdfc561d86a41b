package sim

import (
	"errors"
	"maps"
	"slices"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/replica"
)

// keeper drives a placement.Keeper as ../placement says, on a node. Several may believe to be the keeper.
type keeper struct {
	*placement.Keeper
	world      *world
	process    *process
	generation uint64
	view       int
	over       bool
	looking    bool
	confirming bool
	news       bool
}

// elect makes one of the nodes the keeper.
func (w *world) elect() {
	var able []*node
	for _, n := range w.nodes {
		if n.process != nil && !n.process.paused && !n.apart {
			able = append(able, n)
		}
	}
	if len(able) == 0 {
		w.after(chainLease/4, w.elect)
		return
	}
	n := pick(w, able)
	old, _ := placement.DecodeKeeper(w.table.entries[placement.KeeperKey].Value)
	record := placement.KeeperRecord{Generation: old.Generation + 1, Node: n.id}
	if _, err := w.swap(placement.KeeperKey, w.table.entries[placement.KeeperKey].Revision, record.Encode()); err != nil {
		w.fail("%v", err)
		return
	}
	state, err := placement.New(w.nature.placement, record, n.clock(), w.table.list())
	if err != nil {
		w.fail("a keeper cannot begin: %v", err)
		return
	}
	w.log("KEEPER %d on %s", record.Generation, n.id)
	k := &keeper{Keeper: state, world: w, process: n.process, generation: record.Generation, view: len(w.table.history)}
	w.keepers = append(w.keepers, k)
	if len(w.keepers) > 4 {
		w.keepers = w.keepers[1:]
	}
	k.tick()
}

// newest is the keeper that was elected last.
func (w *world) newest() *keeper { return w.keepers[len(w.keepers)-1] }

// attend elects another keeper when the one there is does not answer for a while, as Raft would.
func (w *world) attend() {
	if w.options.Break&BreakRestart != 0 {
		w.usurp()
	}
	k := w.newest()
	p := k.process
	if k.over || p.dead || p.paused || p.node.apart {
		w.elect()
	}
}

// usurp breaks a rule: while all that served are down, the chain begins again with whoever has anything of it.
func (w *world) usurp() {
	c, ok := w.table.record(theChain)
	for _, r := range c.Serving() {
		if w.driver(theChain, r) != nil {
			return
		}
	}
	for _, n := range w.nodes {
		if ok && n.process != nil && n.process.drivers[theChain] != nil && c.On(n.id) < 0 {
			c.Members = []chain.Member{{Replica: n.process.self, State: chain.Serving}}
			c.Epoch++
			_, _ = w.swap(placement.ChainKey(theChain), w.table.entries[placement.ChainKey(theChain)].Revision, c.Encode())
			return
		}
	}
}

func (k *keeper) tick() {
	if k.over || k.process.dead {
		k.over = true
		return
	}
	k.news = true
	k.confirm()
	k.process.later(tickEvery, k.tick)
}

// look sees what changed in the table, a little later.
func (k *keeper) look() {
	if k.over || k.looking {
		return
	}
	k.looking = true
	k.process.later(k.world.lag(), func() {
		k.looking = false
		if k.process.node.apart {
			return
		}
		for ; k.view < len(k.world.table.history) && !k.over; k.view++ {
			k.took(k.Observe(k.world.table.history[k.view]))
		}
		k.news = true
	})
}

func (k *keeper) took(err error) {
	if _, ok := errors.AsType[placement.DeposedError](err); ok {
		k.over = true
	} else if err != nil {
		k.world.fail("a keeper ends: %v", err)
	}
}

// confirm reads the clock, asks the table whether this is the keeper, and decides.
func (k *keeper) confirm() {
	if k.over || k.confirming || !k.news {
		return
	}
	k.confirming, k.news = true, false
	asOf := k.process.node.clock()
	k.process.later(k.world.lag(), func() {
		if k.process.node.apart {
			k.confirming = false
			return
		}
		record, _ := placement.DecodeKeeper(k.world.table.entries[placement.KeeperKey].Value)
		if k.over = k.over || record.Generation != k.generation; k.over {
			return
		}
		k.process.later(k.world.lag(), func() {
			k.confirming = false
			k.decide(asOf)
			k.confirm()
		})
	})
}

func (k *keeper) decide(asOf placement.Instant) {
	if k.over {
		return
	}
	out := k.Step(asOf, int64(k.world.now/time.Millisecond))
	for _, g := range out.Grants {
		if n := k.world.node(g.Node); n != nil {
			k.world.send(k.process.node.id, g.Node, func() {
				if p := n.process; p != nil {
					p.run(func() { p.take(g) })
				}
			})
		}
	}
	for _, c := range out.Changes {
		k.write(c)
	}
}

// write carries a change out, or loses it, or does it late, when the keeper believes it to be lost.
func (k *keeper) write(c placement.Change) {
	w := k.world
	lost := !w.calm && w.chance(0.05)
	k.process.always(w.lag(), func() {
		if k.process.node.apart {
			k.process.later(w.lag(), func() { k.reload(c.Key) })
			return
		}
		if lost {
			if w.chance(0.5) {
				w.after(w.between(0, 2*chainLease), func() { _, _ = w.swap(c.Key, c.Revision, c.Value) })
			}
			k.process.later(w.lag(), func() { k.reload(c.Key) })
			return
		}
		revision, err := w.swap(c.Key, c.Revision, c.Value)
		k.process.later(w.lag(), func() {
			if err != nil {
				k.reload(c.Key)
				return
			}
			k.Written(c.Key, revision)
			k.news = true
			k.confirm()
		})
	})
}

func (k *keeper) reload(key string) {
	if k.over {
		return
	}
	if k.process.node.apart {
		k.process.later(tickEvery, func() { k.reload(key) })
		return
	}
	e := k.world.table.entries[key]
	e.Key = key
	k.took(k.Load(e))
	k.news = true
}

// order is an operator's command.
func (k *keeper) order(c placement.Change, err error) {
	if err == nil {
		k.write(c)
	}
}

// lag is how long the table takes.
func (w *world) lag() time.Duration { return w.between(w.nature.lag/10, w.nature.lag) }

func (w *world) node(id fabric.NodeID) *node {
	for _, n := range w.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// report tells the newest keeper how a node is.
func (p *process) report() {
	w := p.node.world
	p.sequence++
	p.sent[p.sequence] = p.node.clock()
	delete(p.sent, p.sequence-64)
	r := placement.Report{Node: p.self.Node, Incarnation: p.self.Incarnation, Sequence: p.sequence, Free: 1 << 40, Seen: p.grant.ID}
	for _, id := range p.chains() {
		d := p.drivers[id]
		has := placement.Replica{Status: d.status(), Failed: d.failed, Clean: d.disk.clean}
		has.Chain = id // also before it has a config
		r.Replicas = append(r.Replicas, has)
	}
	for _, id := range slices.Sorted(maps.Keys(p.records)) {
		if p.drivers[id] == nil && p.empty(p.records[id]) {
			r.Replicas = append(r.Replicas, placement.Replica{Status: replica.Status{Chain: id, Self: p.self}, Failed: "nothing of it is on the disk"})
		}
	}
	if w.options.Trace != nil {
		w.log("REPORT %v %+v", p.self, r.Replicas)
	}
	k := w.newest()
	if p.node.apart || k.process.node.apart {
		return
	}
	w.send(p.self.Node, k.process.node.id, func() {
		k.process.run(func() {
			if !k.over {
				k.Report(k.process.node.clock(), r)
				k.news = true
				k.confirm()
			}
		})
	})
}

// empty says whether this process is to serve a chain of which it has nothing, although something may have been acknowledged.
func (p *process) empty(c placement.Chain) bool {
	i := c.On(p.self.Node)
	return i >= 0 && c.Members[i] == chain.Member{Replica: p.self, State: chain.Serving} && !c.Fresh && p.node.disks[c.ID] == nil
}
