package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

// TestFilterSelects: a filter selects the events of a timeline before its limit counts them, however far apart they are; what it leaves out of the state's changes is
// told beside the timeline.
func TestFilterSelects(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		since := bob.sync("", "").Next
		var want []string
		anne.do("PUT", "rooms/"+room+"/state/m.room.topic", object{"topic": "early"})
		for i := range 300 {
			if i%50 == 0 {
				anne.send(room, fmt.Sprint(i), fmt.Sprint(i))
				want = append(want, fmt.Sprint(i))
				continue
			}
			anne.do("PUT", fmt.Sprintf("rooms/%s/send/own.reaction/%d", room, i), object{"n": i})
		}
		anne.do("PUT", "rooms/"+room+"/state/m.room.name", object{"name": "late"})
		filter := func(limit int, more string) string {
			return "filter=" + url.QueryEscape(fmt.Sprintf(`{"room":{"timeline":{"limit":%d,"types":["m.room.message"]%s}}}`, limit, more))
		}
		for range 2 {
			for limit, limited := range map[int]bool{6: false, 20: false, 4: true, 1: true} {
				for from, states := range map[string][]string{since: {"m.room.name", "m.room.topic"}, "": nil} {
					r := bob.sync(from, filter(limit, "")).Rooms.Join[room]
					if got := bodies(r.Timeline.Events); !slices.Equal(got, want[max(len(want)-limit, 0):]) || r.Timeline.Limited != limited {
						t.Errorf("at most %d since %q: %q, limited %v", limit, from, got, r.Timeline.Limited)
					}
					if got := types(r.State.Events); states != nil && !slices.Equal(got, states) || !slices.Contains(got, "m.room.name") {
						t.Errorf("at most %d since %q: state %q", limit, from, got)
					}
					before := bob.messages(room, "dir=b&from="+r.Timeline.Prev+"&filter="+url.QueryEscape(`{"types":["m.room.message"]}`))
					got := bodies(before.Chunk)
					if slices.Reverse(got); !slices.Equal(got, want[:max(len(want)-limit, 0)]) {
						t.Errorf("before at most %d since %q: %q", limit, from, got)
					}
				}
			}
			r := bob.sync(since, filter(20, fmt.Sprintf(`,"not_senders":[%q]`, anne.user))).Rooms.Join[room]
			if len(r.Timeline.Events) != 0 || r.Timeline.Limited || len(r.State.Events) != 2 {
				t.Errorf("nobody's messages: %+v", r)
			}
			if s.config.Database == "memory" {
				break
			}
			s.stop()
			s.start() // nothing of the room is in memory
		}
	})
}

// TestFilterCounts: a client is not told of what it does not want, but of how many events notify its user.
func TestFilterCounts(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		since := bob.sync("", "").Next
		for i, one := range []struct {
			kind  string
			count any
		}{{"own.reaction", nil}, {"m.room.message", 1.0}} {
			anne.do("PUT", fmt.Sprintf("rooms/%s/send/%s/%d", room, one.kind, i), object{"body": "x", "msgtype": "m.text"})
			for _, filter := range []string{`{"room":{"timeline":{"types":["own"]}}}`, `{"room":{"timeline":{"types":[]}}}`, fmt.Sprintf(`{"room":{"timeline":{"not_rooms":[%q]}}}`, room)} {
				var got struct {
					Next  string `json:"next_batch"`
					Rooms struct{ Join map[string]object }
				}
				bob.want(http.StatusOK, "GET", "sync?since="+since+"&filter="+url.QueryEscape(filter), nil, &got)
				counts, _ := got.Rooms.Join[room]["unread_notifications"].(object)
				if counts["notification_count"] != one.count {
					t.Errorf("%s, %s: %v", one.kind, filter, got.Rooms.Join)
				}
			}
		}
	})
}

// TestIgnoredDoNotCount: what ignored users say takes no place in a timeline, nor in that of sliding sync.
func TestIgnoredDoNotCount(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		carl.join(room)
		bob.do("PUT", "user/"+bob.user+"/account_data/m.ignored_user_list", object{"ignored_users": object{carl.user: object{}}})
		since := bob.sync("", "").Next
		anne.send(room, "1", "heard")
		for i := range 30 {
			carl.send(room, fmt.Sprint(i), "ignored")
		}
		for _, from := range []string{"", since} {
			r := bob.sync(from, "filter="+url.QueryEscape(`{"room":{"timeline":{"limit":1}}}`)).Rooms.Join[room]
			if got := bodies(r.Timeline.Events); !slices.Equal(got, []string{"heard"}) || r.Timeline.Limited != (from == "") {
				t.Errorf("since %q: %q, limited %v", from, got, r.Timeline.Limited)
			}
		}
		var sliding struct {
			Rooms map[string]struct{ Timeline []clientEvent }
		}
		bob.want(http.StatusOK, "POST", "/_matrix/client/v4/sync", object{"room_subscriptions": object{room: object{"timeline_limit": 1}}}, &sliding)
		if got := bodies(sliding.Rooms[room].Timeline); !slices.Equal(got, []string{"heard"}) {
			t.Errorf("sliding sync: %q", got)
		}
	})
}
