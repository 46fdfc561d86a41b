package server_test

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"orrery/internal/testenv"
)

// surfer is a browser without scripts.
type surfer struct {
	*site

	http *http.Client
	csrf string // of the page that was seen last
}

func (s *site) surfer() *surfer {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &surfer{site: s, http: &http.Client{Jar: jar}}
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// ask makes a request as a browser makes it, with fields of a header: name, value, and so on. It returns where it ended, and the page.
func (s *surfer) ask(method, path string, form url.Values, header ...string) (status int, at, text string) {
	s.t.Helper()
	q, err := http.NewRequestWithContext(s.t.Context(), method, s.site.http.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for n := 0; n+1 < len(header); n += 2 {
		q.Header.Set(header[n], header[n+1])
	}
	resp, err := s.http.Do(q)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if m := csrfField.FindSubmatch(body); m != nil {
		s.csrf = string(m[1])
	}
	return resp.StatusCode, resp.Request.URL.RequestURI(), string(body)
}

// get is a page that must be there.
func (s *surfer) get(path string) string {
	s.t.Helper()
	status, _, text := s.ask("GET", path, nil)
	if status != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, status, text)
	}
	return text
}

// post sends a form of the page that was seen last, which must be taken, and is the page after it.
func (s *surfer) post(path string, fields ...string) string {
	s.t.Helper()
	form := url.Values{"csrf": {s.csrf}}
	for n := 0; n+1 < len(fields); n += 2 {
		form.Set(fields[n], fields[n+1])
	}
	status, _, text := s.ask("POST", path, form)
	if status != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, status, text)
	}
	return text
}

func (s *surfer) logIn(name, password string) (int, string) {
	s.t.Helper()
	status, at, _ := s.ask("POST", "/admin/login", url.Values{"name": {name}, "password": {password}})
	return status, at
}

// says fails unless a page has a text.
func says(t *testing.T, page, text string) {
	t.Helper()
	if !strings.Contains(page, text) {
		t.Errorf("the page does not say %q:\n%s", text, page)
	}
}

// TestAdminPageLogin: administrators come in, nobody else, and only as long as they may.
func TestAdminPageLogin(t *testing.T) {
	s := newSite(t, "memory")
	root, anne := administered(t, s), s.register("anne")
	b := s.surfer()
	if _, at, _ := b.ask("GET", "/admin/users?q=x", nil); at != "/admin/login?next=%2Fadmin%2Fusers%3Fq%3Dx" {
		t.Error(at)
	}
	for _, wrong := range [][2]string{{"root", "no"}, {"anne", "pw-anne"}, {"nobody", "x"}, {"", ""}} {
		if status, _ := b.logIn(wrong[0], wrong[1]); status != http.StatusForbidden {
			t.Errorf("%q: %d", wrong, status)
		}
	}
	if status, _, _ := b.ask("POST", "/admin/login", url.Values{"token": {anne.token}}); status != http.StatusForbidden {
		t.Error(status)
	}
	for next, want := range map[string]string{"/admin/users?show=all": "/admin/users?show=all", "https://evil.example/": "/admin/", "//evil.example/admin/": "/admin/", "/account/": "/admin/"} {
		b = s.surfer()
		if status, at, _ := b.ask("POST", "/admin/login", url.Values{"name": {"Root"}, "password": {"pw-root"}, "next": {next}}); status != http.StatusOK || at != want {
			t.Errorf("%s: %d %s", next, status, at)
		}
	}
	cookies := b.http.Jar.Cookies(mustURL(t, s.http.URL+"/admin/"))
	if len(cookies) != 1 {
		t.Fatal(cookies)
	}
	if all := b.http.Jar.Cookies(mustURL(t, s.http.URL+"/")); len(all) != 0 {
		t.Error("the cookie goes along elsewhere")
	}
	byToken := s.surfer()
	if status, at, _ := byToken.ask("POST", "/admin/login", url.Values{"token": {root.token}}); status != http.StatusOK || at != "/admin/" {
		t.Error(status, at)
	}
	b.get("/admin/")
	if err := s.server.Accounts.SetPassword(t.Context(), root.user, "new"); err != nil {
		t.Fatal(err)
	}
	if _, at, _ := b.ask("GET", "/admin/", nil); !strings.HasPrefix(at, "/admin/login") {
		t.Error("a visit outlived its password:", at)
	}
	b.logIn("root", "new")
	b.get("/admin/")
	if err := s.server.Accounts.SetAdmin(t.Context(), root.user, false); err != nil {
		t.Fatal(err)
	}
	if _, at, _ := b.ask("GET", "/admin/users", nil); !strings.HasPrefix(at, "/admin/login") {
		t.Error("an ordinary user is in:", at)
	}
	if err := s.server.Accounts.SetAdmin(t.Context(), root.user, true); err != nil {
		t.Fatal(err)
	}
	b.logIn("root", "new")
	b.get("/admin/")
	b.post("/admin/logout")
	if _, at, _ := b.ask("GET", "/admin/", nil); !strings.HasPrefix(at, "/admin/login") {
		t.Error("somebody who logged out is in:", at)
	}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestAdminPageGuards: pages are in no frame and run no script but theirs; no other site sends their forms; tries of passwords are limited.
func TestAdminPageGuards(t *testing.T) {
	s := newSite(t, "memory")
	administered(t, s)
	anne := s.register("anne")
	b := s.surfer()
	b.logIn("root", "pw-root")
	resp, err := b.http.Get(s.http.URL + "/admin/users")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	policy := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'"} {
		says(t, policy, want)
	}
	if strings.Contains(policy, "unsafe") || resp.Header.Get("Access-Control-Allow-Origin") != "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Error(resp.Header)
	}
	b.get("/admin/")
	lock := "/admin/users/" + url.PathEscape(anne.user) + "/lock"
	for name, try := range map[string]func() int{
		"without the token of a visit": func() int { status, _, _ := b.ask("POST", lock, nil); return status },
		"with a wrong one":             func() int { status, _, _ := b.ask("POST", lock, url.Values{"csrf": {"x"}}); return status },
		"from another site": func() int {
			status, _, _ := b.ask("POST", lock, url.Values{"csrf": {b.csrf}}, "Sec-Fetch-Site", "cross-site")
			return status
		},
		"from another origin": func() int {
			status, _, _ := b.ask("POST", lock, url.Values{"csrf": {b.csrf}}, "Origin", "https://evil.example")
			return status
		},
	} {
		if status := try(); status != http.StatusForbidden {
			t.Errorf("%s: %d", name, status)
		}
	}
	if u, err := s.server.Accounts.User(t.Context(), anne.user); err != nil || u.Locked {
		t.Errorf("%+v %v", u, err)
	}
	if status, _, _ := s.surfer().ask("POST", lock, nil); status == http.StatusInternalServerError {
		t.Error(status)
	}
	b.post(lock)
	if u, err := s.server.Accounts.User(t.Context(), anne.user); err != nil || !u.Locked {
		t.Errorf("%+v %v", u, err)
	}
}

// TestAdminPageLimits: whoever tries passwords waits, and there are no pages where the configuration says so.
func TestAdminPageLimits(t *testing.T) {
	s := configured(t, "memory", "admin_page: true", "admin_page: true") // with its limits
	s.config.Limits.Logins.PerSecond, s.config.Limits.Logins.Burst = 0.001, 2
	s.start()
	t.Cleanup(s.stop)
	b := s.surfer()
	var got []int
	for range 3 {
		status, _ := b.logIn("root", "x")
		got = append(got, status)
	}
	if fmt.Sprint(got) != "[403 403 429]" {
		t.Error(got)
	}
	none := newSite(t, "memory", "admin_page: true", "admin_page: false")
	if status, _, _ := none.surfer().ask("GET", "/admin/", nil); status != http.StatusNotFound {
		t.Error(status)
	}
}

// TestAdminPageActions: what administrators do on pages is done, after it was shown what will happen.
func TestAdminPageActions(t *testing.T) {
	onTwo(t, func(t *testing.T, s *site) {
		t.Helper()
		root, anne, bob := administered(t, s), s.register("anne"), s.register("bob")
		b := s.surfer()
		b.logIn("root", "pw-root")
		says(t, b.get("/admin/"), "Registration</a>")
		of := func(c *client, action string) string { return "/admin/users/" + url.PathEscape(c.user) + "/" + action }
		do := func(path, shows string, fields ...string) string {
			t.Helper()
			says(t, b.get(path), shows)
			return b.post(path, fields...)
		}
		says(t, b.get("/admin/users?q=ann"), anne.user)
		says(t, do(of(anne, "suspend"), "nothing that others see"), "is suspended")
		anne.refused(http.StatusForbidden, "M_USER_SUSPENDED", "POST", "createRoom", object{})
		b.post(of(anne, "unsuspend"))
		room := anne.create(object{"name": "Lounge", "preset": "public_chat", "room_alias_name": "lounge"})
		anne.send(room, "1", "hello")
		do(of(anne, "lock"), "all that their devices can do is log out")
		anne.refused(http.StatusUnauthorized, "M_USER_LOCKED", "GET", "account/whoami", nil)
		b.post(of(anne, "unlock"))
		do(of(anne, "make-admin"), "can do all that these pages can")
		anne.do("GET", adminPath+"v2/users", nil)
		if status, _, text := b.ask("POST", of(anne, "lock"), url.Values{"csrf": {b.csrf}}); status != http.StatusForbidden {
			t.Errorf("an administrator is locked: %d %s", status, text)
		}
		do(of(anne, "remove-admin"), "ordinary user")
		if status, _, _ := b.ask("POST", of(root, "deactivate"), url.Values{"csrf": {b.csrf}}); status != http.StatusForbidden {
			t.Error("somebody ended their own account")
		}
		says(t, do(of(anne, "logout")+"?device="+anne.device, anne.device), "logged out")
		anne.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
		says(t, do(of(anne, "password"), "another password", "password", "second"), "was changed")
		(&client{site: s}).do("POST", "login", object{"type": "m.login.password", "user": "anne", "password": "second"})
		made := regexp.MustCompile(`is ([A-Z0-9]{20,})`).FindStringSubmatch(do(of(anne, "password"), "another password", "logout", "on"))
		if made == nil {
			t.Fatal("no password was made")
		}
		again := &client{site: s, user: anne.user}
		again.token, _ = again.do("POST", "login", object{"type": "m.login.password", "user": "anne", "password": made[1]})["access_token"].(string)
		do(of(root, "password"), "another password", "password", "third")
		b.get("/admin/") // one's own new password does not log one out

		path := "/admin/rooms/" + url.PathEscape(room)
		says(t, b.get("/admin/rooms?q=loun"), "Lounge")
		for _, text := range []string{"#lounge:orrery.test", anne.user, "m.room.create", "creator"} {
			says(t, b.get(path), text)
		}
		do(path+"/block", "Nobody joins Lounge any more")
		bob.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "join/"+url.PathEscape(room), object{})
		b.post(path + "/unblock")
		bob.join(room)
		do(path+"/make-admin", "as much power", "user", "bob")
		bob.do("PUT", "rooms/"+url.PathEscape(room)+"/state/m.room.topic", object{"topic": "mine"})
		bob.do("POST", "rooms/"+url.PathEscape(room)+"/report", object{"reason": "is loud"})
		says(t, b.get("/admin/reports"), "is loud")
		id := regexp.MustCompile(`/admin/reports/\d+/resolve`).FindString(b.get("/admin/reports?show=room"))
		says(t, b.post(id), "There are no reports")
		do(path+"/shutdown", "2 users of this server must leave Lounge", "block", "on")
		testenv.Eventually(t, "the room is shut down", func() bool { return strings.Contains(b.get("/admin/deletions"), ">done<") })
		do(path+"/purge", "This cannot be taken back")
		testenv.Eventually(t, "the room is deleted", func() bool { return strings.Count(b.get("/admin/deletions"), ">done<") == 2 })
		if status, _, _ := b.ask("GET", path, nil); status != http.StatusNotFound {
			t.Error(status)
		}

		upload := strings.TrimPrefix(again.upload("image/png", "cat.png", picture(t, 200, 100, false)), "orrery.test/")
		text := strings.TrimPrefix(again.upload("text/html", "x.html", []byte("<script>alert(1)</script>")), "orrery.test/")
		for _, page := range []string{"/admin/media", "/admin/users/" + url.PathEscape(anne.user)} {
			to := html.UnescapeString(regexp.MustCompile(`/admin/media\?user=[^"]+`).FindString(b.get(page)))
			says(t, b.get(to), "<h1>Uploads of "+anne.user+"</h1>")
		}
		list := b.get("/admin/media?user=" + url.QueryEscape(anne.user))
		says(t, list, "cat.png")
		says(t, list, "/admin/media/"+upload+"/picture")
		if status, _, page := b.ask("GET", "/admin/media/"+upload+"/picture", nil); status != http.StatusOK || http.DetectContentType([]byte(page)) != "image/png" {
			t.Error(status)
		}
		if status, _, _ := b.ask("GET", "/admin/media/"+text+"/picture", nil); status != http.StatusNotFound {
			t.Error("what is no picture is served")
		}
		b.get("/admin/media?user=anne")
		b.post("/admin/media/" + upload + "/quarantine")
		again.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "/_matrix/client/v1/media/download/orrery.test/"+upload, nil)
		b.post("/admin/media/" + upload + "/release")
		do("/admin/media/"+upload+"/delete", "cat.png")
		again.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "/_matrix/client/v1/media/download/orrery.test/"+upload, nil)
		if status, _, _ := b.ask("GET", "/admin/media-purge?days=0", nil); status != http.StatusBadRequest {
			t.Error("all uploads would be removed")
		}
		says(t, do("/admin/media-purge?days=0&user=anne", "1 upload of "+anne.user), "1 upload of")

		says(t, b.get("/admin/tokens"), "There are none")
		says(t, b.post("/admin/tokens/make", "token", "welcome", "uses", "2", "days", "1"), "The token is welcome")
		if status, _, _ := b.ask("POST", "/admin/tokens/make", url.Values{"csrf": {b.csrf}, "token": {"a b"}}); status != http.StatusBadRequest {
			t.Error(status)
		}
		b.get("/admin/tokens")
		says(t, do("/admin/tokens/welcome/delete", "welcome"), "There are none")

		says(t, do(of(anne, "deactivate"), "its name stays taken", "erase", "on", "media", "on"), "was deactivated")
		says(t, b.get("/admin/users?show=deactivated"), ">erased<")
		says(t, b.get("/admin/check"), "database")
	})
}
