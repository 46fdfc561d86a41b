package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// User is an account as it is listed.
type User struct {
	store.User

	Name    string // how they are shown
	Avatar  string // an mxc address
	Devices int
	Seen    int64  // when one of these was seen last; 0: never
	Service string // the id of the application service that made the account; "": none did
}

// UserQuery is which accounts are wanted, and in which order.
type UserQuery struct {
	Search     string // in ids and shown names
	Exact      bool   // it is a whole id
	Admin      *bool  // nil, here and below: both
	Guest      *bool
	Locked     *bool
	Suspended  *bool
	Deactive   *bool
	Sort       string // id, name, created or seen; others are id
	Descending bool
	From       int
	Limit      int
}

func (q UserQuery) fits(u User) bool {
	for _, f := range []struct {
		want *bool
		is   bool
	}{{q.Admin, u.Admin}, {q.Guest, u.Guest}, {q.Locked, u.Locked}, {q.Suspended, u.Suspended}, {q.Deactive, u.Deactivated}} {
		if f.want != nil && *f.want != f.is {
			return false
		}
	}
	if q.Exact {
		return u.ID == q.Search
	}
	wanted := strings.ToLower(q.Search)
	return strings.Contains(u.ID, wanted) || strings.Contains(strings.ToLower(u.Name), wanted)
}

// Users are the accounts that are wanted, and how many fit in all.
func (a *Admin) Users(ctx context.Context, q UserQuery) (page []User, total int, err error) {
	var found []User
	err = a.Stream.DB().View(ctx, func(tx table.Tx) error {
		all, err := users(tx)
		for _, u := range all {
			if q.fits(u) {
				found = append(found, u)
			}
		}
		return err
	})
	slices.SortStableFunc(found, func(x, y User) int {
		var n int
		switch q.Sort {
		case "name":
			n = cmp.Compare(strings.ToLower(x.Name), strings.ToLower(y.Name))
		case "created":
			n = cmp.Compare(x.Created, y.Created)
		case "seen":
			n = cmp.Compare(x.Seen, y.Seen)
		default:
			n = cmp.Compare(x.ID, y.ID)
		}
		if q.Descending {
			n = -n
		}
		return n
	})
	return part(found, q.From, q.Limit), len(found), err
}

// part is a part of a list.
func part[T any](all []T, from, limit int) []T {
	all = all[min(max(from, 0), len(all)):]
	return all[:min(max(limit, 0), len(all))]
}

// users reads all accounts with what belongs to them, each table once.
func users(tx table.Tx) ([]User, error) {
	var all []User
	at := map[string]int{}
	for u, err := range store.Users.Scan(tx, table.Range{}) {
		if err != nil {
			return nil, err
		}
		at[u.ID] = len(all)
		all = append(all, User{User: u})
	}
	for d, err := range store.Devices.Scan(tx, table.Range{}) {
		if err != nil {
			return nil, err
		}
		if i, ok := at[d.User]; ok {
			all[i].Devices++
			all[i].Seen = max(all[i].Seen, d.Seen)
		}
	}
	for s, err := range store.ServiceUsers.Scan(tx, table.Range{}) {
		if err != nil {
			return nil, err
		}
		if i, ok := at[s.User]; ok {
			all[i].Service = s.Service
		}
	}
	for f, err := range store.ProfileFields.Scan(tx, table.Range{}) {
		if err != nil {
			return nil, err
		}
		if i, ok := at[f.User]; ok {
			all[i].show(f)
		}
	}
	return all, nil
}

// show takes notice of a field of the user's profile.
func (u *User) show(f store.ProfileField) {
	var s string
	if json.Unmarshal(f.Value, &s) != nil { // other fields than these need not be strings
		return
	}
	switch f.Name {
	case "displayname":
		u.Name = s
	case "avatar_url":
		u.Avatar = s
	}
}

// User is an account.
func (a *Admin) User(ctx context.Context, id string) (User, error) {
	account, err := a.Accounts.User(ctx, id)
	if err != nil {
		return User{}, err
	}
	u := User{User: account}
	return u, a.Stream.DB().View(ctx, func(tx table.Tx) error {
		of := table.Range{Prefix: []any{id}}
		devices, err := store.Devices.All(tx, of)
		for _, d := range devices {
			u.Devices++
			u.Seen = max(u.Seen, d.Seen)
		}
		if err != nil {
			return err
		}
		made, _, err := store.ServiceUsers.Get(tx, id)
		if u.Service = made.Service; err != nil {
			return err
		}
		fields, err := store.ProfileFields.All(tx, of)
		for _, f := range fields {
			u.show(f)
		}
		return err
	})
}

// Memberships are what a user is in rooms, by their ids.
func (a *Admin) Memberships(ctx context.Context, id string) (map[string]string, error) {
	all := map[string]string{}
	err := a.Stream.DB().View(ctx, func(tx table.Tx) error {
		of, err := store.Members.All(tx, table.Range{Prefix: []any{id}})
		if err != nil {
			return err
		}
		for _, m := range of {
			r, ok, err := store.Rooms.Get(tx, m.Room)
			if err != nil {
				return err
			}
			if ok {
				all[r.RoomID] = m.Membership
			}
		}
		return nil
	})
	return all, err
}

// Password gives an account a new password and, if it is to be so, logs all of its devices out.
func (a *Admin) Password(ctx context.Context, user, password string, logout bool) error {
	if err := a.Accounts.SetPassword(ctx, user, password); err != nil || !logout {
		return err
	}
	err := a.Accounts.LogoutAll(ctx, user, "")
	a.Syncer.WakeSharing(ctx, user)
	return err
}
