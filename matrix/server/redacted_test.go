package server_test

import (
	"net/http"
	"net/url"
	"testing"
)

// TestRedactedBecause: a redacted event comes with the event that redacted it (clause client-server API, room event format: redacted_because), wherever it is
// read; who had left before is told its id only. Events of which there is nothing to say have an unsigned, too, which programs take for granted.
func TestRedactedBecause(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		carl.join(room)
		path := "/_matrix/client/v3/rooms/" + url.PathEscape(room)
		said := bob.send(room, "1", "spam")
		carl.do("POST", path+"/leave", object{})
		by, _ := anne.do("PUT", path+"/redact/"+url.PathEscape(said)+"/2", object{"reason": "no spam"})["event_id"].(string)
		because := func(c *client, e clientEvent) object {
			t.Helper()
			if e.ID != said || len(e.Content) != 0 {
				t.Errorf("%s sees %+v", c.user, e)
			}
			o, _ := e.Unsigned["redacted_because"].(object)
			return o
		}
		read := func(c *client, path string) (e clientEvent) {
			t.Helper()
			c.want(http.StatusOK, "GET", path, nil, &e)
			return e
		}
		var page struct{ Chunk []clientEvent }
		anne.want(http.StatusOK, "GET", path+"/messages?dir=b", nil, &page)
		for where, e := range map[string]clientEvent{
			"/event":    read(bob, path+"/event/"+url.PathEscape(said)),
			"/messages": find(page.Chunk, said),
			"/sync":     find(bob.sync("", "").Rooms.Join[room].Timeline.Events, said),
		} {
			got := because(bob, e)
			content, _ := got["content"].(object)
			if got["event_id"] != by || got["sender"] != anne.user || got["type"] != "m.room.redaction" || content["reason"] != "no spam" || content["redacts"] != said {
				t.Errorf("%s: %v", where, got)
			}
		}
		if got := because(carl, read(carl, path+"/event/"+url.PathEscape(said))); got["event_id"] != by || len(got) != 1 {
			t.Errorf("who had left is told %v", got)
		}
		var state []clientEvent
		anne.want(http.StatusOK, "GET", path+"/state", nil, &state)
		for _, e := range state {
			if e.Unsigned == nil {
				t.Errorf("%s has no unsigned", e.Type)
			}
		}
	})
}

// find is the event with an id.
func find(all []clientEvent, id string) (found clientEvent) {
	for _, e := range all {
		if e.ID == id {
			found = e
		}
	}
	return found
}
