// Package notice is how the server itself speaks to its users (clause client-server API, server notices): in one room for each of them, by a user as whom nobody
// logs in.
//
// "Servers should manage exactly 1 server notices room per user", and "should invite the target user rather than automatically join them". The room is made with
// the first notice, and tagged before its user is invited; whoever left it is invited again. Which one it is is in the store, written in the commit that makes the
// room, so that two notices at the same time make one, and a server that ends in between goes on in the same.
package notice

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/singleflight"

	"orrery/matrix"
	"orrery/matrix/account"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

var (
	// ErrOff says that the server speaks to nobody.
	ErrOff = errors.New("this server sends no notices (server_notices of its configuration names no user)")
	// ErrForeign says that somebody is no user whom the server speaks to.
	ErrForeign = errors.New("gets no notices: they are for users of this server")
)

// Tag is that of rooms of notices, by which clients know them.
const Tag = "m.server_notice"

// Config says who speaks, and where.
type Config struct {
	User     string // the id of the user who speaks
	Name     string // and how they are shown
	Avatar   string // an mxc address, also of the rooms; "": none
	RoomName string
	Version  *matrix.Version // of the rooms

	Accounts *account.Accounts
	Rooms    *room.Rooms
	Syncer   *sync.Syncer
	Stream   *store.Stream
}

// Notices are those of a server; nil are those of one that sends none.
type Notices struct {
	c      Config
	making singleflight.Group // rooms, by their users
}

// Open is the notices of a server, whose speaker gets an account if there is none.
func Open(ctx context.Context, c Config) (*Notices, error) {
	localpart := c.User[1 : len(c.User)-len(matrix.Domain(c.User))-1]
	if err := c.Accounts.Speak(ctx, localpart, c.Name, c.Avatar); err != nil {
		return nil, fmt.Errorf("server_notices: %w", err)
	}
	return &Notices{c: c}, nil
}

// Notice is what the server says to a user.
type Notice struct {
	Type     string
	StateKey *string // nil unless it is a state event
	Content  canonical.Value
}

// Is says whether a room is one of notices. Its user "must not expect to be able to reject an invite" to it.
func (n *Notices) Is(r *room.Room) bool {
	if n == nil {
		return false
	}
	create := r.State(matrix.Key{Type: matrix.TypeCreate})
	return create != nil && create.Sender() == n.c.User
}

// Send says something to a user, and is the event. also writes something in the same commit; nil: nothing.
func (n *Notices) Send(ctx context.Context, user string, say Notice, also func(tx table.Tx, event string) error) (id string, err error) {
	if n == nil {
		return "", ErrOff
	}
	if err := n.hears(ctx, user); err != nil {
		return "", err
	}
	r, err := n.room(ctx, user)
	if err != nil {
		return "", err
	}
	if err := n.tag(ctx, user, r.ID()); err != nil {
		return "", err
	}
	return id, r.Do(ctx, func(t *room.Turn) error {
		if err := n.invite(ctx, t, user); err != nil {
			return err
		}
		e, err := t.Send(room.Draft{Type: say.Type, Sender: n.c.User, StateKey: say.StateKey, Content: say.Content})
		if err != nil {
			return err
		}
		id = e.ID()
		if also != nil {
			t.Also(func(tx table.Tx, _ int64) error { return also(tx, id) })
		}
		return nil
	})
}

// hears is nil for a user of this server whose account is used.
func (n *Notices) hears(ctx context.Context, user string) error {
	if !n.c.Accounts.Local(user) || user == n.c.User {
		return fmt.Errorf("%s %w", user, ErrForeign)
	}
	u, err := n.c.Accounts.User(ctx, user)
	if err == nil && u.Deactivated {
		err = fmt.Errorf("%s: %w", user, account.ErrDeactivated)
	}
	return err
}

// invite has a user be in the room, or invited, with the speaker as they are shown now.
func (n *Notices) invite(ctx context.Context, t *room.Turn, user string) error {
	own := n.member(matrix.Join)
	if m := t.State(matrix.Key{Type: matrix.TypeMember, StateKey: n.c.User}); m == nil || !m.Content().Equal(own) {
		if _, err := t.Send(room.Draft{Type: matrix.TypeMember, Sender: n.c.User, StateKey: &n.c.User, Content: own}); err != nil {
			return err
		}
	}
	if is := t.Membership(user); is == matrix.Join || is == matrix.Invite {
		return nil
	}
	content, err := n.invited(ctx, user)
	if err != nil {
		return err
	}
	_, err = t.Send(room.Draft{Type: matrix.TypeMember, Sender: n.c.User, StateKey: &user, Content: content})
	return err
}
