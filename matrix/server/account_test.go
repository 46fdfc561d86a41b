package server_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAccounts(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("Anne")
	if anne.user != "@anne:orrery.test" {
		t.Error(anne.user)
	}
	nobody := &client{site: s}
	nobody.refused(http.StatusUnauthorized, "M_MISSING_TOKEN", "GET", "account/whoami", nil)
	nobody.refused(http.StatusBadRequest, "M_USER_IN_USE", "GET", "register/available?username=anne", nil)
	nobody.refused(http.StatusBadRequest, "M_INVALID_USERNAME", "GET", "register/available?username=A%20b", nil)
	nobody.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", object{"type": "m.login.password", "user": "anne", "password": "wrong"})
	nobody.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", object{"type": "m.login.password", "user": "nobody", "password": "wrong"})
	nobody.refused(http.StatusBadRequest, "M_UNKNOWN", "POST", "login", object{"type": "m.login.magic"})
	login := func(device string, more object) *client {
		body := object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": "anne"}, "password": "pw-Anne", "device_id": device}
		maps.Copy(body, more)
		out := nobody.do("POST", "login", body)
		c := &client{site: s}
		c.user, _ = out["user_id"].(string)
		c.device, _ = out["device_id"].(string)
		c.token, _ = out["access_token"].(string)
		return c
	}
	phone := login("PHONE", object{"initial_device_display_name": "phone"})
	if d := phone.do("GET", "devices/PHONE", nil); d["display_name"] != "phone" {
		t.Error(d)
	}
	again := login("PHONE", nil)
	phone.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	again.do("PUT", "devices/PHONE", object{"display_name": "my phone"})
	again.do("POST", "logout", object{})
	again.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)

	for _, path := range []string{"logout", "logout/all"} {
		other := login("OTHER", nil)
		if path == "logout/all" {
			other = s.register("somebody")
		}
		if status, text := other.request(t.Context(), "POST", "/_matrix/client/v3/"+path, "null"); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, text)
		}
		other.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	}

	tablet := login("TABLET", nil)
	var step struct{ Session string }
	anne.want(http.StatusUnauthorized, "POST", "account/password", object{"new_password": "new"}, &step)
	auth := object{"type": "m.login.password", "session": step.Session, "identifier": object{"type": "m.id.user", "user": "anne"}, "password": "wrong"}
	anne.want(http.StatusUnauthorized, "POST", "account/password", object{"new_password": "new", "auth": auth}, nil)
	bob := s.register("bob")
	auth["identifier"], auth["password"] = object{"type": "m.id.user", "user": bob.user}, "pw-bob"
	anne.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "account/password", object{"new_password": "new", "auth": auth})
	auth["identifier"], auth["password"] = object{"type": "m.id.user", "user": "@ANNE:orrery.test"}, "pw-Anne"
	anne.do("POST", "account/password", object{"new_password": "new", "auth": auth})
	anne.do("GET", "account/whoami", nil)
	tablet.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	nobody.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", object{"type": "m.login.password", "user": "anne", "password": "pw-Anne"})

	room := anne.create(object{})
	auth["password"] = "new"
	anne.want(http.StatusUnauthorized, "POST", "account/deactivate", object{}, &step)
	auth["session"] = step.Session
	anne.do("POST", "account/deactivate", object{"auth": auth})
	anne.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "rooms/"+room+"/state", nil)
	nobody.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", object{"type": "m.login.password", "user": "anne", "password": "new"})
	nobody.refused(http.StatusBadRequest, "M_USER_IN_USE", "GET", "register/available?username=anne", nil)
}

func TestRefresh(t *testing.T) {
	s := newSite(t, "memory")
	s.register("anne")
	c := &client{site: s}
	out := c.do("POST", "login", object{"type": "m.login.password", "user": "anne", "password": "pw-anne", "refresh_token": true})
	refresh, _ := out["refresh_token"].(string)
	c.token, _ = out["access_token"].(string)
	if ms, _ := out["expires_in_ms"].(float64); ms != 3_600_000 {
		t.Error(out)
	}
	c.do("GET", "account/whoami", nil)
	lost := c.do("POST", "refresh", object{"refresh_token": refresh})
	c.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	next := c.do("POST", "refresh", object{"refresh_token": refresh}) // the first answer may have been lost
	c.token, _ = lost["access_token"].(string)
	c.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	c.token, _ = next["access_token"].(string)
	c.do("GET", "account/whoami", nil)
	c.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "POST", "refresh", object{"refresh_token": refresh}) // this one was not
	last := c.do("POST", "refresh", object{"refresh_token": next["refresh_token"]})
	c.do("POST", "refresh", object{"refresh_token": last["refresh_token"]})
	c.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "POST", "refresh", object{"refresh_token": next["refresh_token"]})
}

func TestSharedSecret(t *testing.T) {
	s := newSite(t, "memory")
	c := &client{site: s}
	mac := func(secret, nonce string) string {
		h := hmac.New(sha1.New, []byte(secret))
		_, _ = h.Write([]byte(nonce + "\x00carl\x00pw\x00admin"))
		return hex.EncodeToString(h.Sum(nil))
	}
	const path = "/_synapse/admin/v1/register"
	nonce, _ := c.do("GET", path, nil)["nonce"].(string)
	c.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", path, object{"nonce": nonce, "username": "carl", "password": "pw", "admin": true, "mac": mac("guess", nonce)})
	c.refused(http.StatusBadRequest, "M_UNKNOWN", "POST", path, object{"nonce": nonce, "username": "carl", "password": "pw", "admin": true, "mac": mac("shh", nonce)})
	nonce, _ = c.do("GET", path, nil)["nonce"].(string)
	if out := c.do("POST", path, object{"nonce": nonce, "username": "carl", "password": "pw", "admin": true, "mac": mac("shh", nonce)}); out["user_id"] != "@carl:orrery.test" {
		t.Error(out)
	}
}

func TestProfile(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat"})
	path := "profile/" + anne.user
	anne.do("PUT", path+"/displayname", object{"displayname": "Anne"})
	anne.do("PUT", path+"/org.example.colour", object{"org.example.colour": object{"r": 1}})
	if p := bob.do("GET", path, nil); p["displayname"] != "Anne" || fmt.Sprint(p["org.example.colour"]) != "map[r:1]" {
		t.Error(p)
	}
	if m := anne.do("GET", "rooms/"+room+"/state/m.room.member/"+anne.user, nil); m["displayname"] != "Anne" {
		t.Error(m)
	}
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", path+"/displayname", object{"displayname": "x"})
	anne.do("DELETE", path+"/org.example.colour", nil)
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", path+"/org.example.colour", nil)
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "profile/@x:orrery.test", nil)
}

func TestAccountData(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{})
	since := anne.sync("", "").Next
	own := "user/" + anne.user
	heard := make(chan synced)
	go func() { heard <- anne.sync(since, "timeout=60000") }()
	anne.do("PUT", own+"/account_data/org.example", object{"a": 1})
	got := <-heard
	if len(got.AccountData.Events) != 1 || got.AccountData.Events[0].Type != "org.example" {
		t.Errorf("%+v", got)
	}
	anne.do("PUT", own+"/rooms/"+room+"/tags/u.work", object{"order": 0.5})
	if tags := anne.do("GET", own+"/rooms/"+room+"/tags", nil); fmt.Sprint(tags) != "map[tags:map[u.work:map[order:0.5]]]" {
		t.Error(tags)
	}
	anne.do("DELETE", own+"/rooms/"+room+"/tags/u.work", nil)
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", own+"/account_data/org.example", nil)
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", own+"/account_data/other", nil)
	id, _ := anne.do("POST", own+"/filter", object{"room": object{"timeline": object{"limit": 1}}})["filter_id"].(string)
	if again := anne.do("POST", own+"/filter", object{"room": object{"timeline": object{"limit": 1}}})["filter_id"]; again != id {
		t.Error(again)
	}
	if got := anne.sync("", "filter="+id).Rooms.Join[room]; len(got.Timeline.Events) != 1 || !got.Timeline.Limited {
		t.Errorf("%+v", got)
	}
}

// TestBadRequests: whatever is sent, the answer is the standard's error, and nothing stays.
func TestBadRequests(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	room := anne.create(object{})
	send := "rooms/" + room + "/send/m.room.message/"
	for i, c := range []struct {
		status             int
		code, method, path string
		body               any
	}{
		{404, "M_UNRECOGNIZED", "GET", "nothing", nil},
		{404, "M_UNRECOGNIZED", "GET", "/", nil},
		{405, "M_UNRECOGNIZED", "DELETE", "createRoom", nil},
		{400, "M_NOT_JSON", "POST", "createRoom", "{"},
		{400, "M_BAD_JSON", "POST", "createRoom", "[]"},
		{400, "M_BAD_JSON", "POST", "createRoom", `{"name":5}`},
		{400, "M_BAD_JSON", "POST", "createRoom", `{"creation_content":{"a":1.5}}`},
		{400, "M_INVALID_PARAM", "POST", "createRoom", `{"preset":"odd"}`},
		{400, "M_NOT_JSON", "PUT", send + "1", "{\"a\":\"\xff\"}"},
		{400, "M_BAD_JSON", "PUT", send + "2", `{"a":1.5}`},
		{400, "M_BAD_JSON", "PUT", send + "3", `{"a":9007199254740992}`},
		{400, "M_NOT_JSON", "PUT", send + "4", strings.Repeat(`{"a":`, 10_000)},
		{413, "M_TOO_LARGE", "PUT", send + "5", `{"body":"` + strings.Repeat("x", 65_536) + `"}`},
		{413, "M_TOO_LARGE", "PUT", send + "6", `{"body":"` + strings.Repeat("x", 2<<20) + `"}`},
		{413, "M_TOO_LARGE", "PUT", "rooms/" + room + "/send/" + strings.Repeat("t", 256) + "/7", `{}`},
		{403, "M_FORBIDDEN", "PUT", "rooms/!other/send/m.room.message/8", `{}`},
		{404, "M_NOT_FOUND", "PUT", "rooms/" + room + "/redact/$other/9", `{}`},
		{400, "M_BAD_JSON", "GET", "sync?since=x", nil},
		{400, "M_INVALID_PARAM", "GET", "sync?timeout=x", nil},
		{400, "M_BAD_JSON", "GET", "sync?filter={", nil},
		{400, "M_INVALID_PARAM", "GET", "rooms/" + room + "/messages?limit=x", nil},
	} {
		t.Run(fmt.Sprint(i, " ", c.method, " ", c.path[:min(len(c.path), 40)]), func(t *testing.T) {
			one := *anne
			one.site = &site{t: t, http: s.http}
			one.refused(c.status, c.code, c.method, c.path, c.body)
		})
	}
	if got := anne.sync("", "").Rooms.Join[room]; len(bodies(got.Timeline.Events)) != 0 {
		t.Errorf("something was stored: %+v", got)
	}
}

// TestLongPollEnds: a client that goes away leaves nobody waiting, and the end of time is no error.
func TestLongPollEnds(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	since := anne.sync("", "").Next
	if got := anne.sync(since, "timeout=1"); got.Next != since {
		t.Error(got.Next)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, s.http.URL+"/_matrix/client/v3/sync?timeout=60000&since="+since, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+anne.token)
	if resp, err := http.DefaultClient.Do(q); err == nil {
		_ = resp.Body.Close()
		t.Error("answered")
	}
}

// TestDeviceIsSeen: a device says when it was used, not when it logged in, across a start of the server, too.
func TestDeviceIsSeen(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			c := &clock{}
			s := configured(t, database(t))
			s.now = c.now
			s.start()
			t.Cleanup(func() { s.stop() })
			anne := s.register("anne")
			anne.do("PUT", "devices/"+anne.device, object{"display_name": "phone"})
			last := c.now().UnixMilli()
			used := func() {
				t.Helper()
				c.forward(time.Hour)
				var d struct {
					Name string `json:"display_name"`
					Seen int64  `json:"last_seen_ts"`
					At   string `json:"last_seen_ip"`
				}
				anne.want(http.StatusOK, "GET", "devices/"+anne.device, nil, &d)
				if d.Seen-last < time.Hour.Milliseconds() || d.Name != "phone" || d.At != "127.0.0.1" {
					t.Errorf("%+v an hour after %d", d, last)
				}
				last = c.now().UnixMilli()
			}
			used()
			used()
			if name == "memory" {
				return
			}
			s.stop()
			s.start()
			used()
		})
	}
}
