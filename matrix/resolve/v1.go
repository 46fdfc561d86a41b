package resolve

import (
	"cmp"
	"crypto/sha1"
	"maps"
	"slices"
	"strings"

	"orrery/matrix"
	"orrery/matrix/auth"
	"orrery/matrix/event"
)

// resolveV1 is the algorithm of room version 1. Events of types that affect authorisation are resolved first, and each kind by what came out before.
func (g *graph) resolveV1(states []State) State {
	state := partial{}
	conflicts := map[matrix.Key][]node{}
	for _, s := range states {
		for key, id := range s {
			if n := g.node(id); n != none && !slices.Contains(conflicts[key], n) {
				conflicts[key] = append(conflicts[key], n)
			}
		}
	}
	for key, all := range conflicts {
		if len(all) == 1 {
			state[key] = all[0]
			delete(conflicts, key)
		}
	}
	for _, kind := range []string{matrix.TypePowerLevels, matrix.TypeJoinRules, matrix.TypeMember, ""} {
		now := g.stateV1(maps.Clone(state))
		for key, all := range conflicts {
			if kind != "" && key.Type != kind {
				continue
			}
			slices.SortFunc(all, g.byDepth)
			state[key] = g.pickV1(all, now, kind != "")
			delete(conflicts, key)
		}
	}
	return g.ids(state)
}

// pickV1 is which of conflicting events counts. Of those that affect authorisation that is the last one before the first that is not allowed by the
// one before it; of others the last one that is allowed, and if none is the first, as all servers have it (the clause does not say).
func (g *graph) pickV1(all []node, now auth.State, chain bool) node {
	if !chain {
		for _, n := range slices.Backward(all) {
			if auth.Check(g.event(n), now) == nil {
				return n
			}
		}
		return all[0]
	}
	picked := all[0]
	for _, n := range all[1:] {
		with := func(key matrix.Key) *event.Event {
			if e := g.event(picked); e.Is(key.Type, key.StateKey) {
				return e
			}
			return now(key)
		}
		if auth.Check(g.event(n), with) != nil {
			break
		}
		picked = n
	}
	return picked
}

func (g *graph) stateV1(state partial) auth.State {
	return func(key matrix.Key) *event.Event {
		if n, ok := state[key]; ok {
			return g.event(n)
		}
		return nil
	}
}

// byDepth compares by depth, then by the SHA-1 of the ids, the largest first.
func (g *graph) byDepth(a, b node) int {
	x, y := g.event(a), g.event(b)
	hx, hy := sha1.Sum([]byte(x.ID())), sha1.Sum([]byte(y.ID()))
	return cmp.Or(cmp.Compare(x.Depth(), y.Depth()), strings.Compare(string(hy[:]), string(hx[:])))
}
