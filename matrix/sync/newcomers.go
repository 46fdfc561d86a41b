package sync

import (
	"context"
	"errors"

	"orrery/matrix"
	"orrery/matrix/room"
)

// newcomers adds who came into the user's rooms since the last answer: their presence was of no concern before.
func (a *answer) newcomers(ctx context.Context, memberships map[string]membership, to map[string]bool) error {
	if a.q.Initial {
		return nil
	}
	for id, m := range memberships {
		if m.is != matrix.Join || m.order > a.q.Since {
			continue
		}
		r, err := a.s.rooms.Find(ctx, id)
		if errors.Is(err, room.ErrNotFound) { // it was purged since
			continue
		}
		if err != nil {
			return err
		}
		if r.Last() <= a.q.Since {
			continue
		}
		events, err := memberEvents(ctx, r, a.q.Since, a.upTo)
		if err != nil {
			return err
		}
		for _, e := range events {
			if who, _ := e.StateKey(); e.Membership() == matrix.Join && r.Membership(who) == matrix.Join && !r.WasJoined(ctx, who, e) {
				to[who] = true
			}
		}
	}
	return nil
}
