package sync

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/sync/window"
)

// maxMembers is how many members' events a connection remembers to have told of a room; beyond that they are told again.
const maxMembers = 1000

// tale is what is told of one room.
type tale struct {
	*sliding

	r      *room.Room
	w      window.Room
	had    *told // nil: nothing
	now    told
	whole  bool // the client knows nothing of the room, or not any more
	events []*room.Entry
	out    *SlidingRoom

	changes map[matrix.Key]*room.Entry // of the state, since it was told; nil if it was not
	state   map[matrix.Key]*room.Entry // what is told of it; nil where it was taken away
}

// room is what is new of a room, nil if nothing is, and what the client will have been told of it.
func (a *sliding) room(ctx context.Context, w window.Room) (*SlidingRoom, *told, error) {
	r, err := a.s.rooms.Find(ctx, w.ID)
	if err != nil {
		return nil, nil, err
	}
	m, had := a.memberships[w.ID], a.had.rooms[w.ID]
	t := &tale{sliding: a, r: r, w: w, had: had, out: &SlidingRoom{Membership: m.is, Lists: w.Lists, Bump: m.order}, state: map[matrix.Key]*room.Entry{}}
	if had != nil {
		t.now = *had
	}
	t.now.membership, t.now.member, t.now.config, t.now.upTo = m.is, m.order, w.Config, a.upTo
	news := had == nil || had.member != m.order
	switch {
	case m.is == matrix.Invite || m.is == matrix.Knock:
		if !news {
			return nil, had, nil
		}
		t.out.Initial, t.out.Stripped = true, Stripped(r, a.q.User)
		return t.out, &t.now, nil
	case m.is != matrix.Join:
		if !news {
			return nil, had, nil
		}
		t.now.upTo = min(a.upTo, m.order)
		if !t.wasInside(ctx) {
			return t.out, &t.now, nil
		}
	default:
		e, err := a.s.ephemeral(ctx, w.ID)
		if err != nil {
			return nil, nil, err
		}
		if !news && r.Last() <= had.upTo && e.changed() <= had.upTo && w.Config.Equal(had.config) && a.direct[w.ID] == had.direct {
			return nil, had, nil
		}
	}
	t.whole = had == nil || had.membership == matrix.Invite || had.membership == matrix.Knock || had.membership != matrix.Join && m.is == matrix.Join
	some, err := t.inside(ctx, news)
	if err != nil || !some {
		return nil, &t.now, err
	}
	return t.out, &t.now, nil
}

// wasInside says whether the user was a member before the event by which they are none. If not, that event is all that is told.
func (t *tale) wasInside(ctx context.Context) bool {
	e := t.r.State(matrix.Key{Type: matrix.TypeMember, StateKey: t.q.User})
	if e == nil || e.Order > t.now.upTo || t.r.WasJoined(ctx, t.q.User, e) {
		return true
	}
	event := Client(e, t.q.User, t.q.Device, false)
	t.out.State, t.out.Timeline, t.out.Stripped = []json.RawMessage{event}, []json.RawMessage{event}, Stripped(t.r, t.q.User)
	return false
}

// inside tells of a room where the user is or was a member, and says whether anything is new.
func (t *tale) inside(ctx context.Context, news bool) (some bool, err error) {
	if err := t.timeline(ctx); err != nil {
		return false, err
	}
	if err := t.states(ctx); err != nil {
		return false, err
	}
	t.now.direct = t.direct[t.w.ID]
	if t.now.direct && t.whole || t.had != nil && t.now.direct != t.had.direct {
		t.out.Direct = &t.now.direct
	}
	if t.q.Unread && t.now.membership == matrix.Join {
		if t.now.unread, err = t.s.count(ctx, t.r, t.q.User, t.now.upTo); err != nil {
			return false, err
		}
		t.out.Notifications, t.out.Highlights = t.now.unread.notifications, t.now.unread.highlights
	}
	recounted := t.had != nil && (t.had.unread.notifications != t.out.Notifications || t.had.unread.highlights != t.out.Highlights)
	if !t.whole && !news && len(t.events)+len(t.state) == 0 && t.out.Direct == nil && !recounted {
		return false, nil
	}
	if t.now.membership == matrix.Join {
		t.out.Bump = t.r.Bumped()
	}
	t.out.Initial = t.whole
	if err := t.describe(ctx); err != nil {
		return false, err
	}
	for _, key := range slices.SortedFunc(maps.Keys(t.state), compareKeys) {
		if e := t.state[key]; e != nil {
			t.out.State = append(t.out.State, Client(e, t.q.User, t.q.Device, false))
		} else {
			t.out.State = append(t.out.State, stub(key)) // MSC4186, StateStub
		}
	}
	t.out.Timeline, err = Clients(ctx, t.r, t.events, t.q.User, t.q.Device, t.chooser.taste.ignored, false)
	return true, err
}

func compareKeys(a, b matrix.Key) int {
	return slices.Compare([]string{a.Type, a.StateKey}, []string{b.Type, b.StateKey})
}

func stub(key matrix.Key) json.RawMessage {
	b, _ := json.Marshal(map[string]string{"type": key.Type, "state_key": key.StateKey})
	return b
}

// timeline finds the events: those since the client was told or, if it wants more of them than before and has not got them, the newest ones (MSC4186,
// changes to timeline_limit).
func (t *tale) timeline(ctx context.Context) (err error) {
	since, limit := int64(0), t.w.Config.Timeline
	if !t.whole {
		since = t.had.upTo
	}
	if t.events, t.out.Limited, err = t.chooser.timeline(ctx, t.r, since, t.now.upTo, limit); err != nil {
		return err
	}
	gap := t.whole || t.out.Limited
	if !t.whole && limit > t.had.config.Timeline {
		latest, more, err := t.chooser.timeline(ctx, t.r, 0, t.now.upTo, limit)
		if err != nil {
			return err
		}
		if len(latest) > 0 && latest[0].Order < t.had.oldest {
			t.events, t.out.Limited, t.out.Expanded, gap = latest, more, true, true
		}
	}
	if gap {
		t.now.oldest = t.now.upTo + 1
		if len(t.events) > 0 {
			t.now.oldest = t.events[0].Order
		}
	}
	if t.whole || t.out.Expanded { // before joining there may be what others shall not read
		seen, err := t.r.Visible(ctx, t.q.User, t.events)
		if err != nil {
			return err
		}
		t.out.Limited = t.out.Limited || len(seen) < len(t.events)
		t.events = seen
	}
	t.out.Prev = t.s.Token(t.now.upTo)
	if len(t.events) > 0 {
		t.out.Prev = t.s.Token(t.events[0].Order - 1)
	}
	for _, e := range t.events {
		if t.sliding.had.position > 0 && e.Order > t.sliding.had.position {
			t.out.Live++
		}
	}
	return nil
}

// states finds which state is told.
func (t *tale) states(ctx context.Context) error {
	if last, _, err := t.r.Timeline(ctx, 0, t.now.upTo, 1); err != nil {
		return err
	} else if len(last) > 0 {
		t.now.state = last[0].After
	}
	config := t.w.Config
	if t.whole {
		t.now.members = nil
		if err := t.allStates(ctx, func(key matrix.Key) bool { return config.Wants(key) }); err != nil {
			return err
		}
		return t.lazy(ctx)
	}
	if t.now.state != t.had.state {
		var err error
		if t.changes, err = t.r.Changes(ctx, t.had.state, t.now.state); err != nil {
			return err
		}
		for key, e := range t.changes {
			if config.Wants(key) || config.Lazy() && key.Type == matrix.TypeMember && !t.out.Limited {
				t.state[key] = e
			}
		}
	}
	if !config.Equal(t.had.config) { // MSC4186, changes to required_state
		if err := t.allStates(ctx, func(key matrix.Key) bool { return config.Wants(key) && !t.had.config.Wants(key) }); err != nil {
			return err
		}
	}
	return t.lazy(ctx)
}

// allStates tells all state that is wanted.
func (t *tale) allStates(ctx context.Context, wants func(matrix.Key) bool) error {
	keys, others := t.w.Config.Keys()
	if !others {
		for _, key := range keys {
			if !wants(key) {
				continue
			}
			if err := t.tell(ctx, key); err != nil {
				return err
			}
		}
		return nil
	}
	all := map[matrix.Key]*room.Entry{}
	if t.r.Last() <= t.now.upTo {
		for _, e := range t.r.States("") {
			if e.Order <= t.now.upTo { // what came just now is told next time
				all[e.Key()] = e
			}
		}
	} else {
		var err error
		if all, err = t.r.StateAt(ctx, t.now.state); err != nil {
			return err
		}
	}
	for key, e := range all {
		if wants(key) {
			t.state[key] = e
		}
	}
	return nil
}

// at is the event at a key of the state that is told, nil if there is none.
func (t *tale) at(ctx context.Context, key matrix.Key) (*room.Entry, error) {
	if e := t.r.State(key); e == nil || e.Order <= t.now.upTo {
		return e, nil
	}
	return t.r.At(ctx, t.now.state, key)
}

// tell tells a piece of state, if the room has it.
func (t *tale) tell(ctx context.Context, key matrix.Key) error {
	e, err := t.at(ctx, key)
	if e != nil {
		t.state[key] = e
	}
	return err
}

// lazy tells those members whom the timeline needs, and of whom the client was not told (MSC4186, lazy loaded memberships). After a gap the client has
// forgotten the others.
func (t *tale) lazy(ctx context.Context) error {
	if !t.w.Config.Lazy() {
		t.now.members = nil
		return nil
	}
	known := map[string]bool{}
	if !t.out.Limited && len(t.now.members) < maxMembers {
		known = maps.Clone(t.now.members)
		if known == nil {
			known = map[string]bool{}
		}
	}
	for _, e := range t.events {
		who := []string{e.Sender()}
		if key, isState := e.StateKey(); isState && e.Type() == matrix.TypeMember {
			who = append(who, key)
		}
		for _, user := range who {
			key := matrix.Key{Type: matrix.TypeMember, StateKey: user}
			if _, told := t.state[key]; !told && !known[user] {
				if err := t.tell(ctx, key); err != nil {
					return err
				}
			}
		}
	}
	for key := range t.state {
		if key.Type == matrix.TypeMember {
			known[key.StateKey] = true
		}
	}
	t.now.members = known
	return nil
}

// describe tells the room's name and picture and, to a member, who is in it, as far as that changed.
func (t *tale) describe(ctx context.Context) error {
	name, avatar := matrix.Key{Type: "m.room.name"}, matrix.Key{Type: "m.room.avatar"}
	var err error
	if t.out.Name, err = t.field(ctx, name, "name"); err != nil {
		return err
	}
	if t.out.Avatar, err = t.field(ctx, avatar, "url"); err != nil {
		return err
	}
	_, changed := t.changes[name]
	changed = changed || t.whole
	for key := range t.changes {
		changed = changed || key.Type == matrix.TypeMember
	}
	if !changed || t.now.membership != matrix.Join {
		return nil
	}
	joined, invited, heroes := census(t.r, t.q.User)
	t.out.Joined, t.out.Invited = &joined, &invited
	if text(t.r, name.Type, "name") != "" {
		return nil
	}
	for _, e := range heroes {
		who, _ := e.StateKey()
		t.out.Heroes = append(t.out.Heroes, Hero{who, e.Content().Get("displayname").String(), e.Content().Get("avatar_url").String()})
	}
	return nil
}

// field is a text of the room's state, nil if it is as the client knows it.
func (t *tale) field(ctx context.Context, key matrix.Key, name string) (*Field, error) {
	if _, changed := t.changes[key]; !changed && !t.whole {
		return nil, nil //nolint:nilnil // nothing to tell
	}
	e, err := t.at(ctx, key)
	if err != nil {
		return nil, err
	}
	f := &Field{}
	if e != nil {
		if s := e.Content().Get(name).String(); s != "" {
			f.Value = &s
		}
	}
	if f.Value == nil && t.whole {
		return nil, nil //nolint:nilnil // on the whole, what is not told is not there
	}
	return f, nil
}

// maxHeroes is how many help to name a room.
const maxHeroes = 5

// census is how many members a room has and how many are invited, and who of the others helps to name it: first those who joined, then those who are
// invited, then those who left (clause client-server API, calculating the display name for a room).
func census(r *room.Room, user string) (joined, invited int, heroes []*room.Entry) {
	var by [3][]*room.Entry
	for _, e := range r.States(matrix.TypeMember) {
		place := 2
		switch e.Membership() {
		case matrix.Join:
			joined++
			place = 0
		case matrix.Invite:
			invited++
			place = 1
		}
		if who, _ := e.StateKey(); who != user && len(by[place]) < maxHeroes {
			by[place] = append(by[place], e)
		}
	}
	heroes = slices.Concat(by[0], by[1])
	if len(heroes) == 0 {
		heroes = by[2]
	}
	return joined, invited, heroes[:min(len(heroes), maxHeroes)]
}
