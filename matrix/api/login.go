package api

import (
	"net/http"
	"strings"

	"orrery/matrix/adminpage"
	"orrery/matrix/canonical"
	"orrery/matrix/oauth"
	"orrery/matrix/sso"
)

// LogIn says how people get in.
type LogIn struct {
	OpenRegistration bool     // anybody may make an account
	NeedInvitation   bool     // if they have a token for it
	NeedEmail        bool     // and show that an address of mail is theirs
	NeedNumber       bool     // and that the number of a telephone is
	Terms            []Policy // and accept these
	Guests           bool     // people without an account may look into rooms that let them
	NoPasswords      bool     // users log in by providers or OAuth only
	Providers        []sso.Provider
	SSOClients       []string              // addresses of clients that get their tokens unasked
	Issuer           bool                  // clients log in by OAuth, at this server's own issuer
	Delegate         *oauth.DelegateConfig // or at another one; its Accounts are set here
}

// entry is what is made of that.
type entry struct {
	issuer   *oauth.Issuer   // nil: there is none
	delegate *oauth.Delegate // nil: there is none
	sso      *sso.SSO        // nil: there is none
}

// Stages by which the user of an OAuth client allows something on a page of their account; the second is the proposal's name for it.
const (
	stageOAuth         = "m.oauth"
	stageProposedReset = "org.matrix.cross_signing_reset"
)

func (a *API) oauthRoutes() {
	switch {
	case a.Delegate != nil:
		c := *a.Delegate
		c.Accounts = a.Accounts
		a.delegate = oauth.NewDelegate(c)
		if c.SharedSecret != "" {
			a.provisionRoutes()
		}
	case a.Issuer:
		a.issuer = oauth.New(a.issuerConfig())
		for _, p := range oauth.Paths {
			a.mux.Handle(p, a.limitedPages(a.issuer))
		}
	}
	a.open("GET auth_metadata", a.authMetadata)
	a.open("GET /_matrix/client/unstable/org.matrix.msc2965/auth_metadata", a.authMetadata)
	a.open("GET /_matrix/client/unstable/org.matrix.msc2965/auth_issuer", func(q *request) (any, error) {
		m, err := a.authMetadata(q)
		if all, ok := m.(map[string]any); ok && err == nil {
			m = map[string]any{"issuer": all["issuer"]}
		}
		return m, err
	})
}

// limitedPages lets nobody guess passwords and codes on pages faster than by other requests.
func (a *API) limitedPages(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l := a.limits.writes
		if strings.HasPrefix(r.URL.Path, "/account/") || r.URL.Path == adminpage.Path+"login" {
			l = a.limits.logins
		}
		if r.Method != http.MethodGet {
			if wait := l.Take("from "+a.address(r), a.Now()); wait > 0 {
				retryAfter(w.Header(), &Error{After: wait})
				http.Error(w, "Too many requests. Wait a while.", http.StatusTooManyRequests)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

func (a *API) issuerConfig() oauth.Config {
	c := oauth.Config{
		Address: a.address,
		URL:     a.BaseURL, Server: a.Server, Accounts: a.Accounts, Stream: a.Stream, Now: a.Now, Logger: a.Logger, NoPasswords: a.NoPasswords,
		Register: a.OpenRegistration && !a.NoPasswords, NeedInvitation: a.NeedInvitation, NeedEmail: a.NeedEmail, NeedNumber: a.NeedNumber, Validations: a.Validations, LogOut: a.logOutDevice, LogOutAll: a.logOutAll, Deactivate: a.end,
	}
	for _, t := range a.Terms {
		c.Terms = append(c.Terms, oauth.Term{Title: t.Title, URL: t.URL})
	}
	for _, p := range a.Providers {
		c.Providers = append(c.Providers, oauth.Provider{Name: p.Name, URL: "/_matrix/client/v3/login/sso/redirect/" + p.ID})
	}
	return c
}

// authMetadata is what clients must know to log in by OAuth (clause client-server API, GET /auth_metadata).
func (a *API) authMetadata(q *request) (any, error) {
	switch {
	case a.delegate != nil:
		return a.delegate.Metadata(q.Context())
	case a.issuer != nil:
		return a.issuer.Metadata(), nil
	}
	return nil, fail(http.StatusNotFound, "M_UNRECOGNIZED", "clients do not log in by OAuth here")
}

// confirmReset is confirm for a request that replaces the identity of a user's keys: the user of an OAuth client allows it on a page (clause client-server
// API, OAuth authentication). Once they did, the next such request counts, whatever it says of its authentication: a client may name its session, and clients
// such as Element X say nothing of it, and ask until they are let.
func (a *API) confirmReset(q *request) error {
	if q.login.Client == "" {
		return a.confirm(q)
	}
	page, resets := "", oauth.NewResets(a.Now)
	switch {
	case a.issuer != nil:
		page, resets = a.issuer.AllowReset(), a.issuer.Resets
	case a.delegate != nil:
		page, resets = a.delegate.AllowReset(q.Context()), a.delegate.Resets
	}
	params := map[string]string{"url": page}
	asked := stage{params: params, check: func(*request, canonical.Value) error { return forbidden("the user has to allow this at " + page) }}
	stages := map[string]stage{stageOAuth: asked, stageProposedReset: asked}
	if resets.Take(q.login.User) {
		return nil
	}
	_, err := a.auth.check(q, [][]string{{stageOAuth}, {stageProposedReset}}, stages)
	return err
}
