package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

// slid is an answer of sliding sync, in both dialects.
type slid struct {
	Pos   string
	Lists map[string]struct{ Count int }
	Rooms map[string]*struct {
		Initial, Limited         bool
		Expanded                 bool `json:"expanded_timeline"`
		OldExpanded              bool `json:"unstable_expanded_timeline"`
		Membership               string
		Lists                    []string
		Bump                     int64         `json:"bump_stamp"`
		Stripped                 []clientEvent `json:"stripped_state"`
		Invite                   []clientEvent `json:"invite_state"`
		Name, Avatar             json.RawMessage
		Heroes                   []object
		Direct                   *bool         `json:"is_dm"`
		State                    []clientEvent `json:"required_state"`
		Timeline                 []clientEvent
		Prev                     string `json:"prev_batch"`
		Live                     int    `json:"num_live"`
		Joined                   *int   `json:"joined_count"`
		Invited                  *int   `json:"invited_count"`
		Notifications, Highlight *int
		Notified                 *int `json:"notification_count"`
	}
	Extensions struct {
		ToDevice *struct {
			Next   string `json:"next_batch"`
			Events []object
		} `json:"to_device"`
		Encryption *struct {
			Lists  *struct{ Changed, Left []string } `json:"device_lists"`
			Counts map[string]int                    `json:"device_one_time_keys_count"`
		} `json:"e2ee"`
		AccountData *struct {
			Global []clientEvent
			Rooms  map[string][]clientEvent
		} `json:"account_data"`
		Receipts, Typing struct{ Rooms map[string]clientEvent }
	}
}

const deployedPath = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

// deployed asks in the deployed dialect, as Element X does.
func (c *client) deployed(pos, timeout string, body object) (out slid) {
	c.t.Helper()
	path := deployedPath + "?timeout=" + timeout
	if pos != "" {
		path += "&pos=" + url.QueryEscape(pos)
	}
	c.want(http.StatusOK, "POST", path, body, &out)
	return out
}

const acceptedPath = "/_matrix/client/v4/sync"

// accepted asks in the accepted dialect.
func (c *client) accepted(pos string, body object) (out slid) {
	c.t.Helper()
	if pos != "" {
		body["pos"] = pos
	}
	c.want(http.StatusOK, "POST", acceptedPath, body, &out)
	return out
}

func types(all []clientEvent) (found []string) {
	for _, e := range all {
		key := ""
		if e.StateKey != nil && *e.StateKey != "" {
			key = " " + *e.StateKey
		}
		found = append(found, e.Type+key)
	}
	slices.Sort(found)
	return found
}

// TestSlidingDeployed: a client begins with a small list, makes it grow, opens a room, and hears of what is new there.
func TestSlidingDeployed(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		if f, _ := anne.do("GET", "/_matrix/client/versions", nil)["unstable_features"].(object); f["org.matrix.simplified_msc3575"] != true {
			t.Error(f)
		}
		var rooms []string
		for i := range 4 {
			rooms = append(rooms, bob.create(object{"preset": "public_chat", "name": fmt.Sprint("Room ", i)}))
			anne.join(rooms[i])
		}
		for i := range 3 {
			bob.send(rooms[1], fmt.Sprint("a", i), fmt.Sprint("old ", i))
		}
		required := [][]string{{"m.room.name", ""}, {"m.room.encryption", ""}, {"m.room.member", "$LAZY"}, {"m.room.member", "$ME"}, {"m.room.create", ""}, {"m.space.child", "*"}}
		list := func(last int) object {
			return object{"all_rooms": object{"ranges": [][]int{{0, last}}, "required_state": required, "timeline_limit": 1}}
		}
		first := anne.deployed("", "60000", object{"conn_id": "room-list", "txn_id": "x", "lists": list(0)})
		got := first.Rooms[rooms[1]]
		if len(first.Rooms) != 1 || got == nil || first.Lists["all_rooms"].Count != 4 {
			t.Fatalf("%+v", first)
		}
		want := []string{"m.room.create", "m.room.member " + anne.user, "m.room.member " + bob.user, "m.room.name"}
		if !got.Initial || !got.Limited || string(got.Name) != `"Room 1"` || len(got.Timeline) != 1 || *got.Joined != 2 || *got.Invited != 0 || got.Live != 0 || *got.Notified != 3 || !slices.Equal(types(got.State), want) {
			t.Errorf("%+v %q", got, types(got.State))
		}
		if got.Membership != "" || got.Lists != nil || got.Heroes != nil {
			t.Errorf("that is the other dialect's: %+v", got)
		}
		grown := anne.deployed(first.Pos, "0", object{"conn_id": "room-list", "lists": list(99)})
		if len(grown.Rooms) != 3 || grown.Rooms[rooms[1]] != nil {
			t.Errorf("%+v", grown.Rooms)
		}
		open := object{"conn_id": "room-list", "lists": list(99), "room_subscriptions": object{rooms[1]: object{"required_state": append(required, []string{"m.room.topic", ""}), "timeline_limit": 20}}}
		opened := anne.deployed(grown.Pos, "60000", open)
		if got = opened.Rooms[rooms[1]]; got == nil || got.Initial || !got.OldExpanded || got.Expanded || len(bodies(got.Timeline)) != 3 || len(opened.Rooms) != 1 {
			t.Fatalf("%+v", opened)
		}
		heard := make(chan slid)
		go func() { heard <- anne.deployed(opened.Pos, "60000", open) }()
		bob.send(rooms[1], "b", "new")
		live := <-heard
		if got = live.Rooms[rooms[1]]; got == nil || got.Initial || got.OldExpanded || got.Limited || got.Live != 1 || !slices.Equal(bodies(got.Timeline), []string{"new"}) || len(got.State) != 0 || got.Name != nil {
			t.Errorf("%+v", got)
		}
		again := anne.deployed(opened.Pos, "0", open) // as if the answer had been lost
		if got = again.Rooms[rooms[1]]; got == nil || !slices.Equal(bodies(got.Timeline), []string{"new"}) {
			t.Errorf("%+v", again)
		}
		anne.refused(http.StatusBadRequest, "M_UNKNOWN_POS", "POST", deployedPath+"?pos="+url.QueryEscape(live.Pos), open) // the one after it was told last
		bob.do("PUT", "rooms/"+rooms[1]+"/state/m.room.topic", object{"topic": "tea"})
		bob.do("PUT", "rooms/"+rooms[1]+"/state/m.room.name", object{})
		next := anne.deployed(again.Pos, "0", open)
		if got = next.Rooms[rooms[1]]; got == nil || string(got.Name) != "null" || !slices.Equal(types(got.State), []string{"m.room.name", "m.room.topic"}) || len(got.Heroes) != 1 {
			t.Errorf("%+v", got)
		}
		last := anne.send(rooms[1], "c", "read")
		next = anne.deployed(next.Pos, "0", open)
		anne.do("POST", "rooms/"+rooms[1]+"/receipt/m.read/"+url.PathEscape(last), object{})
		next = anne.deployed(next.Pos, "60000", open)
		if got = next.Rooms[rooms[1]]; got == nil || *got.Notified != 0 || len(got.Timeline) != 0 {
			t.Errorf("%+v", got)
		}
		if empty := anne.deployed(next.Pos, "0", open); len(empty.Rooms) != 0 || empty.Pos == next.Pos {
			t.Errorf("%+v", empty)
		}
	})
}

// TestSlidingAccepted: what differs in the accepted dialect.
func TestSlidingAccepted(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
	room := bob.create(object{"preset": "public_chat", "topic": "tea"})
	anne.join(room)
	carl.join(room)
	carl.send(room, "1", "hello")
	invited := bob.create(object{"name": "Den", "invite": []string{anne.user}})
	body := func(limit int) object {
		return object{"lists": object{"main": object{
			"range": []int{0, 9}, "timeline_limit": limit,
			"required_state": object{"include": []object{{}}, "exclude": []object{{"type": "m.room.create"}, {"type": "m.room.topic", "state_key": ""}}, "lazy_members": true},
		}}}
	}
	first := anne.accepted("", body(1))
	got := first.Rooms[room]
	if got == nil || got.Membership != "join" || !slices.Equal(got.Lists, []string{"main"}) || got.Name != nil || len(got.Heroes) != 2 || got.Notified != nil {
		t.Fatalf("%+v", got)
	}
	for _, kind := range types(got.State) {
		if kind == "m.room.create" || kind == "m.room.topic" || kind == "m.room.member "+anne.user || kind == "m.room.member "+bob.user {
			t.Errorf("state has %s", kind)
		}
	}
	if len(got.State) < 4 || !slices.Contains(types(got.State), "m.room.member "+carl.user) {
		t.Error(types(got.State))
	}
	if got = first.Rooms[invited]; got == nil || got.Membership != "invite" || len(got.Stripped) < 4 || len(got.State)+len(got.Timeline) != 0 || got.Joined != nil {
		t.Errorf("%+v", got)
	}
	// More of the timeline than before: the newest events, also those that were told.
	more := anne.accepted(first.Pos, body(3))
	if got = more.Rooms[room]; got == nil || !got.Expanded || len(got.Timeline) != 3 || got.Live != 0 {
		t.Errorf("%+v", got)
	}
	if same := anne.accepted(more.Pos, body(2)); len(same.Rooms) != 0 {
		t.Errorf("%+v", same.Rooms)
	} else if same = anne.accepted(same.Pos, body(3)); len(same.Rooms) != 0 { // it has those three
		t.Errorf("%+v", same.Rooms)
	} else {
		more = same
	}
	anne.join(invited)
	joined := anne.accepted(more.Pos, body(3))
	if got = joined.Rooms[invited]; got == nil || !got.Initial || got.Membership != "join" || string(got.Name) != `"Den"` || got.Direct != nil {
		t.Errorf("%+v", got)
	}
	anne.do("PUT", "user/"+anne.user+"/account_data/m.direct", object{bob.user: []string{invited}})
	direct := anne.accepted(joined.Pos, body(3))
	if got = direct.Rooms[invited]; got == nil || got.Direct == nil || !*got.Direct || got.Initial {
		t.Errorf("%+v", got)
	}
	if _, page := anne.request(t.Context(), "GET", "rooms/"+room+"/messages?dir=b&from="+url.QueryEscape(direct.Pos), nil); !json.Valid(page) || len(page) < 300 {
		t.Errorf("a position is no token of messages: %s", page)
	}
	// Somebody is put out; somebody goes.
	bob.do("POST", "rooms/"+room+"/kick", object{"user_id": anne.user})
	anne.do("POST", "rooms/"+invited+"/leave", object{})
	bob.send(room, "2", "without anne")
	left := anne.accepted(direct.Pos, body(3))
	if got = left.Rooms[room]; got == nil || got.Membership != "leave" || got.Initial || len(bodies(got.Timeline)) != 0 || len(got.Timeline) != 1 || got.Joined != nil {
		t.Errorf("%+v", got)
	}
	if got = left.Rooms[invited]; got == nil || got.Membership != "leave" || left.Lists["main"].Count != 2 {
		t.Errorf("%+v", left)
	}
	anew := anne.accepted("", body(3))
	if anew.Lists["main"].Count != 1 || anew.Rooms[room] == nil || len(bodies(anew.Rooms[room].Timeline)) != 1 {
		t.Errorf("%+v", anew)
	}
	for _, pos := range []string{left.Pos, "s1", "s1_x.1", "nonsense"} {
		anne.refused(http.StatusBadRequest, "M_UNKNOWN_POS", "POST", acceptedPath, object{"pos": pos})
	}
	bob.refused(http.StatusBadRequest, "M_UNKNOWN_POS", "POST", acceptedPath, object{"pos": anew.Pos})
	anne.refused(http.StatusBadRequest, "M_UNKNOWN_POS", "POST", acceptedPath, object{"pos": anew.Pos, "conn_id": "other"})
	lists := object{}
	for i := range 101 {
		lists[fmt.Sprint(i)] = object{"timeline_limit": 1}
	}
	anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", acceptedPath, object{"lists": lists})
	anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", acceptedPath, object{"lists": object{"a b": object{}}})
	anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", acceptedPath, object{"set_presence": "asleep"})
	anne.refused(http.StatusBadRequest, "M_BAD_JSON", "POST", acceptedPath, object{"lists": 1})
	// Rooms that one must not see are as if they did not exist.
	secret := bob.create(object{"name": "Secret"})
	if hidden := anne.accepted("", object{"room_subscriptions": object{secret: object{"timeline_limit": 9}, "!nowhere:x": object{}}}); len(hidden.Rooms) != 0 {
		t.Errorf("%+v", hidden)
	}
}

// TestSlidingLists: rooms are chosen by filters, and by where they are in the order of activity.
func TestSlidingLists(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	secure := anne.create(object{"initial_state": []object{{"type": "m.room.encryption", "content": object{"algorithm": "m.megolm.v1.aes-sha2"}}}})
	space := anne.create(object{"creation_content": object{"type": "m.space"}})
	child, liked := anne.create(object{"name": "Child"}), anne.create(object{})
	anne.do("PUT", "rooms/"+space+"/state/m.space.child/"+url.PathEscape(child), object{"via": []string{"orrery.test"}})
	anne.do("PUT", "user/"+anne.user+"/rooms/"+liked+"/tags/m.favourite", object{})
	anne.do("PUT", "user/"+anne.user+"/account_data/m.direct", object{bob.user: []string{liked}, "odd": 1})
	invited := bob.create(object{"invite": []string{anne.user}})
	yes, no := true, false
	lists := object{}
	want := map[string][]string{}
	for name, c := range map[string]struct {
		filter object
		want   []string
	}{
		"invites":    {object{"is_invited": yes}, []string{invited}},
		"encrypted":  {object{"is_encrypted": yes}, []string{secure}},
		"spaces":     {object{"room_types": []any{"m.space"}}, []string{space}},
		"no-spaces":  {object{"not_room_types": []any{"m.space"}, "is_invited": no, "is_dm": no}, []string{child, secure}},
		"untyped":    {object{"room_types": []any{nil}, "is_encrypted": yes}, []string{secure}},
		"of-a-space": {object{"spaces": []string{space, "!other:x"}}, []string{child}},
		"liked":      {object{"tags": []string{"m.favourite"}}, []string{liked}},
		"unliked":    {object{"not_tags": []string{"m.favourite"}, "is_dm": yes}, nil},
		"direct":     {object{"is_dm": yes}, []string{liked}},
		"all":        {object{}, []string{invited, space, liked, child, secure}},
	} {
		lists[name], want[name] = object{"filters": c.filter, "timeline_limit": 0}, c.want
	}
	got := anne.accepted("", object{"lists": lists})
	for name, rooms := range want {
		slices.Sort(rooms)
		var have []string
		for id, r := range got.Rooms {
			if slices.Contains(r.Lists, name) {
				have = append(have, id)
			}
		}
		slices.Sort(have)
		if !slices.Equal(have, rooms) || got.Lists[name].Count != len(rooms) {
			t.Errorf("%s: %q, not %q; %d are counted", name, have, rooms, got.Lists[name].Count)
		}
	}
	first := anne.accepted("", object{"lists": object{"top": object{"range": []int{0, 1}}}})
	if len(first.Rooms) != 2 || first.Rooms[invited] == nil || first.Rooms[space] == nil {
		t.Errorf("%+v", first.Rooms)
	}
	anne.send(secure, "1", "to the top")
	if next := anne.accepted(first.Pos, object{"lists": object{"top": object{"range": []int{0, 1}}}}); len(next.Rooms) != 1 || next.Rooms[secure] == nil || !next.Rooms[secure].Initial {
		t.Errorf("%+v", next.Rooms)
	}
}

// TestSlidingExtensions: what is told besides rooms is told once.
func TestSlidingExtensions(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := bob.create(object{"preset": "public_chat"})
		anne.join(room)
		old := bob.send(room, "0", "old")
		body := func(since string) object {
			on := object{"enabled": true}
			toDevice := object{"enabled": true}
			if since != "" {
				toDevice["since"] = since
			}
			return object{
				"conn_id": "all", "lists": object{"l": object{"ranges": [][]int{{0, 9}}, "timeline_limit": 1}},
				"extensions": object{"to_device": toDevice, "e2ee": on, "account_data": on, "receipts": on, "typing": on},
			}
		}
		bob.do("POST", "rooms/"+room+"/receipt/m.read/"+url.PathEscape(old), object{})
		newest := bob.send(room, "1", "new")
		first := anne.deployed("", "0", body(""))
		x := first.Extensions
		if x.ToDevice == nil || x.Encryption == nil || x.Encryption.Lists != nil || x.AccountData == nil || len(x.AccountData.Global) != 1 || len(x.Receipts.Rooms)+len(x.Typing.Rooms) != 0 {
			t.Fatalf("%+v", x)
		}
		ask := func(pos, since string) slid {
			t.Helper()
			return anne.deployed(pos, "60000", body(since))
		}
		send := func(txn, body string) {
			bob.do("PUT", "sendToDevice/m.test/"+txn, object{"messages": object{anne.user: object{anne.device: object{"n": body}}}})
		}
		send("1", "one")
		next := ask(first.Pos, x.ToDevice.Next)
		if x = next.Extensions; len(x.ToDevice.Events) != 1 {
			t.Errorf("%+v", x.ToDevice)
		}
		before := x.ToDevice.Next
		send("2", "two")
		if x = ask(next.Pos, first.Extensions.ToDevice.Next).Extensions; len(x.ToDevice.Events) != 2 { // the first one was not confirmed
			t.Errorf("%+v", x.ToDevice)
		}
		if next = ask(next.Pos, before); len(next.Extensions.ToDevice.Events) != 1 {
			t.Errorf("%+v", next.Extensions.ToDevice)
		}
		since := next.Extensions.ToDevice.Next
		bob.do("PUT", "rooms/"+room+"/typing/"+bob.user, object{"typing": true, "timeout": 60_000})
		next = ask(next.Pos, since)
		if e := next.Extensions.Typing.Rooms[room]; fmt.Sprint(e.Content["user_ids"]) != "["+bob.user+"]" || len(next.Rooms) != 0 {
			t.Errorf("%+v", next)
		}
		bob.do("POST", "rooms/"+room+"/receipt/m.read/"+url.PathEscape(newest), object{})
		next = ask(next.Pos, since)
		if e := next.Extensions.Receipts.Rooms[room]; e.Type != "m.receipt" || e.Content[newest] == nil {
			t.Errorf("%+v", next.Extensions)
		}
		anne.do("PUT", "user/"+anne.user+"/rooms/"+room+"/account_data/org.x", object{"a": 1})
		anne.do("PUT", "user/"+anne.user+"/account_data/org.y", object{"b": 1})
		next = ask(next.Pos, since)
		if d := next.Extensions.AccountData; !slices.Equal(types(d.Global), []string{"org.y"}) || !slices.Equal(types(d.Rooms[room]), []string{"org.x"}) {
			t.Errorf("%+v", d)
		}
		bob.deviceKeys()
		next = ask(next.Pos, since)
		if l := next.Extensions.Encryption.Lists; l == nil || !slices.Equal(l.Changed, []string{bob.user}) {
			t.Errorf("%+v", l)
		}
		if quiet := anne.deployed(next.Pos, "0", body(since)); len(quiet.Rooms)+len(quiet.Extensions.AccountData.Global)+len(quiet.Extensions.Receipts.Rooms)+len(quiet.Extensions.Typing.Rooms) != 0 || quiet.Extensions.Encryption.Lists != nil {
			t.Errorf("%+v", quiet)
		}
		// Only of some rooms.
		only := body("")
		only["conn_id"] = "only"
		only["extensions"] = object{"account_data": object{"enabled": true, "lists": []string{}}, "receipts": object{"enabled": true, "lists": []string{"*"}}}
		got := anne.deployed("", "0", only).Extensions
		if len(got.AccountData.Rooms) != 0 || len(got.AccountData.Global) != 2 || got.ToDevice != nil || len(got.Receipts.Rooms) != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// FuzzSliding: whatever a client asks, it gets an answer, or the standard's error.
func FuzzSliding(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"lists":{"a":{"ranges":[[0,1]],"range":[0,1],"timeline_limit":-1,"required_state":[]}}}`, `{"lists":{"a":{"required_state":{"include":[{"type":null}]}}}}`,
		`{"lists":{"a":{"required_state":[["m.room.member","$LAZY"],["*","*"]],"filters":{"room_types":[null],"spaces":["!x:y"],"tags":[]}}}}`,
		`{"extensions":{"to_device":{"enabled":true,"since":"s9"},"typing":{"enabled":true,"rooms":["*"]}}}`, `{"timeout":-5,"pos":""}`, `{"lists":[]}`, `{"room_subscriptions":{"":{}}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		c := newSite(t, "memory").register("anne")
		c.create(object{})
		for _, path := range []string{deployedPath, acceptedPath} {
			status, text := c.request(t.Context(), "POST", path, body)
			var out struct{ Errcode, Pos string }
			if err := json.Unmarshal(text, &out); err != nil || (status != http.StatusOK || out.Pos == "") && (status != http.StatusBadRequest || out.Errcode == "") {
				t.Errorf("%d: %s: %v", status, text, err)
			}
		}
	})
}
