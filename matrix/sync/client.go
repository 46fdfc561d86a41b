package sync

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
)

// Client is an event as clients see it (clause client-server API, room event format). The user's own device learns by which transaction it sent
// it. Some answers name the room.
func Client(e *room.Entry, user, device string, withRoom bool) json.RawMessage {
	return viewer{user, device, withRoom}.append(nil, e, nil, besides{})
}

// Clients are events as clients see them, with what relates to them (clause client-server API, aggregations of child events).
func Clients(ctx context.Context, r *room.Room, events []*room.Entry, user, device string, ignored map[string]bool, withRoom bool) ([]json.RawMessage, error) {
	return viewer{user, device, withRoom}.all(ctx, &texts{}, r, events, ignored)
}

// viewer is who sees events.
type viewer struct {
	user, device string
	withRoom     bool
}

func (v viewer) all(ctx context.Context, t *texts, r *room.Room, events []*room.Entry, ignored map[string]bool) ([]json.RawMessage, error) {
	summaries, err := r.Summaries(ctx, events, ignored)
	if err != nil {
		return nil, err
	}
	var latest []*room.Entry
	for _, s := range summaries {
		if s.Thread != nil {
			latest = append(latest, s.Thread.Latest)
		}
	}
	below, err := r.Summaries(ctx, latest, ignored)
	if err != nil {
		return nil, err
	}
	before, err := v.replaced(ctx, r, events)
	if err != nil {
		return nil, err
	}
	redactions, err := v.redactions(ctx, r, events)
	if err != nil {
		return nil, err
	}
	is, err := v.memberships(ctx, r, events)
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixMilli()
	all := make([]json.RawMessage, 0, len(events))
	for i, e := range events {
		var related []byte
		if s, ok := summaries[e.ID()]; ok {
			related = v.relations(nil, s, below)
		}
		all = append(all, t.add(func(b []byte) []byte {
			return v.append(b, e, related, besides{before[e.Replaces], redactions[e.Redacted], is[i], max(1, now-e.Timestamp())})
		}))
	}
	return all, nil
}

// besides is what the server knows of an event for whoever sees it.
type besides struct {
	replaced

	redaction  *room.Entry // nil if the event is not redacted, or whoever sees it may not see by what
	membership string      // the reader's, after the event; "": it is not said
	age        int64       // milliseconds since the event was sent; 0: it is not said
}

// replaced is the state event that an event replaced. Its content is "only returned if the client has permission to see the previous event", its id always.
type replaced struct {
	id      string
	shown   bool
	content canonical.Value
}

// replaced are those of some events, by their orders.
func (v viewer) replaced(ctx context.Context, r *room.Room, events []*room.Entry) (map[int64]replaced, error) {
	before, err := r.Replaced(ctx, events)
	if err != nil || len(before) == 0 {
		return nil, err
	}
	found := map[int64]replaced{}
	for order, e := range before {
		found[order] = replaced{id: e.ID()}
	}
	seen, err := r.Visible(ctx, v.user, slices.Collect(maps.Values(before)))
	for _, e := range seen {
		found[e.Order] = replaced{e.ID(), true, e.Content()}
	}
	return found, err
}

// redactions are the events that redacted some events, by their ids: those that the user may see.
func (v viewer) redactions(ctx context.Context, r *room.Room, events []*room.Entry) (map[string]*room.Entry, error) {
	var all []*room.Entry
	for _, e := range events {
		if e.Redacted == "" {
			continue
		}
		by, err := r.Event(ctx, e.Redacted)
		if err != nil && !errors.Is(err, room.ErrNotFound) {
			return nil, err
		}
		if err == nil && !slices.Contains(all, by) {
			all = append(all, by)
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	seen, err := r.Visible(ctx, v.user, all)
	found := map[string]*room.Entry{}
	for _, by := range seen {
		found[by.ID()] = by
	}
	return found, err
}

// relations appends the field m.relations; nothing if nothing relates to the event.
func (v viewer) relations(b []byte, s room.Summary, below map[string]room.Summary) []byte {
	before := '{'
	member := func(name string) {
		b = append(append(append(b, byte(before), '"'), name...), `":`...)
		before = ','
	}
	if len(s.Referred) > 0 {
		var chunk []canonical.Value
		for _, id := range s.Referred {
			chunk = append(chunk, canonical.Of(canonical.Member{Name: "event_id", Value: canonical.Text(id)}))
		}
		member(room.Refer)
		b = canonical.Of(canonical.Member{Name: "chunk", Value: canonical.List(chunk...)}).Append(b)
	}
	if s.Replaced != nil {
		member(room.Replace)
		b = v.append(b, s.Replaced, nil, besides{})
	}
	if t := s.Thread; t != nil {
		member(room.Thread)
		b = strconv.AppendInt(append(b, `{"count":`...), int64(t.Count), 10)
		b = strconv.AppendBool(append(b, `,"current_user_participated":`...), t.Senders[v.user])
		b = v.append(append(b, `,"latest_event":`...), t.Latest, v.relations(nil, below[t.Latest.ID()], nil), besides{})
		b = append(b, '}')
	}
	if before == ',' {
		b = append(b, '}')
	}
	return b
}

// append appends an event, with its field m.relations if it has one. The order of members is that of canonical JSON.
func (v viewer) append(b []byte, e *room.Entry, related []byte, more besides) []byte {
	content := e.Content()
	redacts := ""
	if e.Type() == matrix.TypeRedaction {
		redacts = e.Redacts()
	}
	if redacts != "" && e.Redacted == "" { // in both places, whatever the room version (clause room version 11, client considerations)
		content = content.With("redacts", canonical.Text(redacts))
	}
	b = content.Append(append(b, `{"content":`...))
	b = appendMember(b, "event_id", e.ID())
	b = strconv.AppendInt(append(b, `,"origin_server_ts":`...), e.Timestamp(), 10)
	if redacts != "" {
		b = appendMember(b, "redacts", redacts)
	}
	if v.withRoom {
		b = appendMember(b, "room_id", e.RoomID())
	}
	b = appendMember(b, "sender", e.Sender())
	if key, isState := e.StateKey(); isState {
		b = appendMember(b, "state_key", key)
	}
	b = appendMember(b, "type", e.Type())
	return append(v.unsigned(b, e, related, more), '}')
}

// unsigned appends what the server says of an event. It may be nothing, but programs, such as Mjolnir, take it for granted.
func (v viewer) unsigned(b []byte, e *room.Entry, related []byte, more besides) []byte {
	by, txn, sent := strings.Cut(e.TxnID, " ")
	sent = sent && v.user == e.Sender() && by == v.device
	b = append(b, `,"unsigned":{`...)
	from := len(b)
	if more.age > 0 {
		b = strconv.AppendInt(append(b, `,"age":`...), more.age, 10)
	}
	if len(related) > 0 {
		b = append(append(b, `,"m.relations":`...), related...)
	}
	if more.membership != "" {
		b = appendMember(b, "membership", more.membership)
	}
	if more.shown {
		b = more.content.Append(append(b, `,"prev_content":`...))
	}
	if more.redaction != nil {
		b = v.append(append(b, `,"redacted_because":`...), more.redaction, nil, besides{})
	} else if e.Redacted != "" {
		b = append(canonical.Text(e.Redacted).Append(append(b, `,"redacted_because":{"event_id":`...)), '}')
	}
	if more.id != "" {
		b = appendMember(b, "replaces_state", more.id)
	}
	if sent {
		b = appendMember(b, "transaction_id", txn)
	}
	if len(b) > from {
		b = append(b[:from], b[from+1:]...) // without the first comma
	}
	return append(b, '}')
}

// appendMember appends a comma and a member of an object.
func appendMember(b []byte, name, text string) []byte {
	b = append(append(append(b, `,"`...), name...), `":`...)
	return canonical.Text(text).Append(b)
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
	if f.Limit == nil || *f.Limit < 0 {
		return defaultTimeline
	}
	return min(*f.Limit, maxTimeline)
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
