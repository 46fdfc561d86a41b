package room

import (
	"context"
	"errors"

	"orrery/matrix"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// ErrMembers says that a room has members, and is not purged.
var ErrMembers = errors.New("room has members (shut it down first)")

// Block lets nobody join the room any more, or does again.
func (t *Turn) Block(blocked bool) { t.blocked = &blocked }

// Blocked says whether nobody joins the room any more.
func (r *Room) Blocked() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.row.Blocked
}

// Purge removes a room without members and all that is kept of it. From the beginning nobody finds it; what is cut short goes on at the next store.Purge.
// It says how many events were removed, each time that some were.
func (r *Rooms) Purge(ctx context.Context, id string, removed func(events int)) error {
	found, err := r.Find(ctx, id)
	if err != nil {
		return err
	}
	found.turn.Lock()
	defer found.turn.Unlock()
	for _, m := range found.States(matrix.TypeMember) {
		if m.Membership() == matrix.Join {
			return ErrMembers
		}
	}
	if err := r.c.Stream.DB().Update(ctx, func(tx table.Tx) error { return store.DropRoom(tx, found.row) }); err != nil {
		return err
	}
	found.gone.Store(true)
	r.put(id, nil)
	return store.Purge(ctx, r.c.Stream.DB(), removed)
}
