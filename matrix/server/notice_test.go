package server_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"orrery/matrix/server"
)

const (
	sendNotice   = adminPath + "v1/send_server_notice"
	noticesOff   = "server_notices:\n  user: \"\""
	noticesBy    = "server_notices:\n  user: _server"
	speaker      = "@_server:orrery.test"
	cannotReject = "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"
)

func say(user, text string) object {
	return object{"user_id": user, "content": object{"msgtype": "m.text", "body": text}}
}

// noticeRoom is the room of notices into which somebody is invited.
func (c *client) noticeRoom() string {
	c.t.Helper()
	var found []string
	for id, in := range c.sync("", "").Rooms.Invite {
		if in.State.Events[0].Sender == speaker {
			found = append(found, id)
		}
	}
	if len(found) != 1 {
		c.t.Fatalf("invited into %q", found)
	}
	return found[0]
}

func (c *client) tags(room string) string {
	c.t.Helper()
	return fmt.Sprint(c.do("GET", "user/"+url.PathEscape(c.user)+"/rooms/"+url.PathEscape(room)+"/tags", nil)["tags"])
}

// TestNotices: the server speaks to a user in one room, tagged as that, whose invitation cannot be rejected; who left it is invited into the same one.
func TestNotices(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, database(t), noticesOff, noticesBy)
			root, anne := administered(t, s), s.register("anne")
			anne.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", sendNotice, say(anne.user, "hello"))
			first := root.do("POST", sendNotice, say(anne.user, "hello"))["event_id"]
			room := anne.noticeRoom()
			path := "rooms/" + url.PathEscape(room)
			if joined := anne.sync("", "").Rooms.Join; len(joined) > 0 {
				t.Errorf("the room counts as joined: %v", joined)
			}
			if got := anne.tags(room); got != "map[m.server_notice:map[]]" {
				t.Error(got)
			}
			anne.refused(http.StatusForbidden, cannotReject, "POST", path+"/leave", object{})
			anne.refused(http.StatusForbidden, cannotReject, "PUT", path+"/state/m.room.member/"+url.PathEscape(anne.user), object{"membership": "leave"})
			before := anne.sync("", "").Next
			anne.join(room)
			in := anne.sync(before, "").Rooms.Join[room]
			if !slices.ContainsFunc(in.Timeline.Events, func(e clientEvent) bool { return e.ID == first && e.Sender == speaker }) {
				t.Errorf("the first notice is not there: %+v", in.Timeline)
			}
			if told := fmt.Sprint(at(anne.do("GET", "sync?since="+before, nil), "rooms", "join", room, "account_data")); !strings.Contains(told, "map[content:map[tags:map[m.server_notice:map[]]] type:m.tag]") {
				t.Errorf("the tag is not told: %s", told)
			}
			anne.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", path+"/send/m.room.message/1", object{"msgtype": "m.text", "body": "answer"})
			anne.do("POST", path+"/leave", object{})
			anne.do("DELETE", "user/"+url.PathEscape(anne.user)+"/rooms/"+url.PathEscape(room)+"/tags/m.server_notice", nil)
			if s.config.Database != "memory" {
				s.stop()
				s.start()
			}
			root.do("POST", sendNotice, say(anne.user, "again"))
			if again := anne.noticeRoom(); again != room {
				t.Errorf("another room is made: %s, not %s", again, room)
			}
			if got := anne.tags(room); got != "map[m.server_notice:map[]]" {
				t.Error(got)
			}
			anne.join(room)
			once := root.do("PUT", sendNotice+"/1", say(anne.user, "once"))["event_id"]
			if twice := root.do("PUT", sendNotice+"/1", say(anne.user, "once"))["event_id"]; once != twice || once == "" {
				t.Errorf("%v, then %v", once, twice)
			}
			if got := strings.Join(bodies(anne.sync("", "").Rooms.Join[room].Timeline.Events), " "); !strings.HasSuffix(got, "again once") {
				t.Error(got)
			}
			// A room that is gone is followed by a new one; there is one that has the tag.
			root.do("DELETE", adminPath+"v1/rooms/"+url.PathEscape(room), object{})
			root.do("POST", sendNotice, say(anne.user, "anew"))
			if anew := anne.noticeRoom(); anew == room || anne.tags(anew) != "map[m.server_notice:map[]]" {
				t.Error(anew)
			}
		})
	}
}

// TestNoticesAtOnce: notices to somebody who has no room yet make one, however many come at the same time, in all versions of rooms.
func TestNoticesAtOnce(t *testing.T) {
	for _, version := range []string{"1", "6", "11", "12"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "sqlite:homeserver.db", noticesOff, noticesBy, `default_room_version: "12"`, `default_room_version: "`+version+`"`)
			root, anne := administered(t, s), s.register("anne")
			done := make(chan object)
			for n := range 10 {
				go func() { done <- root.do("POST", sendNotice, say(anne.user, fmt.Sprint(n))) }()
			}
			for range 10 {
				<-done
			}
			room := anne.noticeRoom()
			anne.join(room)
			got := bodies(anne.sync("", "filter="+url.QueryEscape(`{"room":{"timeline":{"limit":50}}}`)).Rooms.Join[room].Timeline.Events)
			if slices.Sort(got); strings.Join(got, " ") != "0 1 2 3 4 5 6 7 8 9" {
				t.Error(got)
			}
		})
	}
}

// TestSpeaker: nobody is the user by whom the server speaks, and what is no notice is not said.
func TestSpeaker(t *testing.T) {
	s := newSite(t, "sqlite:homeserver.db", noticesOff, noticesBy)
	root, anne := administered(t, s), s.register("anne")
	root.do("POST", adminPath+"v1/reset_password/"+url.PathEscape(speaker), object{"new_password": "guessed"})
	nobody := &client{site: s}
	nobody.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": "_server"}, "password": "guessed"})
	nobody.refused(http.StatusBadRequest, "M_USER_IN_USE", "POST", "register", object{"username": "_server", "password": "x"})
	if p := anne.do("GET", "profile/"+url.PathEscape(speaker), nil); p["displayname"] != "Server notices" {
		t.Error(p)
	}
	for _, bad := range []struct {
		status int
		code   string
		body   any
	}{
		{http.StatusBadRequest, "M_MISSING_PARAM", object{"content": object{}}},
		{http.StatusBadRequest, "M_MISSING_PARAM", object{"user_id": anne.user}},
		{http.StatusBadRequest, "M_BAD_JSON", object{"user_id": anne.user, "content": "text"}},
		{http.StatusBadRequest, "M_BAD_JSON", object{"user_id": 1, "content": object{}}},
		{http.StatusBadRequest, "M_BAD_JSON", object{"user_id": anne.user, "content": object{"n": 1.5}}},
		{http.StatusNotFound, "M_NOT_FOUND", say("@bob:orrery.test", "x")},
		{http.StatusBadRequest, "M_INVALID_PARAM", say("@bob:elsewhere.test", "x")},
		{http.StatusBadRequest, "M_INVALID_PARAM", say(speaker, "x")},
		{http.StatusRequestEntityTooLarge, "M_TOO_LARGE", say(anne.user, strings.Repeat("x", 70_000))},
		{http.StatusForbidden, "M_FORBIDDEN", object{"user_id": anne.user, "type": "m.room.create", "state_key": "", "content": object{}}},
	} {
		root.refused(bad.status, bad.code, "POST", sendNotice, bad.body)
	}
	root.do("POST", adminPath+"v1/deactivate/"+url.PathEscape(anne.user), object{})
	root.refused(http.StatusForbidden, "M_USER_DEACTIVATED", "POST", sendNotice, say(anne.user, "x"))
	off := newSite(t, "memory")
	administered(t, off).refused(http.StatusBadRequest, "M_UNKNOWN", "POST", sendNotice, say("@root:orrery.test", "x"))
	// A name that somebody has is not taken from them.
	s.stop()
	s.config.Notices.User = "root"
	if opened, err := server.Open(t.Context(), s.config, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "somebody's account") {
		t.Error(err)
		_ = opened.Close()
	}
	s.config.Notices.User = "_server"
	s.start()
}

// TestOtherSpeaker: when another user speaks, there is another room, and it alone has the tag; the old one is like any other.
func TestOtherSpeaker(t *testing.T) {
	s := newSite(t, "sqlite:homeserver.db", noticesOff, noticesBy)
	root, anne := administered(t, s), s.register("anne")
	root.do("POST", sendNotice, say(anne.user, "hello"))
	room := anne.noticeRoom()
	s.stop()
	s.config.Notices.User = "other"
	s.start()
	root.do("POST", sendNotice, say(anne.user, "hello"))
	invited := anne.sync("", "").Rooms.Invite
	if len(invited) != 2 {
		t.Fatal(invited)
	}
	for id := range invited {
		want := "map[m.server_notice:map[]]"
		if id == room {
			want = "map[]"
		}
		if got := anne.tags(id); got != want {
			t.Errorf("%s: %s", id, got)
		}
	}
	anne.do("POST", "rooms/"+url.PathEscape(room)+"/leave", object{})
}
