package sync

import (
	"context"
	"encoding/json"
	"fmt"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

func (r *Response) empty() bool {
	return r.AccountData == nil && r.Rooms == nil && r.Presence == nil && r.ToDevice == nil && r.DeviceLists == nil
}

// answer is all that is new now.
func (s *Syncer) answer(ctx context.Context, q *Request, known *acquaintance) (*Response, error) {
	s.news.settle()
	upTo := max(s.stream.Current(), q.Since) // before it is asked what the user is in rooms: that is known of all up to it
	memberships, err := s.user(ctx, q.User)
	if err != nil {
		return nil, err
	}
	taste, err := s.taste(ctx, q.User)
	if err != nil {
		return nil, err
	}
	known.again(upTo)
	a := &answer{
		s: s, q: q, chooser: chooser{taste: taste, filter: &q.Filter.Room.Timeline}, known: known, upTo: upTo, lists: &RoomLists{}, viewer: viewer{q.User, q.Device, false},
	}
	resp := &Response{NextBatch: a.s.Token(a.upTo)}
	for id, m := range memberships {
		m, known := m.at(upTo)
		if !known || !q.Filter.Room.wants(id) || m.forgotten && (q.Initial || m.order <= q.Since) {
			continue
		}
		if err := a.room(ctx, id, m); err != nil && !s.purged(ctx, id, err) {
			return nil, fmt.Errorf("room %s: %w", id, err)
		}
	}
	if err := a.accountData(ctx, memberships, resp); err != nil {
		return nil, err
	}
	if !q.NoDevice {
		if err := a.devices(ctx, resp); err != nil {
			return nil, err
		}
	}
	if err := a.presence(ctx, memberships, resp); err != nil {
		return nil, err
	}
	if l := a.lists; len(l.Join)+len(l.Invite)+len(l.Knock)+len(l.Leave) > 0 {
		resp.Rooms = l
	}
	return resp, nil
}

// answer is one that is being made.
type answer struct {
	s       *Syncer
	q       *Request
	chooser chooser
	known   *acquaintance
	stay    int64 // since when the user is in the room that is told of
	upTo    int64
	lists   *RoomLists
	viewer  viewer
	texts   texts
}

func (a *answer) room(ctx context.Context, id string, m membership) error {
	r, err := a.s.rooms.Find(ctx, id)
	if err != nil {
		return err
	}
	since := a.q.Since
	isNew := m.order > since
	a.stay = m.order
	switch m.is {
	case matrix.Join:
		e, err := a.s.ephemeral(ctx, id)
		if err != nil {
			return err
		}
		if isNew || a.q.FullState || r.Last() > since || e.changed() > since {
			return a.joined(ctx, r, m, e)
		}
	case matrix.Invite:
		if isNew && a.chooser.taste.invited(r, a.q.User) {
			put(&a.lists.Invite, id, &InvitedRoom{Events{Stripped(r, a.q.User)}})
		}
	case matrix.Knock:
		if isNew {
			put(&a.lists.Knock, id, &KnockedRoom{Events{Stripped(r, a.q.User)}})
		}
	default:
		if isNew && (!a.q.Initial || a.q.Filter.Room.IncludeLeave) {
			return a.left(ctx, r, m)
		}
	}
	return nil
}

func put[T any](to *map[string]T, id string, v T) {
	if *to == nil {
		*to = map[string]T{}
	}
	(*to)[id] = v
}

// joined is a room where the user is a member: what is new of its timeline, and the state at its beginning as far as the client does not know it.
func (a *answer) joined(ctx context.Context, r *room.Room, m membership, eph *ephemeral) error {
	since := a.q.Since
	if m.order > since || a.q.FullState { // the client knows nothing of it, or not any more
		since = 0
	}
	events, limited, err := a.chooser.timeline(ctx, r, since, a.upTo, a.q.Filter.Room.Timeline.limit())
	if err != nil {
		return err
	}
	if m.order > a.q.Since { // before joining there may be what others shall not read
		seen, err := r.Visible(ctx, a.q.User, events)
		if err != nil {
			return err
		}
		limited = limited || len(seen) < len(events)
		events = seen
	}
	limited = limited || a.q.Anew // what the client has of it does not go on here
	out := &JoinedRoom{}
	state, err := a.changes(ctx, r, events, since, a.upTo, limited)
	if err != nil {
		return err
	}
	out.States = a.states(state)
	if out.Timeline, err = a.timeline(ctx, r, events, limited); err != nil {
		return err
	}
	a.known.meet(r, a.stay, state, events)
	summarise(r, a.q.User, out, state, events, since == 0)
	out.Ephemeral.Events = eph.events(a.q.User, since, a.upTo, func(kind string) bool { return a.q.Filter.Room.Ephemeral.wantsIn(r.ID(), kind) })
	if len(events)+len(state)+len(out.Ephemeral.Events) == 0 && !limited && !a.q.Initial {
		if notifies, err := a.notifies(ctx, r, since); err != nil || !notifies {
			return err
		}
	}
	u, err := a.s.count(ctx, r, a.q.User, a.upTo)
	if err != nil {
		return err
	}
	out.Unread, out.Threads = u.show(a.q.Filter.Room.Timeline.CountThreads)
	put(&a.lists.Join, r.ID(), out)
	return nil
}

func (a *answer) timeline(ctx context.Context, r *room.Room, events []*room.Entry, limited bool) (t Timeline, err error) {
	t = Timeline{Limited: limited, PrevBatch: a.s.Token(a.upTo)}
	if len(events) > 0 {
		t.PrevBatch = a.s.Token(events[0].Order - 1)
	}
	t.Events, err = a.viewer.all(ctx, &a.texts, r, events, a.chooser.taste.ignored)
	return t, err
}

func (a *answer) text(e *room.Entry) json.RawMessage {
	return a.texts.add(func(b []byte) []byte { return a.viewer.append(b, e, nil, besides{}) })
}

// left is the end of a room for the user. Of one that they declined, or have forgotten since, nothing is told but that.
func (a *answer) left(ctx context.Context, r *room.Room, m membership) error {
	own, others, err := r.Timeline(ctx, a.q.Since, m.order, 1)
	if err != nil {
		return err
	}
	declined := len(own) > 0 && (m.forgotten || !r.WasJoined(ctx, a.q.User, own[0]))
	var events []*room.Entry
	limit, limited := a.q.Filter.Room.Timeline.limit(), m.forgotten && others
	switch {
	case !declined:
		events, limited, err = a.chooser.timeline(ctx, r, a.q.Since, m.order, limit)
	case limit == 0:
		limited = true
	case a.chooser.wants(own[0]):
		events = own
	}
	if err != nil {
		return err
	}
	out := &LeftRoom{States: a.states(nil)}
	if out.Timeline, err = a.timeline(ctx, r, events, limited); err != nil {
		return err
	}
	switch {
	case declined && a.q.After == StateBefore && len(events) > 0:
	case !declined && a.q.After == StateBefore && !limited && a.chooser.all():
	case declined: // an invitation that was declined shows nothing of the room
		out.States = a.states(own)
	default:
		state, err := a.changes(ctx, r, events, a.q.Since, m.order, limited)
		if err != nil {
			return err
		}
		out.States = a.states(state)
	}
	put(&a.lists.Leave, r.ID(), out)
	return nil
}

// accountData adds what is new of a user's account data: that of rooms where the user is a member, and all of it for rooms that the client knows nothing of.
func (a *answer) accountData(ctx context.Context, memberships map[string]membership, resp *Response) error {
	last, err := a.s.lastData(ctx, a.q.User)
	if err != nil {
		return err
	}
	var global []json.RawMessage
	toldRules := false
	in := func(room string) bool {
		m, known := memberships[room].at(a.upTo)
		return known && m.is == matrix.Join
	}
	if last > a.q.Since {
		if global, toldRules, err = a.scanData(ctx, in); err != nil {
			return err
		}
	}
	for id, r := range a.lists.Join {
		if m, _ := memberships[id].at(a.upTo); last > 0 && a.q.Since > 0 && (m.order > a.q.Since || a.q.FullState) {
			if err := a.earlierData(ctx, id, r); err != nil {
				return err
			}
		}
	}
	if a.q.Initial && !toldRules && a.q.Filter.AccountData.wantsType(PushRules) {
		rules, err := a.s.defaultRules(a.q.User)
		if err != nil {
			return err
		}
		global = append(global, rules)
	}
	if len(global) > 0 {
		resp.AccountData = &Events{global}
	}
	return nil
}

// scanData adds what is new of rooms' account data to them, and is what is new of the global one, and whether the push rules are among it.
func (a *answer) scanData(ctx context.Context, in func(room string) bool) (global []json.RawMessage, toldRules bool, err error) {
	err = a.s.stream.DB().View(ctx, func(tx table.Tx) error {
		for d, err := range store.AllAccountData.Scan(tx, table.Range{Index: "position", Prefix: []any{a.q.User}, From: a.q.Since + 1, Before: a.upTo + 1}) {
			if err != nil {
				return err
			}
			if !a.wantsData(d) || a.q.Initial && d.Deleted() {
				continue
			}
			content := dataEvent(d)
			if d.Room == "" {
				toldRules = toldRules || d.Type == PushRules
				global = append(global, content)
				continue
			}
			r := a.lists.Join[d.Room]
			if r == nil {
				if !in(d.Room) { // it is told when the user joins
					continue
				}
				r = &JoinedRoom{States: a.states(nil)}
				put(&a.lists.Join, d.Room, r)
			}
			r.AccountData.Events = append(r.AccountData.Events, content)
		}
		return nil
	})
	return global, toldRules, err
}

// earlierData adds account data of a room that were there before.
func (a *answer) earlierData(ctx context.Context, id string, r *JoinedRoom) error {
	return a.s.stream.DB().View(ctx, func(tx table.Tx) error {
		for d, err := range store.AllAccountData.Scan(tx, table.Range{Prefix: []any{a.q.User, id}}) {
			if err != nil {
				return err
			}
			if d.Position <= a.q.Since && a.wantsData(d) && !d.Deleted() {
				r.AccountData.Events = append(r.AccountData.Events, dataEvent(d))
			}
		}
		return nil
	})
}

func dataEvent(d store.AccountData) json.RawMessage {
	return fmt.Appendf(nil, `{"type":%s,"content":%s}`, quote(d.Type), d.JSON)
}

// wantsData says whether account data are wanted.
func (a *answer) wantsData(d store.AccountData) bool {
	if d.Room == "" {
		return a.q.Filter.AccountData.wantsType(d.Type)
	}
	return a.q.Filter.Room.wants(d.Room) && a.q.Filter.Room.AccountData.wantsIn(d.Room, d.Type)
}

func quote(s string) []byte {
	b, _ := json.Marshal(s)
	return b
}
