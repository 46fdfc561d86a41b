package server_test

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
)

// TestNoTimeline: who wants no events of timelines is told of the state, as it is at the end; and of a room that they never were in nothing but that they are out.
func TestNoTimeline(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		never := anne.create(object{"preset": "private_chat", "name": "secret", "invite": []string{bob.user}})
		bob.join(room)
		since := bob.sync("", "").Next
		topic := func(text string) {
			anne.do("PUT", "rooms/"+url.PathEscape(room)+"/state/m.room.topic/", object{"topic": text})
		}
		topic("before")
		anne.send(room, "1", "said")
		none := "filter=" + url.QueryEscape(`{"room":{"timeline":{"limit":0},"include_leave":true}}`)
		topics := func(all []clientEvent) (found []string) {
			for _, e := range all {
				if text, ok := e.Content["topic"].(string); ok {
					found = append(found, text)
				}
			}
			return found
		}
		for _, from := range []string{"", since} {
			r := bob.sync(from, none).Rooms.Join[room]
			if len(r.Timeline.Events) != 0 || !r.Timeline.Limited || !slices.Equal(topics(r.State.Events), []string{"before"}) || (len(r.State.Events) == 1) != (from == since) {
				t.Errorf("since %q: %+v", from, r)
			}
			var page struct{ Chunk []clientEvent }
			bob.want(http.StatusOK, "GET", "rooms/"+url.PathEscape(room)+"/messages?dir=b&from="+r.Timeline.Prev, nil, &page)
			if !slices.Equal(bodies(page.Chunk), []string{"said"}) {
				t.Errorf("since %q: %q", from, bodies(page.Chunk))
			}
		}
		for _, id := range []string{room, never} {
			bob.do("POST", "rooms/"+url.PathEscape(id)+"/leave", object{})
		}
		topic("after")
		anne.do("PUT", "rooms/"+url.PathEscape(never)+"/state/m.room.topic/", object{"topic": "after"})
		for _, from := range []string{"", since} {
			got := bob.sync(from, none).Rooms.Leave
			if r := got[room]; len(r.Timeline.Events) != 0 || !slices.Equal(topics(r.State.Events), []string{"before"}) {
				t.Errorf("left, since %q: %+v", from, r)
			}
			if all := got[never].State.Events; len(all) != 1 || all[0].Content["membership"] != "leave" {
				t.Errorf("declined, since %q: %+v", from, all)
			}
			var after struct {
				Rooms struct {
					Leave map[string]struct {
						After events `json:"state_after"`
					}
				}
			}
			for _, filter := range []string{none, "filter=" + url.QueryEscape(`{"room":{"include_leave":true}}`)} {
				more := "&use_state_after=true"
				if from != "" {
					more += "&since=" + from
				}
				bob.want(http.StatusOK, "GET", "sync?"+filter+more, nil, &after)
				if all := after.Rooms.Leave[never].After.Events; len(all) != 1 || all[0].Content["membership"] != "leave" {
					t.Errorf("declined, since %q, state after: %+v", from, all)
				}
			}
		}
	})
}
