package placement_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/replica"
)

// world is what keepers and replicas do to each other, much simplified, as the ground truth: the table is linearizable, messages and writes of the
// table arrive late, twice, in any order or not at all, clocks' rates differ within the allowed skew, keepers overlap.
type world struct {
	now     time.Duration // true time
	config  placement.Config
	table   map[string]fabric.Entry
	history []fabric.Entry // every write, in order; a nil value is a deletion
	nodes   []*machine
	keepers []*keeper
	mail    []any // *report or *grant
	acked   map[chain.ID][]entry
	cut     map[[2]fabric.NodeID]bool // messages of replicas from, to, are lost
	parts   map[chain.ID]part         // by the chain that was split off
	idle    bool                      // nobody writes
	lossy   bool                      // chains are unsynced: who crashes loses something
	size    uint64                    // what all replicas say of their size
	epochs  map[chain.ID]uint64
	lines   map[chain.ID]uint64 // epoch in which an operator let a chain begin anew
	fault   string              // the first broken rule
}

type entry struct{ epoch, number uint64 }

// part is what a chain that was split off began with.
type part struct {
	parent chain.ID
	epoch  uint64 // of the parent
	base   int
}

type report struct {
	placement.Report
	to *keeper
}

type machine struct {
	id          fabric.NodeID
	zone        string
	rate        float64
	up          bool
	deaf, mute  bool // round does not let it watch, or report
	incarnation uint64
	view        int // how much of the history its watch has seen
	revision    uint64
	records     map[chain.ID]placement.Chain
	sequence    uint64
	sent        map[uint64]time.Duration // by report, on its own clock
	granted     placement.Grant
	replicas    map[chain.ID]*copied
}

// copied is a replica: what is on its disk, and what its process knows.
type copied struct {
	log       []entry
	committed int
	epoch     uint64 // 0: in no config
	linked    bool
	floor     int
	failed    string
	clean     uint64 // incarnation that ended in order
	durable   int    // what is certainly on the disk
	base      uint64 // what a line added to the sequences of entries
}

type keeper struct {
	*placement.Keeper
	generation uint64
	on         *machine
	view       int
	asOf       time.Duration
	confirmed  bool
	writes     []*write
	over       bool
	held       bool // round does not end its writes
}

type write struct {
	placement.Change
	told bool // the keeper knows, or believes to know, how it ended
	done bool
}

func newWorld(config placement.Config, nodes int) *world {
	w := &world{config: config, table: map[string]fabric.Entry{}, acked: map[chain.ID][]entry{}, epochs: map[chain.ID]uint64{}, cut: map[[2]fabric.NodeID]bool{}, parts: map[chain.ID]part{}, lines: map[chain.ID]uint64{}}
	for i := range nodes {
		m := &machine{
			id: fabric.NodeID(fmt.Sprintf("n%d", i)), zone: string(rune('a' + i%3)), rate: 1 + 0.02*float64(i%3-1),
			replicas: map[chain.ID]*copied{},
		}
		w.nodes = append(w.nodes, m)
		m.start()
	}
	return w
}

// story is what was written to chains since n writes of the table.
func (w *world) story(n int) string {
	var all strings.Builder
	for _, e := range w.history[n:] {
		if c, err := placement.DecodeChain(e.Value); err == nil && e.Key == placement.ChainKey(c.ID) {
			fmt.Fprintf(&all, "chain %d, epoch %d, keeper %d, %v: %s\n", c.ID, c.Epoch, c.Keeper, c.Members, c.Reason)
		}
	}
	return all.String()
}

func (w *world) fail(format string, args ...any) {
	if w.fault == "" {
		w.fault = fmt.Sprintf(format, args...)
	}
}

func (m *machine) start() {
	m.up, m.deaf, m.mute = true, false, false
	m.incarnation++
	m.view, m.revision, m.records = 0, 0, map[chain.ID]placement.Chain{}
	m.sequence, m.sent, m.granted = 0, map[uint64]time.Duration{}, placement.Grant{}
	for _, r := range m.replicas {
		r.epoch, r.linked, r.floor, r.failed, r.durable = 0, false, 0, "", len(r.log)
	}
}

// crash ends the process; in unsynced chains it loses the last n entries, but for those that were committed before it was started.
func (m *machine) crash(w *world, n int) {
	for _, r := range m.replicas {
		if w.lossy && m.up {
			r.log = r.log[:max(min(r.durable, len(r.log)), len(r.log)-n)]
			r.committed = min(r.committed, len(r.log))
		}
	}
	m.up = false
}

// leave ends the process in order.
func (m *machine) leave() {
	for id, r := range m.replicas {
		if m.up && r.epoch > 0 && m.records[id].On(m.id) >= 0 {
			r.clean = m.incarnation
		}
	}
	m.up = false
}

func (m *machine) clock(w *world) time.Duration { return time.Duration(float64(w.now) * m.rate) }

func (m *machine) self() chain.Replica {
	return chain.Replica{Node: m.id, Incarnation: m.incarnation}
}

// cas is the table.
func (w *world) cas(c placement.Change) (uint64, error) {
	if w.table[c.Key].Revision != c.Revision {
		return 0, fabric.ErrConflict
	}
	e := fabric.Entry{Key: c.Key, Value: c.Value, Revision: uint64(len(w.history) + 1)}
	w.check(c.Key, w.table[c.Key], e)
	w.history = append(w.history, e)
	if w.table[c.Key] = e; c.Value == nil {
		delete(w.table, c.Key)
	}
	return e.Revision, nil
}

// check holds the rules of records: epochs grow by one with the members, and whoever leaves answers nothing any more.
func (w *world) check(key string, before, after fabric.Entry) {
	if !strings.HasPrefix(key, placement.ChainPrefix) || after.Value == nil {
		return
	}
	next, err := placement.DecodeChain(after.Value)
	if err != nil {
		w.fail("a keeper wrote a record that cannot be read: %v", err)
		return
	}
	if before.Value == nil {
		if next.Epoch <= w.epochs[next.ID] {
			w.fail("chain %d: epoch %d was there before", next.ID, next.Epoch)
		}
		w.epochs[next.ID] = next.Epoch
		if next.Line.Epoch > 0 { // its parent's, which was begun anew while it was split: parts of before are not what it has
			w.lines[next.ID] = next.Line.Epoch
		}
		return
	}
	old, err := placement.DecodeChain(before.Value)
	if err != nil {
		w.fail("%v", err)
		return
	}
	if next.Line != old.Line { // what was acknowledged is given up
		for _, r := range old.Serving() {
			m := w.node(r.Node)
			if next.Recovery.By == "" && (m.self() == r && m.up || !w.lossy || m.replicas[old.ID] != nil && m.replicas[old.ID].clean == r.Incarnation) {
				w.fail("chain %d is begun anew (%s) although %v has everything", next.ID, next.Reason, r)
			}
		}
		w.lines[next.ID] = next.Line.Epoch
		delete(w.acked, next.ID)
		if next.Split != nil && w.table[placement.ChainKey(next.Split.Child)].Value == nil {
			delete(w.parts, next.Split.Child)
			delete(w.acked, next.Split.Child)
		}
	}
	same := slices.Equal(old.Members, next.Members) && string(old.Range.End) == string(next.Range.End)
	if same && next.Epoch != old.Epoch || !same && next.Epoch != old.Epoch+1 {
		w.fail("chain %d: from epoch %d to %d, members %v to %v", next.ID, old.Epoch, next.Epoch, old.Members, next.Members)
	}
	w.epochs[next.ID] = next.Epoch
	for _, m := range w.nodes {
		if m.up && m.leased(w, next.ID) && m.isMember(old) && !m.isMember(next) {
			w.fail("chain %d: %v was removed (%s) while it had a lease", next.ID, m.self(), next.Reason)
		}
	}
}

func (m *machine) isMember(c placement.Chain) bool {
	return slices.ContainsFunc(c.Members, func(other chain.Member) bool { return other.Replica == m.self() && other.State != chain.Syncing })
}

// leased says whether the process may answer strong reads of a chain, as far as leases go.
func (m *machine) leased(w *world, id chain.ID) bool {
	g := m.granted
	sent, ok := m.sent[g.Sequence]
	r := m.replicas[id]
	return ok && r != nil && r.failed == "" && r.epoch > 0 && m.revision >= g.Revision && m.clock(w) < sent+g.Lease && !slices.Contains(g.Without, id) && m.isMember(m.records[id])
}

// watch lets a node see n more writes.
func (m *machine) watch(w *world, n int) {
	for ; n > 0 && m.view < len(w.history); n-- {
		e := w.history[m.view]
		m.view++
		m.revision = e.Revision
		if !strings.HasPrefix(e.Key, placement.ChainPrefix) {
			continue
		}
		if e.Value == nil {
			for id := range m.records {
				if placement.ChainKey(id) == e.Key {
					delete(m.records, id)
					m.forget(id)
				}
			}
			continue
		}
		c, err := placement.DecodeChain(e.Value)
		if err != nil {
			w.fail("%v", err)
			return
		}
		m.records[c.ID] = c
		m.adopt(w, c)
	}
}

func (m *machine) forget(id chain.ID) {
	if r := m.replicas[id]; r != nil {
		r.epoch, r.linked = 0, false
	}
}

func (m *machine) adopt(w *world, c placement.Chain) {
	i := c.On(m.id)
	if i < 0 || c.Members[i].Replica != m.self() {
		m.forget(c.ID)
		return
	}
	r := m.replicas[c.ID]
	if r == nil {
		if c.Members[i].State == chain.Serving && !c.Fresh && len(w.acked[c.ID]) > 0 {
			w.fail("chain %d: %v is to serve and has nothing", c.ID, m.self())
		}
		r = &copied{}
		m.replicas[c.ID] = r
	}
	if c.Members[i].State == chain.Serving && r.newest() < c.Line.Epoch {
		r.renew(c.Line)
	}
	if r.epoch != c.Epoch {
		r.epoch, r.linked, r.floor = c.Epoch, i == 0, len(r.log)
	}
}

// newest is the epoch of a replica's newest entry.
func (r *copied) newest() uint64 {
	if len(r.log) == 0 {
		return 0
	}
	return r.log[len(r.log)-1].epoch
}

// renew lets a replica's log go on as the beginning of a line.
func (r *copied) renew(l chain.Line) {
	if l.Empty {
		r.log = nil
	}
	r.log = append(slices.Clone(r.log), entry{l.Epoch, uint64(len(r.log) + 1)})
	r.committed, r.durable = len(r.log), len(r.log)
	r.base = l.Sequence - uint64(len(r.log))
}

func (m *machine) report(w *world, to *keeper) {
	m.sequence++
	m.sent[m.sequence] = m.clock(w)
	r := placement.Report{Node: m.id, Incarnation: m.incarnation, Sequence: m.sequence, Zone: m.zone, Free: 1 << 40, Seen: m.granted.ID}
	for _, id := range slices.Sorted(maps.Keys(m.replicas)) {
		c := m.replicas[id]
		s := replica.Status{Chain: id, Epoch: c.epoch, Self: m.self(), Linked: c.linked, Last: c.base + uint64(len(c.log)), Committed: c.base + uint64(c.committed)}
		r.Replicas = append(r.Replicas, placement.Replica{Status: s, Failed: c.failed, Clean: c.clean, Bytes: w.size, Split: half(m.records[id].Range)})
	}
	w.mail = append(w.mail, &report{Report: r, to: to})
}

// half is a key about in the middle of a range of short keys.
func half(r chain.Range) []byte {
	from, to := 0, 256
	if len(r.Start) > 0 {
		from = int(r.Start[0])
	}
	if len(r.End) > 0 {
		to = int(r.End[0])
	}
	if to-from < 2 {
		return nil
	}
	return []byte{byte((from + to) / 2)}
}

// deliver hands over a message.
func (w *world) deliver(mail any) {
	switch mail := mail.(type) {
	case *report:
		if !mail.to.over && mail.to.on.up {
			mail.to.Report(mail.to.on.clock(w), mail.Report)
		}
	case *placement.Grant:
		for _, m := range w.nodes {
			if m.id == mail.Node && m.up && m.incarnation == mail.Incarnation && mail.ID.Newer(m.granted.ID) {
				m.take(*mail)
			}
		}
	}
}

func (m *machine) take(g placement.Grant) {
	m.granted = g
	for _, d := range g.Drop {
		if m.records[d.Chain].Epoch <= d.Epoch && m.records[d.Chain].On(m.id) < 0 {
			delete(m.replicas, d.Chain)
		}
	}
}

// begin starts a keeper on a node.
func (w *world) begin(m *machine) {
	old, _ := placement.DecodeKeeper(w.table[placement.KeeperKey].Value)
	record := placement.KeeperRecord{Generation: old.Generation + 1, Node: m.id}
	if _, err := w.cas(placement.Change{Key: placement.KeeperKey, Revision: w.table[placement.KeeperKey].Revision, Value: record.Encode()}); err != nil {
		w.fail("%v", err)
	}
	var entries []fabric.Entry
	for _, key := range slices.Sorted(maps.Keys(w.table)) {
		entries = append(entries, w.table[key])
	}
	k, err := placement.New(w.config, record, m.clock(w), entries)
	if err != nil {
		w.fail("%v", err)
		return
	}
	w.keepers = append(w.keepers, &keeper{Keeper: k, generation: record.Generation, on: m, view: len(w.history)})
}

// confirm is the keeper's reading of its clock, and then of KeeperKey.
func (k *keeper) confirm(w *world) {
	record, _ := placement.DecodeKeeper(w.table[placement.KeeperKey].Value)
	if k.over = k.over || record.Generation != k.generation || !k.on.up; !k.over {
		k.asOf, k.confirmed = k.on.clock(w), true
	}
}

func (k *keeper) step(w *world) {
	if k.over || !k.confirmed {
		return
	}
	out := k.Step(k.asOf, int64(w.now/time.Millisecond))
	for _, g := range out.Grants {
		w.mail = append(w.mail, &g)
	}
	for _, c := range out.Changes {
		k.writes = append(k.writes, &write{Change: c})
	}
}

func (k *keeper) order(c placement.Change, err error) {
	if err == nil {
		k.writes = append(k.writes, &write{Change: c})
	}
}

// end carries out a write of the table. A lost one may happen later.
func (k *keeper) end(w *world, at *write, lost, late bool) {
	var revision uint64
	var err error
	if !at.done && (!lost || !late) {
		revision, err = w.cas(at.Change)
		at.done = true
	} else {
		lost = true
	}
	if at.told || k.over || !k.on.up {
		at.told = true
		return
	}
	at.told = true
	if err == nil && !lost {
		k.Written(at.Key, revision)
		return
	}
	e := w.table[at.Key]
	e.Key = at.Key
	k.took(w, k.Load(e))
}

func (k *keeper) took(w *world, err error) {
	if _, ok := errors.AsType[placement.DeposedError](err); ok {
		k.over = true
	} else if err != nil {
		w.fail("%v", err)
	}
}

func (k *keeper) watch(w *world, n int) {
	for ; n > 0 && k.view < len(w.history) && !k.over; n-- {
		k.took(w, k.Observe(w.history[k.view]))
		k.view++
	}
}

// pair is a member and the one before it, both in the same epoch; p is nil for the head.
func (w *world) pair(m *machine, id chain.ID) (r, p *copied, c placement.Chain, i int) {
	r, c = m.replicas[id], m.records[id]
	if !m.up || r == nil || r.failed != "" || r.epoch == 0 || r.epoch != c.Epoch {
		return nil, nil, c, -1
	}
	i = c.On(m.id)
	if i > 0 {
		for _, other := range w.nodes {
			if q := other.replicas[id]; other.up && other.self() == c.Members[i-1].Replica && q != nil && q.epoch == r.epoch {
				p = q
			}
		}
	}
	return r, p, c, i
}

// replicate lets a replica do what it can: append (the head), link, take an entry, commit (the tail), learn what is committed, all as ../DESIGN.md says.
func (w *world) replicate(m *machine, id chain.ID, add bool) {
	r, p, c, i := w.pair(m, id)
	if r == nil {
		return
	}
	if b := boundary(r.log, c.Split); c.Split != nil && b == 0 || i == 0 && add {
		add = i == 0
	} else if b > 0 && r.committed >= b {
		w.part(m, c, r.log[:b])
	}
	if i == 0 && add {
		r.log = append(r.log, entry{r.epoch, uint64(len(r.log) + 1)})
	}
	var forth, back bool
	if i > 0 {
		other := c.Members[i-1].Node
		forth, back = !w.cut[[2]fabric.NodeID{other, m.id}], !w.cut[[2]fabric.NodeID{m.id, other}]
	}
	if p != nil && p.linked && forth && (r.linked || back) {
		w.link(r, p, id)
	}
	tail := len(c.Members) - 1
	if c.Members[tail].State == chain.Syncing {
		tail--
	}
	if i == tail && r.linked {
		w.commit(r, id)
	}
	if p != nil && p.linked && r.linked && i <= tail && back {
		p.committed = max(p.committed, min(r.committed, len(p.log)))
	}
}

// boundary is how many entries there are up to the first one of the epoch that a split began with; 0 if there is no such entry.
func boundary(log []entry, s *placement.Split) int {
	if s == nil {
		return 0
	}
	return slices.IndexFunc(log, func(e entry) bool { return e.epoch >= s.Epoch }) + 1
}

// part makes a node's part of the chain that is split off.
func (w *world) part(m *machine, c placement.Chain, log []entry) {
	child := c.Split.Child
	if m.replicas[child] != nil {
		return
	}
	if _, ok := w.parts[child]; !ok {
		w.parts[child] = part{c.ID, c.Split.Epoch, len(log)}
		w.acked[child] = slices.Clone(log)
	}
	if !slices.Equal(w.acked[child][:w.parts[child].base], log) {
		w.fail("chain %d: its replicas begin with other entries", child)
	}
	m.replicas[child] = &copied{log: slices.Clone(log), committed: len(log), durable: len(log), base: m.replicas[c.ID].base}
}

func (w *world) link(r, p *copied, id chain.ID) {
	if line := w.lines[id]; r.newest() < line && p.newest() >= line {
		r.log, r.committed = slices.Clone(p.log[:p.committed]), p.committed // a copy
		r.durable, r.base = len(r.log), p.base
	}
	common := 0
	for common < min(len(r.log), len(p.log)) && r.log[common] == p.log[common] {
		common++
	}
	if common < len(r.log) {
		if r.linked || common < r.committed {
			w.fail("chain %d: a linked or committed entry is not its predecessor's", id)
		}
		r.log, r.durable = r.log[:common], min(r.durable, common)
	}
	switch {
	case len(r.log) < len(p.log):
		r.log = append(r.log, p.log[len(r.log)])
	case !r.linked:
		r.linked, r.floor = true, max(min(r.floor, len(r.log)), len(p.log))
	}
}

func (w *world) commit(r *copied, id chain.ID) {
	if r.newest() < w.lines[id] {
		return // nobody of those who go on knows of it
	}
	acked := w.acked[id]
	n := min(len(r.log), len(acked))
	if !slices.Equal(r.log[:n], acked[:n]) {
		w.fail("chain %d: acknowledged entries were replaced", id)
	}
	if len(r.log) > len(acked) {
		w.acked[id] = slices.Clone(r.log)
	}
	r.committed = len(r.log)
}

// reads checks every replica that could answer a strong read on its own now.
func (w *world) reads() {
	for _, m := range w.nodes {
		for id, r := range m.replicas {
			if !m.up || !r.linked || !m.leased(w, id) {
				continue
			}
			if now, err := placement.DecodeChain(w.table[placement.ChainKey(id)].Value); err != nil || !m.isMember(now) {
				w.fail("chain %d: %v has a lease and is no member: %v", id, m.self(), now.Members)
			}
			for child, p := range w.parts {
				if p.parent == id && r.epoch < p.epoch && len(w.acked[child]) > p.base {
					w.fail("chain %d: %v answers for keys of chain %d in epoch %d", id, m.self(), child, r.epoch)
				}
			}
			c := m.records[id]
			tail := c.Members[len(c.Members)-1]
			isTail := tail.Replica == m.self() && r.committed >= r.floor
			if (isTail || r.committed == len(r.log)) && r.committed < len(w.acked[id]) {
				w.fail("chain %d: %v reads %d of %d acknowledged entries in epoch %d", id, m.self(), r.committed, len(w.acked[id]), r.epoch)
			}
		}
	}
}
