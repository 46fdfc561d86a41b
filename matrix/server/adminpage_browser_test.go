package server_test

import (
	"context"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"orrery/internal/testenv"
	"orrery/internal/testenv/browser"
)

// hostile are texts that would do something in a page that does not escape them.
var hostile = []string{`<script>document.title="owned"</script>`, `"><img src=x onerror='document.title="owned"'>`, `'"</title></style><svg onload=document.title="owned">`, `{{.}} ${x} <b>`}

// populate makes a server that looks like one in use, where one user has hostile names.
func populate(t *testing.T, s *site, anne *client) {
	t.Helper()
	for n, name := range []string{"bruno", "chiara", "dmitri", "esther", "farid", "greta"} {
		c := s.register(name)
		c.do("PUT", "profile/"+url.PathEscape(c.user)+"/displayname", object{"displayname": strings.ToUpper(name[:1]) + name[1:]})
		room := c.create(object{"name": []string{"Choir", "Balcony gardens", "Night shift", "Boulder group", "Recipes", "Announcements"}[n], "preset": "public_chat", "visibility": []string{"public", "private"}[n%2]})
		anne.join(room)
		c.upload("image/png", "photo.png", picture(t, 100+n, 80, false))
	}
	anne.do("PUT", "profile/"+url.PathEscape(anne.user)+"/displayname", object{"displayname": hostile[0]})
	anne.do("PUT", "devices/"+anne.device, object{"display_name": hostile[1]})
	for n, text := range hostile {
		room := anne.create(object{"name": text, "topic": hostile[(n+1)%len(hostile)], "preset": "public_chat"})
		event := anne.send(room, "1", text)
		anne.do("POST", "rooms/"+url.PathEscape(room)+"/report/"+event, object{"reason": text})
	}
	anne.upload("image/png", url.QueryEscape(hostile[1]), picture(t, 60, 60, false))
	anne.upload("text/html", url.QueryEscape(hostile[0]), []byte(hostile[0]))
	if _, err := s.server.Accounts.Invite(t.Context(), "welcome", 3, time.Now().AddDate(0, 0, 7)); err != nil {
		t.Fatal(err)
	}
}

// look is how a page is looked at.
func look(ctx context.Context, t *testing.T, scheme string, width int) {
	t.Helper()
	do(ctx, t, chromedp.EmulateViewport(int64(width), 900), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}

func evaluate[T any](ctx context.Context, t *testing.T, expression string) T {
	t.Helper()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// unlabelled are things on a page that people who do not see it could not use: fields and buttons without names, no or several main headings.
const unlabelled = `(() => {
  const wrong = [];
  for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (!e.labels.length && !e.ariaLabel) wrong.push(e.outerHTML);
  for (const e of document.querySelectorAll("button, a")) if (!e.textContent.trim()) wrong.push(e.outerHTML);
  for (const s of ["h1", "main"]) if (document.querySelectorAll(s).length !== 1) wrong.push(s);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  wrong.push(...ids.filter((id, n) => ids.indexOf(id) !== n));
  return wrong.join(" ");
})()`

// TestAdminPageBrowser: an administrator logs in, looks at every page in light and dark, on a wide and a narrow screen, and acts, in a real browser, where users have
// hostile names.
func TestAdminPageBrowser(t *testing.T) {
	ctx := browser.Start(t, 5*time.Minute)
	cert, key := testenv.NewAuthority(t).Issue(t, "servers")
	s := newWebSite(t, federated("127.0.0.1:8448", "", cert, key)...)
	administered(t, s)
	anne := s.register("anne")
	populate(t, s, anne)
	guarded := "rooms/" + url.PathEscape(rival(anne))
	anne.do("PUT", guarded+"/state/m.room.server_acl", object{"allow": []string{"*", strings.Repeat("long", 30)}, "deny": append(hostile, "evil.test", "*.evil.test"), "allow_ip_literals": false})
	look(ctx, t, "light", 1280)
	do(ctx, t, chromedp.Navigate(s.http.URL+"/admin/users"), chromedp.WaitVisible("#login"))
	browser.Shot(ctx, t, "admin-login-light")
	do(ctx, t, chromedp.SendKeys("#name", "root"), chromedp.SendKeys("#password", "wrong"), chromedp.Click("#login"), chromedp.WaitVisible("#problem"),
		chromedp.SendKeys("#password", "pw-root"), chromedp.Click("#login"), chromedp.WaitVisible("#shown"))
	user := "users/" + url.PathEscape(anne.user)
	room := "rooms/" + url.PathEscape(anne.create(object{"name": hostile[1], "preset": "public_chat"}))
	for _, page := range [][2]string{
		{"overview", ""},
		{"users", "users"},
		{"user", user},
		{"rooms", "rooms"},
		{"room", room},
		{"media", "media"},
		{"uploads", "media?user=anne"},
		{"reports", "reports"},
		{"tokens", "tokens"},
		{"check", "check"},
		{"federation", "federation"},
		{"acl", guarded + "?server=x.EVIL.test%3A8448"},
		{"lock", user + "/lock"},
		{"purge", room + "/purge"},
		{"deactivate", user + "/deactivate"},
	} {
		for _, view := range []struct {
			scheme string
			width  int
		}{{"light", 1280}, {"dark", 1280}, {"light", 390}} {
			look(ctx, t, view.scheme, view.width)
			do(ctx, t, chromedp.Navigate(s.http.URL+"/admin/"+page[1]), chromedp.WaitVisible("h1"))
			browser.Shot(ctx, t, fmt.Sprintf("admin-%s-%s-%d", page[0], view.scheme, view.width))
			if title := evaluate[string](ctx, t, "document.title"); title == "owned" {
				t.Errorf("%s: a text was run", page[0])
			}
			if over := evaluate[int](ctx, t, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
				t.Errorf("%s is %d wider than a screen of %d", page[0], over, view.width)
			}
			if wrong := evaluate[string](ctx, t, unlabelled); wrong != "" {
				t.Errorf("%s: %s", page[0], wrong)
			}
		}
	}
	look(ctx, t, "light", 1280)
	do(ctx, t, chromedp.Navigate(s.http.URL+"/admin/federation"), chromedp.WaitVisible("#found"), chromedp.Click(`a[href="/admin/`+guarded+`#acl"]`), chromedp.WaitVisible("#server"),
		chromedp.SendKeys("#server", "good.test"), chromedp.Click("#try"), chromedp.WaitVisible("#tried .good"),
		chromedp.SetValue("#server", "[::1]:8448"), chromedp.Click("#try"), chromedp.WaitVisible("#tried .bad"))
	do(ctx, t, chromedp.Navigate(s.http.URL+"/admin/"+user+"/lock"), chromedp.WaitVisible("#says"), chromedp.Click("#do"), chromedp.WaitVisible("#said"))
	anne.refused(http.StatusUnauthorized, "M_USER_LOCKED", "GET", "account/whoami", nil)
	do(ctx, t, chromedp.Navigate(s.http.URL+"/admin/"+room+"/purge"), chromedp.WaitVisible("#says"), chromedp.Click("#do"), chromedp.WaitVisible("#live .good"))
	browser.Shot(ctx, t, "admin-deletions-light-1280")
	do(ctx, t, chromedp.Click("#logout"), chromedp.WaitVisible("#login"))
}

// TestAdminPageLive: the overview shows what happens while it is looked at, without being loaded again.
func TestAdminPageLive(t *testing.T) {
	ctx := browser.Start(t, 3*time.Minute)
	s := newWebSite(t)
	root := administered(t, s)
	do(ctx, t, chromedp.Navigate(s.http.URL+"/admin/"), chromedp.WaitVisible("#name"), chromedp.SendKeys("#name", "root"), chromedp.SendKeys("#password", "pw-root"), chromedp.Click("#login"),
		chromedp.WaitVisible("#live"))
	evaluate[bool](ctx, t, "window.same = true")
	room := root.create(object{"preset": "public_chat"})
	for n := range 20 {
		root.send(room, fmt.Sprint(n), "x")
	}
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](`document.querySelector(".line") !== null && document.querySelector(".figures").textContent.includes("Rooms1")`)); err != nil {
		t.Fatal(err)
	}
	if !evaluate[bool](ctx, t, "window.same") {
		t.Error("the page was loaded again")
	}
}

// TestAdminPageCrossSite: a page of another site sends a form of the admin page from the browser of an administrator, and nothing happens.
func TestAdminPageCrossSite(t *testing.T) {
	ctx := browser.Start(t, 2*time.Minute)
	s := newWebSite(t)
	administered(t, s)
	anne := s.register("anne")
	do(ctx, t, chromedp.Navigate(s.http.URL+"/admin/"), chromedp.WaitVisible("#name"), chromedp.SendKeys("#name", "root"), chromedp.SendKeys("#password", "pw-root"), chromedp.Click("#login"),
		chromedp.WaitVisible("#live"))
	target := s.http.URL + "/admin/users/" + url.PathEscape(anne.user) + "/lock"
	evil := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `<!doctype html><form method="post" action="%s"><button id="go">win</button></form>`, html.EscapeString(target))
	}))
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.2:0") // another site, not only another port
	if err != nil {
		t.Fatal(err)
	}
	_ = evil.Listener.Close()
	evil.Listener = l
	evil.Start()
	t.Cleanup(evil.Close)
	do(ctx, t, chromedp.Navigate(evil.URL), chromedp.WaitVisible("#go"), chromedp.Click("#go"))
	testenv.Eventually(t, "the form is sent", func() bool { return evaluate[string](ctx, t, "location.href") == target })
	if u, err := s.server.Accounts.User(t.Context(), anne.user); err != nil || u.Locked {
		t.Errorf("%+v %v", u, err)
	}
	do(ctx, t, chromedp.Navigate(s.http.URL+"/admin/"), chromedp.WaitVisible("#live")) // it is still logged in
}
