package server_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestPresence: those who share a room see who is there and what they say; others do not.
func TestPresence(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		s.stop()
		s.config.Presence = true
		s.start()
		anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		type answer struct {
			Next     string `json:"next_batch"`
			Presence struct{ Events []clientEvent }
		}
		sync := func(c *client, more string) (got answer) {
			t.Helper()
			c.want(http.StatusOK, "GET", "sync?set_presence=offline&"+more, nil, &got)
			return got
		}
		since := sync(anne, "").Next
		status := "presence/" + bob.user + "/status"
		// until does something of bob's, and waits until anne sees what he is; on a slow machine he may have gone meanwhile.
		until := func(is string, does func()) clientEvent {
			t.Helper()
			for does(); ; {
				got := sync(anne, "timeout=60000&since="+since)
				since = got.Next
				e := got.Presence.Events
				switch {
				case len(e) != 1 || e[0].Sender != bob.user:
					t.Fatalf("%+v", e)
				case e[0].Content["presence"] == is:
					return e[0]
				case e[0].Content["presence"] == "offline":
					does()
				}
			}
		}
		put := func(body object) func() { return func() { bob.do("PUT", status, body) } }
		if e := until("online", put(object{"presence": "online", "status_msg": "here"})); e.Content["status_msg"] != "here" || e.Content["currently_active"] != true {
			t.Errorf("%+v", e)
		}
		if p := anne.do("GET", status, nil); p["status_msg"] != "here" || p["last_active_ago"] == nil {
			t.Error(p)
		}
		put(object{"presence": "online", "status_msg": "here"})() // nothing changes
		if none := sync(anne, `filter={"presence":{"not_types":["*"]}}`); len(none.Presence.Events) != 0 {
			t.Errorf("%+v", none)
		}
		if e := until("unavailable", put(object{"presence": "unavailable"})); e.Content["status_msg"] != nil {
			t.Errorf("%+v", e)
		}
		until("online", func() { bob.sync("", "") }) // without set_presence it makes online
		carl.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", status, nil)
		before := sync(carl, "").Next
		bob.sync("", "")
		carl.join(room)
		if e := sync(carl, "since="+before).Presence.Events; len(e) != 1 || e[0].Sender != bob.user {
			t.Errorf("%+v", e)
		}
		carl.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", status, object{"presence": "online"})
		bob.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", status, object{"presence": "asleep"})
		bob.refused(http.StatusBadRequest, "M_MISSING_PARAM", "PUT", status, object{})
		bob.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", status, object{"presence": "online", "status_msg": strings.Repeat("x", 1001)})
		bob.refused(http.StatusBadRequest, "M_INVALID_PARAM", "GET", "sync?set_presence=asleep", nil)
		if s.config.Database == "memory" {
			return
		}
		bob.do("PUT", status, object{"presence": "online", "status_msg": "back soon"})
		s.stop()
		s.start()
		if p := anne.do("GET", status, nil); p["presence"] != "offline" || p["status_msg"] != "back soon" {
			t.Error(p)
		}
	})
}

func TestPresenceOff(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	status := "presence/" + anne.user + "/status"
	anne.do("PUT", status, object{"presence": "online", "status_msg": "x"})
	if p := anne.do("GET", status, nil); p["presence"] != "offline" || p["status_msg"] != nil {
		t.Error(p)
	}
	anne.sync("", "")
}

// TestPresenceOfNewcomers: who comes into a room is shown to those in it as they are, once.
func TestPresenceOfNewcomers(t *testing.T) {
	s := newSite(t, "memory", "presence: true", "presence: true ")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat"})
	var got struct {
		Next     string `json:"next_batch"`
		Presence struct{ Events []clientEvent }
	}
	anne.want(http.StatusOK, "GET", "sync?set_presence=offline", nil, &got)
	bob.join(room)
	for _, want := range []int{1, 0} {
		since := got.Next
		got.Presence.Events = nil
		anne.want(http.StatusOK, "GET", "sync?set_presence=offline&since="+since, nil, &got)
		if e := got.Presence.Events; len(e) != want || want == 1 && e[0].Sender != bob.user {
			t.Errorf("%+v", e)
		}
		bob.do("PUT", "profile/"+bob.user+"/displayname", object{"displayname": "Robert"}) // does not come anew
	}
}
