package server_test

import (
	"context"
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
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
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
