package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

// deprecatedRoutes are what /sync does now, as old clients and guests who look into a room ask for it (clauses client-server API, GET events, GET initialSync, and
// room previews).
func (a *API) deprecatedRoutes() {
	a.in("GET events", a.events)
	a.in("GET events/{event}", a.anyEvent)
	a.in("GET initialSync", a.initialSync)
	a.in("GET rooms/{room}/initialSync", a.roomInitialSync)
}

// maxNews is how many events of a room one answer to GET events has.
const maxNews = 1000

// news are some events, from where they are and up to where.
type news struct {
	Start string            `json:"start,omitempty"`
	End   string            `json:"end"`
	Chunk []json.RawMessage `json:"chunk"`
}

// events waits for what is new since a token; without one, from now on.
func (a *API) events(q *request) (any, error) {
	query := q.URL.Query()
	in := &sync.Request{Filter: &sync.Filter{}, User: q.login.User, Device: q.login.Device, NoDevice: true, Since: a.Stream.Current()}
	var err error
	if s := query.Get("from"); s != "" {
		if err = a.Syncer.Told(s, in); err != nil {
			return nil, err
		}
	}
	if s := query.Get("timeout"); s != "" {
		if in.Timeout, err = timeout(s); err != nil {
			return nil, err
		}
	}
	in.Filter.Room.Timeline.Limit = new(maxNews)
	if id := query.Get("room_id"); id != "" {
		q.SetPathValue("room", id)
		r, err := a.readable(q)
		if err != nil {
			return nil, err
		}
		if r.Membership(in.User) != matrix.Join {
			return a.peek(q, r, in)
		}
		in.Filter.Room.Rooms = []string{id}
	}
	resp, err := a.Syncer.Do(q.Context(), in)
	if err != nil {
		return nil, err
	}
	out := news{Start: a.Syncer.Token(in.Since), End: resp.NextBatch, Chunk: []json.RawMessage{}}
	if resp.Presence != nil {
		out.Chunk = append(out.Chunk, resp.Presence.Events...)
	}
	if resp.Rooms == nil {
		return out, nil
	}
	for _, id := range slices.Sorted(maps.Keys(resp.Rooms.Invite)) {
		if e := a.invitation(q, id); e != nil {
			out.Chunk = append(out.Chunk, e)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(resp.Rooms.Join)) {
		r := resp.Rooms.Join[id]
		out.Chunk = append(out.Chunk, inRoom(id, r.Timeline.Events, r.Ephemeral.Events)...)
	}
	for _, id := range slices.Sorted(maps.Keys(resp.Rooms.Leave)) {
		out.Chunk = append(out.Chunk, inRoom(id, resp.Rooms.Leave[id].Timeline.Events)...)
	}
	return out, nil
}

// peek waits for what is new in a room of which the user is no member.
func (a *API) peek(q *request, r *room.Room, in *sync.Request) (any, error) {
	a.Syncer.Peek(q.Context(), r, in.Since, in.Timeout)
	found, end, err := a.page(q, r, table.Range{From: in.Since + 1}, maxNews, &sync.EventFilter{})
	if err != nil {
		return nil, err
	}
	out := news{Start: a.Syncer.Token(in.Since), End: a.Syncer.Token(max(in.Since, r.Last()))}
	if end > 0 {
		out.End = a.Syncer.Token(end - 1)
	}
	out.Chunk, err = a.clients(q, r, found)
	return out, err
}

// inRoom are events that say which room they are of.
func inRoom(id string, all ...[]json.RawMessage) (found []json.RawMessage) {
	for _, e := range slices.Concat(all...) {
		if v, err := canonical.Parse(e, canonical.Lax); err == nil {
			found = append(found, v.With("room_id", canonical.Text(id)).JSON())
		}
	}
	return found
}

// invitation is the event by which a user was invited to a room, nil if it is not known.
func (a *API) invitation(q *request, id string) json.RawMessage {
	r, err := a.Rooms.Find(q.Context(), id)
	if err != nil {
		return nil
	}
	e := r.State(matrix.Key{Type: matrix.TypeMember, StateKey: q.login.User})
	if e == nil {
		return nil
	}
	return sync.Client(e, q.login.User, q.login.Device, true)
}

// anyEvent is an event by its id alone.
func (a *API) anyEvent(q *request) (any, error) {
	if err := a.Stream.DB().View(q.Context(), func(tx table.Tx) error {
		e, ok, err := store.FindEvent(tx, q.PathValue("event"))
		if err != nil || !ok {
			return err
		}
		r, _, err := store.Rooms.Get(tx, e.Room)
		q.SetPathValue("room", r.RoomID)
		return err
	}); err != nil {
		return nil, err
	}
	found, err := a.event(q)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound {
		err = notFound("the event was not found, or you may not read it")
	}
	return found, err
}

// roomInfo is a room as somebody sees it who begins.
type roomInfo struct {
	ID          string            `json:"room_id"`
	Membership  string            `json:"membership,omitempty"`
	Invite      json.RawMessage   `json:"invite,omitempty"`
	Messages    *news             `json:"messages,omitempty"`
	State       []json.RawMessage `json:"state,omitempty"`
	Visibility  string            `json:"visibility,omitempty"`
	AccountData []json.RawMessage `json:"account_data,omitempty"`
}

// initialSync is the state of all rooms of a user, with their newest messages.
func (a *API) initialSync(q *request) (any, error) {
	n, err := limit(q, 10, maxNews)
	if err != nil {
		return nil, err
	}
	in := &sync.Request{Filter: &sync.Filter{}, User: q.login.User, Device: q.login.Device, NoDevice: true, Initial: true, After: sync.StateAfter}
	in.Filter.Room.Timeline.Limit = new(max(n, 1))
	in.Filter.Room.IncludeLeave = q.URL.Query().Get("archived") == "true"
	resp, err := a.Syncer.Do(q.Context(), in)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"end": resp.NextBatch, "presence": listed(resp.Presence), "account_data": listed(resp.AccountData)}
	rooms := []roomInfo{}
	lists := cmp.Or(resp.Rooms, &sync.RoomLists{})
	for _, id := range slices.Sorted(maps.Keys(lists.Invite)) {
		rooms = append(rooms, roomInfo{ID: id, Membership: matrix.Invite, Invite: a.invitation(q, id)})
	}
	add := func(id string, t sync.Timeline, after *sync.Events, data []json.RawMessage) error {
		r, err := a.Rooms.Find(q.Context(), id)
		if err != nil {
			return err
		}
		events := t.Events
		if n == 0 {
			t.PrevBatch, events = resp.NextBatch, nil
		}
		rooms = append(rooms, roomInfo{
			ID: id, Membership: r.Membership(in.User), State: inRoom(id, listed(after)), Visibility: visible(r), AccountData: data,
			Messages: &news{Start: t.PrevBatch, End: resp.NextBatch, Chunk: append([]json.RawMessage{}, inRoom(id, events)...)},
		})
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(lists.Join)) {
		if err := add(id, lists.Join[id].Timeline, lists.Join[id].After, lists.Join[id].AccountData.Events); err != nil {
			return nil, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(lists.Leave)) {
		if err := add(id, lists.Leave[id].Timeline, lists.Leave[id].After, nil); err != nil {
			return nil, err
		}
	}
	out["rooms"] = rooms
	return out, nil
}

func listed(e *sync.Events) []json.RawMessage {
	if e == nil {
		return []json.RawMessage{}
	}
	return e.Events
}

func visible(r *room.Room) string {
	if r.Public() {
		return "public"
	}
	return "private"
}

// roomInitialSync is the state of one room, with its newest messages: for its members, for those who were, and for all where the world may read.
func (a *API) roomInitialSync(q *request) (any, error) {
	n, err := limit(q, 10, maxNews)
	if err != nil {
		return nil, err
	}
	r, state, err := a.stateFor(q)
	if err != nil {
		return nil, err
	}
	out := roomInfo{ID: r.ID(), Membership: r.Membership(q.login.User), Visibility: visible(r)}
	for _, e := range slices.SortedFunc(maps.Values(state), func(x, y *room.Entry) int { return cmp.Compare(x.Order, y.Order) }) {
		out.State = append(out.State, sync.Client(e, q.login.User, q.login.Device, true))
	}
	now := a.Stream.Current()
	found, end, err := a.page(q, r, table.Range{Before: now + 1, Descending: true}, n, &sync.EventFilter{})
	if err != nil {
		return nil, err
	}
	slices.Reverse(found)
	out.Messages = &news{End: a.Syncer.Token(now)}
	if end > 0 {
		out.Messages.Start = a.Syncer.Token(end - 1)
	}
	if out.Messages.Chunk, err = a.clients(q, r, found); err != nil {
		return nil, err
	}
	out.AccountData, err = a.roomData(q, r.ID())
	return out, err
}

// roomData are a user's account data of a room, as events.
func (a *API) roomData(q *request, id string) (found []json.RawMessage, err error) {
	return found, a.Stream.DB().View(q.Context(), func(tx table.Tx) error {
		for d, err := range store.AllAccountData.Scan(tx, table.Range{Prefix: []any{q.login.User, id}}) {
			if err != nil {
				return err
			}
			if d.Deleted() {
				continue
			}
			e, err := json.Marshal(map[string]any{"type": d.Type, "content": json.RawMessage(d.JSON)})
			if err != nil {
				return err
			}
			found = append(found, e)
		}
		return nil
	})
}
