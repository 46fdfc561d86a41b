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
	maxFound   = 500 // events that have the words, of which a page is chosen
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
	rank  float64
}

// place is a room that is searched, with the orders of events that have the words.
type place struct {
	id     string
	orders []int64
}

// finding is a search under way.
type finding struct {
	*searchRequest

	a     *API
	q     *request
	terms []string
	limit int              // how many are on a page
	rooms map[int64]*place // by their numbers
	hits  []hit            // those that were found and are shown to the user, newest first
	full  bool             // there may be more
	last  int64            // the order of the last event that has the words, whoever may see it
	count int              // what the first page said
	group string           // of a further page: room_id or sender
	of    string           // which one of those
	from  int64            // of a further page: the order before which it is or, where they are ranked, how many are before it
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
	f := &finding{searchRequest: in.Categories.Events, a: a, q: q, rooms: map[int64]*place{}}
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
	if f.limit = 10; f.Filter.Limit != nil && *f.Filter.Limit > 0 {
		f.limit = min(*f.Filter.Limit, maxResults)
	}
	if next := f.q.URL.Query().Get("next_batch"); next != "" {
		return f.resume(next)
	}
	return nil
}

// token says where a page ends; a group's page may name it.
func token(group, of string, at int64, count int) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d\n%d\n%s\n%s", at, count, group, of))
}

func (f *finding) resume(next string) error {
	text, err := base64.RawURLEncoding.DecodeString(next)
	parts := strings.SplitN(string(text), "\n", 4)
	if err != nil || len(parts) != 4 {
		return invalidParam("next_batch is not of this server")
	}
	if f.from, err = strconv.ParseInt(parts[0], 10, 64); err != nil || f.from <= 0 {
		return invalidParam("next_batch is not of this server")
	}
	if f.count, err = strconv.Atoi(parts[1]); err != nil {
		return invalidParam("next_batch is not of this server")
	}
	f.group, f.of = parts[2], parts[3]
	return nil
}

// find looks up events by their words.
func (f *finding) find() error {
	if len(f.terms) == 0 { // nothing but signs
		return nil
	}
	q := store.WordQuery{Begins: f.terms, Ranked: f.Order != "recent", Limit: maxFound}
	if f.Order == "recent" {
		q.Before = f.from
	}
	var found []store.Words
	if err := f.a.Stream.DB().View(f.q.Context(), func(tx table.Tx) error {
		ids, err := f.places(tx)
		if err != nil || len(ids) == 0 {
			return err
		}
		for number, id := range ids {
			q.Rooms = append(q.Rooms, number)
			f.rooms[number] = &place{id: id}
		}
		found, err = store.FindWords(tx, q)
		return err
	}); err != nil {
		return err
	}
	f.full = len(found) == maxFound
	for _, w := range found {
		f.last = w.Order
		p := f.rooms[w.Room]
		p.orders = append(p.orders, w.Order)
	}
	for _, p := range f.rooms {
		if err := f.look(p); err != nil {
			return err
		}
	}
	slices.SortFunc(f.hits, func(a, b hit) int { return cmp.Compare(b.event.Order, a.event.Order) })
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

// look reads events of a room that have the words, and keeps those that are looked for and that the user may see.
func (f *finding) look(p *place) error {
	if len(p.orders) == 0 || f.group == "room_id" && p.id != f.of {
		return nil
	}
	r, err := f.a.Rooms.Find(f.q.Context(), p.id)
	if err != nil {
		return err
	}
	if r.State(matrix.Key{Type: "m.room.encryption"}) != nil { // "The search will not include rooms that are end to end encrypted."
		return nil
	}
	events, err := r.Entries(f.q.Context(), p.orders)
	if err != nil {
		return err
	}
	events = slices.DeleteFunc(events, func(e *room.Entry) bool {
		return e == nil || e.Redacted != "" || !f.Filter.Wants(e.Event) || f.group == "sender" && e.Sender() != f.of
	})
	if events, err = f.a.shown(f.q, r, events); err != nil {
		return err
	}
	for _, e := range events {
		h := hit{room: r, event: e}
		for _, key := range f.Keys {
			h.rank = max(h.rank, search.Score(search.Text(e.Event, key), f.terms))
		}
		if h.rank > 0 {
			f.hits = append(f.hits, h)
		}
	}
	return nil
}

// choose are the events of the page, and where the next one begins; 0 if there is none.
func (f *finding) choose() (page []hit, next int64) {
	limit := f.limit
	if f.Order == "recent" {
		switch {
		case len(f.hits) > limit:
			return f.hits[:limit], f.hits[limit-1].event.Order
		case f.full: // there may be more behind those that were looked at
			return f.hits, f.last
		}
		return f.hits, 0
	}
	slices.SortStableFunc(f.hits, func(a, b hit) int { return cmp.Compare(b.rank, a.rank) })
	first := int(min(f.from, int64(len(f.hits))))
	last := min(first+limit, len(f.hits))
	if last < len(f.hits) {
		next = int64(last)
	}
	return f.hits[first:last], next
}

// page is the answer.
func (f *finding) page() (any, error) {
	page, next := f.choose()
	count := cmp.Or(f.count, len(f.hits)) // of the first page; what the user may not see is not counted
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
				group.Next = token(g.Key, of, h.event.Order, 0)
			}
		}
		if f.State && states[h.room.ID()] == nil && h.room.Membership(f.q.login.User) == matrix.Join {
			for _, e := range h.room.States("") {
				states[h.room.ID()] = append(states[h.room.ID()], sync.Client(e, f.q.login.User, f.q.login.Device, true))
			}
		}
	}
	out := map[string]any{"count": count, "results": results, "highlights": append([]string{}, f.terms...)}
	if next != 0 {
		out["next_batch"] = token(f.group, f.of, next, count)
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
	out := map[string]any{"start": f.a.Syncer.Token(start.Order - 1), "end": f.a.Syncer.Token(end.Order)}
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
