// Package resolve makes one state of a room out of several, as after a fork of its graph, by the algorithm of its version (clauses room version 1, 2
// and 12, state resolution). All servers that know the same events come to the same state.
//
// Events become small numbers once, and the algorithms work on those: the cost is that of walking the auth chains of the states once.
package resolve

import (
	"fmt"

	"orrery/matrix"
	"orrery/matrix/auth"
	"orrery/matrix/event"
)

// State is the id of the event that is in force at each key.
type State map[matrix.Key]string

// Events are those of the room: the states', and all in their auth chains.
type Events interface {
	// Event is the one with an id, nil if it is not known.
	Event(id string) *event.Event
	// Rejected says whether an event was rejected when it came.
	Rejected(id string) bool
}

// Resolve makes one state out of several. The error names an event that is not known.
func Resolve(version *matrix.Version, states []State, events Events) (State, error) {
	g := newGraph(version, events)
	var out State
	switch version.Resolution {
	case matrix.ResolutionV1:
		out = g.resolveV1(states)
	case matrix.ResolutionV2, matrix.ResolutionV21:
		out = g.resolveV2(states)
	}
	if g.missing != "" {
		return nil, fmt.Errorf("cannot resolve states: event %s is not known", g.missing)
	}
	return out, nil
}

// node is an event in a graph.
type node int32

const none node = -1

// graph is the events that a resolution has met.
type graph struct {
	version *matrix.Version
	events  Events
	index   map[string]node
	all     []vertex
	missing string // the first event that is not known
}

type vertex struct {
	e          *event.Event
	auth       []node
	powerLevel node // among auth; none if there is none
	create     node
	walked     bool
}

func newGraph(version *matrix.Version, events Events) *graph {
	return &graph{version: version, events: events, index: map[string]node{}}
}

// node is the event with an id.
func (g *graph) node(id string) node {
	if n, ok := g.index[id]; ok {
		return n
	}
	e := g.events.Event(id)
	if e == nil {
		if g.missing == "" {
			g.missing = id
		}
		return none
	}
	n := node(len(g.all))
	g.index[id] = n
	g.all = append(g.all, vertex{e: e, powerLevel: none, create: none})
	return n
}

func (g *graph) event(n node) *event.Event { return g.all[n].e }

func (g *graph) id(n node) string { return g.all[n].e.ID() }

// vertex is a node with its auth events.
func (g *graph) vertex(n node) *vertex {
	if v := &g.all[n]; v.walked {
		return v
	}
	e := g.all[n].e
	ids := e.Auth()
	found := make([]node, 0, len(ids))
	powerLevel, create := none, none
	for _, id := range ids {
		a := g.node(id)
		if a == none {
			continue
		}
		found = append(found, a)
		switch b := g.event(a); {
		case b.Is(matrix.TypePowerLevels, ""):
			powerLevel = a
		case b.Is(matrix.TypeCreate, ""):
			create = a
		}
	}
	if g.version.CreateIsRoom && e.Type() != matrix.TypeCreate {
		create = g.node("$" + e.RoomID()[1:])
	}
	v := &g.all[n] // node may have moved it
	v.auth, v.powerLevel, v.create, v.walked = found, powerLevel, create, true
	return v
}

// ancestry is the events in the auth chains of some, and these themselves: each after all in its own auth chain.
func (g *graph) ancestry(roots []node) []node {
	var order []node
	type frame struct {
		n    node
		next int
	}
	seen := map[node]bool{}
	var stack []frame
	for _, root := range roots {
		if seen[root] {
			continue
		}
		seen[root] = true
		stack = append(stack, frame{n: root})
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			auth := g.vertex(top.n).auth
			if top.next == len(auth) {
				order = append(order, top.n)
				stack = stack[:len(stack)-1]
				continue
			}
			a := auth[top.next]
			top.next++
			if !seen[a] {
				seen[a] = true
				stack = append(stack, frame{n: a})
			}
		}
	}
	return order
}

// partial is a state that is being resolved.
type partial map[matrix.Key]node

// allow puts those events of a list into a state that it allows, in order (clause room version 2, iterative auth checks).
func (g *graph) allow(state partial, list []node) {
	for _, n := range list {
		if e := g.event(n); auth.Check(e, g.stateFor(state, n)) == nil {
			state[e.Key()] = n
		}
	}
}

// stateFor is what an event is tested against: the state, and where that has nothing the event's own auth events that were not rejected.
func (g *graph) stateFor(state partial, n node) auth.State {
	v := g.vertex(n)
	return func(key matrix.Key) *event.Event {
		if found, ok := state[key]; ok {
			return g.event(found)
		}
		for _, a := range v.auth {
			if e := g.event(a); e.Is(key.Type, key.StateKey) && !g.events.Rejected(e.ID()) {
				return e
			}
		}
		if key == (matrix.Key{Type: matrix.TypeCreate}) && g.version.CreateIsRoom && v.create != none {
			return g.event(v.create)
		}
		return nil
	}
}

func (g *graph) ids(state partial) State {
	out := make(State, len(state))
	for key, n := range state {
		out[key] = g.id(n)
	}
	return out
}
