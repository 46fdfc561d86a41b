package sim

import (
	"slices"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/replica"
)

// fault is a kind of thing that goes wrong.
type fault int

const (
	faultCrash fault = iota
	faultPause
	faultSplit   // the nodes fall into two groups
	faultOneWay  // one direction of a link is cut
	faultApart   // a node does not reach table and keeper
	faultDeaf    // a node does not hear of changes of the table
	faultSlow    // a disk
	faultBroken  // a disk returns errors
	faultDark    // all nodes lose power
	faultKeeper  // another keeper begins
	faultOrder   // an operator moves or drains
	faultTrap    // something goes wrong at a chosen point
	faultLegs    // one after the other, all nodes crash
	faultMending // all cuts are mended
	faultLeave   // a node is shut down in order
	faultLost    // all that serve are gone for long, and an operator gives them up
	faults
)

func (w *world) drawFaults() []fault {
	var all []fault
	for f := range faults {
		if w.rng.IntN(2) == 0 {
			all = append(all, f)
		}
	}
	switch w.options.Mode {
	case Dark:
		all = append(all, faultDark, faultDark, faultTrap, faultLegs)
	case Moving:
		all = append(all, faultOrder, faultOrder, faultKeeper, faultTrap)
	case Skewed:
		all = append(all, faultApart, faultApart, faultPause, faultApart)
	case Splitting:
		all = append(all, faultOrder, faultTrap)
	case Mixed:
	}
	if len(all) == 0 {
		all = append(all, faultCrash)
	}
	return all
}

// chaos lets things go wrong until the world is calm.
func (w *world) chaos() {
	w.after(w.between(w.nature.every/2, 2*w.nature.every), func() {
		if w.calm {
			return
		}
		w.wrong(pick(w, w.nature.faults))
		w.chaos()
	})
	if w.now == 0 {
		w.mind()
	}
}

// mind elects keepers, as Raft would.
func (w *world) mind() {
	w.attend()
	if w.calm { // an order of before may be carried out late
		for _, n := range w.nodes {
			w.undrain(n)
		}
	}
	w.after(w.between(chainLease/4, chainLease/2), w.mind)
}

// a while is up to several leases.
func (w *world) while() time.Duration {
	if w.chance(0.4) {
		return w.between(chainLease, 4*chainLease)
	}
	return w.between(0, chainLease)
}

// later ends a fault.
func (w *world) until(d time.Duration, what func()) {
	w.after(d, func() {
		if !w.calm {
			what()
		}
	})
}

func (w *world) wrong(f fault) { //nolint:gocyclo // a case a kind
	n := pick(w, w.nodes)
	switch f { //nolint:exhaustive // faults is their number
	case faultCrash:
		w.down(n)
	case faultPause:
		if n.process != nil {
			n.process.pause(w.while())
		}
	case faultSplit:
		w.log("SPLIT")
		for _, a := range w.nodes {
			for _, b := range w.nodes {
				if w.rng.IntN(2) == 0 && a != n && b == n {
					w.cut(a, b)
					w.cut(b, a)
				}
			}
		}
		w.until(w.while(), w.mend)
	case faultOneWay:
		to := pick(w, w.nodes)
		w.log("CUT %s to %s", n.id, to.id)
		w.cut(n, to)
		w.until(w.while(), w.mend)
	case faultMending:
		w.mend()
	case faultLeave:
		n.leave()
		w.after(w.while(), func() {
			if n.process == nil {
				n.start()
			}
		})
	case faultLost:
		w.lose()
	case faultApart:
		w.log("APART %s", n.id)
		n.apart = true
		w.until(w.while(), func() { n.apart = false })
	case faultDeaf:
		w.log("DEAF %s", n.id)
		n.deaf = true
		w.until(w.while(), func() { n.deaf = false })
	case faultSlow:
		n.slow = pick(w, []int{1, 1, 5, 30})
		w.log("SLOW %s %d", n.id, n.slow)
	case faultBroken:
		w.ruin(n)
	case faultDark:
		w.log("DARK")
		for _, n := range w.nodes {
			w.down(n)
		}
	case faultLegs:
		for _, n := range w.nodes {
			w.until(w.while(), func() { w.down(n) })
		}
	case faultKeeper:
		w.elect()
	case faultOrder:
		w.order()
	case faultTrap:
		w.set()
	}
}

// down crashes a node, and starts it again after a while.
func (w *world) down(n *node) {
	if n.process == nil {
		return
	}
	n.crash()
	w.after(w.while(), func() {
		if n.process == nil {
			n.start()
		}
	})
}

// lose lets all that serve crash, and an operator let the chain begin anew with what remains.
func (w *world) lose() {
	id := w.anyChain()
	record, _ := w.table.record(id)
	w.log("LOST chain %d, %v", id, record.Serving())
	for _, r := range record.Serving() {
		n := w.node(r.Node)
		n.crash()
		w.after(w.between(2*chainLease, 8*chainLease), func() {
			if n.process == nil {
				n.start()
			}
		})
	}
	for i := range 8 {
		w.after(chainLease+time.Duration(i)*chainLease/2, func() { w.giveUp(id) })
	}
}

// giveUp is an operator, who knows that all that serve have crashed.
func (w *world) giveUp(id chain.ID) {
	record, _ := w.table.record(id)
	for _, r := range record.Serving() {
		if n := w.node(r.Node); n.process != nil && n.process.self == r {
			return
		}
	}
	k := w.newest()
	if k.over || k.process.dead || k.process.paused {
		return
	}
	q := placement.RecoverRequest{Chain: id, Force: true, By: "operator", Empty: w.rng.IntN(8) == 0, Try: true}
	plan, _, err := k.Recover(k.process.node.clock(), q)
	// What was never committed may take the place of what was: that is in the nature of the act, and nothing to check.
	if err == nil && (q.Empty || w.truths[id].agrees(&w.node(plan.Node).disks[id].now)) {
		q.Try, q.From = false, plan.Node
		_, c, err := k.Recover(k.process.node.clock(), q)
		k.order(c, err)
	}
}

// ruin breaks a disk for good. One disk that has everything must be left; the one of a node that is not there may be the only one.
func (w *world) ruin(n *node) {
	if w.failures > 0 || w.nature.factor < 2 {
		return
	}
	for _, c := range w.table.chains() {
		if !slices.ContainsFunc(c.Serving(), func(r chain.Replica) bool { return r.Node != n.id && w.driver(c.ID, r) != nil }) {
			return
		}
	}
	w.log("BROKEN disk of %s", n.id)
	w.failures++
	n.failed = true
	for _, id := range n.chains() {
		n.disks[id].broken = true
	}
}

// anyChain is one of the chains.
func (w *world) anyChain() chain.ID {
	if !w.nature.several {
		return theChain
	}
	return pick(w, w.table.chains()).ID
}

func (w *world) mend() { clear(w.blocked) }

// order is what an operator does.
func (w *world) order() {
	k := w.newest()
	if k.over || k.process.dead || k.process.paused {
		return
	}
	from, to := pick(w, w.nodes).id, pick(w, w.nodes).id
	id := w.anyChain()
	switch w.rng.IntN(3) {
	case 0:
		k.order(k.Drain(from, w.rng.IntN(3) == 0))
	default:
		k.order(k.Move(k.process.node.clock(), id, from, to))
	}
}

// heal ends all faults.
func (w *world) heal() {
	w.log("CALM")
	w.calm = true
	w.mend()
	w.traps = nil
	for _, n := range w.nodes {
		n.apart, n.deaf, n.slow = false, false, 1
		if n.process == nil {
			n.start()
		}
		n.process.resume()
	}
}

// undrain lets a node have replicas again.
func (w *world) undrain(n *node) {
	key := placement.NodeKey(n.id)
	if e, ok := w.table.entries[key]; ok {
		record, err := placement.DecodeNode(e.Value)
		if err == nil && record.Drain {
			record.Drain = false
			_, _ = w.swap(key, e.Revision, record.Encode())
		}
	}
}

// point is where a trap can be.
type point int

const (
	pointSend     point = iota // before a message is sent
	pointReceive               // before a message is acted on
	pointReceived              // after a message was acted on
	pointWrite                 // after a write that is not durable yet
	pointSync                  // after a write was durable, before the replica knows
	pointConfig                // before a config is adopted
	points
	pointPart   // before a part is made of a chain
	pointParted // after it is there
	allPoints
)

// trap lets something go wrong when its point is reached.
type trap struct {
	point point
	kind  replica.Kind // 0: any
	count int
	what  int
}

func (w *world) set() {
	t := trap{point: point(w.rng.IntN(int(points))), count: 1 + w.rng.IntN(8), what: w.rng.IntN(5)}
	if w.rng.IntN(4) != 0 && t.point <= pointReceived {
		t.kind = replica.Kind(1 + w.rng.IntN(8)) //nolint:gosec // small
	}
	if w.nature.several && w.chance(0.4) {
		t = trap{point: pointPart + point(w.rng.IntN(int(allPoints-pointPart))), count: 1 + w.rng.IntN(3), what: t.what}
	}
	w.traps = append(w.traps, t)
}

// hit says whether the process has died at a point, or does not act on it.
func (w *world) hit(p *process, at point, kind replica.Kind) bool {
	for i := range w.traps {
		t := &w.traps[i]
		if t.point != at || t.kind != 0 && t.kind != kind {
			continue
		}
		if t.count--; t.count > 0 {
			continue
		}
		what := t.what
		w.traps[i] = w.traps[len(w.traps)-1]
		w.traps = w.traps[:len(w.traps)-1]
		w.log("TRAP at point %d, %v", at, p.self)
		switch what {
		case 0, 1:
			w.down(p.node)
		case 2:
			for _, n := range w.nodes {
				w.down(n)
			}
		case 3:
			p.node.apart = true
			w.until(w.while(), func() { p.node.apart = false })
		case 4:
			w.after(0, func() { p.pause(w.while()) })
		}
		return p.dead
	}
	return p.dead
}
