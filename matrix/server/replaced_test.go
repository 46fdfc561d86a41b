package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
)

// TestReplaced: a state event says what it replaced: by its id to all, by its content to those who may see that.
func TestReplaced(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat", "initial_state": []object{{"type": "m.room.history_visibility", "content": object{"history_visibility": "joined"}}}})
		name := func(n string) string {
			return fmt.Sprint(anne.do("PUT", "rooms/"+room+"/state/m.room.name", object{"name": n})["event_id"])
		}
		first := name("first")
		bob.join(room)
		since := bob.sync("", "").Next
		second := name("second")
		third := name("third")
		bob.do("PUT", "profile/"+bob.user+"/displayname", object{"displayname": "Bobby"})
		before := func(e clientEvent) string {
			content, _ := e.Unsigned["prev_content"].(object)
			return fmt.Sprintf("%v %v %v", e.Unsigned["replaces_state"], content["name"], content["displayname"])
		}
		check := func() {
			t.Helper()
			for id, want := range map[string]string{first: "<nil> <nil> <nil>", second: first + " first <nil>", third: second + " second <nil>"} {
				var e clientEvent
				anne.want(http.StatusOK, "GET", "rooms/"+room+"/event/"+url.PathEscape(id), nil, &e)
				if got := before(e); got != want {
					t.Errorf("%s: %s, not %s", e.Content, got, want)
				}
			}
			got := bob.sync(since, "").Rooms.Join[room].Timeline.Events
			if len(got) != 3 || before(got[0]) != first+" <nil> <nil>" || before(got[1]) != second+" second <nil>" || got[2].Unsigned["replaces_state"] == nil || before(got[2]) != fmt.Sprintf("%v <nil> bob", got[2].Unsigned["replaces_state"]) {
				t.Errorf("%+v", got)
			}
		}
		check()
		if s.config.Database != "memory" {
			s.stop()
			s.start()
			check()
		}
		anne.do("PUT", "rooms/"+room+"/redact/"+url.PathEscape(second)+"/1", object{})
		var e clientEvent
		anne.want(http.StatusOK, "GET", "rooms/"+room+"/event/"+url.PathEscape(third), nil, &e)
		if got := before(e); got != second+" <nil> <nil>" {
			t.Errorf("after it was redacted: %s", got)
		}
	})
}
