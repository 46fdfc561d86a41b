// Package sso lets users in by an account that they have elsewhere, at a provider of OpenID Connect (clause client-server API, SSO client
// login/authentication).
//
// A login is bound to the browser that began it, by a cookie; to its code, by a challenge (RFC 7636); and to what the provider says of the user, by a nonce.
// The client gets a token by which it logs in once. Clients that nobody listed get it only after the user has seen where it goes.
package sso

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"orrery/matrix/account"
	"orrery/matrix/page"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// How long a login may take, and a provider for an answer.
const (
	flowLifetime = 15 * time.Minute
	answerTime   = 20 * time.Second
)

// proves begins the nonces of logins by which users prove again who they are.
const proves = "again-"

// skew is how much a provider's clock may be behind this one's.
const skew = 2 * time.Minute

// cookieName is that of the cookie that binds logins to a browser.
const cookieName = "orrery_sso"

// Provider is where users have an account.
type Provider struct {
	ID           string // of this server's choice
	Name         string // for people
	Icon         string // mxc://
	Brand        string
	Issuer       string
	ClientID     string
	ClientSecret string
	Scopes       []string // besides openid
	NameClaim    string   // which of what it says of a user is the localpart
}

// Config says whose users log in.
type Config struct {
	URL       string // where browsers reach the server
	Server    string
	Providers []Provider
	Clients   []string // addresses of clients that need not be shown to the user
	Accounts  *account.Accounts
	Stream    *store.Stream
	Now       func() time.Time
	Logger    *slog.Logger
	// Confirmed is called when a user has proved again who they are, for a session of user-interactive authentication. It says whether it is theirs.
	Confirmed func(session, user string) bool
	// Wanted is what a session is for; "" if there is none.
	Wanted func(session string) string
}

// SSO is how users log in elsewhere.
type SSO struct {
	c    Config
	http *http.Client

	mu    sync.Mutex
	known map[string]*oidc.Provider // those that were asked, by id
}

//go:embed pages.html
var pageText string

var pages = page.Parse(pageText)

// Callback is the path to which providers send browsers back.
const Callback = "/_matrix/client/v3/login/sso/callback"

// New is how users log in elsewhere.
func New(c Config) *SSO {
	c.URL = strings.TrimSuffix(c.URL, "/")
	return &SSO{c: c, http: &http.Client{Timeout: answerTime}, known: map[string]*oidc.Provider{}}
}

// Provider is one by its id.
func (s *SSO) provider(id string) (Provider, bool) {
	n := slices.IndexFunc(s.c.Providers, func(p Provider) bool { return p.ID == id })
	if n < 0 {
		return Provider{}, false
	}
	return s.c.Providers[n], true
}

// config is how a provider is spoken to; it is asked for that once.
func (s *SSO) config(ctx context.Context, p Provider) (*oidc.Provider, *oauth2.Config, error) {
	s.mu.Lock()
	known := s.known[p.ID]
	s.mu.Unlock()
	if known == nil {
		var err error
		// Its keys are asked for later, too, so this does not end with the request.
		if known, err = oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), s.http), p.Issuer); err != nil {
			return nil, nil, err
		}
		s.mu.Lock()
		s.known[p.ID] = known
		s.mu.Unlock()
	}
	return known, &oauth2.Config{
		ClientID: p.ClientID, ClientSecret: p.ClientSecret, Endpoint: known.Endpoint(), RedirectURL: s.c.URL + Callback,
		Scopes: append([]string{oidc.ScopeOpenID}, p.Scopes...),
	}, nil
}

// serve serves a page, and shows what goes wrong.
func (s *SSO) serve(f func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		err := f(w, r)
		if err == nil {
			return
		}
		p, ok := errors.AsType[*page.Problem](err)
		if !ok {
			s.c.Logger.ErrorContext(r.Context(), "a login elsewhere failed", "path", r.URL.Path, "error", err)
			p = &page.Problem{Status: http.StatusBadGateway, Text: "The server where you log in cannot be used just now. Try again later."}
		}
		_ = s.write(w, p.Status, "problem", map[string]any{"Problem": p.Text})
	}))
}

func (s *SSO) write(w http.ResponseWriter, status int, name string, data map[string]any) error {
	data["Server"] = s.c.Server
	return pages.Write(w, status, name, data)
}

func wrong(text string) error { return &page.Problem{Status: http.StatusBadRequest, Text: text} }

// cookie is what binds a login to a browser. Providers send the browser back by a link of another site, so it is lax.
func (s *SSO) cookie(value string, lifetime time.Duration) *http.Cookie {
	secure, name := strings.HasPrefix(s.c.URL, "https:"), cookieName
	if secure {
		name = "__Host-" + name
	}
	return &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(lifetime / time.Second), HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	}
}

// browser is the secret of a browser, which it gets if it has none.
func (s *SSO) browser(w http.ResponseWriter, r *http.Request) string {
	c, err := r.Cookie(s.cookie("", 0).Name)
	if err == nil && len(c.Value) >= 26 {
		return c.Value
	}
	secret := rand.Text() + rand.Text()
	http.SetCookie(w, s.cookie(secret, flowLifetime))
	return secret
}

// begin sends a browser to a provider, which is asked to have its user log in again if they are to prove who they are.
func (s *SSO) begin(w http.ResponseWriter, r *http.Request, p Provider, flow store.SSOFlow, prove bool) error {
	_, config, err := s.config(r.Context(), p)
	if err != nil {
		return err
	}
	state := rand.Text() + rand.Text()
	now := s.c.Now()
	flow.Hash, flow.Browser, flow.Provider = digest(state), digest(s.browser(w, r)), p.ID
	flow.Nonce, flow.Verifier, flow.Expires = rand.Text(), oauth2.GenerateVerifier(), now.Add(flowLifetime).UnixMilli()
	if prove {
		flow.Nonce = proves + flow.Nonce
	}
	if err := s.c.Stream.DB().Update(r.Context(), func(tx table.Tx) error {
		old, err := store.SSOFlows.All(tx, table.Range{Index: "expires", Before: now.UnixMilli()})
		for _, o := range old {
			err = errors.Join(err, store.SSOFlows.Delete(tx, o.Hash))
		}
		return errors.Join(err, store.SSOFlows.Put(tx, flow))
	}); err != nil {
		return err
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(flow.Nonce), oauth2.S256ChallengeOption(flow.Verifier)}
	if prove {
		// "If max_age is used, the ID Token returned MUST include an auth_time Claim Value" (OpenID Connect Core, 3.1.2.1).
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", strconv.Itoa(int(flowLifetime/time.Second))))
	}
	http.Redirect(w, r, config.AuthCodeURL(state, options...), http.StatusFound)
	return nil
}

// find is the login under way that a browser comes back with. One of another browser is none.
func (s *SSO) find(r *http.Request, state string) (flow store.SSOFlow, err error) {
	c, err := r.Cookie(s.cookie("", 0).Name)
	if err != nil {
		return flow, wrong("This login was not begun in this browser. Begin it again in your app.")
	}
	err = s.c.Stream.DB().View(r.Context(), func(tx table.Tx) error {
		f, ok, err := store.SSOFlows.Get(tx, digest(state))
		if err == nil && (!ok || s.c.Now().UnixMilli() >= f.Expires || !slices.Equal(f.Browser, digest(c.Value))) {
			err = wrong("This login was not begun in this browser, or too long ago. Begin it again in your app.")
		}
		flow = f
		return err
	})
	return flow, err
}

// end ends a login under way; it is false if another request did.
func (s *SSO) end(ctx context.Context, flow store.SSOFlow) (was bool, err error) {
	err = s.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if was, err = store.SSOFlows.Has(tx, flow.Hash); err != nil {
			return err
		}
		return store.SSOFlows.Delete(tx, flow.Hash)
	})
	return was, err
}

// clientAddress is an address that a client gave to be answered at.
func clientAddress(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || slices.Contains([]string{"javascript", "data", "vbscript", "blob", "file", "about"}, u.Scheme) {
		return nil, wrong("The app does not say where it is to be answered.")
	}
	return u, nil
}

// listed says whether a client's address is below one that was configured, or this server's own.
func (s *SSO) listed(u *url.URL) bool {
	return u.User == nil && slices.ContainsFunc(append([]string{s.c.URL + "/account/"}, s.c.Clients...), func(known string) bool {
		k, err := url.Parse(known)
		return err == nil && u.Scheme == k.Scheme && u.Host == k.Host && strings.HasPrefix(u.Path, k.Path) &&
			(len(u.Path) == len(k.Path) || strings.HasSuffix(k.Path, "/") || k.Path == "" || u.Path[len(k.Path)] == '/') && !strings.Contains(u.Path, "/..")
	})
}

func digest(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
