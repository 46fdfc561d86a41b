package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/internal/testenv/postbox"
	"orrery/matrix/contact"
)

// newMailSite makes a homeserver that knows where it is and has a server of mail, with lines of the configuration replaced.
func newMailSite(t *testing.T, settings ...string) (*site, *postbox.Box) {
	t.Helper()
	return newMailSiteOn(t, "memory", settings...)
}

func newMailSiteOn(t *testing.T, database string, settings ...string) (*site, *postbox.Box) {
	t.Helper()
	ca := testenv.NewAuthority(t)
	box := postbox.Start(t, postbox.Options{CA: ca, User: "chat", Password: "shh"})
	s := newWebSiteBefore(t, func(s *site) []string {
		return append(settings, "database: memory", "database: "+database, "mail:\n  server: \"\"", "mail:\n  server: "+box.Address,
			`user: ""`, "user: chat", `password_file: ""`, "password_file: secret", `from: ""`, "from: Chat <chat@orrery.test>", `ca_file: ""`, "ca_file: "+ca.File)
	})
	return s, box
}

var linkPattern = regexp.MustCompile(`http://\S+`)

// link is the link of a mail, its session and its token.
func link(t *testing.T, m postbox.Mail) (whole, session, token string) {
	t.Helper()
	whole = linkPattern.FindString(m.Text)
	u, err := url.Parse(whole)
	if err != nil || u.Query().Get("token") == "" {
		t.Fatalf("the mail has no link: %q", m.Text)
	}
	return whole, u.Query().Get("sid"), u.Query().Get("token")
}

// follow opens the link of a mail and says yes. It returns where the browser is sent to, and what it shows otherwise.
func (s *site) follow(m postbox.Mail) (to, shown string) {
	s.t.Helper()
	whole, session, token := link(s.t, m)
	if page := get(s.t, http.StatusOK, whole); !strings.Contains(page, `id="confirm"`) {
		s.t.Error(page)
	}
	return s.submit(session, token)
}

func get(t *testing.T, status int, address string) string {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s: %s %s %v", address, resp.Status, text, err)
	}
	return string(text)
}

func (s *site) submit(session, token string) (to, shown string) {
	s.t.Helper()
	q, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.http.URL+"/_matrix/client/v3/account/validate",
		strings.NewReader(url.Values{"sid": {session}, "token": {token}}.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	once := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := once.Do(q)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.Header.Get("Location"), string(text)
}

func wantMail(secret, email string, attempt int) object {
	return object{"client_secret": secret, "email": email, "send_attempt": attempt}
}

func (c *client) passwordAuth() object {
	name, _, _ := strings.Cut(c.user[1:], ":")
	return object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": c.user}, "password": "pw-" + name}
}

func (c *client) contacts() string {
	c.t.Helper()
	var out struct {
		Threepids []struct{ Medium, Address string }
	}
	c.want(http.StatusOK, "GET", "account/3pid", nil, &out)
	return fmt.Sprint(out.Threepids)
}

// addEmail adds anne@example.org to a user's account.
func (c *client) addEmail(box *postbox.Box) {
	c.t.Helper()
	sid := c.do("POST", "account/3pid/email/requestToken", wantMail("s", "anne@example.org", 1))["sid"]
	c.follow(box.Next(c.t))
	c.do("POST", "account/3pid/add", object{"client_secret": "s", "sid": sid, "auth": c.passwordAuth()})
}

// TestAddEmail: an address is added once its user has followed the link, by which they log in then; nobody else can have it, and it can be removed.
func TestAddEmail(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, box := newMailSiteOn(t, database(t))
			anne, bob := s.register("anne"), s.register("bob")
			if got := anne.contacts(); got != "[]" {
				t.Error(got)
			}
			if on := fmt.Sprint(anne.do("GET", "capabilities", nil)); !strings.Contains(on, "m.3pid_changes:map[enabled:true]") {
				t.Error(on)
			}
			sid := anne.do("POST", "account/3pid/email/requestToken", wantMail("secret", "Anne@Example.org", 1))["sid"]
			add := object{"client_secret": "secret", "sid": sid, "auth": anne.passwordAuth()}
			anne.refused(http.StatusBadRequest, "M_THREEPID_AUTH_FAILED", "POST", "account/3pid/add", add)
			m := box.Next(t)
			if m.To != "anne@example.org" || m.Header.Get("From") != `"Chat" <chat@orrery.test>` {
				t.Errorf("%+v", m)
			}
			if again := anne.do("POST", "account/3pid/email/requestToken", wantMail("secret", "anne@example.org", 1))["sid"]; again != sid || len(box.Mails) > 0 {
				t.Error("the same attempt sends another mail")
			}
			if to, shown := s.follow(m); to != "" || !strings.Contains(shown, "anne@example.org") {
				t.Error(to, shown)
			}
			anne.want(http.StatusUnauthorized, "POST", "account/3pid/add", object{"client_secret": "secret", "sid": sid}, nil)
			bob.refused(http.StatusBadRequest, "M_THREEPID_AUTH_FAILED", "POST", "account/3pid/add", object{"client_secret": "guess", "sid": sid, "auth": bob.passwordAuth()})
			anne.do("POST", "account/3pid/add", add)
			if got := anne.contacts(); got != "[{email anne@example.org}]" {
				t.Error(got)
			}
			anne.refused(http.StatusBadRequest, "M_THREEPID_AUTH_FAILED", "POST", "account/3pid/add", add) // it counts once
			for _, id := range []object{
				{"type": "m.id.thirdparty", "medium": "email", "address": "ANNE@example.org"}, {"medium": "email", "address": "anne@example.org"},
			} {
				if out := (&client{site: s}).do("POST", "login", object{"type": "m.login.password", "identifier": id, "password": "pw-anne"}); out["user_id"] != anne.user {
					t.Error(out)
				}
			}
			(&client{site: s}).refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", object{
				"type": "m.login.password", "identifier": object{"type": "m.id.thirdparty", "medium": "email", "address": "bob@example.org"}, "password": "pw-bob",
			})
			bob.refused(http.StatusBadRequest, "M_THREEPID_NOT_FOUND", "POST", "account/3pid/delete", object{"medium": "email", "address": "anne@example.org"})
			anne.do("POST", "account/3pid/delete", object{"medium": "email", "address": "anne@example.org"})
			bob.addEmail(box)
			if got := anne.contacts() + bob.contacts(); got != "[][{email anne@example.org}]" {
				t.Error(got)
			}
		})
	}
}

// TestAddressesAreHidden: nobody is told whether an address is somebody's but by a mail to it; unless the configuration says so.
func TestAddressesAreHidden(t *testing.T) {
	s, box := newMailSite(t)
	anne, bob, nobody := s.register("anne"), s.register("bob"), &client{site: s}
	anne.addEmail(box)
	for path, c := range map[string]struct{ email, text string }{
		"register/email/requestToken":         {"anne@example.org", "There is one already: " + anne.user},
		"account/3pid/email/requestToken":     {"anne@example.org", "belongs to the account " + anne.user},
		"account/password/email/requestToken": {"nobody@example.org", "No account there has this address"},
	} {
		sid := nobody.do("POST", path, wantMail("s2", c.email, 1))["sid"]
		m := box.Next(t)
		if sid == "" || !strings.Contains(m.Text, c.text) || linkPattern.MatchString(m.Text) || m.To != c.email {
			t.Errorf("%s: %v %q", path, sid, m.Text)
		}
		if again := nobody.do("POST", path, wantMail("s2", c.email, 1))["sid"]; again != sid || len(box.Mails) > 0 {
			t.Errorf("%s sends another mail for the same attempt", path)
		}
		s.submit(fmt.Sprint(sid), "")
		bob.refused(http.StatusBadRequest, "M_THREEPID_AUTH_FAILED", "POST", "account/3pid/add", object{"client_secret": "s2", "sid": sid, "auth": bob.passwordAuth()})
	}
	s, box = newMailSite(t, "reveal_addresses: false", "reveal_addresses: true")
	anne, nobody = s.register("anne"), &client{site: s}
	anne.addEmail(box)
	nobody.refused(http.StatusBadRequest, "M_THREEPID_IN_USE", "POST", "register/email/requestToken", wantMail("s2", "anne@example.org", 1))
	nobody.refused(http.StatusBadRequest, "M_THREEPID_IN_USE", "POST", "account/3pid/email/requestToken", wantMail("s2", "anne@example.org", 1))
	nobody.refused(http.StatusBadRequest, "M_THREEPID_NOT_FOUND", "POST", "account/password/email/requestToken", wantMail("s2", "nobody@example.org", 1))
	if len(box.Mails) > 0 {
		t.Error("a mail was sent")
	}
}

// TestResetPassword: who forgot their password gets a new one by a mail; the devices are logged out, unless they do not want that; the mail counts once.
func TestResetPassword(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, box := newMailSiteOn(t, database(t))
			anne, nobody := s.register("anne"), &client{site: s}
			anne.addEmail(box)
			reset := func(secret, password string, logout bool) object {
				sid := nobody.do("POST", "account/password/email/requestToken", wantMail(secret, "anne@example.org", 1))["sid"]
				body := object{"new_password": password, "logout_devices": logout, "auth": object{"type": "m.login.email.identity", "threepid_creds": object{"sid": sid, "client_secret": secret}}}
				nobody.refused(http.StatusUnauthorized, "M_THREEPID_AUTH_FAILED", "POST", "account/password", body)
				m := box.Next(t)
				if !strings.Contains(m.Text, anne.user) {
					t.Error(m.Text)
				}
				s.follow(m)
				nobody.do("POST", "account/password", body)
				return body
			}
			body := reset("one", "new", false)
			anne.do("GET", "account/whoami", nil)
			nobody.refused(http.StatusUnauthorized, "M_THREEPID_AUTH_FAILED", "POST", "account/password", body)
			reset("two", "newer", true)
			anne.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
			login := object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": "anne"}, "password": "new"}
			nobody.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", login)
			login["password"] = "newer"
			nobody.do("POST", "login", login)
			// What was validated for something else does not count.
			sid := nobody.do("POST", "account/3pid/email/requestToken", wantMail("three", "bob@example.org", 1))["sid"]
			s.follow(box.Next(t))
			nobody.refused(http.StatusUnauthorized, "M_THREEPID_AUTH_FAILED", "POST", "account/password", object{
				"new_password": "x", "auth": object{"type": "m.login.email.identity", "threepid_creds": object{"sid": sid, "client_secret": "three"}},
			})
			nobody.refused(http.StatusBadRequest, "M_MISSING_PARAM", "POST", "account/password", object{})
		})
	}
}

// TestRegisterEmail: whoever makes an account may give an address, or must.
func TestRegisterEmail(t *testing.T) {
	s, _ := newMailSite(t)
	c := &client{site: s}
	var step begun
	c.want(http.StatusUnauthorized, "POST", "register", object{"username": "anne", "password": "pw"}, &step)
	if fmt.Sprint(step.Flows) != "[{[m.login.email.identity]} {[m.login.dummy]}]" {
		t.Errorf("%+v", step)
	}
	s.register("bob")
	s, box := newMailSite(t, "registration_needs_email: false", "registration_needs_email: true", "terms: []",
		`terms: [{id: privacy_policy, version: "1.0", language: en, title: Privacy policy, url: https://example.org/privacy}]`)
	c = &client{site: s}
	c.want(http.StatusUnauthorized, "POST", "register", object{"username": "anne", "password": "pw"}, &step)
	if fmt.Sprint(step.Flows) != "[{[m.login.terms m.login.email.identity]}]" {
		t.Errorf("%+v", step)
	}
	sid := c.do("POST", "register/email/requestToken", wantMail("s", "anne@example.org", 1))["sid"]
	auth := object{"session": step.Session, "type": "m.login.email.identity", "threepid_creds": object{"sid": sid, "client_secret": "s"}}
	body := object{"username": "anne", "password": "pw", "auth": auth}
	c.refused(http.StatusUnauthorized, "M_THREEPID_AUTH_FAILED", "POST", "register", body)
	c.refused(http.StatusUnauthorized, "M_UNRECOGNIZED", "POST", "register", object{"username": "anne", "password": "pw", "auth": object{"session": step.Session, "type": "m.login.dummy"}})
	s.follow(box.Next(t))
	c.want(http.StatusUnauthorized, "POST", "register", body, &step)
	out := c.do("POST", "register", object{"username": "anne", "password": "pw", "auth": object{"session": step.Session, "type": "m.login.terms"}})
	c.token, _ = out["access_token"].(string)
	if got := c.contacts(); got != "[{email anne@example.org}]" {
		t.Error(got)
	}
	// The same mail makes no other account.
	other := &client{site: s}
	other.want(http.StatusUnauthorized, "POST", "register", object{"username": "bob", "password": "pw", "auth": object{"type": "m.login.terms"}}, &step)
	auth["session"] = step.Session
	other.refused(http.StatusUnauthorized, "M_THREEPID_AUTH_FAILED", "POST", "register", object{"username": "bob", "password": "pw", "auth": auth})
}

// TestTokens: tokens cannot be guessed, and next_link leads nobody astray.
func TestTokens(t *testing.T) {
	s, box := newMailSite(t, "sso_clients: []", "sso_clients: [https://app.example.org/]")
	c := &client{site: s}
	const path = "register/email/requestToken"
	ask := func(secret, next string) postbox.Mail {
		body := wantMail(secret, secret+"@example.org", 1)
		body["next_link"] = next
		c.do("POST", path, body)
		return box.Next(t)
	}
	m := ask("one", "https://elsewhere.example.com/x")
	_, session, token := link(t, m)
	for range contact.MaxTries {
		if _, shown := s.submit(session, "guess"); !strings.Contains(shown, "not the whole link") {
			t.Error(shown)
		}
	}
	if _, shown := s.submit(session, token); !strings.Contains(shown, "too often") {
		t.Error(shown)
	}
	if to, shown := s.follow(ask("two", "https://elsewhere.example.com/x")); to != "" || !strings.Contains(shown, "Go on to elsewhere.example.com") {
		t.Error(to, shown)
	}
	if to, _ := s.follow(ask("three", "https://app.example.org/done")); to != "https://app.example.org/done" {
		t.Error(to)
	}
	for _, bad := range []string{"javascript:alert(1)", "//example.org/", "data:text/html,x", "https://user@example.org/", "/x"} {
		body := wantMail("four", "four@example.org", 1)
		body["next_link"] = bad
		c.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", path, body)
	}
	for _, bad := range []object{
		wantMail("", "a@example.org", 1), wantMail("a b", "a@example.org", 1), wantMail("s", "a@example.org\r\nBcc: b@example.org", 1), wantMail("s", "", 1), wantMail("s", "a@example.org", 0),
	} {
		c.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", path, bad)
	}
	c.refused(http.StatusBadRequest, "M_MISSING_PARAM", "POST", path, object{"client_secret": "s", "email": "a@example.org"})
	box.Refuse("refused@example.org")
	c.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", path, wantMail("s", "refused@example.org", 1))
	if len(box.Mails) > 0 {
		t.Error("a mail was sent")
	}
}

// TestMailLimits: no address gets mails without end, nor is anybody let send them.
func TestMailLimits(t *testing.T) {
	s, box := newMailSite(t)
	s.stop()
	s.config.Limits.Mails.PerSecond, s.config.Limits.Mails.Burst = 0.0001, 2
	s.listener = nil
	s.start()
	c := &client{site: s}
	for n := range 2 {
		c.do("POST", "register/email/requestToken", wantMail(fmt.Sprint("s", n), "anne@example.org", 1))
		box.Next(t)
	}
	var out struct {
		Code  string `json:"errcode"`
		After int    `json:"retry_after_ms"`
	}
	c.want(http.StatusTooManyRequests, "POST", "register/email/requestToken", wantMail("s9", "anne@example.org", 1), &out)
	if out.Code != "M_LIMIT_EXCEEDED" || out.After == 0 || len(box.Mails) > 0 {
		t.Error(out)
	}
	c.do("POST", "register/email/requestToken", wantMail("s0", "anne@example.org", 1)) // sends nothing
}

// TestMailDown: a mail that cannot be sent is an error that says so, leaves nothing behind, and can be tried again; a server that was stopped meanwhile
// knows its links.
func TestMailDown(t *testing.T) {
	s, box := newMailSiteOn(t, "sqlite:homeserver.db")
	c := &client{site: s}
	address := s.config.Mail.Server
	restart := func(mail string) {
		s.stop()
		s.config.Mail.Server, s.listener = mail, nil
		s.start()
	}
	restart("localhost:1")
	c.refused(http.StatusBadGateway, "M_UNKNOWN", "POST", "register/email/requestToken", wantMail("s", "anne@example.org", 1))
	restart(address)
	sid := c.do("POST", "register/email/requestToken", wantMail("s", "anne@example.org", 1))["sid"]
	m := box.Next(t)
	restart(address)
	_, session, token := link(t, m)
	if _, shown := s.submit(session, token); !strings.Contains(shown, "Thank you") {
		t.Error(shown)
	}
	out := c.do("POST", "register", object{"username": "anne", "password": "pw", "auth": object{"type": "m.login.email.identity", "threepid_creds": object{"sid": sid, "client_secret": "s"}}})
	if out["user_id"] != "@anne:orrery.test" {
		t.Error(out)
	}
}

// TestMailSlow: a server of mail that says nothing does not keep a request for ever.
func TestMailSlow(t *testing.T) {
	t.Parallel()
	s, box := newMailSite(t)
	box.Hold(true)
	c := &client{site: s}
	c.refused(http.StatusBadGateway, "M_UNKNOWN", "POST", "register/email/requestToken", wantMail("s", "anne@example.org", 1))
	box.Hold(false)
	c.do("POST", "register/email/requestToken", wantMail("s", "anne@example.org", 1))
}

// TestAccountPagesAreBound: nobody is led to add somebody else's address, and no account is made on a page without an address where one is needed.
func TestAccountPagesAreBound(t *testing.T) {
	s, box := newMailSite(t, "oauth:\n  issuer: \"\"", issuerHere, "registration_needs_email: false", "registration_needs_email: true")
	post := func(jar http.CookieJar, path string, form url.Values) (int, string) {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.http.URL+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := (&http.Client{Jar: jar}).Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	for _, form := range []url.Values{
		{"name": {"eve"}, "password": {"x"}, "again": {"x"}}, {"name": {"eve"}, "password": {"x"}, "again": {"x"}, "address": {"eve@example.org"}, "secret": {"guess"}},
	} {
		if status, text := post(nil, "/account/register", form); status != http.StatusBadRequest {
			t.Error(status, text)
		}
	}
	for _, name := range []string{"anne", "bob"} {
		if _, err := s.server.Accounts.Create(t.Context(), name, "pw-"+name, false, false); err != nil {
			t.Fatal(err)
		}
	}
	jars := map[string]http.CookieJar{}
	for _, name := range []string{"anne", "bob"} {
		jars[name], _ = cookiejar.New(nil)
		if status, text := post(jars[name], "/account/login", url.Values{"name": {name}, "password": {"pw-" + name}}); status != http.StatusOK {
			t.Fatal(status, text)
		}
	}
	if status, text := post(jars["bob"], "/account/address", url.Values{"address": {"bob@example.org"}, "password": {"pw-anne"}}); status != http.StatusForbidden || len(box.Mails) > 0 {
		t.Error(status, text)
	}
	post(jars["bob"], "/account/address", url.Values{"address": {"bob@example.org"}, "password": {"pw-bob"}})
	to, _ := s.follow(box.Next(t))
	visit := func(name string) int {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Jar: jars[name]}).Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode
	}
	if status := visit("anne"); status != http.StatusBadRequest {
		t.Error("somebody was led to add another's address", status)
	}
	if status := visit("bob"); status != http.StatusOK {
		t.Error(status)
	}
	for name, want := range map[string]int{"anne": 0, "bob": 1} {
		if all, err := s.server.Accounts.Contacts(t.Context(), "@"+name+":orrery.test"); err != nil || len(all) != want {
			t.Error(name, all, err)
		}
	}
}

// TestAdminContacts: administrators see and set the addresses of accounts, also numbers of telephones, by which users log in then.
func TestAdminContacts(t *testing.T) {
	s := newSite(t, "memory")
	admin, anne := s.register("root"), s.register("anne")
	if err := s.server.Accounts.SetAdmin(t.Context(), admin.user, true); err != nil {
		t.Fatal(err)
	}
	path := "/_synapse/admin/v2/users/" + anne.user
	out := admin.do("PUT", path, object{"threepids": []object{{"medium": "email", "address": "Anne@example.org"}, {"medium": "msisdn", "address": "+447700900001"}}})
	if got := fmt.Sprint(out["threepids"]); !strings.Contains(got, "address:anne@example.org") || !strings.Contains(got, "address:447700900001") {
		t.Error(got)
	}
	for _, of := range []string{"email/users/anne@example.org", "msisdn/users/447700900001"} {
		if out := admin.do("GET", "/_synapse/admin/v1/threepid/"+of, nil); out["user_id"] != anne.user {
			t.Error(out)
		}
	}
	admin.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "/_synapse/admin/v1/threepid/email/users/bob@example.org", nil)
	admin.refused(http.StatusBadRequest, "M_THREEPID_IN_USE", "PUT", "/_synapse/admin/v2/users/"+admin.user, object{"threepids": []object{{"medium": "email", "address": "anne@example.org"}}})
	admin.refused(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", path, object{"threepids": []object{{"medium": "email", "address": "x"}}})
	anne.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", "/_synapse/admin/v1/threepid/email/users/anne@example.org", nil)
	login := func(id object, status int) {
		(&client{site: s}).want(status, "POST", "login", object{"type": "m.login.password", "identifier": id, "password": "pw-anne"}, nil)
	}
	login(object{"type": "m.id.phone", "country": "GB", "phone": "+44 7700 900001"}, http.StatusOK)
	login(object{"type": "m.id.phone", "country": "GB", "phone": "07700 900001"}, http.StatusOK)
	login(object{"type": "m.id.phone", "country": "FR", "phone": "07700 900001"}, http.StatusForbidden)
	login(object{"type": "m.id.thirdparty", "medium": "msisdn", "address": "447700900001"}, http.StatusOK)
	admin.do("PUT", path, object{"threepids": []object{{"medium": "email", "address": "anne@example.org"}}})
	if got := anne.contacts(); got != "[{email anne@example.org}]" {
		t.Error(got)
	}
	admin.do("POST", "/_synapse/admin/v1/deactivate/"+anne.user, object{})
	admin.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "/_synapse/admin/v1/threepid/email/users/anne@example.org", nil)
}
