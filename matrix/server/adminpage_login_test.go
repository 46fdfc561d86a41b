package server_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"orrery/internal/testenv"
	"orrery/internal/testenv/browser"
)

// clock is one that tests put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// governed is a server whose administrators log in elsewhere, at an issuer of another site by its name, and the clock of both. @anne and @boss are administrators of it, as
// which people of these names at the issuer log in.
func governed(t *testing.T) (s, issuer *site, c *clock) {
	t.Helper()
	c = &clock{}
	issuer = newWebSiteBefore(t, func(s *site) []string {
		s.now = c.now
		return []string{"base_url: http://127.0.0.1", "base_url: http://localhost", "oauth:\n  issuer: \"\"", issuerHere}
	})
	s = ssoSite(t, issuer)
	for _, name := range []string{"anne", "boss", "bob"} {
		issuer.register(name)
		s.came(issuer, name)
	}
	for _, name := range []string{"anne", "boss"} {
		if err := s.server.Accounts.SetAdmin(t.Context(), "@"+name+":orrery.test", true); err != nil {
			t.Fatal(err)
		}
	}
	return s, issuer, c
}

// came has somebody log in who has an account at the issuer, so that they have one here.
func (s *site) came(issuer *site, name string) {
	s.t.Helper()
	b := s.browser()
	_, page := b.get("/_matrix/client/v3/login/sso/redirect/work?redirectUrl=https%3A%2F%2Fapp.example%2Fweb")
	b.provided(issuer, name, page)
	if loginToken.FindStringSubmatch(b.away) == nil {
		s.t.Fatal(b.away)
	}
}

// visitor is somebody in a browser without scripts who goes to the admin page by way of the issuer.
type visitor struct {
	*browse

	issuer *site
}

var nextLink = regexp.MustCompile(`id="go" href="([^"]+)"`)

// enter follows the link to the first provider from a page of the admin page, logs in there as somebody, and is the page that comes of it.
func (v *visitor) enter(name, next string) string {
	v.t.Helper()
	_, page := v.get("/admin/provider/0?next=" + url.QueryEscape(next))
	if !strings.Contains(page, "Log in to orrery.test") && !strings.Contains(page, "know your name and nothing else") {
		return page
	}
	return v.provided(v.issuer, name, page)
}

// TestAdminPageByProvider: administrators come in by a provider, and prove there again who they are after ten minutes; nobody else does, nor for them.
func TestAdminPageByProvider(t *testing.T) {
	s, issuer, clock := governed(t)
	v := &visitor{s.browser(), issuer}
	if _, page := v.get("/admin/users"); !strings.Contains(page, "Log in with Work") || !strings.Contains(page, "Log in with Home") {
		t.Fatal(page)
	}
	if status, page := v.get("/admin/provider/2"); status != http.StatusNotFound {
		t.Error(status, page)
	}
	if status, page := v.get("/admin/provided?state=x&loginToken=y"); status != http.StatusBadRequest || !strings.Contains(page, "not begun in this browser") {
		t.Error(status, page)
	}
	if page := (&visitor{s.browser(), issuer}).enter("bob", "/admin/"); !strings.Contains(page, "or this is no administrator") {
		t.Error(page) // who is none
	}
	page := v.enter("anne", "/admin/users?q=bob")
	if m := nextLink.FindStringSubmatch(page); m == nil || m[1] != "/admin/users?q=bob" {
		t.Fatal(page)
	}
	if _, page := v.get("/admin/users?q=bob"); !strings.Contains(page, "@bob:orrery.test") {
		t.Error(page)
	}
	lock := "/admin/users/" + url.PathEscape("@bob:orrery.test") + "/lock"
	send := func() (int, string) {
		_, page := v.get(lock)
		m := csrfField.FindStringSubmatch(page)
		if m == nil {
			t.Fatal(page)
		}
		return v.post(lock, url.Values{"csrf": {m[1]}})
	}
	locked := func() bool {
		u, err := s.server.Accounts.User(t.Context(), "@bob:orrery.test")
		if err != nil {
			t.Fatal(err)
		}
		return u.Locked
	}
	_, form := v.get(lock) // which is sent too late
	clock.forward(10*time.Minute + time.Second)
	for _, ask := range []func() (int, string){
		func() (int, string) { return v.get(lock) },
		func() (int, string) { return v.post(lock, url.Values{"csrf": {csrfField.FindStringSubmatch(form)[1]}}) },
	} {
		if _, page := ask(); !strings.Contains(page, "Prove that you are @anne:orrery.test") {
			t.Error(page)
		}
	}
	if locked() {
		t.Error("it was done without a proof")
	}
	if _, page := v.get("/admin/users"); !strings.Contains(page, "@bob:orrery.test") {
		t.Error("what only shows something needs a proof:", page)
	}
	if _, page := v.get("/admin/provider/0?next=" + url.QueryEscape(lock)); !strings.Contains(page, "Log in to orrery.test") {
		t.Error("whom the provider knows need not log in there again:", page)
	}
	if page := v.enter("boss", lock); !strings.Contains(page, "log out first") {
		t.Error("another administrator proves it:", page)
	}
	if _, page := v.get(lock); !strings.Contains(page, "Prove that you are") {
		t.Error(page)
	}
	if page := v.enter("anne", lock); nextLink.FindStringSubmatch(page) == nil || nextLink.FindStringSubmatch(page)[1] != lock {
		t.Error(page)
	}
	if status, page := send(); status != http.StatusOK || !locked() {
		t.Error(status, page)
	}
	clock.forward(time.Hour + time.Second)
	if _, page := v.get("/admin/users"); !strings.Contains(page, "Log in with Work") {
		t.Error("a visit does not end:", page)
	}
}

// TestAdminPageProof: with a password, too, who they are counts for ten minutes, a visit for an hour without a request and for twelve hours at most.
func TestAdminPageProof(t *testing.T) {
	clock := &clock{}
	s := configured(t, "memory")
	s.now = clock.now
	s.start()
	t.Cleanup(s.stop)
	administered(t, s)
	anne := s.register("anne")
	b := s.surfer()
	b.logIn("root", "pw-root")
	path := "/admin/users/" + url.PathEscape(anne.user)
	clock.forward(9 * time.Minute)
	says(t, b.get(path+"/lock"), "all that their devices can do is log out")
	clock.forward(2 * time.Minute)
	_, at, _ := b.ask("POST", path+"/lock", url.Values{"csrf": {b.csrf}})
	if want := "/admin/login?next=" + url.QueryEscape(path+"/lock"); at != want {
		t.Errorf("%s, not %s", at, want)
	}
	if status, _, _ := b.ask("POST", "/admin/login", url.Values{"password": {"wrong"}, "next": {path + "/lock"}}); status != http.StatusForbidden {
		t.Error(status)
	}
	if _, at, _ := b.ask("GET", path+"/lock", nil); !strings.HasPrefix(at, "/admin/login") {
		t.Error("a wrong password is a proof:", at)
	}
	if _, at, page := b.ask("POST", "/admin/login", url.Values{"password": {"pw-root"}, "next": {path + "/lock"}}); at != path+"/lock" {
		t.Error(at, page)
	}
	b.post(path + "/lock")
	anne.refused(http.StatusUnauthorized, "M_USER_LOCKED", "GET", "account/whoami", nil)
	for range 13 { // one request in less than an hour
		clock.forward(55 * time.Minute)
		if _, at, _ = b.ask("GET", "/admin/users", nil); at != "/admin/users" {
			break
		}
	}
	if !strings.HasPrefix(at, "/admin/login") {
		t.Error("a visit lasts longer than twelve hours:", at)
	}
}

// TestAdminPageProviderBrowser: the same in a real browser, which sends cookies to whom they are for: the issuer is another site.
func TestAdminPageProviderBrowser(t *testing.T) {
	ctx := browser.Start(t, 3*time.Minute)
	s, _, clock := governed(t)
	bob := s.http.URL + "/admin/users/" + url.PathEscape("@bob:orrery.test")
	provider := chromedp.Click(`a[href^="/admin/provider/0"]`)
	do(ctx, t, chromedp.Navigate(bob), chromedp.WaitVisible("#name"), provider, chromedp.WaitVisible("#register"), chromedp.SendKeys("#name", "anne"),
		chromedp.SendKeys("#password", "pw-anne"), chromedp.Click("#login"), chromedp.WaitVisible("#allow"), chromedp.Click("#allow"), chromedp.WaitVisible("#addresses"))
	clock.forward(11 * time.Minute)
	do(ctx, t, chromedp.Navigate(bob+"/lock"), provider, chromedp.WaitVisible("#register"), chromedp.SendKeys("#name", "anne"), chromedp.SendKeys("#password", "pw-anne"), chromedp.Click("#login"),
		chromedp.WaitVisible("#allow"), chromedp.Click("#allow"), chromedp.WaitVisible("#says"), chromedp.Click("#do"), chromedp.WaitVisible("#said"))
	testenv.Eventually(t, "the account is locked", func() bool {
		u, err := s.server.Accounts.User(t.Context(), "@bob:orrery.test")
		return err == nil && u.Locked
	})
}

// TestAdminPageAddresses: an administrator adds addresses to an account, is told what is none or somebody's, and removes one, in a real browser.
func TestAdminPageAddresses(t *testing.T) {
	ctx := browser.Start(t, 3*time.Minute)
	s := newWebSite(t)
	administered(t, s)
	anne := s.register("anne")
	s.register("bob")
	page := s.http.URL + "/admin/users/" + url.PathEscape(anne.user)
	do(ctx, t, chromedp.Navigate(page), chromedp.WaitVisible("#name"), chromedp.SendKeys("#name", "root"), chromedp.SendKeys("#password", "pw-root"), chromedp.Click("#login"), chromedp.WaitVisible("#add-address"))
	add := func(page, address, then string) {
		t.Helper()
		do(ctx, t, chromedp.Navigate(page), chromedp.WaitVisible("#add-address"), chromedp.Click("#add-address"), chromedp.WaitVisible("#says"), chromedp.SendKeys("#f-address", address), chromedp.Click("#do"), chromedp.WaitVisible(then))
	}
	add(page, "Anne@Example.org", "#said")
	add(page, "+44 7700 900001", "#said")
	add(page, hostile[0], `[role="alert"]`)
	add(s.http.URL+"/admin/users/"+url.PathEscape("@bob:orrery.test"), "anne@example.org", `[role="alert"]`)
	if text := evaluate[string](ctx, t, `document.querySelector("main").textContent`); !strings.Contains(text, "in an account already") {
		t.Error(text)
	}
	if got := anne.contacts(); got != "[{email anne@example.org} {msisdn 447700900001}]" {
		t.Error(got)
	}
	look(ctx, t, "light", 390)
	do(ctx, t, chromedp.Navigate(page), chromedp.WaitVisible("#addresses"))
	browser.Shot(ctx, t, "admin-addresses-light-390")
	look(ctx, t, "dark", 1280)
	do(ctx, t, chromedp.Navigate(page), chromedp.WaitVisible("#addresses"))
	browser.Shot(ctx, t, "admin-addresses-dark-1280")
	if wrong := evaluate[string](ctx, t, unlabelled); wrong != "" {
		t.Error(wrong)
	}
	do(ctx, t, chromedp.Click(`a[href*="remove-address?medium=email"]`), chromedp.WaitVisible("#says"))
	if text := evaluate[string](ctx, t, `document.querySelector("#says").textContent`); !strings.Contains(text, "anne@example.org is no address of "+anne.user) {
		t.Error(text)
	}
	browser.Shot(ctx, t, "admin-addresses-remove")
	do(ctx, t, chromedp.Click("#do"), chromedp.WaitVisible("#said"))
	if got := anne.contacts(); got != "[{msisdn 447700900001}]" {
		t.Error(got)
	}
	b := s.surfer()
	b.logIn("root", "pw-root")
	gone := "/admin/users/" + url.PathEscape(anne.user) + "/remove-address?medium=email&address=anne%40example.org"
	if status, _, text := b.ask("GET", gone, nil); status != http.StatusNotFound {
		t.Error(status, text)
	}
}
