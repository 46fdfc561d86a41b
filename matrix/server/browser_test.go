package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"

	"orrery/internal/testenv/browser"
)

func do(ctx context.Context, t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	browser.Do(ctx, t, steps...)
}

// TestOAuthBrowser: somebody makes an account and lets an app in, then lets in a device by its code, in a real browser.
func TestOAuthBrowser(t *testing.T) {
	ctx := browser.Start(t, 2*time.Minute)
	s := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	codes := make(chan url.Values, 1)
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			codes <- r.URL.Query()
		}
		_, _ = w.Write([]byte(`<p id="back">you are back</p>`))
	}))
	t.Cleanup(back.Close)
	app, verifier := s.app(nil), oauth2.GenerateVerifier()
	app.RedirectURL = back.URL + "/callback"
	do(ctx, t, chromedp.Navigate(app.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier))), chromedp.WaitVisible("#login"))
	browser.Shot(ctx, t, "oauth-login")
	do(ctx, t, chromedp.Click("#register"), chromedp.WaitVisible("#make"),
		chromedp.SendKeys("#name", "anne"), chromedp.SendKeys("#password", "pw-anne"), chromedp.SendKeys("#again", "pw-anne"), chromedp.Click("#make"),
		chromedp.WaitVisible("#allow"))
	browser.Shot(ctx, t, "oauth-consent")
	do(ctx, t, chromedp.Click("#allow"), chromedp.WaitVisible("#back"))
	got := <-codes
	token, err := app.Exchange(t.Context(), got.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	c := &client{site: s, token: token.AccessToken}
	if out := c.do("GET", "account/whoami", nil); out["user_id"] != "@anne:orrery.test" {
		t.Error(out)
	}
	app.Scopes[1] += "2"
	d, err := app.DeviceAuth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	do(ctx, t, chromedp.Navigate(d.VerificationURI), chromedp.WaitVisible("#code"), chromedp.SendKeys("#code", d.UserCode), chromedp.Click("#next"), chromedp.WaitVisible("#allow"))
	browser.Shot(ctx, t, "oauth-device")
	do(ctx, t, chromedp.Click("#allow"), chromedp.WaitVisible("#done"))
	limited, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d.Interval = 1
	if token, err = app.DeviceAccessToken(limited, d); err != nil {
		t.Fatal(err)
	}
	c.token = token.AccessToken
	if out := c.do("GET", "account/whoami", nil); out["device_id"] != "APPDEVICE12" {
		t.Error(out)
	}
	do(ctx, t, chromedp.Navigate(s.http.URL+"/account/"), chromedp.WaitVisible("#devices"))
	browser.Shot(ctx, t, "oauth-account")
}

// TestAddressesBrowser: somebody makes an account with an address of mail, forgets the password, gets a new one by a mail, and adds and removes addresses, in a
// real browser.
func TestAddressesBrowser(t *testing.T) {
	ctx := browser.Start(t, 3*time.Minute)
	s, box := newMailSite(t, "oauth:\n  issuer: \"\"", issuerHere, "registration_needs_email: false", "registration_needs_email: true")
	confirm := func() {
		t.Helper()
		whole, _, _ := link(t, box.Next(t))
		do(ctx, t, chromedp.Navigate(whole), chromedp.WaitVisible("#confirm"))
		browser.Shot(ctx, t, "address-confirm")
		do(ctx, t, chromedp.Click("#confirm"))
	}
	do(ctx, t, chromedp.Navigate(s.http.URL+"/account/login"), chromedp.WaitVisible("#register"), chromedp.Click("#register"),
		chromedp.WaitVisible("#send"), chromedp.SendKeys("#address", "anne@example.org"), chromedp.Click("#send"), chromedp.WaitVisible("#sent"))
	confirm()
	do(ctx, t, chromedp.WaitVisible("#make"), chromedp.SendKeys("#name", "anne"), chromedp.SendKeys("#password", "pw-anne"), chromedp.SendKeys("#again", "pw-anne"),
		chromedp.Click("#make"), chromedp.WaitVisible("#addresses"), chromedp.SendKeys("#address", "other@example.org"), chromedp.SendKeys("#proof", "pw-anne"),
		chromedp.Click("#add"), chromedp.WaitVisible("#sent"))
	confirm()
	do(ctx, t, chromedp.WaitVisible(`#addresses button[value="other@example.org"]`))
	browser.Shot(ctx, t, "address-account")
	do(ctx, t, chromedp.Click(`#addresses button[value="other@example.org"]`), chromedp.WaitNotPresent(`#addresses button[value="other@example.org"]`), chromedp.WaitVisible("#addresses"))
	anne := &client{site: s}
	login := object{"type": "m.login.password", "identifier": object{"type": "m.id.thirdparty", "medium": "email", "address": "anne@example.org"}, "password": "pw-anne"}
	anne.token, _ = anne.do("POST", "login", login)["access_token"].(string)
	if got := anne.contacts(); got != "[{email anne@example.org}]" {
		t.Error(got)
	}
	do(ctx, t, chromedp.Navigate(s.http.URL+"/account/forgotten"), chromedp.WaitVisible("#send"), chromedp.SendKeys("#address", "Anne@example.org"),
		chromedp.Click("#send"), chromedp.WaitVisible("#sent"))
	confirm()
	do(ctx, t, chromedp.WaitVisible("#change"), chromedp.SendKeys("#new", "pw-new"), chromedp.SendKeys("#again", "pw-new"))
	browser.Shot(ctx, t, "address-password")
	do(ctx, t, chromedp.Click("#change"), chromedp.WaitVisible("#login"), chromedp.SendKeys("#name", "anne@example.org"), chromedp.SendKeys("#password", "pw-new"),
		chromedp.Click("#login"), chromedp.WaitVisible("#addresses"))
	anne.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
}

// TestNumbersBrowser: somebody makes an account with an address of mail and a number, both of which are needed, forgets the password, gets a new one by a message,
// and adds and removes numbers; and another passes the stage of a number on its page; in a real browser.
func TestNumbersBrowser(t *testing.T) {
	ctx := browser.Start(t, 3*time.Minute)
	g := newTextGateway(t)
	s, box := newMailSite(t, g.settings("oauth:\n  issuer: \"\"", issuerHere, "registration_needs_email: false", "registration_needs_email: true", "registration_needs_number: false", "registration_needs_number: true")...)
	do(ctx, t, chromedp.Navigate(s.http.URL+"/account/register"), chromedp.WaitVisible("#send"), chromedp.SendKeys("#address", "anne@example.org"), chromedp.Click("#send"), chromedp.WaitVisible("#sent"))
	whole, _, _ := link(t, box.Next(t))
	do(ctx, t, chromedp.Navigate(whole), chromedp.WaitVisible("#confirm"), chromedp.Click("#confirm"), chromedp.WaitVisible(`#address[type="tel"]`),
		chromedp.SendKeys("#address", "07700 900001"), chromedp.Click("#send"), chromedp.WaitVisible(`[role="alert"]`),
		chromedp.SendKeys("#address", "+44 7700 900001"), chromedp.Click("#send"), chromedp.WaitVisible("#code"))
	browser.Shot(ctx, t, "number-code")
	code := g.code()
	do(ctx, t, chromedp.SendKeys("#code", other(code)), chromedp.Click("#go"), chromedp.WaitVisible(`[role="alert"]`), chromedp.SendKeys("#code", code[:3]+" "+code[3:]), chromedp.Click("#go"),
		chromedp.WaitVisible("#make"), chromedp.SendKeys("#name", "anne"), chromedp.SendKeys("#password", "pw-anne"), chromedp.SendKeys("#again", "pw-anne"),
		chromedp.Click("#make"), chromedp.WaitVisible("#addresses"), chromedp.SendKeys("#address", "+49 151 23456789"), chromedp.SendKeys("#proof", "pw-anne"),
		chromedp.Click("#add"), chromedp.WaitVisible("#code"))
	do(ctx, t, chromedp.SendKeys("#code", g.code()), chromedp.Click("#go"), chromedp.WaitVisible(`#addresses button[value="4915123456789"]`))
	browser.Shot(ctx, t, "number-account")
	do(ctx, t, chromedp.Click(`#addresses button[value="4915123456789"]`), chromedp.WaitNotPresent(`#addresses button[value="4915123456789"]`), chromedp.WaitVisible("#addresses"))
	anne := &client{site: s}
	anne.token, _ = anne.do("POST", "login", object{"type": "m.login.password", "identifier": object{"type": "m.id.phone", "country": "GB", "phone": "07700 900001"}, "password": "pw-anne"})["access_token"].(string)
	if got := anne.contacts(); got != "[{email anne@example.org} {msisdn 447700900001}]" {
		t.Error(got)
	}
	do(ctx, t, chromedp.Navigate(s.http.URL+"/account/forgotten"), chromedp.WaitVisible("#send"), chromedp.SendKeys("#address", "0044 7700 900001"), chromedp.Click("#send"), chromedp.WaitVisible("#code"))
	do(ctx, t, chromedp.SendKeys("#code", g.code()), chromedp.Click("#go"), chromedp.WaitVisible("#change"), chromedp.SendKeys("#new", "pw-new"), chromedp.SendKeys("#again", "pw-new"),
		chromedp.Click("#change"), chromedp.WaitVisible("#login"), chromedp.SendKeys("#name", "+44 7700 900001"), chromedp.SendKeys("#password", "pw-new"),
		chromedp.Click("#login"), chromedp.WaitVisible("#addresses"))
	anne.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	var step begun
	anne.want(http.StatusUnauthorized, "POST", "register", object{"username": "bob", "password": "pw-bob"}, &step)
	do(ctx, t, chromedp.Navigate(s.http.URL+"/_matrix/client/v3/auth/m.login.msisdn/fallback/web?session="+step.Session), chromedp.WaitVisible("#address"),
		chromedp.SendKeys("#address", "bob"), chromedp.Click("#send"), chromedp.WaitVisible(`[role="alert"]`), chromedp.SendKeys("#address", "+44 7700 900002"), chromedp.Click("#send"), chromedp.WaitVisible("#code"))
	code = g.code()
	do(ctx, t, chromedp.SendKeys("#code", other(code)), chromedp.Click("#go"), chromedp.WaitVisible(`[role="alert"]`))
	browser.Shot(ctx, t, "number-fallback")
	do(ctx, t, chromedp.SendKeys("#code", code), chromedp.Click("#go"), chromedp.WaitVisible("#done"))
	anne.want(http.StatusUnauthorized, "POST", "register", object{"username": "bob", "password": "pw-bob", "auth": object{"session": step.Session}}, &step)
	if fmt.Sprint(step.Completed) != "[m.login.msisdn]" {
		t.Errorf("%+v", step)
	}
}

// TestFallbackBrowser: who makes an account passes all stages on pages, as for a client that knows none of them, which is told of each.
func TestFallbackBrowser(t *testing.T) {
	ctx := browser.Start(t, 3*time.Minute)
	s, box := newMailSite(t, "registration_needs_email: false", "registration_needs_email: true", "registration_needs_token: false", "registration_needs_token: true",
		"terms: []", `terms: [{id: privacy_policy, version: "1.0", language: en, title: Privacy policy, url: https://example.org/privacy}]`)
	if _, err := s.server.Accounts.Invite(t.Context(), "come-in", 1, time.Time{}); err != nil {
		t.Fatal(err)
	}
	c := &client{site: s}
	var step begun
	body := object{"username": "anne", "password": "pw-anne"}
	c.want(http.StatusUnauthorized, "POST", "register", body, &step)
	at := func(stage string) string {
		return s.http.URL + "/_matrix/client/v3/auth/" + stage + "/fallback/web?session=" + step.Session
	}
	do(ctx, t, chromedp.Navigate(at("m.login.registration_token")), chromedp.WaitVisible("#token"), chromedp.SendKeys("#token", "wrong"), chromedp.Click("#go"),
		chromedp.WaitVisible(`[role="alert"]`), chromedp.SendKeys("#token", "come-in"), chromedp.Click("#go"), chromedp.WaitVisible("#done"),
		chromedp.Navigate(at("m.login.terms")), chromedp.WaitVisible("#go"))
	browser.Shot(ctx, t, "fallback-terms")
	do(ctx, t, chromedp.Click("#go"), chromedp.WaitVisible("#done"),
		chromedp.Navigate(at("m.login.email.identity")), chromedp.WaitVisible("#address"), chromedp.SendKeys("#address", "anne@example.org"), chromedp.Click("#send"),
		chromedp.WaitVisible("#sent"), chromedp.Click("#go"), chromedp.WaitVisible(`[role="alert"]`))
	s.follow(box.Next(t))
	do(ctx, t, chromedp.Click("#go"), chromedp.WaitVisible("#done"))
	body["auth"] = object{"session": step.Session}
	out := c.do("POST", "register", body)
	c.token, _ = out["access_token"].(string)
	if got := c.contacts(); got != "[{email anne@example.org}]" {
		t.Error(got)
	}
	c.user = "@anne:orrery.test"
	c.want(http.StatusUnauthorized, "POST", "account/deactivate", object{}, &step)
	for path, status := range map[string]int{at("m.login.terms"): http.StatusNotFound, at("m.login.password") + "x": http.StatusNotFound} {
		get(t, status, path)
	}
	do(ctx, t, chromedp.Navigate(at("m.login.password")), chromedp.WaitVisible("#password"), chromedp.SendKeys("#password", "pw-bob"), chromedp.Click("#go"),
		chromedp.WaitVisible(`[role="alert"]`), chromedp.SendKeys("#password", "pw-anne"), chromedp.Click("#go"), chromedp.WaitVisible("#done"))
	c.do("POST", "account/deactivate", object{"auth": object{"session": step.Session}})
}
