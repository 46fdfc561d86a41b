package room

import (
	"context"
	"maps"
	"slices"

	"orrery/matrix"
)

// What is in memory answers most questions about states of the past without the store.

// After is the event in force at a key after an event of the room, nil if there is none.
func (r *Room) After(ctx context.Context, e *Entry, key matrix.Key) (*Entry, error) {
	if found, known := r.remembered(e, key); known {
		return found, nil
	}
	return r.At(ctx, e.After, key)
}

// remembered is the newest event at a key up to another event, and whether it is the one in force there: it is if each event between them has the one before it
// as its only predecessor, so that no states were resolved.
func (r *Room) remembered(e *Entry, key matrix.Key) (found *Entry, known bool) {
	cached := r.cached()
	i, ok := slices.BinarySearchFunc(cached, e.Order, byOrder)
	if !ok {
		return nil, false
	}
	for ; ; i-- {
		one := cached[i]
		if k, isState := one.StateKey(); isState && k == key.StateKey && one.Type() == key.Type {
			return one, true
		}
		if i == 0 {
			return nil, one.Type() == matrix.TypeCreate
		}
		if !follows(one, cached[i-1]) {
			return nil, false
		}
	}
}

// follows says whether an event has another one as its only predecessor.
func follows(e, before *Entry) bool {
	prev := e.Prev()
	return len(prev) == 1 && prev[0] == before.ID()
}

// changed are the keys whose events differ between two states, with those of the second, as Changes has them; nil if memory does not tell: the events that made the
// second state of the first must be there, one after another.
func (r *Room) changed(from, to int64) map[matrix.Key]*Entry {
	found := map[matrix.Key]*Entry{}
	if from == to {
		return found
	}
	cached := r.cached()
	i := len(cached) - 1
	for i >= 0 && cached[i].After != to {
		i--
	}
	for ; i > 0; i-- {
		e := cached[i]
		if e.After == from {
			return found
		}
		if _, isState := e.StateKey(); isState && found[e.Key()] == nil {
			found[e.Key()] = e
		}
		if !follows(e, cached[i-1]) {
			return nil
		}
	}
	if i == 0 && cached[0].After == from {
		return found
	}
	return nil
}

// stateNow is a state if it is the current one, otherwise nil.
func (r *Room) stateNow(id int64) map[matrix.Key]*Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.row.State != id {
		return nil
	}
	return maps.Clone(r.state)
}
