package sim

import (
	"maps"
	"slices"
	"strings"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/replica"
)

// node is a machine: what stays when its process ends.
type node struct {
	world       *world
	id          fabric.NodeID
	rate        float64 // of its clock
	offset      time.Duration
	incarnation uint64
	disks       map[chain.ID]*disk
	dropped     map[chain.ID]*disk // of the replicas that it had before, and was told to remove
	process     *process           // nil: down
	apart       bool               // it reaches neither the table nor the keeper
	deaf        bool               // its watch of the table gets nothing
	slow        int                // times that its disk is slower
	failed      bool               // its disk returns errors
}

func (n *node) clock() time.Duration {
	return n.offset + time.Duration(float64(n.world.now)*n.rate)
}

// calendar is the node's date, which may be off.
func (n *node) calendar() int64 { return int64(n.clock() / time.Millisecond) }

// chains are those that the node has something of.
func (n *node) chains() []chain.ID { return slices.Sorted(maps.Keys(n.disks)) }

// start starts the node's process, on what its disks have.
func (n *node) start() {
	n.incarnation++
	p := &process{
		node: n, self: chain.Replica{Node: n.id, Incarnation: n.incarnation}, drivers: map[chain.ID]*driver{}, records: map[chain.ID]placement.Chain{},
		sent: map[uint64]time.Duration{}, told: map[chain.ID][3]uint64{}, parting: map[chain.ID]bool{},
	}
	n.process = p
	n.world.log("START %v", p.self)
	for _, id := range n.chains() {
		p.open(id, n.disks[id])
	}
	p.look()
	p.tick()
	p.later(n.world.between(0, reportEvery), p.beat)
}

// crash ends the process, and loses what is not durable.
func (n *node) crash() {
	p := n.process
	if p == nil {
		return
	}
	p.dead, n.process = true, nil
	for _, id := range n.chains() {
		d := n.disks[id]
		kept := 0
		if len(d.journal) > 0 {
			kept = n.world.rng.IntN(len(d.journal) + 1)
		}
		if n.world.chance(0.5) {
			kept = 0
		}
		n.world.log("CRASH %v, %d of %d writes lost", p.self, len(d.journal)-kept, len(d.journal))
		d.crash(kept)
		if n.world.options.Break&BreakClean != 0 {
			d.clean = p.self.Incarnation
		}
	}
}

// leave ends the process in order.
func (n *node) leave() {
	p := n.process
	if p == nil || p.paused {
		return
	}
	p.dead, n.process = true, nil
	n.world.log("LEAVE %v", p.self)
	for _, id := range n.chains() {
		d := n.disks[id]
		if d.broken {
			continue
		}
		d.synced(d.written)
		if r := p.drivers[id]; r != nil && r.failed == "" && r.core.Status().State != 0 && n.world.nature.unsynced {
			d.clean = p.self.Incarnation
		}
	}
}

// process is one life of a node.
type process struct {
	node     *node
	self     chain.Replica
	dead     bool
	paused   bool
	backlog  []func()
	drivers  map[chain.ID]*driver
	looking  bool
	view     int    // how much of the table's history the watch has seen
	revision uint64 // the same, as a revision
	records  map[chain.ID]placement.Chain
	sequence uint64
	sent     map[uint64]time.Duration // reports
	grant    placement.Grant
	granted  time.Duration          // when the report was sent that the grant answers
	parting  map[chain.ID]bool      // chains that are being split off
	told     map[chain.ID][3]uint64 // what the keeper was told last
}

// run does something in the process: now, when it goes on, or never.
func (p *process) run(what func()) {
	switch {
	case p.dead:
	case p.paused:
		p.backlog = append(p.backlog, what)
	default:
		what()
	}
}

func (p *process) later(d time.Duration, what func()) {
	p.node.world.after(d, func() { p.run(what) })
}

// always does something that is on its way already, whatever happens to the process.
func (p *process) always(d time.Duration, what func()) { p.node.world.after(d, what) }

// pause stops the process for a while, as SIGSTOP does.
func (p *process) pause(d time.Duration) {
	if p.dead || p.paused {
		return
	}
	p.node.world.log("PAUSE %v for %v", p.self, d)
	p.paused = true
	p.node.world.after(d, p.resume)
}

func (p *process) resume() {
	if p.dead || !p.paused {
		return
	}
	p.node.world.log("RESUME %v", p.self)
	p.paused = false
	for len(p.backlog) > 0 && !p.paused && !p.dead {
		what := p.backlog[0]
		p.backlog = p.backlog[1:]
		what()
	}
}

// tick tells replicas the time.
func (p *process) tick() {
	w := p.node.world
	for _, id := range p.chains() {
		if d := p.drivers[id]; d != nil && !p.dead {
			d.tick()
		}
	}
	p.part()
	if !p.dead {
		p.later(w.between(tickEvery/2, tickEvery), p.tick)
	}
}

// beat renews the lease.
func (p *process) beat() {
	p.report()
	p.later(reportEvery, p.beat)
}

// chains are those of which the process runs replicas.
func (p *process) chains() []chain.ID { return slices.Sorted(maps.Keys(p.drivers)) }

// news reports at once if a replica is another step further.
func (p *process) news(d *driver) {
	if p.drivers[d.id] != d {
		return
	}
	s := d.status()
	now := [3]uint64{s.Epoch, uint64(s.State), 0}
	if s.Linked {
		now[2] = 1
	}
	if now != p.told[d.id] {
		p.told[d.id] = now
		p.later(time.Millisecond, p.report)
	}
}

// look lets the watch of the table see what is new, a little later.
func (p *process) look() {
	if p.looking {
		return
	}
	p.looking = true
	w := p.node.world
	p.later(w.lag(), func() {
		p.looking = false
		if p.node.apart || p.node.deaf {
			p.later(w.lag(), p.look)
			return
		}
		until := len(w.table.history)
		if w.chance(0.3) && p.view < until { // not all of it yet
			until = p.view + 1
		}
		for p.view < until && !p.dead {
			e := w.table.history[p.view]
			p.view++
			p.revision = e.Revision
			p.observe(e)
		}
		if p.view < len(w.table.history) {
			p.look()
		}
	})
}

func (p *process) observe(e fabric.Entry) {
	if strings.HasPrefix(e.Key, placement.ChainPrefix) {
		c, err := placement.DecodeChain(e.Value)
		if err != nil {
			p.node.world.fail("a record cannot be read: %v", err)
			return
		}
		p.records[c.ID] = c
		p.adopt(c)
	}
	p.lease()
	p.part()
}

// adopt hands a config to the replica, which is made if the config names it.
func (p *process) adopt(c placement.Chain) {
	d := p.drivers[c.ID]
	if d == nil {
		i := c.On(p.self.Node)
		if i < 0 || c.Members[i].Replica != p.self || p.empty(c) || p.node.disks[c.ID] != nil { // it is being replaced
			return
		}
		p.node.disks[c.ID] = newDisk()
		p.node.disks[c.ID].broken = p.node.failed
		d = p.open(c.ID, p.node.disks[c.ID])
	}
	if i := c.On(p.self.Node); d != nil && i >= 0 && c.Members[i] == (chain.Member{Replica: p.self, State: chain.Serving}) && d.disk.now.last().epoch < c.Line.Epoch {
		p.node.world.truths[c.ID].renewed(c.Line, d.disk.now.clone())
		p.disown(c)
		p.replace(d, &write{renew: &c.Line})
		return
	}
	if d != nil {
		d.configure(c.Config)
	}
}

func (p *process) member(id chain.ID) bool {
	c := p.records[id]
	i := c.On(p.self.Node)
	return i >= 0 && c.Members[i].Replica == p.self
}

// take acts on a grant if it is newer than the one before.
func (p *process) take(g placement.Grant) {
	sent, ok := p.sent[g.Sequence]
	if g.Incarnation != p.self.Incarnation || !ok || !g.ID.Newer(p.grant.ID) {
		return
	}
	p.grant, p.granted = g, sent
	p.lease()
	for _, drop := range g.Drop {
		if c := p.records[drop.Chain]; c.Epoch <= drop.Epoch && c.On(p.self.Node) < 0 {
			p.node.world.log("DROP %v", p.self)
			delete(p.drivers, drop.Chain)
			if d := p.node.disks[drop.Chain]; d != nil {
				p.node.dropped[drop.Chain] = d
			}
			delete(p.node.disks, drop.Chain)
		}
	}
}

// lease lets replicas answer reads as the newest grant says, once the watch has seen what it must have seen.
func (p *process) lease() {
	for _, id := range p.chains() {
		if d := p.drivers[id]; d != nil {
			p.leaseOf(d)
		}
	}
}

func (p *process) leaseOf(d *driver) {
	switch {
	case slices.Contains(p.grant.Without, d.id) || !p.member(d.id):
		d.grant(replica.Lease{})
	case p.grant.ID.Number > 0 && p.revision >= p.grant.Revision:
		length := p.grant.Lease
		if p.node.world.options.Break&BreakWait != 0 {
			length *= 4 // as if the keeper did not wait for all of it
		}
		if p.node.world.options.Break&BreakShort != 0 && length < chainLease/2 {
			length *= 8 // and not less than those of other nodes
		}
		d.grant(replica.Lease{Sent: p.granted, Until: p.granted + length})
	}
}
