package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

type counts struct {
	Rooms struct {
		Join map[string]struct {
			Ephemeral events
			Unread    struct {
				Highlights    int `json:"highlight_count"`
				Notifications int `json:"notification_count"`
			} `json:"unread_notifications"`
		}
	}
	Next        string `json:"next_batch"`
	AccountData events `json:"account_data"`
}

// TestUnread: what was not read is counted by the user's rules, until it is read.
func TestUnread(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		var got counts
		check := func(since string, notifications, highlights int) {
			t.Helper()
			got = counts{}
			bob.want(http.StatusOK, "GET", "sync?since="+since, nil, &got)
			if u := got.Rooms.Join[room].Unread; u.Notifications != notifications || u.Highlights != highlights {
				t.Errorf("%+v, not %d and %d", u, notifications, highlights)
			}
		}
		check("", 0, 0)
		if len(got.AccountData.Events) != 1 || got.AccountData.Events[0].Type != "m.push_rules" {
			t.Errorf("%+v", got.AccountData)
		}
		anne.send(room, "1", "one")
		anne.do("PUT", "rooms/"+url.PathEscape(room)+"/send/m.room.message/2", object{"body": "two", "m.mentions": object{"user_ids": []string{bob.user}}})
		last := anne.send(room, "3", "three")
		bob.send(room, "4", "mine")
		check(got.Next, 3, 1)
		bob.do("PUT", "pushrules/global/room/"+url.PathEscape(room), object{"actions": []string{}})
		check("", 3-2, 1) // only the mention: rules about it come before those of rooms
		bob.do("PUT", "pushrules/global/room/"+url.PathEscape(room)+"/enabled", object{"enabled": false})
		check("", 3, 1)
		bob.do("POST", "rooms/"+url.PathEscape(room)+"/receipt/m.read/"+url.PathEscape(last), object{})
		check(got.Next, 0, 0)
		if e := got.Rooms.Join[room].Ephemeral.Events; len(e) != 1 || e[0].Type != "m.receipt" || e[0].Content[last] == nil {
			t.Errorf("%+v", e)
		}
	})
}

func TestPrivateReceipts(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat"})
	bob.join(room)
	id := anne.send(room, "1", "x")
	at := "rooms/" + url.PathEscape(room)
	since := anne.sync("", "").Next
	bob.do("POST", at+"/read_markers", object{"m.fully_read": id, "m.read.private": id})
	var got counts
	anne.want(http.StatusOK, "GET", "sync?since="+since, nil, &got)
	if len(got.Rooms.Join) != 0 {
		t.Errorf("others see it: %+v", got)
	}
	bob.want(http.StatusOK, "GET", "sync?since="+since, nil, &got)
	if e := got.Rooms.Join[room].Ephemeral.Events; len(e) != 1 {
		t.Errorf("%+v", got)
	}
	if m := bob.do("GET", "user/"+bob.user+"/rooms/"+url.PathEscape(room)+"/account_data/m.fully_read", nil); m["event_id"] != id {
		t.Error(m)
	}
	bob.refused(http.StatusNotFound, "M_NOT_FOUND", "POST", at+"/receipt/m.read/$other", object{})
	bob.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", at+"/receipt/m.odd/"+url.PathEscape(id), object{})
	s.register("carl").refused(http.StatusForbidden, "M_FORBIDDEN", "POST", at+"/receipt/m.read/"+url.PathEscape(id), object{})
}

func TestTyping(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat"})
	bob.join(room)
	since := anne.sync("", "").Next
	typing := func(want string) {
		t.Helper()
		var got counts
		anne.want(http.StatusOK, "GET", "sync?timeout=60000&since="+since, nil, &got)
		since = got.Next
		if e := got.Rooms.Join[room].Ephemeral.Events; len(e) != 1 || e[0].Type != "m.typing" || fmt.Sprint(e[0].Content["user_ids"]) != want {
			t.Errorf("%+v", got)
		}
	}
	at := "rooms/" + url.PathEscape(room) + "/typing/"
	bob.do("PUT", at+bob.user, object{"typing": true, "timeout": 60_000})
	typing("[" + bob.user + "]")
	bob.do("PUT", at+bob.user, object{"typing": true, "timeout": 1})
	typing("[]") // it ended by itself
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", at+anne.user, object{"typing": true})
}

func TestPushRules(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	rules := "pushrules/global/"
	anne.do("PUT", rules+"content/cake", object{"pattern": "cake", "actions": []any{"notify", object{"set_tweak": "highlight"}}})
	anne.do("PUT", rules+"content/tea?before=cake", object{"pattern": "tea", "actions": []any{"dont_notify"}})
	all := anne.do("GET", rules, nil)["content"].([]any)
	if len(all) != 2 || all[0].(object)["rule_id"] != "tea" || fmt.Sprint(all[0].(object)["actions"]) != "[dont_notify]" {
		t.Error(all)
	}
	anne.do("PUT", rules+"override/.m.rule.master/enabled", object{"enabled": true})
	if r := anne.do("GET", rules+"override/.m.rule.master/enabled", nil); r["enabled"] != true {
		t.Error(r)
	}
	anne.do("DELETE", rules+"content/tea", nil)
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", rules+"content/tea", nil)
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "DELETE", rules+"override/.m.rule.master", nil)
	anne.refused(http.StatusBadRequest, "M_UNKNOWN", "PUT", rules+"content/x?after=nobody", object{"pattern": "x", "actions": []any{}})
	anne.refused(http.StatusBadRequest, "M_MISSING_PARAM", "PUT", rules+"content/x", object{"actions": []any{}})
	anne.refused(http.StatusBadRequest, "M_MISSING_PARAM", "PUT", rules+"content/x", object{"pattern": "x"})
	anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", rules+"odd/x", object{"actions": []any{}})
	anne.refused(http.StatusBadRequest, "M_BAD_JSON", "PUT", rules+"override/.x", object{"actions": []any{}})
}

// TestRename: somebody who changes their name in a room has not read it by that, and does not come into it anew.
func TestRename(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		since := bob.sync("", "").Next
		anne.send(room, "1", "one")
		bob.do("PUT", "profile/"+bob.user+"/displayname", object{"displayname": "Bobby"})
		got := bob.sync(since, "")
		if e := got.Rooms.Join[room]; len(e.State.Events) != 0 || len(e.Timeline.Events) != 2 || e.Timeline.Limited {
			t.Errorf("%+v", e)
		}
		var unread counts
		bob.want(http.StatusOK, "GET", "sync", nil, &unread)
		if u := unread.Rooms.Join[room].Unread; u.Notifications != 1 {
			t.Errorf("%+v", u)
		}
	})
}

// TestUnreadThreads: what was not read is counted by threads for clients that want that, and receipts of a thread are about that one.
func TestUnreadThreads(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		bob.sync("", "")
		root := anne.send(room, "1", "root")
		mention := object{"body": "x", "m.mentions": object{"user_ids": []string{bob.user}}}
		first := anne.relate(room, "2", "m.room.message", root, "m.thread", mention)
		plain := anne.send(room, "3", "main")
		anne.relate(room, "4", "m.room.message", root, "m.reference", object{"body": "of the root, in the main timeline"})
		last := anne.relate(room, "5", "m.room.message", first, "m.reference", object{"body": "of a message in the thread, and there by that"})
		type count struct {
			Highlights    int `json:"highlight_count"`
			Notifications int `json:"notification_count"`
		}
		check := func(when string, all, main, thread count) {
			t.Helper()
			for filter, want := range map[string]count{"": all, "&filter=" + url.QueryEscape(`{"room":{"timeline":{"unread_thread_notifications":true}}}`): main} {
				var got struct {
					Rooms struct {
						Join map[string]struct {
							Unread  count            `json:"unread_notifications"`
							Threads map[string]count `json:"unread_thread_notifications"`
						}
					}
				}
				bob.want(http.StatusOK, "GET", "sync?"+filter, nil, &got)
				wanted := map[string]count{}
				if filter != "" && thread != (count{}) {
					wanted[root] = thread
				}
				if j := got.Rooms.Join[room]; j.Unread != want || !maps.Equal(j.Threads, wanted) {
					t.Errorf("%s%s: %+v, not %+v and %+v", when, filter, j, want, wanted)
				}
			}
		}
		read := func(id string, body object) {
			t.Helper()
			bob.do("POST", "rooms/"+room+"/receipt/m.read/"+id, body)
		}
		check("at first", count{1, 5}, count{0, 3}, count{1, 2})
		read(root, object{"thread_id": "main"})
		check("the root in the main timeline", count{1, 4}, count{0, 2}, count{1, 2})
		read(first, object{"thread_id": root})
		check("one in the thread", count{0, 3}, count{0, 2}, count{0, 1})
		read(plain, object{})
		check("a part of everything", count{0, 2}, count{0, 1}, count{0, 1})
		read(root, object{}) // it does not go back
		check("what was read before", count{0, 2}, count{0, 1}, count{0, 1})
		read(last, object{"thread_id": root})
		check("the thread", count{0, 1}, count{0, 1}, count{})
		if s.config.Database == "memory" {
			return
		}
		s.stop()
		s.start()
		check("after a restart", count{0, 1}, count{0, 1}, count{})
	})
}

// TestReceiptsOfOneEvent: there is place for one receipt of a user for an event, and the one of the whole room says more.
func TestReceiptsOfOneEvent(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	room := anne.create(object{})
	id := anne.send(room, "1", "x")
	anne.do("POST", "rooms/"+room+"/receipt/m.read/"+id, object{})
	anne.do("POST", "rooms/"+room+"/receipt/m.read/"+id, object{"thread_id": "main"})
	var got counts
	anne.want(http.StatusOK, "GET", "sync", nil, &got)
	of, _ := got.Rooms.Join[room].Ephemeral.Events[0].Content[id].(object)
	kind, _ := of["m.read"].(object)
	if mine, _ := kind[anne.user].(object); mine == nil || mine["thread_id"] != nil {
		t.Errorf("%v", of)
	}
}

// TestPollRules: polls notify, and votes do not (MSC3930).
func TestPollRules(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat"})
	bob.join(room)
	bob.sync("", "")
	for i, kind := range []string{"start", "response", "end", "other"} {
		anne.do("PUT", fmt.Sprintf("rooms/%s/send/org.matrix.msc3381.poll.%s/%d", room, kind, i), object{})
	}
	var got counts
	bob.want(http.StatusOK, "GET", "sync", nil, &got)
	if n := got.Rooms.Join[room].Unread.Notifications; n != 2 {
		t.Errorf("%d notifications", n)
	}
	rules := fmt.Sprint(bob.do("GET", "pushrules/global/", nil)["underride"])
	if two := strings.Index(rules, ".poll_start_one_to_one]"); two < 0 || two > strings.Index(rules, ".poll_start]") {
		t.Error(rules)
	}
}
