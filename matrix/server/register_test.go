package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// begun is an answer that says what a request lacks.
type begun struct {
	Session   string
	Completed []string
	Flows     []struct{ Stages []string }
	Params    map[string]object
}

// TestInvitation: an account needs a token and that the terms are accepted.
func TestInvitation(t *testing.T) {
	s := newSite(t, "memory", "registration_needs_token: false", "registration_needs_token: true",
		"terms: []", `terms: [{id: privacy_policy, version: "1.0", language: en, title: Privacy policy, url: https://example.org/privacy}]`)
	if _, err := s.server.Accounts.Invite(t.Context(), "come-in", 1, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.server.Accounts.Invite(t.Context(), "too-late", 0, time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.server.Accounts.Invite(t.Context(), "come in", 1, time.Time{}); err == nil {
		t.Error("a token has a space")
	}
	c := &client{site: s}
	valid := func(token string) any {
		return c.do("GET", "/_matrix/client/v1/register/m.login.registration_token/validity?token="+token, nil)["valid"]
	}
	if valid("come-in") != true || valid("too-late") != false || valid("other") != false {
		t.Error("validity")
	}
	body := func(name string, auth object) object {
		return object{"username": name, "password": "pw", "auth": auth}
	}
	var step begun
	c.want(http.StatusUnauthorized, "POST", "register", object{"username": "anne", "password": "pw"}, &step)
	if fmt.Sprint(step.Flows) != "[{[m.login.registration_token m.login.terms]}]" || step.Params["m.login.terms"]["policies"] == nil {
		t.Errorf("%+v", step)
	}
	session := step.Session
	c.refused(http.StatusUnauthorized, "M_FORBIDDEN", "POST", "register", body("anne", object{"session": session, "type": "m.login.registration_token", "token": "too-late"}))
	c.refused(http.StatusUnauthorized, "M_UNRECOGNIZED", "POST", "register", body("anne", object{"session": session, "type": "m.login.dummy"}))
	c.want(http.StatusUnauthorized, "POST", "register", body("anne", object{"session": session, "type": "m.login.registration_token", "token": "come-in"}), &step)
	if step.Session != session || fmt.Sprint(step.Completed) != "[m.login.registration_token]" {
		t.Errorf("%+v", step)
	}
	// Another one who begins with the same token comes too late.
	var other begun
	c.want(http.StatusUnauthorized, "POST", "register", body("bob", object{"type": "m.login.registration_token", "token": "come-in"}), &other)
	if out := c.do("POST", "register", body("anne", object{"session": session, "type": "m.login.terms"})); out["user_id"] != "@anne:orrery.test" {
		t.Error(out)
	}
	c.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "register", body("bob", object{"session": other.Session, "type": "m.login.terms"}))
	if valid("come-in") != false {
		t.Error("a token that was used up counts")
	}
	if all, err := s.server.Accounts.Invitations(t.Context()); err != nil || len(all) != 2 || all[0].Used != 1 {
		t.Error(all, err)
	}
}

// TestSessionsAreBound: what was proved for one request counts for no other.
func TestSessionsAreBound(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	var step begun
	bob.want(http.StatusUnauthorized, "POST", "account/deactivate", object{}, &step)
	auth := object{"type": "m.login.password", "session": step.Session, "identifier": object{"type": "m.id.user", "user": "anne"}, "password": "pw-anne"}
	anne.refused(http.StatusUnauthorized, "M_FORBIDDEN", "POST", "account/deactivate", object{"auth": auth})
	anne.do("GET", "account/whoami", nil)
}

// TestLoginToken: a device gets a token for another one, which counts once.
func TestLoginToken(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	const path = "/_matrix/client/v1/login/get_token"
	var step begun
	anne.want(http.StatusUnauthorized, "POST", path, object{}, &step)
	token := anne.do("POST", path, object{"auth": object{"type": "m.login.password", "session": step.Session, "user": "anne", "password": "pw-anne"}})["login_token"]
	c := &client{site: s}
	if out := c.do("POST", "login", object{"type": "m.login.token", "token": token, "device_id": "NEW"}); out["user_id"] != anne.user || out["device_id"] != "NEW" {
		t.Error(out)
	}
	c.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", object{"type": "m.login.token", "token": token})
	if flows := fmt.Sprint(c.do("GET", "login", nil)); !strings.Contains(flows, "get_login_token:true") {
		t.Error(flows)
	}
}

func TestGuests(t *testing.T) {
	closed := &client{site: newSite(t, "memory")}
	closed.refused(http.StatusForbidden, "M_GUEST_ACCESS_FORBIDDEN", "POST", "register?kind=guest", object{})
	s := newSite(t, "memory", "guests: false", "guests: true")
	anne := s.register("anne")
	guest := &client{site: s}
	out := guest.do("POST", "register?kind=guest", object{"device_id": "MINE"})
	guest.token, _ = out["access_token"].(string)
	guest.user, _ = out["user_id"].(string)
	if out["device_id"] == "MINE" || guest.do("GET", "account/whoami", nil)["is_guest"] != true {
		t.Error(out)
	}
	guest.refused(http.StatusForbidden, "M_GUEST_ACCESS_FORBIDDEN", "POST", "createRoom", object{})
	room := anne.create(object{"preset": "public_chat"})
	guest.refused(http.StatusForbidden, "M_GUEST_ACCESS_FORBIDDEN", "POST", "join/"+room, object{})
	access := "rooms/" + room + "/state/m.room.guest_access/"
	anne.do("PUT", access, object{"guest_access": "can_join"})
	guest.join(room)
	guest.send(room, "1", "hello")
	anne.do("PUT", access, object{"guest_access": "forbidden"})
	if m := anne.do("GET", "rooms/"+room+"/state/m.room.member/"+guest.user, nil); m["membership"] != "leave" {
		t.Error(m)
	}
}

// TestErase: who joins later sees nothing of what somebody wrote who wanted to be forgotten; who was there still does.
func TestErase(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
	room := anne.create(object{"preset": "public_chat"})
	bob.join(room)
	anne.send(room, "1", "a secret")
	var step begun
	anne.want(http.StatusUnauthorized, "POST", "account/deactivate", object{"erase": true}, &step)
	anne.do("POST", "account/deactivate", object{"erase": true, "auth": object{"type": "m.login.password", "session": step.Session, "user": "anne", "password": "pw-anne"}})
	carl.join(room)
	said := func(c *client) []string {
		var page struct{ Chunk []clientEvent }
		c.want(http.StatusOK, "GET", "rooms/"+room+"/messages?dir=b&limit=100", nil, &page)
		return bodies(page.Chunk)
	}
	if got := said(bob); fmt.Sprint(got) != "[a secret]" {
		t.Errorf("who was there sees %q", got)
	}
	if got := said(carl); fmt.Sprint(got) != "[<nil>]" {
		t.Errorf("who came later sees %q", got)
	}
	if p := carl.do("GET", "profile/"+anne.user, nil); len(p) != 0 {
		t.Error(p)
	}
}

// TestNoMail: where there is no server of mail there are no addresses, and clients are told so in the standard's words.
func TestNoMail(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	if out := anne.do("GET", "account/3pid", nil); fmt.Sprint(out) != "map[threepids:[]]" {
		t.Error(out)
	}
	nobody := &client{site: s}
	for _, path := range []string{"register", "account/password", "account/3pid"} {
		nobody.refused(http.StatusBadRequest, "M_THREEPID_MEDIUM_NOT_SUPPORTED", "POST", path+"/email/requestToken", object{"client_secret": "s", "email": "a@example.org", "send_attempt": 1})
		nobody.refused(http.StatusBadRequest, "M_THREEPID_MEDIUM_NOT_SUPPORTED", "POST", path+"/msisdn/requestToken", object{"client_secret": "s", "country": "GB", "phone_number": "1", "send_attempt": 1})
	}
	nobody.refused(http.StatusUnauthorized, "M_MISSING_TOKEN", "POST", "account/password", object{"new_password": "x"})
}
