package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

// searched is what a search found.
type searched struct {
	Categories struct {
		Events struct {
			Count   int
			Next    string `json:"next_batch"`
			Results []struct {
				Rank    float64
				Result  clientEvent
				Context struct {
					Before   []clientEvent `json:"events_before"`
					After    []clientEvent `json:"events_after"`
					Start    string
					End      string
					Profiles map[string]object `json:"profile_info"`
				}
			}
			Highlights []string
			Groups     map[string]map[string]struct {
				Next    string `json:"next_batch"`
				Results []string
			}
			State map[string][]clientEvent
		} `json:"room_events"`
	} `json:"search_categories"`
}

func (s searched) bodies() (found []string) {
	for _, r := range s.Categories.Events.Results {
		for _, name := range []string{"body", "name", "topic"} {
			if v := r.Result.Content[name]; v != nil {
				found = append(found, fmt.Sprint(v))
			}
		}
	}
	return found
}

func (c *client) find(term string, more object, next string) (out searched) {
	c.t.Helper()
	events := object{"search_term": term, "order_by": "recent"}
	maps.Copy(events, more)
	path := "search"
	if next != "" {
		path += "?next_batch=" + url.QueryEscape(next)
	}
	c.want(http.StatusOK, "POST", path, object{"search_categories": object{"room_events": events}}, &out)
	return out
}

func (c *client) finds(term string, more object, want ...string) {
	c.t.Helper()
	if got := c.find(term, more, "").bodies(); !slices.Equal(got, want) {
		c.t.Errorf("%q %v: %q, not %q", term, more, got, want)
	}
}

// TestSearch: messages are found by their words as soon as they were sent, by those who may see them, until they are redacted.
func TestSearch(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
		room := anne.create(object{"preset": "public_chat", "name": "Tea room", "initial_state": []object{{"type": "m.room.history_visibility", "content": object{"history_visibility": "joined"}}}})
		anne.send(room, "1", "I like tea")
		bob.join(room)
		secret := anne.send(room, "2", "Tea is served, teapot too")
		bob.send(room, "3", "Kaffee statt Tee für Zoë")
		other := bob.create(object{"topic": "all about tea"})
		bob.send(other, "4", "tea for one")
		anne.finds("tea", nil, "Tea is served, teapot too", "I like tea", "Tea room")
		anne.finds("TEA like", nil, "I like tea")
		anne.finds("teap", nil, "Tea is served, teapot too")
		anne.finds("zoe fur", nil, "Kaffee statt Tee für Zoë")
		anne.finds("nothing", nil)
		anne.finds("...", nil)
		anne.finds("tea", object{"keys": []string{"content.name"}}, "Tea room")
		anne.finds("tea", object{"filter": object{"not_senders": []string{anne.user}}})
		bob.finds("tea", nil, "tea for one", "all about tea", "Tea is served, teapot too") // not what was before bob
		bob.finds("tea", object{"filter": object{"rooms": []string{other}}}, "tea for one", "all about tea")
		bob.finds("tea", object{"filter": object{"types": []string{"m.room.topic"}}}, "all about tea")
		carl.finds("tea", nil)
		bob.do("POST", "rooms/"+room+"/leave", object{})
		anne.send(room, "5", "more tea")
		bob.finds("tea", object{"filter": object{"not_rooms": []string{other}}}, "Tea is served, teapot too")
		anne.do("PUT", "rooms/"+room+"/redact/"+url.PathEscape(secret)+"/6", object{})
		anne.finds("served", nil)
		if got := anne.find("served", nil, ""); got.Categories.Events.Count != 0 {
			t.Errorf("its words are still there: %+v", got)
		}
		if s.config.Database == "memory" {
			return
		}
		s.stop()
		s.start()
		anne.finds("tea", nil, "more tea", "I like tea", "Tea room")
		anne.send(room, "7", "even more tea")
		anne.finds("more", nil, "even more tea", "more tea")
	})
}

// TestSearchPages: results come in pages, in groups, with what is around them.
func TestSearchPages(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		var rooms []string
		for i := range 2 {
			rooms = append(rooms, anne.create(object{"preset": "public_chat"}))
			bob.join(rooms[i])
		}
		var want []string
		for i := range 7 {
			body := fmt.Sprintf("green apple %d", i)
			[]*client{anne, bob}[i%2].send(rooms[i%2], fmt.Sprint(i), body)
			anne.send(rooms[0], fmt.Sprint("x", i), "between")
			want = append(want, body)
		}
		slices.Reverse(want)
		grouped := object{"groupings": object{"group_by": []object{{"key": "room_id"}, {"key": "sender"}}}, "filter": object{"limit": 3}}
		pages := func(more object, next string) (all []string) {
			for first := true; first || next != ""; first = false {
				got := anne.find("apple", more, next)
				all, next = append(all, got.bodies()...), got.Categories.Events.Next
			}
			return all
		}
		if all := pages(object{"filter": object{"limit": 3}}, ""); !slices.Equal(all, want) {
			t.Errorf("%q", all)
		}
		first := anne.find("apple", grouped, "").Categories.Events
		if first.Count != 7 || len(first.Groups["room_id"]) != 2 || len(first.Groups["sender"][anne.user].Results) != 2 || !slices.Equal(first.Highlights, []string{"apple"}) {
			t.Errorf("%+v", first)
		}
		if rest := pages(object{"filter": object{"limit": 3}}, first.Groups["sender"][anne.user].Next); !slices.Equal(rest, []string{"green apple 2", "green apple 0"}) {
			t.Errorf("%q", rest)
		}
		anne.send(rooms[1], "best", "apple")
		ranked := object{"order_by": "rank", "filter": object{"limit": 3}}
		all := pages(ranked, "")
		if slices.Sort(all); len(all) != 8 || len(slices.Compact(all)) != 8 {
			t.Errorf("%q", all)
		}
		if best := anne.find("apple", ranked, "").bodies()[0]; best != "apple" {
			t.Errorf("%s ranks first", best)
		}
		around := anne.find("apple 3", object{"event_context": object{"before_limit": 1, "after_limit": 2, "include_profile": true}, "include_state": true}, "").Categories.Events
		c := around.Results[0].Context
		if len(c.Before) != 1 || len(c.After) != 2 || c.Start == "" || c.End == "" || c.Profiles[bob.user]["displayname"] != "bob" || len(around.State[rooms[1]]) < 5 {
			t.Errorf("%+v", around)
		}
		search := func(events any) object { return object{"search_categories": object{"room_events": events}} }
		anne.refused(http.StatusBadRequest, "M_MISSING_PARAM", "POST", "search", search(object{}))
		anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", "search", search(object{"search_term": "x", "order_by": "size"}))
		anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", "search", search(object{"search_term": "x", "keys": []string{"content.x"}}))
		anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", "search?next_batch=x", search(object{"search_term": "x"}))
		anne.refused(http.StatusBadRequest, "M_BAD_JSON", "POST", "search", search(object{"search_term": 1}))
		anne.do("POST", "search", object{"search_categories": object{}})
	})
}
