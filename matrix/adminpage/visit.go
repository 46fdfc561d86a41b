package adminpage

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"orrery/matrix/account"
	"orrery/matrix/page"
	"orrery/matrix/store"
)

// How long a browser stays logged in, how long without a request, and how long it counts that its user proved who they are.
const (
	visitLifetime = 12 * time.Hour
	visitPause    = time.Hour
	proofLifetime = 10 * time.Minute
)

const (
	// maxVisits is how many browsers are logged in at most.
	maxVisits = 1000
	// maxForm is how large a form may be.
	maxForm = 64 << 10
)

// session is a browser in which an administrator is logged in.
type session struct {
	user     string
	password [sha256.Size]byte // the hash of what the account had as password, which must stay
	csrf     string            // what forms must send
	begun    time.Time
	seen     time.Time
	proved   time.Time
	said     string // what the next page says was done
	state    string // of a login at a provider by which its user is to prove who they are
}

// visits are the sessions, by the hashes of their cookies.
type visits struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]*session
}

// visit is a request of a browser.
type visit struct {
	*http.Request

	p   *Pages
	w   http.ResponseWriter
	key [sha256.Size]byte
	s   session // as it was when the request came
}

func (p *Pages) visit(w http.ResponseWriter, r *http.Request) *visit {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	v := &visit{Request: r, p: p, w: w}
	if c, err := r.Cookie(p.cookie(r, sessionCookie, "", 0, http.SameSiteStrictMode).Name); err == nil {
		v.key = sha256.Sum256([]byte(c.Value))
	}
	return v
}

// guarded serves a page for anybody. What changes something must come from a page of this server: browsers say where a request is from.
func (p *Pages) guarded(f func(*visit) error) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := p.visit(w, r)
		err := v.recognise()
		if err == nil {
			err = f(v)
		}
		if err != nil {
			said := p.problem(r, err)
			_ = v.render(said.Status, "problem", map[string]any{"Title": "This did not work", "Problem": said.Text})
		}
	}))
}

// inside serves a page for administrators; others log in first.
func (p *Pages) inside(f func(*visit) error) http.Handler {
	return p.guarded(func(v *visit) error {
		if v.s.user == "" {
			return v.logIn()
		}
		if v.Method != http.MethodGet && subtle.ConstantTimeCompare([]byte(v.PostFormValue("csrf")), []byte(v.s.csrf)) != 1 {
			return &page.Problem{Status: http.StatusForbidden, Text: "This form is too old, or not from here. Go back, load the page again, and repeat it."}
		}
		return f(v)
	})
}

// logIn sends a browser to log in, and back here.
func (v *visit) logIn() error {
	next := v.URL.RequestURI()
	if v.Method != http.MethodGet || strings.HasPrefix(next, Path+"live/") {
		next = Path
	}
	v.to(Path + "login?" + url.Values{"next": {next}}.Encode())
	return nil
}

// to sends a browser to a page of this server.
func (v *visit) to(path string) { http.Redirect(v.w, v.Request, path, http.StatusSeeOther) }

// local is an address among these pages, or where they begin.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, Path) || strings.Contains(next, `\`) || strings.HasPrefix(u.Path, Path+"login") {
		return Path
	}
	return next
}

// recognise finds out who is logged in, and that they still may be.
func (v *visit) recognise() error {
	s, ok := v.p.visits.find(v.key, v.p.c.Now(), !strings.HasPrefix(v.URL.Path, Path+"live/"))
	if !ok {
		return nil
	}
	return v.take(s)
}

// take takes a session for that of the request, if its user still may be logged in.
func (v *visit) take(s session) error {
	u, err := v.p.c.Accounts.User(v.Context(), s.user)
	if errors.Is(err, account.ErrNotFound) || err == nil && (!allowed(u) || digest(u) != s.password) {
		v.p.visits.drop(v.key)
		return nil
	}
	if err == nil {
		v.s = s
	}
	return err
}

func allowed(u store.User) bool { return u.Admin && !u.Deactivated && !u.Locked && !u.Guest }

func digest(u store.User) [sha256.Size]byte { return sha256.Sum256([]byte(u.Password)) }

// find is the session of a cookie that counts, which it does for some more time if it is used.
func (a *visits) find(key [sha256.Size]byte, now time.Time, use bool) (session, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.all[key]
	if !ok {
		return session{}, false
	}
	if s.over(now) {
		delete(a.all, key)
		return session{}, false
	}
	if use {
		s.seen = now
	}
	return *s, true
}

// proving is the session whose user was sent to a provider with a state, to prove who they are. Its own cookie does not come along from another site.
func (a *visits) proving(state string, now time.Time) (key [sha256.Size]byte, found session, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, s := range a.all {
		if s.state != "" && subtle.ConstantTimeCompare([]byte(s.state), []byte(state)) == 1 && !s.over(now) {
			s.state = ""
			return key, *s, true
		}
	}
	return key, session{}, false
}

func (s *session) over(now time.Time) bool {
	return now.Sub(s.begun) > visitLifetime || now.Sub(s.seen) > visitPause
}

func (a *visits) drop(key [sha256.Size]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, key)
}

// change changes a session that is there.
func (a *visits) change(key [sha256.Size]byte, f func(*session)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.all[key]; s != nil {
		f(s)
	}
}

// enter is a new session's cookie. If there are too many, those that are over go, or else the one that was seen longest ago.
func (a *visits) enter(s session) string {
	cookie := rand.Text() + rand.Text()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[[sha256.Size]byte]*session{}
	}
	if len(a.all) >= maxVisits {
		var oldest [sha256.Size]byte
		for key, other := range a.all {
			if other.over(s.seen) {
				delete(a.all, key)
			} else if o := a.all[oldest]; o == nil || other.seen.Before(o.seen) {
				oldest = key
			}
		}
		if len(a.all) >= maxVisits {
			delete(a.all, oldest)
		}
	}
	a.all[sha256.Sum256([]byte(cookie))] = &s
	return cookie
}

const (
	sessionCookie = "orrery_admin"
	stateCookie   = "orrery_admin_provider"
)

// cookie is one of these pages'. It is for TLS only where the browser came by TLS.
func (p *Pages) cookie(r *http.Request, name, value string, lifetime time.Duration, site http.SameSite) *http.Cookie {
	base, err := url.Parse(p.c.URL)
	secure := r.TLS != nil || err == nil && base.Scheme == "https" && base.Host == r.Host
	if secure {
		name = "__Secure-" + name
	}
	return &http.Cookie{Name: name, Value: value, Path: Path, MaxAge: int(lifetime / time.Second), HttpOnly: true, Secure: secure, SameSite: site}
}

// say has the next page say what was done.
func (v *visit) say(text string) {
	v.p.visits.change(v.key, func(s *session) { s.said = text })
}

// render writes a page.
func (v *visit) render(status int, name string, data map[string]any) error {
	data["Server"], data["User"], data["CSRF"], data["Sections"], data["Here"] = v.p.c.Server, v.s.user, v.s.csrf, sections, v.here()
	if v.s.said != "" {
		data["Said"] = v.s.said
		v.say("")
	}
	var b bytes.Buffer
	if err := pages().ExecuteTemplate(&b, name, data); err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, err := b.WriteTo(v.w)
	return err
}

// here is the section of the page.
func (v *visit) here() string {
	first, _, _ := strings.Cut(strings.TrimPrefix(v.URL.Path, Path), "/")
	if first == "deletions" {
		return "rooms"
	}
	return first
}
