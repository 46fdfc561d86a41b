package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"orrery/internal/testenv/browser"
)

const loginPage = "/_matrix/static/client/login/"

// logged is who an app was told is logged in, on which device.
func (s *site) logged(answer map[string]any) (user, device string) {
	s.t.Helper()
	c := &client{site: s}
	c.token, _ = answer["access_token"].(string)
	out := c.do("GET", "account/whoami", nil)
	user, _ = out["user_id"].(string)
	device, _ = out["device_id"].(string)
	return user, device
}

// TestLoginPageBrowser: an app that knows no way to log in shows the server's page, which hands it the login: by a password, and by a provider.
func TestLoginPageBrowser(t *testing.T) {
	ctx := browser.Start(t, 3*time.Minute)
	issuer := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	issuer.register("anne")
	s := ssoSite(t, issuer)
	s.register("bob")
	// As apps do it, by a frame with an address of a scheme of their own. They put it in when the page is loaded.
	const bridge = `window.refused=[];addEventListener("securitypolicyviolation",e=>refused.push(e.violatedDirective+" "+e.blockedURI));
		window.matrixLogin.onLogin=r=>{window.told=r;const f=document.createElement("iframe");f.src="js:"+JSON.stringify({action:"onLogin"});document.documentElement.appendChild(f);f.remove()}`
	do(ctx, t, chromedp.Navigate(s.http.URL+loginPage+"?device_id=BOBSPHONE&initial_device_display_name=%3C%2Fscript%3E&password=x"), chromedp.WaitVisible("#known"))
	browser.Shot(ctx, t, "login-page")
	evaluate[any](ctx, t, bridge)
	do(ctx, t, chromedp.SendKeys("#name", "bob"), chromedp.SendKeys("#password", "wrong"), chromedp.Click("#go"), chromedp.WaitVisible("#problem"))
	evaluate[any](ctx, t, `document.getElementById("password").value=""`)
	do(ctx, t, chromedp.SendKeys("#password", "pw-bob"), chromedp.Click("#go"), chromedp.WaitVisible("#done"))
	if refused := evaluate[[]string](ctx, t, "refused"); len(refused) > 0 {
		t.Error(refused)
	}
	if user, device := s.logged(evaluate[object](ctx, t, "window.told")); user != "@bob:orrery.test" || device != "BOBSPHONE" {
		t.Error(user, device)
	}
	// By a provider; the app puts its function in after the login.
	do(ctx, t, chromedp.Navigate(s.http.URL+strings.TrimSuffix(loginPage, "/")+"?device_id=ANNESPHONE"), chromedp.WaitVisible("#with-work"), chromedp.Click("#with-work"),
		chromedp.WaitVisible("#login"), chromedp.SendKeys("#name", "anne"), chromedp.SendKeys("#password", "pw-anne"), chromedp.Click("#login"),
		chromedp.WaitVisible("button#allow"), chromedp.Click("button#allow"), chromedp.WaitVisible("a#allow"), chromedp.Click("a#allow"), chromedp.WaitVisible("#done"))
	evaluate[any](ctx, t, bridge)
	if user, device := s.logged(evaluate[object](ctx, t, "window.told")); user != "@anne:orrery.test" || device != "ANNESPHONE" {
		t.Error(user, device)
	}
	if at := evaluate[string](ctx, t, "location.search"); at != "?device_id=ANNESPHONE" {
		t.Error(at)
	}
	do(ctx, t, chromedp.Navigate(s.http.URL+loginPage+"?loginToken=guess"), chromedp.WaitVisible("#problem"), chromedp.WaitVisible("#known"))
}

// TestLoginPageWays: the page offers the ways that there are, and nobody else may show it in a frame.
func TestLoginPageWays(t *testing.T) {
	s := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere, "password_login: true", "password_login: false")
	page := get(t, http.StatusOK, s.http.URL+loginPage)
	if strings.Contains(page, `id="known"`) || !strings.Contains(page, "newer apps only") {
		t.Error(page)
	}
	get(t, http.StatusNotFound, s.http.URL+loginPage+"x")
}
