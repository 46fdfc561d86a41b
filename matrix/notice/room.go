package notice

import (
	"context"
	"errors"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// errMade says that a user's room was made meanwhile, by another process.
var errMade = errors.New("the room was made meanwhile")

// room is a user's room, which is made if there is none. Those who want one user's at the same time get the same: one that is being made is in the store a moment
// before it can be used.
func (n *Notices) room(ctx context.Context, user string) (*room.Room, error) {
	found, err, _ := n.making.Do(user, func() (any, error) { return n.findOrMake(context.WithoutCancel(ctx), user) })
	r, _ := found.(*room.Room)
	return r, err
}

func (n *Notices) findOrMake(ctx context.Context, user string) (*room.Room, error) {
	for {
		r, old, err := n.find(ctx, user)
		if err != nil || r != nil {
			return r, err
		}
		if r, err = n.create(ctx, user, old); !errors.Is(err, errMade) {
			return r, err
		}
	}
}

// find is a user's room in which the speaker is; nil if there is none, with the number of one that does not do any more.
func (n *Notices) find(ctx context.Context, user string) (*room.Room, int64, error) {
	var number int64
	var id string
	if err := n.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		known, ok, err := store.NoticeRooms.Get(tx, user)
		if err != nil || !ok {
			return err
		}
		number = known.Room
		row, _, err := store.Rooms.Get(tx, number)
		id = row.RoomID
		return err
	}); err != nil || id == "" {
		return nil, number, err
	}
	r, err := n.c.Rooms.Find(ctx, id)
	switch {
	case errors.Is(err, room.ErrNotFound):
		return nil, number, nil
	case err != nil:
		return nil, number, err
	case !n.Is(r) || r.Membership(n.c.User) != matrix.Join: // another user spoke before, or an administrator took all out of it
		return nil, number, n.untag(ctx, user, id)
	}
	return r, number, nil
}

// create makes a user's room, in place of one that does not do any more.
func (n *Notices) create(ctx context.Context, user string, old int64) (*room.Room, error) {
	return n.c.Rooms.Create(ctx, n.c.Version, func(t *room.Turn) error {
		for _, d := range n.beginning() {
			if _, err := t.Send(d); err != nil {
				return err
			}
		}
		t.Also(func(tx table.Tx, number int64) error {
			known, _, err := store.NoticeRooms.Get(tx, user)
			if err == nil && known.Room != old {
				err = errMade
			}
			return errors.Join(err, store.NoticeRooms.Put(tx, store.NoticeRoom{User: user, Room: number}))
		})
		return nil
	})
}

// beginning is the events with which a room begins. Nobody but the speaker says anything in it.
func (n *Notices) beginning() []room.Draft {
	none, users := "", canonical.Of()
	create := object("room_version", canonical.Text(n.c.Version.ID))
	if n.c.Version.CreatorField {
		create = create.With("creator", canonical.Text(n.c.User))
	}
	if !n.c.Version.CreateIsRoom {
		users = users.With(n.c.User, canonical.Int(100))
	}
	levels := object("users", users).With("users_default", canonical.Int(-10)).With("events_default", canonical.Int(0)).With("events", canonical.Of())
	for _, name := range []string{"state_default", "invite", "kick", "ban", "redact"} {
		levels = levels.With(name, canonical.Int(50))
	}
	draft := func(kind, key string, content canonical.Value) room.Draft {
		return room.Draft{Type: kind, Sender: n.c.User, StateKey: &key, Content: content}
	}
	all := []room.Draft{
		draft(matrix.TypeCreate, none, create), draft(matrix.TypeMember, n.c.User, n.member(matrix.Join)), draft(matrix.TypePowerLevels, none, levels),
		draft(matrix.TypeJoinRules, none, object("join_rule", canonical.Text(matrix.Invite))),
		// Who joins sees what was said since the first invitation, for which they come.
		draft(matrix.TypeHistoryVisibility, none, object("history_visibility", canonical.Text("shared"))),
		draft("m.room.guest_access", none, object("guest_access", canonical.Text("can_join"))),
		draft("m.room.name", none, object("name", canonical.Text(n.c.RoomName))),
	}
	if n.c.Avatar != "" {
		all = append(all, draft("m.room.avatar", none, object("url", canonical.Text(n.c.Avatar))))
	}
	return all
}

// member is what the speaker's membership says.
func (n *Notices) member(membership string) canonical.Value {
	content := object("membership", canonical.Text(membership)).With("displayname", canonical.Text(n.c.Name))
	if n.c.Avatar != "" {
		content = content.With("avatar_url", canonical.Text(n.c.Avatar))
	}
	return content
}

// invited is what a user's invitation says.
func (n *Notices) invited(ctx context.Context, user string) (canonical.Value, error) {
	content := object("membership", canonical.Text(matrix.Invite))
	profile, err := n.c.Accounts.Profile(ctx, user)
	for _, name := range []string{"displayname", "avatar_url"} {
		if v, err := canonical.Parse(profile[name], canonical.Strict); err == nil && v.Kind() == canonical.String {
			content = content.With(name, v)
		}
	}
	return content, err
}

func object(name string, value canonical.Value) canonical.Value {
	return canonical.Of(canonical.Member{Name: name, Value: value})
}
