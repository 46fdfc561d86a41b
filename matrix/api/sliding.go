package api

import (
	"encoding/json"
	"regexp"

	"orrery/matrix/sync"
	"orrery/matrix/sync/window"
)

// Limits of a request of sliding sync (MSC4186: "max lists: 100", "max subscriptions: 100"; "the server may cap" the timeline's limit).
const (
	maxRules         = 100
	maxSlidingEvents = 100
	maxMessages      = 100
)

// slidingRoutes are Simplified Sliding Sync (MSC4186), in the dialect that was accepted, and in the one in which clients were deployed before.
func (a *API) slidingRoutes() {
	a.in("POST /_matrix/client/v4/sync", a.acceptedSync)
	a.in("POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync", a.deployedSync)
}

// slidingFilter is a filter of lists in both dialects.
type slidingFilter struct {
	Direct    *bool     `json:"is_dm"`
	Encrypted *bool     `json:"is_encrypted"`
	Invited   *bool     `json:"is_invited"`
	Invite    *bool     `json:"is_invite"` // in the deployed dialect
	Types     []*string `json:"room_types"`
	NotTypes  []*string `json:"not_room_types"`
	Tags      []string  `json:"tags"`
	NotTags   []string  `json:"not_tags"`
	Spaces    []string  `json:"spaces"`
	Name      string    `json:"room_name_like"` // in the deployed dialect
}

func (f slidingFilter) filter() window.Filter {
	types := func(all []*string) []string {
		if all == nil {
			return nil
		}
		found := []string{}
		for _, t := range all {
			s := "" // null is a room without type
			if t != nil {
				s = *t
			}
			found = append(found, s)
		}
		return found
	}
	w := window.Filter{
		Direct: f.Direct, Encrypted: f.Encrypted, Invited: f.Invited, Types: types(f.Types), NotTypes: types(f.NotTypes), Tags: f.Tags, NotTags: f.NotTags, Spaces: f.Spaces, Name: f.Name,
	}
	if w.Invited == nil {
		w.Invited = f.Invite
	}
	return w
}

// slidingExtensions are what both dialects ask for besides rooms.
type slidingExtensions struct {
	ToDevice struct {
		Enabled bool   `json:"enabled"`
		Since   string `json:"since"`
		Limit   int    `json:"limit"`
	} `json:"to_device"`
	Encryption struct {
		Enabled bool `json:"enabled"`
	} `json:"e2ee"`
	AccountData slidingScope `json:"account_data"`
	Receipts    slidingScope `json:"receipts"`
	Typing      slidingScope `json:"typing"`
	Threads     struct {
		Enabled bool `json:"enabled"`
		Limit   *int `json:"limit"`
	} `json:"io.element.msc4308.thread_subscriptions"`
}

type slidingScope struct {
	Enabled bool     `json:"enabled"`
	Lists   []string `json:"lists"`
	Rooms   []string `json:"rooms"`
}

func (s slidingScope) scope() *sync.Scope {
	if !s.Enabled {
		return nil
	}
	all := func(names []string) []string {
		if len(names) == 1 && names[0] == "*" {
			return nil
		}
		return names
	}
	return &sync.Scope{Lists: all(s.Lists), Rooms: all(s.Rooms)}
}

func (x slidingExtensions) read(s *sync.Syncer) (out sync.Extensions, err error) {
	if x.ToDevice.Enabled {
		asked := &sync.ToDeviceAsked{Limit: x.ToDevice.Limit}
		if asked.Limit <= 0 || asked.Limit > maxMessages {
			asked.Limit = maxMessages
		}
		if x.ToDevice.Since != "" {
			if asked.Since, err = s.ReadSince(x.ToDevice.Since); err != nil {
				return out, err
			}
		}
		out.ToDevice = asked
	}
	if x.Threads.Enabled {
		if out.Threads, err = subscriptionLimit(x.Threads.Limit); err != nil {
			return out, err
		}
	}
	out.Encryption = x.Encryption.Enabled
	out.AccountData, out.Receipts, out.Typing = x.AccountData.scope(), x.Receipts.scope(), x.Typing.scope()
	return out, nil
}

// deployedConfig is how much of a room is told, in the deployed dialect: state as pairs of type and key, with * for all, $ME and $LAZY.
type deployedConfig struct {
	Limit    int        `json:"timeline_limit"`
	Required [][]string `json:"required_state"`
}

func (c deployedConfig) config(user string) (window.Config, error) {
	var q window.Required
	for _, pair := range c.Required {
		if len(pair) != 2 {
			return window.Config{}, badJSON("required_state is no list of pairs of a type and a key")
		}
		kind, key := &pair[0], &pair[1]
		if *kind == "*" {
			kind = nil
		}
		switch *key {
		case "*":
			key = nil
		case "$ME":
			key = &user
		case "$LAZY":
			q.Lazy = true
			continue
		}
		q.Include = append(q.Include, window.Element{Type: kind, StateKey: key})
	}
	return window.Config{Timeline: events(c.Limit), Required: []window.Required{q}}, nil
}

func events(limit int) int { return min(max(limit, 0), maxSlidingEvents) }

// deployedSync is sliding sync as clients such as Element X ask for it: POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync.
func (a *API) deployedSync(q *request) (any, error) {
	var in struct {
		Connection string `json:"conn_id"`
		Txn        string `json:"txn_id"`
		Lists      map[string]struct {
			deployedConfig

			Ranges  [][2]int      `json:"ranges"`
			Filters slidingFilter `json:"filters"`
		} `json:"lists"`
		Rooms      map[string]deployedConfig `json:"room_subscriptions"`
		Extensions slidingExtensions         `json:"extensions"`
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	s := sync.SlidingRequest{User: q.login.User, Device: q.login.Device, Connection: in.Connection, Pos: q.URL.Query().Get("pos"), Unread: true}
	var err error
	if text := q.URL.Query().Get("timeout"); text != "" {
		if s.Timeout, err = timeout(text); err != nil {
			return nil, err
		}
	}
	if s.Extensions, err = in.Extensions.read(a.Syncer); err != nil {
		return nil, err
	}
	s.Rooms = window.Request{Lists: map[string]window.List{}, Subscriptions: map[string]window.Config{}}
	for name, l := range in.Lists {
		config, err := l.config(s.User)
		if err != nil {
			return nil, err
		}
		s.Rooms.Lists[name] = window.List{Config: config, Ranges: l.Ranges, Filter: l.Filters.filter()}
	}
	for id, c := range in.Rooms {
		if s.Rooms.Subscriptions[id], err = c.config(s.User); err != nil {
			return nil, err
		}
	}
	resp, err := a.sliding(q, s, q.URL.Query().Get("set_presence"))
	if err != nil {
		return nil, err
	}
	out := slidingAnswer{Txn: in.Txn, Pos: resp.Pos, Lists: slidingCounts(resp), Rooms: map[string]slidingRoom{}, Extensions: extended(resp)}
	for id, r := range resp.Rooms {
		v := acceptedRoom(r)
		if v.Expanded = nil; r.Expanded {
			v.OldExpanded = &r.Expanded
		}
		v.Membership, v.Lists, v.Stripped = "", nil, nil
		if r.Membership == "invite" || r.Membership == "knock" {
			v.Invite = r.Stripped
		}
		v.Notifications, v.Highlights = &r.Notifications, &r.Highlights
		out.Rooms[id] = v
	}
	return out, nil
}

// acceptedConfig is how much of a room is told, in the accepted dialect (MSC4186, RequiredStateRequest).
type acceptedConfig struct {
	Limit    int `json:"timeline_limit"`
	Required struct {
		Include []acceptedElement `json:"include"`
		Exclude []acceptedElement `json:"exclude"`
		Lazy    bool              `json:"lazy_members"`
	} `json:"required_state"`
}

type acceptedElement struct {
	Type     *string `json:"type"`
	StateKey *string `json:"state_key"`
}

func (c acceptedConfig) config() window.Config {
	elements := func(all []acceptedElement) (found []window.Element) {
		for _, e := range all {
			found = append(found, window.Element(e))
		}
		return found
	}
	return window.Config{Timeline: events(c.Limit), Required: []window.Required{{
		Include: elements(c.Required.Include), Exclude: elements(c.Required.Exclude), Lazy: c.Required.Lazy,
	}}}
}

// opaque is the grammar of identifiers that mean something to clients only (clause appendices, opaque identifiers).
var opaque = regexp.MustCompile(`^[0-9a-zA-Z._~-]{1,255}$`)

// acceptedSync is sliding sync as the specification will have it: POST /_matrix/client/v4/sync (MSC4186, API).
func (a *API) acceptedSync(q *request) (any, error) {
	var in struct {
		Connection string `json:"conn_id"`
		Pos        string `json:"pos"`
		Timeout    int64  `json:"timeout"`
		Presence   string `json:"set_presence"`
		Lists      map[string]struct {
			acceptedConfig

			Range   *[2]int       `json:"range"`
			Filters slidingFilter `json:"filters"`
		} `json:"lists"`
		Rooms      map[string]acceptedConfig `json:"room_subscriptions"`
		Extensions slidingExtensions         `json:"extensions"`
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	s := sync.SlidingRequest{User: q.login.User, Device: q.login.Device, Connection: in.Connection, Pos: in.Pos, Timeout: milliseconds(in.Timeout)}
	var err error
	if s.Extensions, err = in.Extensions.read(a.Syncer); err != nil {
		return nil, err
	}
	s.Rooms = window.Request{Lists: map[string]window.List{}, Subscriptions: map[string]window.Config{}}
	for name, l := range in.Lists {
		if !opaque.MatchString(name) {
			return nil, invalidParam("a list's name is not made of letters, digits and ._~-")
		}
		list := window.List{Config: l.config(), Filter: l.Filters.filter()}
		if l.Range != nil {
			list.Ranges = [][2]int{*l.Range}
		}
		s.Rooms.Lists[name] = list
	}
	for id, c := range in.Rooms {
		s.Rooms.Subscriptions[id] = c.config()
	}
	resp, err := a.sliding(q, s, in.Presence)
	if err != nil {
		return nil, err
	}
	out := slidingAnswer{Pos: resp.Pos, Lists: slidingCounts(resp), Rooms: map[string]slidingRoom{}, Extensions: extended(resp)}
	for id, r := range resp.Rooms {
		out.Rooms[id] = acceptedRoom(r)
	}
	return out, nil
}

func (a *API) sliding(q *request, s sync.SlidingRequest, set string) (*sync.SlidingResponse, error) {
	if len(s.Rooms.Lists) > maxRules || len(s.Rooms.Subscriptions) > maxRules {
		return nil, invalidParam("there are more than 100 lists or subscriptions")
	}
	if len(s.Connection) > 255 {
		return nil, invalidParam("conn_id is longer than 255 bytes")
	}
	if err := presence(set); err != nil {
		return nil, err
	}
	done, err := a.Syncer.Attend(q.Context(), s.User, set)
	if err != nil {
		return nil, err
	}
	defer done()
	return a.Syncer.Sliding(q.Context(), s)
}

// slidingAnswer is an answer in both dialects.
type slidingAnswer struct {
	Txn        string                    `json:"txn_id,omitempty"`
	Pos        string                    `json:"pos"`
	Lists      map[string]map[string]int `json:"lists"`
	Rooms      map[string]slidingRoom    `json:"rooms"`
	Extensions map[string]any            `json:"extensions"`
}

// slidingRoom is a room in both dialects; each leaves out what the other one has.
type slidingRoom struct {
	Initial       bool              `json:"initial,omitempty"`
	Expanded      *bool             `json:"expanded_timeline,omitempty"`
	OldExpanded   *bool             `json:"unstable_expanded_timeline,omitempty"`
	Membership    string            `json:"membership,omitempty"`
	Lists         []string          `json:"lists,omitempty"`
	Bump          int64             `json:"bump_stamp"`
	Stripped      []json.RawMessage `json:"stripped_state,omitempty"`
	Invite        []json.RawMessage `json:"invite_state,omitempty"`
	Name          json.RawMessage   `json:"name,omitempty"`
	Avatar        json.RawMessage   `json:"avatar,omitempty"`
	Heroes        []sync.Hero       `json:"heroes,omitempty"`
	Direct        *bool             `json:"is_dm,omitempty"`
	State         []json.RawMessage `json:"required_state,omitempty"`
	Timeline      []json.RawMessage `json:"timeline,omitempty"`
	Prev          string            `json:"prev_batch,omitempty"`
	Limited       bool              `json:"limited,omitempty"`
	Live          int               `json:"num_live,omitempty"`
	Joined        *int              `json:"joined_count,omitempty"`
	Invited       *int              `json:"invited_count,omitempty"`
	Notifications *int              `json:"notification_count,omitempty"`
	Highlights    *int              `json:"highlight_count,omitempty"`
}

// acceptedRoom is a room as the accepted dialect has it.
func acceptedRoom(r *sync.SlidingRoom) slidingRoom {
	v := slidingRoom{
		Initial: r.Initial, Membership: r.Membership, Lists: r.Lists, Bump: r.Bump, Stripped: r.Stripped, Name: field(r.Name), Avatar: field(r.Avatar), Heroes: r.Heroes,
		Direct: r.Direct, State: r.State, Timeline: r.Timeline, Prev: r.Prev, Limited: r.Limited, Live: r.Live, Joined: r.Joined, Invited: r.Invited,
	}
	if r.Expanded {
		v.Expanded = &r.Expanded
	}
	return v
}

// field is a text that changed, null if it is none any more.
func field(f *sync.Field) json.RawMessage {
	if f == nil {
		return nil
	}
	text, _ := json.Marshal(f.Value)
	return text
}

func slidingCounts(r *sync.SlidingResponse) map[string]map[string]int {
	counts := map[string]map[string]int{}
	for name, n := range r.Counts {
		counts[name] = map[string]int{"count": n}
	}
	return counts
}

func extended(r *sync.SlidingResponse) map[string]any {
	all := map[string]any{}
	if r.ToDevice != nil {
		all["to_device"] = r.ToDevice
	}
	if r.Encryption != nil {
		all["e2ee"] = r.Encryption
	}
	if r.AccountData != nil {
		all["account_data"] = r.AccountData
	}
	if r.Receipts != nil {
		all["receipts"] = map[string]any{"rooms": r.Receipts}
	}
	if r.Typing != nil {
		all["typing"] = map[string]any{"rooms": r.Typing}
	}
	if r.Threads != nil {
		all["io.element.msc4308.thread_subscriptions"] = r.Threads
	}
	return all
}
