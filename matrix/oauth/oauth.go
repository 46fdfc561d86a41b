// Package oauth is how clients log in by OAuth 2.0 (clause client-server API, OAuth 2.0 API). An Issuer lets this server's users in on pages of its own, asks
// them what a client may do, and gives the client tokens; it also tells other servers who a user is, as OpenID Connect has it. A Delegate asks another
// issuer about tokens instead.
//
// What an Issuer gives out is kept in the store, codes and tokens by their hashes only. A code counts once and for a minute; it is bound to its client, its
// redirect address and the challenge that was sent with it (RFC 7636), which there must be.
package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"orrery/matrix/account"
	"orrery/matrix/contact/validation"
	"orrery/matrix/store"
)

// How long things count that are not used.
const (
	codeLifetime    = time.Minute
	linkLifetime    = 15 * time.Minute
	browserLifetime = 14 * 24 * time.Hour
	linkInterval    = 5 * time.Second
)

// maxForm is how large a form may be.
const maxForm = 64 << 10

// Config says whose issuer it is.
type Config struct {
	URL      string // where browsers reach the server, and the issuer's name
	Server   string // the server's name, for people
	Accounts *account.Accounts
	Stream   *store.Stream
	Now      func() time.Time
	Logger   *slog.Logger

	Validations *validation.Validations

	NoPasswords    bool // people log in by providers only
	Register       bool // people may make accounts on its pages
	NeedInvitation bool // if they have a token for it
	NeedEmail      bool // if they have an address of mail
	NeedNumber     bool // and the number of a telephone
	Terms          []Term
	Providers      []Provider // by which people may log in instead of a password

	// Address is where a client is.
	Address func(*http.Request) string
	// LogOut removes a device of a user's.
	LogOut func(ctx context.Context, user, device string) error
	// LogOutAll removes all devices of a user's.
	LogOutAll func(ctx context.Context, user string) error
	// Deactivate ends an account.
	Deactivate func(ctx context.Context, user string, erase bool) error
}

// Term is a document that people must accept who make an account.
type Term struct{ Title, URL string }

// Provider is another server by which people log in, at an address of this one's that takes where to go afterwards as redirectUrl.
type Provider struct{ Name, URL string }

// Issuer lets users in.
type Issuer struct {
	c    Config
	mux  *http.ServeMux
	keys keys

	Resets *Resets

	mu    sync.Mutex
	tries map[string]tries // of codes that users typed
}

// tries is how often somebody was wrong since when.
type tries struct {
	n     int
	since time.Time
}

// maxTries is how many codes a user may try in the lifetime of one.
const maxTries = 10

// wrongCode counts a code that was wrong, and says whether there were too many.
func (i *Issuer) wrongCode(user string) (tooMany bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.c.Now()
	for u, t := range i.tries {
		if now.Sub(t.since) > linkLifetime {
			delete(i.tries, u)
		}
	}
	t, ok := i.tries[user]
	if !ok {
		t.since = now
	}
	t.n++
	i.tries[user] = t
	return t.n > maxTries
}

// New is an issuer.
func New(c Config) *Issuer {
	c.URL = strings.TrimSuffix(c.URL, "/") + "/"
	i := &Issuer{c: c, mux: http.NewServeMux(), Resets: NewResets(c.Now), tries: map[string]tries{}}
	i.mux.Handle("POST /oauth2/register", i.api(i.registerClient))
	i.mux.Handle("POST /oauth2/token", i.api(i.token))
	i.mux.Handle("POST /oauth2/revoke", i.api(i.revoke))
	i.mux.Handle("POST /oauth2/introspect", i.api(i.introspect))
	i.mux.Handle("POST /oauth2/device", i.api(i.linkDevice))
	i.mux.Handle("GET /oauth2/userinfo", i.api(i.userinfo))
	i.mux.Handle("POST /oauth2/userinfo", i.api(i.userinfo))
	i.mux.Handle("GET /oauth2/keys", i.api(func(q *http.Request) (any, error) { return i.public(q.Context()) }))
	i.mux.Handle("GET /.well-known/openid-configuration", i.api(func(*http.Request) (any, error) { return i.Metadata(), nil }))
	i.pageRoutes()
	return i
}

// Paths are those of the server that an issuer serves.
var Paths = []string{"/oauth2/", "/account/", "/.well-known/openid-configuration"}

// ServeHTTP serves the issuer's requests and pages.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) { i.mux.ServeHTTP(w, r) }

func (i *Issuer) at(path string) string { return i.c.URL + path }

// Metadata is what clients must know of the issuer (clause client-server API, GET /auth_metadata; OpenID Connect Discovery).
func (i *Issuer) Metadata() map[string]any {
	m := map[string]any{
		"issuer":                                i.c.URL,
		"authorization_endpoint":                i.at("oauth2/authorize"),
		"token_endpoint":                        i.at("oauth2/token"),
		"revocation_endpoint":                   i.at("oauth2/revoke"),
		"introspection_endpoint":                i.at("oauth2/introspect"),
		"registration_endpoint":                 i.at("oauth2/register"),
		"device_authorization_endpoint":         i.at("oauth2/device"),
		"userinfo_endpoint":                     i.at("oauth2/userinfo"),
		"jwks_uri":                              i.at("oauth2/keys"),
		"scopes_supported":                      []string{scopeOpenID, scopeAPI},
		"response_types_supported":              []string{"code"},
		"response_modes_supported":              []string{"query", "fragment"},
		"grant_types_supported":                 grantTypes,
		"code_challenge_methods_supported":      []string{"S256"},
		"token_endpoint_auth_methods_supported": authMethods,
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{string(signing)},
		"claims_supported":                      []string{"iss", "sub", "aud", "iat", "exp", "nonce", "auth_time", "name", "preferred_username"},
		"account_management_uri":                i.at("account/"),
		"account_management_actions_supported":  actions,
	}
	if i.c.Register {
		m["prompt_values_supported"] = []string{"create"}
	}
	return m
}

// AllowReset is where a user may allow that the identity of their keys is replaced.
func (i *Issuer) AllowReset() string { return i.at("account/?action=" + actionReset) }

// Error is an answer to a client that is no success (RFC 6749, section 5.2).
type Error struct {
	Status int    `json:"-"`
	Code   string `json:"error"`
	Text   string `json:"error_description,omitempty"`
}

// Error is the text.
func (e *Error) Error() string { return e.Code + ": " + e.Text }

func fail(code, text string) *Error { return &Error{http.StatusBadRequest, code, text} }

// api serves what clients ask, as JSON.
func (i *Issuer) api(f func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		answer, err := f(r)
		status := http.StatusOK
		if c, ok := answer.(created); ok {
			status, answer = http.StatusCreated, map[string]any(c)
		}
		if err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok {
				i.c.Logger.ErrorContext(r.Context(), "a request failed", "path", r.URL.Path, "error", err)
				e = &Error{http.StatusInternalServerError, "server_error", "the server failed"}
			}
			if status, answer = e.Status, e; status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Basic realm="oauth"`)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	})
}

// created is an answer that tells of something new.
type created map[string]any

// local is an address of this server's own, or where its pages begin.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || strings.Contains(next, `\`) {
		return "/account/"
	}
	for _, p := range []string{"/account/", "/oauth2/authorize"} {
		if strings.HasPrefix(u.Path, p) {
			return next
		}
	}
	return "/account/"
}
