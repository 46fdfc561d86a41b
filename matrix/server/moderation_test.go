package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"orrery/matrix/api"
)

func TestLockAndSuspend(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		for _, kind := range []string{"lock", "suspend"} {
			anne.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", "/_matrix/client/v1/admin/"+kind+"/"+bob.user, nil)
		}
		if err := s.server.Accounts.SetAdmin(t.Context(), anne.user, true); err != nil {
			t.Fatal(err)
		}
		if c := anne.do("GET", "capabilities", nil)["capabilities"].(object)["m.account_moderation"]; fmt.Sprint(c) != "map[lock:true suspend:true]" {
			t.Error(c)
		}
		lock, suspend := "/_matrix/client/v1/admin/lock/"+bob.user, "/_matrix/client/v1/admin/suspend/"+bob.user
		anne.do("PUT", suspend, object{"suspended": true})
		if v := anne.do("GET", suspend, nil); v["suspended"] != true {
			t.Error(v)
		}
		bob.refused(http.StatusForbidden, "M_USER_SUSPENDED", "PUT", "rooms/"+room+"/send/m.room.message/1", object{"body": "x"})
		bob.refused(http.StatusForbidden, "M_USER_SUSPENDED", "POST", "createRoom", object{})
		bob.refused(http.StatusForbidden, "M_USER_SUSPENDED", "PUT", "profile/"+bob.user+"/displayname", object{"displayname": "x"})
		bob.sync("", "")
		bob.do("POST", "rooms/"+room+"/leave", object{})
		anne.do("PUT", suspend, object{"suspended": false})
		bob.join(room)
		anne.do("PUT", lock, object{"locked": true})
		var out struct {
			Code string `json:"errcode"`
			Soft bool   `json:"soft_logout"`
		}
		bob.want(http.StatusUnauthorized, "GET", "sync", nil, &out)
		if out.Code != "M_USER_LOCKED" || !out.Soft {
			t.Errorf("%+v", out)
		}
		anne.do("PUT", lock, object{"locked": false})
		bob.sync("", "")
		anne.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", "/_matrix/client/v1/admin/lock/"+anne.user, object{"locked": true})
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "PUT", "/_matrix/client/v1/admin/lock/@nobody:orrery.test", object{"locked": true})
		anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "GET", "/_matrix/client/v1/admin/lock/@x:other.test", nil)
		anne.refused(http.StatusBadRequest, "M_BAD_JSON", "PUT", lock, object{})
		if w := anne.do("GET", "admin/whois/"+bob.user, nil); w["user_id"] != bob.user || w["devices"].(object)[bob.device] == nil {
			t.Error(w)
		}
		bob.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", "admin/whois/"+anne.user, nil)
	})
}

func TestReports(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat"})
	id := anne.send(room, "1", "rude")
	path := "rooms/" + room + "/report"
	bob.refused(http.StatusNotFound, "M_NOT_FOUND", "POST", path+"/"+url.PathEscape(id), object{"reason": "rude"})
	bob.join(room)
	bob.do("POST", path+"/"+url.PathEscape(id), object{"reason": "rude", "score": -100})
	bob.do("POST", path, object{"reason": "spam"})
	bob.do("POST", "users/"+anne.user+"/report", object{"reason": ""})
	bob.refused(http.StatusNotFound, "M_NOT_FOUND", "POST", "rooms/!other:x/report", object{})
	bob.refused(http.StatusNotFound, "M_NOT_FOUND", "POST", "users/@nobody:orrery.test/report", object{})
	bob.refused(http.StatusBadRequest, "M_BAD_JSON", "POST", path, object{"reason": 1})
	bob.refused(http.StatusBadRequest, "M_BAD_JSON", "POST", path, object{"score": "bad"})
}

// TestIgnored: nobody hears of people whom they ignore, but for state, nor of invitations that they do not want.
func TestIgnored(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		since := anne.sync("", "").Next
		data := "user/" + anne.user + "/account_data/"
		anne.do("PUT", data+"m.ignored_user_list", object{"ignored_users": object{bob.user: object{}}})
		bobs := bob.send(room, "1", "unheard")
		bob.do("PUT", "profile/"+bob.user+"/displayname", object{"displayname": "Bobby"})
		invited := bob.create(object{"invite": []string{anne.user}})
		got := anne.sync(since, "")
		if e := got.Rooms.Join[room].Timeline.Events; len(e) != 1 || e[0].Type != "m.room.member" || got.Rooms.Invite[invited].State.Events != nil {
			t.Errorf("%+v", got)
		}
		if n := anne.do("GET", "notifications", nil)["notifications"].([]any); len(n) != 0 {
			t.Error(n)
		}
		slid := anne.accepted("", object{"lists": object{"l": object{"timeline_limit": 10}}})
		if r := slid.Rooms[room]; r == nil || len(bodies(r.Timeline)) != 0 || slid.Rooms[invited] != nil {
			t.Errorf("%+v", slid)
		}
		mine := anne.send(room, "1", "unheard of myself")
		reply := bob.do("PUT", "rooms/"+room+"/send/m.room.message/2", object{"msgtype": "m.text", "body": "unheard reply", "m.relates_to": object{"rel_type": "m.thread", "event_id": mine}})["event_id"]
		heard := func() (found []string) {
			for _, path := range []string{"messages?dir=b", "context/" + url.PathEscape(mine), "messages?dir=f&from=" + since} {
				var page struct {
					Chunk  []clientEvent
					Before []clientEvent `json:"events_before"`
					After  []clientEvent `json:"events_after"`
				}
				anne.want(http.StatusOK, "GET", "rooms/"+room+"/"+path, nil, &page)
				found = append(found, bodies(slices.Concat(page.Chunk, page.Before, page.After))...)
			}
			return found
		}
		relations := func() int {
			all, _ := anne.do("GET", "/_matrix/client/v1/rooms/"+room+"/relations/"+url.PathEscape(mine), nil)["chunk"].([]any)
			return len(all)
		}
		if h := heard(); slices.Contains(h, "unheard") || slices.Contains(h, "unheard reply") || !slices.Contains(h, "unheard of myself") || relations() != 0 {
			t.Errorf("%q, and %d relations", h, relations())
		}
		anne.finds("unheard", nil, "unheard of myself")
		thread := func() (roots []clientEvent, count any) {
			var page struct{ Chunk []clientEvent }
			anne.want(http.StatusOK, "GET", "/_matrix/client/v1/rooms/"+room+"/threads", nil, &page)
			var e clientEvent
			anne.want(http.StatusOK, "GET", "rooms/"+room+"/event/"+url.PathEscape(mine), nil, &e)
			related, _ := e.Unsigned["m.relations"].(object)
			of, _ := related["m.thread"].(object)
			return page.Chunk, of["count"]
		}
		if roots, count := thread(); len(roots) != 1 || count != nil {
			t.Errorf("%v %v", roots, count)
		}
		anne.do("PUT", "rooms/"+room+"/send/m.room.message/3", object{"msgtype": "m.text", "body": "heard", "m.relates_to": object{"rel_type": "m.thread", "event_id": bobs}})
		if roots, _ := thread(); len(roots) != 2 || roots[0].ID != bobs || len(roots[0].Content) != 0 {
			t.Errorf("%v", roots)
		}
		anne.do("GET", fmt.Sprint("rooms/", room, "/event/", url.PathEscape(fmt.Sprint(reply))), nil) // that they asked for
		anne.do("PUT", data+"m.ignored_user_list", object{"ignored_users": object{}})
		if h := heard(); !slices.Contains(h, "unheard") || relations() != 1 {
			t.Errorf("%q, and %d relations", h, relations())
		}
		if roots, count := thread(); len(roots) != 2 || count != 1.0 {
			t.Errorf("%v %v", roots, count)
		}
		anne.finds("unheard", nil, "unheard reply", "unheard of myself", "unheard")
		if got = anne.sync("", ""); len(bodies(got.Rooms.Join[room].Timeline.Events)) != 4 || len(got.Rooms.Invite) != 1 {
			t.Errorf("%+v", got)
		}
		anne.do("PUT", data+"m.invite_permission_config", object{"default_action": "block"})
		if got = anne.sync("", ""); len(got.Rooms.Invite) != 0 {
			t.Errorf("%+v", got)
		}
		bob.refused(http.StatusForbidden, "M_INVITE_BLOCKED", "POST", "createRoom", object{"invite": []string{anne.user}})
		other := bob.create(object{})
		bob.refused(http.StatusForbidden, "M_INVITE_BLOCKED", "POST", "rooms/"+other+"/invite", object{"user_id": anne.user})
		bob.refused(http.StatusForbidden, "M_INVITE_BLOCKED", "PUT", "rooms/"+other+"/state/m.room.member/"+anne.user, object{"membership": "invite"})
	})
}

func TestDehydrated(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		const path = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", path, nil)
		body := func(id string) object {
			return object{"device_id": id, "device_data": object{"algorithm": "x"}, "device_keys": object{"user_id": anne.user, "device_id": id, "algorithms": []string{}, "keys": object{"ed25519:" + id: "k"}, "signatures": object{}}}
		}
		anne.refused(http.StatusBadRequest, "M_MISSING_PARAM", "PUT", path, object{"device_id": "D"})
		anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", path, body(anne.device))
		if got := anne.do("PUT", path, body("OLD")); got["device_id"] != "OLD" {
			t.Error(got)
		}
		anne.do("PUT", path, body("DRY"))
		if d := anne.do("GET", "devices", nil)["devices"].([]any); len(d) != 2 {
			t.Error(d)
		}
		if got := anne.do("GET", path, nil); got["device_id"] != "DRY" || fmt.Sprint(got["device_data"]) != "map[algorithm:x]" {
			t.Error(got)
		}
		for i := range 2 {
			bob.do("PUT", fmt.Sprint("sendToDevice/m.test/", i), object{"messages": object{anne.user: object{"DRY": object{"n": i}}}})
		}
		first := anne.do("POST", path+"/DRY/events", object{})
		if len(first["events"].([]any)) != 2 || first["next_batch"] == "" {
			t.Error(first)
		}
		if rest := anne.do("POST", path+"/DRY/events", object{"next_batch": first["next_batch"]}); len(rest["events"].([]any)) != 0 {
			t.Error(rest)
		}
		if again := anne.do("GET", path+"/DRY/events", nil); len(again["events"].([]any)) != 2 {
			t.Error(again)
		}
		anne.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", path+"/OLD/events", object{})
		anne.do("DELETE", path, nil)
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", path, nil)
	})
}

func TestOpenID(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	got := anne.do("POST", "user/"+anne.user+"/openid/request_token", object{})
	nobody := &client{site: s}
	const path = "/_matrix/federation/v1/openid/userinfo"
	if who := nobody.do("GET", fmt.Sprint(path, "?access_token=", got["access_token"]), nil); who["sub"] != anne.user || got["matrix_server_name"] != "orrery.test" {
		t.Error(who, got)
	}
	nobody.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", path+"?access_token=x", nil)
	nobody.refused(http.StatusUnauthorized, "M_MISSING_TOKEN", "GET", path, nil)
	anne.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "user/@bob:orrery.test/openid/request_token", object{})
}

// TestAssist: calls, and who helps.
func TestAssist(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	if v := anne.do("GET", "voip/turnServer", nil); len(v) != 0 {
		t.Error(v)
	}
	const support = "/.well-known/matrix/support"
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", support, nil)
	s.stop()
	s.config.TurnURIs, s.config.TurnSecret = []string{"turn:turn.orrery.test"}, "secret"
	s.config.Contacts, s.config.SupportPage = []api.Contact{{Role: "m.role.admin", ID: anne.user}}, "https://orrery.test/help"
	s.start()
	anne = s.register("anne")
	if v := anne.do("GET", "voip/turnServer", nil); v["ttl"] != 86400.0 || v["username"] == "" || len(fmt.Sprint(v["password"])) != 28 || fmt.Sprint(v["uris"]) != "[turn:turn.orrery.test]" {
		t.Error(v)
	}
	if v := anne.do("GET", support, nil); fmt.Sprint(v) != "map[contacts:[map[matrix_id:@anne:orrery.test role:m.role.admin]] support_page:https://orrery.test/help]" {
		t.Error(v)
	}
}

func TestMutualRooms(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat"})
	anne.create(object{})
	bob.join(room)
	path := "/_matrix/client/v1/mutual_rooms?user_id="
	if v := anne.do("GET", path+bob.user, nil); fmt.Sprint(v) != "map[count:1 joined:["+room+"]]" {
		t.Error(v)
	}
	anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "GET", path+anne.user, nil)
	anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "GET", path, nil)
}

func TestTimestampToEvent(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne := s.register("anne")
		room := anne.create(object{})
		for i := range 20 {
			anne.send(room, fmt.Sprint(i), "x")
		}
		var page struct {
			Chunk []struct {
				ID   string `json:"event_id"`
				Time int64  `json:"origin_server_ts"`
			}
		}
		anne.want(http.StatusOK, "GET", "rooms/"+room+"/messages?dir=f&limit=100", nil, &page)
		at := func(ts int64, dir string) int64 {
			t.Helper()
			var out struct {
				ID   string `json:"event_id"`
				Time int64  `json:"origin_server_ts"`
			}
			anne.want(http.StatusOK, "GET", fmt.Sprintf("/_matrix/client/v1/rooms/%s/timestamp_to_event?ts=%d&dir=%s", room, ts, dir), nil, &out)
			if out.ID == "" {
				t.Error("no event")
			}
			return out.Time
		}
		var times []int64
		for _, e := range page.Chunk {
			times = append(times, e.Time)
		}
		for _, ts := range times {
			if f, b := at(ts, "f"), at(ts, "b"); f != ts || b != ts {
				t.Errorf("at %d: %d and %d", ts, f, b)
			}
		}
		if at(0, "f") != slices.Min(times) || at(times[len(times)-1]+1e6, "b") != slices.Max(times) {
			t.Error("not the first, or not the last")
		}
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "/_matrix/client/v1/rooms/"+room+"/timestamp_to_event?ts=0&dir=b", nil)
		anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "GET", "/_matrix/client/v1/rooms/"+room+"/timestamp_to_event?ts=x", nil)
	})
}
