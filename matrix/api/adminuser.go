package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"orrery/matrix"
	"orrery/matrix/admin"
	"orrery/matrix/canonical"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// adminUsers are lists of accounts, and accounts.
func (a *API) adminUsers() {
	a.adminContacts()
	a.administer("GET v2/users", func(q *request) (any, error) { // which leaves those out that are not used any more
		deactivated := new(false)
		if q.URL.Query().Get("deactivated") == "true" {
			deactivated = nil
		}
		return a.listUsers(q, deactivated)
	})
	a.administer("GET v3/users", func(q *request) (any, error) { return a.listUsers(q, which(q.URL.Query(), "deactivated")) })
	a.administer("GET v2/users/{user}", func(q *request) (any, error) { return a.adminUser(q.Context(), q.PathValue("user")) })
	a.administer("PUT v2/users/{user}", a.putUser)
	a.administer("GET v1/username_available", func(q *request) (any, error) {
		return map[string]bool{"available": true}, a.Accounts.Free(q.Context(), q.URL.Query().Get("username"))
	})
	a.administer("GET v1/auth_providers/{provider}/users/{subject}", func(q *request) (any, error) {
		user, err := a.Accounts.External(q.Context(), q.PathValue("provider"), q.PathValue("subject"))
		return map[string]string{"user_id": user}, err
	})
}

// userOrders are what lists of accounts can be sorted by.
var userOrders = map[string]string{"displayname": "name", "creation_ts": "created", "last_seen_ts": "seen"}

func (a *API) listUsers(q *request, deactivated *bool) (any, error) {
	query := q.URL.Query()
	from, limit, err := page(query)
	if err != nil {
		return nil, err
	}
	shown, total, err := a.Admin.Users(q.Context(), admin.UserQuery{
		Search: cmp.Or(query.Get("user_id"), query.Get("name")), Admin: which(query, "admins"), Guest: guests(query.Get("guests")), Locked: which(query, "locked"),
		Suspended: which(query, "suspended"), Deactive: deactivated, Sort: userOrders[query.Get("order_by")], Descending: query.Get("dir") == "b", From: from, Limit: limit,
	})
	if err != nil {
		return nil, err
	}
	views := []any{}
	for _, u := range shown {
		views = append(views, viewUser(u))
	}
	answer := map[string]any{"users": views, "total": total}
	if n, more := next(from, len(shown), total); more {
		answer["next_token"] = strconv.Itoa(n)
	}
	return answer, nil
}

// guests is whether guests are listed: unless they are not wanted.
func guests(s string) *bool {
	if s == "false" {
		return new(false)
	}
	return nil
}

func (a *API) adminUser(ctx context.Context, id string) (any, error) {
	u, err := a.Admin.User(ctx, id)
	if err != nil {
		return nil, err
	}
	v := viewUser(u)
	external := []any{}
	err = a.Stream.DB().View(ctx, func(tx table.Tx) error {
		all, err := store.Externals.All(tx, table.Range{Index: "user", Prefix: []any{id}})
		for _, e := range all {
			external = append(external, map[string]string{"auth_provider": e.Provider, "external_id": e.Subject})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	v["creation_ts"] = u.Created / 1000 // seconds, here
	v["external_ids"] = external
	v["threepids"], err = a.viewContacts(ctx, id)
	return v, err
}

func viewUser(u admin.User) map[string]any {
	v := map[string]any{
		"name": u.ID, "admin": u.Admin, "deactivated": u.Deactivated, "is_guest": u.Guest, "creation_ts": u.Created, "locked": u.Locked, "suspended": u.Suspended,
		"erased": u.Erased, "shadow_banned": false, "user_type": nil, "threepids": []any{}, "external_ids": []any{}, "displayname": nil, "avatar_url": nil, "last_seen_ts": nil, "appservice_id": nil,
	}
	for name, s := range map[string]string{"displayname": u.Name, "avatar_url": u.Avatar, "appservice_id": u.Service} {
		if s != "" {
			v[name] = s
		}
	}
	if u.Seen > 0 {
		v["last_seen_ts"] = u.Seen
	}
	return v
}

// userChange is what an administrator says of an account.
type userChange struct {
	Password    string          `json:"password"`
	Logout      *bool           `json:"logout_devices"`
	Admin       *bool           `json:"admin"`
	Locked      *bool           `json:"locked"`
	Deactivated *bool           `json:"deactivated"`
	Shown       json.RawMessage `json:"displayname"`
	Avatar      json.RawMessage `json:"avatar_url"`
	Threepids   *[]threepid     `json:"threepids"`
}

// putUser makes an account, or changes one.
func (a *API) putUser(q *request) (any, error) {
	ctx, id := q.Context(), q.PathValue("user")
	var in userChange
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if err := matrix.ValidUser(id); err != nil || !a.Accounts.Local(id) {
		return nil, invalidParam(id + " is not a user of this server")
	}
	u, err := a.Accounts.User(ctx, id)
	e, _ := toError(err)
	isNew := err != nil && e.Status == http.StatusNotFound
	switch {
	case isNew:
		name, _, _ := strings.Cut(id[1:], ":")
		_, err = a.Accounts.Create(ctx, name, in.Password, false, false)
	case err != nil:
	case u.Deactivated && in.Deactivated != nil && !*in.Deactivated:
		err = fail(http.StatusBadRequest, "M_UNKNOWN", "an account that was deactivated cannot be used again")
	case in.Password != "":
		err = a.Admin.Password(ctx, id, in.Password, in.Logout == nil || *in.Logout)
	}
	if err == nil {
		err = a.change(q, id, in)
	}
	if err != nil {
		return nil, err
	}
	if isNew {
		q.status = http.StatusCreated
	}
	return a.adminUser(ctx, id)
}

// change makes changes to an account, but for its password.
func (a *API) change(q *request, id string, in userChange) error {
	ctx := q.Context()
	if in.Admin != nil {
		if err := a.setAdmin(q, id, *in.Admin); err != nil {
			return err
		}
	}
	if in.Threepids != nil {
		if err := a.setContacts(ctx, id, *in.Threepids); err != nil {
			return err
		}
	}
	if in.Locked != nil {
		if err := a.Accounts.Moderate(ctx, id, func(u *store.User) { u.Locked = *in.Locked }); err != nil {
			return err
		}
	}
	for name, v := range map[string]json.RawMessage{"displayname": in.Shown, "avatar_url": in.Avatar} {
		if v == nil || string(v) == "null" {
			continue
		}
		if s, err := canonical.Parse(v, canonical.Single); err != nil || s.Kind() != canonical.String {
			return badJSON(name + " is not a string")
		}
		if err := a.Accounts.SetProfile(ctx, id, name, v); err != nil {
			return err
		}
		if err := a.showProfile(ctx, id, name); err != nil {
			return err
		}
	}
	if in.Deactivated != nil && *in.Deactivated {
		return a.end(ctx, id, false)
	}
	return nil
}

// setAdmin makes a user an administrator, or no more; nobody takes it from themselves, so that one stays.
func (a *API) setAdmin(q *request, id string, admin bool) error {
	if !admin && id == q.login.User {
		return forbidden("you cannot take this from yourself")
	}
	return a.Accounts.SetAdmin(q.Context(), id, admin)
}

// adminAccounts are what belongs to an account, and what is done to it.
func (a *API) adminAccounts() {
	a.administer("GET v1/users/{user}/admin", func(q *request) (any, error) {
		u, err := a.Accounts.User(q.Context(), q.PathValue("user"))
		return map[string]bool{"admin": u.Admin}, err
	})
	a.administer("PUT v1/users/{user}/admin", func(q *request) (any, error) {
		return empty, a.setAdmin(q, q.PathValue("user"), q.body.Get("admin").IsTrue())
	})
	a.administer("GET v1/users/{user}/joined_rooms", func(q *request) (any, error) {
		all, err := a.roomsOf(q.Context(), q.PathValue("user"), matrix.Join)
		return map[string]any{"joined_rooms": all, "total": len(all)}, err
	})
	a.administer("GET v1/users/{user}/memberships", func(q *request) (any, error) {
		all, err := a.Admin.Memberships(q.Context(), q.PathValue("user"))
		return map[string]any{"memberships": all, "total": len(all)}, err
	})
	a.administer("GET v1/users/{user}/accountdata", a.accountData)
	a.administer("GET v1/users/{user}/pushers", func(q *request) (any, error) {
		all, err := a.viewPushers(q.Context(), q.PathValue("user"))
		return map[string]any{"pushers": all, "total": len(all)}, err
	})
	a.administer("POST v1/deactivate/{user}", func(q *request) (any, error) {
		if _, err := a.Accounts.User(q.Context(), q.PathValue("user")); err != nil {
			return nil, err
		}
		return a.endUnbound(q.Context(), q.PathValue("user"), "", q.body.Get("erase").IsTrue())
	})
	a.administer("POST v1/reset_password/{user}", a.resetPassword)
	a.administer("PUT v1/suspend/{user}", func(q *request) (any, error) {
		suspend, err := q.flag("suspend")
		if err != nil {
			return nil, err
		}
		id := q.PathValue("user")
		if id == q.login.User {
			return nil, forbidden("you cannot suspend yourself")
		}
		return map[string]bool{"user_" + id + "_suspended": suspend}, a.Accounts.Moderate(q.Context(), id, func(u *store.User) { u.Suspended = suspend })
	})
}

func (a *API) accountData(q *request) (any, error) {
	global, rooms := map[string]json.RawMessage{}, map[string]map[string]json.RawMessage{}
	err := a.Stream.DB().View(q.Context(), func(tx table.Tx) error {
		all, err := store.AllAccountData.All(tx, table.Range{Prefix: []any{q.PathValue("user")}})
		for _, d := range all {
			if d.Deleted() {
				continue
			}
			if d.Room == "" {
				global[d.Type] = d.JSON
				continue
			}
			if rooms[d.Room] == nil {
				rooms[d.Room] = map[string]json.RawMessage{}
			}
			rooms[d.Room][d.Type] = d.JSON
		}
		return err
	})
	return map[string]any{"account_data": map[string]any{"global": global, "rooms": rooms}}, err
}

func (a *API) resetPassword(q *request) (any, error) {
	password, err := q.text("new_password")
	if err != nil {
		return nil, err
	}
	if password == "" {
		return nil, missing("new_password")
	}
	return empty, a.Admin.Password(q.Context(), q.PathValue("user"), password, !q.body.Get("logout_devices").IsFalse())
}

// adminDevices are the logins of others.
func (a *API) adminDevices() {
	view := func(d store.Device) map[string]any {
		return map[string]any{"user_id": d.User, "device_id": d.ID, "display_name": d.Name, "last_seen_ts": d.Seen, "last_seen_ip": d.Address, "last_seen_user_agent": nil}
	}
	a.administer("GET v2/users/{user}/devices", func(q *request) (any, error) {
		all, err := a.Accounts.Devices(q.Context(), q.PathValue("user"))
		views := []any{}
		for _, d := range all {
			views = append(views, view(d))
		}
		return map[string]any{"devices": views, "total": len(views)}, err
	})
	a.administer("GET v2/users/{user}/devices/{device}", func(q *request) (any, error) {
		d, err := a.Accounts.Device(q.Context(), q.PathValue("user"), q.PathValue("device"))
		return view(d), err
	})
	a.administer("PUT v2/users/{user}/devices/{device}", func(q *request) (any, error) {
		name, err := q.text("display_name")
		if err != nil {
			return nil, err
		}
		return empty, a.Accounts.NameDevice(q.Context(), q.PathValue("user"), q.PathValue("device"), name)
	})
	a.administer("DELETE v2/users/{user}/devices/{device}", func(q *request) (any, error) {
		return empty, a.logOutDevice(q.Context(), q.PathValue("user"), q.PathValue("device"))
	})
	a.administer("POST v2/users/{user}/delete_devices", func(q *request) (any, error) {
		var in struct {
			Devices []string `json:"devices"`
		}
		if err := q.into(&in); err != nil {
			return nil, err
		}
		for _, d := range in.Devices {
			if err := a.logOutDevice(q.Context(), q.PathValue("user"), d); err != nil {
				return nil, err
			}
		}
		return empty, nil
	})
	a.administer("GET v1/whois/{user}", a.whois)
}
