package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"orrery/matrix/server"
)

// news is an answer to GET events.
type news struct {
	Start, End string
	Chunk      []roomEvent
}

type roomEvent struct {
	clientEvent

	Room string `json:"room_id"`
}

func (n news) said() (found []string) {
	for _, e := range n.Chunk {
		if e.Type == "m.room.message" {
			found = append(found, fmt.Sprint(e.Room, " ", e.Content["body"]))
		}
	}
	return found
}

func (c *client) news(query string) (out news) {
	c.t.Helper()
	c.want(http.StatusOK, "GET", "events?"+query, nil, &out)
	return out
}

type roomInfo struct {
	ID         string `json:"room_id"`
	Membership string
	Invite     *clientEvent
	Messages   struct {
		Start, End string
		Chunk      []roomEvent
	}
	State       []roomEvent
	Visibility  string
	AccountData []clientEvent `json:"account_data"`
}

type oldSync struct {
	End         string
	Presence    []clientEvent
	AccountData []clientEvent `json:"account_data"`
	Rooms       []roomInfo
}

func (b oldSync) room(id string) roomInfo {
	for _, r := range b.Rooms {
		if r.ID == id {
			return r
		}
	}
	return roomInfo{}
}

// TestInitialSync: an old client begins with all rooms and what was said there last, and then hears of what is new, without taking messages for its device away.
func TestInitialSync(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat", "name": "Old", "visibility": "public"})
		bob.join(room)
		for i := range 5 {
			anne.send(room, fmt.Sprint(i), fmt.Sprint("hello ", i))
		}
		bob.do("PUT", "user/"+bob.user+"/rooms/"+room+"/account_data/org.example", object{"x": 1})
		left, invited := anne.create(object{"preset": "public_chat"}), anne.create(object{"invite": []string{bob.user}})
		bob.join(left)
		bob.do("POST", "rooms/"+left+"/leave", object{})
		anne.do("PUT", "sendToDevice/org.example/1", object{"messages": object{bob.user: object{bob.device: object{"x": 1}}}})
		var all oldSync
		bob.want(http.StatusOK, "GET", "initialSync?limit=3&archived=true", nil, &all)
		r := all.room(room)
		names := slices.ContainsFunc(r.State, func(e roomEvent) bool { return e.Type == "m.room.name" && e.Room == room && e.StateKey != nil })
		if r.Membership != "join" || r.Visibility != "public" || !names || len(r.AccountData) != 1 || len(r.Messages.Chunk) != 3 || r.Messages.Chunk[2].Content["body"] != "hello 4" || r.Messages.Chunk[0].Room != room {
			t.Errorf("%+v", r)
		}
		if l, i := all.room(left), all.room(invited); l.Membership != "leave" || len(l.State) == 0 || i.Membership != "invite" || i.Invite == nil || i.Invite.Sender != anne.user {
			t.Errorf("%+v\n%+v", l, i)
		}
		var before news
		bob.want(http.StatusOK, "GET", "rooms/"+room+"/messages?dir=b&limit=1&from="+r.Messages.Start, nil, &before)
		if got := before.said(); !slices.Equal(got, []string{room + " hello 1"}) {
			t.Errorf("before that: %q", got)
		}
		var few oldSync
		bob.want(http.StatusOK, "GET", "initialSync?limit=0", nil, &few)
		if r := few.room(room); len(r.Messages.Chunk) != 0 || few.room(left).ID != "" {
			t.Errorf("%+v", few)
		}
		heard := make(chan news)
		go func() { heard <- bob.news("timeout=60000&from=" + all.End) }()
		anne.send(room, "new", "news")
		got := <-heard
		if said := got.said(); !slices.Equal(said, []string{room + " news"}) || got.Start != all.End {
			t.Errorf("%+v", got)
		}
		anne.do("POST", "rooms/"+invited+"/invite", object{"user_id": "@carl:orrery.test"})
		if got = bob.news("from=" + got.End); len(got.Chunk) != 0 {
			t.Errorf("%+v", got)
		}
		var one roomEvent
		id := anne.send(room, "one", "one")
		bob.want(http.StatusOK, "GET", "events/"+url.PathEscape(id), nil, &one)
		if one.Room != room || one.Content["body"] != "one" {
			t.Errorf("%+v", one)
		}
		s.register("dora").refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "events/"+url.PathEscape(anne.send(invited, "1", "secret")), nil)
		bob.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "events/$none", nil)
		bob.refused(http.StatusBadRequest, "M_BAD_JSON", "GET", "events?from=x", nil)
		if got := bob.do("GET", "sync", nil)["to_device"]; got == nil {
			t.Error("the message to the device is gone")
		}
	})
}

// TestRoomInitialSync: a room is shown to its members, to those who left as it was then, and to all where the world may read; who looks in hears of what is new.
func TestRoomInitialSync(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		open := object{"type": "m.room.history_visibility", "content": object{"history_visibility": "world_readable"}}
		world := anne.create(object{"preset": "public_chat", "initial_state": []object{open}})
		private := anne.create(object{"invite": []string{bob.user}})
		anne.send(world, "1", "to all")
		bob.join(private)
		anne.send(private, "1", "among us")
		bob.do("POST", "rooms/"+private+"/leave", object{})
		anne.send(private, "2", "without bob")
		anne.do("PUT", "rooms/"+private+"/state/m.room.name", object{"name": "without bob"})
		show := func(c *client, room string) (r roomInfo) {
			c.want(http.StatusOK, "GET", "rooms/"+room+"/initialSync?limit=20", nil, &r)
			return r
		}
		said := func(r roomInfo) []string { return news{Chunk: r.Messages.Chunk}.said() }
		if r := show(anne, private); r.Membership != "join" || !slices.Equal(said(r), []string{private + " among us", private + " without bob"}) || r.Visibility != "private" {
			t.Errorf("%+v", r)
		}
		r := show(bob, private)
		if r.Membership != "leave" || !slices.Equal(said(r), []string{private + " among us"}) || slices.ContainsFunc(r.State, func(e roomEvent) bool { return e.Type == "m.room.name" }) {
			t.Errorf("%+v", r)
		}
		r = show(bob, world)
		if r.Membership != "" || !slices.Equal(said(r), []string{world + " to all"}) {
			t.Errorf("%+v", r)
		}
		heard := make(chan news)
		go func() { heard <- bob.news("timeout=60000&room_id=" + world + "&from=" + r.Messages.End) }()
		anne.send(world, "2", "news")
		if got := <-heard; !slices.Equal(got.said(), []string{world + " news"}) || !strings.HasPrefix(got.End, "s") {
			t.Errorf("%+v", got)
		}
		s.register("carl").refused(http.StatusForbidden, "M_FORBIDDEN", "GET", "rooms/"+private+"/initialSync", nil)
		bob.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", "events?room_id="+anne.create(object{}), nil)
		end := show(anne, private).Messages.End
		anne.send(world, "3", "elsewhere")
		anne.send(private, "3", "here")
		if got := anne.news("timeout=60000&room_id=" + private + "&from=" + end); !slices.Equal(got.said(), []string{private + " here"}) {
			t.Errorf("%+v", got)
		}
	})
}

// TestFrozen: nobody gets media without a login, but for icons of identity providers, unless the server is told so; who shows a token gets it at the old paths, too.
func TestFrozen(t *testing.T) {
	s := newSite(t, "sqlite:homeserver.db")
	anne := s.register("anne")
	secret, icon := anne.upload("image/png", "a.png", picture(t, 50, 50, false)), anne.upload("image/png", "b.png", picture(t, 50, 50, false))
	s.stop()
	s.config.SSO = append(s.config.SSO, server.Provider{ID: "work", Name: "Work", Icon: "mxc://" + icon, Issuer: "http://127.0.0.1:1", ClientID: "x"})
	s.start()
	nobody, stranger := &client{site: s}, &client{site: s, token: "nobody's"}
	paths := func(id string) []string {
		var all []string
		for _, path := range []string{"v3/download/", "v3/thumbnail/", "r0/download/", "v1/download/"} {
			all = append(all, "/_matrix/media/"+path+id+"?width=20&height=20")
		}
		return append(all, "/_matrix/media/v3/download/"+id+"/name.png")
	}
	for _, path := range paths(secret) {
		nobody.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", path, nil)
		stranger.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", path, nil)
		anne.want(http.StatusOK, "GET", path, nil, nil)
	}
	for _, path := range paths(icon) {
		nobody.want(http.StatusOK, "GET", path, nil, nil)
	}
	s.stop()
	s.config.OpenMedia = true
	s.start()
	for _, path := range paths(secret) {
		nobody.want(http.StatusOK, "GET", path, nil, nil)
	}
	nobody.refused(http.StatusUnauthorized, "M_MISSING_TOKEN", "GET", "/_matrix/client/v1/media/download/"+secret, nil)
}
