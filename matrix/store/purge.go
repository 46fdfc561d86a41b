package store

import (
	"context"

	"orrery/matrix/table"
)

// purged is a room that is gone, and has events left.
type purged struct {
	Room int64 `col:"room,key"`
}

var purges = table.Define[purged]("purged")

// purgePiece is how many events are removed in one update.
const purgePiece = 500

// DropRoom removes a room: nothing finds it any more. What else is kept of it is removed by Purge.
func DropRoom(tx table.Tx, r Room) error {
	for _, drop := range []func() error{
		func() error { return Extremities.DeleteAll(tx, table.Range{Prefix: []any{r.ID}}) },
		func() error { return Aliases.DeleteAll(tx, table.Range{Index: "room", Prefix: []any{r.ID}}) },
		func() error { return Members.DeleteAll(tx, table.Range{Index: "room", Prefix: []any{r.ID}}) },
		func() error { return Receipts.DeleteAll(tx, table.Range{Prefix: []any{r.RoomID}}) },
		func() error { return Subscriptions.DeleteAll(tx, table.Range{Index: "room", Prefix: []any{r.RoomID}}) },
		func() error { return NetworkRooms.DeleteAll(tx, table.Range{Index: "room", Prefix: []any{r.ID}}) },
		func() error { return NoticeRooms.DeleteAll(tx, table.Range{Index: "room", Prefix: []any{r.ID}}) },
		func() error { return Rooms.Delete(tx, r.ID) },
		func() error { return purges.Put(tx, purged{r.ID}) },
	} {
		if err := drop(); err != nil {
			return err
		}
	}
	return nil
}

// Purge removes what is left of rooms that were dropped, a piece at a time. After each it says how many events that were.
func Purge(ctx context.Context, db table.DB, removed func(events int)) error {
	for more := true; more; {
		n := 0
		if err := db.Update(ctx, func(tx table.Tx) error {
			p, found, err := purges.First(tx, table.Range{})
			if more = found; err != nil || !found {
				return err
			}
			n, err = p.piece(tx)
			return err
		}); err != nil {
			return err
		}
		removed(n)
	}
	return nil
}

// piece removes some events, and is how many.
func (p purged) piece(tx table.Tx) (int, error) {
	of := table.Range{Prefix: []any{p.Room}, Limit: purgePiece}
	events, err := Events.All(tx, of)
	if err != nil {
		return 0, err
	}
	if err := Relations.DeleteAll(tx, of); err != nil {
		return 0, err
	}
	unsearchable, err := removeRoom(tx, p.Room)
	if err != nil {
		return 0, err
	}
	for _, e := range events {
		if err := Events.Delete(tx, e.Room, e.Order); err != nil {
			return 0, err
		}
		if err := states.Delete(tx, e.State); err != nil { // states belong to one room
			return 0, err
		}
	}
	left, err := Relations.All(tx, table.Range{Prefix: []any{p.Room}, Limit: 1})
	if err != nil || len(events)+len(left) > 0 || !unsearchable {
		return len(events), err
	}
	return 0, purges.Delete(tx, p.Room)
}
