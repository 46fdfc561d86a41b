package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"orrery/matrix"
	"orrery/matrix/admin"
	"orrery/matrix/canonical"
	"orrery/matrix/store"
)

// adminPath is below which administrators ask, as Synapse has it, so that panels and bots made for it work; docs/matrix-admin.md says what there is.
const adminPath = "/_synapse/admin/"

// adminRoutes are requests of administrators.
func (a *API) adminRoutes() {
	a.open("GET "+adminPath+"v1/server_version", func(*request) (any, error) {
		return map[string]string{"server_version": "Orrery homeserver"}, nil
	})
	a.administer("GET v2/users", a.listUsers)
	a.administer("GET v2/users/{user}", func(q *request) (any, error) { return a.adminUser(q.Context(), q.PathValue("user")) })
	a.administer("PUT v2/users/{user}", a.putUser)
	a.administer("GET v1/users/{user}/admin", func(q *request) (any, error) {
		u, err := a.Accounts.User(q.Context(), q.PathValue("user"))
		return map[string]bool{"admin": u.Admin}, err
	})
	a.administer("PUT v1/users/{user}/admin", func(q *request) (any, error) {
		return empty, a.Accounts.SetAdmin(q.Context(), q.PathValue("user"), q.body.Get("admin").IsTrue())
	})
	a.administer("GET v1/users/{user}/joined_rooms", func(q *request) (any, error) {
		all, err := a.roomsOf(q.Context(), q.PathValue("user"), matrix.Join)
		return map[string]any{"joined_rooms": all, "total": len(all)}, err
	})
	a.administer("GET v2/users/{user}/devices", func(q *request) (any, error) {
		all, err := a.Accounts.Devices(q.Context(), q.PathValue("user"))
		views := []any{}
		for _, d := range all {
			views = append(views, map[string]any{"user_id": d.User, "device_id": d.ID, "display_name": d.Name, "last_seen_ts": d.Seen, "last_seen_ip": d.Address})
		}
		return map[string]any{"devices": views, "total": len(views)}, err
	})
	a.administer("POST v1/deactivate/{user}", func(q *request) (any, error) {
		if _, err := a.Accounts.User(q.Context(), q.PathValue("user")); err != nil {
			return nil, err
		}
		return map[string]string{"id_server_unbind_result": "no-support"}, a.end(q.Context(), q.PathValue("user"), q.body.Get("erase").IsTrue())
	})
	a.administer("POST v1/reset_password/{user}", a.resetPassword)
	a.adminRooms()
	a.adminMedia()
	a.adminTokens()
}

// administer registers a request of administrators.
func (a *API) administer(route string, h handler) {
	method, path, _ := strings.Cut(route, " ")
	a.in(method+" "+adminPath+path, func(q *request) (any, error) {
		if err := a.admin(q); err != nil {
			return nil, err
		}
		return h(q)
	})
}

// page is which part of a list is wanted: how many, after how many.
func page(query url.Values) (from, limit int, err error) {
	for _, one := range []struct {
		name  string
		usual int
		to    *int
	}{{"from", 0, &from}, {"limit", 100, &limit}} {
		*one.to = one.usual
		if s := query.Get(one.name); s != "" {
			if *one.to, err = strconv.Atoi(s); err != nil || *one.to < 0 {
				return 0, 0, invalidParam(one.name + " is not a number")
			}
		}
	}
	return from, limit, nil
}

// paged is the part of a list, and where the next one begins: nil at the end.
func paged[T any](all []T, from, limit int) ([]T, *int) {
	all = all[min(from, len(all)):]
	if len(all) <= limit {
		return all, nil
	}
	next := from + limit
	return all[:limit], &next
}

func (a *API) listUsers(q *request) (any, error) {
	query := q.URL.Query()
	from, limit, err := page(query)
	if err != nil {
		return nil, err
	}
	all, err := a.Accounts.Users(q.Context())
	if err != nil {
		return nil, err
	}
	wanted := strings.ToLower(cmp.Or(query.Get("user_id"), query.Get("name")))
	var found []store.User
	for _, u := range all {
		if u.Deactivated && query.Get("deactivated") != "true" || u.Guest && query.Get("guests") == "false" || query.Get("admins") == "true" && !u.Admin || query.Get("admins") == "false" && u.Admin {
			continue
		}
		if strings.Contains(u.ID, wanted) {
			found = append(found, u)
		}
	}
	views := []any{}
	shown, next := paged(found, from, limit)
	for _, u := range shown {
		v, err := a.viewUser(q.Context(), u)
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	answer := map[string]any{"users": views, "total": len(found)}
	if next != nil {
		answer["next_token"] = strconv.Itoa(*next)
	}
	return answer, nil
}

func (a *API) adminUser(ctx context.Context, id string) (any, error) {
	u, err := a.Accounts.User(ctx, id)
	if err != nil {
		return nil, err
	}
	return a.viewUser(ctx, u)
}

func (a *API) viewUser(ctx context.Context, u store.User) (map[string]any, error) {
	profile, err := a.Accounts.Profile(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	v := map[string]any{
		"name": u.ID, "admin": u.Admin, "deactivated": u.Deactivated, "is_guest": u.Guest, "creation_ts": u.Created, "locked": u.Locked, "suspended": u.Suspended,
		"erased": false, "shadow_banned": false, "user_type": nil, "threepids": []any{}, "external_ids": []any{}, "displayname": nil, "avatar_url": nil,
	}
	for _, name := range profileNames {
		if field, ok := profile[name]; ok {
			v[name] = field
		}
	}
	erased, err := a.Accounts.Erased(ctx, u.ID)
	v["erased"] = erased
	return v, err
}

// putUser makes an account, or changes one.
func (a *API) putUser(q *request) (any, error) {
	ctx, id := q.Context(), q.PathValue("user")
	var in struct {
		Password    string          `json:"password"`
		Logout      *bool           `json:"logout_devices"`
		Admin       *bool           `json:"admin"`
		Deactivated *bool           `json:"deactivated"`
		Shown       json.RawMessage `json:"displayname"`
		Avatar      json.RawMessage `json:"avatar_url"`
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if err := matrix.ValidUser(id); err != nil || !a.Accounts.Local(id) {
		return nil, invalidParam(id + " is not a user of this server")
	}
	_, err := a.Accounts.User(ctx, id)
	e, _ := toError(err)
	isNew := err != nil && e.Status == http.StatusNotFound
	switch {
	case isNew:
		name, _, _ := strings.Cut(id[1:], ":")
		_, err = a.Accounts.Create(ctx, name, in.Password, false, false)
	case err == nil && in.Password != "":
		err = a.password(ctx, id, in.Password, in.Logout == nil || *in.Logout)
	}
	if err != nil {
		return nil, err
	}
	if in.Admin != nil {
		if err := a.Accounts.SetAdmin(ctx, id, *in.Admin); err != nil {
			return nil, err
		}
	}
	for name, v := range map[string]json.RawMessage{"displayname": in.Shown, "avatar_url": in.Avatar} {
		if v == nil {
			continue
		}
		if s, err := canonical.Parse(v, canonical.Single); err != nil || s.Kind() != canonical.String {
			return nil, badJSON(name + " is not a string")
		}
		if err := a.Accounts.SetProfile(ctx, id, name, v); err != nil {
			return nil, err
		}
		if err := a.showProfile(ctx, id, name); err != nil {
			return nil, err
		}
	}
	if in.Deactivated != nil && *in.Deactivated {
		if err := a.end(ctx, id, false); err != nil {
			return nil, err
		}
	}
	if isNew {
		q.status = http.StatusCreated
	}
	return a.adminUser(ctx, id)
}

func (a *API) password(ctx context.Context, user, password string, logout bool) error {
	if err := a.Accounts.SetPassword(ctx, user, password); err != nil || !logout {
		return err
	}
	return a.Accounts.LogoutAll(ctx, user, "")
}

func (a *API) resetPassword(q *request) (any, error) {
	password, err := q.text("new_password")
	if err != nil {
		return nil, err
	}
	if password == "" {
		return nil, missing("new_password")
	}
	return empty, a.password(q.Context(), q.PathValue("user"), password, !q.body.Get("logout_devices").IsFalse())
}

func (a *API) adminRooms() {
	a.administer("GET v1/rooms", a.listRooms)
	a.administer("GET v1/rooms/{room}", func(q *request) (any, error) { return a.Admin.Room(q.Context(), q.PathValue("room")) })
	a.administer("GET v1/rooms/{room}/members", func(q *request) (any, error) {
		r, err := a.Rooms.Find(q.Context(), q.PathValue("room"))
		if err != nil {
			return nil, err
		}
		all := r.Joined()
		return map[string]any{"members": all, "total": len(all)}, nil
	})
	a.administer("GET v1/rooms/{room}/block", func(q *request) (any, error) {
		r, err := a.Rooms.Find(q.Context(), q.PathValue("room"))
		if err != nil {
			return nil, err
		}
		return map[string]bool{"block": r.Blocked()}, nil
	})
	a.administer("PUT v1/rooms/{room}/block", func(q *request) (any, error) {
		block := q.body.Get("block").IsTrue()
		return map[string]bool{"block": block}, a.Admin.Block(q.Context(), q.PathValue("room"), block)
	})
	a.administer("DELETE v1/rooms/{room}", func(q *request) (any, error) { return a.deleteRoom(q) })
	a.administer("DELETE v2/rooms/{room}", func(q *request) (any, error) {
		done, err := a.deleteRoom(q)
		if err != nil {
			return nil, err
		}
		return map[string]string{"delete_id": a.deletions.add(q.PathValue("room"), done)}, nil
	})
	a.administer("GET v2/rooms/delete_status/{id}", func(q *request) (any, error) {
		if d, ok := a.deletions.get(q.PathValue("id")); ok {
			return d, nil
		}
		return nil, notFound("there is no such deletion")
	})
}

func (a *API) listRooms(q *request) (any, error) {
	query := q.URL.Query()
	from, limit, err := page(query)
	if err != nil {
		return nil, err
	}
	ids, err := a.Admin.IDs(q.Context())
	if err != nil {
		return nil, err
	}
	wanted := strings.ToLower(query.Get("search_term"))
	total, shown := len(ids), ids
	var next *int
	if wanted == "" { // only those of the page are read
		shown, next = paged(ids, from, limit)
	}
	rooms := []admin.Room{}
	for _, id := range shown {
		r, err := a.Admin.Room(q.Context(), id)
		if err != nil {
			return nil, err
		}
		if mentions(r.Name, wanted) || mentions(r.Alias, wanted) || strings.Contains(strings.ToLower(id), wanted) {
			rooms = append(rooms, r)
		}
	}
	if wanted != "" {
		total = len(rooms)
		rooms, next = paged(rooms, from, limit)
	}
	answer := map[string]any{"rooms": rooms, "offset": from, "total_rooms": total}
	if next != nil {
		answer["next_batch"] = *next
	}
	return answer, nil
}

func mentions(s *string, wanted string) bool {
	return s != nil && strings.Contains(strings.ToLower(*s), wanted)
}

// deleteRoom shuts a room down and, unless it is told not to, purges it.
func (a *API) deleteRoom(q *request) (map[string]any, error) {
	id := q.PathValue("room")
	block, purge := q.body.Get("block").IsTrue(), !q.body.Get("purge").IsFalse()
	if block && purge {
		return nil, invalidParam("a room that is purged is not known any more, and cannot be blocked (say purge: false)")
	}
	kicked, err := a.Admin.Shutdown(q.Context(), id, block)
	if err == nil && purge {
		err = a.Admin.Purge(q.Context(), id)
	}
	return map[string]any{"kicked_users": kicked, "failed_to_kick_users": []string{}, "local_aliases": []string{}, "new_room_id": nil}, err
}

func (a *API) adminMedia() {
	quarantine := func(quarantined bool) handler {
		return func(q *request) (any, error) {
			return empty, a.Media.Quarantine(q.Context(), q.PathValue("media"), quarantined)
		}
	}
	a.administer("POST v1/media/quarantine/{server}/{media}", quarantine(true))
	a.administer("POST v1/media/unquarantine/{server}/{media}", quarantine(false))
	a.administer("DELETE v1/media/{server}/{media}", func(q *request) (any, error) {
		id := q.PathValue("media")
		return map[string]any{"deleted_media": []string{id}, "total": 1}, a.Media.Delete(q.Context(), id)
	})
	a.administer("POST v1/media/delete", a.deleteMedia)
	a.administer("GET v1/users/{user}/media", func(q *request) (any, error) {
		all, err := a.Media.Of(q.Context(), q.PathValue("user"), time.Time{})
		views := []any{}
		for _, m := range all {
			views = append(views, map[string]any{"media_id": m.ID, "media_type": m.Type, "media_length": m.Size, "upload_name": m.Name, "created_ts": m.Created, "quarantined_by": nil, "safe_from_quarantine": false})
		}
		return map[string]any{"media": views, "total": len(views)}, err
	})
	a.administer("GET v1/statistics/users/media", func(q *request) (any, error) {
		all, err := a.Media.Stats(q.Context())
		return map[string]any{"users": append(all[:0:0], all...), "total": len(all)}, err
	})
}

// deleteMedia removes what was uploaded before a time and is not small.
func (a *API) deleteMedia(q *request) (any, error) {
	query := q.URL.Query()
	before, err := strconv.ParseInt(query.Get("before_ts"), 10, 64)
	size, sizeErr := strconv.ParseInt(cmp.Or(query.Get("size_gt"), "0"), 10, 64)
	if err != nil || sizeErr != nil || before < 0 {
		return nil, invalidParam("before_ts and size_gt are numbers")
	}
	all, err := a.Media.Of(q.Context(), "", time.UnixMilli(before))
	if err != nil {
		return nil, err
	}
	deleted := []string{}
	for _, m := range all {
		if m.Size <= size && size > 0 {
			continue
		}
		if err := a.Media.Delete(q.Context(), m.ID); err != nil {
			return nil, err
		}
		deleted = append(deleted, m.ID)
	}
	return map[string]any{"deleted_media": deleted, "total": len(deleted)}, nil
}

func (a *API) adminTokens() {
	view := func(v store.Invitation) map[string]any {
		out := map[string]any{"token": v.Token, "uses_allowed": nil, "pending": 0, "completed": v.Used, "expiry_time": nil}
		if v.Uses > 0 {
			out["uses_allowed"] = v.Uses
		}
		if v.Expires > 0 {
			out["expiry_time"] = v.Expires
		}
		return out
	}
	a.administer("GET v1/registration_tokens", func(q *request) (any, error) {
		all, err := a.Accounts.Invitations(q.Context())
		views := []any{}
		for _, v := range all {
			views = append(views, view(v))
		}
		return map[string]any{"registration_tokens": views}, err
	})
	a.administer("POST v1/registration_tokens/new", func(q *request) (any, error) {
		var in struct {
			Token   string `json:"token"`
			Uses    int64  `json:"uses_allowed"`
			Expires int64  `json:"expiry_time"`
		}
		if err := q.into(&in); err != nil {
			return nil, err
		}
		var until time.Time
		if in.Expires > 0 {
			until = time.UnixMilli(in.Expires)
		}
		v, err := a.Accounts.Invite(q.Context(), in.Token, in.Uses, until)
		return view(v), err
	})
	a.administer("DELETE v1/registration_tokens/{token}", func(q *request) (any, error) {
		return empty, a.Accounts.Uninvite(q.Context(), q.PathValue("token"))
	})
}
