package sync

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync/window"
	"orrery/matrix/table"
)

// SlidingRequest is what a client asks by Simplified Sliding Sync (MSC4186).
type SlidingRequest struct {
	User, Device string
	Connection   string // conn_id
	Pos          string // "" begins a connection
	Timeout      time.Duration
	Unread       bool // unread events are counted
	Rooms        window.Request
	Extensions   Extensions
}

// SlidingResponse is what is new.
type SlidingResponse struct {
	Pos    string
	Counts map[string]int // how many rooms fit each list
	Rooms  map[string]*SlidingRoom
	Extended
}

// SlidingRoom is what is new of a room (MSC4186, RoomResult).
type SlidingRoom struct {
	Initial, Expanded, Limited bool

	Membership string
	Lists      []string
	Bump       int64
	Stripped   []json.RawMessage // for who is no member

	Name, Avatar    *Field // nil: as before
	Heroes          []Hero
	Direct          *bool
	State, Timeline []json.RawMessage
	Prev            string
	Live            int
	Joined, Invited *int

	Notifications, Highlights int
}

// Field is a text that a room may have.
type Field struct{ Value *string }

// Hero is somebody who helps to name a room that has no name.
type Hero struct {
	User   string `json:"user_id"`
	Name   string `json:"displayname,omitempty"`
	Avatar string `json:"avatar_url,omitempty"`
}

// Sliding makes an answer: at once on a new connection, or if there is anything new; otherwise when there is, or after the timeout.
func (s *Syncer) Sliding(ctx context.Context, q SlidingRequest) (*SlidingResponse, error) {
	c, had, err := s.connections.open(device{q.User, q.Device}, q.Connection, q.Pos, s.now())
	if err != nil {
		return nil, err
	}
	woken, done := s.wait(q.User)
	defer done()
	timeout := time.NewTimer(q.Timeout)
	defer timeout.Stop()
	last := q.Pos == "" || q.Timeout <= 0
	for {
		s.news.settle()
		a := &sliding{s: s, q: q, had: had, upTo: max(s.stream.Current(), had.position)}
		resp, next, err := a.answer(ctx)
		if err != nil {
			return nil, err
		}
		if !last && resp.empty() {
			select {
			case <-woken:
				continue
			case <-timeout.C:
			case <-ctx.Done():
			}
		}
		resp.Pos = s.connections.tell(c, next)
		return resp, nil
	}
}

func (r *SlidingResponse) empty() bool { return len(r.Rooms) == 0 && r.Extended.empty() }

// sliding is an answer that is being made.
type sliding struct {
	s    *Syncer
	q    SlidingRequest
	had  *snapshot
	upTo int64

	chooser     chooser
	memberships map[string]membership
	direct      map[string]bool
}

func (a *sliding) answer(ctx context.Context) (*SlidingResponse, snapshot, error) {
	next := snapshot{position: a.upTo, rooms: maps.Clone(a.had.rooms), data: a.had.data, devices: a.had.devices, threads: a.had.threads}
	if next.rooms == nil {
		next.rooms = map[string]*told{}
	}
	now, err := a.s.user(ctx, a.q.User)
	if err != nil {
		return nil, next, err
	}
	a.memberships = make(map[string]membership, len(now))
	for id, m := range now {
		if m, known := m.at(a.upTo); known {
			a.memberships[id] = m
		}
	}
	taste, err := a.s.taste(ctx, a.q.User)
	if err != nil {
		return nil, next, err
	}
	a.chooser = chooser{taste: taste, filter: &EventFilter{}} // of ignored users nothing is told
	if a.direct, err = a.s.directRooms(ctx, a.q.User); err != nil {
		return nil, next, err
	}
	facts, err := a.facts(ctx)
	if err != nil {
		return nil, next, err
	}
	resp := &SlidingResponse{Rooms: map[string]*SlidingRoom{}}
	var chosen []window.Room
	chosen, resp.Counts = window.Choose(a.q.Rooms, facts)
	for _, w := range chosen {
		out, now, err := a.room(ctx, w)
		if a.s.purged(ctx, w.ID, err) {
			continue
		}
		if err != nil {
			return nil, next, fmt.Errorf("room %s: %w", w.ID, err)
		}
		if next.rooms[w.ID] = now; out != nil {
			resp.Rooms[w.ID] = out
		}
	}
	err = a.extend(ctx, resp, chosen, &next)
	return resp, next, err
}

// facts are the user's rooms, those in which something happened last first (MSC4186, activity ordering).
func (a *sliding) facts(ctx context.Context) ([]window.Facts, error) {
	type one struct {
		facts window.Facts
		last  int64
	}
	var all []one
	tags, children, err := a.marks(ctx)
	if err != nil {
		return nil, err
	}
	for id, m := range a.memberships {
		if had := a.had.rooms[id]; m.forgotten && (had == nil || had.member == m.order) { // of what is forgotten, a client only hears that it was left
			continue
		}
		r, err := a.s.rooms.Find(ctx, id)
		if errors.Is(err, room.ErrNotFound) { // it was purged since
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("room %s: %w", id, err)
		}
		if !a.listed(ctx, r, m) {
			continue
		}
		last := m.order
		if m.is == matrix.Join {
			last = r.Last()
		}
		all = append(all, one{window.Facts{
			ID: id, Direct: a.direct[id], Encrypted: r.State(matrix.Key{Type: "m.room.encryption"}) != nil, Invited: m.is == matrix.Invite,
			Type: text(r, matrix.TypeCreate, "type"), Name: text(r, "m.room.name", "name"), Tags: tags[id], Spaces: children[id],
		}, last})
	}
	slices.SortFunc(all, func(x, y one) int { return cmp.Or(cmp.Compare(y.last, x.last), cmp.Compare(x.facts.ID, y.facts.ID)) })
	facts := make([]window.Facts, len(all))
	for i, x := range all {
		facts[i] = x.facts
	}
	return facts, nil
}

// listed says whether a room is one of the user's (MSC4186, lists): not those that the user has left and was not told of, nor those from which
// somebody was banned without having been in them.
func (a *sliding) listed(ctx context.Context, r *room.Room, m membership) bool {
	switch {
	case m.is == matrix.Invite:
		return a.chooser.taste.invited(r, a.q.User)
	case m.is == matrix.Join || m.is == matrix.Knock || a.had.rooms[r.ID()] != nil:
		return true
	case m.is != matrix.Leave && m.is != matrix.Ban:
		return false
	}
	e := r.State(matrix.Key{Type: matrix.TypeMember, StateKey: a.q.User})
	return e != nil && e.Sender() != a.q.User && r.WasJoined(ctx, a.q.User, e)
}

// marks are the tags of rooms, and the spaces of which they are children; only if a filter asks for them.
func (a *sliding) marks(ctx context.Context) (tags, children map[string][]string, err error) {
	var spaces []string
	tagged := false
	for _, l := range a.q.Rooms.Lists {
		spaces = append(spaces, l.Filter.Spaces...)
		tagged = tagged || l.Filter.Tags != nil || l.Filter.NotTags != nil
	}
	children = map[string][]string{}
	for _, id := range spaces {
		if a.memberships[id].is != matrix.Join {
			continue
		}
		r, err := a.s.rooms.Find(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range r.States("m.space.child") {
			if child, _ := e.StateKey(); len(e.Content().Get("via").JSON()) > 2 {
				children[child] = append(children[child], id)
			}
		}
	}
	if tagged {
		tags, err = a.s.tags(ctx, a.q.User)
	}
	return tags, children, err
}

// tags are a user's, by room.
func (s *Syncer) tags(ctx context.Context, user string) (map[string][]string, error) {
	tags := map[string][]string{}
	return tags, s.stream.DB().View(ctx, func(tx table.Tx) error {
		for d, err := range store.AllAccountData.Scan(tx, table.Range{Prefix: []any{user}}) {
			if err != nil {
				return err
			}
			var content struct {
				Tags map[string]json.RawMessage `json:"tags"`
			}
			if d.Room != "" && d.Type == "m.tag" && json.Unmarshal(d.JSON, &content) == nil {
				tags[d.Room] = slices.Collect(maps.Keys(content.Tags))
			}
		}
		return nil
	})
}

// directRooms are those that a user marked as such (clause client-server API, direct messaging). The caller must not change them.
func (s *Syncer) directRooms(ctx context.Context, user string) (map[string]bool, error) {
	return s.news.direct.get(user, func() (map[string]bool, error) {
		found := map[string]bool{}
		return found, s.stream.DB().View(ctx, func(tx table.Tx) error {
			d, _, err := store.AllAccountData.Get(tx, user, "", Direct)
			var content map[string]json.RawMessage
			_ = json.Unmarshal(d.JSON, &content) // clients write what they like
			for _, list := range content {
				var ids []string
				_ = json.Unmarshal(list, &ids)
				for _, id := range ids {
					found[id] = true
				}
			}
			return err
		})
	})
}

// text is a field of a piece of a room's state, "" if there is none.
func text(r *room.Room, kind, field string) string {
	if e := r.State(matrix.Key{Type: kind}); e != nil {
		return e.Content().Get(field).String()
	}
	return ""
}
