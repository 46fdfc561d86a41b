package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// admits fails unless a room lets in those servers that it shall, and tells the others why not.
func (s *site) admits(id, why string, servers map[string]bool) {
	s.t.Helper()
	r, err := s.server.Rooms.Find(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	for server, want := range servers {
		err := r.Admits(server)
		denial, denied := errors.AsType[*room.Denial](err)
		if want != (err == nil) || !want && (!denied || denial.Server != server || denial.Room != id || !errors.Is(err, matrix.ErrForbidden)) {
			s.t.Errorf("%s: %s: %v", why, server, err)
		}
	}
}

// TestServerACL: a room's server ACL says which servers may take part, also after a restart and an upgrade. One that denies this server is not taken, and users of servers that are
// denied are not invited.
func TestServerACL(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		id := anne.create(object{"preset": "public_chat"})
		bob.join(id)
		path := "rooms/" + url.PathEscape(id)
		state := path + "/state/m.room.server_acl/"
		s.admits(id, "without an ACL", map[string]bool{"orrery.test": true, "evil.test": true, "1.2.3.4": true})

		for _, bad := range []object{
			{}, {"allow": []string{}}, {"allow": "*"}, {"allow": []string{"other.test"}}, {"allow": []string{"*"}, "deny": []string{"*"}}, {"allow": []string{"*"}, "deny": []string{"ORRERY.*"}},
		} {
			anne.refused(http.StatusBadRequest, "M_BAD_STATE", "PUT", state, bad)
			bob.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", state, bad) // who has no power is told that
			anne.refused(http.StatusBadRequest, "M_INVALID_ROOM_STATE", "POST", "createRoom", object{"initial_state": []object{{"type": "m.room.server_acl", "state_key": "", "content": bad}}})
		}
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", state, nil)
		anne.do("PUT", state+"other", object{}) // it is no server ACL
		s.admits(id, "with one at another key", map[string]bool{"orrery.test": true, "evil.test": true})

		acl := object{"allow": []string{"*"}, "deny": []string{"*.evil.test", "evil.test"}, "allow_ip_literals": false}
		set := fmt.Sprint(anne.do("PUT", state, acl)["event_id"])
		who := map[string]bool{"orrery.test": true, "evil.test": false, "EVIL.test:8448": false, "a.evil.test": false, "good.test": true, "1.2.3.4": false, "[::1]:8448": false}
		s.admits(id, "with an ACL", who)
		anne.do("POST", path+"/invite", object{"user_id": "@x:good.test"})
		for _, user := range []string{"@x:evil.test", "@x:Evil.Test:8448", "@x:1.2.3.4", "@x:[::1]"} {
			anne.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", path+"/invite", object{"user_id": user})
			anne.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", path+"/state/m.room.member/"+url.PathEscape(user), object{"membership": "invite"})
			anne.do("POST", path+"/ban", object{"user_id": user}) // only coming in is denied
		}
		anne.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", path+"/redact/"+set+"/1", object{})
		anne.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", path+"/send/m.room.redaction/2", object{"redacts": set})
		s.admits(id, "after redactions that were refused", who)

		with := object{"initial_state": []object{{"type": "m.room.server_acl", "state_key": "", "content": acl}}, "invite": []string{"@x:evil.test"}}
		anne.refused(http.StatusBadRequest, "M_INVALID_ROOM_STATE", "POST", "createRoom", with)
		with["invite"] = []string{"@x:good.test"}
		s.admits(anne.create(with), "of a new room", who)

		if s.config.Database != "memory" {
			s.stop()
			s.start()
			s.admits(id, "after a restart", who)
		}
		made := fmt.Sprint(anne.do("POST", path+"/upgrade", object{"new_version": "11"})["replacement_room"])
		s.admits(made, "after an upgrade", who)
		if got := anne.do("GET", "rooms/"+url.PathEscape(made)+"/state/m.room.server_acl", nil); fmt.Sprint(got) != fmt.Sprint(anne.do("GET", state, nil)) {
			t.Error(got)
		}
		anne.do("PUT", "rooms/"+url.PathEscape(made)+"/state/m.room.server_acl", object{"allow": []string{"orrery.test"}})
		s.admits(made, "with another ACL", map[string]bool{"orrery.test": true, "good.test": false})
	})
}

// TestServerACLSelfDenied: one that denies this server is not taken on any of the ways on which state comes into a room: later, by an application service, as a notice. What waits to be
// sent from before is not sent either.
func TestServerACLSelfDenied(t *testing.T) {
	b := newBridge(t, "irc")
	s := bridged(t, "sqlite:homeserver.db", []*bridge{b}, noticesOff, noticesBy)
	root, anne, g := administered(t, s), s.register("anne"), s.ghost(b, "irc_bob")
	id := anne.create(object{"power_level_content_override": object{"users_default": 50, "state_default": 50, "events": object{}}, "preset": "public_chat"})
	g.join(id)
	state := "rooms/" + url.PathEscape(id) + "/state/m.room.server_acl/"
	bad, good := object{"allow": []string{"other.test"}}, object{"allow": []string{"orrery.test"}}
	const hour = "?org.matrix.msc4140.delay=3600000"
	for _, path := range []string{state, state + hour} {
		anne.refused(http.StatusBadRequest, "M_BAD_STATE", "PUT", path, bad)
		g.bot.refused(http.StatusBadRequest, "M_BAD_STATE", "PUT", g.path(path), bad)
	}
	if got := anne.waiting(); got != nil {
		t.Errorf("%q wait", got)
	}
	say := object{"user_id": anne.user, "type": "m.room.server_acl", "state_key": "", "content": bad}
	root.refused(http.StatusBadRequest, "M_BAD_STATE", "POST", sendNotice, say)
	say["content"] = good
	root.do("POST", sendNotice, say)
	anne.later(state+"other", 3_600_000, bad) // it is no server ACL
	waits := anne.later(state, 7_200_000, good)
	s.stop()
	s.change(func(tx table.Tx) error {
		d, _, err := store.AllDelayed.Get(tx, waits)
		d.Content = []byte(`{"allow":["other.test"]}`)
		return errors.Join(err, store.AllDelayed.Put(tx, d))
	})
	s.start()
	anne.refused(http.StatusBadRequest, "M_BAD_STATE", "POST", delayedPath+"/"+waits+"/send", object{})
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", state, nil)
	anne.do("PUT", state+hour, good)
}

// TestServerACLShown: the page of a room shows its server ACL, and says of any server whether it may take part; lists find the rooms that have one.
func TestServerACLShown(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		administered(t, s)
		anne := s.register("anne")
		guarded := anne.create(object{"name": "Guarded", "invite": []string{"@x:good.test", "@y:good.test", "@x:evil.test"}})
		anne.do("PUT", "rooms/"+url.PathEscape(guarded)+"/state/m.room.server_acl", object{"allow": []string{"*.test"}, "deny": []string{"<i>evil*"}, "allow_ip_literals": false})
		plain := anne.create(object{"name": "Plain", "creation_content": object{"m.federate": false}})
		b := s.surfer()
		b.logIn("root", "pw-root")
		page := func(id, query string) string { return b.get("/admin/rooms/" + url.PathEscape(id) + query) }
		for _, text := range []string{"<code>*.test</code>", "<code>&lt;i&gt;evil*</code>", "may not take part", `good.test</th><td class="num">2</td>`, `evil.test</th><td class="num">1</td>`} {
			says(t, page(guarded, ""), text)
		}
		anne.do("PUT", "rooms/"+url.PathEscape(guarded)+"/state/m.room.server_acl", object{"allow": []string{"*.test"}, "deny": []string{"evil*"}, "allow_ip_literals": false})
		for server, text := range map[string]string{
			"EVIL.test:1": "&#34;evil*&#34; of deny fits it", "a.test": "&#34;*.test&#34; of allow fits it", "a.example": "nothing of allow fits it", "[::1]": "it is an IP address", "<b>x": "<span class=\"mono\">&lt;b&gt;x</span>",
		} {
			says(t, page(guarded, "?server="+url.QueryEscape(server)), text)
		}
		says(t, page(plain, "?server=evil.test"), "the room has no server ACL")
		for show, want := range map[string]string{"acl": "Guarded", "here": "Plain"} {
			if list := b.get("/admin/rooms?show=" + show); strings.Contains(list, "Guarded") != (want == "Guarded") || strings.Contains(list, "Plain") != (want == "Plain") {
				t.Errorf("%s: %s", show, list)
			}
		}
	})
}
