package api

import (
	"context"
	"net/http"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

func (a *API) aliasRoutes() {
	a.open("GET directory/room/{alias}", func(q *request) (any, error) {
		id, err := a.anyAlias(q, q.PathValue("alias"))
		return map[string]any{"room_id": id, "servers": []string{a.Server}}, err
	})
	a.in("PUT directory/room/{alias}", func(q *request) (any, error) {
		r, err := a.Rooms.Find(q.Context(), q.body.Get("room_id").String())
		if err != nil {
			return nil, err
		}
		if r.Membership(q.login.User) != matrix.Join {
			return nil, forbidden("you are not a member of the room")
		}
		if err := a.mayName(q, q.PathValue("alias")); err != nil {
			return nil, err
		}
		return empty, a.Stream.DB().Update(q.Context(), func(tx table.Tx) error {
			return a.putAlias(tx, q.PathValue("alias"), r.Number(), q.login.User)
		})
	})
	a.in("DELETE directory/room/{alias}", a.deleteAlias)
	a.in("GET rooms/{room}/aliases", func(q *request) (any, error) {
		r, err := a.readable(q)
		if err != nil {
			return nil, err
		}
		names := []string{}
		err = a.Stream.DB().View(q.Context(), func(tx table.Tx) error {
			all, err := store.Aliases.All(tx, table.Range{Index: "room", Prefix: []any{r.Number()}})
			for _, one := range all {
				names = append(names, one.Alias)
			}
			return err
		})
		return map[string]any{"aliases": names}, err
	})
}

// alias is the id of the room with a name.
func (a *API) alias(ctx context.Context, name string) (id string, err error) {
	_, id, err = a.aliasRow(ctx, name)
	return id, err
}

// aliasRow is who made an alias, and the id of the room that it names.
func (a *API) aliasRow(ctx context.Context, name string) (creator, id string, err error) {
	err = a.Stream.DB().View(ctx, func(tx table.Tx) error {
		found, ok, err := store.Aliases.Get(tx, name)
		if err != nil {
			return err
		}
		if !ok {
			return notFound("there is no room " + name)
		}
		r, _, err := store.Rooms.Get(tx, found.Room)
		creator, id = found.Creator, r.RoomID
		return err
	})
	return creator, id, err
}

func (a *API) putAlias(tx table.Tx, alias string, number int64, user string) error {
	if !validAlias(alias) || matrix.Domain(alias) != a.Server {
		return invalidParam("alias " + alias + " is not #name:" + a.Server)
	}
	taken, err := store.Aliases.Has(tx, alias)
	if err != nil {
		return err
	}
	if taken {
		return fail(http.StatusConflict, "M_ROOM_IN_USE", "alias "+alias+" is taken")
	}
	return store.Aliases.Put(tx, store.Alias{Alias: alias, Room: number, Creator: user})
}

// deleteAlias removes an alias: that of whoever made it, of those who may say what the room's main alias is, and of administrators (clause client-server
// API, DELETE directory/room). If the room names it, and the user may change that, it does so no longer.
func (a *API) deleteAlias(q *request) (any, error) {
	alias, user := q.PathValue("alias"), q.login.User
	if err := a.mayName(q, alias); err != nil {
		return nil, err
	}
	creator, id, err := a.aliasRow(q.Context(), alias)
	if err != nil {
		return nil, err
	}
	r, err := a.Rooms.Find(q.Context(), id)
	if err != nil {
		return nil, err
	}
	owns := creator == user || q.as != nil || a.admin(q) == nil // all aliases in its namespaces are a service's
	return empty, r.Do(q.Context(), func(t *room.Turn) error {
		levels := t.Levels()
		may := t.Membership(user) == matrix.Join && levels.User(user) >= levels.Event(canonicalAlias.Type, true)
		if !may && !owns {
			return forbidden("only " + creator + ", and who may change the room's aliases, removes this alias")
		}
		t.Also(func(tx table.Tx, _ int64) error { return store.Aliases.Delete(tx, alias) })
		now := t.State(canonicalAlias)
		if !may || now == nil {
			return nil
		}
		content := withoutAlias(now.Content(), alias)
		if content.Equal(now.Content()) {
			return nil
		}
		_, err := t.Send(room.Draft{Type: canonicalAlias.Type, Sender: user, StateKey: &canonicalAlias.StateKey, Content: content})
		return err
	})
}

// canonicalAlias is the event that says which are a room's main aliases.
var canonicalAlias = matrix.Key{Type: "m.room.canonical_alias"}

// withoutAlias is the content of such an event without one of them.
func withoutAlias(content canonical.Value, alias string) canonical.Value {
	if content.Get("alias").String() == alias {
		content = content.Without("alias")
	}
	var others []canonical.Value
	for other := range content.Get("alt_aliases").Elements {
		if other.String() != alias {
			others = append(others, other)
		}
	}
	if len(others) != content.Get("alt_aliases").Len() {
		content = content.With("alt_aliases", canonical.List(others...))
	}
	return content
}

// checkAliases sees to it that the aliases that a room names are its own. What it named before is not looked at (clause client-server API,
// m.room.canonical_alias).
func (a *API) checkAliases(ctx context.Context, r *room.Room, content canonical.Value) error {
	known := map[string]bool{"": true}
	if old := r.State(canonicalAlias); old != nil {
		for _, alias := range aliasesOf(old.Content()) {
			known[alias] = true
		}
	}
	for _, alias := range aliasesOf(content) {
		if known[alias] {
			continue
		}
		if !validAlias(alias) {
			return invalidParam(alias + " is no alias: it is not #name:server")
		}
		if matrix.Domain(alias) != a.Server {
			continue
		}
		if id, err := a.alias(ctx, alias); err != nil || id != r.ID() {
			return fail(http.StatusBadRequest, "M_BAD_ALIAS", alias+" is not an alias of the room")
		}
	}
	return nil
}

// aliasesOf are all that such an event names.
func aliasesOf(content canonical.Value) []string {
	all := []string{content.Get("alias").String()}
	for alias := range content.Get("alt_aliases").Elements {
		all = append(all, alias.String())
	}
	return all
}

// validAlias says whether something has the form of an alias (clause appendices, room aliases).
func validAlias(alias string) bool {
	return strings.HasPrefix(alias, "#") && matrix.ValidServer(matrix.Domain(alias)) == nil && len(alias) <= matrix.MaxIdentifier && !strings.ContainsRune(alias, 0)
}
