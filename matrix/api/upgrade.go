package api

import (
	"errors"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

const typeTombstone = "m.room.tombstone"

// carried are the kinds of state that a room takes along into a newer version.
var carried = []string{
	"m.room.name", "m.room.topic", "m.room.avatar", matrix.TypeJoinRules, matrix.TypeHistoryVisibility, "m.room.guest_access", "m.room.encryption", matrix.TypeServerACL,
}

// upgrade puts a room of another version in place of a room (clause client-server API, room upgrades).
func (a *API) upgrade(q *request) (any, error) {
	r, err := a.member(q)
	if err != nil {
		return nil, err
	}
	version, err := matrix.FindVersion(q.body.Get("new_version").String())
	if err != nil {
		return nil, err
	}
	user := q.login.User
	if levels := r.Levels(); levels.User(user) < levels.Event(typeTombstone, true) {
		return nil, forbidden("you may not upgrade the room")
	}
	drafts := a.successor(q, r, version)
	made, err := a.Rooms.Create(q.Context(), version, func(t *room.Turn) error {
		for _, d := range drafts {
			if _, err := t.Send(d); err != nil {
				return err
			}
		}
		t.Publish(r.Public())
		t.Also(func(tx table.Tx, number int64) error { return moveAliases(tx, r.Number(), number) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	none := ""
	err = r.Do(q.Context(), func(t *room.Turn) error {
		body := object("body", "This room has been replaced").With("replacement_room", canonical.Text(made.ID()))
		if _, err := t.Send(room.Draft{Type: typeTombstone, Sender: user, StateKey: &none, Content: body}); err != nil {
			return err
		}
		t.Publish(false)
		levels := t.State(matrix.Key{Type: matrix.TypePowerLevels})
		if levels == nil {
			return nil
		}
		v := levels.Content()
		n, _ := v.Get("users_default").Int()
		quiet := canonical.Int(max(50, n+1))
		_, err := t.Send(room.Draft{Type: matrix.TypePowerLevels, Sender: user, StateKey: &none, Content: v.With("events_default", quiet).With("invite", quiet)})
		if errors.Is(err, matrix.ErrForbidden) { // whoever may end a room need not be one who may quiet it
			err = nil
		}
		return err
	})
	if err == nil {
		err = a.carry(q.Context(), made, user)
	}
	return map[string]string{"replacement_room": made.ID()}, err
}

// successor are the events with which the new room begins.
func (a *API) successor(q *request, r *room.Room, version *matrix.Version) []room.Draft {
	user, none := q.login.User, ""
	var all []room.Draft
	add := func(kind, key string, content canonical.Value) {
		all = append(all, room.Draft{Type: kind, Sender: user, StateKey: &key, Content: content})
	}
	content := canonical.Of()
	if old := r.State(matrix.Key{Type: matrix.TypeCreate}); old != nil {
		content = old.Content().Without("creator", "additional_creators", "predecessor", "room_version")
	}
	content = content.With("room_version", canonical.Text(version.ID)).With("predecessor", object("room_id", r.ID()))
	if version.CreatorField {
		content = content.With("creator", canonical.Text(user))
	}
	creators := []string{user}
	if more := q.body.Get("additional_creators"); version.CreateIsRoom && more.Kind() == canonical.Array {
		content = content.With("additional_creators", more)
		for c := range more.Elements {
			creators = append(creators, c.String())
		}
	}
	add(matrix.TypeCreate, none, content)
	add(matrix.TypeMember, user, a.memberContent(&request{Request: q.Request}, user, matrix.Join))
	if levels := r.State(matrix.Key{Type: matrix.TypePowerLevels}); levels != nil {
		add(matrix.TypePowerLevels, none, carriedLevels(levels.Content(), version, creators))
	}
	for _, kind := range carried {
		if e := r.State(matrix.Key{Type: kind}); e != nil {
			add(kind, none, e.Content())
		}
	}
	for _, e := range r.States(typeSpaceChild) {
		key, _ := e.StateKey()
		add(typeSpaceChild, key, e.Content())
	}
	for _, e := range r.States(matrix.TypeMember) {
		if key, _ := e.StateKey(); e.Membership() == matrix.Ban {
			add(matrix.TypeMember, key, e.Content())
		}
	}
	return all
}

// carriedLevels are a room's power levels in the one that takes its place: whoever makes it can do everything there.
func carriedLevels(v canonical.Value, version *matrix.Version, creators []string) canonical.Value {
	users := v.Get("users")
	if users.Kind() != canonical.Object {
		users = canonical.Of()
	}
	if version.CreateIsRoom {
		return v.With("users", users.Without(creators...))
	}
	most := int64(100)
	for _, level := range users.Members {
		n, _ := level.Int()
		most = max(most, n)
	}
	return v.With("users", users.With(creators[0], canonical.Int(most)))
}

func moveAliases(tx table.Tx, from, to int64) error {
	all, err := store.Aliases.All(tx, table.Range{Index: "room", Prefix: []any{from}})
	for _, alias := range all {
		alias.Room = to
		err = errors.Join(err, store.Aliases.Put(tx, alias))
	}
	return err
}
