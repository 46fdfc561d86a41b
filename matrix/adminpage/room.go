package adminpage

import (
	"cmp"
	"net/http"
	"slices"

	"orrery/internal/amount"
	"orrery/matrix"
	"orrery/matrix/admin"
)

// roomFilters are which rooms are listed.
var roomFilters = []choice{{"all", "all"}, {"public", "in the directory"}, {"encrypted", "encrypted"}, {"plain", "not encrypted"}, {"empty", "without members"}, {"blocked", "blocked"}, {"acl", "with a server ACL"}, {"here", "of this server alone"}}

func (p *Pages) rooms(v *visit) error {
	q := admin.RoomQuery{Search: v.FormValue("q"), Sort: v.FormValue("sort"), Descending: v.FormValue("dir") == "b", From: number(v.FormValue("from")), Limit: perPage}
	switch v.FormValue("show") {
	case "public":
		q.Public = new(true)
	case "encrypted":
		q.Encrypted = new(true)
	case "plain":
		q.Encrypted = new(false)
	case "empty":
		q.Empty = new(true)
	case "blocked":
		q.Blocked = new(true)
	case "acl":
		q.ACL = new(true)
	case "here":
		q.Open = new(false)
	}
	shown, total, err := p.c.Admin.List(v.Context(), q)
	if err != nil {
		return err
	}
	return v.render(http.StatusOK, "rooms", map[string]any{
		"Title": "Rooms", "Rooms": shown, "List": v.list(total, len(shown), q.From), "Filters": roomFilters, "Deletions": len(p.c.Admin.Deletions()),
	})
}

// member is one of a room's.
type member struct {
	ID, Name, Is string
	Level        int64
	Creator      bool
}

// kind is how many events of a type are in a room's state.
type kind struct {
	Type string
	N    int
}

func (p *Pages) room(v *visit) error {
	ctx, id := v.Context(), v.PathValue("room")
	about, err := p.c.Admin.Room(ctx, id)
	if err != nil {
		return err
	}
	r, err := p.c.Admin.Rooms.Find(ctx, id)
	if err != nil {
		return err
	}
	aliases, err := p.c.Admin.Aliases(ctx, id)
	if err != nil {
		return err
	}
	size, err := p.c.Admin.Size(ctx, id)
	if err != nil {
		return err
	}
	acl, err := p.acl(v, id)
	if err != nil {
		return err
	}
	levels := r.Levels()
	var members []member
	types := map[string]int{}
	for _, e := range r.States("") {
		types[e.Type()]++
		if who, _ := e.StateKey(); e.Type() == matrix.TypeMember && e.Membership() != matrix.Leave {
			level := levels.User(who)
			members = append(members, member{who, e.Content().Get("displayname").String(), e.Membership(), min(level, 1000), level > 1000})
		}
	}
	slices.SortFunc(members, func(x, y member) int {
		return cmp.Or(cmp.Compare(y.Level, x.Level), cmp.Compare(x.Is, y.Is), cmp.Compare(x.ID, y.ID))
	})
	var state []kind
	for t, n := range types {
		state = append(state, kind{t, n})
	}
	slices.SortFunc(state, func(x, y kind) int { return cmp.Or(cmp.Compare(y.N, x.N), cmp.Compare(x.Type, y.Type)) })
	return v.render(http.StatusOK, "room", map[string]any{
		"Title": about.Called(), "R": about, "Aliases": aliases, "Size": size, "Members": members[:min(len(members), 4*perPage)], "All": len(members), "State": state,
		"ACL": acl,
	})
}

func (p *Pages) deletions(v *visit) error {
	return v.render(http.StatusOK, "deletions", map[string]any{"Title": "Deletions of rooms", "Deletions": p.c.Admin.Deletions()})
}

func (p *Pages) roomActions() map[string]action {
	back := of("rooms", "room")
	return map[string]action{
		"rooms/{room}/block": {
			title: "Block the room", back: back,
			says: func(v *visit) ([]string, error) {
				r, err := p.c.Admin.Room(v.Context(), v.PathValue("room"))
				return []string{"Nobody joins " + r.Called() + " any more.", "Its " + count(r.Members, "member") + " may stay. This can be taken back."}, err
			},
			do: func(v *visit) (string, error) {
				return "The room is blocked.", p.c.Admin.Block(v.Context(), v.PathValue("room"), true)
			},
		},
		"rooms/{room}/unblock": {
			title: "Let people join again", plain: true, back: back,
			do: func(v *visit) (string, error) {
				return "People can join the room again.", p.c.Admin.Block(v.Context(), v.PathValue("room"), false)
			},
		},
		"rooms/{room}/shutdown": {
			title: "Shut the room down", back: same("deletions"),
			fields: []field{{Name: "block", Label: "Block it, too", Kind: "checkbox", Checked: true, Hint: "Nobody joins it again."}},
			says: func(v *visit) ([]string, error) {
				return p.saysShutdown(v, "What was said there is kept.")
			},
			do: func(v *visit) (string, error) {
				_, err := p.c.Admin.Begin(v.Context(), v.PathValue("room"), admin.Deletion{Block: v.on("block")})
				return "The room is being shut down.", err
			},
		},
		"rooms/{room}/purge": {
			title: "Delete the room", back: same("deletions"),
			fields: []field{{Name: "block", Label: "Block it, too", Kind: "checkbox", Hint: "Nobody joins it should it ever come back."}},
			says: func(v *visit) ([]string, error) {
				size, err := p.c.Admin.Size(v.Context(), v.PathValue("room"))
				if err != nil {
					return nil, err
				}
				more := ""
				if size.More {
					more = "more than "
				}
				return p.saysShutdown(v, "All that was said there is removed: "+more+count(size.Events, "event")+" of "+amount.Bytes(size.Bytes)+". Uploads stay.", "This cannot be taken back.")
			},
			do: func(v *visit) (string, error) {
				_, err := p.c.Admin.Begin(v.Context(), v.PathValue("room"), admin.Deletion{Block: v.on("block"), Purge: true})
				return "The room is being deleted.", err
			},
		},
		"rooms/{room}/make-admin": {
			title: "Give a user power in the room", back: back,
			fields: []field{{Name: "user", Label: "User", Kind: "text", Hint: "Whoever is not there is invited. Empty: you."}},
			says: func(v *visit) ([]string, error) {
				r, err := p.c.Admin.Room(v.Context(), v.PathValue("room"))
				return []string{"A user gets as much power in " + r.Called() + " as the member of this server has who has most. All members see it."}, err
			},
			do: func(v *visit) (string, error) {
				user := v.s.user
				if s := v.PostFormValue("user"); s != "" {
					user = p.c.Accounts.Full(s)
				}
				if _, err := p.c.Accounts.User(v.Context(), user); err != nil {
					return "", err
				}
				return user + " has power in the room.", p.c.Admin.Empower(v.Context(), v.PathValue("room"), user)
			},
		},
	}
}

// saysShutdown is what happens to a room's members, and what else.
func (p *Pages) saysShutdown(v *visit, more ...string) ([]string, error) {
	r, err := p.c.Admin.Room(v.Context(), v.PathValue("room"))
	if err != nil {
		return nil, err
	}
	present, err := p.c.Admin.Present(v.Context(), r.ID)
	return append([]string{count(len(present), "user") + " of this server must leave " + r.Called() + ", or " + "lose their invitation.", "It goes out of the directory of rooms."}, more...), err
}
