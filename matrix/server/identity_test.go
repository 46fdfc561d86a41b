package server_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"orrery/matrix/canonical"
	"orrery/matrix/contact"
	"orrery/matrix/signature"
)

// identityServer is a small identity server: what it knows, and what it was asked.
type identityServer struct {
	t    *testing.T
	http *httptest.Server
	key  signature.Key
	home ed25519.PublicKey // of the homeserver that may unbind

	mu      sync.Mutex
	bound   map[string]string // users by their addresses
	stored  []map[string]string
	revoked bool
	broken  bool // it answers nothing that can be read
}

func newIdentityServer(t *testing.T) *identityServer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &identityServer{t: t, key: signature.Key{ID: "ed25519:0", Private: private}, bound: map[string]string{}}
	mux := http.NewServeMux()
	for route, h := range map[string]func(r *http.Request, in object) (int, any){
		"GET /_matrix/identity/v2/hash_details": func(*http.Request, object) (int, any) {
			return http.StatusOK, object{"lookup_pepper": "pepper", "algorithms": []string{"none", "sha256"}}
		},
		"POST /_matrix/identity/v2/lookup":       i.lookup,
		"POST /_matrix/identity/v2/store-invite": i.store,
		"POST /_matrix/identity/v2/3pid/bind":    i.bind,
		"POST /_matrix/identity/v2/3pid/unbind":  i.unbind,
		"GET /_matrix/identity/v2/pubkey/isvalid": func(r *http.Request, _ object) (int, any) {
			return http.StatusOK, object{"valid": !i.revoked && r.URL.Query().Get("public_key") == i.public()}
		},
	} {
		mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			i.mu.Lock()
			defer i.mu.Unlock()
			text, _ := io.ReadAll(r.Body)
			var in object
			_ = json.Unmarshal(text, &in)
			if i.broken {
				_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
				return
			}
			status, out := h(r, in)
			if open := strings.Contains(route, "isvalid") || strings.Contains(route, "unbind"); !open && r.Header.Get("Authorization") != "Bearer for-id" {
				status, out = http.StatusUnauthorized, object{"errcode": "M_UNAUTHORIZED", "error": "who are you"}
			}
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(out)
		})
	}
	i.http = httptest.NewServer(mux)
	t.Cleanup(i.http.Close)
	return i
}

func (i *identityServer) public() string {
	public, _ := i.key.Private.Public().(ed25519.PublicKey)
	return signature.Encode(public)
}

func (i *identityServer) lookup(_ *http.Request, in object) (int, any) {
	found := object{}
	for address, user := range i.bound {
		medium := contact.Email
		if !strings.Contains(address, "@") {
			medium = contact.MSISDN
		}
		asked := contact.Address{Medium: medium, Text: address}.Hashed("pepper")
		if in["algorithm"] == "sha256" && in["pepper"] == "pepper" && fmt.Sprint(in["addresses"]) == "["+asked+"]" {
			found[asked] = user
		}
	}
	return http.StatusOK, object{"mappings": found}
}

func (i *identityServer) store(_ *http.Request, in object) (int, any) {
	one := map[string]string{}
	for name, v := range in {
		one[name] = fmt.Sprint(v)
	}
	i.stored = append(i.stored, one)
	return http.StatusOK, object{
		"token": fmt.Sprint("token", len(i.stored)), "display_name": "b...@e...",
		"public_keys": []object{{"public_key": i.public(), "key_validity_url": i.http.URL + "/_matrix/identity/v2/pubkey/isvalid"}},
	}
}

func (i *identityServer) bind(_ *http.Request, in object) (int, any) {
	if in["sid"] == "of a number" {
		i.bound["447700900001"], _ = in["mxid"].(string)
		return http.StatusOK, object{"medium": "msisdn", "address": "447700900001", "mxid": in["mxid"], "not_before": 1, "not_after": 2, "ts": 1, "signatures": object{}}
	}
	if in["sid"] != "1" || in["client_secret"] != "s" {
		return http.StatusBadRequest, object{"errcode": "M_SESSION_NOT_VALIDATED", "error": "follow the link"}
	}
	user, _ := in["mxid"].(string)
	i.bound["anne@example.org"] = user
	return http.StatusOK, object{"medium": "email", "address": "anne@example.org", "mxid": user, "not_before": 1, "not_after": 2, "ts": 1, "signatures": object{}}
}

// unbind takes what the homeserver signed.
func (i *identityServer) unbind(r *http.Request, in object) (int, any) {
	said := map[string]string{}
	for part := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "X-Matrix "), ",") {
		name, value, _ := strings.Cut(part, "=")
		said[name] = strings.Trim(value, `"`)
	}
	text, _ := json.Marshal(object{
		"method": "POST", "uri": r.URL.RequestURI(), "origin": said["origin"], "destination_is": "id.test", "content": in,
		"signatures": object{said["origin"]: object{said["key"]: said["sig"]}},
	})
	v, err := canonical.Parse(text, canonical.Strict)
	if err == nil {
		err = signature.Check(v, "orrery.test", func(string, string) (ed25519.PublicKey, bool) { return i.home, true })
	}
	if err != nil {
		return http.StatusForbidden, object{"errcode": "M_FORBIDDEN", "error": err.Error()}
	}
	of, _ := in["threepid"].(object)
	address, _ := of["address"].(string)
	if i.bound[address] != in["mxid"] {
		return http.StatusNotFound, object{"errcode": "M_NOT_FOUND", "error": "it is not bound"}
	}
	delete(i.bound, address)
	return http.StatusOK, object{}
}

// sign is the identity server's word that an address is a user's who was invited.
func (i *identityServer) sign(user, sender, token string) object {
	text, _ := json.Marshal(object{"mxid": user, "sender": sender, "token": token})
	v, err := canonical.Parse(text, canonical.Strict)
	if err != nil {
		i.t.Fatal(err)
	}
	var out object
	if err := json.Unmarshal(signature.Sign(v, "id.test", i.key).JSON(), &out); err != nil {
		i.t.Fatal(err)
	}
	return out
}

// withIdentity makes a homeserver on a database that asks an identity server.
func withIdentity(t *testing.T, database string) (*site, *identityServer) {
	t.Helper()
	i := newIdentityServer(t)
	s := newSite(t, database, "identity_servers: []", "identity_servers: [{name: id.test, url: "+`"`+i.http.URL+`"`+"}]", "reachable_networks: []", "reachable_networks: [127.0.0.0/8]")
	text, err := os.ReadFile(filepath.Join(s.dir, "signing.key"))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := signature.Decode(strings.Fields(string(text))[2])
	if err != nil {
		t.Fatal(err)
	}
	i.home, _ = ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	return s, i
}

// TestBind: an identity server is told of an address, and told to forget it by what this server signs, also when the account ends.
func TestBind(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, i := withIdentity(t, database(t))
			anne, bob := s.register("anne"), s.register("bob")
			bind := object{"sid": "1", "client_secret": "s", "id_server": "id.test", "id_access_token": "for-id"}
			with := func(name string, v any) object {
				out := object{name: v}
				for n, old := range bind {
					if n != name {
						out[n] = old
					}
				}
				return out
			}
			anne.refused(http.StatusBadRequest, "M_SESSION_NOT_VALIDATED", "POST", "account/3pid/bind", with("sid", "2"))
			anne.refused(http.StatusUnauthorized, "M_UNAUTHORIZED", "POST", "account/3pid/bind", with("id_access_token", "other"))
			anne.refused(http.StatusBadRequest, "M_SERVER_NOT_TRUSTED", "POST", "account/3pid/bind", with("id_server", "elsewhere.test"))
			anne.refused(http.StatusBadRequest, "M_MISSING_PARAM", "POST", "account/3pid/bind", with("id_server", ""))
			anne.refused(http.StatusForbidden, "M_THREEPID_AUTH_FAILED", "POST", "account/3pid", object{"three_pid_creds": with("sid", "2")})
			unbind := object{"medium": "email", "address": "Anne@example.org"}
			result := func(c *client, body object) any {
				return c.do("POST", "account/3pid/unbind", body)["id_server_unbind_result"]
			}
			if got := result(anne, unbind); got != "no-support" {
				t.Error(got)
			}
			anne.do("POST", "account/3pid/bind", bind)
			if got := anne.contacts(); got != "[]" {
				t.Error("what is bound is in the account", got)
			}
			bob.refused(http.StatusNotFound, "M_NOT_FOUND", "POST", "account/3pid/unbind", object{"medium": "email", "address": "anne@example.org", "id_server": "id.test"})
			if got := result(anne, unbind); got != "success" || len(i.bound) > 0 {
				t.Error(got, i.bound)
			}
			anne.do("POST", "account/3pid", object{"three_pid_creds": bind})
			i.broken = true
			anne.refused(http.StatusBadGateway, "M_UNKNOWN", "POST", "account/3pid/bind", bind)
			if got := result(anne, unbind); got != "no-support" {
				t.Error(got)
			}
			i.broken = false
			if out := anne.do("POST", "account/deactivate", object{"auth": anne.passwordAuth()}); out["id_server_unbind_result"] != "success" || len(i.bound) > 0 {
				t.Error(out, i.bound)
			}
			if out := bob.do("POST", "account/deactivate", object{"auth": bob.passwordAuth()}); out["id_server_unbind_result"] != "success" {
				t.Error(out)
			}
		})
	}
}

// TestInviteByAddress: whom the identity server knows is invited; whom it does not know is once they show its signature, which must be theirs and count.
func TestInviteByAddress(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, i := withIdentity(t, database(t))
			anne, bob, carl := s.register("anne"), s.register("bob"), s.register("carl")
			room := anne.create(object{"name": "Lounge", "preset": "private_chat"})
			invite := func(address string) object {
				return object{"id_server": "id.test", "id_access_token": "for-id", "medium": "email", "address": address}
			}
			path := "rooms/" + url.PathEscape(room) + "/invite"
			bob.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", path, invite("carl@example.org"))
			anne.refused(http.StatusBadRequest, "M_SERVER_NOT_TRUSTED", "POST", path, object{"id_server": "elsewhere.test", "id_access_token": "x", "medium": "email", "address": "a@example.org"})
			anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", path, invite("carl"))
			if len(i.stored) > 0 {
				t.Fatal("an invitation was stored")
			}
			i.bound["carl@example.org"] = carl.user
			anne.do("POST", path, invite("Carl@example.org"))
			carl.join(room)
			anne.do("POST", path, invite("bob@example.org"))
			want := map[string]string{
				"medium": "email", "address": "bob@example.org", "room_id": room, "sender": anne.user, "room_name": "Lounge", "room_join_rules": "invite", "sender_display_name": "anne",
			}
			if len(i.stored) != 1 || fmt.Sprint(i.stored[0]) != fmt.Sprint(want) {
				t.Errorf("%v, not %v", i.stored, want)
			}
			if out := anne.do("GET", "rooms/"+url.PathEscape(room)+"/state/m.room.third_party_invite/token1", nil); out["display_name"] != "b...@e..." || out["public_key"] != i.public() {
				t.Error(out)
			}
			join := "rooms/" + url.PathEscape(room) + "/join"
			forged := i.sign(bob.user, anne.user, "token1")
			forged["signatures"] = object{"id.test": object{"ed25519:0": strings.Repeat("A", 86)}}
			for what, signed := range map[string]object{
				"another's": i.sign(carl.user, anne.user, "token1"), "another sender's": i.sign(bob.user, carl.user, "token1"), "of no token": i.sign(bob.user, anne.user, "token2"), "forged": forged, "empty": {},
			} {
				status, text := bob.request(t.Context(), "POST", join, object{"third_party_signed": signed})
				if status != http.StatusForbidden {
					t.Errorf("%s: %d %s", what, status, text)
				}
			}
			signed := object{"third_party_signed": i.sign(bob.user, anne.user, "token1")}
			i.revoked = true
			bob.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", join, signed)
			i.revoked = false
			bob.do("POST", join, signed)
			bob.send(room, "1", "here I am")
			bob.do("POST", "rooms/"+url.PathEscape(room)+"/leave", object{})
			// What the identity server knows is asked before a room is made, and all who are invited are.
			i.bound["bob@example.org"] = bob.user
			other := anne.create(object{"invite_3pid": []object{invite("bob@example.org"), invite("dora@example.org")}})
			if got := bob.sync("", "").Rooms.Invite; len(got) != 1 || len(i.stored) != 2 || i.stored[1]["room_id"] != other {
				t.Error(got, i.stored)
			}
			before := fmt.Sprint(anne.do("GET", "joined_rooms", nil))
			i.broken = true
			anne.refused(http.StatusBadGateway, "M_UNKNOWN", "POST", "createRoom", object{"invite_3pid": []object{invite("bob@example.org")}})
			if after := fmt.Sprint(anne.do("GET", "joined_rooms", nil)); after != before {
				t.Error("a room was made", after)
			}
		})
	}
}

// TestIdentityNumbers: identity servers are asked for numbers as for addresses of mail, in the one form that they have.
func TestIdentityNumbers(t *testing.T) {
	s, i := withIdentity(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	invite := func(number string) object {
		return object{"id_server": "id.test", "id_access_token": "for-id", "medium": "msisdn", "address": number}
	}
	room := anne.create(object{"name": "Lounge"})
	path := "rooms/" + url.PathEscape(room) + "/invite"
	anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", path, invite("07700 900001")) // of which country?
	i.bound["447700900002"] = bob.user
	anne.do("POST", path, invite("+44 (0)7700 900-002"))
	bob.join(room)
	anne.do("POST", path, invite("447700900003"))
	if len(i.stored) != 1 || i.stored[0]["medium"] != "msisdn" || i.stored[0]["address"] != "447700900003" {
		t.Error(i.stored)
	}
	bind := object{"sid": "of a number", "client_secret": "s", "id_server": "id.test", "id_access_token": "for-id"}
	anne.do("POST", "account/3pid/bind", bind)
	if out := anne.do("POST", "account/3pid/unbind", object{"medium": "msisdn", "address": "+44 7700 900001"}); out["id_server_unbind_result"] != "success" || i.bound["447700900001"] != "" {
		t.Error(out, i.bound)
	}
	anne.do("POST", "account/3pid/bind", bind)
	if err := s.server.Accounts.SetContact(t.Context(), anne.user, contact.Address{Medium: contact.MSISDN, Text: "447700900001"}); err != nil {
		t.Fatal(err)
	}
	if out := anne.do("POST", "account/deactivate", object{"auth": anne.passwordAuth()}); out["id_server_unbind_result"] != "success" || i.bound["447700900001"] != "" {
		t.Error(out, i.bound)
	}
	if err := s.server.Accounts.SetContact(t.Context(), bob.user, contact.Address{Medium: contact.MSISDN, Text: "447700900001"}); err != nil {
		t.Error("the number of an account that ended is not free", err)
	}
}

// TestIdentityIsOutside: a user cannot have the server ask what only the server reaches.
func TestIdentityIsOutside(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	for _, server := range []string{"127.0.0.1:1", "localhost:1", "[::1]:1", "10.0.0.1"} {
		anne.refused(http.StatusBadGateway, "M_UNKNOWN", "POST", "account/3pid/bind", object{"sid": "1", "client_secret": "s", "id_server": server, "id_access_token": "x"})
	}
	for _, server := range []string{"a/b", "user@127.0.0.1", "http://127.0.0.1"} {
		anne.refused(http.StatusBadRequest, "M_SERVER_NOT_TRUSTED", "POST", "account/3pid/bind", object{"sid": "1", "client_secret": "s", "id_server": server, "id_access_token": "x"})
	}
}
