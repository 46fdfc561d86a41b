package sync

import (
	"context"

	"orrery/matrix"
	"orrery/matrix/room"
)

// maxBack is how many of a reader's member events are gone through backwards; beyond that the state after each event is asked.
const maxBack = 16

// reader is who sees events of a room, as far back as somebody asked.
type reader struct {
	r    *room.Room
	key  matrix.Key
	last []*room.Entry // the user's member events, the newest first
}

// memberships are what the reader was in the room after each of some events: "the value of the membership property of the requesting user's m.room.member state at
// the point of the event, including any changes caused by the event" (clause client-server API, room event format; MSC4115), leave if there was none. Mostly that is
// what the user is now.
func (v viewer) memberships(ctx context.Context, r *room.Room, events []*room.Entry) ([]string, error) {
	of := reader{r: r, key: matrix.Key{Type: matrix.TypeMember, StateKey: v.user}}
	if m := r.State(of.key); m != nil {
		of.last = append(of.last, m)
	}
	all := make([]string, len(events))
	for i, e := range events {
		m, err := of.member(ctx, e)
		if err != nil {
			return nil, err
		}
		if all[i] = matrix.Leave; m != nil {
			all[i] = m.Membership()
		}
	}
	return all, nil
}

// member is the reader's member event in force after an event, nil if there was none.
func (of *reader) member(ctx context.Context, e *room.Entry) (*room.Entry, error) {
	for i := 0; i < len(of.last); i++ {
		m := of.last[i]
		if m.Order <= e.Order {
			return m, nil
		}
		if i+1 < len(of.last) {
			continue
		}
		if m.Replaces == 0 || len(of.last) == maxBack { // it was the first one, or it is not known
			return of.r.After(ctx, e, of.key)
		}
		before, err := of.r.Replaced(ctx, []*room.Entry{m})
		if err != nil {
			return nil, err
		}
		if before[m.Replaces] == nil {
			return of.r.After(ctx, e, of.key)
		}
		of.last = append(of.last, before[m.Replaces])
	}
	return nil, nil //nolint:nilnil // there is none
}
