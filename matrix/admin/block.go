package admin

import (
	"context"
	"errors"
	"fmt"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Block lets nobody join a room any more, or does again. A room that the server does not know, or not any more, can be blocked before it comes.
func (a *Admin) Block(ctx context.Context, id string, blocked bool) error {
	r, err := a.Rooms.Find(ctx, id)
	switch {
	case errors.Is(err, room.ErrNotFound):
		return a.blockUnknown(ctx, id, blocked)
	case err != nil:
		return err
	}
	return r.Do(ctx, func(t *room.Turn) error {
		t.Block(blocked)
		return nil
	})
}

func (a *Admin) blockUnknown(ctx context.Context, id string, blocked bool) error {
	if len(id) < 2 || id[0] != '!' || len(id) > matrix.MaxIdentifier {
		return fmt.Errorf("%.300q is %w: it is no id of a room", id, matrix.ErrMalformed)
	}
	return a.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if !blocked {
			return store.BlockedRooms.Delete(tx, id)
		}
		return store.BlockedRooms.Put(tx, store.BlockedRoom{Room: id, Time: a.Now().UnixMilli()})
	})
}

// Blocked says whether nobody joins a room.
func (a *Admin) Blocked(ctx context.Context, id string) (blocked bool, err error) {
	r, err := a.Rooms.Find(ctx, id)
	switch {
	case err == nil:
		return r.Blocked(), nil
	case !errors.Is(err, room.ErrNotFound):
		return false, err
	}
	err = a.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		blocked, err = store.BlockedRooms.Has(tx, id)
		return err
	})
	return blocked, err
}

// ErrPowerless says that nobody of this server can give power in a room.
var ErrPowerless = errors.New("no member of this server may change its power levels")

// maxPower is the most that a member gets who has no power by their name in the room's events: more than that creators do not give (clause room version 12).
const maxPower = 100

// Empower gives a user as much power in a room as the member of this server has who has most, and invites them if they are not there.
func (a *Admin) Empower(ctx context.Context, id, user string) error {
	r, err := a.Rooms.Find(ctx, id)
	if err != nil {
		return err
	}
	return r.Do(ctx, func(t *room.Turn) error {
		levels := t.Levels()
		by := ""
		for _, who := range r.Joined() {
			if a.Accounts.Local(who) && (by == "" || levels.User(who) > levels.User(by)) {
				by = who
			}
		}
		need := levels.Event(matrix.TypePowerLevels, true)
		if by == "" || levels.User(by) < need {
			return fmt.Errorf("cannot give power in room %s: %w", id, ErrPowerless)
		}
		if has := levels.User(user); has < levels.User(by) && has < max(need, maxPower) {
			if err := give(t, by, user, min(levels.User(by), max(need, maxPower))); err != nil {
				return err
			}
		}
		if m := t.Membership(user); m == matrix.Join || m == matrix.Invite {
			return nil
		}
		_, err := t.Send(room.Draft{Type: matrix.TypeMember, Sender: by, StateKey: &user, Content: membership(matrix.Invite)})
		return err
	})
}

// give sends power levels in which a user has some level.
func give(t *room.Turn, by, user string, level int64) error {
	content, none := canonical.Of(), ""
	if e := t.State(matrix.Key{Type: matrix.TypePowerLevels}); e != nil {
		content = e.Content()
	}
	users := content.Get("users")
	if users.Kind() != canonical.Object {
		users = canonical.Of()
	}
	content = content.With("users", users.With(user, canonical.Int(level)))
	_, err := t.Send(room.Draft{Type: matrix.TypePowerLevels, Sender: by, StateKey: &none, Content: content})
	return err
}

func membership(is string) canonical.Value {
	return canonical.Of(canonical.Member{Name: "membership", Value: canonical.Text(is)})
}
