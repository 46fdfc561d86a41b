package server_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"

	"orrery/internal/testenv/browser"
)

// seen looks at a page in light and dark on a narrow screen: nothing is wider than that, and all has a name.
func (s *site) seen(ctx context.Context, name string) {
	s.t.Helper()
	for _, scheme := range []string{"dark", "light"} {
		look(ctx, s.t, scheme, 360)
		browser.Shot(ctx, s.t, fmt.Sprintf("phone-%s-%s", name, scheme))
	}
	if over := evaluate[int](ctx, s.t, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
		s.t.Errorf("%s is %d wider than a telephone", name, over)
	}
	if wrong := evaluate[string](ctx, s.t, unlabelled); wrong != "" {
		s.t.Errorf("%s: %s", name, wrong)
	}
}

// press presses what a page has by a selector, wherever it is: a page may still move after its looks were changed.
func press(selector string) chromedp.Action[bool] {
	return chromedp.Evaluate[bool](fmt.Sprintf("document.querySelector(%q).click(), true", selector))
}

func tap(ctx context.Context, t *testing.T, selector string, then ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if _, err := chromedp.Run(ctx, press(selector)); err != nil {
		t.Fatalf("%s: %v", selector, err)
	}
	do(ctx, t, then...)
}

// TestOAuthPhone: on a telephone, in a real browser, somebody makes an account for an app, lets in a device that has shown a picture, and then the app, which is answered at an
// address that only the telephone knows what to do with.
func TestOAuthPhone(t *testing.T) {
	ctx := browser.Start(t, 3*time.Minute)
	s := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	p, verifier := s.discover(androidApp), oauth2.GenerateVerifier()
	ask := p.asks("io.element.android:/", "ABCDEFGHIJ", verifier, "consent", nil)
	do(ctx, t, chromedp.Navigate(ask), chromedp.WaitVisible("#login"))
	s.seen(ctx, "login")
	do(ctx, t, chromedp.SendKeys("#name", "anne"), chromedp.SendKeys("#password", "wrong"))
	tap(ctx, t, "#login", chromedp.WaitVisible("[role=alert]"))
	s.seen(ctx, "wrong")
	tap(ctx, t, "#register", chromedp.WaitVisible("#make"))
	s.seen(ctx, "register")
	do(ctx, t, chromedp.SendKeys("#name", "anne"), chromedp.SendKeys("#password", "pw-anne"), chromedp.SendKeys("#again", "pw-anne"))
	tap(ctx, t, "#make", chromedp.WaitVisible("#allow"))
	s.seen(ctx, "consent")

	key := "hf+4ZLb/1Hl4sxxYvGQX3xDgrxwcfFTB6nFFGPEXAaQ"
	_, link := p.posts(p.endpoint.DeviceAuthURL, url.Values{"client_id": {p.id}, "scope": {proposedAPI + " " + proposedDevice + key}}, linkShape)
	page, _ := link["verification_uri_complete"].(string)
	do(ctx, t, chromedp.Navigate(page), chromedp.WaitVisible("#allow"))
	s.seen(ctx, "device")
	tap(ctx, t, "#allow", chromedp.WaitVisible("#done"))
	s.seen(ctx, "done")
	do(ctx, t, chromedp.Navigate(s.http.URL+"/account/"), chromedp.WaitVisible("#devices"))
	s.seen(ctx, "account")
	do(ctx, t, chromedp.Navigate(s.http.URL+"/account/?action=org.matrix.cross_signing_reset"), chromedp.WaitVisible("#reset"))
	s.seen(ctx, "reset")

	do(ctx, t, chromedp.Navigate(ask), chromedp.WaitVisible("#allow"), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.Enable, network.EnableParams{})
		return err
	}))
	sent, err := chromedp.Run(ctx, chromedp.WaitEvent(network.RequestWillBeSent, func(e network.EventRequestWillBeSent) bool {
		return strings.HasPrefix(e.Request.URL, "io.element.android:/?")
	}, press("#allow")))
	if err != nil {
		t.Fatal(err)
	}
	back, err := url.Parse(sent.Request.URL)
	if err != nil {
		t.Fatal(err)
	}
	p.takes(url.Values{"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "code_verifier": {verifier}, "redirect_uri": {"io.element.android:/"}})
	p.do("GET", "account/whoami", nil)
}
