// Package admin is what whoever runs a homeserver does with it: looks at its users, rooms and reports, shuts rooms down, removes them. The command, the admin
// API and the admin page stand on it.
package admin

import (
	"context"
	"log/slog"
	"time"

	"orrery/matrix"
	"orrery/matrix/account"
	"orrery/matrix/canonical"
	"orrery/matrix/media"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

// Config says which server it is.
type Config struct {
	Rooms    *room.Rooms
	Accounts *account.Accounts
	Syncer   *sync.Syncer
	Uploads  *media.Media
	Stream   *store.Stream
	Now      func() time.Time
	Logger   *slog.Logger
}

// Admin manages a server.
type Admin struct {
	Config

	deletions deletions
}

// New is what manages a server. Close it before the database.
func New(ctx context.Context, c Config) *Admin {
	a := &Admin{Config: c}
	a.deletions.begin(context.WithoutCancel(ctx))
	return a
}

// Close ends what is under way, which goes on when the server is opened again, and waits for it.
func (a *Admin) Close() { a.deletions.end() }

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
	Avatar      *string `json:"avatar"`
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
		History: text(matrix.TypeHistoryVisibility, "history_visibility"), States: len(r.States("")), Type: text(matrix.TypeCreate, "type"), Avatar: text("m.room.avatar", "url"), Blocked: r.Blocked(), Federatable: true,
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
