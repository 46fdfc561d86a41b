package server_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"orrery/matrix/admin"
	"orrery/matrix/store"
)

// TestAdminLists: the pages of lists of users and rooms are those of the whole lists, put in order at once, in any order and by any filter, on each database.
func TestAdminLists(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne := s.register("anne")
		var users []string
		for n := range 23 {
			u, err := s.server.Accounts.Create(t.Context(), fmt.Sprintf("user%d", n*7%23), "", n%5 == 0, false)
			if err != nil {
				t.Fatal(err)
			}
			users = append(users, u.ID)
			shown, err := json.Marshal(fmt.Sprintf("Name %d", n%9))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.server.Accounts.SetProfile(t.Context(), u.ID, "displayname", shown); err != nil {
				t.Fatal(err)
			}
			if n%4 == 0 {
				if err := s.server.Accounts.Moderate(t.Context(), u.ID, func(u *store.User) { u.Locked = true }); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.compareUsers(append(users, anne.user))
		bob := s.register("bob")
		var rooms []string
		for n := range 13 {
			rooms = append(rooms, anne.create(object{"name": fmt.Sprintf("Room %d", n%5), "preset": []string{"public_chat", "private_chat"}[n%2], "visibility": []string{"public", "private"}[n%2]}))
			if n%3 == 0 && n%2 == 0 {
				bob.join(rooms[n])
			}
		}
		s.compareRooms(rooms)
		anne.do("PUT", "rooms/"+rooms[3]+"/state/m.room.name", object{"name": "Zoo"}) // what is known of rooms is not older than they are
		anne.do("PUT", "rooms/"+rooms[4]+"/state/m.room.encryption", object{"algorithm": "m.megolm.v1.aes-sha2"})
		bob.do("POST", "rooms/"+rooms[0]+"/leave", object{})
		if err := s.server.Admin.Block(t.Context(), rooms[5], true); err != nil {
			t.Fatal(err)
		}
		s.compareRooms(rooms)
	})
}

// parts calls a function with parts of lists.
func parts(f func(from, limit int)) {
	for _, p := range [][2]int{{0, 100}, {0, 5}, {5, 5}, {11, 4}, {30, 5}, {2, 0}} {
		f(p[0], p[1])
	}
}

// some is a part of a list.
func some[T any](all []T, from, limit int) []T {
	all = all[min(from, len(all)):]
	return all[:min(limit, len(all))]
}

func (s *site) compareUsers(ids []string) {
	s.t.Helper()
	var all []admin.User
	for _, id := range slices.Sorted(slices.Values(ids)) {
		u, err := s.server.Admin.User(s.t.Context(), id)
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, u)
	}
	orders := map[string]func(x, y admin.User) int{
		"": func(x, y admin.User) int { return cmp.Compare(x.ID, y.ID) }, "name": func(x, y admin.User) int { return cmp.Compare(strings.ToLower(x.Name), strings.ToLower(y.Name)) },
		"created": func(x, y admin.User) int { return cmp.Compare(x.Created, y.Created) }, "seen": func(x, y admin.User) int { return cmp.Compare(x.Seen, y.Seen) },
	}
	for sort, order := range orders {
		for _, q := range []admin.UserQuery{{}, {Descending: true}, {Search: "name 3"}, {Search: "user1"}, {Locked: new(true)}, {Admin: new(false), Descending: true}, {Search: all[3].ID, Exact: true}} {
			want := slices.DeleteFunc(slices.Clone(all), func(u admin.User) bool {
				return q.Locked != nil && u.Locked != *q.Locked || q.Admin != nil && u.Admin != *q.Admin || q.Exact && u.ID != q.Search ||
					!q.Exact && !strings.Contains(strings.ToLower(u.ID+" "+u.Name), q.Search)
			})
			slices.SortStableFunc(want, func(x, y admin.User) int {
				if q.Descending {
					x, y = y, x
				}
				return order(x, y)
			})
			parts(func(from, limit int) {
				q.Sort, q.From, q.Limit = sort, from, limit
				got, total, err := s.server.Admin.Users(s.t.Context(), q)
				if err != nil || total != len(want) || !slices.Equal(got, some(want, from, limit)) {
					s.t.Errorf("%+v: %d %v\n%s", q, total, err, gocmp.Diff(got, some(want, from, limit)))
				}
			})
		}
	}
}

func (s *site) compareRooms(ids []string) {
	s.t.Helper()
	var all []admin.Room
	for _, id := range ids {
		r, err := s.server.Admin.Room(s.t.Context(), id)
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, r)
	}
	orders := map[string]func(x, y admin.Room) int{
		"": nil, "name": func(x, y admin.Room) int {
			return cmp.Compare(strings.ToLower(x.Called()), strings.ToLower(y.Called()))
		},
		"members": func(x, y admin.Room) int { return cmp.Compare(x.Members, y.Members) }, "state": func(x, y admin.Room) int { return cmp.Compare(x.States, y.States) },
	}
	for sort, order := range orders {
		for _, q := range []admin.RoomQuery{{}, {Descending: true}, {Search: "room 3"}, {Public: new(true), Descending: true}, {Blocked: new(true)}, {Encrypted: new(false)}} {
			want := slices.DeleteFunc(slices.Clone(all), func(r admin.Room) bool {
				return q.Public != nil && r.Public != *q.Public || q.Blocked != nil && r.Blocked != *q.Blocked || q.Encrypted != nil && (r.Encryption != nil) != *q.Encrypted ||
					!strings.Contains(strings.ToLower(r.Called()), q.Search)
			})
			switch {
			case order != nil:
				slices.SortStableFunc(want, func(x, y admin.Room) int {
					if q.Descending {
						x, y = y, x
					}
					return order(x, y)
				})
			case q.Descending:
				slices.Reverse(want)
			}
			parts(func(from, limit int) {
				q.Sort, q.From, q.Limit = sort, from, limit
				got, total, err := s.server.Admin.List(s.t.Context(), q)
				if diff := gocmp.Diff(append([]admin.Room{}, some(want, from, limit)...), append([]admin.Room{}, got...)); err != nil || total != len(want) || diff != "" {
					s.t.Errorf("%+v: %d of %d %v\n%s", q, total, len(want), err, diff)
				}
			})
		}
	}
}
