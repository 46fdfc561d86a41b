package resolve

import (
	"cmp"
	"container/heap"
	"maps"
	"math"
	"slices"
	"strings"

	"orrery/matrix"
	"orrery/matrix/auth"
)

// resolveV2 is the algorithm of room version 2, with the two changes of room version 12 where that is asked for.
func (g *graph) resolveV2(states []State) State {
	agreed, conflicted := g.split(states)
	if len(conflicted) == 0 || g.missing != "" {
		return g.ids(agreed)
	}
	full := g.fullConflicted(states, conflicted)
	first := g.powerEvents(full)
	state := partial{}
	if g.version.Resolution == matrix.ResolutionV2 {
		maps.Copy(state, agreed)
	}
	g.allow(state, g.powerOrder(first))
	rest := make([]node, 0, len(full))
	for n := range full {
		if !first[n] {
			rest = append(rest, n)
		}
	}
	g.mainlineOrder(state, rest)
	g.allow(state, rest)
	maps.Copy(state, agreed)
	return g.ids(state)
}

// split is the unconflicted state map and the conflicted state set (clause room version 2, definitions).
func (g *graph) split(states []State) (partial, []node) {
	type count struct {
		id    string
		times int
	}
	counts := map[matrix.Key][]count{}
	for _, s := range states {
		for key, id := range s {
			all := counts[key]
			i := slices.IndexFunc(all, func(c count) bool { return c.id == id })
			if i < 0 {
				i = len(all)
				all = append(all, count{id: id})
			}
			all[i].times++
			counts[key] = all
		}
	}
	agreed := partial{}
	var conflicted []node
	for key, all := range counts {
		for _, c := range all {
			switch n := g.node(c.id); {
			case n == none:
			case c.times == len(states):
				agreed[key] = n
			default:
				conflicted = append(conflicted, n)
			}
		}
	}
	return agreed, conflicted
}

// fullConflicted is the conflicted state set, the auth difference, and from room version 12 on the conflicted state subgraph.
func (g *graph) fullConflicted(states []State, conflicted []node) map[node]bool {
	roots := make([][]node, len(states))
	var all []node
	for i, s := range states {
		for _, id := range s {
			if n := g.node(id); n != none {
				roots[i] = append(roots[i], n)
			}
		}
		all = append(all, roots[i]...)
	}
	order := g.ancestry(all)
	full := map[node]bool{}
	for _, n := range conflicted {
		full[n] = true
	}
	g.authDifference(roots, order, full)
	if g.version.Resolution == matrix.ResolutionV21 {
		g.subgraph(conflicted, order, full)
	}
	return full
}

// authDifference adds the events that are in the auth chain of some states but not of all. Bit i of an event's mask says that it is in the chain of
// state i; masks flow from events to their auth events.
func (g *graph) authDifference(roots [][]node, order []node, full map[node]bool) {
	words := (len(roots) + 63) / 64
	masks := make([]uint64, words*len(g.all))
	mask := func(n node) []uint64 { return masks[int(n)*words : int(n+1)*words] }
	whole := make([]uint64, words)
	chained := make([]bool, len(g.all)) // by an event of a state, not only in a state itself
	for i, all := range roots {
		whole[i/64] |= 1 << (i % 64)
		for _, n := range all {
			for _, a := range g.vertex(n).auth {
				mask(a)[i/64] |= 1 << (i % 64)
				chained[a] = true
			}
		}
	}
	for _, n := range slices.Backward(order) {
		if !chained[n] {
			continue
		}
		own := mask(n)
		if !slices.Equal(own, whole) {
			full[n] = true
		}
		for _, a := range g.vertex(n).auth {
			chained[a] = true
			for w, bits := range own {
				mask(a)[w] |= bits
			}
		}
	}
}

// subgraph adds the events on paths between two events of the conflicted state set.
func (g *graph) subgraph(conflicted []node, order []node, full map[node]bool) {
	above, below := make([]bool, len(g.all)), make([]bool, len(g.all)) // reached from a conflicted event; reaching one
	for _, n := range conflicted {
		above[n], below[n] = true, true
	}
	for _, n := range order {
		for _, a := range g.vertex(n).auth {
			below[n] = below[n] || below[a]
		}
	}
	for _, n := range slices.Backward(order) {
		if !above[n] {
			continue
		}
		if below[n] {
			full[n] = true
		}
		for _, a := range g.vertex(n).auth {
			above[a] = true
		}
	}
}

// powerEvents are the power events of the full conflicted set, and the events of their auth chains that are in it.
func (g *graph) powerEvents(full map[node]bool) map[node]bool {
	var power []node
	for n := range full {
		if g.isPower(n) {
			power = append(power, n)
		}
	}
	out := map[node]bool{}
	for _, n := range g.ancestry(power) {
		if full[n] {
			out[n] = true
		}
	}
	return out
}

// isPower says whether an event might take somebody's ability to do something (clause room version 2, power events).
func (g *graph) isPower(n node) bool {
	e := g.event(n)
	stateKey, isState := e.StateKey()
	if !isState {
		return false
	}
	switch e.Type() {
	case matrix.TypePowerLevels, matrix.TypeJoinRules:
		return true
	case matrix.TypeMember:
		m := e.Membership()
		return (m == matrix.Leave || m == matrix.Ban) && e.Sender() != stateKey
	}
	return false
}

// senderLevel is the power level of an event's sender by the event's own auth events.
func (g *graph) senderLevel(n node) int64 {
	v := g.vertex(n)
	if v.create == none {
		return 0
	}
	levels := auth.ReadLevels(g.version, g.event(v.create), nil)
	if v.powerLevel != none {
		levels = auth.ReadLevels(g.version, g.event(v.create), g.event(v.powerLevel))
	}
	return levels.User(v.e.Sender())
}

// powerOrder sorts events so that each comes after its auth events, and among those that may come next the smallest first (clause room version 2,
// reverse topological power ordering).
func (g *graph) powerOrder(set map[node]bool) []node {
	waits := make(map[node]int, len(set))
	after := map[node][]node{}
	q := &queue{g: g, levels: make(map[node]int64, len(set))}
	for n := range set {
		q.levels[n] = g.senderLevel(n)
		for _, a := range g.vertex(n).auth {
			if set[a] {
				waits[n]++
				after[a] = append(after[a], n)
			}
		}
		if waits[n] == 0 {
			q.nodes = append(q.nodes, n)
		}
	}
	heap.Init(q)
	out := make([]node, 0, len(set))
	for q.Len() > 0 {
		n, _ := heap.Pop(q).(node)
		out = append(out, n)
		for _, m := range after[n] {
			if waits[m]--; waits[m] == 0 {
				heap.Push(q, m)
			}
		}
	}
	return out
}

// queue has the events that may come next; the smallest on top.
type queue struct {
	g      *graph
	levels map[node]int64
	nodes  []node
}

func (q *queue) Len() int { return len(q.nodes) }

func (q *queue) Less(i, j int) bool {
	a, b := q.nodes[i], q.nodes[j]
	return cmp.Or(cmp.Compare(q.levels[b], q.levels[a]), q.g.older(a, b)) < 0
}

func (q *queue) Swap(i, j int) { q.nodes[i], q.nodes[j] = q.nodes[j], q.nodes[i] }

// Push adds a node.
func (q *queue) Push(x any) {
	n, _ := x.(node)
	q.nodes = append(q.nodes, n)
}

// Pop takes the last one.
func (q *queue) Pop() any {
	n := q.nodes[len(q.nodes)-1]
	q.nodes = q.nodes[:len(q.nodes)-1]
	return n
}

// older compares by timestamp, then by id.
func (g *graph) older(a, b node) int {
	x, y := g.event(a), g.event(b)
	return cmp.Or(cmp.Compare(x.Timestamp(), y.Timestamp()), strings.Compare(x.ID(), y.ID()))
}

// mainlineOrder sorts events by where their power levels stand in the history of the state's (clause room version 2, mainline ordering).
func (g *graph) mainlineOrder(state partial, list []node) {
	positions := map[node]int{} // of power levels events, also such as are not in the mainline
	if p, ok := state[matrix.Key{Type: matrix.TypePowerLevels}]; ok {
		for i := 0; p != none; i++ {
			if _, again := positions[p]; again { // only ids that a server chose can make a circle
				break
			}
			positions[p] = i
			p = g.vertex(p).powerLevel
		}
	}
	of := make(map[node]int, len(list))
	for _, n := range list {
		of[n] = g.mainlinePosition(positions, n)
	}
	slices.SortFunc(list, func(a, b node) int { return cmp.Or(cmp.Compare(of[b], of[a]), g.older(a, b)) })
}

// mainlinePosition is that of an event, which is remembered for all the power levels events on the way.
func (g *graph) mainlinePosition(positions map[node]int, n node) int {
	var way []node
	position := math.MaxInt
	for p := g.vertex(n).powerLevel; p != none; p = g.vertex(p).powerLevel {
		if known, ok := positions[p]; ok {
			position = known
			break
		}
		positions[p] = math.MaxInt
		way = append(way, p)
	}
	for _, p := range way {
		positions[p] = position
	}
	return position
}
