package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

const issuerHere = `oauth:
  issuer: here`

const callback = "http://127.0.0.1:4711/callback"

// browse is a browser that follows redirects within servers of the test, and stops where it is sent elsewhere.
type browse struct {
	*site

	http *http.Client
	away string // where it was sent last
}

func (s *site) browser() *browse {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	b := &browse{site: s}
	b.http = &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Scheme == "http" && !strings.HasPrefix(r.URL.String(), callback) { // another server of the test, perhaps
			return nil
		}
		b.away = r.URL.String()
		return http.ErrUseLastResponse
	}}
	return b
}

// get opens a page, and post sends a form as a page of the server does; both are the page that comes of it.
func (b *browse) get(address string) (int, string) { return b.send(http.MethodGet, address, nil, "") }

func (b *browse) post(address string, form url.Values) (int, string) {
	return b.send(http.MethodPost, address, form, "same-origin")
}

func (b *browse) send(method, address string, form url.Values, from string) (int, string) {
	b.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = b.site.http.URL + address
	}
	q, err := http.NewRequestWithContext(b.t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	q.Header.Set("Sec-Fetch-Site", from)
	resp, err := b.http.Do(q)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// logIn logs anne in.
func (b *browse) logIn() {
	b.t.Helper()
	if status, page := b.post("/account/login", url.Values{"name": {"anne"}, "password": {"pw-anne"}}); status != http.StatusOK || !strings.Contains(page, "@anne:") {
		b.t.Fatalf("login: %d %s", status, page)
	}
}

// app is a client that was registered.
func (s *site) app(more object) *oauth2.Config {
	s.t.Helper()
	c := &client{site: s}
	body := object{
		"client_name": "Example", "client_uri": "https://app.example/", "redirect_uris": []string{"http://127.0.0.1/callback"}, "application_type": "native",
		"token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"},
	}
	maps.Copy(body, more)
	var out struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	c.want(http.StatusCreated, "POST", "/oauth2/register", body, &out)
	m := c.do("GET", "/_matrix/client/v1/auth_metadata", nil)
	at := func(name string) string { s, _ := m[name].(string); return s }
	return &oauth2.Config{
		ClientID: out.ID, ClientSecret: out.Secret, RedirectURL: callback, Scopes: []string{"urn:matrix:client:api:*", "urn:matrix:client:device:APPDEVICE1"},
		Endpoint: oauth2.Endpoint{AuthURL: at("authorization_endpoint"), TokenURL: at("token_endpoint"), DeviceAuthURL: at("device_authorization_endpoint"), AuthStyle: oauth2.AuthStyleInParams},
	}
}

// allow has the user of a browser allow what an app wants, and is the code that the app gets.
func (b *browse) allow(app *oauth2.Config, verifier string) string {
	b.t.Helper()
	address := app.AuthCodeURL("a state", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("nonce", "n"))
	if status, page := b.get(address); status != http.StatusOK || !strings.Contains(page, "Let Example in?") {
		b.t.Fatalf("consent: %d %s", status, page)
	}
	b.post(address, url.Values{"decision": {"allow"}})
	u, err := url.Parse(b.away)
	if err != nil || u.Query().Get("state") != "a state" || u.Query().Get("code") == "" {
		b.t.Fatalf("sent to %q", b.away)
	}
	return u.Query().Get("code")
}

// TestOAuth: an app registers, its user logs in on the server's page and allows it in, and it works with what it gets until it is revoked.
func TestOAuth(t *testing.T) {
	s := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	anne := s.register("anne")
	app := s.app(nil)
	if again := s.app(nil); again.ClientID != app.ClientID {
		t.Error("who says the same is another client")
	}
	b := s.browser()
	verifier := oauth2.GenerateVerifier()
	address := app.AuthCodeURL("a state", oauth2.S256ChallengeOption(verifier))
	if _, page := b.get(address); !strings.Contains(page, "Log in to orrery.test") {
		t.Fatal(page)
	}
	if status, page := b.post("/account/login", url.Values{"name": {"anne"}, "password": {"wrong"}}); status != http.StatusForbidden || !strings.Contains(page, "is wrong") {
		t.Error(status, page)
	}
	b.logIn()
	code := b.allow(app, verifier)
	ctx := t.Context()
	if _, err := app.Exchange(ctx, code, oauth2.VerifierOption(oauth2.GenerateVerifier())); reason(err) != "invalid_grant" {
		t.Error("a code is exchanged without its verifier:", err)
	}
	if _, err := app.Exchange(ctx, code, oauth2.VerifierOption(verifier)); reason(err) != "invalid_grant" {
		t.Error("a code counts after it was tried:", err)
	}
	token, err := app.Exchange(ctx, b.allow(app, verifier), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	c := &client{site: s, token: token.AccessToken}
	if out := c.do("GET", "account/whoami", nil); out["user_id"] != anne.user || out["device_id"] != "APPDEVICE1" {
		t.Error(out)
	}
	if d := c.do("GET", "devices/APPDEVICE1", nil); d["display_name"] != "Example" {
		t.Error(d)
	}
	c.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "delete_devices", object{"devices": []string{anne.device}})
	// Refreshing: the old access token ends, and the legacy request does not take an app's token.
	c.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "POST", "refresh", object{"refresh_token": token.RefreshToken})
	next, err := app.TokenSource(ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token()
	if err != nil {
		t.Fatal(err)
	}
	c.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	c.token = next.AccessToken
	c.do("GET", "account/whoami", nil)
	if status, _ := s.browser().post("/oauth2/revoke", url.Values{"token": {next.RefreshToken}, "client_id": {app.ClientID}}); status != http.StatusOK {
		t.Error("revoke:", status)
	}
	c.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	anne.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "devices/APPDEVICE1", nil)
}

// reason is the code of an error of the token endpoint.
func reason(err error) string {
	if r, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return r.ErrorCode
	}
	return ""
}

// TestOAuthRefuses: what an app asks that it must not get, it is told; what may not be told it, the user is.
func TestOAuthRefuses(t *testing.T) {
	s := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	s.register("anne")
	app := s.app(nil)
	b := s.browser()
	b.logIn()
	pkce := oauth2.S256ChallengeOption(oauth2.GenerateVerifier())
	with := func(name, value string) oauth2.AuthCodeOption { return oauth2.SetAuthURLParam(name, value) }
	for _, c := range []struct {
		what, code string
		options    []oauth2.AuthCodeOption
	}{
		{"no challenge", "invalid_request", nil},
		{"plain challenge", "invalid_request", []oauth2.AuthCodeOption{pkce, with("code_challenge_method", "plain")}},
		{"token in the address", "unsupported_response_type", []oauth2.AuthCodeOption{pkce, with("response_type", "token")}},
		{"no device", "invalid_scope", []oauth2.AuthCodeOption{pkce, with("scope", "urn:matrix:client:api:*")}},
		{"two devices", "invalid_scope", []oauth2.AuthCodeOption{pkce, with("scope", "urn:matrix:client:api:* urn:matrix:client:device:AAAA urn:matrix:client:device:BBBB")}},
		{"odd device", "invalid_scope", []oauth2.AuthCodeOption{pkce, with("scope", "urn:matrix:client:api:* urn:matrix:client:device:A\\B")}},
		{"nothing to see", "interaction_required", []oauth2.AuthCodeOption{pkce, with("prompt", "none")}},
	} {
		b.away = ""
		b.get(app.AuthCodeURL("s", c.options...))
		if u, err := url.Parse(b.away); err != nil || u.Query().Get("error") != c.code {
			t.Errorf("%s: sent to %q", c.what, b.away)
		}
	}
	b.away = ""
	for _, o := range []oauth2.AuthCodeOption{with("redirect_uri", "https://app.example/callback"), with("redirect_uri", callback+"/x"), with("client_id", "nobody")} {
		if status, _ := b.get(app.AuthCodeURL("s", pkce, o)); status != http.StatusBadRequest || b.away != "" {
			t.Errorf("%d, sent to %q", status, b.away)
		}
	}
	address := app.AuthCodeURL("s", pkce)
	b.get(address)
	if status, _ := b.send(http.MethodPost, address, url.Values{"decision": {"allow"}}, "cross-site"); status != http.StatusForbidden || b.away != "" {
		t.Errorf("another site's page allows: %d, sent to %q", status, b.away)
	}
	b.post(address, url.Values{"decision": {"deny"}})
	if u, err := url.Parse(b.away); err != nil || u.Query().Get("error") != "access_denied" {
		t.Errorf("sent to %q", b.away)
	}
	// An address of another site is never where a login leads.
	for _, next := range []string{"https://evil.example/", "//evil.example/", `/\evil.example/`, "/elsewhere"} {
		if status, page := b.post("/account/login", url.Values{"name": {"anne"}, "password": {"pw-anne"}, "next": {next}}); status != http.StatusOK || !strings.Contains(page, "Devices") {
			t.Errorf("%s leads to %d %s", next, status, page)
		}
	}
	c := &client{site: s}
	for _, more := range []object{
		{"redirect_uris": []string{"https://other.example/callback"}},
		{"redirect_uris": []string{"http://127.0.0.1:99/callback"}},
		{"redirect_uris": []string{"http://app.example/callback"}},
		{"redirect_uris": []string{"https://app.example/callback#x"}},
		{"redirect_uris": []string{"https://u@app.example/callback"}},
		{"redirect_uris": []string{"com.other:/callback"}},
		{"redirect_uris": []string{"example.app://callback"}},
		{"application_type": "web"},
		{"redirect_uris": []string{}},
		{"client_uri": "http://app.example/"},
		{"grant_types": []string{"password"}},
	} {
		body := object{
			"client_uri": "https://app.example/", "redirect_uris": []string{"http://127.0.0.1/callback"}, "application_type": "native",
			"token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code"},
		}
		maps.Copy(body, more)
		c.want(http.StatusBadRequest, "POST", "/oauth2/register", body, nil)
	}
	s.app(object{"redirect_uris": []string{"example.app:/callback", "example.app.one:callback", "https://www.app.example/?a=b"}})
}

// TestOAuthDevice: a device without a browser shows a code, by which its user lets it in elsewhere.
func TestOAuthDevice(t *testing.T) {
	s := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	anne := s.register("anne")
	app := s.app(nil)
	b := s.browser()
	b.logIn()
	poll := func(code string) (int, object) {
		status, text := b.post("/oauth2/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {code}, "client_id": {app.ClientID}})
		var out object
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatal(text)
		}
		return status, out
	}
	for _, decision := range []string{"deny", "allow"} {
		d, err := app.DeviceAuth(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, out := poll(d.DeviceCode); out["error"] != "authorization_pending" {
			t.Error(out)
		}
		if _, out := poll(d.DeviceCode); out["error"] != "slow_down" {
			t.Error(out)
		}
		typed := strings.ToLower(strings.ReplaceAll(d.UserCode, "-", " "))
		if _, page := b.get("/account/link?user_code=" + url.QueryEscape(typed)); !strings.Contains(page, "Let Example in?") || !strings.Contains(page, d.UserCode) {
			t.Fatal(page)
		}
		b.post("/account/link", url.Values{"user_code": {d.UserCode}, "decision": {decision}})
		status, out := poll(d.DeviceCode)
		if decision == "deny" {
			if out["error"] != "access_denied" {
				t.Error(out)
			}
			continue
		}
		c := &client{site: s}
		if c.token, _ = out["access_token"].(string); status != http.StatusOK || c.do("GET", "account/whoami", nil)["user_id"] != anne.user {
			t.Error(status, out)
		}
		if _, out := poll(d.DeviceCode); out["error"] != "expired_token" {
			t.Error(out)
		}
	}
	for n := range 12 {
		if status, _ := b.get("/account/link?user_code=BBBB-BBBB"); n == 11 && status != http.StatusTooManyRequests {
			t.Error("codes can be guessed:", status)
		}
	}
}

// TestOAuthAccount: the pages of an account.
func TestOAuthAccount(t *testing.T) {
	s := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	b := s.browser()
	if status, page := b.post("/account/register", url.Values{"name": {"Anne"}, "password": {"pw-anne"}, "again": {"other"}}); status != http.StatusBadRequest || !strings.Contains(page, "two passwords") {
		t.Error(status, page)
	}
	if status, page := b.post("/account/register", url.Values{"name": {"Anne"}, "password": {"pw-anne"}, "again": {"pw-anne"}}); status != http.StatusOK || !strings.Contains(page, "@anne:orrery.test") {
		t.Error(status, page)
	}
	nobody := &client{site: s}
	c := &client{site: s}
	c.token, _ = nobody.do("POST", "login", object{"type": "m.login.password", "user": "anne", "password": "pw-anne", "device_id": "PHONE", "initial_device_display_name": "<phone>"})["access_token"].(string)
	if _, page := b.get("/account/?action=org.matrix.devices_list"); !strings.Contains(page, "&lt;phone&gt;") {
		t.Error(page)
	}
	if status, _ := b.send(http.MethodPost, "/account/device", url.Values{"device_id": {"PHONE"}}, "cross-site"); status != http.StatusForbidden {
		t.Error("another site logs a device out:", status)
	}
	c.do("GET", "account/whoami", nil)
	b.post("/account/device", url.Values{"device_id": {"PHONE"}})
	c.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	other := s.browser()
	other.logIn()
	if status, _ := b.post("/account/password", url.Values{"password": {"wrong"}, "new": {"pw-new"}, "again": {"pw-new"}}); status != http.StatusForbidden {
		t.Error(status)
	}
	if status, page := b.post("/account/password", url.Values{"password": {"pw-anne"}, "new": {"pw-new"}, "again": {"pw-new"}}); status != http.StatusOK || !strings.Contains(page, "was changed") {
		t.Error(status, page)
	}
	if _, page := other.get("/account/"); !strings.Contains(page, "Log in to") {
		t.Error("another browser stays logged in:", page)
	}
	b.post("/account/logout", nil)
	if _, page := b.get("/account/"); !strings.Contains(page, "Log in to") {
		t.Error(page)
	}
	b.post("/account/login", url.Values{"name": {"anne"}, "password": {"pw-new"}})
	if status, page := b.post("/account/deactivate", url.Values{"password": {"pw-new"}, "erase": {"yes"}}); status != http.StatusOK || !strings.Contains(page, "was ended") {
		t.Error(status, page)
	}
	nobody.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", object{"type": "m.login.password", "user": "anne", "password": "pw-new"})
}

// TestOAuthReset: the keys of a user's identity are replaced only if the user allows it on a page.
func TestOAuthReset(t *testing.T) {
	s := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	s.register("anne")
	b := s.browser()
	b.logIn()
	app, verifier := s.app(nil), oauth2.GenerateVerifier()
	token, err := app.Exchange(t.Context(), b.allow(app, verifier), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	c := &client{site: s, user: "@anne:orrery.test", token: token.AccessToken}
	key := func(seed byte) object { return master(c.user, seed) }
	const path = "keys/device_signing/upload"
	c.do("POST", path, key(0)) // the first needs nothing
	var step begun
	second := key(1)
	c.want(http.StatusUnauthorized, "POST", path, second, &step)
	page, _ := step.Params["m.oauth"]["url"].(string)
	second["auth"] = object{"session": step.Session}
	c.want(http.StatusUnauthorized, "POST", path, second, nil)
	if _, text := b.get(page); !strings.Contains(text, "Replace the identity of your keys?") {
		t.Fatal(page, text)
	}
	b.post("/account/reset", nil)
	c.do("POST", path, second)
	third := key(2)
	third["auth"] = object{"session": step.Session}
	c.want(http.StatusUnauthorized, "POST", path, third, nil)
}

// TestOAuthDelegate: a server that asks another one's issuer lets in whoever has a token of it, and makes their account and device.
func TestOAuthDelegate(t *testing.T) {
	issuer := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	issuer.register("anne")
	known := issuer.app(object{"token_endpoint_auth_method": "client_secret_basic"})
	s := configured(t, "memory", "oauth:\n  issuer: \"\"\n  client_id: \"\"\n  client_secret_file: \"\"",
		"oauth:\n  issuer: "+issuer.http.URL+"\n  client_id: "+known.ClientID+"\n  client_secret_file: client-secret")
	if err := os.WriteFile(filepath.Join(s.dir, "client-secret"), []byte(known.ClientSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(func() { s.stop() })
	nobody := &client{site: s}
	if m := nobody.do("GET", "/_matrix/client/v1/auth_metadata", nil); m["issuer"] != issuer.http.URL+"/" {
		t.Error(m)
	}
	b := issuer.browser()
	b.logIn()
	app, verifier := issuer.app(nil), oauth2.GenerateVerifier()
	token, err := app.Exchange(t.Context(), b.allow(app, verifier), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	c := &client{site: s, token: token.AccessToken}
	if out := c.do("GET", "account/whoami", nil); out["user_id"] != "@anne:orrery.test" || out["device_id"] != "APPDEVICE1" {
		t.Error(out)
	}
	c.create(object{})
	guess := &client{site: s, token: "guess"}
	guess.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	if status, text := b.post("/oauth2/introspect", url.Values{"token": {token.AccessToken}, "client_id": {app.ClientID}}); status != http.StatusUnauthorized {
		t.Error("a client without a secret is told of tokens:", status, text)
	}
	issuer.http.CloseClientConnections()
	issuer.http.Config.SetKeepAlivesEnabled(false)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := issuer.http.Config.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	guess.token = "another"
	guess.refused(http.StatusServiceUnavailable, "M_UNKNOWN", "GET", "account/whoami", nil)
}
