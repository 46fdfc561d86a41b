package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"orrery/internal/testenv"
)

const delayedPath = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"

// later makes a request for something to be sent later, and is the id of that.
func (c *client) later(path string, milliseconds int, content object) string {
	c.t.Helper()
	id, _ := c.do("PUT", fmt.Sprintf("%s?org.matrix.msc4140.delay=%d", path, milliseconds), content)["delay_id"].(string)
	if id == "" {
		c.t.Fatalf("%s: no id", path)
	}
	return id
}

// waiting are the ids of what a user has that is sent later.
func (c *client) waiting() (ids []string) {
	c.t.Helper()
	list, _ := c.do("GET", delayedPath, nil)["delayed_events"].([]any)
	for _, d := range list {
		ids = append(ids, fmt.Sprint(d.(object)["delay_id"]))
	}
	return ids
}

// TestDelayed: events are sent later, at once if somebody who knows their id wants that, or never; also by a server that was not there when they were due.
func TestDelayed(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		nobody := &client{site: s}
		room := anne.create(object{"preset": "public_chat", "power_level_content_override": object{"events": object{"call": 0}}})
		at := "rooms/" + room
		message := anne.later(at+"/send/m.room.message/1", 3_600_000, object{"body": "later"})
		if again := anne.later(at+"/send/m.room.message/1", 3_600_000, object{}); again != message {
			t.Error("the same transaction counts twice")
		}
		state := anne.later(at+"/state/call/a", 60_000, object{"by": "hand"})
		never := anne.later(at+"/state/call/b", 120_000, object{})
		if got := anne.waiting(); !slices.Equal(got, []string{state, never, message}) {
			t.Errorf("%q", got)
		}
		one := anne.do("GET", delayedPath+"/"+state, nil)
		if one["room_id"] != room || one["type"] != "call" || one["state_key"] != "a" || one["delay"] != 60_000. || one["running_since"] == nil || fmt.Sprint(one["content"]) != "map[by:hand]" {
			t.Errorf("%+v", one)
		}
		if got := bob.waiting(); got != nil {
			t.Errorf("of somebody else: %q", got)
		}
		bob.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", delayedPath+"/"+state, nil)
		nobody.refused(http.StatusUnauthorized, "M_MISSING_TOKEN", "GET", delayedPath, nil)
		nobody.refused(http.StatusNotFound, "M_NOT_FOUND", "POST", delayedPath+"/other/send", object{})
		nobody.refused(http.StatusNotFound, "M_UNRECOGNIZED", "POST", delayedPath+"/"+state+"/other", object{})
		nobody.do("POST", delayedPath+"/"+never+"/cancel", object{})
		nobody.do("POST", delayedPath+"/"+state, object{"action": "restart"}) // as clients of before ask
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", at+"/state/call/a", nil)
		nobody.do("POST", delayedPath+"/"+state+"/send", object{})
		if got := anne.do("GET", at+"/state/call/a", nil); got["by"] != "hand" {
			t.Error(got)
		}
		finished := func() {
			t.Helper()
			nobody.do("POST", delayedPath+"/"+state+"/send", object{}) // as who got no answer does
			nobody.do("POST", delayedPath+"/"+never+"/cancel", object{})
			for id, actions := range map[string][]string{state: {"cancel", "restart"}, never: {"send", "restart"}} {
				for _, action := range actions {
					nobody.refused(http.StatusConflict, "M_UNKNOWN", "POST", delayedPath+"/"+id+"/"+action, object{})
				}
			}
			if one := anne.do("GET", delayedPath+"/"+state, nil); one["event_id"] == nil || one["origin_server_ts"] == nil || one["error"] != nil || one["state_key"] != "a" || fmt.Sprint(one["content"]) != "map[by:hand]" {
				t.Errorf("sent: %+v", one)
			}
			if one := anne.do("GET", delayedPath+"/"+never, nil); one["event_id"] != nil || one["origin_server_ts"] == nil || one["error"] != nil {
				t.Errorf("cancelled: %+v", one)
			}
			bob.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", delayedPath+"/"+state, nil)
		}
		finished()
		anne.later(at+"/state/call/c", 1, object{"by": "itself"})
		testenv.Eventually(t, "it is sent", func() bool { return len(anne.waiting()) == 1 })
		if got := anne.do("GET", at+"/state/call/c", nil); got["by"] != "itself" {
			t.Error(got)
		}
		if s.config.Database != "memory" {
			s.stop()
			s.start()
			if got := anne.waiting(); !slices.Equal(got, []string{message}) {
				t.Errorf("after a restart: %q", got)
			}
			finished()
		}
		anne.do("POST", delayedPath+"/"+message+"/send", object{})
		if got := bodies(anne.sync("", "").Rooms.Join[room].Timeline.Events); !slices.Equal(got, []string{"later"}) {
			t.Errorf("%q", got)
		}
	})
}

// TestDelayedRefused: what may not be sent later, and what may not be sent any more when it is due.
func TestDelayedRefused(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat"})
	at, query := "rooms/"+room, "?org.matrix.msc4140.delay="
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", at+"/send/m.room.message/1"+query+"1000", object{})
	bob.join(room)
	for _, bad := range []string{"0", "-1", "x"} {
		bob.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", at+"/send/m.room.message/1"+query+bad, object{})
	}
	bob.refused(http.StatusBadRequest, "M_UNKNOWN", "PUT", at+"/send/m.room.message/1"+query+"86400001", object{})
	for _, path := range []string{"/send/m.room.redaction/1", "/state/m.room.member/" + bob.user, "/state/m.room.canonical_alias"} {
		bob.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", at+path+query+"1000", object{})
	}
	mayNot := bob.later(at+"/state/call/x", 60_000, object{}) // it is tried when it is due
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", delayedPath+"/"+mayNot+"/send", object{})
	if got := bob.waiting(); !slices.Equal(got, []string{mayNot}) {
		t.Errorf("it is not there any more: %q", got)
	}
	dropped := bob.later(at+"/state/call/x", 1, object{})
	testenv.Eventually(t, "it is dropped", func() bool { return len(bob.waiting()) == 1 })
	if why, _ := bob.do("GET", delayedPath+"/"+dropped, nil)["error"].(object); why["errcode"] != "M_FORBIDDEN" {
		t.Errorf("why it was not sent: %v", why)
	}
	bob.do("POST", delayedPath+"/"+dropped+"/cancel", object{})
	bob.refused(http.StatusConflict, "M_UNKNOWN", "POST", delayedPath+"/"+dropped+"/send", object{})
	for i := range 99 {
		anne.later(fmt.Sprintf("%s/send/m.room.message/%d", at, i), 60_000, object{})
		bob.later(fmt.Sprintf("%s/send/m.room.message/%d", at, i), 60_000, object{})
	}
	bob.refused(http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", "PUT", at+"/send/m.room.message/more"+query+"60000", object{})
}

// TestDelayedForgotten: what became of events is known of a user's last hundred, and for a week.
func TestDelayedForgotten(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	s := configured(t, "memory")
	s.now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	s.start()
	t.Cleanup(func() { s.stop() })
	anne := s.register("anne")
	room := anne.create(object{})
	var ids []string
	for i := range 101 {
		id := anne.later(fmt.Sprintf("rooms/%s/send/m.room.message/%d", room, i), 3_600_000, object{})
		anne.do("POST", delayedPath+"/"+id+"/cancel", object{})
		ids = append(ids, id)
		mu.Lock()
		now = now.Add(time.Millisecond)
		mu.Unlock()
	}
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", delayedPath+"/"+ids[0], nil)
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "POST", delayedPath+"/"+ids[0]+"/cancel", object{})
	anne.do("GET", delayedPath+"/"+ids[1], nil)
	mu.Lock()
	now = now.Add(7*24*time.Hour + time.Millisecond)
	mu.Unlock()
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", delayedPath+"/"+ids[100], nil)
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "POST", delayedPath+"/"+ids[100]+"/cancel", object{})
}
