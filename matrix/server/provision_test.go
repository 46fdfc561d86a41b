package server_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"orrery/matrix/server"
)

// elsewhere is another issuer, which shares the secret "between us" with a homeserver.
type elsewhere struct {
	t    *testing.T
	http *httptest.Server

	mu     sync.Mutex
	tokens map[string]object // what it says of each
}

// ServeHTTP is what a homeserver asks.
func (e *elsewhere) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	var answer any
	switch q.URL.Path {
	case "/.well-known/openid-configuration":
		answer = object{"issuer": e.http.URL + "/", "introspection_endpoint": e.http.URL + "/oauth2/introspect", "account_management_uri": e.http.URL + "/account/"}
	case "/oauth2/introspect":
		if q.Header.Get("Authorization") != "Bearer between us" || q.Header.Get("X-MAS-Supports-Device-Id") != "1" || q.FormValue("token_type_hint") != "access_token" {
			e.t.Errorf("%v", q.Header)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if answer = e.tokens[q.FormValue("token")]; len(e.tokens[q.FormValue("token")]) == 0 {
			answer = object{"active": false}
		}
	default:
		e.t.Errorf("asked for %s", q.URL)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// says sets what it says of a token; nil: that it does not count.
func (e *elsewhere) says(token string, what object) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tokens[token] = what
}

// TestProvision: another issuer that shares a secret says who has an account, how they are shown, with which devices; nobody else does. What it ends counts at once.
func TestProvision(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provisioned(t, database(t))
		})
	}
}

func provisioned(t *testing.T, database string) {
	t.Helper()
	from := &elsewhere{t: t, tokens: map[string]object{}}
	from.http = httptest.NewServer(from)
	t.Cleanup(from.http.Close)
	s := configured(t, database, "oauth:\n  issuer: \"\"", "oauth:\n  issuer: "+from.http.URL+"/", `shared_secret_file: ""`, "shared_secret_file: between")
	if err := os.WriteFile(filepath.Join(s.dir, "between"), []byte("between us\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	found := server.Check(t.Context(), s.config, slog.New(slog.DiscardHandler))
	if !slices.ContainsFunc(found, func(f server.Finding) bool { return f.Check == "oauth" && f.OK }) {
		t.Errorf("the issuer is not found: %+v", found)
	}
	s.start()
	t.Cleanup(func() { s.stop() })
	issuer, nobody, guess := &client{site: s, token: "between us"}, &client{site: s}, &client{site: s, token: "guess"}
	const path = "/_synapse/mas/"
	for _, c := range []*client{nobody, guess} {
		c.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", path+"query_user?localpart=anne", nil)
		c.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", path+"provision_user", object{"localpart": "anne"})
	}
	has := func(user string, want ...string) {
		t.Helper()
		all, err := s.server.Accounts.Devices(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, d := range all {
			ids = append(ids, d.ID)
		}
		if slices.Sort(ids); !slices.Equal(ids, want) {
			t.Errorf("%s has %q, not %q", user, ids, want)
		}
	}
	post := func(status int, what string, body object) {
		t.Helper()
		issuer.want(status, "POST", path+what, body, nil)
	}
	refuse := func(status int, code, what string, body any) {
		t.Helper()
		issuer.refused(status, code, "POST", path+what, body)
	}

	// Accounts.
	issuer.do("GET", path+"is_localpart_available?localpart=anne", nil)
	issuer.refused(http.StatusBadRequest, "M_INVALID_USERNAME", "GET", path+"is_localpart_available?localpart=Anne", nil)
	issuer.refused(http.StatusBadRequest, "M_MISSING_PARAM", "GET", path+"is_localpart_available", nil) // by which an issuer sees that its secret is right
	anne := object{"localpart": "anne", "set_displayname": "Anne", "set_avatar_url": "mxc://orrery.test/a", "set_emails": []string{"anne@example.org", "ANNE@example.org"}, "locked": false}
	post(http.StatusCreated, "provision_user", anne)
	post(http.StatusOK, "provision_user", anne)
	post(http.StatusCreated, "provision_user", object{"localpart": "bob"})
	issuer.refused(http.StatusBadRequest, "M_USER_IN_USE", "GET", path+"is_localpart_available?localpart=anne", nil)
	shown := func(user string) string { return fmt.Sprint(issuer.do("GET", path+"query_user?localpart="+user, nil)) }
	if got := shown("anne"); got != "map[avatar_url:mxc://orrery.test/a display_name:Anne is_deactivated:false is_suspended:false user_id:@anne:orrery.test]" {
		t.Error(got)
	}
	if got := shown("bob"); !strings.HasPrefix(got, "map[avatar_url:<nil> display_name:bob ") {
		t.Error(got)
	}
	issuer.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", path+"query_user?localpart=eve", nil)
	for what, bodies := range map[string][]any{
		"provision_user": {
			object{"localpart": 1}, object{"localpart": "anne", "set_emails": "x"}, object{"localpart": "anne", "set_displayname": "x", "unset_displayname": true}, "[]", "{", "",
		},
		"delete_user": {object{"localpart": "anne", "erase": "yes"}}, "upsert_device": {object{"localpart": "anne", "device_id": ""}, object{"localpart": "anne", "device_id": strings.Repeat("x", 256)}},
		"sync_devices": {object{"localpart": "anne", "devices": "x"}, object{"localpart": "anne", "devices": []string{""}}},
	} {
		for _, bad := range bodies {
			refuse(http.StatusBadRequest, "M_BAD_JSON", what, bad)
		}
	}
	refuse(http.StatusBadRequest, "M_INVALID_USERNAME", "provision_user", object{"localpart": "Ünne"})
	refuse(http.StatusBadRequest, "M_INVALID_PARAM", "provision_user", object{"localpart": "anne", "set_emails": []string{"nobody"}})
	for what, body := range map[string]object{
		"provision_user": {}, "delete_user": {"localpart": "anne"}, "set_displayname": {"localpart": "anne"}, "upsert_device": {"localpart": "anne"}, "sync_devices": {"localpart": "anne"},
		"update_device_display_name": {"localpart": "anne", "device_id": "A"},
	} {
		refuse(http.StatusBadRequest, "M_MISSING_PARAM", what, body)
	}
	for _, what := range []string{"delete_user", "reactivate_user", "set_displayname", "unset_displayname", "allow_cross_signing_reset", "upsert_device", "update_device_display_name", "delete_device", "sync_devices"} {
		refuse(http.StatusNotFound, "M_NOT_FOUND", what, object{"localpart": "eve", "erase": false, "displayname": "x", "device_id": "A", "display_name": "x", "devices": []string{}})
	}
	refuse(http.StatusNotFound, "M_UNRECOGNIZED", "query_user", object{"localpart": "anne"})
	refuse(http.StatusNotFound, "M_UNRECOGNIZED", "other", object{"localpart": "anne"})

	// Devices, also with ids that no scope can have.
	const phone = "anne's phone"
	post(http.StatusCreated, "upsert_device", object{"localpart": "anne", "device_id": phone})
	post(http.StatusOK, "upsert_device", object{"localpart": "anne", "device_id": phone, "display_name": "Phone"})
	from.says("one", object{"active": true, "username": "anne", "scope": "urn:matrix:client:api:* urn:synapse:admin:*", "client_id": "legacy", "device_id": phone})
	from.says("two", object{"active": true, "username": "anne", "scope": "urn:matrix:client:api:* urn:matrix:client:device:TABLET urn:matrix:org.matrix.msc2967.client:device:TABLET", "client_id": "app"})
	from.says("three", object{"active": true, "username": "anne", "scope": "openid", "device_id": phone})
	c, tablet := &client{site: s, user: "@anne:orrery.test", token: "one"}, &client{site: s, user: "@anne:orrery.test", token: "two"}
	if got := c.do("GET", "account/whoami", nil); got["user_id"] != c.user || got["device_id"] != phone {
		t.Error(got)
	}
	if got := tablet.do("GET", "account/whoami", nil); got["device_id"] != "TABLET" {
		t.Error(got)
	}
	(&client{site: s, token: "three"}).refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	(&client{site: s, token: "one"}).refused(http.StatusForbidden, "M_FORBIDDEN", "POST", path+"delete_user", object{"localpart": "bob", "erase": true})
	post(http.StatusOK, "update_device_display_name", object{"localpart": "anne", "device_id": phone, "display_name": "Old phone"})
	if got := c.do("GET", "devices/"+strings.ReplaceAll(phone, " ", "%20"), nil)["display_name"]; got != "Old phone" {
		t.Error(got)
	}
	has(c.user, "TABLET", phone)

	// How a user is shown.
	room := c.create(object{})
	post(http.StatusOK, "set_displayname", object{"localpart": "anne", "displayname": "Annie"})
	member := func() object { return c.do("GET", "rooms/"+room+"/state/m.room.member/"+c.user, nil) }
	if got := member(); got["displayname"] != "Annie" || got["avatar_url"] != "mxc://orrery.test/a" {
		t.Error(got)
	}
	post(http.StatusOK, "unset_displayname", object{"localpart": "anne"})
	post(http.StatusOK, "provision_user", object{"localpart": "anne", "unset_avatar_url": true})
	if got := member(); got["displayname"] != nil || got["avatar_url"] != nil {
		t.Error(got)
	}
	mails := func(user, want string) {
		t.Helper()
		all, err := s.server.Accounts.Contacts(t.Context(), user)
		var got []string
		for _, a := range all {
			got = append(got, a.Address)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s has %q, not %q: %v", user, got, want, err)
		}
	}
	mails(c.user, "anne@example.org")
	post(http.StatusOK, "provision_user", object{"localpart": "bob", "set_emails": []string{"bob@example.org", "anne@example.org"}}) // the issuer knows whose they are
	mails(c.user, "")
	mails("@bob:orrery.test", "anne@example.org bob@example.org")
	post(http.StatusOK, "provision_user", object{"localpart": "bob", "unset_emails": true})
	mails("@bob:orrery.test", "")

	// The identity of keys, once for each time that the issuer allows it (MSC4312).
	const upload = "keys/device_signing/upload"
	post(http.StatusOK, "allow_cross_signing_reset", object{"localpart": "anne"}) // who has none needs no leave, and keeps none
	c.do("POST", upload, master(c.user, 0))
	var step begun
	c.want(http.StatusUnauthorized, "POST", upload, master(c.user, 1), &step)
	if url := step.Params["m.oauth"]["url"]; url != from.http.URL+"/account/?action=org.matrix.cross_signing_reset" {
		t.Error(url)
	}
	post(http.StatusOK, "allow_cross_signing_reset", object{"localpart": "anne"})
	second := master(c.user, 1)
	second["auth"] = object{"session": step.Session}
	c.do("POST", upload, second)
	c.want(http.StatusUnauthorized, "POST", upload, master(c.user, 2), nil)

	// What ends, ends at once: the server knew these tokens.
	post(http.StatusOK, "provision_user", object{"localpart": "anne", "locked": true})
	c.refused(http.StatusUnauthorized, "M_USER_LOCKED", "GET", "account/whoami", nil)
	post(http.StatusOK, "provision_user", object{"localpart": "anne", "locked": false})
	c.do("GET", "account/whoami", nil)
	from.says("two", nil)
	post(http.StatusNoContent, "delete_device", object{"localpart": "anne", "device_id": "TABLET"})
	post(http.StatusNoContent, "delete_device", object{"localpart": "anne", "device_id": "TABLET"})
	tablet.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	has(c.user, phone)
	post(http.StatusOK, "sync_devices", object{"localpart": "anne", "devices": []string{"B", "A", "B"}})
	has(c.user, "A", "B")
	post(http.StatusOK, "delete_user", object{"localpart": "anne", "erase": false})
	post(http.StatusOK, "delete_user", object{"localpart": "anne", "erase": true}) // as an issuer that got no answer asks
	if got := shown("anne"); !strings.Contains(got, "is_deactivated:true") {
		t.Error(got)
	}
	c.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	post(http.StatusOK, "reactivate_user", object{"localpart": "anne"})
	post(http.StatusOK, "reactivate_user", object{"localpart": "anne"})
	post(http.StatusOK, "provision_user", object{"localpart": "anne", "set_displayname": "Anne again"})
	c.do("GET", "account/whoami", nil)
	if got := shown("anne"); !strings.Contains(got, "display_name:Anne again is_deactivated:false") {
		t.Error(got)
	}
}

// master is a key of cross-signing.
func master(user string, seed byte) object {
	public := strings.Repeat(string('A'+seed), 43)
	return object{"master_key": object{"user_id": user, "usage": []string{"master"}, "keys": object{"ed25519:" + public: public}}}
}

// TestProvisionOff: without a shared secret nothing of it is there.
func TestProvisionOff(t *testing.T) {
	s := newSite(t, "memory")
	for _, token := range []string{"", "between us"} {
		(&client{site: s, token: token}).refused(http.StatusNotFound, "M_UNRECOGNIZED", "GET", "/_synapse/mas/query_user?localpart=anne", nil)
	}
}
