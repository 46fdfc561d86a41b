package server_test

import (
	"context"
	"encoding/json"
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// Names in the scopes of Element X, which are the proposal's (MSC2967).
const (
	proposedAPI    = "urn:matrix:org.matrix.msc2967.client:api:*"
	proposedDevice = "urn:matrix:org.matrix.msc2967.client:device:"
)

// androidApp is what Element X on Android says of itself when it registers, and iosApp that on iOS.
const (
	androidApp = `{"redirect_uris":["io.element.android:/"],"token_endpoint_auth_method":"none",
"grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],"response_types":["code"],"application_type":"native",
"client_uri":"https://element.io/apps/android","client_name":"Element X","logo_uri":"https://element.io/mobile-icon.png",
"policy_uri":"https://element.io/privacy","tos_uri":"https://element.io/acceptable-use-policy-terms"}`
	iosApp = `{"redirect_uris":["https://element.io/oauth/ios/io.element.elementx"],"token_endpoint_auth_method":"none",
"grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],"response_types":["code"],"application_type":"native",
"client_uri":"https://element.io","client_uri#de":"https://element.io/de","client_name":"Element X","client_name#de":"Element X","logo_uri":"https://element.io/mobile-icon.png",
"tos_uri":"https://element.io/acceptable-use-policy-terms","policy_uri":"https://element.io/privacy"}`
)

// phone is Element X: a client whose answers must have what its library cannot do without.
type phone struct {
	*client

	id, refresh string // as it is registered, and its token
	endpoint    oauth2.Endpoint
}

// reads makes a request, and has its answer.
func (p *phone) reads(status int, method, path string, body any, s shape) (out object) {
	p.t.Helper()
	p.readsInto(p.t.Context(), status, method, path, body, s, &out)
	return out
}

func (p *phone) readsInto(ctx context.Context, status int, method, path string, body any, s shape, out any) {
	p.t.Helper()
	got, text := p.request(ctx, method, path, body)
	if got != status {
		p.t.Fatalf("%s %s: %d, not %d: %s", method, path, got, status, text)
	}
	for _, one := range s.lacks(text) {
		p.t.Errorf("%s %s: %s", method, path, one)
	}
	if err := json.Unmarshal(text, out); err != nil {
		p.t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
}

// posts sends a form, as the app does to the issuer.
func (p *phone) posts(address string, form url.Values, s shape) (int, object) {
	p.t.Helper()
	q, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	q.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		p.t.Errorf("%s answers %s", address, kind)
	}
	if resp.StatusCode != http.StatusOK {
		s = shape{"error": "string", "error_description": "?string"}
	}
	for _, one := range s.lacks(text) {
		p.t.Errorf("%s: %s", address, one)
	}
	var out object
	if err := json.Unmarshal(text, &out); err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, out
}

// discover goes from the server's name to being registered.
func (s *site) discover(metadata string) *phone {
	s.t.Helper()
	p := &phone{client: &client{site: s}}
	p.reads(http.StatusOK, "GET", "/.well-known/matrix/client", nil, wellKnownShape)
	v := p.reads(http.StatusOK, "GET", "/_matrix/client/versions", nil, versionsShape)
	all, _ := v["versions"].([]any)
	features, _ := v["unstable_features"].(object)
	for _, version := range []string{"v1.11", "v1.13", "v1.15", "v1.16"} { // media, reports, OAuth, profiles: for older servers it asks elsewhere
		if !slices.Contains(all, any(version)) {
			s.t.Error("no", version)
		}
	}
	for _, feature := range []string{"org.matrix.simplified_msc3575", "org.matrix.msc4108"} {
		if features[feature] != true {
			s.t.Error("no", feature)
		}
	}
	p.reads(http.StatusOK, "GET", "/_matrix/client/unstable/org.matrix.msc2965/auth_metadata", nil, metadataShape)
	m := p.reads(http.StatusOK, "GET", "/_matrix/client/v1/auth_metadata", nil, metadataShape)
	for name, values := range map[string][]any{
		"response_types_supported": {"code"}, "response_modes_supported": {"query", "fragment"}, "grant_types_supported": {"authorization_code", "refresh_token"},
		"code_challenge_methods_supported": {"S256"}, "prompt_values_supported": {"create"},
	} {
		got, _ := m[name].([]any)
		for _, v := range values {
			if !slices.Contains(got, v) {
				s.t.Errorf("%s has no %s", name, v)
			}
		}
	}
	p.reads(http.StatusOK, "GET", "login", nil, flowsShape)
	at := func(name string) string { s, _ := m[name].(string); return strings.TrimPrefix(s, p.http.URL) }
	p.id, _ = p.reads(http.StatusCreated, "POST", at("registration_endpoint"), metadata, clientShape)["client_id"].(string)
	p.endpoint = oauth2.Endpoint{AuthURL: p.http.URL + at("authorization_endpoint"), TokenURL: p.http.URL + at("token_endpoint"), DeviceAuthURL: p.http.URL + at("device_authorization_endpoint")}
	return p
}

// asks is where the app sends a browser.
func (p *phone) asks(redirect, device, verifier, prompt string, more url.Values) string {
	values := url.Values{
		"response_type": {"code"}, "client_id": {p.id}, "state": {"4EwUmiAFzcJ1KxcN"}, "code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
		"redirect_uri": {redirect}, "scope": {proposedAPI + " " + proposedDevice + device}, "prompt": {prompt},
	}
	maps.Copy(values, more)
	return p.endpoint.AuthURL + "?" + values.Encode()
}

// lands is what the app is sent, which takes only what begins with its address.
func (b *browse) lands(redirect string) url.Values {
	b.t.Helper()
	query, ok := strings.CutPrefix(b.away, redirect+"?")
	values, err := url.ParseQuery(query)
	if !ok || err != nil || values.Get("state") != "4EwUmiAFzcJ1KxcN" {
		b.t.Fatalf("sent to %q", b.away)
	}
	return values
}

// takes takes the tokens that the issuer answers with.
func (p *phone) takes(form url.Values) {
	p.t.Helper()
	form.Set("client_id", p.id)
	status, out := p.posts(p.endpoint.TokenURL, form, tokenShape)
	if kind, _ := out["token_type"].(string); status != http.StatusOK || !strings.EqualFold(kind, "bearer") {
		p.t.Fatal(status, out)
	}
	p.token, _ = out["access_token"].(string)
	p.refresh, _ = out["refresh_token"].(string)
}

// enters has anne log in on the pages, and is Element X on her telephone.
func (s *site) enters(device string) *phone {
	s.t.Helper()
	p, b, verifier := s.discover(androidApp), s.browser(), oauth2.GenerateVerifier()
	address := p.asks("io.element.android:/", device, verifier, "consent", nil)
	b.get(address)
	b.post("/account/login", url.Values{"name": {"anne"}, "password": {"pw-anne"}, "next": {strings.TrimPrefix(address, s.http.URL)}})
	b.post(address, url.Values{"decision": {"allow"}})
	p.takes(url.Values{"grant_type": {"authorization_code"}, "code": {b.lands("io.element.android:/").Get("code")}, "code_verifier": {verifier}, "redirect_uri": {"io.element.android:/"}})
	p.user, p.device = "@anne:orrery.test", device
	return p
}

// next is where a page's login leads afterwards.
func next(page string) string {
	found := regexp.MustCompile(`name="next" value="([^"]*)"`).FindStringSubmatch(page)
	if found == nil {
		return ""
	}
	return html.UnescapeString(found[1])
}

// TestElementXLogsIn: the way of Element X from a server's name to its tokens, and out again, with what the app writes; each answer has what its library cannot do without.
func TestElementXLogsIn(t *testing.T) {
	c := &clock{}
	s := newWebSiteBefore(t, func(s *site) []string {
		s.now = c.now
		return []string{"oauth:\n  issuer: \"\"", issuerHere}
	})
	s.register("anne")
	for name, app := range map[string][2]string{"Android": {androidApp, "io.element.android:/"}, "iOS": {iosApp, "https://element.io/oauth/ios/io.element.elementx"}} {
		p, b, verifier := s.discover(app[0]), s.browser(), oauth2.GenerateVerifier()
		if _, page := b.get(p.asks(app[1], "CREATEDXXX", verifier, "create", nil)); !strings.Contains(page, "Make an account") || !strings.HasPrefix(next(page), "/oauth2/authorize?") {
			t.Errorf("%s: %s", name, page)
		}
		address := p.asks(app[1], "ABCDEFGHIJ", verifier, "consent", url.Values{"login_hint": {"mxid:@anne:orrery.test"}})
		_, page := b.get(address)
		if !strings.Contains(page, `value="@anne:orrery.test"`) {
			t.Errorf("%s: who wants to log in is not known: %s", name, page)
		}
		_, page = b.post("/account/login", url.Values{"name": {"@anne:orrery.test"}, "password": {"pw-anne"}, "next": {next(page)}})
		if !strings.Contains(page, "Let Element X in?") || !strings.Contains(page, "ABCDEFGHIJ") || !strings.Contains(page, `href="https://element.io/privacy"`) {
			t.Errorf("%s: %s", name, page)
		}
		_, page = b.post("/account/logout", url.Values{"next": {next(page)}}) // somebody else wants to log in: not anywhere else
		b.post("/account/login", url.Values{"name": {"anne"}, "password": {"pw-anne"}, "next": {next(page)}})
		b.post(address, url.Values{"decision": {"deny"}})
		if b.lands(app[1]).Get("error") != "access_denied" {
			t.Error(b.away)
		}
		b.post(address, url.Values{"decision": {"allow"}})
		p.takes(url.Values{"grant_type": {"authorization_code"}, "code": {b.lands(app[1]).Get("code")}, "code_verifier": {verifier}, "redirect_uri": {app[1]}})
		if who := p.reads(http.StatusOK, "GET", "account/whoami", nil, whoShape); who["user_id"] != "@anne:orrery.test" || who["device_id"] != "ABCDEFGHIJ" {
			t.Error(who)
		}
		old := *p.client
		c.forward(time.Hour)
		if out := p.reads(http.StatusUnauthorized, "GET", "account/whoami", nil, shape{"errcode": "string", "error": "string", "soft_logout": "~bool"}); out["errcode"] != "M_UNKNOWN_TOKEN" || out["soft_logout"] != true {
			t.Error(out)
		}
		first := p.refresh
		p.takes(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first}})
		p.takes(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first}}) // the answer was lost
		p.reads(http.StatusOK, "GET", "account/whoami", nil, whoShape)
		if status, out := p.posts(p.endpoint.TokenURL, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first}, "client_id": {p.id}}, nil); status != http.StatusBadRequest || out["error"] != "invalid_grant" {
			t.Error(status, out)
		}
		old.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
		if status, _ := p.posts(s.http.URL+"/oauth2/revoke", url.Values{"token": {p.token}, "token_type_hint": {"access_token"}, "client_id": {p.id}}, shape{}); status != http.StatusOK {
			t.Error(status)
		}
		p.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
		if status, out := p.posts(p.endpoint.TokenURL, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {p.refresh}, "client_id": {p.id}}, nil); status != http.StatusBadRequest || out["error"] != "invalid_grant" {
			t.Error(status, out)
		}
	}
}

// TestElementXResets: the app asks until its user has allowed on a page that the identity of the keys is replaced, and says nothing of an authentication; once only is it let.
func TestElementXResets(t *testing.T) {
	s := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	s.register("anne")
	p := s.enters("ABCDEFGHIJ")
	identity := func(letter string) object {
		key := strings.Repeat(letter, 43)
		return object{"master_key": object{"user_id": p.user, "usage": []string{"master"}, "keys": object{"ed25519:" + key: key}}, "auth": nil}
	}
	const path = "keys/device_signing/upload"
	p.reads(http.StatusOK, "POST", path, identity("A"), nil)
	for range 3 {
		p.reads(http.StatusUnauthorized, "POST", path, identity("B"), uiaShape)
	}
	out := p.reads(http.StatusUnauthorized, "POST", path, identity("B"), uiaShape)
	params, _ := out["params"].(object)["m.oauth"].(object)
	page, _ := params["url"].(string)
	b := s.browser()
	b.logIn()
	if _, text := b.get(page); !strings.Contains(text, "Replace the identity of your keys?") {
		t.Fatal(page, text)
	}
	b.post("/account/reset", nil)
	p.reads(http.StatusOK, "POST", path, identity("B"), nil)
	p.reads(http.StatusUnauthorized, "POST", path, identity("C"), uiaShape)
	// Who logged in with a password sends it, without a session.
	laptop := &phone{client: &client{site: s, user: p.user}}
	laptop.token, _ = laptop.do("POST", "login", object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": "anne"}, "password": "pw-anne"})["access_token"].(string)
	again := identity("D")
	laptop.reads(http.StatusUnauthorized, "POST", path, again, shape{"flows * stages *": "string", "session": "?string"})
	again["auth"] = object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": p.user}, "password": "pw-anne", "session": nil}
	laptop.reads(http.StatusOK, "POST", path, again, nil)
}
