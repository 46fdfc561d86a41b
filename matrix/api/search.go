package api

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/search"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

// Limits of searches.
const (
	maxTerms   = 20
	maxRanked  = 500 // of the newest events that fit, which are ordered by how well they do
	maxResults = 100
)

// searchRequest is what somebody looks for (clause client-server API, POST /search).
type searchRequest struct {
	Term     string         `json:"search_term"`
	Keys     []string       `json:"keys"`
	Filter   searchFilter   `json:"filter"`
	Order    string         `json:"order_by"`
	Context  *searchContext `json:"event_context"`
	State    bool           `json:"include_state"`
	Grouping map[string][]struct {
		Key string `json:"key"`
	} `json:"groupings"`
}

type searchFilter struct {
	sync.EventFilter

	Rooms    []string `json:"rooms"`
	NotRooms []string `json:"not_rooms"`
}

type searchContext struct {
	Before  *int `json:"before_limit"`
	After   *int `json:"after_limit"`
	Profile bool `json:"include_profile"`
}

// hit is an event that was found.
type hit struct {
	room  *room.Room
	event *room.Entry
	order int64
	rank  float64
}

// finding is a search under way.
type finding struct {
	*searchRequest

	a     *API
	q     *request
	terms []string
	hits  []hit // those that fit by their words, newest first
	rooms map[string]*room.Room
	group string // of a further page: room_id or sender
	of    string // which one of those
	from  int64  // of a further page: the order before which it is or, where they are ranked, how many are before it
}

// search finds events in the rooms of a user (clause client-server API, server side search).
func (a *API) search(q *request) (any, error) {
	var in struct {
		Categories struct {
			Events *searchRequest `json:"room_events"`
		} `json:"search_categories"`
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if in.Categories.Events == nil {
		return map[string]any{"search_categories": empty}, nil
	}
	f := &finding{searchRequest: in.Categories.Events, a: a, q: q, rooms: map[string]*room.Room{}}
	if err := f.check(); err != nil {
		return nil, err
	}
	if err := a.Search.Wait(q.Context()); err != nil {
		return nil, err
	}
	if err := f.find(); err != nil {
		return nil, err
	}
	out, err := f.page()
	return map[string]any{"search_categories": map[string]any{"room_events": out}}, err
}

func (f *finding) check() error {
	f.terms = search.Words(f.Term)
	if f.terms = f.terms[:min(len(f.terms), maxTerms)]; f.Term == "" {
		return missing("search_term")
	}
	for _, key := range f.Keys {
		if search.Keys[key] == "" {
			return invalidParam("there is no key " + key)
		}
	}
	if len(f.Keys) == 0 {
		f.Keys = slices.Sorted(maps.Keys(search.Keys))
	}
	if f.Order != "" && f.Order != "rank" && f.Order != "recent" {
		return invalidParam("order_by is rank or recent")
	}
	for _, g := range f.Grouping["group_by"] {
		if g.Key != "room_id" && g.Key != "sender" {
			return invalidParam("groups are by room_id or sender")
		}
	}
	if f.Filter.Limit <= 0 {
		f.Filter.Limit = 10
	}
	f.Filter.Limit = min(f.Filter.Limit, maxResults)
	if next := f.q.URL.Query().Get("next_batch"); next != "" {
		return f.resume(next)
	}
	return nil
}

// token says where a page ends; a group's page may name it.
func token(group, of string, at int64) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d\n%s\n%s", at, group, of))
}

func (f *finding) resume(next string) error {
	text, err := base64.RawURLEncoding.DecodeString(next)
	parts := strings.SplitN(string(text), "\n", 3)
	if err != nil || len(parts) != 3 {
		return invalidParam("next_batch is not of this server")
	}
	if f.from, err = strconv.ParseInt(parts[0], 10, 64); err != nil || f.from <= 0 {
		return invalidParam("next_batch is not of this server")
	}
	f.group, f.of = parts[1], parts[2]
	return nil
}

// find finds the events that have the words, in the rooms where the user is or was.
func (f *finding) find() error {
	var numbers map[int64]string
	if err := f.a.Stream.DB().View(f.q.Context(), func(tx table.Tx) (err error) {
		numbers, err = f.places(tx)
		return err
	}); err != nil {
		return err
	}
	if len(f.terms) == 0 { // nothing but signs
		return nil
	}
	for number, id := range numbers {
		r, err := f.a.Rooms.Find(f.q.Context(), id)
		if err != nil {
			return err
		}
		f.rooms[id] = r
		var orders []int64
		if err := f.a.Stream.DB().View(f.q.Context(), func(tx table.Tx) (err error) {
			orders, err = search.Find(tx, number, f.terms)
			return err
		}); err != nil {
			return err
		}
		for _, order := range orders {
			f.hits = append(f.hits, hit{room: r, order: order})
		}
	}
	slices.SortFunc(f.hits, func(a, b hit) int { return cmp.Compare(b.order, a.order) })
	return nil
}

// places are the rooms that are searched, by their numbers.
func (f *finding) places(tx table.Tx) (map[int64]string, error) {
	all, err := store.Members.All(tx, table.Range{Prefix: []any{f.q.login.User}})
	if err != nil {
		return nil, err
	}
	found := map[int64]string{}
	for _, m := range all {
		if m.Forgotten || m.Membership == matrix.Invite || m.Membership == matrix.Knock {
			continue
		}
		r, ok, err := store.Rooms.Get(tx, m.Room)
		if err != nil {
			return nil, err
		}
		if ok && (f.Filter.Rooms == nil || slices.Contains(f.Filter.Rooms, r.RoomID)) && !slices.Contains(f.Filter.NotRooms, r.RoomID) {
			found[r.ID] = r.RoomID
		}
	}
	return found, nil
}

// look reads an event that has the words, and says whether it is one of those that are looked for, which the user may see.
func (f *finding) look(h *hit) (bool, error) {
	events, err := h.room.Page(f.q.Context(), table.Range{From: h.order, Before: h.order + 1})
	if err != nil || len(events) == 0 || events[0].Redacted != "" || !f.Filter.Wants(events[0].Event) {
		return false, err
	}
	h.event = events[0]
	if f.group == "room_id" && h.room.ID() != f.of || f.group == "sender" && h.event.Sender() != f.of {
		return false, nil
	}
	for _, key := range f.Keys {
		h.rank = max(h.rank, search.Score(search.Text(h.event.Event, key), f.terms))
	}
	if h.rank == 0 {
		return false, nil
	}
	seen, err := h.room.Visible(f.q.Context(), f.q.login.User, events)
	return len(seen) > 0, err
}

// choose are the events of the page, and where the next one begins; 0 if there is none.
func (f *finding) choose() (page []hit, next int64, err error) {
	recent := f.Order == "recent"
	for i, h := range f.hits {
		if recent && f.from > 0 && h.order >= f.from {
			continue
		}
		ok, err := f.look(&h)
		if err != nil {
			return nil, 0, err
		}
		if !ok {
			continue
		}
		page = append(page, h)
		if recent && len(page) == f.Filter.Limit {
			if i < len(f.hits)-1 {
				next = h.order
			}
			return page, next, nil
		}
		if len(page) == maxRanked {
			break
		}
	}
	if recent {
		return page, 0, nil
	}
	slices.SortStableFunc(page, func(a, b hit) int { return cmp.Compare(b.rank, a.rank) })
	first := int(min(f.from, int64(len(page))))
	last := min(first+f.Filter.Limit, len(page))
	if last < len(page) {
		next = int64(last)
	}
	return page[first:last], next, nil
}

// page is the answer.
func (f *finding) page() (any, error) {
	page, next, err := f.choose()
	if err != nil {
		return nil, err
	}
	results := []any{}
	groups := map[string]map[string]*searchGroup{}
	states := map[string][]json.RawMessage{}
	for i, h := range page {
		shown, err := f.a.clients(f.q, h.room, []*room.Entry{h.event})
		if err != nil {
			return nil, err
		}
		one := map[string]any{"rank": h.rank, "result": shown[0]}
		if f.Context != nil {
			if one["context"], err = f.context(h); err != nil {
				return nil, err
			}
		}
		results = append(results, one)
		for _, g := range f.Grouping["group_by"] {
			of := map[string]string{"room_id": h.room.ID(), "sender": h.event.Sender()}[g.Key]
			if groups[g.Key] == nil {
				groups[g.Key] = map[string]*searchGroup{}
			}
			if groups[g.Key][of] == nil {
				groups[g.Key][of] = &searchGroup{Order: i}
			}
			group := groups[g.Key][of]
			if group.Results = append(group.Results, h.event.ID()); next != 0 && f.Order == "recent" {
				group.Next = token(g.Key, of, h.order)
			}
		}
		if f.State && states[h.room.ID()] == nil && h.room.Membership(f.q.login.User) == matrix.Join {
			for _, e := range h.room.States("") {
				states[h.room.ID()] = append(states[h.room.ID()], sync.Client(e, f.q.login.User, f.q.login.Device, true))
			}
		}
	}
	out := map[string]any{"count": len(f.hits), "results": results, "highlights": f.terms}
	if next != 0 {
		out["next_batch"] = token(f.group, f.of, next)
	}
	if len(f.Grouping["group_by"]) > 0 {
		out["groups"] = groups
	}
	if f.State {
		out["state"] = states
	}
	return out, nil
}

// searchGroup are the results of a room, or of a sender.
type searchGroup struct {
	Next    string   `json:"next_batch,omitempty"`
	Order   int      `json:"order"`
	Results []string `json:"results"`
}

// context are the events around one that was found.
func (f *finding) context(h hit) (any, error) {
	count := func(n *int) int {
		if n == nil {
			return 5
		}
		return min(max(*n, 0), 50)
	}
	before, after, err := f.a.around(f.q, h.room, h.event, count(f.Context.Before), count(f.Context.After), &sync.EventFilter{})
	if err != nil {
		return nil, err
	}
	start, end := h.event, h.event
	if len(before) > 0 {
		start = before[len(before)-1]
	}
	if len(after) > 0 {
		end = after[len(after)-1]
	}
	out := map[string]any{"start": sync.Token(start.Order - 1), "end": sync.Token(end.Order)}
	profiles := map[string]map[string]string{}
	for name, events := range map[string][]*room.Entry{"events_before": before, "events_after": after} {
		if out[name], err = f.a.clients(f.q, h.room, events); err != nil {
			return nil, err
		}
	}
	if !f.Context.Profile {
		return out, nil
	}
	for _, e := range slices.Concat(before, []*room.Entry{h.event}, after) {
		m, err := h.room.At(f.q.Context(), e.After, matrix.Key{Type: matrix.TypeMember, StateKey: e.Sender()})
		if err != nil {
			return nil, err
		}
		if m == nil {
			continue
		}
		p := map[string]string{}
		for _, name := range profileNames {
			if s := m.Content().Get(name).String(); s != "" {
				p[name] = s
			}
		}
		profiles[e.Sender()] = p
	}
	out["profile_info"] = profiles
	return out, nil
}
