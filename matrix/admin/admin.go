// Package admin is what whoever runs a homeserver does with its rooms: who is in which, shutting them down, removing them. The command and the admin API
// stand on it.
package admin

import (
	"context"
	"slices"

	"orrery/matrix"
	"orrery/matrix/account"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

// Admin manages the rooms of a server.
type Admin struct {
	Rooms    *room.Rooms
	Accounts *account.Accounts
	Syncer   *sync.Syncer
	Stream   *store.Stream
}

// Room is a room as it is listed.
type Room struct {
	ID          string  `json:"room_id"`
	Name        *string `json:"name"`
	Alias       *string `json:"canonical_alias"`
	Topic       *string `json:"topic"`
	Members     int     `json:"joined_members"`
	Local       int     `json:"joined_local_members"`
	Version     string  `json:"version"`
	Creator     string  `json:"creator"`
	Encryption  *string `json:"encryption"`
	Federatable bool    `json:"federatable"`
	Public      bool    `json:"public"`
	JoinRules   *string `json:"join_rules"`
	Guests      *string `json:"guest_access"`
	History     *string `json:"history_visibility"`
	States      int     `json:"state_events"`
	Type        *string `json:"room_type"`
	Blocked     bool    `json:"blocked"`
}

// IDs are those of all rooms, in the order in which the server got to know them.
func (a *Admin) IDs(ctx context.Context) (all []string, err error) {
	err = a.Stream.DB().View(ctx, func(tx table.Tx) error {
		for r, err := range store.Rooms.Scan(tx, table.Range{}) {
			if err != nil {
				return err
			}
			all = append(all, r.RoomID)
		}
		return nil
	})
	return all, err
}

// Room describes a room.
func (a *Admin) Room(ctx context.Context, id string) (Room, error) {
	r, err := a.Rooms.Find(ctx, id)
	if err != nil {
		return Room{}, err
	}
	text := func(kind, field string) *string {
		e := r.State(matrix.Key{Type: kind})
		if e == nil {
			return nil
		}
		v, ok := e.Content().Find(field)
		if !ok || v.Kind() != canonical.String {
			return nil
		}
		s := v.String()
		return &s
	}
	out := Room{
		ID: r.ID(), Name: text("m.room.name", "name"), Alias: text("m.room.canonical_alias", "alias"), Topic: text("m.room.topic", "topic"), Version: r.Version().ID,
		Encryption: text("m.room.encryption", "algorithm"), Public: r.Public(), JoinRules: text(matrix.TypeJoinRules, "join_rule"), Guests: text("m.room.guest_access", "guest_access"),
		History: text(matrix.TypeHistoryVisibility, "history_visibility"), States: len(r.States("")), Type: text(matrix.TypeCreate, "type"), Blocked: r.Blocked(), Federatable: true,
	}
	if create := r.State(matrix.Key{Type: matrix.TypeCreate}); create != nil {
		out.Creator = create.Sender()
		out.Federatable = !create.Content().Get("m.federate").IsFalse()
	}
	members := r.Joined()
	out.Members = len(members)
	for _, who := range members {
		if a.Accounts.Local(who) {
			out.Local++
		}
	}
	return out, nil
}

// Block lets nobody join a room any more, or does again.
func (a *Admin) Block(ctx context.Context, id string, blocked bool) error {
	r, err := a.Rooms.Find(ctx, id)
	if err != nil {
		return err
	}
	return r.Do(ctx, func(t *room.Turn) error {
		t.Block(blocked)
		return nil
	})
}

// Shutdown takes all members of this server out of a room, takes it out of the directory, and says who they were.
func (a *Admin) Shutdown(ctx context.Context, id string, block bool) (kicked []string, err error) {
	r, err := a.Rooms.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	kicked = []string{}
	for _, m := range r.States(matrix.TypeMember) {
		who, _ := m.StateKey()
		if !a.Accounts.Local(who) || !slices.Contains([]string{matrix.Join, matrix.Invite, matrix.Knock}, m.Membership()) {
			continue
		}
		if err := r.Do(ctx, func(t *room.Turn) error {
			_, err := t.Send(room.Draft{
				Type: matrix.TypeMember, Sender: who, StateKey: &who, Content: canonical.Of(canonical.Member{Name: "membership", Value: canonical.Text(matrix.Leave)}),
			})
			return err
		}); err != nil {
			return kicked, err
		}
		kicked = append(kicked, who)
	}
	return kicked, r.Do(ctx, func(t *room.Turn) error {
		t.Publish(false)
		if block {
			t.Block(true)
		}
		return nil
	})
}

// Purge removes a room without members and all that is kept of it.
func (a *Admin) Purge(ctx context.Context, id string) error {
	r, err := a.Rooms.Find(ctx, id)
	if err != nil {
		return err
	}
	members := r.States(matrix.TypeMember)
	err = a.Rooms.Purge(ctx, id)
	for _, m := range members {
		who, _ := m.StateKey()
		a.Syncer.Forget(who)
	}
	return err
}
