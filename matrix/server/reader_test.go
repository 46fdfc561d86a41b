package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

// TestMembershipOfReader: beside each event stands what the reader was in the room then.
func TestMembershipOfReader(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		first := anne.send(room, "1", "leave")
		bob.join(room)
		anne.send(room, "2", "join")
		for i := range 20 {
			bob.do("PUT", "profile/"+bob.user+"/displayname", object{"displayname": fmt.Sprint("bob ", i)})
		}
		anne.send(room, "3", "join")
		bob.do("POST", "rooms/"+url.PathEscape(room)+"/leave", object{})
		anne.send(room, "4", "leave")
		bob.do("POST", "join/"+url.PathEscape(room), object{})
		since := bob.sync("", "").Next
		anne.send(room, "5", "join")
		check := func(where string, n int, all ...clientEvent) {
			t.Helper()
			for _, e := range all {
				if e.Type == "m.room.message" && e.Unsigned["membership"] != e.Content["body"] {
					t.Errorf("%s: %v %v", where, e.Content, e.Unsigned)
				}
				if e.StateKey != nil && *e.StateKey == bob.user && e.Unsigned["membership"] != e.Content["membership"] {
					t.Errorf("%s: %v %v", where, e.Content, e.Unsigned)
				}
			}
			if len(bodies(all)) != n {
				t.Errorf("%s: %q", where, bodies(all))
			}
		}
		check("sync", 5, bob.sync("", whole).Rooms.Join[room].Timeline.Events...)
		check("sync since", 1, bob.sync(since, whole).Rooms.Join[room].Timeline.Events...)
		for _, dir := range []string{"b", "f"} {
			var page struct{ Chunk []clientEvent }
			bob.want(http.StatusOK, "GET", "rooms/"+url.PathEscape(room)+"/messages?limit=1000&dir="+dir, nil, &page)
			check("messages", 5, page.Chunk...)
		}
		var one clientEvent
		bob.want(http.StatusOK, "GET", "rooms/"+url.PathEscape(room)+"/event/"+first, nil, &one)
		check("event", 1, one)
		var around struct {
			Event  clientEvent
			Before []clientEvent `json:"events_before"`
			After  []clientEvent `json:"events_after"`
		}
		bob.want(http.StatusOK, "GET", "rooms/"+url.PathEscape(room)+"/context/"+first+"?limit=100", nil, &around)
		check("context", 5, slices.Concat(around.Before, []clientEvent{around.Event}, around.After)...)
	})
}
