package api

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/sync"
)

const (
	typeSpaceChild = "m.space.child"
	typeSpace      = "m.space"
)

// maxHierarchy is how many rooms of a space are looked at.
const maxHierarchy = 2000

// spaceRoom is a room in a space's hierarchy.
type spaceRoom struct {
	publicRoom

	Children   []json.RawMessage `json:"children_state"`
	Allowed    []string          `json:"allowed_room_ids,omitempty"`
	Version    string            `json:"room_version,omitempty"`
	Encryption string            `json:"encryption,omitempty"`
	Membership string            `json:"membership,omitempty"`
}

func (a *API) spaceRoutes() {
	a.in("GET rooms/{room}/hierarchy", a.hierarchy)
	a.in("GET room_summary/{room}", a.roomSummary)
	for _, path := range []string{"summary/{room}", "rooms/{room}/summary"} { // where clients of before v1.15 ask (MSC3266)
		a.in("GET /_matrix/client/unstable/im.nheko.summary/"+path, a.roomSummary)
	}
}

// hierarchy is the rooms below a space, each before those below it (clause client-server API, spaces). A page's token is how many rooms are before it.
func (a *API) hierarchy(q *request) (any, error) {
	n, err := limit(q, 50, 100)
	if err != nil {
		return nil, err
	}
	query := q.URL.Query()
	depth, skip := maxHierarchy, 0
	for name, to := range map[string]*int{"max_depth": &depth, "from": &skip} {
		if s := query.Get(name); s != "" {
			if *to, err = strconv.Atoi(s); err != nil || *to < 0 {
				return nil, invalidParam(name + " is not a number")
			}
		}
	}
	root, err := a.Rooms.Find(q.Context(), q.PathValue("room"))
	if err != nil || !a.mayFind(q, root) {
		return nil, forbidden("you may not see this room")
	}
	w := walk{a: a, q: q, suggested: query.Get("suggested_only") == "true", depth: depth, seen: map[string]bool{}}
	w.visit(root, 0)
	total := len(w.rooms)
	first, last := min(skip, total), min(skip+max(n, 1), total)
	answer := map[string]any{"rooms": append([]spaceRoom{}, w.rooms[first:last]...)}
	if last < total {
		answer["next_batch"] = strconv.Itoa(last)
	}
	return answer, nil
}

// mayFind says whether somebody may know of a room: members, those who are invited, and whoever could join or read it.
func (a *API) mayFind(q *request, r *room.Room) bool {
	if m := r.Membership(q.login.User); q.sees || m == matrix.Join || m == matrix.Invite {
		return true
	}
	p := describe(r)
	if p.World || p.Rule == "public" || p.Rule == "knock" || p.Rule == "knock_restricted" {
		return true
	}
	for _, id := range allowed(r) {
		if other, err := a.Rooms.Find(q.Context(), id); err == nil && other.Membership(q.login.User) == matrix.Join {
			return true
		}
	}
	return false
}

// allowed are the rooms whose members may join a restricted room.
func allowed(r *room.Room) (ids []string) {
	rules := r.State(matrix.Key{Type: matrix.TypeJoinRules})
	if rules == nil {
		return nil
	}
	for allow := range rules.Content().Get("allow").Elements {
		if allow.Get("type").String() == "m.room_membership" {
			ids = append(ids, allow.Get("room_id").String())
		}
	}
	return ids
}

// walk goes down a space.
type walk struct {
	a         *API
	q         *request
	suggested bool
	depth     int
	seen      map[string]bool
	rooms     []spaceRoom
}

func (w *walk) visit(r *room.Room, depth int) {
	if w.seen[r.ID()] || len(w.rooms) == maxHierarchy || !w.a.mayFind(w.q, r) {
		return
	}
	w.seen[r.ID()] = true
	s := summary(r)
	children := w.children(r)
	for _, c := range children {
		s.Children = append(s.Children, sync.Client(c, w.q.login.User, w.q.login.Device, false))
	}
	w.rooms = append(w.rooms, s)
	if depth >= w.depth {
		return
	}
	for _, c := range children {
		id, _ := c.StateKey()
		if child, err := w.a.Rooms.Find(w.q.Context(), id); err == nil {
			w.visit(child, depth+1)
		}
	}
}

// children are the events that name a space's rooms, in their order: by their order, then by time, then by id.
func (w *walk) children(r *room.Room) []*room.Entry {
	if describe(r).Type != typeSpace {
		return nil
	}
	var all []*room.Entry
	for _, e := range r.States(typeSpaceChild) {
		if e.Content().Get("via").Kind() == canonical.Array && (!w.suggested || e.Content().Get("suggested").IsTrue()) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(x, y *room.Entry) int {
		a, b := x.Content().Get("order").String(), y.Content().Get("order").String()
		if (a == "") != (b == "") { // those without an order are last
			return strings.Compare(b, a)
		}
		return cmp.Or(strings.Compare(a, b), cmp.Compare(x.Timestamp(), y.Timestamp()), strings.Compare(x.Key().StateKey, y.Key().StateKey))
	})
	return all
}

func summary(r *room.Room) spaceRoom {
	s := spaceRoom{publicRoom: describe(r), Children: []json.RawMessage{}, Allowed: allowed(r), Version: r.Version().ID}
	if e := r.State(matrix.Key{Type: "m.room.encryption"}); e != nil {
		s.Encryption = e.Content().Get("algorithm").String()
	}
	return s
}

func (a *API) roomSummary(q *request) (any, error) {
	r, err := a.wanted(q, q.PathValue("room"))
	if err != nil || !a.mayFind(q, r) {
		return nil, notFound("there is no such room, or you may not see it")
	}
	s := summary(r)
	s.Membership = r.Membership(q.login.User)
	return s, nil
}
