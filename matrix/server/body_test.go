package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"orrery/matrix/server"
)

// bodied are the requests that have a body of JSON, with a room and a user in their paths.
func bodied(s *server.Server, room, user string) (all [][2]string) {
	var routes []string
	if r, ok := s.Handler().(interface{ Routes() []string }); ok {
		routes = r.Routes()
	}
	for _, route := range routes {
		method, path, _ := strings.Cut(route, " ")
		if method == http.MethodGet || strings.HasPrefix(path, "/_matrix/media/") || strings.Contains(path, "/logout") || strings.HasSuffix(path, "/account/validate") || strings.HasSuffix(path, "/fallback/web") { // forms of pages
			continue
		}
		path = strings.NewReplacer("{room}", url.PathEscape(room), "{user}", url.PathEscape(user)).Replace(path)
		all = append(all, [2]string{method, regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(path, "x")})
	}
	return all
}

// answered sees that a request is answered as the standard says, and never by a failure of the server.
func (c *client) answered(method, path, body string) int {
	c.t.Helper()
	status, text := c.request(c.t.Context(), method, path, body)
	var out struct {
		Code  string `json:"errcode"`
		Text  string `json:"error"`
		Flows []any  `json:"flows"`
	}
	if err := json.Unmarshal(text, &out); err != nil && status != http.StatusOK || status >= http.StatusInternalServerError {
		c.t.Errorf("%s %s %.100q: %d %s", method, path, body, status, text)
	}
	if status >= http.StatusBadRequest && (out.Code == "" || out.Text == "") && out.Flows == nil {
		c.t.Errorf("%s %s %.100q: %d %s has no errcode", method, path, body, status, text)
	}
	return status
}

// TestBadBodies: no request takes a body that is no JSON object, is too deep or large, or says something twice; nothing of it is kept.
func TestBadBodies(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	room := anne.create(object{})
	since := anne.sync("", "").Next
	all := bodied(s.server, room, anne.user)
	if len(all) < 50 {
		t.Fatalf("only %d requests have bodies", len(all))
	}
	for _, body := range []string{
		"{", "x", "[]", `"x"`, "null", "5", "{}{}", `{"a":}`, `{"a":01}`, `{"a":"\x00"}`, "{\"a\":\"\xff\"}", "{\"\xc0\x80\":1}", `{"a":"\ud800"}{`,
		`{"a":1,"a":2}`, `{"a":{"b":1,"\u0062":1}}`, strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000), `{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "}",
		`{"a":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		for _, q := range all {
			if status := anne.answered(q[0], q[1], body); status < http.StatusBadRequest {
				t.Errorf("%s %s %.60q: %d", q[0], q[1], body, status)
			}
		}
	}
	if got := anne.sync(since, "timeout=0"); got.Next != since || len(got.Rooms.Join) != 0 {
		t.Errorf("something was kept: %+v", got)
	}
}

// fields are names that requests know.
var fields = strings.Fields(`algorithm auth auth_data avatar_url body content content_uri creation_content data device_id device_keys devices displayname display_name events
	event_id external_ids failures fallback_keys filter first_message_index forwarded_count from guest_access_token id identifier inhibit_login initial_device_display_name initial_state invite is_direct
	is_verified keys kind lang limit logout_devices mac master_key membership messages msgtype m.fully_read m.read m.read.private m.relates_to name new_password new_version nonce one_time_keys
	one_time_key_counts order password power_level_content_override presence preset query reason redacts refresh_token replacement_room room_alias_name room_id room_version search_term
	self_signing_key sender server session session_data signatures since state_key status_msg tag timeout to token topic ts type typing url user user_id user_signing_key username version via visibility
	x actions conditions pattern enabled account_data extensions lists room_subscriptions pushkey app_id app_display_name device_display_name profile_tag append search_categories third_party_signed valid_until_ms`)

// TestWrongTypes: a request whose fields have wrong types is answered by the standard's error, or taken where the field means nothing.
func TestWrongTypes(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	room := anne.create(object{})
	for _, value := range []string{
		"null", "true", "5", "-1", "1.5", "9007199254740992", "-9007199254740992", "1e400", "123456789012345678901234567890", `""`, `"x"`, `"\u0000"`, `"@x:orrery.test"`, "[]", "{}", `[""]`, "[5]", "[[]]", "[{}]",
		`{"x":5}`, `{"x":[]}`, `{"x":{"x":"x"}}`, `{"x":{"x":{"x":[5]}}}`, "[null]", `{"x":null}`,
	} {
		var b strings.Builder
		for i, f := range fields {
			if f == "auth" {
				continue // it would be asked for before the rest is looked at
			}
			fmt.Fprintf(&b, "%c%q:%s", ",{"[min(1, max(0, 1-i))], f, value)
		}
		body := b.String() + "}"
		for _, q := range bodied(s.server, room, anne.user) {
			anne.answered(q[0], q[1], body)
			anne.answered(q[0], q[1], `{"auth":`+value+`}`)
		}
	}
	anne.do("GET", "sync", nil)
}

// FuzzBody: whatever a body says, the server answers.
func FuzzBody(f *testing.F) {
	for i, seed := range []string{`{"name":"x","invite":["@b:orrery.test"]}`, `{"user_id":"@b:orrery.test"}`, `{"messages":{"@b:orrery.test":{"*":{}}}}`, `{"device_keys":{"@a:x":[]}}`, `{"\u0000":1e9}`, "{"} {
		f.Add(uint16(i*7), []byte(seed))
	}
	path, err := server.Init("orrery.test", f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	config, err := server.ReadConfig(path)
	if err != nil {
		f.Fatal(err)
	}
	config.Database = "memory"
	s, err := server.Open(f.Context(), config, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	const user = "@anne:orrery.test"
	if _, err := s.Accounts.Create(f.Context(), "anne", "", false, false); err != nil {
		f.Fatal(err)
	}
	tokens, err := s.Accounts.LogIn(f.Context(), user, "", "", "", false)
	if err != nil {
		f.Fatal(err)
	}
	ctx := f.Context()
	ask := func(method, path string, body []byte) *httptest.ResponseRecorder {
		q := httptest.NewRequestWithContext(ctx, method, path, bytes.NewReader(body))
		q.Header.Set("Authorization", "Bearer "+tokens.Access)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, q)
		return w
	}
	var made struct {
		Room string `json:"room_id"`
	}
	if err := json.Unmarshal(ask("POST", "/_matrix/client/v3/createRoom", nil).Body.Bytes(), &made); err != nil {
		f.Fatal(err)
	}
	all := bodied(s, made.Room, user)
	f.Fuzz(func(t *testing.T, which uint16, body []byte) {
		q := all[int(which)%len(all)]
		if w := ask(q[0], q[1], body); w.Code >= http.StatusInternalServerError || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s %q: %d %s", q[0], q[1], body, w.Code, w.Body)
		}
	})
}
