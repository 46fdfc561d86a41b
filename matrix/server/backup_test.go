package server_test

import (
	"fmt"
	"net/http"
	"testing"
)

func TestBackup(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne := s.register("anne")
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "room_keys/version", nil)
		form := object{"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": object{"public_key": "x"}}
		version := func() string { v, _ := anne.do("POST", "room_keys/version", form)["version"].(string); return v }
		if v := version(); v != "1" {
			t.Error(v)
		}
		key := func(first, forwarded int, verified bool) object {
			return object{"first_message_index": first, "forwarded_count": forwarded, "is_verified": verified, "session_data": object{"n": fmt.Sprint(first, forwarded, verified)}}
		}
		put := func(k object) object { return anne.do("PUT", "room_keys/keys/!r:x/s1?version=1", k) }
		for i, c := range []struct {
			k    object
			etag string
		}{{key(5, 1, false), "1"}, {key(5, 1, false), "1"}, {key(6, 0, false), "1"}, {key(4, 9, false), "2"}, {key(4, 8, false), "3"}, {key(9, 9, true), "4"}, {key(0, 0, false), "4"}} {
			if out := put(c.k); out["etag"] != c.etag || fmt.Sprint(out["count"]) != "1" {
				t.Errorf("%d: %v", i, out)
			}
		}
		if got := anne.do("GET", "room_keys/keys/!r:x/s1?version=1", nil); got["is_verified"] != true {
			t.Error(got)
		}
		anne.do("PUT", "room_keys/keys/!r:x?version=1", object{"sessions": object{"s2": key(0, 0, false), "s3": key(0, 0, false)}})
		anne.do("PUT", "room_keys/keys?version=1", object{"rooms": object{"!q:x": object{"sessions": object{"s4": key(0, 0, false)}}}})
		rooms, _ := anne.do("GET", "room_keys/keys?version=1", nil)["rooms"].(object)
		sessions, _ := anne.do("GET", "room_keys/keys/!r:x?version=1", nil)["sessions"].(object)
		if len(rooms) != 2 || len(sessions) != 3 {
			t.Error(rooms, sessions)
		}
		anne.do("DELETE", "room_keys/keys/!r:x/s2?version=1", nil)
		if out := anne.do("DELETE", "room_keys/keys/!r:x?version=1", nil); fmt.Sprint(out["count"]) != "1" {
			t.Error(out)
		}
		anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "room_keys/keys/!r:x/s1?version=1", nil)
		anne.refused(http.StatusBadRequest, "M_BAD_JSON", "PUT", "room_keys/keys/!r:x/s1?version=1", object{"is_verified": true})
		if v := version(); v != "2" {
			t.Error(v)
		}
		anne.refused(http.StatusForbidden, "M_WRONG_ROOM_KEYS_VERSION", "PUT", "room_keys/keys/!r:x/s1?version=1", key(0, 0, true))
		form["auth_data"] = object{"public_key": "y"}
		anne.do("PUT", "room_keys/version/2", form)
		if b := anne.do("GET", "room_keys/version", nil); fmt.Sprint(b["auth_data"]) != "map[public_key:y]" || b["version"] != "2" {
			t.Error(b)
		}
		anne.do("DELETE", "room_keys/version/2", nil)
		anne.do("DELETE", "room_keys/version/2", nil)
		if b := anne.do("GET", "room_keys/version", nil); b["version"] != "1" {
			t.Error(b)
		}
		if v := version(); v != "3" {
			t.Errorf("a number is given out again: %s", v)
		}
	})
}
