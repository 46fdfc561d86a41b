package server_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"
)

// TestAge: events of a timeline say how long ago they were sent (clause client-server API, room event format, unsigned: age), by which clients know that a call has rung
// long enough: by this server's clock.
func TestAge(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	room := anne.create(object{})
	said := anne.send(room, "1", "hello")
	path := "/_matrix/client/v3/rooms/" + url.PathEscape(room)
	last := 0.0
	for range 2 {
		var one clientEvent
		var page struct{ Chunk []clientEvent }
		anne.want(http.StatusOK, "GET", path+"/event/"+url.PathEscape(said), nil, &one)
		anne.want(http.StatusOK, "GET", path+"/messages?dir=b", nil, &page)
		for where, e := range map[string]clientEvent{"/event": one, "/messages": find(page.Chunk, said), "/sync": find(anne.sync("", "").Rooms.Join[room].Timeline.Events, said)} {
			age, _ := e.Unsigned["age"].(float64)
			if age < max(1, last) || int64(age) > max(1, time.Now().UnixMilli()-e.Timestamp) {
				t.Errorf("%s: it is %v ms old, sent at %d, at %d; it was %v", where, e.Unsigned["age"], e.Timestamp, time.Now().UnixMilli(), last)
			}
		}
		last, _ = one.Unsigned["age"].(float64)
	}
}
