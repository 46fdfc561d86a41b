package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"orrery/internal/testenv"
)

// redacting is how far a redaction is.
type redacting struct {
	Status string
	Failed map[string]string `json:"failed_redactions"`
}

// beginRedacting begins to redact what a user sent.
func (c *client) beginRedacting(user string, body object) string {
	c.t.Helper()
	id, _ := c.do("POST", "/_synapse/admin/v1/user/"+user+"/redact", body)["redact_id"].(string)
	return id
}

// redacted waits for the end of a redaction.
func (c *client) redacted(id string) (r redacting) {
	c.t.Helper()
	testenv.Eventually(c.t, "all is redacted", func() bool {
		r = redacting{}
		c.want(http.StatusOK, "GET", "/_synapse/admin/v1/user/redact_status/"+id, nil, &r)
		return r.Status != "active"
	})
	return r
}

// all are the events of a room, oldest first.
func (c *client) all(room string) []clientEvent {
	c.t.Helper()
	var page struct{ Chunk []clientEvent }
	c.want(http.StatusOK, "GET", "rooms/"+url.PathEscape(room)+"/messages?dir=f&limit=1000&from=s0", nil, &page)
	return page.Chunk
}

// because is who redacted each event that is redacted, and why.
func because(all []clientEvent) map[string]string {
	found := map[string]string{}
	for _, e := range all {
		if by, ok := e.Unsigned["redacted_because"].(object); ok {
			content, _ := by["content"].(object)
			found[e.ID] = fmt.Sprint(by["sender"], " ", content["reason"])
		}
	}
	return found
}

// by are events that are redacted by somebody.
func by(who, why string, ids ...string) map[string]string {
	all := map[string]string{}
	for _, id := range ids {
		all[id] = who + " " + why
	}
	return all
}

// TestRedactUser: an administrator has redacted what a user sent, in some rooms or in all, as far as whoever redacts may.
func TestRedactUser(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		if err := s.server.Accounts.SetAdmin(t.Context(), anne.user, true); err != nil {
			t.Fatal(err)
		}
		bob.do("PUT", "profile/"+bob.user+"/displayname", object{"displayname": ""})
		one, two, banned := anne.create(object{"preset": "public_chat"}), bob.create(object{"preset": "public_chat"}), anne.create(object{"preset": "public_chat"})
		anne.join(two)
		bob.join(one)
		bob.join(banned)
		first, second, other := bob.send(one, "1", "first"), bob.send(one, "2", "second"), bob.send(two, "1", "other")
		anne.send(one, "1", "anne's")
		reaction, _ := bob.do("PUT", "rooms/"+one+"/send/m.reaction/3", object{"m.relates_to": object{"rel_type": "m.annotation", "event_id": first, "key": "+"}})["event_id"].(string)
		bob.do("PUT", "rooms/"+two+"/state/m.room.topic", object{"topic": "stays"})
		spam := bob.send(banned, "1", "spam")
		anne.do("POST", "rooms/"+banned+"/ban", object{"user_id": bob.user})
		joins := map[string]string{} // what bob says of himself in the rooms
		for _, room := range []string{one, two, banned} {
			for _, e := range anne.all(room) {
				if e.Type == "m.room.member" && e.Sender == bob.user && len(e.Content) > 1 {
					joins[room] = e.ID
				}
			}
		}
		check := func(room string, want map[string]string) {
			t.Helper()
			if id := joins[room]; id != "" && len(want) > 0 {
				want[id] = slices.Collect(maps.Values(want))[0]
			}
			if got := because(anne.all(room)); !maps.Equal(got, want) {
				t.Errorf("%v, not %v", got, want)
			}
		}
		done := func(body object) map[string]string {
			t.Helper()
			r := anne.redacted(anne.beginRedacting(bob.user, body))
			if r.Status != "complete" || r.Failed == nil {
				t.Errorf("%+v", r)
			}
			return r.Failed
		}
		const redact = "/_synapse/admin/v1/user/"
		bob.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", redact+bob.user+"/redact", object{"rooms": []string{}})
		anne.refused(http.StatusBadRequest, "M_MISSING_PARAM", "POST", redact+bob.user+"/redact", object{})
		anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", redact+bob.user+"/redact", object{"rooms": []string{}, "limit": 0})
		anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", redact+bob.user+"/redact", object{"rooms": []string{}, "before_ts": -1})
		anne.refused(http.StatusBadRequest, "M_BAD_JSON", "POST", redact+bob.user+"/redact", object{"rooms": "x"})
		anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", redact+"bob/redact", object{"rooms": []string{}})
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "POST", redact+bob.user+"/redact", object{"rooms": []string{one, "!nowhere"}})
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", redact+"redact_status/x", nil)

		if failed := done(object{"rooms": []string{one}, "limit": 2, "reason": "spam"}); len(failed) != 0 { // the reaction and the second
			t.Error(failed)
		}
		joins[one], second, reaction = "", reaction, second
		check(one, by(bob.user, "spam", second, reaction))
		check(two, map[string]string{})
		var at struct {
			Time int64 `json:"origin_server_ts"`
		}
		anne.want(http.StatusOK, "GET", "rooms/"+one+"/event/"+url.PathEscape(first), nil, &at)
		done(object{"rooms": []string{one}, "before_ts": at.Time - 1000000})
		done(object{"rooms": []string{one}, "after_ts": at.Time + 1000000})
		check(one, by(bob.user, "spam", second, reaction))
		failed := done(object{"rooms": []string{two}, "use_admin": true}) // anne has no power there
		if failed[other] == "" || len(because(anne.all(two))) != 0 {
			t.Error(failed)
		}
		if failed := done(object{"rooms": []string{}}); len(failed) != 0 {
			t.Error(failed)
		}
		for _, e := range anne.all(one) {
			if e.Type == "m.room.member" && e.Sender == bob.user && len(e.Content) > 1 {
				t.Errorf("%+v", e)
			}
		}
		check(two, by(bob.user, "<nil>", other))
		check(banned, by(anne.user, "<nil>", spam))
		if got := anne.texts(one); !slices.Equal(got, []string{"<nil>", "<nil>", "anne's"}) {
			t.Errorf("%q", got)
		}
		if topic := anne.do("GET", "rooms/"+two+"/state/m.room.topic", nil); topic["topic"] != "stays" {
			t.Error(topic)
		}
	})
}

// TestRedactingGoesOn: a server that ends while it redacts goes on when it is started again: each event is redacted once.
func TestRedactingGoesOn(t *testing.T) {
	kept(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		if err := s.server.Accounts.SetAdmin(t.Context(), anne.user, true); err != nil {
			t.Fatal(err)
		}
		const rooms, each = 4, 120 // several pieces
		var all []string
		for range rooms {
			room := anne.create(object{"preset": "public_chat"})
			bob.join(room)
			bob.sendAll(room, "spam", each)
			all = append(all, room)
		}
		id := anne.beginRedacting(bob.user, object{"rooms": []string{}})
		for range 2 {
			s.stop()
			s.start()
		}
		if r := anne.redacted(id); r.Status != "complete" || len(r.Failed) != 0 {
			t.Errorf("%+v", r)
		}
		for _, room := range all {
			redactions, spam := 0, 0
			for _, e := range anne.all(room) {
				if e.Type == "m.room.redaction" {
					redactions++
				}
				if e.Type == "m.room.message" && len(e.Content) > 0 {
					spam++
				}
			}
			if redactions != each+1 || spam > 0 { // and what bob said of himself on joining
				t.Errorf("%d redactions, %d messages are left", redactions, spam)
			}
		}
	})
}
