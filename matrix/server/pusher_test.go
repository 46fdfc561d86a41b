package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// pushed is what a gateway gets.
type pushed struct {
	EventID    string `json:"event_id"`
	RoomID     string `json:"room_id"`
	Type       string
	Sender     string
	SenderName string `json:"sender_display_name"`
	RoomName   string `json:"room_name"`
	Target     bool   `json:"user_is_target"`
	Prio       string
	Content    object
	Counts     struct{ Unread int }
	Devices    []struct {
		App          string `json:"app_id"`
		Key          string `json:"pushkey"`
		Data, Tweaks object
	}
}

// gateway is one for notifications, over HTTP. It fails as often as it is told to.
type gateway struct {
	t        *testing.T
	http     *httptest.Server
	got      chan pushed
	failures chan int      // a status each
	rejects  chan []string // what it rejects, once
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, got: make(chan pushed, 100), failures: make(chan int, 10), rejects: make(chan []string, 1)}
	g.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var in struct{ Notification pushed }
		if err := json.NewDecoder(q.Body).Decode(&in); err != nil || q.Method != http.MethodPost || q.URL.Path != "/_matrix/push/v1/notify" {
			t.Errorf("%s %s: %v", q.Method, q.URL.Path, err)
		}
		select {
		case status := <-g.failures:
			w.WriteHeader(status)
			return
		default:
		}
		rejected := []string{}
		select {
		case rejected = <-g.rejects:
		default:
		}
		_ = json.NewEncoder(w).Encode(object{"rejected": rejected})
		g.got <- in.Notification
	}))
	t.Cleanup(g.http.Close)
	return g
}

func (g *gateway) next() pushed {
	g.t.Helper()
	select {
	case n := <-g.got:
		return n
	case <-time.After(2 * time.Minute):
		g.t.Fatal("the gateway gets nothing")
	}
	return pushed{}
}

func (g *gateway) pusher(key string, more object) object {
	data := object{"url": g.http.URL + "/_matrix/push/v1/notify", "theme": "dark"}
	maps.Copy(data, more)
	return object{"kind": "http", "app_id": "org.example", "pushkey": key, "app_display_name": "App", "device_display_name": "phone", "lang": "en", "data": data}
}

// reach lets a homeserver reach what is on this machine, or not.
func (s *site) reach(networks ...string) {
	s.t.Helper()
	s.stop()
	s.config.Reachable = networks
	s.start()
}

// TestPusher: a user is notified of what others send, over HTTP, once, also if the gateway fails, and of what was read elsewhere.
func TestPusher(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		s.reach("127.0.0.1")
		g := newGateway(t)
		anne, bob := s.register("anne"), s.register("bob")
		room := bob.create(object{"preset": "public_chat", "name": "Lounge"})
		anne.join(room)
		bob.send(room, "0", "before")
		anne.do("POST", "pushers/set", g.pusher("key", nil))
		if all := anne.do("GET", "pushers", nil)["pushers"].([]any); len(all) != 1 || all[0].(object)["pushkey"] != "key" {
			t.Error(all)
		}
		id := bob.send(room, "1", "hello")
		n := g.next()
		if n.EventID != id || n.RoomID != room || n.Type != "m.room.message" || n.Sender != bob.user || n.SenderName != "bob" || n.RoomName != "Lounge" || n.Content["body"] != "hello" || n.Counts.Unread != 2 || n.Target {
			t.Errorf("%+v", n)
		}
		if d := n.Devices; len(d) != 1 || d[0].App != "org.example" || d[0].Key != "key" || d[0].Data["url"] != nil || d[0].Data["theme"] != "dark" {
			t.Errorf("%+v", d)
		}
		g.failures <- http.StatusBadGateway
		id = bob.send(room, "2", "again")
		if n = g.next(); n.EventID != id {
			t.Errorf("%+v", n)
		}
		anne.do("POST", "rooms/"+room+"/receipt/m.read/"+url.PathEscape(id), object{})
		if n = g.next(); n.EventID != "" || n.Counts.Unread != 0 || len(n.Devices) != 1 {
			t.Errorf("%+v", n)
		}
		invited := bob.create(object{"invite": []string{anne.user}})
		if n = g.next(); n.RoomID != invited || !n.Target || n.Prio != "high" || n.Devices[0].Tweaks["sound"] != "default" {
			t.Errorf("%+v", n)
		}
		anne.do("POST", "pushers/set", g.pusher("key", object{"format": "event_id_only"}))
		id = bob.send(room, "3", "short")
		if n = g.next(); n.EventID != id || n.RoomID != room || n.Content != nil || n.Sender != "" || n.Type != "" || n.Counts.Unread != 1 {
			t.Errorf("%+v", n)
		}
		g.rejects <- []string{"other", "key"}
		bob.send(room, "4", "rejected")
		g.next()
		for all := []any{nil}; len(all) > 0; {
			all = anne.do("GET", "pushers", nil)["pushers"].([]any)
		}
		if len(g.got) != 0 {
			t.Errorf("%+v", <-g.got)
		}
	})
}

// TestOutbound: a copy of a server notifies nobody, neither of what is new nor of what was not sent yet; the server itself goes on where it was.
func TestOutbound(t *testing.T) {
	s := newSite(t, "sqlite:homeserver.db")
	s.reach("127.0.0.1")
	g := newGateway(t)
	anne, bob := s.register("anne"), s.register("bob")
	room := bob.create(object{"preset": "public_chat"})
	anne.join(room)
	s.config.Outbound = false
	s.reach("127.0.0.1")
	anne.do("POST", "pushers/set", g.pusher("key", nil))
	bob.send(room, "1", "in the copy")
	s.reach("127.0.0.1")
	bob.send(room, "2", "in the copy, later")
	s.stop() // waits for what is being sent
	if len(g.got) != 0 {
		t.Errorf("%+v", <-g.got)
	}
	s.config.Outbound = true
	s.start()
	if n := g.next(); n.Content["body"] != "in the copy" && n.Content["body"] != "in the copy, later" {
		t.Errorf("%+v", n)
	}
}

// TestPusherLater: nothing on this machine is reached unless the configuration allows it; what could not be sent is sent after a restart.
func TestPusherLater(t *testing.T) {
	s := newSite(t, "sqlite:homeserver.db")
	g := newGateway(t)
	anne, bob := s.register("anne"), s.register("bob")
	room := bob.create(object{"preset": "public_chat"})
	anne.join(room)
	anne.do("POST", "pushers/set", g.pusher("key", nil))
	first := bob.send(room, "1", "one")
	second := bob.send(room, "2", "two")
	s.reach()
	if len(g.got) != 0 {
		t.Error("loopback was reached")
	}
	s.reach("127.0.0.0/8")
	if a, b := g.next().EventID, g.next().EventID; a != first || b != second {
		t.Errorf("%s %s, not %s %s", a, b, first, second)
	}
}

// TestPushers: whose they are, and what is none.
func TestPushers(t *testing.T) {
	s := newSite(t, "memory")
	g := newGateway(t)
	anne, bob := s.register("anne"), s.register("bob")
	count := func(c *client, want int) {
		t.Helper()
		if all := c.do("GET", "pushers", nil)["pushers"].([]any); len(all) != want {
			t.Errorf("%v, not %d", all, want)
		}
	}
	anne.do("POST", "pushers/set", g.pusher("key", nil))
	other := g.pusher("key", nil)
	other["append"] = true
	bob.do("POST", "pushers/set", other)
	count(anne, 1)
	bob.do("POST", "pushers/set", g.pusher("key", nil))
	count(anne, 0)
	count(bob, 1)
	bob.do("POST", "pushers/set", object{"kind": nil, "app_id": "org.example", "pushkey": "key"})
	count(bob, 0)
	out := (&client{site: s}).do("POST", "login", object{"type": "m.login.password", "user": "anne", "password": "pw-anne"})
	phone := &client{site: s}
	phone.token, _ = out["access_token"].(string)
	phone.do("POST", "pushers/set", g.pusher("phone", nil))
	count(anne, 1)
	phone.do("POST", "logout", object{})
	count(anne, 0)
	for name, change := range map[string]func(object){
		"M_MISSING_PARAM kind":    func(p object) { delete(p, "kind") },
		"M_MISSING_PARAM app":     func(p object) { delete(p, "app_id") },
		"M_MISSING_PARAM key":     func(p object) { delete(p, "pushkey") },
		"M_MISSING_PARAM lang":    func(p object) { delete(p, "lang") },
		"M_MISSING_PARAM data":    func(p object) { delete(p, "data") },
		"M_INVALID_PARAM kind":    func(p object) { p["kind"] = "pigeon" },
		"M_INVALID_PARAM long":    func(p object) { p["pushkey"] = strings.Repeat("x", 513) },
		"M_INVALID_PARAM path":    func(p object) { p["data"] = object{"url": "https://example.org/other"} },
		"M_INVALID_PARAM scheme":  func(p object) { p["data"] = object{"url": "ftp://example.org/_matrix/push/v1/notify"} },
		"M_INVALID_PARAM user":    func(p object) { p["data"] = object{"url": "https://a:b@example.org/_matrix/push/v1/notify"} },
		"M_INVALID_PARAM format":  func(p object) { p["data"].(object)["format"] = "long" },
		"M_BAD_JSON pushkey":      func(p object) { p["pushkey"] = 1 },
		"M_INVALID_PARAM no host": func(p object) { p["data"] = object{"url": "https:///_matrix/push/v1/notify"} },
	} {
		p := g.pusher("key", nil)
		change(p)
		code, _, _ := strings.Cut(name, " ")
		anne.refused(http.StatusBadRequest, code, "POST", "pushers/set", p)
	}
	count(anne, 0)
}

// TestNotifications: what notified a user, newest first, in pages.
func TestNotifications(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		var rooms, want []string
		for i := range 2 {
			rooms = append(rooms, bob.create(object{"preset": "public_chat"}))
			bob.send(rooms[i], "before", "before")
			anne.join(rooms[i])
		}
		for i := range 7 {
			want = append(want, bob.send(rooms[i%2], fmt.Sprint(i), fmt.Sprint("message ", i)))
			anne.send(rooms[i%2], fmt.Sprint(i), "mine")
		}
		mention, _ := bob.do("PUT", "rooms/"+rooms[0]+"/send/m.room.message/m", object{"body": "anne", "m.mentions": object{"user_ids": []string{anne.user}}})["event_id"].(string)
		want = append(want, mention)
		slices.Reverse(want)
		anne.do("POST", "rooms/"+rooms[1]+"/receipt/m.read/"+url.PathEscape(want[2]), object{})
		type page struct {
			Next          string `json:"next_token"`
			Notifications []struct {
				Event   clientEvent
				Room    string `json:"room_id"`
				Read    bool
				Actions []any
				TS      int64
			}
		}
		var got []string
		read := 0
		for from, more := "", true; more; {
			var p page
			anne.want(http.StatusOK, "GET", "notifications?limit=3"+from, nil, &p)
			for _, n := range p.Notifications {
				if got = append(got, n.Event.ID); n.Read {
					read++
				}
				if n.Actions[0] != "notify" || n.TS == 0 || n.Room == "" {
					t.Errorf("%+v", n)
				}
			}
			from, more = "&from="+p.Next, p.Next != ""
		}
		if !slices.Equal(got, want) || read != 3 {
			t.Errorf("%q, not %q; %d read", got, want, read)
		}
		var p page
		anne.want(http.StatusOK, "GET", "notifications?only=highlight", nil, &p)
		if len(p.Notifications) != 1 || p.Notifications[0].Event.ID != mention {
			t.Errorf("%+v", p)
		}
	})
}
