package sim

import (
	"slices"
	"sort"

	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
)

// line is a part of the chain's history without a break: what was committed since it was begun anew.
type line struct {
	base    mark        // before its first entry
	from    uint64      // the newest entry of before that it goes on with
	keys    chain.Range // that it has, or has to give to another chain
	began   anew
	entries []committed
	ghosts  map[uint64]ghost // committed behind entries, when the line had been given up
}

// ghost is an entry that was committed by a replica that did not know that its line was given up.
type ghost struct {
	mark
	name   request
	result chain.Result
}

// lineOf is the line that a replica is on.
func (t *truth) lineOf(d *driver) int {
	n := len(t.lines) - 1
	for n > 0 && t.lines[n].base.epoch > d.epoch {
		n--
	}
	return n
}

// haunt takes an entry that is committed on a line that was given up. Those who do not know it agree with each other.
func (t *truth) haunt(d *driver, e chain.Entry, m mark) bool {
	l := &t.lines[t.lineOf(d)]
	if l.ghosts == nil {
		l.ghosts = map[uint64]ghost{}
	}
	if known, ok := l.ghosts[e.Sequence]; ok && known.mark != m {
		t.world.fail("%v commits entry %v in place of %v, which was committed on a line that was given up", d.process.self, m, known.mark)
		return false
	}
	l.ghosts[e.Sequence] = ghost{m, request{e.Client, e.Request}, e.Result}
	return true
}

// haunted says whether an entry was committed on a line that had been given up.
func (t *truth) haunted(m mark) bool {
	return slices.ContainsFunc(t.lines, func(l line) bool { return l.ghosts[m.sequence].mark == m })
}

// stays says whether a request that a replica knows the end of ended so on the line that goes on, too.
func (t *truth) stays(d *driver, name request) bool {
	sequence := t.done[name]
	n := t.lineOf(d) + 1
	return sequence > 0 && (n == len(t.lines) || sequence <= t.lines[n].base.sequence)
}

// remembers says how a request ended on the line that a replica is on, which was given up.
func (t *truth) remembers(d *driver, name request) (chain.Result, bool) {
	for n := t.lineOf(d); n >= 0; n-- {
		for _, g := range t.lines[n].ghosts {
			if g.name == name {
				return g.result, true
			}
		}
		for _, e := range t.lines[n].entries {
			if (request{e.Client, e.Request}) == name {
				return e.Result, true
			}
		}
	}
	if t.parent != nil {
		if e, ok := t.parent.ended(name, t.root(t.lines[t.lineOf(d)].base.sequence)); ok {
			return e.Result, true
		}
	}
	return chain.Result{}, false
}

// ended finds the entry by which a request ended in the history of another entry.
func (t *truth) ended(name request, by uint64) (ended *committed, ok bool) {
	t.history(by, func(e *committed) {
		if (request{e.Client, e.Request}) == name {
			ended, ok = e, true
		}
	})
	return ended, ok
}

// history goes through the entries that are of the history of one, and that one, line by line, what was inherited last.
func (t *truth) history(by uint64, do func(*committed)) {
	for n := range t.lines {
		for i := range t.lines[n].entries {
			if e := &t.lines[n].entries[i]; e.Sequence <= by && !t.passed(e.Sequence, by) {
				do(e)
			}
		}
	}
	if t.parent != nil {
		t.parent.history(t.root(by), do)
	}
}

// root is the entry of the other chain's history with which that of an entry begins: the boundary, or, on a line that goes on with a part of before, that part's.
func (t *truth) root(by uint64) uint64 {
	for l := t.of(by); l != &t.lines[0]; l = t.of(by) {
		by = l.from
	}
	return min(by, t.lines[0].base.sequence)
}

// of is the line that a sequence is of.
func (t *truth) of(sequence uint64) *line {
	i := sort.Search(len(t.lines), func(i int) bool { return t.lines[i].base.sequence > sequence })
	return &t.lines[max(i-1, 0)]
}

// at is a committed entry.
func (t *truth) at(sequence uint64) (*committed, bool) {
	if t.parent != nil && sequence <= t.lines[0].base.sequence {
		return t.parent.at(sequence)
	}
	l := t.of(sequence)
	if sequence <= l.base.sequence || sequence > l.base.sequence+uint64(len(l.entries)) {
		return nil, false
	}
	return &l.entries[sequence-l.base.sequence-1], true
}

// markAt is the mark of a committed entry, or of a line's beginning.
func (t *truth) markAt(sequence uint64) (mark, bool) {
	if e, ok := t.at(sequence); ok {
		return e.mark, true
	}
	i := slices.IndexFunc(t.lines, func(l line) bool { return l.base.sequence == sequence })
	switch {
	case i >= 0:
		return t.lines[i].base, true
	case t.parent != nil && sequence < t.lines[0].base.sequence:
		return t.parent.markAt(sequence)
	}
	return mark{}, false
}

// top is the sequence of the newest committed entry.
func (t *truth) top() uint64 {
	l := &t.lines[len(t.lines)-1]
	return l.base.sequence + uint64(len(l.entries))
}

func (t *truth) newest() mark {
	m, _ := t.markAt(t.top())
	return m
}

// count is how many entries are committed, or were.
func (t *truth) count() int {
	n := 0
	for i := range t.lines {
		n += len(t.lines[i].entries)
	}
	return n
}

// value is a key's value for who has applied the entries up to one: those that a line lost do not count for who is on that line.
func (t *truth) value(key string, applied uint64) chain.Value {
	for _, v := range slices.Backward(t.keys[key]) {
		if v.sequence <= applied && !t.passed(v.sequence, applied) {
			if v.deleted {
				return chain.Value{}
			}
			return v.Value
		}
	}
	return chain.Value{}
}

// passed says whether an entry is not of the history of another one.
func (t *truth) passed(sequence, by uint64) bool {
	for l := t.of(by); l != &t.lines[0]; l = t.of(by) {
		switch {
		case sequence > l.base.sequence:
			return false
		case sequence > l.from:
			return true
		}
		by = l.from
	}
	base := t.lines[0].base.sequence
	return t.parent != nil && sequence <= base && (sequence > by || t.parent.passed(sequence, min(by, base)))
}

// begin takes over that the chain begins anew with what its only member has, and sees to it that this was allowed: an operator did it, or all that
// served have crashed, and none ended in order.
func (t *truth) begin(before, c placement.Chain) {
	w := t.world
	for _, r := range before.Serving() {
		n := w.node(r.Node)
		lives, d := n.process != nil && n.process.self == r && !n.failed, n.disks[t.id]
		if c.Recovery.By == "" && (lives || !w.nature.unsynced || d != nil && d.clean == r.Incarnation && !n.failed) {
			w.fail("the chain is begun anew (%s), although %v has everything", c.Reason, r)
		}
	}
	var has image
	if d := w.node(c.Members[0].Node).disks[t.id]; d != nil {
		has = d.now
	}
	w.log("ANEW chain %d %v", t.id, c.Members)
	keys := c.Range
	if s := c.Split; s != nil {
		if _, ok := w.table.record(s.Child); !ok {
			keys.End = s.Range.End
			delete(w.truths, s.Child) // what others have made of it is of the line before
		}
	}
	t.goOn(c.Line, keys, has)
}

// renewed takes over that the only member of a new line begins it with what it has now: it may have crashed since it was chosen, and have less.
func (t *truth) renewed(l chain.Line, has image) {
	if n := len(t.lines) - 1; n > 0 && len(t.lines[n].entries) == 0 && t.lines[n].base.sequence == l.Sequence {
		keys := t.lines[n].keys
		t.lines = t.lines[:n]
		t.goOn(l, keys, has)
	}
}

// goOn begins a line with what a disk has.
func (t *truth) goOn(to chain.Line, keys chain.Range, i image) {
	w := t.world
	if to.Empty {
		i = newImage()
	}
	for n, e := range i.log { // all that it has is committed now
		if e.Sequence == t.top()+1 {
			t.add(e, i.marks[n])
		}
	}
	from := i.last()
	if known, ok := t.markAt(from.sequence); from.sequence > 0 && (!ok || known != from) {
		w.fail("the chain is begun anew with a log that ends with %v, committed was %v", from, known)
		return
	}
	l := line{base: mark{to.Sequence, to.Epoch, 0}, from: from.sequence, keys: keys}
	l.began = anew{at: w.now, from: t.top(), base: l.base.sequence}
	for k, key := range keyNames {
		v := t.value(key, l.from)
		l.began.keys[k] = cell{string(v.Value), v.Version}
	}
	w.log("LINE from %d of %d", l.from, t.top())
	t.lines = append(t.lines, l)
	t.acked = l.base.sequence
	clear(t.done)
	clear(t.lost)
	t.history(t.acked, func(e *committed) {
		if e.Client != 0 {
			t.done[request{e.Client, e.Request}] = e.Sequence
		}
	})
	for name, sequence := range t.inherited {
		if t.done[name] == sequence {
			continue
		}
		t.lost[name] = true
		if o := w.asked[name]; o != nil && o.effect != nil && o.effect.t != t && o.effect.sequence == sequence {
			o.effect = nil // it may be done again here
		}
	}
	for n := range t.lines {
		for i := range t.lines[n].entries {
			if e := &t.lines[n].entries[i]; e.Client != 0 && t.passed(e.Sequence, t.acked) {
				t.lost[request{e.Client, e.Request}] = true
			}
		}
	}
	for _, o := range w.asked {
		if o.effect != nil && o.effect.t == t && t.passed(o.effect.sequence, t.acked) {
			o.effect = nil
		}
	}
}

// agrees says whether all that a disk has is committed, or can be next.
func (t *truth) agrees(i *image) bool {
	at, ok := t.markAt(min(i.last().sequence, t.top()))
	has, there := i.at(at.sequence)
	return ok && there && at == has
}
