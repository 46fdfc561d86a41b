package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

func (a *API) roomRoutes() {
	a.in("POST createRoom", a.createRoom)
	a.membershipRoutes()
	a.in("PUT rooms/{room}/send/{type}/{txn}", a.send)
	a.in("PUT rooms/{room}/redact/{event}/{txn}", a.redact)
	a.in("GET rooms/{room}/event/{event}", a.event)
	a.in("GET rooms/{room}/messages", a.messages)
	a.in("GET rooms/{room}/context/{event}", a.context)
	a.aliasRoutes()
	a.relationRoutes()
	a.directoryRoutes()
	a.spaceRoutes()
	a.in("POST rooms/{room}/upgrade", a.upgrade)
	a.in("POST search", a.search)
}

// send sends an event that is no state (clause client-server API, PUT send).
func (a *API) send(q *request) (any, error) {
	r, content, err := a.content(q)
	if err != nil {
		return nil, err
	}
	d := room.Draft{Type: q.PathValue("type"), Sender: q.login.User, Content: content}
	if after, later, err := delay(q); later {
		if err != nil {
			return nil, err
		}
		return a.schedule(q, r, after, d.Type, nil, content)
	}
	if d.Time, err = q.timestamp(); err != nil {
		return nil, err
	}
	if d.Type == matrix.TypeRedaction {
		d.Redacts = content.Get("redacts").String()
	}
	return a.once(q, r, d)
}

// redact redacts an event.
func (a *API) redact(q *request) (any, error) {
	r, content, err := a.content(q)
	if err != nil {
		return nil, err
	}
	return a.once(q, r, room.Draft{Type: matrix.TypeRedaction, Sender: q.login.User, Content: content, Redacts: q.PathValue("event")})
}

// once sends an event, once for each transaction id of a device (clause client-server API, transaction identifiers).
func (a *API) once(q *request, r *room.Room, d room.Draft) (any, error) {
	user, device, path := q.login.User, q.login.Device, q.URL.Path
	defer a.transactions.lock(user + " " + device + " " + path)() // a client may repeat it before it is answered
	known, ok, err := a.sent.find(q.Context(), a.Stream.DB(), user, device, path)
	if err != nil {
		return nil, err
	}
	if ok {
		return map[string]string{"event_id": known}, nil
	}
	a.Syncer.Act(q.login.User)
	d.TxnID = q.login.Device + " " + q.PathValue("txn")
	what, err := a.redacted(q, r, d)
	if err != nil {
		return nil, err
	}
	var id string
	err = r.Do(q.Context(), func(t *room.Turn) error {
		e, err := t.Send(d)
		if err != nil {
			return err
		}
		id = e.ID()
		if what != nil {
			t.Redact(e, what)
		}
		t.Also(func(tx table.Tx, _ int64) error {
			return store.Transactions.Put(tx, store.Transaction{User: user, Device: device, Path: path, Result: id, Time: a.Now().UnixMilli()})
		})
		return nil
	})
	a.sent.note(user, device, path, err)
	return map[string]string{"event_id": id}, err
}

// redacted is the event that a redaction redacts, if the sender may (clause room version 3, handling redactions).
func (a *API) redacted(q *request, r *room.Room, d room.Draft) (*room.Entry, error) {
	if d.Redacts == "" {
		return nil, nil //nolint:nilnil // it redacts nothing
	}
	what, err := r.Event(q.Context(), d.Redacts)
	if err != nil {
		return nil, err
	}
	if levels := r.Levels(); levels.User(d.Sender) < levels.Redact() && what.Sender() != d.Sender {
		return nil, forbidden("you may not redact events of others")
	}
	switch what.Type() {
	case matrix.TypeCreate:
		return nil, forbidden("the create event of a room is not redacted")
	case matrix.TypeServerACL: // without its content it denies every server
		return nil, forbidden("a server ACL is not redacted: nobody could take part in the room any more (send another one)")
	}
	return what, nil
}

// readable is find for those who may read the room now: members, those who were, and everybody where the world may read.
func (a *API) readable(q *request) (*room.Room, error) {
	r, err := a.find(q)
	if err != nil {
		return nil, err
	}
	if q.sees {
		return r, nil
	}
	switch r.Membership(q.login.User) {
	case matrix.Join:
		return r, nil
	case matrix.Leave, matrix.Ban:
		return r, a.remembers(q, r)
	}
	if v := r.State(matrix.Key{Type: matrix.TypeHistoryVisibility}); v != nil && v.Content().Get("history_visibility").String() == "world_readable" {
		return r, nil
	}
	return nil, forbidden("you are not a member of the room")
}

// remembers is nil if a user who left a room has not forgotten it (clause client-server API, leaving rooms).
func (a *API) remembers(q *request, r *room.Room) error {
	return a.Stream.DB().View(q.Context(), func(tx table.Tx) error {
		m, ok, err := store.Members.Get(tx, q.login.User, r.Number())
		if err == nil && ok && m.Forgotten {
			err = forbidden("you have forgotten the room")
		}
		return err
	})
}

func (a *API) event(q *request) (any, error) {
	r, e, err := a.visibleEvent(q)
	if err != nil {
		return nil, err
	}
	all, err := a.clients(q, r, []*room.Entry{e})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// visibleEvent is the event of the path, which is not found by those who may not read it (clause client-server API, GET event).
func (a *API) visibleEvent(q *request) (*room.Room, *room.Entry, error) {
	r, err := a.readable(q)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusForbidden {
		err = noEvent(q)
	}
	if err != nil {
		return nil, nil, err
	}
	e, err := r.Event(q.Context(), q.PathValue("event"))
	if err != nil {
		return nil, nil, err
	}
	seen, err := q.visible(r, []*room.Entry{e})
	if err == nil && len(seen) == 0 {
		err = noEvent(q)
	}
	if err != nil {
		return nil, nil, err
	}
	return r, seen[0], nil
}

func noEvent(q *request) error {
	return notFound("event " + q.PathValue("event") + " is not found in the room")
}

// visible are those of a room's events that who asks may read.
func (q *request) visible(r *room.Room, events []*room.Entry) ([]*room.Entry, error) {
	if q.sees {
		return events, nil
	}
	return r.Visible(q.Context(), q.login.User, events)
}

// shown are those of a room's events that who asks may read, and wants to: "the client will no longer receive events sent by" those whom they ignore.
func (a *API) shown(q *request, r *room.Room, events []*room.Entry) ([]*room.Entry, error) {
	seen, err := q.visible(r, events)
	if err != nil || q.sees {
		return seen, err
	}
	return a.Syncer.Hears(q.Context(), q.login.User, seen)
}

func (a *API) clients(q *request, r *room.Room, events []*room.Entry) ([]json.RawMessage, error) {
	ignored, err := a.Syncer.Ignored(q.Context(), q.login.User)
	if err != nil {
		return nil, err
	}
	return sync.Clients(q.Context(), r, events, q.login.User, q.login.Device, ignored, true)
}

// limit reads how many of something are wanted.
func limit(q *request, usual, most int) (int, error) {
	s := q.URL.Query().Get("limit")
	if s == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, invalidParam("limit is not a number")
	}
	return min(n, most), nil
}

// presets are what kinds of rooms begin with (clause client-server API, POST createRoom).
var presets = map[string]struct{ join, history, guests string }{
	"private_chat":         {"invite", "shared", "can_join"},
	"trusted_private_chat": {"invite", "shared", "can_join"},
	"public_chat":          {"public", "shared", "forbidden"},
}

// creation is a request for a room.
type creation struct {
	Visibility string            `json:"visibility"`
	AliasName  string            `json:"room_alias_name"`
	Name       string            `json:"name"`
	Topic      string            `json:"topic"`
	Invite     []string          `json:"invite"`
	Invite3PID []invite3PID      `json:"invite_3pid"`
	Version    string            `json:"room_version"`
	Preset     string            `json:"preset"`
	IsDirect   bool              `json:"is_direct"`
	Content    json.RawMessage   `json:"creation_content"`
	Levels     json.RawMessage   `json:"power_level_content_override"`
	State      []json.RawMessage `json:"initial_state"`
}

func (a *API) createRoom(q *request) (any, error) {
	var c creation
	if err := q.into(&c); err != nil {
		return nil, err
	}
	if c.Version == "" {
		c.Version = a.RoomVersion
	}
	version, err := matrix.FindVersion(c.Version)
	if err != nil {
		return nil, err
	}
	if c.Preset == "" {
		c.Preset = "private_chat"
		if c.Visibility == "public" {
			c.Preset = "public_chat"
		}
	}
	if _, ok := presets[c.Preset]; !ok {
		return nil, invalidParam("there is no preset " + c.Preset)
	}
	unknown, err := a.lookupAll(q, &c)
	if err != nil {
		return nil, err
	}
	alias := ""
	if c.AliasName != "" {
		alias = "#" + c.AliasName + ":" + a.Server
		if err := a.mayName(q, alias); err != nil {
			return nil, err
		}
		if _, err := a.alias(q.Context(), alias); err == nil {
			return nil, fail(http.StatusBadRequest, "M_ROOM_IN_USE", "alias "+alias+" is taken")
		}
	}
	drafts, err := a.drafts(q, c, version, alias)
	if err != nil {
		return nil, err
	}
	r, err := a.Rooms.Create(q.Context(), version, func(t *room.Turn) error {
		for _, d := range drafts {
			if _, err := t.Send(d); err != nil {
				return err
			}
		}
		if alias != "" {
			t.Also(func(tx table.Tx, number int64) error { return a.putAlias(tx, alias, number, q.login.User) })
		}
		if c.Visibility == "public" {
			t.Publish(true)
		}
		return nil
	})
	if err != nil {
		if errors.Is(err, matrix.ErrForbidden) || errors.Is(err, room.ErrSelfDenied) {
			err = fail(http.StatusBadRequest, "M_INVALID_ROOM_STATE", err.Error())
		}
		return nil, err
	}
	for in, of := range unknown {
		if err := a.storeInvite(q, r, in, of); err != nil {
			return nil, err
		}
	}
	return map[string]string{"room_id": r.ID()}, nil
}

// drafts are the events with which a room begins, in order.
func (a *API) drafts(q *request, c creation, version *matrix.Version, alias string) ([]room.Draft, error) {
	user, none := q.login.User, ""
	var all []room.Draft
	add := func(kind, key string, content canonical.Value) {
		all = append(all, room.Draft{Type: kind, Sender: user, StateKey: &key, Content: content})
	}
	content, err := parse(c.Content)
	if err != nil {
		return nil, err
	}
	content = content.With("room_version", canonical.Text(version.ID))
	if version.CreatorField {
		content = content.With("creator", canonical.Text(user))
	}
	if version.CreateIsRoom && c.Preset == "trusted_private_chat" && len(c.Invite) > 0 {
		content = content.With("additional_creators", canonical.List(withCreators(content.Get("additional_creators"), c.Invite)...))
	}
	add(matrix.TypeCreate, none, content)
	add(matrix.TypeMember, user, a.memberContent(&request{Request: q.Request}, user, matrix.Join))
	levels, err := a.levels(c, version, user)
	if err != nil {
		return nil, err
	}
	add(matrix.TypePowerLevels, none, levels)
	if alias != "" {
		add("m.room.canonical_alias", none, object("alias", alias))
	}
	p := presets[c.Preset]
	for _, one := range [][3]string{
		{matrix.TypeJoinRules, "join_rule", p.join}, {matrix.TypeHistoryVisibility, "history_visibility", p.history}, {"m.room.guest_access", "guest_access", p.guests},
	} {
		add(one[0], none, object(one[1], one[2]))
	}
	for _, s := range c.State {
		v, err := parse(s)
		if err != nil {
			return nil, err
		}
		add(v.Get("type").String(), v.Get("state_key").String(), v.Get("content"))
	}
	if c.Name != "" {
		add("m.room.name", none, object("name", c.Name))
	}
	if c.Topic != "" {
		add("m.room.topic", none, topic(c.Topic))
	}
	for _, invited := range c.Invite {
		content := a.memberContent(&request{Request: q.Request}, invited, matrix.Invite)
		if c.IsDirect {
			content = content.With("is_direct", canonical.Truth(true))
		}
		add(matrix.TypeMember, invited, content)
	}
	return all, nil
}

// withCreators are the creators that a client names, and those whom it invites, each once. What it names is not looked at here.
func withCreators(named canonical.Value, invited []string) (all []canonical.Value) {
	for c := range named.Elements {
		all = append(all, c)
	}
	for _, user := range invited {
		if !slices.ContainsFunc(all, func(c canonical.Value) bool { return c.String() == user }) {
			all = append(all, canonical.Text(user))
		}
	}
	return all
}

// topic is the content of a topic, which is plain text (clause client-server API, m.room.topic).
func topic(text string) canonical.Value {
	return object("topic", text).With("m.topic", canonical.Of(canonical.Member{Name: "m.text", Value: canonical.List(object("body", text))}))
}

func object(name, value string) canonical.Value {
	return canonical.Of(canonical.Member{Name: name, Value: canonical.Text(value)})
}

// parse reads an object that becomes part of an event; nothing is an empty one.
func parse(text json.RawMessage) (canonical.Value, error) {
	if len(text) == 0 || string(text) == "null" {
		return canonical.Of(), nil
	}
	v, err := canonical.Parse(text, canonical.Strict)
	if err == nil && v.Kind() != canonical.Object {
		err = badJSON("something that is to be an object is none")
	}
	return v, err
}

// levels are the power levels with which a room begins.
func (a *API) levels(c creation, version *matrix.Version, user string) (canonical.Value, error) {
	users := canonical.Of()
	if !version.CreateIsRoom {
		users = users.With(user, canonical.Int(100))
		if c.Preset == "trusted_private_chat" {
			for _, invited := range c.Invite {
				users = users.With(invited, canonical.Int(100))
			}
		}
	}
	tombstone := int64(100)
	if version.CreateIsRoom {
		tombstone = 150 // clause room version 12: only creators end a room, unless somebody is given more
	}
	events := canonical.Of()
	for kind, n := range map[string]int64{
		"m.room.name": 50, "m.room.power_levels": 100, "m.room.history_visibility": 100, "m.room.canonical_alias": 50, "m.room.avatar": 50,
		"m.room.tombstone": tombstone, matrix.TypeServerACL: 100, "m.room.encryption": 100,
	} {
		events = events.With(kind, canonical.Int(n))
	}
	v := canonical.Of(canonical.Member{Name: "users", Value: users}, canonical.Member{Name: "events", Value: events},
		canonical.Member{Name: "notifications", Value: canonical.Of(canonical.Member{Name: "room", Value: canonical.Int(50)})})
	for name, n := range map[string]int64{"users_default": 0, "events_default": 0, "state_default": 50, "ban": 50, "kick": 50, "redact": 50, "invite": 0} {
		v = v.With(name, canonical.Int(n))
	}
	over, err := parse(c.Levels)
	if err != nil {
		return v, err
	}
	for name, value := range over.Members {
		v = v.With(name, value)
	}
	return v, nil
}
