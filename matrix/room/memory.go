package room

import (
	"context"
	"maps"
	"slices"

	"orrery/matrix"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// What is in memory answers most questions about states of the past without the store.

// recent is a part of the timeline as Timeline has it, and whether memory has it.
func (r *Room) recent(after, upTo int64, limit int) (found []*Entry, more, known bool) {
	cached := r.cached()
	first, _ := slices.BinarySearchFunc(cached, after+1, byOrder)
	last, _ := slices.BinarySearchFunc(cached, upTo+1, byOrder)
	last = max(last, first)                                                        // who asks may be told less than they have read or than when they came
	whole := first > 0 || len(cached) > 0 && cached[0].Type() == matrix.TypeCreate // memory has all that are wanted
	if n := last - first; !whole && (n < limit || n == 0) {
		return nil, false, false
	}
	from := max(first, last-limit)
	return cached[from:last:last], from > first || !whole, true
}

// Received is what others than a user sent of a part of the timeline, as Timeline has it, and redactions. There may be more of the user's own.
func (r *Room) Received(ctx context.Context, user string, after, upTo int64, limit int) (found []*Entry, err error) {
	if found, _, known := r.recent(after, upTo, limit); known {
		return found, nil
	}
	err = r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		for row, err := range store.Events.Scan(tx, table.Range{Prefix: []any{r.row.ID}, From: after + 1, Before: upTo + 1, Descending: true, Limit: limit}) {
			if err != nil {
				return err
			}
			if row.Sender == user && row.Type != matrix.TypeRedaction { // it is not read: many of them may be the user's own
				continue
			}
			e, err := parse(r.version, row)
			if err != nil {
				return err
			}
			found = append(found, e)
		}
		return nil
	})
	slices.Reverse(found)
	return found, err
}

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
