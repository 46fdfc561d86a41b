package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"orrery/matrix/server"
)

// TestIdentityAssertion: a service acts as its users, on their devices, and as nobody else.
func TestIdentityAssertion(t *testing.T) {
	onBoth(t, func(t *testing.T, database string) {
		t.Helper()
		b := newBridge(t, "irc")
		s := bridged(t, database, []*bridge{b})
		anne, bot := s.register("anne"), s.as(b)
		if who := bot.do("GET", "account/whoami", nil); who["user_id"] != bot.user || who["device_id"] != nil {
			t.Errorf("%+v", who) // the service's own user is there from the beginning
		}
		bot.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", "account/whoami?user_id=@irc_bob:orrery.test", nil)
		bot.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", "account/whoami?user_id="+anne.user, nil)
		g := s.ghost(b, "irc_bob")
		if who := g.do("GET", "account/whoami", nil); who["user_id"] != g.id {
			t.Errorf("%+v", who)
		}
		if who := anne.do("GET", "account/whoami?user_id="+g.id+"&device_id=X", nil); who["user_id"] != anne.user || who["device_id"] != anne.device {
			t.Errorf("%+v", who) // users' tokens are their own
		}
		bot.refused(http.StatusBadRequest, "M_UNKNOWN_DEVICE", "GET", g.path("account/whoami?device_id=PHONE"), nil)
		bot.want(http.StatusCreated, "PUT", g.path("devices/PHONE"), object{"display_name": "phone"}, nil)
		g.do("PUT", "devices/PHONE", object{})
		if d := g.do("GET", "devices/PHONE", nil); d["display_name"] != "phone" {
			t.Errorf("%+v", d)
		}
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "PUT", "devices/PHONE", object{})
		for _, name := range []string{"device_id", "org.matrix.msc3202.device_id"} {
			if who := g.do("GET", "account/whoami?"+name+"=PHONE", nil); who["device_id"] != "PHONE" {
				t.Errorf("%+v", who)
			}
		}
		keys := object{"one_time_keys": object{"signed_curve25519:A": object{"key": "x"}}}
		bot.refused(http.StatusBadRequest, "M_MISSING_PARAM", "POST", g.path("keys/upload"), keys)
		g.do("POST", "keys/upload?device_id=PHONE", keys)
		g.do("DELETE", "devices/PHONE", object{}) // without a password
		bot.refused(http.StatusBadRequest, "M_UNKNOWN_DEVICE", "GET", g.path("account/whoami?device_id=PHONE"), nil)
		bot.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", g.path("account/password"), object{"new_password": "x"})
		bot.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", g.path("login/get_token"), object{})
		s.lock(anne, g)
		g.do("POST", "account/deactivate", object{})
		bot.refused(http.StatusForbidden, "M_USER_DEACTIVATED", "GET", g.path("account/whoami"), nil)
	})
}

// lock locks, suspends and frees a service's user, and checks what the service can do as that one.
func (s *site) lock(admin *client, g ghost) {
	s.t.Helper()
	if err := s.server.Accounts.SetAdmin(s.t.Context(), admin.user, true); err != nil {
		s.t.Fatal(err)
	}
	g.do("POST", "createRoom", object{})
	admin.do("PUT", "/_matrix/client/v1/admin/suspend/"+g.id, object{"suspended": true})
	g.bot.refused(http.StatusForbidden, "M_USER_SUSPENDED", "POST", g.path("createRoom"), object{})
	admin.do("PUT", "/_matrix/client/v1/admin/lock/"+g.id, object{"locked": true})
	g.bot.refused(http.StatusUnauthorized, "M_USER_LOCKED", "GET", g.path("account/whoami"), nil)
	admin.do("PUT", "/_matrix/client/v1/admin/lock/"+g.id, object{"locked": false})
	admin.do("PUT", "/_matrix/client/v1/admin/suspend/"+g.id, object{"suspended": false})
	g.do("POST", "createRoom", object{})
}

func onBoth(t *testing.T, f func(t *testing.T, database string)) {
	t.Helper()
	for _, name := range []string{"memory", "SQLite"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, databases[name](t))
		})
	}
}

// TestServiceUsers: services make and log in their users, nobody else does.
func TestServiceUsers(t *testing.T) {
	onBoth(t, func(t *testing.T, database string) {
		t.Helper()
		b, other := newBridge(t, "irc"), newBridge(t, "xmpp", `namespaces: {users: [{exclusive: false, regex: "@fuzzy_.*"}]}`)
		named := newBridge(t, "3sefdpMZ") // as bridges make names for themselves
		s := bridged(t, database, []*bridge{b, other, named})
		bot, nobody := s.as(b), &client{site: s}
		const kind = "m.login.application_service"
		var made struct {
			User  string `json:"user_id"`
			Token string `json:"access_token"`
		}
		bot.want(http.StatusOK, "POST", "register", object{"type": kind, "username": "irc_bob"}, &made)
		bob := &client{site: s, user: made.User, token: made.Token}
		if who := bob.do("GET", "account/whoami", nil); who["user_id"] != "@irc_bob:orrery.test" {
			t.Errorf("%+v", who)
		}
		for _, c := range []struct {
			who  *client
			code string
			body object
		}{
			{bot, "M_USER_IN_USE", object{"type": kind, "username": "irc_bob"}},
			{bot, "M_EXCLUSIVE", object{"type": kind, "username": "anne"}},
			{bot, "M_EXCLUSIVE", object{"type": kind, "username": "@irc_x:orrery.test"}},
			{bot, "M_INVALID_USERNAME", object{"type": kind, "username": "irc_ÄÖ"}},
			{bot, "M_MISSING_PARAM", object{"type": kind}},
			{s.as(other), "M_EXCLUSIVE", object{"type": kind, "username": "irc_eve"}},
			{nobody, "M_EXCLUSIVE", object{"username": "irc_eve", "password": "x"}},
			{nobody, "M_EXCLUSIVE", object{"username": "ircbot", "password": "x"}},
			{nobody, "M_EXCLUSIVE", object{"username": "xmppbot", "password": "x"}},
		} {
			c.who.refused(http.StatusBadRequest, c.code, "POST", "register", c.body)
		}
		nobody.refused(http.StatusUnauthorized, "M_MISSING_TOKEN", "POST", "register", object{"type": kind, "username": "irc_eve"})
		nobody.refused(http.StatusBadRequest, "M_EXCLUSIVE", "GET", "register/available?username=irc_eve", nil)
		s.register("fuzzy_person") // the namespace is not exclusive
		(&client{site: s, token: "x"}).refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "POST", "login", object{"type": kind})

		login := func(user string) object {
			return object{"type": kind, "identifier": object{"type": "m.id.user", "user": user}, "device_id": "PC"}
		}
		bot.want(http.StatusOK, "POST", "login", login("irc_bob"), &made)
		if who := (&client{site: s, token: made.Token}).do("GET", "account/whoami", nil); who["user_id"] != "@irc_bob:orrery.test" || who["device_id"] != "PC" {
			t.Errorf("%+v", who)
		}
		bot.do("POST", "login", login(bot.user))
		bot.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", login("irc_nobody"))
		bot.refused(http.StatusBadRequest, "M_EXCLUSIVE", "POST", "login", login("fuzzy_person"))
		nobody.refused(http.StatusUnauthorized, "M_MISSING_TOKEN", "POST", "login", login("irc_bob"))
		bridge := s.as(named)
		if who := bridge.do("GET", "account/whoami", nil); who["user_id"] != bridge.user {
			t.Errorf("%+v", who)
		}
		g, room := s.ghost(b, "irc_Bob|[m]"), bob.create(object{"preset": "public_chat"}) // bridges name users after those of elsewhere
		g.join(room)
		if m := bob.do("GET", "rooms/"+room+"/state/m.room.member/"+url.PathEscape(g.id), nil); g.id != "@irc_Bob|[m]:orrery.test" || m["membership"] != "join" {
			t.Errorf("%s: %+v", g.id, m)
		}
		for _, name := range []string{"irc_Bob|[m]", g.id} {
			if in := bot.do("POST", "login", login(name)); in["user_id"] != g.id {
				t.Errorf("%+v", in)
			}
		}
		if in := bot.do("POST", "login", login("IRC_BOB")); in["user_id"] != "@irc_bob:orrery.test" {
			t.Errorf("%+v", in)
		}
		if flows := fmt.Sprint(nobody.do("GET", "login", nil)); !strings.Contains(flows, kind) {
			t.Error(flows)
		}
	})
}

// TestServiceAliases: who may name rooms as a service does.
func TestServiceAliases(t *testing.T) {
	b := newBridge(t, "irc")
	s := bridged(t, "memory", []*bridge{b})
	anne, bot := s.register("anne"), s.as(b)
	room := anne.create(object{"preset": "public_chat"})
	bot.join(room)
	irc, plain := "directory/room/"+url.PathEscape("#irc_x:orrery.test"), "directory/room/"+url.PathEscape("#x:orrery.test")
	anne.refused(http.StatusBadRequest, "M_EXCLUSIVE", "PUT", irc, object{"room_id": room})
	anne.refused(http.StatusBadRequest, "M_EXCLUSIVE", "POST", "createRoom", object{"room_alias_name": "irc_x"})
	bot.refused(http.StatusBadRequest, "M_EXCLUSIVE", "PUT", plain, object{"room_id": room})
	bot.refused(http.StatusBadRequest, "M_EXCLUSIVE", "POST", "createRoom", object{"room_alias_name": "x"})
	bot.do("PUT", irc, object{"room_id": room})
	anne.do("PUT", plain, object{"room_id": room})
	bot.refused(http.StatusBadRequest, "M_EXCLUSIVE", "DELETE", plain, object{})
	anne.refused(http.StatusBadRequest, "M_EXCLUSIVE", "DELETE", irc, object{})
	g := s.ghost(b, "irc_bob")
	g.do("DELETE", "directory/room/"+url.PathEscape("#irc_x:orrery.test"), object{}) // another of its users made it
	bot.do("POST", "createRoom", object{"room_alias_name": "irc_y"})
	// Its users see who is in rooms where any of them is.
	g.do("GET", "rooms/"+room+"/joined_members", nil)
	g.bot.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", g.path("rooms/"+room+"/members"), nil)
}

// TestTimestamp: a service says when something happened; others cannot.
func TestTimestamp(t *testing.T) {
	b := newBridge(t, "irc")
	s := bridged(t, "memory", []*bridge{b})
	anne, bot := s.register("anne"), s.as(b)
	room := bot.create(object{"preset": "public_chat"})
	anne.join(room)
	at := func(c *client, path string) float64 {
		t.Helper()
		id, _ := c.do("PUT", "rooms/"+room+"/"+path, object{"body": path, "msgtype": "m.text"})["event_id"].(string)
		ts, _ := c.do("GET", "rooms/"+room+"/event/"+url.PathEscape(id), nil)["origin_server_ts"].(float64)
		return ts
	}
	if ts := at(bot, "send/m.room.message/1?ts=1234567"); ts != 1234567 {
		t.Error(ts)
	}
	if ts := at(bot, "state/com.example.x/?ts=7654321"); ts != 7654321 {
		t.Error(ts)
	}
	if ts := at(anne, "send/m.room.message/2?ts=1234567"); ts < 1e12 {
		t.Error(ts)
	}
	if ts := at(bot, "send/m.room.message/3"); ts < 1e12 {
		t.Error(ts)
	}
	for _, ts := range []string{"x", "-1", "0", "9007199254740992", "1e3"} {
		bot.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", "rooms/"+room+"/send/m.room.message/4?ts="+ts, object{})
		bot.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", "rooms/"+room+"/state/com.example.y/?ts="+ts, object{})
	}
}

// TestServicePing: a service asks whether it can be reached.
func TestServicePing(t *testing.T) {
	b, mute := newBridge(t, "irc"), newBridge(t, "xmpp")
	gone := newBridge(t, "gone")
	gone.http.Close()
	s := configured(t, "memory", "application_services: []", "application_services: [services]")
	s.describe(b, mute, gone)
	s.edit("xmpp", mute.http.URL, "null")
	s.start()
	t.Cleanup(s.stop)
	const path = "/_matrix/client/v1/appservice/%s/ping"
	bot := s.as(b)
	asked, status, answer := object{}, http.StatusOK, "{}"
	b.other = func(w http.ResponseWriter, q *http.Request) {
		if q.Method != http.MethodPost || q.URL.Path != "/_matrix/app/v1/ping" {
			t.Errorf("%s %s", q.Method, q.URL)
		}
		if err := json.NewDecoder(q.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}
	if out := bot.do("POST", fmt.Sprintf(path, "irc"), object{"transaction_id": "meow"}); out["duration_ms"] == nil || asked["transaction_id"] != "meow" {
		t.Errorf("%+v %+v", out, asked)
	}
	status, answer = http.StatusForbidden, `{"errcode":"M_FORBIDDEN"}`
	var bad struct {
		Code   string `json:"errcode"`
		Status int
		Body   string
	}
	if bot.want(http.StatusBadGateway, "POST", fmt.Sprintf(path, "irc"), object{}, &bad); bad.Code != "M_BAD_STATUS" || bad.Status != status || bad.Body != answer {
		t.Errorf("%+v", bad)
	}
	bot.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", fmt.Sprintf(path, "xmpp"), object{})
	s.register("anne").refused(http.StatusForbidden, "M_FORBIDDEN", "POST", fmt.Sprintf(path, "irc"), object{})
	s.as(mute).refused(http.StatusBadRequest, "M_URL_NOT_SET", "POST", fmt.Sprintf(path, "xmpp"), object{})
	s.as(gone).refused(http.StatusBadGateway, "M_CONNECTION_FAILED", "POST", fmt.Sprintf(path, "gone"), object{})
	if _, err := server.PingService(t.Context(), s.config, "irc"); err == nil || !strings.Contains(err.Error(), "hs_token") {
		t.Error(err)
	}
	status, answer = http.StatusOK, "{}"
	if took, err := server.PingService(t.Context(), s.config, "irc"); err != nil || took <= 0 || took > time.Minute {
		t.Error(took, err)
	}
}
