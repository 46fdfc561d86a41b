package sim

import (
	"bytes"
	"slices"
	"sort"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/replica"
)

// truth is what the world knows and no node does: what is committed, and what clients were told. It checks DESIGN.md's invariants at every step.
type truth struct {
	world *world
	id    chain.ID
	// What a chain began with that was split off: the history of another one, up to lines[0].base, of the keys keep.
	parent    *truth
	keep      chain.Range
	inherited map[request]uint64
	lines     []line // of the chain, in order; the last one goes on
	keys      map[string][]version
	done      map[request]uint64 // the sequence of each request's entry
	lost      map[request]bool   // requests whose entry was lost when a line ended
	acked     uint64             // newest entry of which a client was told
	views     map[view]uint64
}

func newTruth(w *world, id chain.ID) *truth {
	return &truth{world: w, id: id, inherited: map[request]uint64{}, lines: make([]line, 1), keys: map[string][]version{}, done: map[request]uint64{}, lost: map[request]bool{}, views: map[view]uint64{}}
}

// committed is an entry that some replica has committed.
type committed struct {
	chain.Entry
	mark
	at    time.Duration // when the first replica committed it
	ended time.Duration // when a client was told of it, or of a later one; 0: not yet
	anew  *cell         // in the history of a key: no entry, but the beginning of a line
}

// version is what an entry made of a key.
type version struct {
	sequence uint64
	chain.Value
	deleted bool
}

type request struct{ client, request uint64 }

// view is what a replica has shown of the chain.
type view struct{ replica chain.Replica }

// applied checks entries that a replica commits.
func (t *truth) applied(d *driver, entries []chain.Entry) {
	for _, e := range entries {
		m, ok := d.disk.now.at(e.Sequence)
		known, there := t.at(e.Sequence)
		switch {
		case !ok:
			t.world.fail("%v commits entry %d, which it does not have", d.process.self, e.Sequence)
			return
		case there:
			if known.mark != m {
				t.world.fail("%v commits entry %v in place of %v, which was committed", d.process.self, m, known.mark)
				return
			}
		case t.givenUp(d):
			if !t.haunt(d, e, m) {
				return
			}
		case e.Sequence != t.top()+1:
			t.world.fail("%v commits entry %d, %d were", d.process.self, e.Sequence, t.top())
			return
		default:
			t.commit(d, e, m)
		}
	}
}

// givenUp says whether a replica is on a line that was given up, and does not know it. What it still commits there was lost with the line: a ghost.
func (t *truth) givenUp(d *driver) bool { return d.epoch < t.lines[len(t.lines)-1].base.epoch }

// commit takes an entry that nobody had committed.
func (t *truth) commit(d *driver, e chain.Entry, m mark) {
	w := t.world
	t.add(e, m)
	if w.options.Trace != nil {
		w.log("COMMITTED %d/%d by %v in epoch %d", e.Sequence, e.Epoch, d.process.self, d.epoch)
	}
	for _, member := range w.table.configs[term{t.id, d.epoch}].Members {
		// A tail that does not know of a newer epoch may commit when a member has gone, and has removed what it had.
		if n := w.node(member.Node); member.State != chain.Syncing && (n.dropped[t.id] == nil || !t.has(n.dropped[t.id])) {
			t.holds(member, "of the epoch in which it was committed")
		}
	}
	t.kept()
}

// add puts an entry to those that are committed.
func (t *truth) add(e chain.Entry, m mark) {
	w := t.world
	l := &t.lines[len(t.lines)-1]
	if n := len(l.entries); n > 0 && e.Epoch == l.entries[n-1].Epoch && e.Time < l.entries[n-1].Time {
		w.fail("entry %d is of %d, the one before of %d", e.Sequence, e.Time, l.entries[n-1].Time)
	}
	for _, c := range e.Changes {
		key := string(c.Key)
		if e.Client == 0 {
			if v := t.value(key, e.Sequence); v.Expires == 0 || v.Expires > e.Time {
				w.fail("entry %d deletes key %s, which has not expired", e.Sequence, key)
			}
		}
		t.keys[key] = append(t.keys[key], version{e.Sequence, chain.Value{Value: c.Value, Version: e.Sequence, Expires: c.Expires}, c.Deleted})
	}
	if e.Client != 0 {
		name := request{e.Client, e.Request}
		if before, ok := t.done[name]; ok && !t.refused(name) {
			w.fail("request %v is done by entry %d and again by entry %d", name, before, e.Sequence)
		}
		t.done[name] = e.Sequence
		t.effect(name, e)
	}
	l.entries = append(l.entries, committed{Entry: e, mark: m, at: w.now})
}

// refused says whether the chain that this one was split off from said of a request that it did not have the key. A part that was made before does not know.
func (t *truth) refused(name request) bool {
	e, ok := t.at(t.done[name])
	return ok && e.Sequence <= t.lines[0].base.sequence && e.Result.Outcome == chain.OutOfRange
}

// effect sees to it that what a client asked for is done once, under whatever numbers it was asked for. A chain may say first that it does not have the key.
func (t *truth) effect(name request, e chain.Entry) {
	o := t.world.asked[name]
	if o == nil || e.Result.Outcome == chain.OutOfRange {
		return
	}
	if o.effect != nil {
		t.world.fail("%v is done by entry %d of chain %d and again by entry %d of chain %d", o, o.effect.sequence, o.effect.t.id, e.Sequence, t.id)
	}
	o.effect = &done{t, e.Sequence}
}

// done is the entry by which something was done.
type done struct {
	t        *truth
	sequence uint64
}

// holds checks that a member has all that is committed durably, whether its process lives or not; in an unsynced chain, that it has it unless it crashed.
func (t *truth) holds(m chain.Member, why string) {
	n := t.world.node(m.Node)
	if n.failed || t.world.nature.unsynced && (n.process == nil || n.process.self != m.Replica) {
		return
	}
	d := n.disks[t.id]
	if t.top() == t.lines[len(t.lines)-1].base.sequence {
		return // what the line goes on with may be about to be made
	}
	if d == nil {
		t.world.fail("%v, %s, has nothing, %d are committed", m, why, t.top())
		return
	}
	if !t.has(d) {
		t.world.fail("%v, %s, does not have entry %v (durably it has up to %v)", m, why, t.newest(), d.durable.last())
	}
}

// has says whether a disk has what is committed, durably in a chain that is synced.
func (t *truth) has(d *disk) bool {
	i := &d.durable
	if t.world.nature.unsynced {
		i = &d.now
	}
	newest := t.newest()
	at, ok := i.at(newest.sequence)
	return ok && at == newest || i.base.sequence >= newest.sequence
}

// kept checks that all serving members have durably what is committed.
func (t *truth) kept() {
	record, ok := t.world.table.record(t.id)
	if !ok || t.top() == 0 || t.world.fault != "" {
		return
	}
	for _, m := range record.Members {
		if m.State == chain.Serving {
			t.holds(m, "which serves in the newest epoch")
		}
	}
}

// configured checks a new record.
func (t *truth) configured(before, c placement.Chain) {
	if c.Line != before.Line && (t.parent == nil || before.ID != 0) {
		t.begin(before, c)
	}
	if t.parent != nil && before.ID == 0 {
		for _, m := range c.Members {
			if n := t.world.node(m.Node); n.disks[t.id] == nil && !n.failed {
				t.world.fail("%v serves chain %d, which was split off, and has no part of it", m, t.id)
			}
		}
	}
	t.kept()
}

// installed checks a copy.
func (t *truth) installed(d *driver, m mark) {
	if known, ok := t.markAt(m.sequence); !ok || known != m {
		t.world.fail("%v was given a copy as of %v, which is not committed", d.process.self, m)
	}
}

// step checks a replica and its neighbours after something happened to it.
func (t *truth) step(d *driver) {
	s := d.core.Status()
	w := t.world
	switch {
	case s.Last != d.disk.now.last().sequence:
		w.fail("%v says that its log ends at %d, it does at %d", d.process.self, s.Last, d.disk.now.last().sequence)
	case s.Committed != d.disk.now.applied.sequence:
		w.fail("%v has committed %d, and applied %d", d.process.self, s.Committed, d.disk.now.applied.sequence)
	case s.Durable > d.disk.durable.last().sequence:
		w.fail("%v says that %d is durable, %d is", d.process.self, s.Durable, d.disk.durable.last().sequence)
	case s.Epoch == 0:
		return
	}
	members := w.table.configs[term{t.id, s.Epoch}].Members
	for i, m := range members {
		if m.Replica != d.process.self {
			continue
		}
		if i > 0 {
			t.linked(members[i-1].Replica, m.Replica)
		}
		if i+1 < len(members) {
			t.linked(m.Replica, members[i+1].Replica)
		}
	}
}

// linked checks that the log of a successor is a prefix of its predecessor's.
func (t *truth) linked(p, s chain.Replica) {
	w := t.world
	before, after := w.driver(t.id, p), w.driver(t.id, s)
	if before == nil || after == nil || before.failed != "" || after.failed != "" {
		return
	}
	a, b := before.core.Status(), after.core.Status()
	if a.Epoch != b.Epoch || !b.Linked {
		return
	}
	end := after.disk.now.last()
	at, ok := before.disk.now.at(end.sequence)
	if !ok && end.sequence < before.disk.now.base.sequence && end.sequence > 0 {
		at, ok = t.markAt(end.sequence)
	}
	if (!ok || at != end) && end.sequence > 0 {
		w.fail("epoch %d: the log of %v ends with %v, its predecessor %v has %v there (%v)", a.Epoch, s, end, p, at, ok)
	}
}

// replied checks what a client is told of its command.
func (t *truth) replied(d *driver, a *attempt, r chain.Result) {
	sequence, ok := t.done[request{a.command.Client, a.command.Request}]
	if !ok {
		t.world.fail("%v tells client %d how request %d ended, which is not committed", d.process.self, a.client.number, a.command.Request)
		return
	}
	if e, _ := t.at(sequence); e.Result != r {
		t.world.fail("%v tells client %d that request %d ended with %+v, it ended with %+v", d.process.self, a.client.number, a.command.Request, r, e.Result)
	}
	for t.acked < sequence {
		t.acked++
		e, _ := t.at(t.acked)
		e.ended = t.world.now
	}
}

// answered checks the tail's answer to a query: it has all that any client was told.
func (t *truth) answered(d *driver, m *replica.Message) {
	if m.Committed < t.acked && t.world.options.Mode != Skewed {
		t.world.fail("%v answers that %d is committed, clients were told of %d", d.process.self, m.Committed, t.acked)
	}
}

// read checks an answer against the state that the replica says it is of, and how old that may be.
func (t *truth) read(d *driver, a *attempt, values *[len(keyNames)]chain.Value) {
	w := t.world
	first, count := a.operation.first, a.count
	applied := d.disk.now.applied.sequence
	if _, ok := t.markAt(applied); !ok && applied > 0 {
		return // of a line that was given up
	}
	if v := (view{d.process.self}); applied < t.views[v] {
		w.fail("%v went back from %d to %d", d.process.self, t.views[v], applied)
	} else if t.views != nil {
		t.views[v] = applied
	}
	for i := first; i < first+count; i++ {
		want := t.value(keyNames[i], applied)
		if got := values[i]; got.Version != want.Version || !bytes.Equal(got.Value, want.Value) {
			w.fail("%v answers %s with %v as of %d, it was %v", d.process.self, keyNames[i], got, applied, want)
		}
		all := t.keys[keyNames[i]]
		n := len(all)
		for n > 0 && all[n-1].sequence > applied {
			n--
		}
		t.recent(d, a, keyNames[i], all[n:])
		for _, heir := range t.heirs(keyNames[i]) {
			news := heir.keys[keyNames[i]]
			heir.recent(d, a, keyNames[i], news[sort.Search(len(news), func(i int) bool { return news[i].sequence > heir.lines[0].base.sequence }):])
		}
	}
}

// recent checks that an answer misses only what it may miss.
func (t *truth) recent(d *driver, a *attempt, key string, missed []version) {
	w, q := t.world, a.read
	if len(missed) == 0 || q.Consistency == chain.Eventual {
		return
	}
	count := uint64(0)
	first, _ := t.at(missed[0].sequence)
	for _, v := range missed {
		e, _ := t.at(v.sequence)
		if e.ended == 0 || e.ended >= a.began {
			break
		}
		count++
		// The age is measured by the replica's clock.
		allowed := time.Duration(float64(q.Bound.Age) / d.process.node.rate)
		if q.Bound.Age > 0 && e.ended+allowed < a.began {
			t.late("%v answers %s without entry %d, which a client was told of at %v, allowed was %v before %v", d.process.self, key, v.sequence, e.ended, allowed, a.began)
			return
		}
	}
	switch {
	case q.Bound.Versions > 0 && count > q.Bound.Versions:
		t.late("%v answers %s without %d newer versions, %d are allowed", d.process.self, key, count, q.Bound.Versions)
	case q.Bound == chain.Bound{} && count > 0:
		t.late("%v answers %s without entry %d, which a client was told of at %v, before the read began at %v", d.process.self, key, missed[0].sequence, first.ended, a.began)
	}
	_ = w
}

// late notes an answer that is too old.
func (t *truth) late(format string, args ...any) {
	w := t.world
	if w.options.Mode != Skewed {
		w.fail(format, args...)
		return
	}
	if w.stale == "" {
		w.log("STALE: "+format, args...)
		w.stale = format
	}
}

// finish checks the end: all members have the same, and all that clients were told.
func (w *world) finish() {
	for _, id := range w.ids() {
		w.truths[id].whole()
	}
	for _, o := range w.history {
		if o.command == nil || o.end == 0 {
			continue
		}
		name := request{o.command.Client, o.command.Request}
		if !slices.ContainsFunc(w.ids(), func(id chain.ID) bool { return w.truths[id].done[name] != 0 || w.truths[id].lost[name] }) {
			w.fail("client was told how its request ended, and it is lost: %v", o)
		}
	}
}

// whole checks that all members have the same in the end.
func (t *truth) whole() {
	w := t.world
	record, _ := w.table.record(t.id)
	for _, m := range record.Members {
		d := w.driver(t.id, m.Replica)
		if d == nil || t.top() == 0 || w.doomed() {
			continue
		}
		if newest := t.newest(); d.disk.now.last() != newest {
			w.fail("at the end %v has %v, committed is %v", m, d.disk.now.last(), newest)
		}
		for _, key := range keyNames {
			want := t.value(key, t.top())
			if !record.Range.Contains([]byte(key)) {
				want = chain.Value{}
			}
			if got := d.disk.now.keys[key]; got.Version != want.Version || !bytes.Equal(got.Value, want.Value) {
				w.fail("at the end %v has %v for key %s, committed is %v", m, got, key, want)
			}
		}
	}
}
