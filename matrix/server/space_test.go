package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

func TestHierarchy(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	space := anne.create(object{"preset": "public_chat", "name": "space", "creation_content": object{"type": "m.space"}})
	below := anne.create(object{"preset": "public_chat", "name": "below", "creation_content": object{"type": "m.space"}})
	open, hidden := anne.create(object{"preset": "public_chat", "name": "open"}), anne.create(object{"name": "hidden"})
	club := anne.create(object{"name": "club", "initial_state": []object{{"type": "m.room.join_rules", "content": object{"join_rule": "restricted", "allow": []object{{"type": "m.room_membership", "room_id": space}}}}}})
	put := func(in, child string, content object) {
		content["via"] = []string{"orrery.test"}
		anne.do("PUT", "rooms/"+url.PathEscape(in)+"/state/m.space.child/"+url.PathEscape(child), content)
	}
	put(space, open, object{"order": "b", "suggested": true})
	put(space, below, object{"order": "a"})
	put(space, hidden, object{})
	nextMillisecond() // of two children at one time the ids decide
	put(space, club, object{})
	put(below, space, object{}) // in a circle
	names := func(c *client, more string) (all []string) {
		var page struct{ Rooms []struct{ Name string } }
		c.want(http.StatusOK, "GET", "/_matrix/client/v1/rooms/"+url.PathEscape(space)+"/hierarchy?"+more, nil, &page)
		for _, r := range page.Rooms {
			all = append(all, r.Name)
		}
		return all
	}
	if got := names(anne, ""); !slices.Equal(got, []string{"space", "below", "open", "hidden", "club"}) {
		t.Error(got)
	}
	if got := names(bob, ""); !slices.Equal(got, []string{"space", "below", "open"}) {
		t.Error(got)
	}
	bob.join(space)
	if got := names(bob, ""); !slices.Equal(got, []string{"space", "below", "open", "club"}) {
		t.Error(got)
	}
	if got := names(bob, "suggested_only=true"); !slices.Equal(got, []string{"space", "open"}) {
		t.Error(got)
	}
	if got := names(bob, "max_depth=0"); !slices.Equal(got, []string{"space"}) {
		t.Error(got)
	}
	if got := names(bob, "limit=2&from=1"); !slices.Equal(got, []string{"below", "open"}) {
		t.Error(got)
	}
	bob.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", "/_matrix/client/v1/rooms/"+url.PathEscape(hidden)+"/hierarchy", nil)
	if sum := bob.do("GET", "/_matrix/client/v1/room_summary/"+url.PathEscape(space), nil); sum["name"] != "space" || sum["membership"] != "join" || sum["room_type"] != "m.space" {
		t.Error(sum)
	}
	bob.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "/_matrix/client/v1/room_summary/"+url.PathEscape(hidden), nil)
}

func TestUpgrade(t *testing.T) {
	for _, to := range []string{"11", "12"} {
		s := newSite(t, "memory")
		anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
		old := anne.create(object{"room_version": "10", "preset": "public_chat", "visibility": "public", "name": "Lounge", "room_alias_name": "lounge"})
		bob.join(old)
		carl.join(old)
		path := "rooms/" + url.PathEscape(old)
		anne.do("POST", path+"/ban", object{"user_id": carl.user})
		bob.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", path+"/upgrade", object{"new_version": to})
		anne.refused(http.StatusBadRequest, "M_UNSUPPORTED_ROOM_VERSION", "POST", path+"/upgrade", object{"new_version": "99"})
		made, _ := anne.do("POST", path+"/upgrade", object{"new_version": to})["replacement_room"].(string)
		now := "rooms/" + url.PathEscape(made)
		if got := anne.do("GET", path+"/state/m.room.tombstone", nil); got["replacement_room"] != made {
			t.Error(got)
		}
		create := anne.do("GET", now+"/state/m.room.create", nil)
		if create["room_version"] != to || at(create, "predecessor", "room_id") != old {
			t.Error(create)
		}
		if got := anne.do("GET", now+"/state/m.room.name", nil); got["name"] != "Lounge" {
			t.Error(got)
		}
		bob.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", path+"/send/m.room.message/1", object{"body": "too late"})
		carl.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "join/"+url.PathEscape(made), object{})
		if got := bob.do("GET", "directory/room/"+url.PathEscape("#lounge:orrery.test"), nil); got["room_id"] != made {
			t.Error(got)
		}
		bob.join("#lounge:orrery.test")
		if got := fmt.Sprint(bob.do("GET", "publicRooms", nil)["total_room_count_estimate"]); got != "1" {
			t.Error(got)
		}
	}
}

func TestUserDirectory(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
	room := anne.create(object{"preset": "public_chat"})
	bob.join(room)
	bob.do("PUT", "profile/"+bob.user+"/displayname", object{"displayname": "Robert"})
	search := func(c *client, term string) string {
		return fmt.Sprint(c.do("POST", "user_directory/search", object{"search_term": term})["results"])
	}
	if got := search(anne, "ROB"); got != "[map[display_name:Robert user_id:"+bob.user+"]]" {
		t.Error(got)
	}
	if got := search(carl, "rob"); got != "[]" {
		t.Error(got)
	}
	anne.do("PUT", "directory/list/room/"+url.PathEscape(room), object{})
	if got := search(carl, "rob"); got == "[]" {
		t.Error("not found in a public room")
	}
}
