package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"testing"
	"time"
)

func (c *client) relate(room, txn, kind, target, rel string, content object) string {
	c.t.Helper()
	content["m.relates_to"] = object{"rel_type": rel, "event_id": target}
	id, _ := c.do("PUT", fmt.Sprintf("rooms/%s/send/%s/%s", url.PathEscape(room), kind, txn), content)["event_id"].(string)
	return id
}

func at(o object, path ...string) any {
	var v any = o
	for _, name := range path {
		o, _ := v.(object)
		v = o[name]
	}
	return v
}

// nextMillisecond returns when another one has begun.
func nextMillisecond() {
	for now := time.Now().UnixMilli(); time.Now().UnixMilli() == now; {
		runtime.Gosched()
	}
}

func TestRelations(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		root := anne.send(room, "root", "root")
		message := func(body string) object { return object{"msgtype": "m.text", "body": body} }
		edit := func(body string) object {
			return object{"msgtype": "m.text", "body": "* " + body, "m.new_content": message(body)}
		}
		anne.relate(room, "1", "m.room.message", root, "m.replace", edit("first"))
		nextMillisecond() // of two edits at one time the ids decide
		second := anne.relate(room, "2", "m.room.message", root, "m.replace", edit("second"))
		bob.relate(room, "3", "m.room.message", root, "m.replace", edit("not mine"))
		reaction := bob.relate(room, "4", "m.reaction", root, "m.annotation", object{})
		reply := bob.relate(room, "5", "m.room.message", root, "m.thread", message("in the thread"))
		last := anne.relate(room, "6", "m.room.message", root, "m.thread", message("last"))
		anne.relate(room, "7", "m.room.message", last, "m.replace", edit("last indeed"))

		path := "rooms/" + url.PathEscape(room)
		e := anne.do("GET", path+"/event/"+url.PathEscape(root), nil)
		relations, _ := at(e, "unsigned", "m.relations").(object)
		if at(relations, "m.replace", "event_id") != second || at(relations, "m.thread", "latest_event", "event_id") != last ||
			fmt.Sprint(at(relations, "m.thread", "count")) != "2" || at(relations, "m.thread", "current_user_participated") != true || len(relations) != 2 {
			t.Errorf("%v", relations)
		}
		if at(relations, "m.thread", "latest_event", "unsigned", "m.relations", "m.replace") == nil {
			t.Errorf("the latest event of the thread was replaced: %v", relations)
		}
		ids := func(path string) (found []string) {
			var page struct{ Chunk []clientEvent }
			anne.want(http.StatusOK, "GET", path, nil, &page)
			for _, e := range page.Chunk {
				found = append(found, e.ID)
			}
			return found
		}
		of := path + "/relations/" + url.PathEscape(root)
		if got := ids(of + "/m.annotation"); !slices.Equal(got, []string{reaction}) {
			t.Error(got)
		}
		if got := ids(of + "/m.thread/m.room.message?dir=f"); !slices.Equal(got, []string{reply, last}) {
			t.Error(got)
		}
		if got := ids(of + "?limit=2"); len(got) != 2 || got[0] != last {
			t.Error(got)
		}
		if got := ids(of + "/m.replace?recurse=true"); len(got) != 4 {
			t.Error(got)
		}
		other := bob.send(room, "other", "other")
		bob.relate(room, "8", "m.room.message", other, "m.thread", message("x"))
		if got := ids(path + "/threads"); !slices.Equal(got, []string{other, root}) {
			t.Error(got)
		}
		if got := ids(path + "/threads?include=participated"); !slices.Equal(got, []string{root}) {
			t.Error(got)
		}
		anne.do("PUT", path+"/redact/"+url.PathEscape(second)+"/r1", object{})
		e = anne.do("GET", path+"/event/"+url.PathEscape(root), nil)
		if got := at(e, "unsigned", "m.relations", "m.replace", "content", "body"); got != "* first" {
			t.Errorf("after the newest edit was redacted: %v", got)
		}
		anne.do("PUT", path+"/redact/"+url.PathEscape(root)+"/r2", object{})
		e = anne.do("GET", path+"/event/"+url.PathEscape(root), nil)
		if r, _ := at(e, "unsigned", "m.relations").(object); r["m.replace"] != nil || r["m.thread"] == nil {
			t.Errorf("redacted: %v", e)
		}
	})
}

func TestDirectory(t *testing.T) {
	s := newSite(t, "sqlite:homeserver.db")
	anne, bob := s.register("anne"), s.register("bob")
	lounge := anne.create(object{"preset": "public_chat", "visibility": "public", "name": "Lounge", "topic": "talk"})
	space := anne.create(object{"preset": "public_chat", "visibility": "public", "name": "Space", "creation_content": object{"type": "m.space"}})
	hidden := anne.create(object{"preset": "public_chat", "name": "Hidden"})
	bob.join(lounge)
	list := func(body object) (found []string) {
		var page struct {
			Chunk []struct {
				ID string `json:"room_id"`
			}
		}
		bob.want(http.StatusOK, "POST", "publicRooms", body, &page)
		for _, r := range page.Chunk {
			found = append(found, r.ID)
		}
		return found
	}
	if got := list(object{}); !slices.Equal(got, []string{lounge, space}) {
		t.Error(got)
	}
	if got := list(object{"filter": object{"generic_search_term": "TALK"}}); !slices.Equal(got, []string{lounge}) {
		t.Error(got)
	}
	if f, _ := bob.do("GET", "/_matrix/client/versions", nil)["unstable_features"].(object); f["org.matrix.msc3827.stable"] != true {
		t.Errorf("clients are not told that they may ask for types of rooms: %v", f)
	}
	if got := list(object{"filter": object{"room_types": []any{"m.space"}}}); !slices.Equal(got, []string{space}) {
		t.Error(got)
	}
	if got := list(object{"filter": object{"room_types": []any{nil}}}); !slices.Equal(got, []string{lounge}) {
		t.Error(got)
	}
	if got := list(object{"limit": 1, "since": "1"}); !slices.Equal(got, []string{space}) {
		t.Error(got)
	}
	path := "directory/list/room/" + url.PathEscape(hidden)
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", path, object{"visibility": "public"})
	bob.join(hidden)
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", path, object{"visibility": "public"})
	anne.do("PUT", path, object{"visibility": "public"})
	if got := list(object{}); len(got) != 3 {
		t.Error(got)
	}
	if v := bob.do("GET", path, nil); v["visibility"] != "public" {
		t.Error(v)
	}
	s.stop()
	s.start()
	anne.do("PUT", path, object{"visibility": "private"})
	if got := list(object{}); len(got) != 2 {
		t.Error(got)
	}
}
