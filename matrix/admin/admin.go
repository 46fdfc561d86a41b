// Package admin is what whoever runs a homeserver does with it: looks at its users, rooms and reports, shuts rooms down, removes them. The command, the admin
// API and the admin page stand on it.
package admin

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"orrery/matrix"
	"orrery/matrix/account"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
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
	summaries summaries
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

	ACL bool `json:"-"` // it says which servers may take part
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
	out := describe(r.Version(), func(kind string) *event.Event {
		if e := r.State(matrix.Key{Type: kind}); e != nil {
			return e.Event
		}
		return nil
	})
	out.ID, out.Public, out.Blocked, out.States = r.ID(), r.Public(), r.Blocked(), len(r.States(""))
	members := r.Joined()
	out.Members = len(members)
	for _, who := range members {
		if a.Accounts.Local(who) {
			out.Local++
		}
	}
	return out, nil
}

// described are the types of events of a room's state by which it is described.
var described = []string{
	matrix.TypeCreate, "m.room.name", "m.room.canonical_alias", "m.room.topic", "m.room.avatar", "m.room.encryption", matrix.TypeJoinRules, "m.room.guest_access", matrix.TypeHistoryVisibility,
	matrix.TypeServerACL,
}

// describe is what a room says of itself in the events of its state, of which a function is that of a type without a key, or nil.
func describe(version *matrix.Version, of func(kind string) *event.Event) Room {
	text := func(kind, field string) *string {
		e := of(kind)
		if e == nil {
			return nil
		}
		v, ok := e.Content().Find(field)
		if !ok || v.Kind() != canonical.String {
			return nil
		}
		s := strings.Clone(v.String()) // not with all of the event
		return &s
	}
	out := Room{
		Name: text("m.room.name", "name"), Alias: text("m.room.canonical_alias", "alias"), Topic: text("m.room.topic", "topic"), Version: version.ID, Avatar: text("m.room.avatar", "url"),
		Encryption: text("m.room.encryption", "algorithm"), JoinRules: text(matrix.TypeJoinRules, "join_rule"), Guests: text("m.room.guest_access", "guest_access"),
		History: text(matrix.TypeHistoryVisibility, "history_visibility"), Type: text(matrix.TypeCreate, "type"), Federatable: true,
		ACL: of(matrix.TypeServerACL) != nil,
	}
	if create := of(matrix.TypeCreate); create != nil {
		out.Creator = strings.Clone(create.Sender())
		out.Federatable = !create.Content().Get("m.federate").IsFalse()
	}
	return out
}
