package admin

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"orrery/matrix"
)

// ACL is which servers may take part in a room.
type ACL struct {
	Room     string     `json:"room_id"`
	Set      bool       `json:"set"` // the room says so; without that all may
	Literals bool       `json:"allow_ip_literals"`
	Allow    []string   `json:"allow"`
	Deny     []string   `json:"deny"`
	Servers  []Standing `json:"servers"`
}

// Standing is whether a server may take part in a room, and why.
type Standing struct {
	Server  string `json:"server"`
	Members int    `json:"members"` // of the room: those who joined, are invited or knocked
	Allowed bool   `json:"allowed"`
	Why     string `json:"why"`
}

// ACL says which servers may take part in a room, and of some servers whether they may; if none is named, of those of its members: the denied ones first, then those with most.
func (a *Admin) ACL(ctx context.Context, id string, servers ...string) (ACL, error) {
	r, err := a.Rooms.Find(ctx, id)
	if err != nil {
		return ACL{}, err
	}
	out := ACL{Room: r.ID(), Literals: true, Allow: []string{}, Deny: []string{}, Servers: []Standing{}}
	list := r.ACL()
	if list != nil {
		out.Set, out.Literals = true, list.Literals
		out.Allow, out.Deny = append(out.Allow, list.Allow()...), append(out.Deny, list.Deny()...)
	}
	members := map[string]int{}
	for _, e := range r.States(matrix.TypeMember) {
		if who, _ := e.StateKey(); present(e.Membership()) {
			members[matrix.Domain(who)]++
		}
	}
	named := len(servers) > 0
	if !named {
		servers = slices.Collect(maps.Keys(members))
	}
	for _, s := range servers {
		v := list.Judge(s)
		out.Servers = append(out.Servers, Standing{s, members[s], v.Allowed, v.String()})
	}
	if !named {
		slices.SortFunc(out.Servers, func(x, y Standing) int {
			return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(y.Members, x.Members), cmp.Compare(x.Server, y.Server))
		})
	}
	return out, nil
}

// rank has those that are denied before others.
func rank(s Standing) int {
	if s.Allowed {
		return 1
	}
	return 0
}

// present says whether somebody is in a room by a membership, or on their way there.
func present(membership string) bool {
	return membership == matrix.Join || membership == matrix.Invite || membership == matrix.Knock
}
