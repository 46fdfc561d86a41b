package server_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// ssoSite is a server whose users log in at another one, which is a real issuer of OpenID Connect.
func ssoSite(t *testing.T, issuer *site, more ...string) *site {
	t.Helper()
	s := newWebSiteBefore(t, func(s *site) []string {
		s.now = issuer.now
		app := issuer.app(object{
			"token_endpoint_auth_method": "client_secret_basic", "redirect_uris": []string{"http://127.0.0.1/_matrix/client/v3/login/sso/callback"},
			"grant_types": []string{"authorization_code"},
		})
		if err := os.WriteFile(filepath.Join(s.dir, "secret-of-sso"), []byte(app.ClientSecret), 0o600); err != nil {
			t.Fatal(err)
		}
		one := "{id: %s, name: %s, issuer: " + issuer.config.BaseURL + "/, client_id: " + app.ClientID + ", client_secret_file: secret-of-sso}"
		return append(more, "sso: []", "sso: ["+fmt.Sprintf(one, "work", "Work")+", "+fmt.Sprintf(one, "home", "Home")+"]",
			"sso_clients: []", "sso_clients: [https://app.example/web]")
	})
	return s
}

// provided logs in at another server, whose page a browser is shown, and lets this one know; it is the page that comes of it.
func (b *browse) provided(issuer *site, name, page string) string {
	b.t.Helper()
	field := func(pattern string) string {
		found := regexp.MustCompile(pattern).FindStringSubmatch(page)
		if found == nil {
			b.t.Fatalf("no %s in %s", pattern, page)
		}
		return issuer.config.BaseURL + html.UnescapeString(found[1])
	}
	if strings.Contains(page, "Log in to orrery.test") {
		next := strings.TrimPrefix(field(`name="next" value="([^"]+)"`), issuer.config.BaseURL)
		_, page = b.post(issuer.config.BaseURL+"/account/login", url.Values{"name": {name}, "password": {"pw-" + name}, "next": {next}})
	}
	if !strings.Contains(page, "know your name and nothing else") {
		b.t.Fatal(page)
	}
	_, page = b.post(field(`action="(/oauth2/authorize[^"]+)"`), url.Values{"decision": {"allow"}})
	return page
}

var loginToken = regexp.MustCompile(`loginToken=([A-Za-z0-9_%]+)`)

// TestSSO: users log in at another server, where the first time they get an account here, and their client gets a token that counts once.
func TestSSO(t *testing.T) {
	issuer := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	issuer.register("anne")
	issuer.register("taken")
	s := ssoSite(t, issuer)
	s.register("taken")
	nobody := &client{site: s}
	if flows := fmt.Sprint(nobody.do("GET", "login", nil)); !strings.Contains(flows, "identity_providers:[map[id:work name:Work] map[id:home name:Home]]") {
		t.Error(flows)
	}
	const start = "/_matrix/client/v3/login/sso/redirect"
	enter := func(b *browse, name, redirect string) string {
		t.Helper()
		_, page := b.get(start + "/work?redirectUrl=" + url.QueryEscape(redirect))
		return b.provided(issuer, name, page)
	}
	b := s.browser()
	for _, bad := range []string{"", "javascript:alert(1)", "data:text/html,x", "nowhere"} {
		if status, _ := b.get(start + "?redirectUrl=" + url.QueryEscape(bad)); status != http.StatusBadRequest {
			t.Errorf("%q: %d", bad, status)
		}
	}
	if _, page := b.get(start + "?redirectUrl=https%3A%2F%2Fapp.example%2Fweb"); !strings.Contains(page, "Log in with Home") {
		t.Error(page)
	}
	// A client that is listed gets its token at once.
	enter(b, "anne", "https://app.example/web/?a=b&loginToken=old")
	away, err := url.Parse(b.away)
	if err != nil || away.Query().Get("a") != "b" || len(away.Query()["loginToken"]) != 1 {
		t.Fatal(b.away)
	}
	token := away.Query().Get("loginToken")
	if out := nobody.do("POST", "login", object{"type": "m.login.token", "token": token}); out["user_id"] != "@anne:orrery.test" {
		t.Error(out)
	}
	nobody.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", object{"type": "m.login.token", "token": token})
	// Another one gets it if the user goes on, who is shown where to.
	for _, other := range []string{"https://app.example.evil.example/web", "https://app.example/webby", "https://app.example/web/../x", "element://go"} {
		b.away = ""
		page := enter(b, "anne", other)
		if m := loginToken.FindStringSubmatch(page); m == nil || b.away != "" || !strings.Contains(page, "Let an app in?") {
			t.Errorf("%s: %s", other, page)
		}
	}
	// Whoever has a name that is taken here chooses another one.
	c := s.browser()
	page := enter(c, "taken", "https://app.example/web")
	state := regexp.MustCompile(`name="state" value="([^"]+)"`).FindStringSubmatch(page)
	if state == nil || c.away != "" {
		t.Fatal(page)
	}
	if status, page := b.post("/_matrix/client/v3/login/sso/name", url.Values{"state": {state[1]}, "name": {"thief"}}); status != http.StatusBadRequest {
		t.Error("another browser goes on with a login:", status, page)
	}
	if _, page := c.post("/_matrix/client/v3/login/sso/name", url.Values{"state": {state[1]}, "name": {"anne"}}); !strings.Contains(page, "is taken") {
		t.Error(page)
	}
	c.post("/_matrix/client/v3/login/sso/name", url.Values{"state": {state[1]}, "name": {"Free"}})
	if m := loginToken.FindStringSubmatch(c.away); m == nil || nobody.do("POST", "login", object{"type": "m.login.token", "token": m[1]})["user_id"] != "@free:orrery.test" {
		t.Error(c.away)
	}
}

// TestSSOIsBound: a login that one browser began ends in no other, and once.
func TestSSOIsBound(t *testing.T) {
	issuer := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	issuer.register("anne")
	s := ssoSite(t, issuer, "password_login: true", "password_login: false")
	nobody := &client{site: s}
	nobody.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", object{"type": "m.login.password", "user": "anne", "password": "x"})
	b := s.browser()
	var sent []string
	follow := b.http.CheckRedirect
	b.http.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		sent = append(sent, r.URL.String())
		return follow(r, via)
	}
	b.get("/_matrix/client/v3/login/sso/redirect/home?redirectUrl=https%3A%2F%2Fapp.example%2Fweb")
	if len(sent) == 0 {
		t.Fatal("not sent to the provider")
	}
	at, err := url.Parse(sent[0])
	if err != nil {
		t.Fatal(err)
	}
	query := at.Query()
	if query.Get("code_challenge_method") != "S256" || query.Get("nonce") == "" || query.Get("state") == "" {
		t.Error(sent[0])
	}
	back := "/_matrix/client/v3/login/sso/callback?code=x&state=" + query.Get("state")
	if status, page := s.browser().get(back); status != http.StatusBadRequest || !strings.Contains(page, "not begun in this browser") {
		t.Error(status, page)
	}
	if status, page := b.get(back + "x"); status != http.StatusBadRequest {
		t.Error(status, page)
	}
	if status, page := b.get(back); status != http.StatusBadGateway { // the issuer does not know the code
		t.Error(status, page)
	}
	if status, page := b.get("/_matrix/client/v3/login/sso/callback?error=access_denied&state=" + query.Get("state")); status != http.StatusBadRequest || !strings.Contains(page, "access_denied") {
		t.Error(status, page)
	}
	if status, page := b.get(back); status != http.StatusBadRequest {
		t.Error("a login counts after its end:", status, page)
	}
}

// TestSSOConfirms: who has no password proves again who they are where they log in, and nobody else does for them.
func TestSSOConfirms(t *testing.T) {
	issuer := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	issuer.register("anne")
	issuer.register("bob")
	s := ssoSite(t, issuer)
	anne, bob := s.browser(), s.browser()
	in := func(b *browse, name string) *client {
		_, page := b.get("/_matrix/client/v3/login/sso/redirect/work?redirectUrl=https%3A%2F%2Fapp.example%2Fweb")
		b.provided(issuer, name, page)
		c := &client{site: s}
		c.token, _ = c.do("POST", "login", object{"type": "m.login.token", "token": loginToken.FindStringSubmatch(b.away)[1]})["access_token"].(string)
		return c
	}
	c := in(anne, "anne")
	in(bob, "bob")
	const path = "/_matrix/client/v1/login/get_token"
	var step begun
	c.want(http.StatusUnauthorized, "POST", path, object{}, &step)
	if fmt.Sprint(step.Flows) != "[{[m.login.sso]}]" {
		t.Fatalf("%+v", step)
	}
	auth := object{"auth": object{"session": step.Session}}
	confirm := func(b *browse, name string) string {
		t.Helper()
		page := "/_matrix/client/v3/auth/m.login.sso/fallback/web?session=" + step.Session
		if _, text := b.get(page); !strings.Contains(text, "An app wants to let another device in") {
			t.Fatal(text)
		}
		_, text := b.post(page, url.Values{"session": {step.Session}, "provider": {"work"}})
		return b.provided(issuer, name, text)
	}
	if page := confirm(bob, "bob"); !strings.Contains(page, "another user") {
		t.Error(page)
	}
	c.want(http.StatusUnauthorized, "POST", path, auth, nil)
	if page := confirm(anne, "anne"); !strings.Contains(page, "onAuthDone") {
		t.Error(page)
	}
	if out := c.do("POST", path, auth); out["login_token"] == nil {
		t.Error(out)
	}
}

// TestSSOConfirmsNow: a login at the provider of long ago is no proof, though the provider takes it for one.
func TestSSOConfirmsNow(t *testing.T) {
	clock := &clock{}
	issuer := newWebSiteBefore(t, func(s *site) []string {
		s.now = clock.now
		return []string{"oauth:\n  issuer: \"\"", issuerHere}
	})
	issuer.register("anne")
	s := ssoSite(t, issuer)
	b := s.browser()
	_, page := b.get("/_matrix/client/v3/login/sso/redirect/work?redirectUrl=https%3A%2F%2Fapp.example%2Fweb")
	b.provided(issuer, "anne", page)
	c := &client{site: s}
	c.token, _ = c.do("POST", "login", object{"type": "m.login.token", "token": loginToken.FindStringSubmatch(b.away)[1]})["access_token"].(string)
	const path = "/_matrix/client/v1/login/get_token"
	var step begun
	c.want(http.StatusUnauthorized, "POST", path, object{}, &step)
	ignores := true // the provider what it is asked
	follow := b.http.CheckRedirect
	b.http.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if query := r.URL.Query(); query.Get("max_age") != "" {
			if query.Get("prompt") != "login" {
				t.Error(r.URL)
			}
			if query.Del("max_age"); ignores {
				query.Del("prompt")
			}
			r.URL.RawQuery = query.Encode()
		}
		return follow(r, via)
	}
	clock.forward(10 * time.Minute)
	for _, ignores = range []bool{true, false} {
		_, text := b.post("/_matrix/client/v3/auth/m.login.sso/fallback/web?session="+step.Session, url.Values{"session": {step.Session}, "provider": {"work"}})
		text = b.provided(issuer, "anne", text)
		if ignores != strings.Contains(text, "by an earlier login") || ignores == strings.Contains(text, "onAuthDone") {
			t.Errorf("%v: %s", ignores, text)
		}
		if ignores {
			c.want(http.StatusUnauthorized, "POST", path, object{"auth": object{"session": step.Session}}, nil)
		}
	}
	if out := c.do("POST", path, object{"auth": object{"session": step.Session}}); out["login_token"] == nil {
		t.Error(out)
	}
}
