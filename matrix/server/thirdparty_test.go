package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// TestServiceQueries: a service is asked for users and aliases of its namespaces that are not there, and makes them.
func TestServiceQueries(t *testing.T) {
	b := newBridge(t, "irc")
	s := bridged(t, "memory", []*bridge{b})
	anne, bot := s.register("anne"), s.as(b)
	var asked []string
	b.other = func(w http.ResponseWriter, q *http.Request) { // requests come one after another
		asked = append(asked, q.URL.Path)
		switch q.URL.Path {
		case "/_matrix/app/v1/users/@irc_bob:orrery.test":
			s.ghost(b, "irc_bob")
		case "/_matrix/app/v1/rooms/#irc_lounge:orrery.test":
			bot.create(object{"room_alias_name": "irc_lounge", "preset": "public_chat"})
		default:
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte("{}"))
	}
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "profile/@irc_nobody:orrery.test", nil)
	if shown := anne.do("GET", "profile/@irc_bob:orrery.test", nil); shown["displayname"] != "irc_bob" {
		t.Errorf("%+v", shown)
	}
	anne.join("#irc_lounge:orrery.test")
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "directory/room/"+url.PathEscape("#irc_none:orrery.test"), nil)
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "directory/room/"+url.PathEscape("#other:orrery.test"), nil)
	anne.create(object{"invite": []string{"@irc_eve:orrery.test"}})
	if !slices.Contains(asked, "/_matrix/app/v1/users/@irc_eve:orrery.test") || slices.ContainsFunc(asked, func(p string) bool { return strings.Contains(p, "other") }) {
		t.Errorf("asked %q", asked)
	}
	b.http.Close()
	anne.refused(http.StatusRequestTimeout, "M_UNKNOWN", "POST", "join/"+url.PathEscape("#irc_late:orrery.test"), object{})
}

// TestLegacyRoutes: a service that knows only the paths of old is found at them.
func TestLegacyRoutes(t *testing.T) {
	b := newBridge(t, "irc")
	s := bridged(t, "memory", []*bridge{b})
	b.fails = slices.Repeat([]int{404}, 1)
	got := make(chan string, 10)
	b.other = func(_ http.ResponseWriter, q *http.Request) { got <- q.URL.Path }
	room := s.as(b).create(object{})
	if path := <-got; !strings.HasPrefix(path, "/transactions/") {
		t.Error(path)
	}
	s.as(b).send(room, "1", "x")
	if path := <-got; !strings.HasPrefix(path, "/transactions/") { // it is remembered
		t.Error(path)
	}
}

// TestThirdParty: what several services know of networks is one answer, and their rooms are in directories of their own.
func TestThirdParty(t *testing.T) {
	answers := func(b *bridge, network string) {
		b.other = func(w http.ResponseWriter, q *http.Request) {
			switch {
			case q.URL.Path == "/_matrix/app/v1/thirdparty/protocol/chat":
				_ = json.NewEncoder(w).Encode(object{"user_fields": []string{"nick"}, "location_fields": []string{}, "icon": "mxc://a/b", "field_types": object{}, "instances": []object{{"network_id": network, "desc": network, "fields": object{}}}})
			case q.URL.Path == "/_matrix/app/v1/thirdparty/user/chat" && q.URL.Query().Get("nick") == "bob", q.URL.Path == "/_matrix/app/v1/thirdparty/user" && q.URL.Query().Get("userid") != "":
				_ = json.NewEncoder(w).Encode([]object{{"userid": "@" + b.id + "_bob:orrery.test", "protocol": "chat", "fields": object{}}, {"wrong": true}})
			case q.URL.Path == "/_matrix/app/v1/thirdparty/location/chat", q.URL.Path == "/_matrix/app/v1/thirdparty/location":
				_, _ = w.Write([]byte("garbage"))
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}
	}
	a, b, broken := newBridge(t, "irc", "protocols: [chat]"), newBridge(t, "xmpp", "protocols: [chat]"), newBridge(t, "broken", "protocols: [chat, other]")
	answers(a, "one")
	answers(b, "two")
	broken.http.Close()
	s := bridged(t, "memory", []*bridge{a, b, broken})
	anne := s.register("anne")
	all := anne.do("GET", "thirdparty/protocols", nil)
	one := anne.do("GET", "thirdparty/protocol/chat", nil)
	if len(all) != 1 || fmt.Sprint(all["chat"]) != fmt.Sprint(one) || !strings.Contains(fmt.Sprint(one), "irc|one") || !strings.Contains(fmt.Sprint(one), "xmpp|two") {
		t.Errorf("%v %v", all, one)
	}
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "thirdparty/protocol/none", nil)
	for _, path := range []string{"thirdparty/user/chat?nick=bob", "thirdparty/user?userid=@x:y"} {
		var users []object
		if anne.want(http.StatusOK, "GET", path, nil, &users); len(users) != 2 {
			t.Errorf("%s: %v", path, users)
		}
	}
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "thirdparty/user/chat?nick=eve", nil)
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "thirdparty/location/chat", nil)
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "thirdparty/location?alias=x", nil)
	anne.refused(http.StatusBadRequest, "M_MISSING_PARAM", "GET", "thirdparty/user", nil)

	bot := s.as(a)
	room, public := bot.create(object{}), anne.create(object{"visibility": "public"})
	anne.refused(http.StatusForbidden, "M_FORBIDDEN", "PUT", "directory/list/appservice/one/"+url.PathEscape(room), object{"visibility": "public"})
	bot.refused(http.StatusNotFound, "M_NOT_FOUND", "PUT", "directory/list/appservice/one/!none", object{"visibility": "public"})
	bot.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", "directory/list/appservice/one/"+url.PathEscape(room), object{})
	bot.do("PUT", "directory/list/appservice/one/"+url.PathEscape(room), object{"visibility": "public"})
	found := func(body object) (ids []string) {
		t.Helper()
		list, _ := anne.do("POST", "publicRooms", body)["chunk"].([]any)
		for _, r := range list {
			id, _ := r.(object)["room_id"].(string)
			ids = append(ids, id)
		}
		slices.Sort(ids)
		return ids
	}
	both := []string{room, public}
	slices.Sort(both)
	for _, c := range []struct {
		body object
		want []string
	}{
		{object{}, []string{public}},
		{object{"third_party_instance_id": "irc|one"}, []string{room}},
		{object{"third_party_instance_id": "irc|two"}, nil},
		{object{"third_party_instance_id": "nobody"}, nil},
		{object{"include_all_networks": true}, both},
	} {
		if ids := found(c.body); !slices.Equal(ids, c.want) {
			t.Errorf("%v: %v", c.body, ids)
		}
	}
	anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", "publicRooms", object{"third_party_instance_id": "irc|one", "include_all_networks": true})
	bot.do("PUT", "directory/list/appservice/one/"+url.PathEscape(room), object{"visibility": "private"})
	if ids := found(object{"third_party_instance_id": "irc|one"}); len(ids) != 0 {
		t.Error(ids)
	}
}

// TestReload: registrations that are read again count, wrong ones do not.
func TestReload(t *testing.T) {
	b, late := newBridge(t, "irc"), newBridge(t, "xmpp")
	s := bridged(t, "sqlite:homeserver.db", []*bridge{b})
	room := s.as(b).create(object{"preset": "public_chat"})
	s.describe(late)
	s.edit("xmpp", "as-xmpp", "as-irc")
	if err := s.server.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "xmpp.yaml: as_token") {
		t.Error(err)
	}
	s.as(b).do("GET", "account/whoami", nil)
	s.edit("xmpp", "as-irc", "as-xmpp")
	if err := s.server.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.as(late).join(room)
	s.as(b).send(room, "1", "hello")
	if got := late.heard(1); got[0] != "hello" {
		t.Error(got)
	}
}
