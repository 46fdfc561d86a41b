package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// What Element X asks of rooms in its list; of those that are open, the pinned messages, too.
const (
	wantedState = `["m.room.name",""],["m.room.encryption",""],["m.room.member","$LAZY"],["m.room.member","$ME"],["m.room.topic",""],["m.room.avatar",""],["m.room.canonical_alias",""],
["m.room.power_levels",""],["org.matrix.msc3401.call.member","*"],["m.room.join_rules",""],["m.room.tombstone",""],["m.room.create",""],["m.room.history_visibility",""],
["io.element.functional_members",""],["m.space.parent","*"],["m.space.child","*"],["org.matrix.msc3672.beacon_info","*"]`
	roomListBody = `{"conn_id":"room-list","lists":{"all_rooms":{"ranges":[[0,%d]],"required_state":[` + wantedState + `],"timeline_limit":1,"filters":{}}},%s
"extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true,"rooms":["*"]},"typing":{"enabled":true},"org.matrix.msc4262.profiles":{"enabled":true}}}`
	openedBody     = `"room_subscriptions":{%q:{"required_state":[` + wantedState + `,["m.room.pinned_events",""]],"timeline_limit":20}},`
	encryptionBody = `{"conn_id":"encryption","extensions":{"to_device":{"enabled":true%s},"e2ee":{"enabled":true}}}`
)

// slides asks in sliding sync, as the app does. What there is must come at once, although it would wait for longer than the test does.
func (p *phone) slides(pos, body string) (out slid) {
	p.t.Helper()
	path := deployedPath + "?timeout=600000"
	if pos != "" {
		path += "&pos=" + url.QueryEscape(pos)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	p.readsInto(ctx, http.StatusOK, "POST", path, body, slidingShape, &out)
	return out
}

// step is a request of the app, and what its library must have of the answer.
type step struct {
	status       int
	method, path string
	body         string
	needs        shape
}

func (p *phone) walks(steps []step) {
	p.t.Helper()
	for _, s := range steps {
		var body any
		if s.body != "" {
			body = s.body
		}
		p.reads(s.status, s.method, s.path, body, s.needs)
	}
}

// keysOf are the keys of a device, which are not checked by the server: a signature is its members' business.
func keysOf(user, device string) string {
	signed := fmt.Sprintf(`"signatures":{%q:{"ed25519:%s":"c2ln"}}`, user, device)
	return fmt.Sprintf(`{"device_keys":{"user_id":%[1]q,"device_id":%[2]q,"algorithms":["m.olm.v1.curve25519-aes-sha2","m.megolm.v1.aes-sha2"],
"keys":{"curve25519:%[2]s":"Y3VydmU","ed25519:%[2]s":"ZWQ"},%[3]s},
"one_time_keys":{"signed_curve25519:AAAAAAAAAA0":{"key":"b25l",%[3]s},"signed_curve25519:AAAAAAAAAA4":{"key":"dHdv",%[3]s}},
"fallback_keys":{"signed_curve25519:AAAAAAAAAAE":{"fallback":true,"key":"ZmFsbA",%[3]s}}}`, user, device, signed)
}

// TestElementXWrites: what Element X asks from its first sync to a message that is seen, and for its settings, with what the app writes; each answer has what its library
// cannot do without.
func TestElementXWrites(t *testing.T) {
	s := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	s.register("anne")
	bob := s.register("bob")
	bob.do("POST", "keys/upload", keysOf(bob.user, bob.device))
	p := s.enters("ABCDEFGHIJ")

	// The first requests of a new device: nothing is there yet.
	crypt := p.slides("", fmt.Sprintf(encryptionBody, ""))
	if crypt.Extensions.ToDevice == nil || crypt.Extensions.Encryption == nil {
		t.Fatalf("%+v", crypt)
	}
	list := p.slides("", fmt.Sprintf(roomListBody, 19, ""))
	if len(list.Rooms) != 0 || list.Lists["all_rooms"].Count != 0 {
		t.Errorf("%+v", list)
	}
	notThere := shape{"errcode": "string", "error": "string"}
	p.walks([]step{
		{http.StatusOK, "POST", "keys/upload", keysOf(p.user, p.device), shape{"one_time_key_counts": "object", "one_time_key_counts *": "uint"}},
		{http.StatusOK, "POST", "keys/query", fmt.Sprintf(`{"timeout":10000,"device_keys":{%q:[],%q:[]}}`, p.user, bob.user), queryShape},
		{http.StatusNotFound, "GET", "room_keys/version", "", notThere},
		{http.StatusNotFound, "GET", "user/@anne:orrery.test/account_data/m.secret_storage.default_key", "", notThere},
		{http.StatusNotFound, "GET", "user/@anne:orrery.test/account_data/m.org.matrix.custom.backup_disabled", "", notThere},
		{http.StatusNotFound, "GET", "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports", "", notThere},
		{http.StatusOK, "GET", "capabilities", "", capabilityShape},
		{http.StatusOK, "GET", "pushrules/", "", rulesShape},
		{http.StatusOK, "GET", "profile/@anne:orrery.test", "", shape{"displayname": "~string", "avatar_url": "~mxc"}},
		{http.StatusOK, "GET", "devices", "", shape{"devices": "list", "devices * device_id": "string"}},
		{http.StatusOK, "GET", "devices/" + p.device, "", deviceShape},
		{http.StatusNotFound, "GET", "devices/NOBODY", "", notThere},
		{http.StatusOK, "GET", "/_matrix/client/v1/media/config", "", shape{"m.upload.size": "uint"}},
	})

	// Recovery is set up: cross-signing, a backup of keys, secrets.
	master := fmt.Sprintf(`{"user_id":%q,"usage":["master"],"keys":{"ed25519:%s":%q}}`, p.user, strings.Repeat("M", 43), strings.Repeat("M", 43))
	p.walks([]step{
		{http.StatusOK, "POST", "keys/device_signing/upload", `{"auth":null,"master_key":` + master + `}`, nil},
		{http.StatusOK, "POST", "keys/signatures/upload", fmt.Sprintf(`{%q:{}}`, p.user), shape{"failures": "~object"}},
		{http.StatusOK, "POST", "room_keys/version", `{"algorithm":"m.megolm_backup.v1.curve25519-aes-sha2","auth_data":{"public_key":"YWJj","signatures":{}}}`, shape{"version": "string"}},
		{http.StatusOK, "GET", "room_keys/version", "", backupShape},
		{http.StatusOK, "PUT", "room_keys/keys?version=1", `{"rooms":{"!a:orrery.test":{"sessions":{"s":{"first_message_index":0,"forwarded_count":0,"is_verified":false,
"session_data":{"ephemeral":"YQ","ciphertext":"Yg","mac":"Yw"}}}}}}`, shape{"etag": "string", "count": "uint"}},
		{http.StatusOK, "GET", "room_keys/keys/!a:orrery.test/s?version=1", "", shape{"first_message_index": "uint", "forwarded_count": "uint", "is_verified": "bool", "session_data": "object"}},
		{http.StatusOK, "PUT", "user/@anne:orrery.test/account_data/m.secret_storage.key.abc", `{"algorithm":"m.secret_storage.v1.aes-hmac-sha2","iv":"YQ","mac":"Yg"}`, nil},
		{http.StatusOK, "PUT", "user/@anne:orrery.test/account_data/m.secret_storage.default_key", `{"key":"abc"}`, nil},
		{http.StatusOK, "GET", "user/@anne:orrery.test/account_data/m.secret_storage.default_key", "", shape{"key": "string"}},
	})

	// A room, as the app makes it.
	id, _ := p.reads(http.StatusOK, "POST", "createRoom", `{"creation_content":null,"initial_state":[{"type":"m.room.encryption","state_key":"","content":{"algorithm":"m.megolm.v1.aes-sha2"}}],
"invite":["@bob:orrery.test"],"is_direct":false,"name":"Garden","topic":"Plants","preset":"private_chat","visibility":"private",
"power_level_content_override":{"invite":50,"events":{"m.call.member":0,"org.matrix.msc3401.call.member":0}}}`, shape{"room_id": "room"})["room_id"].(string)
	room := "rooms/" + url.PathEscape(id)
	bob.join(id)
	bob.do("PUT", "profile/"+bob.user+"/displayname", object{"displayname": "Bob"})
	bob.do("PUT", room+"/typing/"+bob.user, object{"typing": true, "timeout": 600000})
	event, _ := bob.do("PUT", room+"/send/m.room.encrypted/1", object{"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "sender_key": "k", "device_id": bob.device, "session_id": "s"})["event_id"].(string)
	list = p.slides(list.Pos, fmt.Sprintf(roomListBody, 19, ""))
	if r := list.Rooms[id]; r == nil || !r.Initial || string(r.Name) != `"Garden"` || len(r.Timeline) != 1 || r.Timeline[0].ID != event || list.Extensions.Typing.Rooms[id].Content == nil {
		t.Fatalf("%+v", list)
	}
	list = p.slides(list.Pos, fmt.Sprintf(roomListBody, 119, fmt.Sprintf(openedBody, id)))
	if r := list.Rooms[id]; r == nil || len(r.Timeline) < 8 {
		t.Errorf("%+v", r)
	}
	picture := p.upload("image/png", "a.png", picture(t, 8, 8, false))
	p.walks([]step{
		{http.StatusOK, "GET", room + "/members", "", shape{"chunk": "list", "chunk * event_id": "event", "chunk * sender": "user", "chunk * state_key": "user", "chunk * content membership": "string"}},
		{http.StatusOK, "POST", "keys/claim", fmt.Sprintf(`{"timeout":10000,"one_time_keys":{%q:{%q:"signed_curve25519"}}}`, bob.user, bob.device), shape{"failures": "~object", "one_time_keys": "object", "one_time_keys * * * key": "string"}},
		{http.StatusOK, "PUT", "sendToDevice/m.room.encrypted/t1", fmt.Sprintf(`{"messages":{%q:{%q:{"algorithm":"m.olm.v1.curve25519-aes-sha2","ciphertext":{},"sender_key":"k"}}}}`, bob.user, bob.device), nil},
		{http.StatusOK, "PUT", room + "/send/m.room.encrypted/t2", `{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"x","sender_key":"k","device_id":"ABCDEFGHIJ","session_id":"s"}`, shape{"event_id": "event"}},
		{http.StatusOK, "PUT", room + "/typing/@anne:orrery.test", `{"typing":true,"timeout":4000}`, nil},
		{http.StatusOK, "POST", room + "/receipt/m.read.private/" + event, `{"thread_id":"main"}`, nil},
		{http.StatusOK, "POST", room + "/read_markers", fmt.Sprintf(`{"m.fully_read":%q,"m.read":%q}`, event, event), nil},
		{http.StatusOK, "GET", room + "/messages?from=" + url.QueryEscape(list.Rooms[id].Prev) + "&dir=b&limit=20", "", eventsShape},
		{http.StatusOK, "GET", room + "/context/" + event + "?limit=50", "", contextShape},
		{http.StatusOK, "GET", room + "/event/" + event, "", shape{"event_id": "event", "sender": "user", "type": "string", "content": "object", "origin_server_ts": "uint", "room_id": "room"}},
		{http.StatusOK, "GET", "/_matrix/client/v1/" + room + "/relations/" + event + "?recurse=true", "", chunkShape},
		{http.StatusOK, "GET", "/_matrix/client/v1/" + room + "/threads?include=all", "", chunkShape},
		{http.StatusOK, "GET", "/_matrix/client/v1/room_summary/" + url.PathEscape(id), "", summaryShape},
		{http.StatusOK, "GET", "/_matrix/client/v1/" + room + "/hierarchy?limit=20", "", shape{"rooms": "list", "rooms * children_state": "list", "rooms * num_joined_members": "uint", "rooms * world_readable": "bool", "rooms * guest_can_join": "bool", "next_batch": "?string"}},
		{http.StatusOK, "POST", "publicRooms", `{"filter":{"generic_search_term":"gar"},"limit":20}`, publicShape},
		{http.StatusOK, "POST", "user_directory/search", `{"search_term":"bob","limit":10}`, shape{"results": "list", "results * user_id": "user", "results * display_name": "?string", "results * avatar_url": "?mxc", "limited": "bool"}},
		{http.StatusOK, "POST", "user/@anne:orrery.test/openid/request_token", `{}`, shape{"access_token": "string", "token_type": "string", "matrix_server_name": "string", "expires_in": "uint"}},
		{http.StatusOK, "POST", "pushers/set", `{"app_display_name":"Element X","app_id":"io.element.android.x","append":false,"data":{"default_payload":{"cs":"a"},"format":"event_id_only","url":"https://matrix.org/_matrix/push/v1/notify"},
"device_display_name":"Pixel","kind":"http","lang":"en","pushkey":"k","profile_tag":"tag"}`, nil},
		{http.StatusOK, "PUT", "pushrules/global/override/.m.rule.master/enabled", `{"enabled":false}`, nil},
		{http.StatusOK, "PUT", "profile/@anne:orrery.test/displayname", `{"displayname":"Anne"}`, nil},
		{http.StatusOK, "DELETE", "profile/@anne:orrery.test/displayname", "", nil},
		{http.StatusOK, "POST", room + "/report", `{"reason":"it is only tried"}`, nil},
		{http.StatusOK, "POST", "users/@bob:orrery.test/report", `{"reason":"it is only tried"}`, nil},
	})
	for _, path := range []string{"download/" + picture, "thumbnail/" + picture + "?width=32&height=32&method=scale&animated=false"} {
		if status, _, _ := p.raw("GET", "/_matrix/client/v1/media/"+path, "", nil); status != http.StatusOK {
			t.Error(path, status)
		}
	}
	bob.do("PUT", "sendToDevice/m.room.encrypted/b", object{"messages": object{p.user: object{p.device: object{"algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": object{}, "sender_key": "k"}}}})
	crypt = p.slides(crypt.Pos, fmt.Sprintf(encryptionBody, fmt.Sprintf(`,"since":%q`, crypt.Extensions.ToDevice.Next)))
	if len(crypt.Extensions.ToDevice.Events) != 1 || crypt.Extensions.Encryption.Counts["signed_curve25519"] != 2 || !strings.Contains(fmt.Sprint(crypt.Extensions.Encryption.Lists.Changed), bob.user) {
		t.Errorf("%+v", crypt.Extensions)
	}
	list = p.slides(list.Pos, fmt.Sprintf(roomListBody, 119, fmt.Sprintf(openedBody, id)))
	if list.Extensions.Receipts.Rooms[id].Content == nil || list.Extensions.AccountData == nil {
		t.Errorf("%+v", list.Extensions)
	}
	if out := p.reads(http.StatusBadRequest, "POST", deployedPath+"?pos=nowhere", fmt.Sprintf(roomListBody, 19, ""), notThere); out["errcode"] != "M_UNKNOWN_POS" {
		t.Error(out)
	}
}
