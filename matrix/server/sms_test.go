package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"orrery/matrix/contact"
	"orrery/matrix/rate"
)

// text is a message as a gateway gets it.
type text struct{ To, Text, Authorization, Type string }

// textGateway is a small provider of messages to telephones: what it was told, and what it answers.
type textGateway struct {
	t     *testing.T
	http  *httptest.Server
	texts chan text

	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request) // instead of taking a message; nil: it takes it
}

func newTextGateway(t *testing.T) *textGateway {
	t.Helper()
	g := &textGateway{t: t, texts: make(chan text, 100)}
	g.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		answer := g.answer
		g.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		if r.Method != http.MethodPost || r.URL.Path != "/messages" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		m := text{Authorization: r.Header.Get("Authorization"), Type: r.Header.Get("Content-Type")}
		if m.Type == "application/json" {
			body, _ := io.ReadAll(r.Body)
			if err := json.Unmarshal(body, &m); err != nil {
				t.Error(err)
			}
		} else {
			m.To, m.Text = r.PostFormValue("to"), r.PostFormValue("text")
		}
		g.texts <- m
		_, _ = io.WriteString(w, `{"status":"queued"}`)
	}))
	t.Cleanup(g.http.Close)
	return g
}

// answers has it answer something else; nil has it take messages again.
func (g *textGateway) answers(f func(w http.ResponseWriter, r *http.Request)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = f
}

// next is the next message.
func (g *textGateway) next() text {
	g.t.Helper()
	select {
	case m := <-g.texts:
		return m
	case <-time.After(time.Minute):
		g.t.Fatal("no message was sent")
	}
	return text{}
}

var codePattern = regexp.MustCompile(`^\d{6} is your code`)

// code is the code of the next message.
func (g *textGateway) code() string {
	g.t.Helper()
	m := g.next()
	if !codePattern.MatchString(m.Text) {
		g.t.Fatalf("the message has no code: %q", m.Text)
	}
	return m.Text[:6]
}

// settings are those of a homeserver that has the gateway.
func (g *textGateway) settings(more ...string) []string {
	return append(more, `gateway: ""`, "gateway: "+g.http.URL+"/messages", "\n  secret_file: \"\"", "\n  secret_file: secret", "headers: {}", `headers: {Authorization: "Bearer {secret}"}`)
}

// newTextSite makes a homeserver that knows where it is and has a gateway for messages, with lines of the configuration replaced.
func newTextSite(t *testing.T, settings ...string) (*site, *textGateway) {
	t.Helper()
	return newTextSiteOn(t, "memory", settings...)
}

func newTextSiteOn(t *testing.T, database string, settings ...string) (*site, *textGateway) {
	t.Helper()
	g := newTextGateway(t)
	return newWebSite(t, g.settings(append(settings, "database: memory", "database: "+database)...)...), g
}

func wantCode(secret, number string, attempt int) object {
	return object{"client_secret": secret, "country": "GB", "phone_number": number, "send_attempt": attempt}
}

// ask asks for a code, and is the session and where to give it.
func (c *client) ask(path string, body object) (sid string, submit string) {
	c.t.Helper()
	out := c.do("POST", path+"/msisdn/requestToken", body)
	sid, _ = out["sid"].(string)
	at, err := url.Parse(fmt.Sprint(out["submit_url"]))
	if err != nil || sid == "" || !strings.HasPrefix(at.String(), strings.TrimSuffix(c.config.BaseURL, "/")+"/") {
		c.t.Fatalf("%v %v", out, err)
	}
	return sid, at.Path
}

// give gives a code.
func (c *client) give(submit, sid, secret, code string) {
	c.t.Helper()
	if out := c.do("POST", submit, object{"sid": sid, "client_secret": secret, "token": code}); out["success"] != true {
		c.t.Error(out)
	}
}

// other is a code that is not the right one.
func other(code string) string {
	if code == "000000" {
		return "000001"
	}
	return "000000"
}

// addNumber adds +44 7700 900001 to a user's account.
func (c *client) addNumber(g *textGateway) {
	c.t.Helper()
	sid, submit := c.ask("account/3pid", wantCode("s", "07700 900001", 1))
	c.give(submit, sid, "s", g.code())
	c.do("POST", "account/3pid/add", object{"client_secret": "s", "sid": sid, "auth": c.passwordAuth()})
}

func (s *site) logInBy(id object, user string) {
	s.t.Helper()
	name, _, _ := strings.Cut(user[1:], ":")
	if out := (&client{site: s}).do("POST", "login", object{"type": "m.login.password", "identifier": id, "password": "pw-" + name}); out["user_id"] != user {
		s.t.Error(out)
	}
}

// TestAddNumber: a number is added once its user has given the code of a message, by which they log in then, however they write it; nobody else can have it,
// and it can be removed.
func TestAddNumber(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, g := newTextSiteOn(t, database(t))
			anne, bob := s.register("anne"), s.register("bob")
			if on := fmt.Sprint(anne.do("GET", "capabilities", nil)); !strings.Contains(on, "m.3pid_changes:map[enabled:true]") {
				t.Error(on)
			}
			sid, submit := anne.ask("account/3pid", wantCode("secret", "07700 900001", 1))
			m := g.next()
			if m.To != "+447700900001" || m.Authorization != "Bearer shh" || m.Type != "application/json" || !codePattern.MatchString(m.Text) {
				t.Errorf("%+v", m)
			}
			code := m.Text[:6]
			if again, _ := anne.ask("account/3pid", wantCode("secret", "+44 (0)7700 900-001", 1)); again != sid || len(g.texts) > 0 {
				t.Error("the same attempt sends another message")
			}
			add := object{"client_secret": "secret", "sid": sid, "auth": anne.passwordAuth()}
			anne.refused(http.StatusBadRequest, "M_THREEPID_AUTH_FAILED", "POST", "account/3pid/add", add)
			wrong := object{"sid": sid, "client_secret": "secret", "token": other(code)}
			anne.refused(http.StatusBadRequest, "M_TOKEN_INCORRECT", "POST", submit, wrong)
			anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", submit, object{"sid": sid, "client_secret": "guess", "token": code})
			anne.give(submit, sid, "secret", code[:3]+" "+code[3:])
			anne.want(http.StatusUnauthorized, "POST", "account/3pid/add", object{"client_secret": "secret", "sid": sid}, nil)
			bob.refused(http.StatusBadRequest, "M_THREEPID_AUTH_FAILED", "POST", "account/3pid/add", object{"client_secret": "guess", "sid": sid, "auth": bob.passwordAuth()})
			anne.do("POST", "account/3pid/add", add)
			if got := anne.contacts(); got != "[{msisdn 447700900001}]" {
				t.Error(got)
			}
			anne.refused(http.StatusBadRequest, "M_THREEPID_AUTH_FAILED", "POST", "account/3pid/add", add) // it counts once
			anne.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", submit, object{"sid": sid, "client_secret": "secret", "token": code})
			for _, id := range []object{
				{"type": "m.id.phone", "country": "GB", "phone": "07700 900001"},
				{"type": "m.id.phone", "country": "DE", "phone": "0044 7700 900001"},
				{"type": "m.id.phone", "country": "GB", "number": "7700900001"},
				{"type": "m.id.phone", "phone": "+44 7700 900001"},
				{"type": "m.id.thirdparty", "medium": "msisdn", "address": "447700900001"},
			} {
				s.logInBy(id, anne.user)
			}
			(&client{site: s}).refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", object{
				"type": "m.login.password", "identifier": object{"type": "m.id.phone", "country": "DE", "phone": "07700 900001"}, "password": "pw-anne",
			})
			anne.do("POST", "account/3pid/delete", object{"medium": "msisdn", "address": "447700900001"})
			bob.addNumber(g)
			if got := anne.contacts() + bob.contacts(); got != "[][{msisdn 447700900001}]" {
				t.Error(got)
			}
		})
	}
}

// TestNumbersAreHidden: nobody is told whether a number is somebody's but by a message to it; unless the configuration says so.
func TestNumbersAreHidden(t *testing.T) {
	s, g := newTextSite(t)
	anne, bob, nobody := s.register("anne"), s.register("bob"), &client{site: s}
	anne.addNumber(g)
	for path, c := range map[string]struct{ number, text string }{
		"register": {"07700 900001", "It is in the account " + anne.user}, "account/3pid": {"07700 900001", "It is in the account " + anne.user}, "account/password": {"07700 900002", "No account there has it"},
	} {
		sid, submit := nobody.ask(path, wantCode("s2", c.number, 1))
		m := g.next()
		if !strings.Contains(m.Text, c.text) || codePattern.MatchString(m.Text) {
			t.Errorf("%s: %q", path, m.Text)
		}
		if nobody.ask(path, wantCode("s2", c.number, 1)); len(g.texts) > 0 {
			t.Errorf("%s sends another message for the same attempt", path)
		}
		nobody.refused(http.StatusBadRequest, "M_TOKEN_INCORRECT", "POST", submit, object{"sid": sid, "client_secret": "s2", "token": "000000"})
		bob.refused(http.StatusBadRequest, "M_THREEPID_AUTH_FAILED", "POST", "account/3pid/add", object{"client_secret": "s2", "sid": sid, "auth": bob.passwordAuth()})
	}
	s, g = newTextSite(t, "reveal_addresses: false", "reveal_addresses: true")
	anne, nobody = s.register("anne"), &client{site: s}
	anne.addNumber(g)
	nobody.refused(http.StatusBadRequest, "M_THREEPID_IN_USE", "POST", "register/msisdn/requestToken", wantCode("s2", "07700 900001", 1))
	nobody.refused(http.StatusBadRequest, "M_THREEPID_IN_USE", "POST", "account/3pid/msisdn/requestToken", wantCode("s2", "07700 900001", 1))
	nobody.refused(http.StatusBadRequest, "M_THREEPID_NOT_FOUND", "POST", "account/password/msisdn/requestToken", wantCode("s2", "07700 900002", 1))
	if len(g.texts) > 0 {
		t.Error("a message was sent")
	}
}

// TestCodes: codes cannot be guessed, do not count for long, and only the newest does.
func TestCodes(t *testing.T) {
	s, g := newTextSite(t)
	c := &client{site: s}
	sid, submit := c.ask("register", wantCode("s", "07700 900001", 1))
	code := g.code()
	wrong := object{"sid": sid, "client_secret": "s", "token": other(code)}
	for range contact.MaxCodeTries {
		c.refused(http.StatusBadRequest, "M_TOKEN_INCORRECT", "POST", submit, wrong)
	}
	right := object{"sid": sid, "client_secret": "s", "token": code}
	c.refused(http.StatusBadRequest, "M_SESSION_EXPIRED", "POST", submit, right)
	if again, _ := c.ask("register", wantCode("s", "07700 900001", 2)); again != sid {
		t.Error("another session")
	}
	if newer := g.code(); newer != code { // as by chance once in a million times
		c.refused(http.StatusBadRequest, "M_TOKEN_INCORRECT", "POST", submit, right)
		code = newer
	}
	// A code is for nobody who has only the session's id, and is no link.
	if _, shown := s.submit(sid, code); !strings.Contains(shown, "not known") {
		t.Error(shown)
	}
	if page := get(t, http.StatusBadRequest, s.http.URL+"/_matrix/client/v3/account/validate?sid="+sid); strings.Contains(page, "447700900001") {
		t.Error(page)
	}
	for _, missing := range []string{"sid", "client_secret", "token"} {
		body := object{"sid": sid, "client_secret": "s", "token": code}
		delete(body, missing)
		c.refused(http.StatusBadRequest, "M_MISSING_PARAM", "POST", submit, body)
	}
}

// TestCodeIsOld: a code does not count for long; one that was asked for before the server began again does.
func TestCodeIsOld(t *testing.T) {
	s, g := newTextSiteOn(t, "sqlite:homeserver.db")
	c := &client{site: s}
	again := func(later time.Duration) {
		s.stop()
		s.now, s.listener = func() time.Time { return time.Now().Add(later) }, nil
		s.start()
	}
	sid, submit := c.ask("register", wantCode("s", "07700 900001", 1))
	code := g.code()
	again(contact.CodeLifetime)
	c.refused(http.StatusBadRequest, "M_SESSION_EXPIRED", "POST", submit, object{"sid": sid, "client_secret": "s", "token": code})
	again(0)
	c.give(submit, sid, "s", code)
	again(contact.CodeLifetime) // that it was validated counts longer
	out := c.do("POST", "register", object{"username": "anne", "password": "pw", "auth": object{"type": "m.login.msisdn", "threepid_creds": object{"sid": sid, "client_secret": "s"}}})
	if out["user_id"] != "@anne:orrery.test" {
		t.Error(out)
	}
}

// TestBadNumbers: what is no number, or none that is known to be one, is told, and nothing is sent.
func TestBadNumbers(t *testing.T) {
	s, g := newTextSite(t)
	c := &client{site: s}
	const path = "register/msisdn/requestToken"
	for _, bad := range []object{
		{"country": "GB", "phone_number": ""},
		{"country": "GB", "phone_number": "anne"},
		{"country": "GB", "phone_number": "123"},
		{"country": "GB", "phone_number": "07700 900001 ext 5"},
		{"country": "XX", "phone_number": "07700 900001"},
		{"country": "", "phone_number": "+447700900001"},
		{"country": "GBR", "phone_number": "07700 900001"},
		{"country": "AC/247", "phone_number": "12345"},
		{"country": "GB", "phone_number": "+44 7700 900001, +44 7700 900002"},
		{"country": "GB", "phone_number": strings.Repeat("4", 10_000)},
		{"country": "GB", "phone_number": "07700\r\n900001x"},
		{"country": "DE", "phone_number": "491511234567"},
		{"country": "GB", "phone_number": "07700 900001", "send_attempt": 0},
		{"country": "GB", "phone_number": "07700 900001", "client_secret": "a b"},
	} {
		body := object{"client_secret": "s", "send_attempt": 1}
		maps.Copy(body, bad)
		c.refused(http.StatusBadRequest, "M_INVALID_PARAM", "POST", path, body)
	}
	for name := range wantCode("s", "07700 900001", 1) {
		body := wantCode("s", "07700 900001", 1)
		delete(body, name)
		c.refused(http.StatusBadRequest, "M_MISSING_PARAM", "POST", path, body)
	}
	if len(g.texts) > 0 {
		t.Error("a message was sent")
	}
}

// TestTextLimits: messages cost, so no number gets them without end, nobody is let send them, and the server sends only so many in a day, and only where it is
// let to.
func TestTextLimits(t *testing.T) {
	s, g := newTextSiteOn(t, "sqlite:homeserver.db", "messages_per_day: 100", "messages_per_day: 3", "countries: []", "countries: [gb, US]")
	c := &client{site: s}
	const path = "register/msisdn/requestToken"
	again := func(limit rate.Limit, later time.Duration) {
		s.stop()
		s.config.Limits.SMS, s.listener = limit, nil
		now := time.Now().UTC().Truncate(24 * time.Hour).Add(later)
		s.now = func() time.Time { return now }
		s.start()
	}
	again(rate.Limit{PerSecond: 0.0001, Burst: 1}, 0)
	c.refused(http.StatusForbidden, "M_THREEPID_DENIED", "POST", path, object{"client_secret": "s", "country": "DE", "phone_number": "0151 23456789", "send_attempt": 1})
	var out struct {
		Code  string `json:"errcode"`
		After int64  `json:"retry_after_ms"`
	}
	much := func(secret string) {
		t.Helper()
		c.want(http.StatusTooManyRequests, "POST", path, wantCode(secret, "07700 900001", 1), &out)
		if out.Code != "M_LIMIT_EXCEEDED" || out.After == 0 || len(g.texts) > 0 {
			t.Error(out)
		}
	}
	c.ask("register", wantCode("s0", "07700 900001", 1))
	g.code()
	much("s1")
	c.ask("register", wantCode("s0", "07700 900001", 1)) // sends nothing
	again(rate.Limit{}, 0)
	for n := range 2 {
		c.ask("register", wantCode(fmt.Sprint("s2", n), "07700 900001", 1))
		g.code()
	}
	much("s3")
	again(rate.Limit{}, time.Hour) // that does not make it another day
	much("s3")
	if left := time.Duration(out.After) * time.Millisecond; left != 23*time.Hour {
		t.Errorf("the day is over in %s", left)
	}
	again(rate.Limit{}, 24*time.Hour)
	c.ask("register", wantCode("s3", "07700 900001", 1))
	g.code()
}

// TestGatewayFails: a message that a gateway does not take is an error that says so, leaves nothing behind, and can be tried again.
func TestGatewayFails(t *testing.T) {
	s, g := newTextSite(t, `taken: ""`, `taken: '"queued"'`)
	c := &client{site: s}
	hold := make(chan struct{})
	defer close(hold)
	for what, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"an error":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"a refusal": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"another place": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"garbage":           func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "\x00<html>") },
		"a refusal in 200":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status":"failed"}`) },
		"an endless answer": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 1<<20)) },
		"half an answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "x")
		},
		"nothing": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			select {
			case <-r.Context().Done():
			case <-hold:
			}
		},
	} {
		g.answers(answer)
		var out object
		c.want(http.StatusBadGateway, "POST", "register/msisdn/requestToken", wantCode("s", "07700 900001", 1), &out)
		if out["errcode"] != "M_UNKNOWN" {
			t.Error(what, out)
		}
	}
	g.answers(nil)
	sid, submit := c.ask("register", wantCode("s", "07700 900001", 1))
	c.give(submit, sid, "s", g.code())
}

// TestGatewayForm: a gateway may want a form, and a name with a password, as many do.
func TestGatewayForm(t *testing.T) {
	g := newTextGateway(t)
	s := newWebSite(t, `gateway: ""`, "gateway: "+g.http.URL+"/messages", "countries: []", "countries: []\n  # form", "encoding: json\n", "encoding: form\n",
		"  user: \"\"\n  secret_file: \"\"", "  user: AC123\n  secret_file: secret")
	c := &client{site: s}
	sid, submit := c.ask("register", wantCode("s", "07700 900001", 1))
	m := g.next()
	if m.To != "+447700900001" || m.Authorization != "Basic QUMxMjM6c2ho" || m.Type != "application/x-www-form-urlencoded" || !codePattern.MatchString(m.Text) {
		t.Errorf("%+v", m)
	}
	c.give(submit, sid, "s", m.Text[:6])
}

// TestResetByNumber: who forgot their password gets a new one by a message; it counts once, and for nothing else.
func TestResetByNumber(t *testing.T) {
	s, g := newTextSite(t)
	anne, nobody := s.register("anne"), &client{site: s}
	anne.addNumber(g)
	sid, submit := nobody.ask("account/password", wantCode("one", "07700 900001", 1))
	body := object{"new_password": "new", "auth": object{"type": "m.login.msisdn", "threepid_creds": object{"sid": sid, "client_secret": "one"}}}
	nobody.refused(http.StatusUnauthorized, "M_THREEPID_AUTH_FAILED", "POST", "account/password", body)
	m := g.next()
	if !strings.Contains(m.Text, anne.user) {
		t.Error(m.Text)
	}
	nobody.give(submit, sid, "one", m.Text[:6])
	nobody.refused(http.StatusUnauthorized, "M_UNRECOGNIZED", "POST", "account/password", object{
		"new_password": "x", "auth": object{"type": "m.login.email.identity", "threepid_creds": object{"sid": sid, "client_secret": "one"}},
	})
	nobody.do("POST", "account/password", body)
	nobody.refused(http.StatusUnauthorized, "M_THREEPID_AUTH_FAILED", "POST", "account/password", body)
	anne.refused(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "GET", "account/whoami", nil)
	nobody.do("POST", "login", object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": "anne"}, "password": "new"})
	sid, submit = nobody.ask("account/3pid", wantCode("two", "07700 900002", 1))
	nobody.give(submit, sid, "two", g.code())
	nobody.refused(http.StatusUnauthorized, "M_THREEPID_AUTH_FAILED", "POST", "account/password", object{
		"new_password": "x", "auth": object{"type": "m.login.msisdn", "threepid_creds": object{"sid": sid, "client_secret": "two"}},
	})
}

// TestRegisterNumber: whoever makes an account may give a number, or must, beside an address of mail or without.
func TestRegisterNumber(t *testing.T) {
	needs := []string{"registration_needs_number: false", "registration_needs_number: true"}
	s, g := newTextSite(t)
	c := &client{site: s}
	flows := func() string {
		var step begun
		c.want(http.StatusUnauthorized, "POST", "register", object{"username": "anne", "password": "pw"}, &step)
		return fmt.Sprint(step.Flows)
	}
	if got := flows(); got != "[{[m.login.msisdn]} {[m.login.dummy]}]" {
		t.Error(got)
	}
	s, _ = newTextSite(t, needs...)
	c.site = s
	if got := flows(); got != "[{[m.login.msisdn]}]" {
		t.Error(got)
	}
	s, box := newMailSite(t, g.settings(needs...)...)
	c.site = s
	if got := flows(); got != "[{[m.login.msisdn]} {[m.login.msisdn m.login.email.identity]}]" {
		t.Error(got)
	}
	var step begun
	sid, submit := c.ask("register", wantCode("s", "07700 900001", 1))
	c.give(submit, sid, "s", g.code())
	mailed := c.do("POST", "register/email/requestToken", wantMail("m", "anne@example.org", 1))["sid"]
	s.follow(box.Next(t))
	c.want(http.StatusUnauthorized, "POST", "register", object{"username": "anne", "password": "pw", "auth": object{"type": "m.login.email.identity", "threepid_creds": object{"sid": mailed, "client_secret": "m"}}}, &step)
	// What was shown for mail is no number.
	swapped := object{"session": step.Session, "type": "m.login.msisdn", "threepid_creds": object{"sid": mailed, "client_secret": "m"}}
	c.refused(http.StatusUnauthorized, "M_THREEPID_AUTH_FAILED", "POST", "register", object{"username": "anne", "password": "pw", "auth": swapped})
	auth := object{"session": step.Session, "type": "m.login.msisdn", "threepid_creds": object{"sid": sid, "client_secret": "s"}}
	out := c.do("POST", "register", object{"username": "anne", "password": "pw", "auth": auth})
	c.token, _ = out["access_token"].(string)
	if got := c.contacts(); got != "[{email anne@example.org} {msisdn 447700900001}]" {
		t.Error(got)
	}
}
