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
	for _, path := range []string{"/_matrix/client/v1/room_summary/%s", "/_matrix/client/unstable/im.nheko.summary/summary/%s", "/_matrix/client/unstable/im.nheko.summary/rooms/%s/summary"} {
		if sum := bob.do("GET", fmt.Sprintf(path, url.PathEscape(space)), nil); sum["name"] != "space" || sum["membership"] != "join" || sum["room_type"] != "m.space" {
			t.Error(path, sum)
		}
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

// TestUpgradeCarries: who comes into the room that is in the place of another has there what they had set for the other one.
func TestUpgradeCarries(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		for i, byHand := range []bool{false, true} {
			anne, bob, carl := s.register(fmt.Sprint("anne", i)), s.register(fmt.Sprint("bob", i)), s.register(fmt.Sprint("carl", i))
			old := anne.create(object{"preset": "public_chat"})
			bob.join(old)
			for _, c := range []*client{anne, bob, carl} {
				c.do("PUT", "pushrules/global/room/"+url.PathEscape(old), object{"actions": []string{"dont_notify"}})
				c.do("PUT", "pushrules/global/override/"+url.PathEscape(old), object{"actions": []string{}, "conditions": []object{{"kind": "event_match", "key": "room_id", "pattern": old}}})
				c.do("PUT", "pushrules/global/override/"+url.PathEscape(old)+"/enabled", object{"enabled": false})
				c.do("PUT", "user/"+c.user+"/rooms/"+old+"/tags/m.favourite", object{"order": .5})
				c.do("PUT", "user/"+c.user+"/account_data/m.direct", object{"@x:y": []string{old}, "odd": 1})
			}
			var made string
			if byHand {
				made = anne.create(object{"preset": "public_chat", "creation_content": object{"predecessor": object{"room_id": old}}})
				bob.join(made) // before it is said that the old one ends
				anne.do("PUT", "rooms/"+old+"/state/m.room.tombstone", object{"replacement_room": made})
			} else {
				made, _ = anne.do("POST", "rooms/"+old+"/upgrade", object{"new_version": "12"})["replacement_room"].(string)
				bob.join(made)
			}
			carl.join(made) // was not in the old one
			for _, c := range []*client{anne, bob} {
				if r := c.do("GET", "pushrules/global/room/"+url.PathEscape(made), nil); fmt.Sprint(r["actions"]) != "[dont_notify]" {
					t.Error(r)
				}
				r := c.do("GET", "pushrules/global/override/"+url.PathEscape(made), nil)
				if fmt.Sprint(r["conditions"], r["enabled"]) != "[map[key:room_id kind:event_match pattern:"+made+"]] false" {
					t.Error(r)
				}
				if got := fmt.Sprint(c.do("GET", "user/"+c.user+"/rooms/"+made+"/tags", nil)); got != "map[tags:map[m.favourite:map[order:0.5]]]" {
					t.Error(got)
				}
				if got := fmt.Sprint(c.do("GET", "user/"+c.user+"/account_data/m.direct", nil)["@x:y"]); got != "["+old+" "+made+"]" {
					t.Error(got)
				}
			}
			carl.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "pushrules/global/room/"+url.PathEscape(made), nil)
			stranger := anne.create(object{"preset": "public_chat", "creation_content": object{"predecessor": object{"room_id": old}}})
			bob.join(stranger) // says so alone
			bob.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "pushrules/global/room/"+url.PathEscape(stranger), nil)
		}
	})
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
