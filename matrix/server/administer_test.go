package server_test

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"orrery/internal/testenv"
)

// administered is a server with an administrator.
func administered(t *testing.T, s *site) *client {
	t.Helper()
	root := s.register("root")
	if err := s.server.Accounts.SetAdmin(t.Context(), root.user, true); err != nil {
		t.Fatal(err)
	}
	return root
}

// list is a list in an answer.
func list(t *testing.T, answer object, name string) []object {
	t.Helper()
	var all []object
	values, ok := answer[name].([]any)
	for _, v := range values {
		o, isObject := v.(object)
		ok = ok && isObject
		all = append(all, o)
	}
	if !ok {
		t.Fatalf("%s is no list: %v", name, answer)
	}
	return all
}

func names(all []object, field string) string {
	var found []string
	for _, o := range all {
		found = append(found, fmt.Sprint(o[field]))
	}
	return strings.Join(found, " ")
}

// TestAdministeredReports: what users report is listed, read with its event, and gone once it is resolved.
func TestAdministeredReports(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		root, anne, bob := administered(t, s), s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat", "name": "Lounge"})
		bob.join(room)
		event := anne.send(room, "1", "rude")
		path := url.PathEscape(room)
		for n, reason := range []string{"first", "second"} {
			bob.do("POST", "rooms/"+path+"/report/"+event, object{"reason": reason, "score": -n})
		}
		bob.do("POST", "users/"+url.PathEscape(anne.user)+"/report", object{"reason": "is rude"})
		reports := adminPath + "v1/event_reports"
		bob.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", reports, nil)
		all := root.do("GET", reports, nil)
		if got := list(t, all, "event_reports"); names(got, "reason") != "second first" || all["total"] != float64(2) || all["next_token"] != nil ||
			got[0]["sender"] != anne.user || got[0]["user_id"] != bob.user || got[0]["name"] != "Lounge" || got[0]["event_id"] != event || got[0]["score"] != float64(-1) {
			t.Error(all)
		}
		first := root.do("GET", reports+"?dir=f&limit=1", nil)
		if got := list(t, first, "event_reports"); names(got, "reason") != "first" || first["next_token"] != float64(1) {
			t.Error(first)
		}
		if none := root.do("GET", reports+"?user_id="+url.QueryEscape(anne.user), nil); none["total"] != float64(0) {
			t.Error(none)
		}
		id := fmt.Sprint(list(t, all, "event_reports")[0]["id"])
		if whole := root.do("GET", reports+"/"+id, nil); fmt.Sprint(at(whole, "event_json", "content", "body")) != "rude" {
			t.Error(whole)
		}
		if around := root.do("GET", adminPath+"v1/rooms/"+path+"/context/"+event+"?limit=1", nil); fmt.Sprint(at(around, "event", "event_id")) != event {
			t.Error(around)
		}
		if page := root.do("GET", adminPath+"v1/rooms/"+path+"/messages?limit=1", nil); names(list(t, page, "chunk"), "event_id") != event {
			t.Error(page)
		}
		if one := root.do("GET", adminPath+"v1/fetch_event/"+event, nil); fmt.Sprint(at(one, "event", "room_id")) != room {
			t.Error(one)
		}
		root.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", "rooms/"+path+"/messages", nil) // as a user, an administrator reads no other rooms
		users := root.do("GET", adminPath+"v1/user_reports", nil)
		if got := list(t, users, "user_reports"); names(got, "target_user_id") != anne.user || names(got, "reason") != "is rude" {
			t.Error(users)
		}
		root.refused(http.StatusNotFound, "M_NOT_FOUND", "DELETE", adminPath+"v1/user_reports/"+id, nil) // it is one of an event
		root.do("DELETE", reports+"/"+id, nil)
		root.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", reports+"/"+id, nil)
		root.refused(http.StatusBadRequest, "M_INVALID_PARAM", "GET", reports+"/x", nil)
		root.do("DELETE", adminPath+"v1/rooms/"+path, object{})
		if left := list(t, root.do("GET", reports, nil), "event_reports"); names(left, "reason") != "first" || left[0]["name"] != nil {
			t.Error(left)
		}
	})
}

// TestAdministeredUsers: lists of accounts by what they are and in some order, and what belongs to an account.
func TestAdministeredUsers(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		root, anne, bob := administered(t, s), s.register("anne"), s.register("bob")
		anne.do("PUT", "profile/"+url.PathEscape(anne.user)+"/displayname", object{"displayname": "Zoë"})
		listed := func(query string) string {
			return names(list(t, root.do("GET", adminPath+"v3/users?"+query, nil), "users"), "name")
		}
		for query, want := range map[string]string{
			"dir=b": "@root:orrery.test @bob:orrery.test @anne:orrery.test", "name=ZO": anne.user, "admins=true": root.user, "order_by=displayname&admins=false": bob.user + " " + anne.user,
			"locked=true": "", "deactivated=true": "", "from=1&limit=1": bob.user, "order_by=creation_ts&dir=f&limit=1": root.user,
		} {
			if got := listed(query); got != want {
				t.Errorf("%s: %q, not %q", query, got, want)
			}
		}
		user := func(c *client) string { return url.PathEscape(c.user) }
		one, all := root.do("GET", adminPath+"v2/users/"+user(bob), nil), list(t, root.do("GET", adminPath+"v2/users?name=bob", nil), "users")
		if many := all[0]; math.Floor(many["creation_ts"].(float64)/1000) != one["creation_ts"] {
			t.Errorf("made at %v seconds, and %v milliseconds", one["creation_ts"], many["creation_ts"])
		}
		root.do("PUT", adminPath+"v2/users/"+user(bob), object{"locked": true, "deactivated": false})
		if listed("locked=true") != bob.user {
			t.Error("nobody is locked")
		}
		bob.refused(http.StatusUnauthorized, "M_USER_LOCKED", "GET", "account/whoami", nil)
		root.do("PUT", adminPath+"v2/users/"+user(bob), object{"locked": false})
		root.do("PUT", adminPath+"v1/suspend/"+user(bob), object{"suspend": true})
		bob.refused(http.StatusForbidden, "M_USER_SUSPENDED", "POST", "createRoom", object{})
		root.refused(http.StatusBadRequest, "M_BAD_JSON", "PUT", adminPath+"v1/suspend/"+user(bob), object{})
		root.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", adminPath+"v1/suspend/"+user(root), object{"suspend": true})
		root.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", adminPath+"v1/users/"+user(root)+"/admin", object{"admin": false})
		(&client{site: s}).do("POST", "login", object{"type": "m.login.password", "user": "root", "password": "pw-root", "device_id": nil}) // as panels log in
		room := anne.create(object{})
		if all := root.do("GET", adminPath+"v1/users/"+user(anne)+"/memberships", nil); fmt.Sprint(at(all, "memberships", room)) != "join" {
			t.Error(all)
		}
		anne.do("PUT", "user/"+user(anne)+"/account_data/org.example", object{"a": "b"})
		if all := root.do("GET", adminPath+"v1/users/"+user(anne)+"/accountdata", nil); fmt.Sprint(at(all, "account_data", "global", "org.example", "a")) != "b" {
			t.Error(all)
		}
		if all := root.do("GET", adminPath+"v1/users/"+user(anne)+"/pushers", nil); all["total"] != float64(0) {
			t.Error(all)
		}
		if all := root.do("GET", adminPath+"v1/whois/"+user(anne), nil); all["user_id"] != anne.user {
			t.Error(all)
		}
		device := adminPath + "v2/users/" + user(anne) + "/devices/" + anne.device
		root.do("PUT", device, object{"display_name": "desk"})
		if d := root.do("GET", device, nil); d["display_name"] != "desk" {
			t.Error(d)
		}
		root.do("POST", adminPath+"v2/users/"+user(anne)+"/delete_devices", object{"devices": []string{anne.device}})
		anne.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
		root.refused(http.StatusBadRequest, "M_USER_IN_USE", "GET", adminPath+"v1/username_available?username=anne", nil)
		root.do("GET", adminPath+"v1/username_available?username=carl", nil)
		root.do("POST", adminPath+"v1/deactivate/"+user(anne), object{})
		root.refused(http.StatusBadRequest, "M_UNKNOWN", "PUT", adminPath+"v2/users/"+user(anne), object{"deactivated": false, "password": "again"})
	})
}

// TestAdministeredRooms: lists of rooms, power in them, blocking one that is gone, and deleting one while it is watched.
func TestAdministeredRooms(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		root, anne, bob := administered(t, s), s.register("anne"), s.register("bob")
		lounge := anne.create(object{"name": "lounge", "preset": "public_chat", "visibility": "public"})
		den := anne.create(object{"name": "Den"})
		bob.join(lounge)
		listed := func(query string) string {
			return names(list(t, root.do("GET", adminPath+"v1/rooms?"+query, nil), "rooms"), "room_id")
		}
		for query, want := range map[string]string{
			"": lounge + " " + den, "dir=b": den + " " + lounge, "order_by=name": den + " " + lounge, "order_by=joined_members&dir=b&limit=1": lounge, "public_rooms=true": lounge,
			"public_rooms=false": den, "empty_rooms=true": "", "from=1": den,
		} {
			if got := listed(query); got != want {
				t.Errorf("%s: %q, not %q", query, got, want)
			}
		}
		about := adminPath + "v1/rooms/" + url.PathEscape(lounge)
		if state := list(t, root.do("GET", about+"/state", nil), "state"); !strings.Contains(names(state, "type"), "m.room.create") {
			t.Error(state)
		}
		last := anne.send(lounge, "last", "the last word")
		if ends := root.do("GET", about+"/forward_extremities", nil); ends["count"] != float64(1) || names(list(t, ends, "results"), "event_id") != last {
			t.Errorf("after %s: %v", last, ends)
		}
		root.do("POST", about+"/make_room_admin", object{}) // who asks, whom the room's maker invites
		root.join(lounge)
		root.do("PUT", "rooms/"+url.PathEscape(lounge)+"/state/m.room.topic", object{"topic": "under new management"})
		bob.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", "rooms/"+url.PathEscape(lounge)+"/state/m.room.topic", object{"topic": "mine"})
		root.do("POST", adminPath+"v1/rooms/"+url.PathEscape(den)+"/make_room_admin", object{"user_id": bob.user})
		bob.join(den)
		root.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", adminPath+"v1/join/"+url.PathEscape(anne.create(object{})), object{"user_id": bob.user})
		root.do("POST", adminPath+"v1/join/"+url.PathEscape(root.create(object{})), object{"user_id": bob.user})

		picture := anne.upload("image/png", "", picture(t, 8, 8, false))
		anne.do("PUT", "rooms/"+url.PathEscape(lounge)+"/send/m.room.message/1", object{"msgtype": "m.image", "body": "x", "url": "mxc://" + picture})
		if got := root.do("GET", adminPath+"v1/room/"+url.PathEscape(lounge)+"/media", nil); fmt.Sprint(got["local"]) != "[mxc://"+picture+"]" {
			t.Error(got)
		}
		if got := root.do("POST", adminPath+"v1/room/"+url.PathEscape(lounge)+"/media/quarantine", object{}); got["num_quarantined"] != float64(1) {
			t.Error(got)
		}
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "/_matrix/client/v1/media/download/"+picture, nil)
		if got := root.do("GET", adminPath+"v1/media/"+picture, nil); at(got, "media_info", "quarantined_by") == nil {
			t.Error(got)
		}
		if got := root.do("GET", adminPath+"v1/statistics/users/media?search_term=ANN", nil); names(list(t, got, "users"), "media_count") != "1" {
			t.Error(got)
		}
		if got := root.do("POST", adminPath+"v1/media/delete?before_ts=99999999999999&dry_run=true&user_id="+url.QueryEscape(anne.user), object{}); got["total"] != float64(1) {
			t.Error(got)
		}
		if got := root.do("DELETE", adminPath+"v1/users/"+url.PathEscape(anne.user)+"/media", nil); got["total"] != float64(1) {
			t.Error(got)
		}

		id := fmt.Sprint(root.do("DELETE", adminPath+"v2/rooms/"+url.PathEscape(lounge), object{"block": true})["delete_id"])
		testenv.Eventually(t, "the room is deleted", func() bool {
			return root.do("GET", adminPath+"v2/rooms/delete_status/"+id, nil)["status"] == "complete"
		})
		if got := list(t, root.do("GET", adminPath+"v2/rooms/"+url.PathEscape(lounge)+"/delete_status", nil), "results"); names(got, "delete_id") != id {
			t.Error(got)
		}
		if got := root.do("GET", about+"/block", nil); got["block"] != true {
			t.Error(got)
		}
		root.do("PUT", about+"/block", object{"block": false})
		if got := root.do("GET", about+"/block", nil); got["block"] != false {
			t.Error(got)
		}
		root.refused(http.StatusBadRequest, "M_BAD_JSON", "PUT", adminPath+"v1/rooms/x/block", object{"block": true})
		root.refused(http.StatusNotFound, "M_NOT_FOUND", "DELETE", adminPath+"v2/rooms/"+url.PathEscape(lounge), object{})
	})
}

// TestAdministeredTokens: tokens for registration are changed and found by whether they count.
func TestAdministeredTokens(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		root := administered(t, s)
		tokens := adminPath + "v1/registration_tokens"
		root.do("POST", tokens+"/new", object{"token": "welcome", "uses_allowed": 1})
		if got := root.do("PUT", tokens+"/welcome", object{"uses_allowed": nil, "expiry_time": 1}); got["uses_allowed"] != nil || got["expiry_time"] != float64(1) {
			t.Error(got)
		}
		if got := root.do("GET", tokens+"?valid=true", nil); len(list(t, got, "registration_tokens")) != 0 {
			t.Error(got)
		}
		if got := root.do("GET", tokens+"?valid=false", nil); len(list(t, got, "registration_tokens")) != 1 {
			t.Error(got)
		}
		root.do("GET", tokens+"/welcome", nil)
		root.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", tokens+"/welcome", object{"uses_allowed": "x"})
		root.refused(http.StatusNotFound, "M_NOT_FOUND", "PUT", tokens+"/other", object{})
	})
}
