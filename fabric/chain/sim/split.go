package sim

import (
	"slices"

	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
)

// most is how many chains a run with splits has at the most: one a key.
const most = len(keyNames)

// divide is an operator who splits chains, again and again.
func (w *world) divide() {
	w.after(w.between(w.nature.every/4, w.nature.every), func() {
		if w.calm {
			return
		}
		all := w.table.chains()
		if k := w.newest(); len(all) < most && !k.over && !k.process.dead && !k.process.paused {
			k.order(k.Split(k.process.node.clock(), pick(w, all).ID, []byte(pick(w, keyNames[1:]))))
		}
		w.divide()
	})
}

// part has the replicas made of chains that are being split off.
func (p *process) part() {
	for _, id := range p.chains() {
		if c, d := p.records[id], p.drivers[id]; c.Split != nil && d != nil && d.failed == "" && !p.dead && p.member(id) {
			d.part(*c.Split)
		}
	}
}

// part makes the replica of a chain that is split off from this one, as chain/node does: of what is there once the boundary is applied.
func (d *driver) part(s placement.Split) {
	p, w := d.process, d.world()
	if p.node.disks[s.Child] != nil || p.parting[s.Child] || d.core.Status().Epoch < s.Epoch {
		return
	}
	base, ok := d.boundary(s.Epoch)
	switch {
	case !ok:
		if w.chance(0.3) { // only a head can take it
			d.token++
			d.step(d.core.Propose(d.now(), p.node.calendar(), d.token, &chain.Command{Client: w.rng.Uint64() | 1, Request: 1, Floor: 1}))
		}
		return
	case w.hit(p, pointPart, 0):
		return
	}
	p.parting[s.Child] = true
	i := d.disk.now.part(s.Range, base)
	if w.options.Break&BreakLater != 0 {
		i.sessions = d.disk.now.clone().sessions
	}
	if w.options.Break&BreakMemory != 0 {
		i.sessions = map[uint64]session{}
	}
	p.later(w.between(w.nature.sync/4, 4*w.nature.sync), func() {
		delete(p.parting, s.Child)
		if p.drivers[d.id] != d || d.failed != "" || d.disk.write(&write{cut: &s.Range}) != nil {
			return
		}
		d.disk.synced(d.disk.written) // a disk has one journal for all chains
		w.log("PART %v of chain %d at %d: chain %d", p.self, d.id, base.sequence, s.Child)
		w.born(d, s, &i)
		n := newDisk()
		n.now, n.durable = i, i.clone()
		p.node.disks[s.Child] = n
		if w.hit(p, pointParted, 0) {
			return
		}
		if child := p.open(s.Child, n); child != nil {
			p.news(child)
		}
		if c, ok := p.records[s.Child]; ok {
			p.adopt(c)
		}
		p.lease()
		if w.options.Break&BreakBear != 0 {
			w.hasten()
		}
	})
}

// disown removes the part of a chain that is yet to be split off from one that begins empty: it is of what the operator gave up.
func (p *process) disown(c placement.Chain) {
	if c.Split == nil || !c.Line.Empty {
		return
	}
	if _, born := p.records[c.Split.Child]; !born {
		delete(p.drivers, c.Split.Child)
		delete(p.node.disks, c.Split.Child)
	}
}

// boundary finds the first entry of an epoch or a later one, once it is applied.
func (d *driver) boundary(epoch uint64) (mark, bool) {
	i := &d.disk.now
	if l := d.world().table.configs[term{d.id, d.epoch}].Line; l.Epoch > epoch { // it began anew since then: with this replica alone
		m, ok := i.at(l.Sequence)
		return m, ok
	}
	if d.world().options.Break&BreakBoundary != 0 {
		return i.applied, true
	}
	n := slices.IndexFunc(i.marks, func(m mark) bool { return m.epoch >= epoch })
	if n < 0 || i.marks[n].sequence > i.applied.sequence {
		return mark{}, false
	}
	return i.marks[n], true
}

// tidy removes keys that are another chain's, as chain/node does.
func (d *driver) tidy() {
	s, c := d.core.Status(), d.process.records[d.id]
	switch {
	case c.Epoch != s.Epoch || c.Split != nil || !s.Linked || s.State != chain.Serving || d.kept.Includes(c.Range) && c.Range.Includes(d.kept):
		d.last = 0
		return
	case d.last == 0:
		d.last = max(s.Last, 1)
	}
	if s.Committed >= d.last && d.disk.write(&write{only: &c.Range}) == nil {
		d.kept, d.last = c.Range, 0
	}
}

// part is what a chain begins with that is split off.
func (i *image) part(keys chain.Range, base mark) image {
	c := i.clone()
	for n, e := range c.log { // what this chain decided after the boundary is not the other one's
		if s, ok := c.sessions[e.Client]; ok && c.marks[n].sequence > base.sequence {
			delete(s.results, e.Request)
		}
	}
	c.base, c.applied, c.log, c.marks = base, base, nil, nil
	for k := range c.keys {
		if !keys.Contains([]byte(k)) {
			delete(c.keys, k)
		}
	}
	return c
}

// hasten breaks a rule: a chain that is split off has a record as soon as one member has its part.
func (w *world) hasten() {
	for _, c := range w.table.chains() {
		if c.Split == nil {
			continue
		}
		if _, ok := w.table.record(c.Split.Child); ok || w.truths[c.Split.Child] == nil {
			continue
		}
		child := placement.Chain{Config: chain.Config{ID: c.Split.Child, Bucket: c.Bucket, Range: c.Split.Range, Epoch: c.Epoch, Members: c.Members}, Parent: c.ID, Keeper: c.Keeper}
		_, _ = w.swap(placement.ChainKey(child.ID), 0, child.Encode())
	}
}

// born takes over what a replica of a chain that is split off begins with, and sees to it that this is what the other chain had at the boundary.
func (w *world) born(d *driver, s placement.Split, i *image) {
	parent := w.truths[d.id]
	before := i.base.epoch < parent.lines[len(parent.lines)-1].base.epoch // a part of before the line is not continued
	if before && parent.haunted(i.base) {
		return // nobody knows the state there
	}
	if known, ok := parent.markAt(i.base.sequence); !ok || known != i.base {
		w.fail("%v splits chain %d off as of %v, committed was %v", d.process.self, s.Child, i.base, known)
		return
	}
	t := w.truths[s.Child]
	switch {
	case before:
	case t == nil:
		t = newTruth(w, s.Child)
		t.inherit(parent, s.Range, i.base)
		w.truths[s.Child] = t
	case t.lines[0].base != i.base:
		w.fail("%v splits chain %d off as of %v, another member as of %v", d.process.self, s.Child, i.base, t.lines[0].base)
		return
	}
	for _, key := range keyNames {
		want := chain.Value{}
		if s.Range.Contains([]byte(key)) {
			want = parent.value(key, i.base.sequence)
		}
		if got := i.keys[key]; got.Version != want.Version || string(got.Value) != string(want.Value) {
			w.fail("%v splits chain %d off with %v for key %s, committed was %v", d.process.self, s.Child, got, key, want)
		}
	}
}

// adopted takes over that a chain has its first record whose part was made before the line began that the other chain is on. It begins with the line.
func (w *world) adopted(c placement.Chain) {
	parent := w.truths[c.Parent]
	if w.truths[c.ID] != nil || parent == nil || c.Line == (chain.Line{}) {
		return
	}
	w.truths[c.ID] = newTruth(w, c.ID)
	w.truths[c.ID].inherit(parent, c.Range, mark{c.Line.Sequence, c.Line.Epoch, 0})
}

// inherit makes the beginning of a chain's history of another one's.
func (t *truth) inherit(parent *truth, keys chain.Range, base mark) {
	t.parent, t.keep, t.acked = parent, keys, base.sequence
	t.lines[0].base = base
	for key, all := range parent.keys {
		for _, v := range all {
			if keys.Contains([]byte(key)) && v.sequence <= base.sequence { // also what a line has lost: another one may go on with it
				t.keys[key] = append(t.keys[key], v)
			}
		}
	}
	for name, sequence := range parent.done {
		if sequence <= base.sequence {
			t.done[name], t.inherited[name] = sequence, sequence
		}
	}
}

// heirs are the chains that were split off from this one, and have a key now that it had.
func (t *truth) heirs(key string) (all []*truth) {
	for _, id := range t.world.ids() {
		if u := t.world.truths[id]; u.parent == t && u.keep.Contains([]byte(key)) {
			all = append(append(all, u), u.heirs(key)...)
		}
	}
	return all
}
