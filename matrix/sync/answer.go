package sync

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Response is an answer to /sync (clause client-server API, GET /_matrix/client/v3/sync).
type Response struct {
	NextBatch   string     `json:"next_batch"`
	AccountData *Events    `json:"account_data,omitempty"`
	Rooms       *RoomLists `json:"rooms,omitempty"`
	Presence    *Events    `json:"presence,omitempty"`
	ToDevice    *Events    `json:"to_device,omitempty"`

	DeviceLists *DeviceLists   `json:"device_lists,omitempty"`
	KeyCounts   map[string]int `json:"device_one_time_keys_count"`
	Fallbacks   []string       `json:"device_unused_fallback_key_types"`
}

// RoomLists are rooms by what the user is in them.
type RoomLists struct {
	Join   map[string]*JoinedRoom  `json:"join,omitempty"`
	Invite map[string]*InvitedRoom `json:"invite,omitempty"`
	Knock  map[string]*KnockedRoom `json:"knock,omitempty"`
	Leave  map[string]*LeftRoom    `json:"leave,omitempty"`
}

// Events is a list of them.
type Events struct {
	Events []json.RawMessage `json:"events"`
}

// Timeline is a part of a room's timeline.
type Timeline struct {
	Events    []json.RawMessage `json:"events"`
	Limited   bool              `json:"limited"`
	PrevBatch string            `json:"prev_batch,omitempty"`
}

// JoinedRoom is what is new in a room where the user is a member.
type JoinedRoom struct {
	Summary Summary `json:"summary"`
	States
	Timeline    Timeline `json:"timeline"`
	AccountData Events   `json:"account_data"`
	Ephemeral   Events   `json:"ephemeral"`
	Unread      Counts   `json:"unread_notifications"`

	Threads map[string]Counts `json:"unread_thread_notifications,omitempty"` // by their roots
}

// Counts are how many events notify the user that were not read.
type Counts struct {
	Highlights    int `json:"highlight_count"`
	Notifications int `json:"notification_count"`
}

// Summary helps to name a room that has no name.
type Summary struct {
	Heroes  []string `json:"m.heroes,omitempty"`
	Joined  *int     `json:"m.joined_member_count,omitempty"`
	Invited *int     `json:"m.invited_member_count,omitempty"`
}

// InvitedRoom is a room to which the user is invited.
type InvitedRoom struct {
	State Events `json:"invite_state"`
}

// KnockedRoom is a room where the user knocked.
type KnockedRoom struct {
	State Events `json:"knock_state"`
}

// LeftRoom is a room that the user has left, or was put out of.
type LeftRoom struct {
	States
	Timeline Timeline `json:"timeline"`
}

// States is what changed of a room's state: before the timeline, or until its end (MSC4222).
type States struct {
	State      *Events `json:"state,omitempty"`
	After      *Events `json:"state_after,omitempty"`
	EarlyAfter *Events `json:"org.matrix.msc4222.state_after,omitempty"`
}

func (r *Response) empty() bool {
	return r.AccountData == nil && r.Rooms == nil && r.Presence == nil && r.ToDevice == nil && r.DeviceLists == nil
}

// Token is a position for clients.
func Token(position int64) string { return "s" + strconv.FormatInt(position, 10) }

// ReadToken reads a token; the error is matrix.ErrMalformed.
func ReadToken(s string) (int64, error) {
	digits, ok := strings.CutPrefix(s, "s")
	digits, _, _ = strings.Cut(digits, "_") // what follows is of a connection of sliding sync
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n < 0 {
		return 0, fmt.Errorf("token %.40q is %w (it is a next_batch or prev_batch of this server)", s, matrix.ErrMalformed)
	}
	return n, nil
}

// answer is all that is new now.
func (s *Syncer) answer(ctx context.Context, q Request) (*Response, error) {
	memberships, err := s.user(ctx, q.User)
	if err != nil {
		return nil, err
	}
	taste, err := s.taste(ctx, q.User)
	if err != nil {
		return nil, err
	}
	a := &answer{s: s, q: q, taste: taste, upTo: max(s.stream.Current(), q.Since), lists: &RoomLists{}}
	resp := &Response{NextBatch: Token(a.upTo)}
	for id, m := range memberships {
		if m.order > a.upTo || !q.Filter.Room.wants(id) {
			continue
		}
		if err := a.room(ctx, id, m); err != nil {
			return nil, fmt.Errorf("room %s: %w", id, err)
		}
	}
	global, err := a.accountData(ctx)
	if err != nil {
		return nil, err
	}
	if q.Initial && !a.toldRules && q.Filter.AccountData.wantsType(PushRules) {
		rules, err := defaultRules(q.User)
		if err != nil {
			return nil, err
		}
		global = append(global, rules)
	}
	if len(global) > 0 {
		resp.AccountData = &Events{global}
	}
	if err := a.devices(ctx, resp); err != nil {
		return nil, err
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
	s     *Syncer
	q     Request
	taste *taste
	upTo  int64
	lists *RoomLists

	toldRules bool // the push rules are among the account data
}

func (a *answer) room(ctx context.Context, id string, m membership) error {
	r, err := a.s.rooms.Find(ctx, id)
	if err != nil {
		return err
	}
	since := a.q.Since
	isNew := m.order > since
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
		if isNew && a.taste.invited(r, a.q.User) {
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
	events, limited, err := r.Timeline(ctx, since, a.upTo, a.q.Filter.Room.Timeline.limit())
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
	out := &JoinedRoom{AccountData: Events{[]json.RawMessage{}}, Ephemeral: Events{[]json.RawMessage{}}}
	state, err := a.changes(ctx, r, events, since, a.upTo, limited)
	if err != nil {
		return err
	}
	out.States = a.states(state)
	if out.Timeline, err = a.timeline(ctx, r, events, limited); err != nil {
		return err
	}
	summarise(r, a.q.User, out, state, events, since == 0)
	out.Ephemeral.Events = eph.events(a.q.User, since, a.upTo, func(kind string) bool { return a.q.Filter.Room.Ephemeral.wantsIn(r.ID(), kind) })
	if len(events)+len(state)+len(out.Ephemeral.Events) == 0 && !a.q.Initial {
		return nil
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
	t = Timeline{Limited: limited, PrevBatch: Token(a.upTo)}
	var wanted []*room.Entry
	for _, e := range a.taste.hears(events) {
		if a.q.Filter.Room.Timeline.Wants(e.Event) {
			wanted = append(wanted, e)
		}
	}
	if len(events) > 0 {
		t.PrevBatch = Token(events[0].Order - 1)
	}
	t.Events, err = Clients(ctx, r, wanted, a.q.User, a.q.Device, false)
	return t, err
}

// left is the end of a room for the user.
func (a *answer) left(ctx context.Context, r *room.Room, m membership) error {
	events, limited, err := r.Timeline(ctx, a.q.Since, m.order, a.q.Filter.Room.Timeline.limit())
	if err != nil {
		return err
	}
	if len(events) > 0 && !r.WasJoined(ctx, a.q.User, events[len(events)-1]) { // an invitation that was declined shows nothing of the room
		events, limited = events[len(events)-1:], false
	}
	out := &LeftRoom{States: a.states(nil)}
	if out.Timeline, err = a.timeline(ctx, r, events, limited); err != nil {
		return err
	}
	if limited || a.q.After != StateBefore {
		state, err := a.changes(ctx, r, events, a.q.Since, m.order, limited)
		if err != nil {
			return err
		}
		out.States = a.states(state)
	}
	put(&a.lists.Leave, r.ID(), out)
	return nil
}

// accountData adds what is new of rooms' account data to them, and is what is new of the global one.
func (a *answer) accountData(ctx context.Context) (global []json.RawMessage, err error) {
	err = a.s.stream.DB().View(ctx, func(tx table.Tx) error {
		for d, err := range store.AllAccountData.Scan(tx, table.Range{Index: "position", Prefix: []any{a.q.User}, From: a.q.Since + 1, Before: a.upTo + 1}) {
			if err != nil {
				return err
			}
			if !a.wantsData(d) {
				continue
			}
			content := fmt.Appendf(nil, `{"type":%s,"content":%s}`, quote(d.Type), d.JSON)
			a.toldRules = a.toldRules || d.Type == PushRules
			if d.Room == "" {
				global = append(global, content)
				continue
			}
			r := a.lists.Join[d.Room]
			if r == nil {
				r = &JoinedRoom{States: a.states(nil), Timeline: Timeline{Events: []json.RawMessage{}}, AccountData: Events{[]json.RawMessage{}}, Ephemeral: Events{[]json.RawMessage{}}}
				put(&a.lists.Join, d.Room, r)
			}
			r.AccountData.Events = append(r.AccountData.Events, content)
		}
		return nil
	})
	return global, err
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
