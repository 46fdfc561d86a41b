package api

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// directoryRoutes are the rooms that everybody may find, and the users (clauses client-server API, published room directory and user directory).
func (a *API) directoryRoutes() {
	a.in("POST user_directory/search", a.searchUsers)
	a.open("GET publicRooms", func(q *request) (any, error) {
		n, err := limit(q, 100, 1000)
		if err != nil {
			return nil, err
		}
		return a.published(q, n, q.URL.Query().Get("since"), canonical.Value{})
	})
	a.in("POST publicRooms", func(q *request) (any, error) {
		n, ok := q.body.Get("limit").Int()
		if !ok || n < 0 {
			n = 100
		}
		return a.published(q, int(min(n, 1000)), q.body.Get("since").String(), q.body.Get("filter"))
	})
	a.open("GET directory/list/room/{room}", func(q *request) (any, error) {
		r, err := a.Rooms.Find(q.Context(), q.PathValue("room"))
		if err != nil {
			return nil, err
		}
		return map[string]string{"visibility": map[bool]string{true: "public", false: "private"}[r.Public()]}, nil
	})
	a.in("PUT directory/list/room/{room}", func(q *request) (any, error) {
		r, err := a.member(q)
		if err != nil {
			return nil, err
		}
		visibility := q.body.Get("visibility").String()
		if visibility != "" && visibility != "public" && visibility != "private" {
			return nil, invalidParam("visibility is public or private")
		}
		return empty, r.Do(q.Context(), func(t *room.Turn) error {
			if levels := t.Levels(); levels.User(q.login.User) < levels.Event("m.room.canonical_alias", true) {
				return forbidden("you may not publish the room")
			}
			t.Publish(visibility != "private")
			return nil
		})
	})
}

// publicRoom is a room in the directory.
type publicRoom struct {
	ID     string `json:"room_id"`
	Name   string `json:"name,omitempty"`
	Topic  string `json:"topic,omitempty"`
	Alias  string `json:"canonical_alias,omitempty"`
	Avatar string `json:"avatar_url,omitempty"`
	Rule   string `json:"join_rule,omitempty"`
	Type   string `json:"room_type,omitempty"`
	Joined int    `json:"num_joined_members"`
	World  bool   `json:"world_readable"`
	Guests bool   `json:"guest_can_join"`
}

func describe(r *room.Room) publicRoom {
	text := func(kind, field string) string {
		if e := r.State(matrix.Key{Type: kind}); e != nil {
			return e.Content().Get(field).String()
		}
		return ""
	}
	return publicRoom{
		ID: r.ID(), Name: text("m.room.name", "name"), Topic: text("m.room.topic", "topic"), Alias: text("m.room.canonical_alias", "alias"), Avatar: text("m.room.avatar", "url"),
		Rule: text(matrix.TypeJoinRules, "join_rule"), Type: text(matrix.TypeCreate, "type"), Joined: r.Size(),
		World: text(matrix.TypeHistoryVisibility, "history_visibility") == "world_readable", Guests: text("m.room.guest_access", "guest_access") == "can_join",
	}
}

// published is a page of the directory: the largest rooms first. A page's token is how many rooms are before it.
func (a *API) published(q *request, n int, since string, filter canonical.Value) (any, error) {
	skip := 0
	if since != "" {
		var err error
		if skip, err = strconv.Atoi(since); err != nil || skip < 0 {
			return nil, invalidParam("since is not a token of this server")
		}
	}
	ids, err := a.listed(q)
	if err != nil {
		return nil, err
	}
	all := []publicRoom{}
	for _, id := range ids {
		r, err := a.Rooms.Find(q.Context(), id)
		if err != nil {
			return nil, err
		}
		if p := describe(r); fits(p, filter) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(x, y publicRoom) int { return cmp.Or(cmp.Compare(y.Joined, x.Joined), strings.Compare(x.ID, y.ID)) })
	total := len(all)
	first, last := min(skip, total), min(skip+n, total)
	answer := map[string]any{"chunk": all[first:last], "total_room_count_estimate": total}
	if last < total {
		answer["next_batch"] = strconv.Itoa(last)
	}
	if first > 0 {
		answer["prev_batch"] = strconv.Itoa(max(0, first-n))
	}
	return answer, nil
}

// publicIDs are the ids of the rooms in the directory.
func (a *API) publicIDs(ctx context.Context) (ids []string, err error) {
	err = a.Stream.DB().View(ctx, func(tx table.Tx) error {
		rows, err := store.Rooms.All(tx, table.Range{Index: "public", Prefix: []any{int64(1)}})
		for _, row := range rows {
			ids = append(ids, row.RoomID)
		}
		return err
	})
	return ids, err
}

func lower(s string) string { return strings.ToLower(s) }

// contains says whether a text has a term in it, which is in lower case.
func contains(text, term string) bool { return strings.Contains(lower(text), term) }

func fits(p publicRoom, filter canonical.Value) bool {
	if term := lower(filter.Get("generic_search_term").String()); !contains(p.Name, term) && !contains(p.Topic, term) && !contains(p.Alias, term) {
		return false
	}
	types := filter.Get("room_types")
	if types.Kind() != canonical.Array {
		return true
	}
	for t := range types.Elements { // null is a room without type
		if t.String() == p.Type {
			return true
		}
	}
	return false
}

// searchUsers finds users by their ids or names among those who share a room with the user, or are in a room that everybody may join (clause client-server
// API, user directory).
func (a *API) searchUsers(q *request) (any, error) {
	term := lower(q.body.Get("search_term").String())
	n, ok := q.body.Get("limit").Int()
	if !ok || n <= 0 {
		n = 10
	}
	n = min(n, 100)
	rooms, err := a.roomsOf(q.Context(), q.login.User, matrix.Join)
	if err != nil {
		return nil, err
	}
	public, err := a.publicIDs(q.Context())
	if err != nil {
		return nil, err
	}
	type hit struct {
		User   string `json:"user_id"`
		Name   string `json:"display_name,omitempty"`
		Avatar string `json:"avatar_url,omitempty"`
	}
	found := map[string]hit{}
	for _, id := range slices.Concat(rooms, public) {
		r, err := a.Rooms.Find(q.Context(), id)
		if err != nil {
			return nil, err
		}
		for _, e := range r.States(matrix.TypeMember) {
			who, _ := e.StateKey()
			h := hit{who, e.Content().Get("displayname").String(), e.Content().Get("avatar_url").String()}
			if e.Membership() == matrix.Join && who != q.login.User && (contains(who, term) || contains(h.Name, term)) {
				found[who] = h
			}
		}
	}
	all := []hit{}
	for _, h := range found {
		all = append(all, h)
	}
	slices.SortFunc(all, func(x, y hit) int { return cmp.Compare(x.User, y.User) })
	limited := int64(len(all)) > n
	return map[string]any{"results": all[:min(int64(len(all)), n)], "limited": limited}, nil
}
