package server_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// again is another device of the user.
func (c *client) again() *client {
	c.t.Helper()
	other := &client{site: c.site, user: c.user}
	var out struct {
		Device string `json:"device_id"`
		Token  string `json:"access_token"`
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(c.user, "@"), ":")
	other.want(http.StatusOK, "POST", "login", object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": c.user}, "password": "pw-" + name}, &out)
	other.device, other.token = out.Device, out.Token
	return other
}

// TestForgottenElsewhere: a device that was away learns that its user left a room, also if another device let it be forgotten meanwhile, and nothing else of it; a new
// device learns nothing.
func TestForgottenElsewhere(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		bobs := bob.again()
		left, banned, kept := anne.create(object{"preset": "public_chat"}), anne.create(object{"preset": "public_chat"}), anne.create(object{"preset": "public_chat"})
		all := []string{left, banned, kept}
		for _, room := range all {
			bob.join(room)
		}
		since := bobs.sync("", "").Next
		lists := object{"lists": object{"all": object{"ranges": [][2]int{{0, 9}}, "timeline_limit": 1, "required_state": []any{}}}}
		pos := bobs.deployed("", "0", lists).Pos
		for _, room := range all {
			anne.send(room, "1", "said")
		}
		for _, room := range []string{left, kept} {
			bob.do("POST", "rooms/"+url.PathEscape(room)+"/leave", object{})
		}
		anne.do("POST", "rooms/"+url.PathEscape(banned)+"/ban", object{"user_id": bob.user})
		here := bob.sync(since, "").Next
		for _, room := range []string{left, banned} {
			bob.do("POST", "rooms/"+url.PathEscape(room)+"/forget", object{})
		}
		for range 2 {
			got := bobs.sync(since, "")
			for _, room := range all {
				want := []string{"m.room.member " + bob.user}
				if room == kept {
					want = []string{"m.room.member " + bob.user, "m.room.message"}
				}
				r, ok := got.Rooms.Leave[room]
				if !ok || !slices.Equal(types(r.Timeline.Events), want) || r.Timeline.Limited == (room == kept) {
					t.Errorf("%s: %+v", room, r)
				}
			}
			if more := bobs.sync(got.Next, ""); len(more.Rooms.Leave) != 0 {
				t.Errorf("twice: %+v", more.Rooms.Leave)
			}
			if more := bob.sync(here, ""); len(more.Rooms.Leave) != 0 {
				t.Errorf("the device that let them be forgotten: %+v", more.Rooms.Leave)
			}
			if whole := bob.again().sync("", "filter="+url.QueryEscape(`{"room":{"include_leave":true}}`)); len(whole.Rooms.Leave) != 1 {
				t.Errorf("a new device: %+v", whole.Rooms.Leave)
			}
			if s.config.Database == "memory" {
				break
			}
			s.stop()
			s.start()
			pos = ""
		}
		if pos != "" {
			slid := bobs.deployed(pos, "0", lists)
			for _, room := range all {
				if r, ok := slid.Rooms[room]; !ok || !slices.Contains(types(r.Timeline), "m.room.member "+bob.user) {
					t.Errorf("sliding sync, %s: %+v", room, slid.Rooms[room])
				}
			}
			if slid = bobs.deployed(slid.Pos, "0", lists); len(slid.Rooms) != 0 || slid.Lists["all"].Count != 1 {
				t.Errorf("sliding sync then: %+v", slid)
			}
			if slid = bobs.deployed("", "0", lists); slid.Lists["all"].Count != 0 {
				t.Errorf("sliding sync anew: %+v", slid)
			}
		}
		bob.join(left)
		if got := bobs.sync(since, ""); len(got.Rooms.Join) != 1 || len(got.Rooms.Leave) != 2 {
			t.Errorf("again a member: %+v", got.Rooms)
		}
	})
}
