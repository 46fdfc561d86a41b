package admin

import (
	"cmp"
	"context"
	"encoding/json"
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

// userOrders are those of lists of accounts; others are that of their ids, in which they are read.
var userOrders = map[string]func(x, y User) int{
	"name":    func(x, y User) int { return cmp.Compare(strings.ToLower(x.Name), strings.ToLower(y.Name)) },
	"created": func(x, y User) int { return cmp.Compare(x.Created, y.Created) },
	"seen":    func(x, y User) int { return cmp.Compare(x.Seen, y.Seen) },
}

// Users are the accounts that are wanted, and how many fit in all. What belongs to accounts is read only of those of the part, but for what the search or the order needs.
func (a *Admin) Users(ctx context.Context, q UserQuery) (page []User, total int, err error) {
	order := userOrders[q.Sort]
	compare := order
	if order != nil && q.Descending {
		compare = func(x, y User) int { return order(y, x) }
	}
	err = a.Stream.DB().View(ctx, func(tx table.Tx) error {
		s := newSelection(q.From, q.Limit, compare)
		down := order == nil && q.Descending
		for rows, err := range batches(tx, store.Users, down, func(last store.User) any {
			if down {
				return last.ID
			}
			return last.ID + "\x00" // the next text after it
		}) {
			if err != nil {
				return err
			}
			part, err := q.know(tx, rows)
			if err != nil {
				return err
			}
			for _, u := range part {
				if q.fits(u) {
					s.add(u)
				}
			}
		}
		page, total = s.part(), s.total
		for i := range page {
			if err := page[i].fill(tx); err != nil {
				return err
			}
		}
		return nil
	})
	return page, total, err
}

// know is accounts that follow one another, with what the query needs to know of them.
func (q UserQuery) know(tx table.Tx, rows []store.User) ([]User, error) {
	part, at := make([]User, len(rows)), map[string]*User{}
	for i, u := range rows {
		part[i].User = u
		at[u.ID] = &part[i]
	}
	first, last := rows[0].ID, rows[len(rows)-1].ID
	r := table.Range{From: min(first, last), Before: max(first, last) + "\x00"}
	if q.Search != "" && !q.Exact || q.Sort == "name" {
		for f, err := range store.ProfileFields.Scan(tx, r) {
			if err != nil {
				return nil, err
			}
			if u := at[f.User]; u != nil && f.Name == "displayname" {
				u.show(f)
			}
		}
	}
	if q.Sort != "seen" {
		return part, nil
	}
	for d, err := range store.Devices.Scan(tx, r) {
		if err != nil {
			return nil, err
		}
		if u := at[d.User]; u != nil {
			u.Seen = max(u.Seen, d.Seen)
		}
	}
	return part, nil
}

// fill reads what belongs to an account.
func (u *User) fill(tx table.Tx) error {
	of := table.Range{Prefix: []any{u.ID}}
	devices, err := store.Devices.All(tx, of)
	if err != nil {
		return err
	}
	u.Devices = len(devices)
	for _, d := range devices {
		u.Seen = max(u.Seen, d.Seen)
	}
	made, _, err := store.ServiceUsers.Get(tx, u.ID)
	if u.Service = made.Service; err != nil {
		return err
	}
	fields, err := store.ProfileFields.All(tx, of)
	for _, f := range fields {
		u.show(f)
	}
	return err
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
	return u, a.Stream.DB().View(ctx, func(tx table.Tx) error { return u.fill(tx) })
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
