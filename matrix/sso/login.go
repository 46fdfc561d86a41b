package sso

import (
	"context"
	"crypto/subtle"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"orrery/matrix/account"
	"orrery/matrix/page"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Redirect begins a login: at the provider of the path, at the only one, or at the one that the user chooses (clause client-server API, GET
// /login/sso/redirect).
func (s *SSO) Redirect() http.Handler {
	return s.serve(func(w http.ResponseWriter, r *http.Request) error {
		to := r.FormValue("redirectUrl")
		if _, err := clientAddress(to); err != nil {
			return err
		}
		id := r.PathValue("provider")
		if id == "" && len(s.c.Providers) == 1 {
			id = s.c.Providers[0].ID
		}
		if id == "" {
			return s.write(w, http.StatusOK, "choose", map[string]any{"Providers": s.c.Providers, "To": to})
		}
		p, ok := s.provider(id)
		if !ok {
			return &page.Problem{Status: http.StatusNotFound, Text: "There is no such way to log in."}
		}
		return s.begin(w, r, p, store.SSOFlow{Redirect: to}, r.FormValue("prompt") == "login")
	})
}

// Confirm has a user prove again who they are, for a session of user-interactive authentication, after they have seen what that is for.
func (s *SSO) Confirm() http.Handler {
	return s.serve(func(w http.ResponseWriter, r *http.Request) error {
		session := r.FormValue("session")
		wanted := s.c.Wanted(session)
		if wanted == "" {
			return wrong("What this is for is not known, or was too long ago. Begin it again in your app.")
		}
		if p, ok := s.provider(r.PostFormValue("provider")); ok && r.Method == http.MethodPost {
			return s.begin(w, r, p, store.SSOFlow{Session: session}, true)
		}
		return s.write(w, http.StatusOK, "confirm", map[string]any{"Providers": s.c.Providers, "Session": session, "Wanted": wanted})
	})
}

// CallbackHandler is where providers send browsers back.
func (s *SSO) CallbackHandler() http.Handler { return s.serve(s.callback) }

func (s *SSO) callback(w http.ResponseWriter, r *http.Request) error {
	state := r.FormValue("state")
	flow, err := s.find(r, state)
	if err != nil {
		return err
	}
	p, ok := s.provider(flow.Provider)
	if !ok || flow.Subject != "" {
		return wrong("This login has come to its end already. Begin it again in your app.")
	}
	if e := r.FormValue("error"); e != "" {
		if _, err := s.end(r.Context(), flow); err != nil {
			return err
		}
		return wrong("The server where you log in said: " + e)
	}
	said, err := s.exchange(r.Context(), p, flow, r.FormValue("code"))
	if err != nil {
		return err
	}
	user, err := s.c.Accounts.External(r.Context(), p.ID, said.subject)
	switch {
	case errors.Is(err, account.ErrDeactivated):
		return &page.Problem{Status: http.StatusForbidden, Text: "Your account here was ended."}
	case err == nil:
		return s.finish(w, r, flow, user)
	case !errors.Is(err, account.ErrNotFound):
		return err
	case flow.Session != "":
		return &page.Problem{Status: http.StatusForbidden, Text: "This is another user's login."}
	}
	flow.Subject, flow.Name, flow.Shown = said.subject, localpart(said.name), said.shown
	if err := s.c.Stream.DB().Update(r.Context(), func(tx table.Tx) error { return store.SSOFlows.Put(tx, flow) }); err != nil {
		return err
	}
	return s.join(w, r, flow, state, flow.Name)
}

// said is what a provider says of a user.
type said struct{ subject, name, shown string }

// exchange gets what the provider says of the user for its code.
func (s *SSO) exchange(ctx context.Context, p Provider, flow store.SSOFlow, code string) (u said, err error) {
	provider, config, err := s.config(ctx, p)
	if err != nil {
		return u, err
	}
	token, err := config.Exchange(oidc.ClientContext(ctx, s.http), code, oauth2.VerifierOption(flow.Verifier))
	if err != nil {
		return u, err
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := provider.Verifier(&oidc.Config{ClientID: p.ClientID, Now: s.c.Now}).Verify(oidc.ClientContext(ctx, s.http), raw)
	if err != nil {
		return u, err
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(flow.Nonce)) != 1 {
		return u, wrong("The server where you log in answered for another login. Begin it again in your app.")
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return u, err
	}
	if !s.fresh(flow, claims["auth_time"]) {
		return u, &page.Problem{Status: http.StatusForbidden, Text: "The server where you log in did not ask you to: it let you in by an earlier login. Log out there, and begin again in your app."}
	}
	if _, ok := claims[p.NameClaim]; !ok { // it may be told only where it is asked for
		if info, err := provider.UserInfo(oidc.ClientContext(ctx, s.http), oauth2.StaticTokenSource(token)); err == nil && info.Subject == id.Subject {
			if err := info.Claims(&claims); err != nil {
				return u, err
			}
		}
	}
	u.subject = id.Subject
	u.name, _ = claims[p.NameClaim].(string)
	u.shown, _ = claims["name"].(string)
	return u, nil
}

// fresh says whether a user has logged in since this login began, if it is to prove who they are: "the RP SHOULD check the auth_time Claim value and request
// re-authentication if it determines too much time has elapsed" (OpenID Connect Core, 3.1.3.7). Of a provider that does not tell, which it must, it is not known.
func (s *SSO) fresh(flow store.SSOFlow, at any) bool {
	if !strings.HasPrefix(flow.Nonce, proves) || at == nil {
		return true
	}
	seconds, ok := at.(float64)
	begun := time.UnixMilli(flow.Expires).Add(-flowLifetime)
	return ok && !time.UnixMilli(int64(seconds*1000)).Before(begun.Add(-skew))
}

// localpart is a name as a localpart (clause appendices, mapping from other character sets), as far as that looks like it.
func localpart(name string) string {
	name, _, _ = strings.Cut(strings.ToLower(name), "@") // of an address of mail, who it is there
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', strings.ContainsRune("._=-/", r):
			return r
		case r == ' ':
			return '_'
		}
		return -1
	}, name)
}

// join makes the account of somebody who is here for the first time. If their name is taken, or none, they choose another one: an account that is there is
// never theirs because of its name.
func (s *SSO) join(w http.ResponseWriter, r *http.Request, flow store.SSOFlow, state, name string) error {
	u, err := s.c.Accounts.Make(r.Context(), account.NewUser{
		Name: name, Shown: flow.Shown, External: &store.External{Provider: flow.Provider, Subject: flow.Subject},
	})
	if errors.Is(err, account.ErrTaken) || errors.Is(err, account.ErrName) {
		data := map[string]any{"State": state, "Name": name}
		if name != "" {
			data["Problem"] = "This name is taken, or it has other letters than a to z, 0 to 9 and . _ = - / +"
		}
		return s.write(w, http.StatusOK, "name", data)
	}
	if err != nil {
		return err
	}
	return s.finish(w, r, flow, u.ID)
}

// Name is where somebody chooses the name of their account.
func (s *SSO) Name() http.Handler {
	return s.serve(func(w http.ResponseWriter, r *http.Request) error {
		state := r.PostFormValue("state")
		flow, err := s.find(r, state)
		if err != nil {
			return err
		}
		if flow.Subject == "" {
			return wrong("Who you are is not known yet. Begin again in your app.")
		}
		if user, err := s.c.Accounts.External(r.Context(), flow.Provider, flow.Subject); err == nil {
			return s.finish(w, r, flow, user)
		}
		return s.join(w, r, flow, state, strings.ToLower(strings.TrimSpace(r.PostFormValue("name"))))
	})
}

// finish sends the browser back to the client with a token, or says that the session it was for is proved.
func (s *SSO) finish(w http.ResponseWriter, r *http.Request, flow store.SSOFlow, user string) error {
	was, err := s.end(r.Context(), flow)
	if err != nil {
		return err
	}
	if !was {
		return wrong("This login has come to its end already. Begin it again in your app.")
	}
	if flow.Session != "" {
		if !s.c.Confirmed(flow.Session, user) {
			return &page.Problem{Status: http.StatusForbidden, Text: "This is another user's login, or it took too long."}
		}
		return s.write(w, http.StatusOK, "confirmed", map[string]any{})
	}
	u, err := clientAddress(flow.Redirect)
	if err != nil {
		return err
	}
	token, err := s.c.Accounts.LoginToken(r.Context(), user)
	if err != nil {
		return err
	}
	to := with(u, token)
	if s.listed(u) {
		http.Redirect(w, r, to, http.StatusFound)
		return nil
	}
	shown := u.Scheme + "://" + u.Host
	if u.Host == "" {
		shown = u.Scheme + ":"
	}
	return s.write(w, http.StatusOK, "allow", map[string]any{
		"User": user, "Shown": shown, "To": template.URL(to), //nolint:gosec // its scheme runs nothing
	})
}

// with is a client's address with the token by which it logs in, in place of others that it may have.
func with(u *url.URL, token string) string {
	one := *u
	query := one.Query()
	query.Set("loginToken", token)
	one.RawQuery = query.Encode()
	return one.String()
}
