package admin

import (
	"cmp"
	"context"
	"strings"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// RoomQuery is which rooms are wanted, and in which order.
type RoomQuery struct {
	Search     string // in names, aliases and ids
	Public     *bool  // nil, here and below: both
	Empty      *bool
	Blocked    *bool
	Encrypted  *bool
	ACL        *bool  // they say which servers may take part
	Open       *bool  // users of other servers may be there
	Sort       string // name, members, version, state, creator; others are the order in which the server got to know them
	Descending bool
	From       int
	Limit      int
}

// whole says whether all rooms must be looked at for a part of the list.
func (q RoomQuery) whole() bool {
	return q.Search != "" || q.Public != nil || q.Empty != nil || q.Blocked != nil || q.Encrypted != nil || q.ACL != nil || q.Open != nil || roomOrders[q.Sort] != nil
}

func (q RoomQuery) fits(r Room) bool {
	for _, f := range []struct {
		want *bool
		is   bool
	}{{q.Public, r.Public}, {q.Empty, r.Members == 0}, {q.Blocked, r.Blocked}, {q.Encrypted, r.Encryption != nil}, {q.ACL, r.ACL}, {q.Open, r.Federatable}} {
		if f.want != nil && *f.want != f.is {
			return false
		}
	}
	wanted := strings.ToLower(q.Search)
	return mentions(r.Name, wanted) || mentions(r.Alias, wanted) || strings.Contains(strings.ToLower(r.ID), wanted)
}

func mentions(s *string, wanted string) bool {
	return s != nil && strings.Contains(strings.ToLower(*s), wanted)
}

var roomOrders = map[string]func(x, y Room) int{
	"name":    func(x, y Room) int { return cmp.Compare(strings.ToLower(x.Called()), strings.ToLower(y.Called())) },
	"members": func(x, y Room) int { return cmp.Compare(x.Members, y.Members) },
	"version": func(x, y Room) int {
		return cmp.Or(cmp.Compare(len(x.Version), len(y.Version)), cmp.Compare(x.Version, y.Version))
	},
	"state":   func(x, y Room) int { return cmp.Compare(x.States, y.States) },
	"creator": func(x, y Room) int { return cmp.Compare(x.Creator, y.Creator) },
}

// Called is what people call the room: its name, or an alias, or its id.
func (r Room) Called() string {
	switch {
	case r.Name != nil && *r.Name != "":
		return *r.Name
	case r.Alias != nil && *r.Alias != "":
		return *r.Alias
	}
	return r.ID
}

// List is the rooms that are wanted, and how many fit in all. They are read from the store, and do not stay in memory as rooms of which something is wanted do. Without a
// search, a filter or an order only those of the part are looked at.
func (a *Admin) List(ctx context.Context, q RoomQuery) (page []Room, total int, err error) {
	order := roomOrders[q.Sort]
	compare := order
	if order != nil && q.Descending {
		compare = func(x, y Room) int { return order(y, x) }
	}
	return page, total, a.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		page, total, err = a.list(tx, q, compare)
		return err
	})
}

func (a *Admin) list(tx table.Tx, q RoomQuery, compare func(x, y Room) int) ([]Room, int, error) {
	keys, err := store.FindStateKeys(tx, described)
	if err != nil {
		return nil, 0, err
	}
	rows := newSelection[store.Room](q.From, q.Limit, nil)
	found := newSelection(q.From, q.Limit, compare)
	look := func(row store.Room) error {
		r, ok, err := a.summarise(tx, keys, row)
		if err == nil && ok && q.fits(r) {
			found.add(r)
		}
		return err
	}
	down := compare == nil && q.Descending
	for part, err := range batches(tx, store.Rooms, down, func(last store.Room) any {
		if down {
			return last.ID
		}
		return last.ID + 1
	}) {
		if err != nil {
			return nil, 0, err
		}
		for _, row := range part {
			if !q.whole() {
				rows.add(row)
			} else if err := look(row); err != nil {
				return nil, 0, err
			}
		}
	}
	if q.whole() {
		return append([]Room{}, found.part()...), found.total, nil
	}
	page := []Room{}
	for _, row := range rows.part() {
		r, ok, err := a.summarise(tx, keys, row)
		if err != nil {
			return nil, 0, err
		}
		if ok {
			page = append(page, r)
		}
	}
	return page, rows.total, nil
}

// Aliases are the names of a room.
func (a *Admin) Aliases(ctx context.Context, id string) (names []string, err error) {
	err = a.Stream.DB().View(ctx, func(tx table.Tx) error {
		r, ok, err := store.FindRoom(tx, id)
		if err != nil || !ok {
			return err
		}
		all, err := store.Aliases.All(tx, table.Range{Index: "room", Prefix: []any{r.ID}})
		for _, one := range all {
			names = append(names, one.Alias)
		}
		return err
	})
	return names, err
}

// Size is how much of a room is kept.
type Size struct {
	Events int
	Bytes  int64 // of the events' JSON
	More   bool  // there is more: that many were counted
}

// maxCounted is how many events of a room are counted.
const maxCounted = 20_000

// Size counts the events of a room.
func (a *Admin) Size(ctx context.Context, id string) (s Size, err error) {
	r, err := a.Rooms.Find(ctx, id)
	if err != nil {
		return s, err
	}
	err = a.Stream.DB().View(ctx, func(tx table.Tx) error {
		for e, err := range store.Events.Scan(tx, table.Range{Prefix: []any{r.Number()}, Limit: maxCounted + 1}) {
			if err != nil {
				return err
			}
			if s.More = s.Events >= maxCounted; s.More {
				return nil
			}
			s.Events++
			s.Bytes += int64(len(e.JSON))
		}
		return nil
	})
	return s, err
}
