package sync

import (
	"encoding/json"
	"strconv"

	"orrery/matrix/canonical"
)

// Response is an answer to /sync (clause client-server API, GET /_matrix/client/v3/sync).
type Response struct {
	NextBatch   string
	AccountData *Events
	Rooms       *RoomLists
	Presence    *Events
	ToDevice    *Events

	DeviceLists *DeviceLists
	KeyCounts   map[string]int
	Fallbacks   []string // types of unused fallback keys
}

// RoomLists are rooms by what the user is in them.
type RoomLists struct {
	Join   map[string]*JoinedRoom
	Invite map[string]*InvitedRoom
	Knock  map[string]*KnockedRoom
	Leave  map[string]*LeftRoom
}

// Events is a list of them.
type Events struct{ Events []json.RawMessage }

// Timeline is a part of a room's timeline.
type Timeline struct {
	Events    []json.RawMessage
	Limited   bool
	PrevBatch string
}

// JoinedRoom is what is new in a room where the user is a member.
type JoinedRoom struct {
	Summary Summary
	States
	Timeline    Timeline
	AccountData Events
	Ephemeral   Events
	Unread      Counts
	Threads     map[string]Counts // by their roots
}

// Counts are how many events notify the user that were not read.
type Counts struct{ Highlights, Notifications int }

// Summary helps to name a room that has no name.
type Summary struct {
	Heroes          []string
	Joined, Invited *int // how many members; nil: as before
}

// InvitedRoom is a room to which the user is invited.
type InvitedRoom struct{ State Events }

// KnockedRoom is a room where the user knocked.
type KnockedRoom struct{ State Events }

// LeftRoom is a room that the user has left, or was put out of.
type LeftRoom struct {
	States
	Timeline Timeline
}

// States is what changed of a room's state: before the timeline, or until its end (MSC4222).
type States struct{ State, After, EarlyAfter *Events }

// texts are pieces of an answer, many of them in one piece of memory.
type texts struct{ buffer []byte }

// How much memory texts take at a time.
const (
	minTexts = 1 << 10
	maxTexts = 1 << 16
	roomText = 512 // an event of common size has room in that
)

// add is what a function appends.
func (t *texts) add(text func(b []byte) []byte) json.RawMessage {
	if cap(t.buffer)-len(t.buffer) < roomText {
		t.buffer = make([]byte, 0, min(max(2*cap(t.buffer), minTexts), maxTexts))
	}
	from := len(t.buffer)
	t.buffer = text(t.buffer)
	return t.buffer[from:len(t.buffer):len(t.buffer)]
}

// object appends the members of a JSON object, each with what comes before it.
type object struct {
	b      []byte
	before byte
}

func newObject(b []byte) *object { return &object{b, '{'} }

func (o *object) name(name string) {
	o.b = append(canonical.Text(name).Append(append(o.b, o.before)), ':')
	o.before = ','
}

func (o *object) text(name, value string) {
	o.name(name)
	o.b = canonical.Text(value).Append(o.b)
}

func (o *object) int(name string, value int) {
	o.name(name)
	o.b = strconv.AppendInt(o.b, int64(value), 10)
}

func (o *object) truth(name string, value bool) {
	o.name(name)
	o.b = strconv.AppendBool(o.b, value)
}

func (o *object) texts(name string, all []string) {
	o.name(name)
	o.b = append(o.b, '[')
	for i, s := range all {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = canonical.Text(s).Append(o.b)
	}
	o.b = append(o.b, ']')
}

func (o *object) events(name string, all []json.RawMessage) {
	o.name(name)
	o.b = append(o.b, '[')
	for i, e := range all {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = append(o.b, e...)
	}
	o.b = append(o.b, ']')
}

// inner appends an object.
func (o *object) inner(name string, f func(*object)) {
	o.name(name)
	of := newObject(o.b)
	f(of)
	o.b = of.end()
}

func (o *object) end() []byte {
	if o.before == '{' {
		o.b = append(o.b, '{')
	}
	return append(o.b, '}')
}

func (o *object) list(name string, e Events) {
	o.inner(name, func(o *object) { o.events("events", e.Events) })
}

func (o *object) optional(name string, e *Events) {
	if e != nil {
		o.list(name, *e)
	}
}

// AppendJSON appends the answer.
func (r *Response) AppendJSON(b []byte) []byte {
	o := newObject(b)
	o.text("next_batch", r.NextBatch)
	o.optional("account_data", r.AccountData)
	if r.Rooms != nil {
		o.inner("rooms", r.Rooms.append)
	}
	o.optional("presence", r.Presence)
	o.optional("to_device", r.ToDevice)
	if l := r.DeviceLists; l != nil {
		o.inner("device_lists", func(o *object) {
			o.texts("changed", l.Changed)
			o.texts("left", l.Left)
		})
	}
	o.inner("device_one_time_keys_count", func(o *object) {
		for algorithm, n := range r.KeyCounts {
			o.int(algorithm, n)
		}
	})
	o.texts("device_unused_fallback_key_types", r.Fallbacks)
	return o.end()
}

func (l *RoomLists) append(o *object) {
	rooms(o, "join", l.Join, (*JoinedRoom).append)
	rooms(o, "invite", l.Invite, func(r *InvitedRoom, o *object) { o.list("invite_state", r.State) })
	rooms(o, "knock", l.Knock, func(r *KnockedRoom, o *object) { o.list("knock_state", r.State) })
	rooms(o, "leave", l.Leave, func(r *LeftRoom, o *object) {
		r.append(o)
		o.inner("timeline", r.Timeline.append)
	})
}

func (s States) append(o *object) {
	o.optional("state", s.State)
	o.optional("state_after", s.After)
	o.optional("org.matrix.msc4222.state_after", s.EarlyAfter)
}

func (c Counts) append(o *object) {
	o.int("highlight_count", c.Highlights)
	o.int("notification_count", c.Notifications)
}

func rooms[R any](o *object, name string, all map[string]R, each func(R, *object)) {
	if len(all) == 0 {
		return
	}
	o.inner(name, func(o *object) {
		for id, r := range all {
			o.inner(id, func(o *object) { each(r, o) })
		}
	})
}

func (r *JoinedRoom) append(o *object) {
	o.inner("summary", r.Summary.append)
	r.States.append(o)
	o.inner("timeline", r.Timeline.append)
	o.list("account_data", r.AccountData)
	o.list("ephemeral", r.Ephemeral)
	o.inner("unread_notifications", r.Unread.append)
	if len(r.Threads) > 0 {
		o.inner("unread_thread_notifications", func(o *object) {
			for root, c := range r.Threads {
				o.inner(root, c.append)
			}
		})
	}
}

func (s Summary) append(o *object) {
	if len(s.Heroes) > 0 {
		o.texts("m.heroes", s.Heroes)
	}
	if s.Joined != nil {
		o.int("m.joined_member_count", *s.Joined)
	}
	if s.Invited != nil {
		o.int("m.invited_member_count", *s.Invited)
	}
}

func (t Timeline) append(o *object) {
	o.events("events", t.Events)
	o.truth("limited", t.Limited)
	if t.PrevBatch != "" {
		o.text("prev_batch", t.PrevBatch)
	}
}
