package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"orrery/internal/testenv"
)

const adminPath = "/_synapse/admin/"

// TestAdministration: what panels and bots ask of a server, and that nobody else gets it.
func TestAdministration(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		root, anne, bob := s.register("root"), s.register("anne"), s.register("bob")
		if err := s.server.Accounts.SetAdmin(t.Context(), root.user, true); err != nil {
			t.Fatal(err)
		}
		anne.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", adminPath+"v2/users", nil)
		(&client{site: s}).refused(http.StatusUnauthorized, "M_MISSING_TOKEN", "GET", adminPath+"v2/users", nil)
		first := root.do("GET", adminPath+"v2/users?limit=2", nil)
		if users, _ := first["users"].([]any); len(users) != 2 || first["total"] != float64(3) || first["next_token"] != "2" {
			t.Error(first)
		}
		if found := root.do("GET", adminPath+"v2/users?name=ANN", nil); found["total"] != float64(1) || found["next_token"] != nil {
			t.Error(found)
		}
		user := func(name string) string { return adminPath + "v2/users/" + url.PathEscape("@"+name+":orrery.test") }
		var made object
		root.want(http.StatusCreated, "PUT", user("carl"), object{"password": "first", "displayname": "Carl"}, &made)
		root.do("PUT", user("carl"), object{"password": "second", "admin": true})
		if c := root.do("GET", user("carl"), nil); c["displayname"] != "Carl" || c["admin"] != true || c["deactivated"] != false {
			t.Error(c)
		}
		root.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", user("nobody"), nil)
		root.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", adminPath+"v2/users/"+url.PathEscape("@x:elsewhere.test"), object{})
		login := func(name, password string) object {
			return object{"type": "m.login.password", "user": name, "password": password}
		}
		(&client{site: s}).refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", login("carl", "first"))
		(&client{site: s}).do("POST", "login", login("carl", "second"))
		root.do("POST", adminPath+"v1/reset_password/"+url.PathEscape(bob.user), object{"new_password": "new"})
		bob.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
		(&client{site: s}).do("POST", "login", login("bob", "new"))

		room := anne.create(object{"name": "Lounge", "preset": "public_chat", "room_alias_name": "lounge"})
		other := root.create(object{"preset": "public_chat"})
		listed := root.do("GET", adminPath+"v1/rooms?search_term=loun", nil)
		rooms, _ := listed["rooms"].([]any)
		if len(rooms) != 1 || fmt.Sprint(at(rooms[0].(object), "joined_members")) != "1" { //nolint:forcetypeassert // of JSON
			t.Error(listed)
		}
		if listed = root.do("GET", adminPath+"v1/rooms?limit=1", nil); listed["total_rooms"] != float64(2) || listed["next_batch"] != float64(1) {
			t.Error(listed)
		}
		path := adminPath + "v1/rooms/" + url.PathEscape(room)
		if d := root.do("GET", path, nil); d["name"] != "Lounge" || d["creator"] != anne.user || d["version"] != "12" {
			t.Error(d)
		}
		if m := root.do("GET", path+"/members", nil); fmt.Sprint(m["members"]) != "["+anne.user+"]" {
			t.Error(m)
		}
		root.do("PUT", path+"/block", object{"block": true})
		root.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "join/"+url.PathEscape(room), object{})
		root.do("PUT", path+"/block", object{"block": false})
		root.join(room)
		anne.send(room, "1", "hello")
		since := anne.sync("", "").Next
		deleted := root.do("DELETE", adminPath+"v2/rooms/"+url.PathEscape(room), object{"purge": true})
		var status object
		testenv.Eventually(t, "the room is deleted", func() bool {
			status = root.do("GET", adminPath+"v2/rooms/delete_status/"+fmt.Sprint(deleted["delete_id"]), nil)
			return status["status"] == "complete"
		})
		if kicked, _ := at(status, "shutdown_room", "kicked_users").([]any); len(kicked) != 2 {
			t.Error(status)
		}
		root.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", path, nil)
		anne.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", "rooms/"+url.PathEscape(room)+"/messages", nil)
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "directory/room/"+url.PathEscape("#lounge:orrery.test"), nil)
		anne.sync(since, "timeout=0")
		root.do("GET", adminPath+"v1/rooms/"+url.PathEscape(other), nil)

		id := strings.TrimPrefix(anne.upload("text/plain", "", []byte("hello")), "orrery.test/")
		download := "/_matrix/client/v1/media/download/orrery.test/" + id
		root.do("POST", adminPath+"v1/media/quarantine/orrery.test/"+id, object{})
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", download, nil)
		root.do("POST", adminPath+"v1/media/unquarantine/orrery.test/"+id, object{})
		if _, _, got := anne.raw("GET", download, "", nil); string(got) != "hello" {
			t.Errorf("%s", got)
		}
		again := strings.TrimPrefix(anne.upload("text/plain", "", []byte("hello")), "orrery.test/")
		root.do("DELETE", adminPath+"v1/media/orrery.test/"+id, nil)
		if _, _, got := anne.raw("GET", "/_matrix/client/v1/media/download/orrery.test/"+again, "", nil); string(got) != "hello" {
			t.Errorf("the content of another one is gone: %s", got)
		}
		if out := root.do("POST", adminPath+"v1/media/delete?before_ts=99999999999999", object{}); out["total"] != float64(1) {
			t.Error(out)
		}

		token := root.do("POST", adminPath+"v1/registration_tokens/new", object{"uses_allowed": 2})
		if all := fmt.Sprint(root.do("GET", adminPath+"v1/registration_tokens", nil)); !strings.Contains(all, fmt.Sprint(token["token"])) {
			t.Error(all)
		}
		root.do("DELETE", adminPath+"v1/registration_tokens/"+fmt.Sprint(token["token"]), nil)
		root.do("POST", adminPath+"v1/deactivate/"+url.PathEscape(anne.user), object{"erase": true})
		anne.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
		if c := root.do("GET", user("anne"), nil); c["deactivated"] != true || c["erased"] != true {
			t.Error(c)
		}
	})
}
