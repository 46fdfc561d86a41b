package sync

import (
	"context"
	"encoding/json"
	"slices"

	"orrery/matrix"
	"orrery/matrix/room"
)

// After is which changes of a room's state a client wants to be told of.
type After int

// Those before the timeline, or those until its end (clause client-server API, use_state_after), by the name that MSC4222 had for that or by the standard's.
const (
	StateBefore After = iota
	StateAfterEarly
	StateAfter
)

// states is state as the client wants to hear of it.
func (a *answer) states(all []*room.Entry) (s States) {
	e := &Events{make([]json.RawMessage, 0, len(all))}
	for _, one := range all {
		e.Events = append(e.Events, a.text(one))
	}
	switch a.q.After {
	case StateAfter:
		s.After = e
	case StateAfterEarly:
		s.EarlyAfter = e
	default:
		s.State = e
	}
	return s
}

// changes are what changed of a room's state since a position, up to the beginning or the end of a part of a timeline.
func (a *answer) changes(ctx context.Context, r *room.Room, events []*room.Entry, since, upTo int64, limited bool) ([]*room.Entry, error) {
	all := a.chooser.all()
	switch {
	case a.q.After != StateBefore || len(events) == 0 && (limited || !all): // before nothing there is what is after it
		return a.stateAfter(ctx, r, events, since, upTo)
	case !all:
		return a.stateBesides(ctx, r, events, since, upTo)
	}
	return a.state(ctx, r, events, since, limited)
}

// stateBesides is state for a timeline in which not all events are: what changed before it and, of what changed later, that which it does not have.
func (a *answer) stateBesides(ctx context.Context, r *room.Room, events []*room.Entry, since, upTo int64) ([]*room.Entry, error) {
	begin, found := int64(0), map[matrix.Key]*room.Entry{}
	start, err := stateOf(ctx, r, events[0].Order-1)
	if err == nil && since != 0 {
		begin, err = stateOf(ctx, r, since)
	}
	if err != nil {
		return nil, err
	}
	if since == 0 && start != 0 {
		found, err = r.StateAt(ctx, start)
	} else if start != begin {
		found, err = r.Changes(ctx, begin, start)
	}
	if err != nil {
		return nil, err
	}
	end, err := stateOf(ctx, r, upTo)
	if err != nil {
		return nil, err
	}
	later, err := r.Changes(ctx, start, end)
	if err != nil {
		return nil, err
	}
	for key, e := range later {
		if e != nil && !slices.ContainsFunc(events, func(told *room.Entry) bool { return told.Order == e.Order }) {
			found[key] = e
		}
	}
	if since == 0 {
		return a.wanted(found, a.lazy(events), 0), nil
	}
	return a.withSenders(ctx, r, a.wanted(found, nil, 0), events, start)
}

// state is the state right before a part of a timeline, without what the client knew at since.
func (a *answer) state(ctx context.Context, r *room.Room, events []*room.Entry, since int64, limited bool) ([]*room.Entry, error) {
	before := int64(0)
	if len(events) > 0 {
		at, err := stateOf(ctx, r, events[0].Order-1)
		if err != nil || at == 0 {
			return nil, err
		}
		before = at
	}
	if since != 0 && !limited { // nothing between what it knows and the timeline
		return a.senders(ctx, r, events, before)
	}
	all, err := r.StateAt(ctx, before)
	if err != nil {
		return nil, err
	}
	if since == 0 {
		return a.wanted(all, a.lazy(events), 0), nil
	}
	return a.withSenders(ctx, r, a.wanted(all, nil, since), events, before)
}

// stateAfter is the state at the end of a part of a timeline, without what the client knew at since.
func (a *answer) stateAfter(ctx context.Context, r *room.Room, events []*room.Entry, since, upTo int64) ([]*room.Entry, error) {
	end, err := stateOf(ctx, r, upTo)
	if err != nil || end == 0 {
		return nil, err
	}
	if since == 0 {
		lazy := a.lazy(events)
		for _, e := range events {
			if key, isState := e.StateKey(); lazy != nil && isState && e.Type() == matrix.TypeMember {
				lazy[key] = true
			}
		}
		all, err := r.StateAt(ctx, end)
		return a.wanted(all, lazy, 0), err
	}
	begin, err := stateOf(ctx, r, since)
	if err != nil {
		return nil, err
	}
	changed, err := r.Changes(ctx, begin, end)
	if err != nil {
		return nil, err
	}
	return a.withSenders(ctx, r, a.wanted(changed, nil, 0), events, end)
}

// withSenders is what changed of a state, and who sent what is in a timeline. Of members all changes are told: "when a sync is limited, the server MUST return membership
// events for events in the gap, regardless as to whether or not they are redundant" (clause client-server API, GET sync).
func (a *answer) withSenders(ctx context.Context, r *room.Room, changed, events []*room.Entry, state int64) ([]*room.Entry, error) {
	senders, err := a.senders(ctx, r, events, state)
	for _, e := range senders {
		if !slices.ContainsFunc(changed, func(told *room.Entry) bool { return told.Key() == e.Key() }) {
			changed = append(changed, e)
		}
	}
	return changed, err
}

// stateOf names the state of a room at a position; 0 is that before its first event.
func stateOf(ctx context.Context, r *room.Room, position int64) (int64, error) {
	at, _, err := r.Timeline(ctx, 0, position, 1)
	if err != nil || len(at) == 0 {
		return 0, err
	}
	return at[0].After, nil
}

// wanted are those of some state that came after a position and that the client wants. If lazy is not nil it says whose member events these are.
func (a *answer) wanted(all map[matrix.Key]*room.Entry, lazy map[string]bool, since int64) (found []*room.Entry) {
	for key, e := range all {
		if e != nil && e.Order > since && a.q.Filter.Room.State.Wants(e.Event) && (lazy == nil || key.Type != matrix.TypeMember || lazy[key.StateKey]) {
			found = append(found, e)
		}
	}
	return found
}

// senders are the member events of those who sent what is in a timeline, for a client that loads members lazily, as far as it may not know them, although nothing
// changed of them (clause client-server API, lazy-loading room members).
func (a *answer) senders(ctx context.Context, r *room.Room, events []*room.Entry, state int64) (found []*room.Entry, err error) {
	for who := range a.lazy(events) {
		if who == a.q.User {
			continue
		}
		key := matrix.Key{Type: matrix.TypeMember, StateKey: who}
		e := r.State(key)
		if e == nil || len(events) > 0 && e.Order >= events[0].Order {
			if e, err = r.At(ctx, state, key); err != nil {
				return nil, err
			}
		}
		if e != nil && !a.known.knows(r, a.stay, e) && a.q.Filter.Room.State.Wants(e.Event) {
			found = append(found, e)
		}
	}
	return found, nil
}

// lazy is whose member events a client that loads members lazily needs: those who sent something, and itself. It is nil for others.
func (a *answer) lazy(events []*room.Entry) map[string]bool {
	if !a.q.Filter.Room.State.LazyLoadMembers {
		return nil
	}
	who := map[string]bool{a.q.User: true}
	for _, e := range events {
		who[e.Sender()] = true
	}
	return who
}
