package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"orrery/matrix"
)

// TestVersions: a room of every version can be made, joined, and has its rules.
func TestVersions(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	for _, v := range matrix.Versions {
		room := anne.create(object{"room_version": v.ID, "preset": "public_chat", "topic": "of version " + v.ID})
		if strings.Contains(room, ":") == v.CreateIsRoom {
			t.Errorf("version %s: %s", v.ID, room)
		}
		bob.join(room)
		id := bob.send(room, v.ID, "hello")
		bob.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", "rooms/"+url.PathEscape(room)+"/state/m.room.topic", object{"topic": "mine"})
		anne.do("PUT", fmt.Sprintf("rooms/%s/redact/%s/x%s", url.PathEscape(room), url.PathEscape(id), v.ID), object{"reason": "test"})
		e := bob.do("GET", "rooms/"+url.PathEscape(room)+"/event/"+url.PathEscape(id), nil)
		if content, _ := e["content"].(object); len(content) != 0 {
			t.Errorf("version %s: redacted: %v", v.ID, e)
		}
	}
	anne.refused(http.StatusBadRequest, "M_UNSUPPORTED_ROOM_VERSION", "POST", "createRoom", object{"room_version": "99"})
}

func TestMembership(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "private_chat"})
	at := "rooms/" + room
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "join/"+room, object{})
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", at+"/send/m.room.message/1", object{})
	anne.do("POST", at+"/invite", object{"user_id": bob.user, "reason": "come"})
	bob.join(room)
	bob.join(room) // again
	if got := anne.do("GET", at+"/joined_members", nil)["joined"].(object); len(got) != 2 {
		t.Error(got)
	}
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", at+"/kick", object{"user_id": anne.user})
	anne.do("POST", at+"/ban", object{"user_id": bob.user})
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "join/"+room, object{})
	anne.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", at+"/kick", object{"user_id": bob.user})
	anne.do("POST", at+"/unban", object{"user_id": bob.user})
	anne.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", at+"/unban", object{"user_id": bob.user})
	anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", at+"/invite", object{"user_id": "bob"})
	anne.refused(http.StatusBadRequest, "M_MISSING_PARAM", "POST", at+"/invite", object{})
	anne.refused(http.StatusBadRequest, "M_UNKNOWN", "POST", at+"/forget", object{})
	left := bob.sync("", "filter="+url.QueryEscape(`{"room":{"include_leave":true}}`))
	if len(left.Rooms.Leave) != 1 || len(left.Rooms.Join) != 0 {
		t.Errorf("%+v", left.Rooms)
	}
	bob.do("POST", at+"/forget", object{})
	left = bob.sync("", "filter="+url.QueryEscape(`{"room":{"include_leave":true}}`))
	if len(left.Rooms.Leave) != 0 {
		t.Errorf("forgotten: %+v", left.Rooms)
	}
}

// TestJoinFields: what the body of a request to join says besides is in the member event, but nothing that only the server says.
func TestJoinFields(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat"})
	body := object{
		"reason": "curious", "org.example.came": object{"by": "link"}, "membership": "ban", "displayname": "Anne", "avatar_url": 1,
		"join_authorised_via_users_server": anne.user, "third_party_invite": object{}, "via": "here", "server_name": "here",
	}
	bob.refused(http.StatusBadRequest, "M_BAD_JSON", "POST", "join/"+room, object{"org.example.came": 1.5})
	for _, path := range []string{"join/" + room, "rooms/" + room + "/join"} {
		bob.do("POST", path, body)
		want := "map[displayname:bob membership:join org.example.came:map[by:link] reason:curious]"
		if got := fmt.Sprint(anne.do("GET", "rooms/"+room+"/state/m.room.member/"+bob.user, nil)); got != want {
			t.Errorf("%s: %s", path, got)
		}
		bob.do("POST", "rooms/"+room+"/leave", object{"org.example.came": "no"})
		if got := fmt.Sprint(bob.do("GET", "rooms/"+room+"/state/m.room.member/"+bob.user, nil)); got != "map[membership:leave]" {
			t.Errorf("left: %s", got)
		}
	}
}

func TestRestricted(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	club := anne.create(object{"preset": "public_chat"})
	room := anne.create(object{"initial_state": []object{{"type": "m.room.join_rules", "content": object{
		"join_rule": "restricted", "allow": []object{{"type": "m.room_membership", "room_id": club}},
	}}}})
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "join/"+room, object{})
	bob.join(club)
	bob.join(room)
	m := anne.do("GET", "rooms/"+room+"/state/m.room.member/"+bob.user, nil)
	if m["join_authorised_via_users_server"] != anne.user {
		t.Error(m)
	}
}

func TestAliases(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat", "room_alias_name": "lounge"})
	name := url.PathEscape("#lounge:orrery.test")
	bob.join("#lounge:orrery.test")
	anne.refused(http.StatusBadRequest, "M_ROOM_IN_USE", "POST", "createRoom", object{"room_alias_name": "lounge"})
	bob.refused(http.StatusConflict, "M_ROOM_IN_USE", "PUT", "directory/room/"+name, object{"room_id": room})
	bob.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", "directory/room/"+url.PathEscape("#x:other"), object{"room_id": room})
	bob.do("PUT", "directory/room/"+url.PathEscape("#b:orrery.test"), object{"room_id": room})
	if got := bob.do("GET", "rooms/"+room+"/aliases", nil)["aliases"].([]any); len(got) != 2 {
		t.Error(got)
	}
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "DELETE", "directory/room/"+name, nil)
	anne.refused(http.StatusBadRequest, "M_BAD_ALIAS", "PUT", "rooms/"+room+"/state/m.room.canonical_alias", object{"alias": "#other:orrery.test"})
	anne.do("DELETE", "directory/room/"+name, nil)
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "directory/room/"+name, nil)
}

// TestMainAliases: the aliases that a room names are its own and have the form of some, and one that is deleted is named no longer.
func TestMainAliases(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
		room, other := anne.create(object{"preset": "public_chat", "room_alias_name": "a"}), anne.create(object{"room_alias_name": "other"})
		bob.join(room)
		carl.join(room)
		for _, name := range []string{"b", "c"} {
			bob.do("PUT", "directory/room/"+url.PathEscape("#"+name+":orrery.test"), object{"room_id": room})
		}
		at := "rooms/" + room + "/state/m.room.canonical_alias"
		for bad, code := range map[string]string{"#other:orrery.test": "M_BAD_ALIAS", "#none:orrery.test": "M_BAD_ALIAS", "%x:orrery.test": "M_INVALID_PARAM", "#x": "M_INVALID_PARAM"} {
			anne.refused(http.StatusBadRequest, code, "PUT", at, object{"alias": bad})
			anne.refused(http.StatusBadRequest, code, "PUT", at, object{"alt_aliases": []string{"#b:orrery.test", bad}})
		}
		anne.do("PUT", at, object{"alias": "#a:orrery.test", "alt_aliases": []string{"#b:orrery.test", "#c:orrery.test", "#x:elsewhere.test"}})
		since := anne.sync("", "").Next
		carl.refused(http.StatusForbidden, "M_FORBIDDEN", "DELETE", "directory/room/"+url.PathEscape("#b:orrery.test"), nil)
		bob.do("DELETE", "directory/room/"+url.PathEscape("#b:orrery.test"), nil) // may not change the room, which names it still
		if got := anne.sync(since, "").Rooms.Join[room].Timeline.Events; len(got) != 0 {
			t.Errorf("%+v", got)
		}
		anne.do("DELETE", "directory/room/"+url.PathEscape("#c:orrery.test"), nil) // bob's
		anne.do("DELETE", "directory/room/"+url.PathEscape("#a:orrery.test"), nil)
		if got := fmt.Sprint(anne.do("GET", at, nil)); got != "map[alt_aliases:[#b:orrery.test #x:elsewhere.test]]" {
			t.Error(got)
		}
		anne.do("PUT", at, object{"alt_aliases": []string{"#b:orrery.test"}}) // was named before
		if got := anne.do("GET", "directory/room/"+url.PathEscape("#other:orrery.test"), nil)["room_id"]; got != other {
			t.Error(got)
		}
	})
}

// TestCreators: creators who are named, and those who are invited as such; none of them has an entry among the levels.
func TestCreators(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
	room := anne.create(object{
		"preset": "trusted_private_chat", "creation_content": object{"additional_creators": []string{bob.user}}, "invite": []string{carl.user, bob.user},
	})
	if got := fmt.Sprint(anne.do("GET", "rooms/"+room+"/state/m.room.create", nil)["additional_creators"]); got != "["+bob.user+" "+carl.user+"]" {
		t.Error(got)
	}
	for _, c := range []*client{anne, bob, carl} {
		anne.refused(http.StatusBadRequest, "M_BAD_STATE", "PUT", "rooms/"+room+"/state/m.room.power_levels", object{"users": object{c.user: 100}})
	}
	anne.do("PUT", "rooms/"+room+"/state/m.room.power_levels", object{"users": object{"@dora:orrery.test": 100}})
	old := anne.create(object{"room_version": "11"})
	anne.do("PUT", "rooms/"+old+"/state/m.room.power_levels", object{"users": object{anne.user: 100}})
	anne.refused(http.StatusBadRequest, "M_BAD_STATE", "PUT", "rooms/"+old+"/state/m.room.create", object{})
	anne.refused(http.StatusBadRequest, "M_INVALID_ROOM_STATE", "POST", "createRoom", object{"preset": "trusted_private_chat", "creation_content": object{"additional_creators": []any{1}}, "invite": []string{bob.user}})
}

// TestTopic: a topic with which a room begins is there as plain text, too.
func TestTopic(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	room := anne.create(object{"topic": "talk", "initial_state": []object{{"type": "m.room.topic", "content": object{"topic": "old"}}}})
	if got := fmt.Sprint(anne.do("GET", "rooms/"+room+"/state/m.room.topic", nil)); got != "map[m.topic:map[m.text:[map[body:talk]]] topic:talk]" {
		t.Error(got)
	}
}

// TestForgotten: who forgot a room cannot read it any more, until they are in it again.
func TestForgotten(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		id := anne.send(room, "1", "x")
		bob.do("POST", "rooms/"+room+"/leave", object{})
		bob.messages(room, "dir=b")
		bob.do("POST", "rooms/"+room+"/forget", object{})
		for _, path := range []string{"messages?dir=b", "state", "members"} {
			bob.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", "rooms/"+room+"/"+path, nil)
		}
		bob.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "rooms/"+room+"/event/"+id, nil)
		bob.join(room)
		bob.messages(room, "dir=b")
	})
}

// TestHistory: what newcomers see is what the room's history visibility says.
func TestHistory(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	for rule, want := range map[string][]string{"shared": {"before", "invited", "after"}, "joined": {"after"}, "invited": {"invited", "after"}, "world_readable": {"before", "invited", "after"}} {
		bob := s.register("bob-" + rule[:1] + fmt.Sprint(len(rule)))
		room := anne.create(object{"initial_state": []object{{"type": "m.room.history_visibility", "content": object{"history_visibility": rule}}}})
		anne.send(room, "1", "before")
		anne.do("POST", "rooms/"+room+"/invite", object{"user_id": bob.user})
		anne.send(room, "2", "invited")
		bob.join(room)
		anne.send(room, "3", "after")
		if got := bodies(bob.sync("", "filter="+url.QueryEscape(`{"room":{"timeline":{"limit":50}}}`)).Rooms.Join[room].Timeline.Events); !slices.Equal(got, want) {
			t.Errorf("%s, by sync: %q", rule, got)
		}
		var page struct{ Chunk []clientEvent }
		bob.want(http.StatusOK, "GET", "rooms/"+room+"/messages?dir=f&limit=100", nil, &page)
		if got := bodies(page.Chunk); !slices.Equal(got, want) {
			t.Errorf("%s, by messages: %q", rule, got)
		}
	}
}

// TestGaps: a client that comes back late gets the end of the timeline, and the state before it that it does not know.
func TestGaps(t *testing.T) {
	s := newSite(t, "sqlite:homeserver.db")
	anne := s.register("anne")
	room := anne.create(object{"preset": "public_chat", "name": "old"})
	since := anne.sync("", "").Next
	anne.do("PUT", "rooms/"+room+"/state/m.room.name", object{"name": "new"})
	for i := range 150 {
		anne.send(room, fmt.Sprint(i), fmt.Sprint(i))
	}
	got := anne.sync(since, "").Rooms.Join[room]
	if !got.Timeline.Limited || len(got.Timeline.Events) != 10 {
		t.Errorf("%d events, limited %t", len(got.Timeline.Events), got.Timeline.Limited)
	}
	if len(got.State.Events) != 1 || got.State.Events[0].Content["name"] != "new" {
		t.Errorf("%+v", got.State)
	}
	var page struct{ Chunk []clientEvent }
	anne.want(http.StatusOK, "GET", "rooms/"+room+"/messages?dir=b&limit=2&from="+got.Timeline.Prev, nil, &page)
	if b := bodies(page.Chunk); !slices.Equal(b, []string{"139", "138"}) {
		t.Errorf("before the gap: %q", b)
	}
}

func TestLazyMembers(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	room := anne.create(object{"preset": "public_chat"})
	var others []*client
	for i := range 5 {
		c := s.register(fmt.Sprintf("u%d", i))
		c.join(room)
		others = append(others, c)
	}
	for i := range 10 {
		others[0].send(room, fmt.Sprint(i), "x")
	}
	got := anne.sync("", "filter="+url.QueryEscape(`{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":5}}}`)).Rooms.Join[room]
	var who []string
	for _, e := range got.State.Events {
		if e.Type == "m.room.member" {
			who = append(who, *e.StateKey)
		}
	}
	slices.Sort(who)
	if !slices.Equal(who, []string{anne.user, others[0].user}) {
		t.Error(who)
	}
}

// TestSameMoment: rooms that are created alike at the same time are different ones.
func TestSameMoment(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	made := make(chan string)
	for range 20 {
		go func() { made <- anne.create(object{}) }()
	}
	ids := map[string]bool{}
	for range 20 {
		ids[<-made] = true
	}
	if len(ids) != 20 || ids[""] {
		t.Errorf("%d rooms: %v", len(ids), ids)
	}
}
