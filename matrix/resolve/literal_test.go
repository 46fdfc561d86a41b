package resolve_test

import (
	"crypto/sha1"
	"maps"
	"math"
	"slices"
	"sort"

	"orrery/matrix"
	"orrery/matrix/auth"
	"orrery/matrix/event"
	"orrery/matrix/resolve"
)

// literal is the clauses of the specification, sentence by sentence, without a thought for speed. It shares the authorisation rules with what it
// tests, and nothing else.
type literal struct {
	version *matrix.Version
	events  resolve.Events
}

type set map[string]bool

func (l literal) e(id string) *event.Event { return l.events.Event(id) }

// authChain is "all of E's auth events, all of their auth events, and so on recursively".
func (l literal) authChain(id string) set {
	chain := set{}
	var walk func(id string)
	walk = func(id string) {
		for _, a := range l.e(id).Auth() {
			if !chain[a] {
				chain[a] = true
				walk(a)
			}
		}
	}
	walk(id)
	return chain
}

func (l literal) split(states []resolve.State) (resolve.State, set) {
	unconflicted, conflicted := resolve.State{}, set{}
	for _, s := range states {
		for key, id := range s {
			everywhere := true
			for _, other := range states {
				everywhere = everywhere && other[key] == id
			}
			if everywhere {
				unconflicted[key] = id
			} else {
				conflicted[id] = true
			}
		}
	}
	return unconflicted, conflicted
}

func (l literal) authDifference(states []resolve.State) set {
	union, chains := set{}, []set{}
	for _, s := range states {
		full := set{}
		for _, id := range s {
			for a := range l.authChain(id) {
				full[a], union[a] = true, true
			}
		}
		chains = append(chains, full)
	}
	for id := range union {
		everywhere := true
		for _, c := range chains {
			everywhere = everywhere && c[id]
		}
		if everywhere {
			delete(union, id)
		}
	}
	return union
}

// subgraph is "the union of all such paths between any pair of events in the conflicted state set (including endpoints)".
func (l literal) subgraph(conflicted set) set {
	out := set{}
	for from := range conflicted {
		for via := range l.authChain(from) {
			for to := range conflicted {
				if via == to || l.authChain(via)[to] {
					out[from], out[via], out[to] = true, true, true
				}
			}
		}
	}
	return out
}

func (l literal) power(id string) bool {
	e := l.e(id)
	key, isState := e.StateKey()
	return isState && (e.Type() == matrix.TypePowerLevels || e.Type() == matrix.TypeJoinRules ||
		e.Type() == matrix.TypeMember && (e.Membership() == matrix.Leave || e.Membership() == matrix.Ban) && e.Sender() != key)
}

func (l literal) among(id, kind string) string {
	for _, a := range l.e(id).Auth() {
		if l.e(a).Is(kind, "") {
			return a
		}
	}
	return ""
}

func (l literal) create(id string) *event.Event {
	if l.version.CreateIsRoom && l.e(id).Type() != matrix.TypeCreate {
		return l.e("$" + l.e(id).RoomID()[1:])
	}
	if c := l.among(id, matrix.TypeCreate); c != "" {
		return l.e(c)
	}
	return nil
}

func (l literal) level(id string) int64 {
	create := l.create(id)
	if create == nil {
		return 0
	}
	var powerLevels *event.Event
	if p := l.among(id, matrix.TypePowerLevels); p != "" {
		powerLevels = l.e(p)
	}
	return auth.ReadLevels(l.version, create, powerLevels).User(l.e(id).Sender())
}

func (l literal) older(x, y string) bool {
	if l.e(x).Timestamp() != l.e(y).Timestamp() {
		return l.e(x).Timestamp() < l.e(y).Timestamp()
	}
	return x < y
}

// powerOrder is "Kahn's algorithm for topological sorting, and at each step selecting, among all the candidate vertices, the smallest".
func (l literal) powerOrder(x set) []string {
	var out []string
	for len(x) > 0 {
		best := ""
		for id := range x {
			ready := true
			for _, a := range l.e(id).Auth() {
				ready = ready && !x[a]
			}
			if !ready {
				continue
			}
			if best == "" || l.level(id) > l.level(best) || l.level(id) == l.level(best) && l.older(id, best) {
				best = id
			}
		}
		out = append(out, best)
		delete(x, best)
	}
	return out
}

func (l literal) mainline(id string) []string {
	var out []string
	for ; id != ""; id = l.among(id, matrix.TypePowerLevels) {
		out = append(out, id)
	}
	return out
}

func (l literal) mainlineOrder(p string, all []string) {
	position := func(id string) int {
		for _, e := range l.mainline(l.among(id, matrix.TypePowerLevels)) {
			for i, m := range l.mainline(p) {
				if m == e {
					return i
				}
			}
		}
		return math.MaxInt
	}
	sort.Slice(all, func(i, j int) bool {
		x, y := position(all[i]), position(all[j])
		if x != y {
			return x > y
		}
		return l.older(all[i], all[j])
	})
}

func (l literal) iterate(state resolve.State, list []string) {
	for _, id := range list {
		find := func(key matrix.Key) *event.Event {
			if s, ok := state[key]; ok {
				return l.e(s)
			}
			for _, a := range l.e(id).Auth() {
				if l.e(a).Is(key.Type, key.StateKey) && !l.events.Rejected(a) {
					return l.e(a)
				}
			}
			if key.Type == matrix.TypeCreate && l.version.CreateIsRoom {
				return l.create(id)
			}
			return nil
		}
		if auth.Check(l.e(id), find) == nil {
			state[l.e(id).Key()] = id
		}
	}
}

func (l literal) resolve(states []resolve.State) resolve.State {
	if l.version.Resolution == matrix.ResolutionV1 {
		return l.resolveV1(states)
	}
	unconflicted, full := l.split(states)
	conflicted := set{}
	for id := range full {
		conflicted[id] = true
	}
	if len(conflicted) > 0 {
		for id := range l.authDifference(states) {
			full[id] = true
		}
	}
	if l.version.Resolution == matrix.ResolutionV21 {
		for id := range l.subgraph(conflicted) {
			full[id] = true
		}
	}
	x := set{}
	for id := range full {
		if !l.power(id) {
			continue
		}
		x[id] = true
		for a := range l.authChain(id) {
			if full[a] {
				x[a] = true
			}
		}
	}
	state := resolve.State{}
	if l.version.Resolution == matrix.ResolutionV2 {
		maps.Copy(state, unconflicted)
	}
	picked := l.powerOrder(x)
	l.iterate(state, picked)
	for _, id := range picked {
		delete(full, id)
	}
	var rest []string
	for id := range full {
		rest = append(rest, id)
	}
	l.mainlineOrder(state[matrix.Key{Type: matrix.TypePowerLevels}], rest)
	l.iterate(state, rest)
	maps.Copy(state, unconflicted)
	return state
}

func (l literal) resolveV1(states []resolve.State) resolve.State {
	r, conflicts := resolve.State{}, map[matrix.Key]set{}
	for _, s := range states {
		for k, id := range s {
			if conflicts[k] == nil {
				conflicts[k] = set{}
			}
			conflicts[k][id] = true
		}
	}
	lists := map[matrix.Key][]string{}
	for k, ids := range conflicts {
		var list []string
		for id := range ids {
			list = append(list, id)
		}
		sort.Slice(list, func(i, j int) bool {
			x, y := l.e(list[i]), l.e(list[j])
			hx, hy := sha1.Sum([]byte(list[i])), sha1.Sum([]byte(list[j]))
			return x.Depth() < y.Depth() || x.Depth() == y.Depth() && string(hx[:]) > string(hy[:])
		})
		if len(list) == 1 {
			r[k] = list[0]
		} else {
			lists[k] = list
		}
	}
	in := func(r resolve.State) auth.State {
		return func(k matrix.Key) *event.Event {
			if id, ok := r[k]; ok {
				return l.e(id)
			}
			return nil
		}
	}
	for _, kind := range []string{matrix.TypePowerLevels, matrix.TypeJoinRules, matrix.TypeMember} {
		before, after := r, resolve.State{}
		maps.Copy(after, r)
		for k, list := range lists {
			if k.Type != kind {
				continue
			}
			own := resolve.State{}
			maps.Copy(own, before)
			own[k] = list[0]
			for _, id := range list[1:] {
				if auth.Check(l.e(id), in(own)) != nil {
					break
				}
				own[k] = id
			}
			after[k] = own[k]
			delete(lists, k)
		}
		r = after
	}
	found := resolve.State{}
	for k, list := range lists {
		found[k] = list[0] // the clause does not say what happens if none passes; servers agree on this
		for _, l0 := range slices.Backward(list) {
			if auth.Check(l.e(l0), in(r)) == nil {
				found[k] = l0
				break
			}
		}
	}
	maps.Copy(r, found)
	return r
}
