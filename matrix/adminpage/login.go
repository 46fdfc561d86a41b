package adminpage

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"orrery/matrix/account"
	"orrery/matrix/page"
)

func (p *Pages) loginRoutes() {
	p.mux.Handle("GET "+Path+"login", p.guarded(func(v *visit) error { return v.loginPage(http.StatusOK, "") }))
	p.mux.Handle("POST "+Path+"login", p.guarded(p.logIn))
	p.mux.Handle("GET "+Path+"provider/{n}", p.guarded(p.toProvider))
	p.mux.Handle("GET "+Provided, p.guarded(p.fromProvider))
	p.mux.Handle("POST "+Path+"logout", p.inside(func(v *visit) error {
		p.visits.drop(v.key)
		http.SetCookie(v.w, p.cookie(v.Request, sessionCookie, "", -time.Second, http.SameSiteStrictMode))
		v.to(Path + "login")
		return nil
	}))
}

// loginPage is where administrators log in, or prove who they are; with what was wrong with their last try.
func (v *visit) loginPage(status int, problem string) error {
	return v.render(status, "login", map[string]any{
		"Title": "Log in", "Next": local(v.FormValue("next")), "Name": v.PostFormValue("name"), "Problem": problem, "Passwords": !v.p.c.NoPasswords, "Providers": v.p.providers(),
	})
}

func (p *Pages) providers() []Provider {
	if p.c.URL == "" {
		return nil
	}
	return p.c.Providers
}

// wrongLogin is for whoever may not come in; it does not say whether the password was right.
const wrongLogin = "The name or the password is wrong, or this is no administrator."

func (p *Pages) logIn(v *visit) error {
	user, err := p.who(v)
	switch {
	case errors.Is(err, account.ErrPassword), errors.Is(err, account.ErrDeactivated), errors.Is(err, account.ErrNotFound), errors.Is(err, account.ErrToken), errors.Is(err, account.ErrExpired):
		p.c.Logger.WarnContext(v.Context(), "somebody was not let in to the admin page", "name", v.PostFormValue("name"))
		return v.loginPage(http.StatusForbidden, wrongLogin)
	case err != nil:
		return err
	}
	return v.enter(user, func() error {
		v.to(local(v.PostFormValue("next")))
		return nil
	})
}

// who is the user that a form's password or access token is of.
func (p *Pages) who(v *visit) (string, error) {
	if token := strings.TrimSpace(v.PostFormValue("token")); token != "" {
		l, err := p.c.Token(v.Context(), token, v.Request)
		return l.User, err
	}
	name := strings.TrimSpace(v.PostFormValue("name"))
	if v.s.user != "" {
		name = v.s.user
	}
	if p.c.NoPasswords {
		return "", account.ErrPassword
	}
	if !strings.HasPrefix(name, "@") {
		name = strings.ToLower(name)
	}
	user := p.c.Accounts.Full(name)
	return user, p.c.Accounts.CheckPassword(v.Context(), user, v.PostFormValue("password"))
}

// enter lets an administrator in who has proved who they are, or takes notice that they have again; nobody proves it for somebody else.
func (v *visit) enter(user string, then func() error) error {
	if v.s.user != "" && v.s.user != user {
		return v.loginPage(http.StatusForbidden, "You are logged in as "+v.s.user+": log out first.")
	}
	u, err := v.p.c.Accounts.User(v.Context(), user)
	if err != nil {
		return err
	}
	if !allowed(u) {
		v.p.c.Logger.WarnContext(v.Context(), "somebody was not let in to the admin page", "name", user)
		return v.loginPage(http.StatusForbidden, wrongLogin)
	}
	now := v.p.c.Now()
	if v.s.user == "" {
		cookie := v.p.visits.enter(session{user: user, password: digest(u), csrf: rand.Text(), begun: now, seen: now, proved: now})
		http.SetCookie(v.w, v.p.cookie(v.Request, sessionCookie, cookie, visitLifetime, http.SameSiteStrictMode))
		v.p.c.Logger.InfoContext(v.Context(), "an administrator came in to the admin page", "user", user)
	} else {
		v.p.visits.change(v.key, func(s *session) { s.proved = now })
	}
	return then()
}

// proved is nil if the user has proved who they are a moment ago; otherwise they do so first, and come back to a page.
func (v *visit) proved(back string) (ok bool) {
	if v.p.c.Now().Sub(v.s.proved) <= proofLifetime {
		return true
	}
	v.to(Path + "login?" + url.Values{"next": {back}}.Encode())
	return false
}

// toProvider sends the browser to log in elsewhere, and to fromProvider afterwards. The state binds both to the browser, and to its visit if there is one: then the
// provider is asked to have its user log in, also one that it knows.
func (p *Pages) toProvider(v *visit) error {
	n, err := strconv.Atoi(v.PathValue("n"))
	if all := p.providers(); err == nil && n >= 0 && n < len(all) {
		state := rand.Text()
		http.SetCookie(v.w, p.cookie(v.Request, stateCookie, state, 15*time.Minute, http.SameSiteLaxMode)) // it must come along from there
		back, err := url.JoinPath(p.c.URL, Provided)
		if err != nil {
			return err
		}
		back += "?" + url.Values{"state": {state}, "next": {local(v.FormValue("next"))}}.Encode()
		query := url.Values{"redirectUrl": {back}}
		if v.s.user != "" {
			v.p.visits.change(v.key, func(s *session) { s.state = state })
			query.Set("prompt", "login")
		}
		v.to(all[n].URL + "?" + query.Encode())
		return nil
	}
	return &page.Problem{Status: http.StatusNotFound, Text: "There is no such way to log in."}
}

func (p *Pages) fromProvider(v *visit) error {
	name := p.cookie(v.Request, stateCookie, "", -time.Second, http.SameSiteLaxMode)
	sent, err := v.Cookie(name.Name)
	http.SetCookie(v.w, name)
	if err != nil || sent.Value == "" || subtle.ConstantTimeCompare([]byte(sent.Value), []byte(v.FormValue("state"))) != 1 {
		return &page.Problem{Status: http.StatusBadRequest, Text: "This login was not begun in this browser. Log in again."}
	}
	if key, s, ok := p.visits.proving(sent.Value, p.c.Now()); ok {
		v.key = key
		if err := v.take(s); err != nil {
			return err
		}
	}
	user, err := p.c.Accounts.UseLoginToken(v.Context(), v.FormValue("loginToken"))
	if errors.Is(err, account.ErrToken) || errors.Is(err, account.ErrDeactivated) {
		return &page.Problem{Status: http.StatusBadRequest, Text: "The login took too long. Log in again."}
	}
	if err != nil {
		return err
	}
	return v.enter(user, func() error { // the cookie goes along only from a page of this server's own, which sends the browser on
		return v.render(http.StatusOK, "welcome", map[string]any{"Title": "You are logged in", "Next": local(v.FormValue("next"))})
	})
}
