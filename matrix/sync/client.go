package sync

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
)

// Client is an event as clients see it (clause client-server API, room event format). The user's own device learns by which transaction it sent
// it. Some answers name the room.
func Client(e *room.Entry, user, device string, withRoom bool) json.RawMessage {
	return client(e, user, device, withRoom, canonical.Value{}).JSON()
}

// Clients are events as clients see them, with what relates to them (clause client-server API, aggregations of child events).
func Clients(ctx context.Context, r *room.Room, events []*room.Entry, user, device string, withRoom bool) ([]json.RawMessage, error) {
	all := []json.RawMessage{}
	summaries, err := r.Summaries(ctx, events)
	if err != nil {
		return nil, err
	}
	var latest []*room.Entry
	for _, s := range summaries {
		if s.Thread != nil {
			latest = append(latest, s.Thread.Latest)
		}
	}
	below, err := r.Summaries(ctx, latest)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		all = append(all, client(e, user, device, withRoom, relations(summaries[e.ID()], below, user, device, withRoom)).JSON())
	}
	return all, nil
}

// relations is the field m.relations; of kind None if nothing relates to the event.
func relations(s room.Summary, below map[string]room.Summary, user, device string, withRoom bool) canonical.Value {
	v := canonical.Value{}
	if s.Replaced != nil {
		v = v.With(room.Replace, client(s.Replaced, user, device, withRoom, canonical.Value{}))
	}
	if t := s.Thread; t != nil {
		latest := client(t.Latest, user, device, withRoom, relations(below[t.Latest.ID()], nil, user, device, withRoom))
		v = v.With(room.Thread, canonical.Of(
			canonical.Member{Name: "latest_event", Value: latest}, canonical.Member{Name: "count", Value: canonical.Int(int64(t.Count))},
			canonical.Member{Name: "current_user_participated", Value: canonical.Truth(t.Senders[user])},
		))
	}
	if len(s.Referred) > 0 {
		var chunk []canonical.Value
		for _, id := range s.Referred {
			chunk = append(chunk, canonical.Of(canonical.Member{Name: "event_id", Value: canonical.Text(id)}))
		}
		v = v.With(room.Refer, canonical.Of(canonical.Member{Name: "chunk", Value: canonical.List(chunk...)}))
	}
	return v
}

func client(e *room.Entry, user, device string, withRoom bool, related canonical.Value) canonical.Value {
	v := e.Value()
	out := canonical.Of(
		canonical.Member{Name: "event_id", Value: canonical.Text(e.ID())},
		canonical.Member{Name: "type", Value: canonical.Text(e.Type())},
		canonical.Member{Name: "sender", Value: canonical.Text(e.Sender())},
		canonical.Member{Name: "content", Value: v.Get("content")},
		canonical.Member{Name: "origin_server_ts", Value: canonical.Int(e.Timestamp())},
	)
	if key, isState := e.StateKey(); isState {
		out = out.With("state_key", canonical.Text(key))
	}
	if withRoom {
		out = out.With("room_id", canonical.Text(e.RoomID()))
	}
	if e.Type() == matrix.TypeRedaction && e.Redacts() != "" { // in both places, whatever the room version (clause room version 11, client considerations)
		out = out.With("redacts", canonical.Text(e.Redacts()))
		if e.Redacted == "" {
			out = out.With("content", v.Get("content").With("redacts", canonical.Text(e.Redacts())))
		}
	}
	unsigned := canonical.Of()
	if by, txn, ok := strings.Cut(e.TxnID, " "); ok && user == e.Sender() && by == device {
		unsigned = unsigned.With("transaction_id", canonical.Text(txn))
	}
	if e.Redacted != "" {
		unsigned = unsigned.With("redacted_because", canonical.Of(canonical.Member{Name: "event_id", Value: canonical.Text(e.Redacted)}))
	}
	if related.Len() > 0 {
		unsigned = unsigned.With("m.relations", related)
	}
	if unsigned.Len() > 0 {
		out = out.With("unsigned", unsigned)
	}
	return out
}

// strippedTypes are what somebody sees of a room before being a member (clause client-server API, stripped state).
var strippedTypes = []string{
	matrix.TypeCreate, matrix.TypeJoinRules, "m.room.name", "m.room.avatar", "m.room.topic", "m.room.canonical_alias", "m.room.encryption",
}

// Stripped is what somebody who is invited or knocks sees of a room: a few pieces of its state, and the own member event. The create event is
// whole where it names the room.
func Stripped(r *room.Room, user string) []json.RawMessage {
	var all []json.RawMessage
	add := func(e *room.Entry) {
		if e == nil {
			return
		}
		key, _ := e.StateKey()
		out := canonical.Of(
			canonical.Member{Name: "type", Value: canonical.Text(e.Type())},
			canonical.Member{Name: "sender", Value: canonical.Text(e.Sender())},
			canonical.Member{Name: "state_key", Value: canonical.Text(key)},
			canonical.Member{Name: "content", Value: e.Content()},
		)
		all = append(all, out.JSON())
	}
	for _, kind := range strippedTypes {
		add(r.State(matrix.Key{Type: kind}))
	}
	if m := r.State(matrix.Key{Type: matrix.TypeMember, StateKey: user}); m != nil {
		if sender := r.State(matrix.Key{Type: matrix.TypeMember, StateKey: m.Sender()}); sender != m {
			add(sender)
		}
		add(m)
	}
	return all
}

// summarise says how many members a room has and, if it has no name, who is to name it (clause client-server API, room summary).
func summarise(r *room.Room, user string, out *JoinedRoom, state, events []*room.Entry, whole bool) {
	changed := whole
	for _, e := range slices.Concat(state, events) {
		changed = changed || e.Type() == matrix.TypeMember
	}
	if !changed {
		return
	}
	joined, invited, others := census(r, user)
	var heroes []string
	for _, e := range others {
		who, _ := e.StateKey()
		heroes = append(heroes, who)
	}
	out.Summary.Joined, out.Summary.Invited = &joined, &invited
	name, alias := r.State(matrix.Key{Type: "m.room.name"}), r.State(matrix.Key{Type: "m.room.canonical_alias"})
	if name == nil || name.Content().Get("name").String() == "" {
		if alias == nil || alias.Content().Get("alias").String() == "" {
			out.Summary.Heroes = heroes
		}
	}
}

// How many events of a timeline clients get.
const (
	defaultTimeline = 10
	maxTimeline     = 100
)

func (f *EventFilter) limit() int {
	if f.Limit <= 0 {
		return defaultTimeline
	}
	return min(f.Limit, maxTimeline)
}

// matches says whether a type is among some, in which * stands for any characters.
func matches(patterns []string, kind string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return Glob(p, kind) })
}

// Glob says whether a text fits a pattern, in which * stands for any characters.
func Glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, p)
		if i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
