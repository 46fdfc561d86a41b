package admin

import (
	"cmp"
	"context"
	"slices"

	"orrery/matrix"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Federation is what this server's rooms have to do with other servers.
type Federation struct {
	Rooms   int         // all of them
	Open    int         // those in which users of other servers may be: all that were not made with m.federate false
	ACLs    []Room      // those that say which servers may take part, by name
	Servers []Elsewhere // others that memberships name, those with most first
}

// Elsewhere is another server, and how many memberships its users have in this one's rooms.
type Elsewhere struct {
	Server string
	Rooms  int
	Presence
}

// Presence is how many memberships there are of each kind.
type Presence struct{ Joined, Invited, Banned int }

// add counts a membership.
func (p *Presence) add(membership string) {
	switch membership {
	case matrix.Join:
		p.Joined++
	case matrix.Invite, matrix.Knock:
		p.Invited++
	case matrix.Ban:
		p.Banned++
	}
}

// Federation looks at all rooms.
func (a *Admin) Federation(ctx context.Context) (Federation, error) {
	var f Federation
	servers := map[string]*Elsewhere{}
	err := a.Stream.DB().View(ctx, func(tx table.Tx) error {
		keys, err := store.FindStateKeys(tx, described)
		if err != nil {
			return err
		}
		for part, err := range batches(tx, store.Rooms, false, func(last store.Room) any { return last.ID + 1 }) {
			if err != nil {
				return err
			}
			for _, row := range part {
				s, ok, err := a.summaryOf(tx, keys, row)
				if err != nil {
					return err
				}
				if ok {
					f.count(s, servers)
				}
			}
		}
		return nil
	})
	for _, s := range servers {
		f.Servers = append(f.Servers, *s)
	}
	slices.SortFunc(f.ACLs, roomOrders["name"])
	slices.SortFunc(f.Servers, func(x, y Elsewhere) int {
		return cmp.Or(cmp.Compare(y.Joined, x.Joined), cmp.Compare(y.Invited, x.Invited), cmp.Compare(y.Banned, x.Banned), cmp.Compare(x.Server, y.Server))
	})
	return f, err
}

// count takes a room into account.
func (f *Federation) count(in summary, servers map[string]*Elsewhere) {
	f.Rooms++
	if in.room.Federatable {
		f.Open++
	}
	if in.room.ACL {
		f.ACLs = append(f.ACLs, in.room)
	}
	for server, p := range in.elsewhere {
		s := servers[server]
		if s == nil {
			s = &Elsewhere{Server: server}
			servers[server] = s
		}
		s.Rooms++
		s.Joined += p.Joined
		s.Invited += p.Invited
		s.Banned += p.Banned
	}
}
