package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"orrery/matrix/account"
)

// How long what an issuer says counts, and how much of it is read and kept.
const (
	delegateTimeout  = 20 * time.Second
	tokenLifetime    = time.Minute
	metadataLifetime = time.Hour
	maxAnswer        = 1 << 20
	maxTokens        = 20_000
)

// ErrIssuer says that the issuer of other tokens could not be asked.
var ErrIssuer = errors.New("the issuer of tokens cannot be asked")

// DelegateConfig says who is asked about tokens.
type DelegateConfig struct {
	Issuer       string // its name, which is its address
	ClientID     string // by which this server is known there
	ClientSecret string
	Accounts     *account.Accounts
	Now          func() time.Time
	HTTP         *http.Client
}

// Delegate lets users in by tokens of another issuer, as Matrix Authentication Service is one: it asks about each (RFC 7662), and makes the accounts and
// devices that they are for.
type Delegate struct {
	c DelegateConfig

	mu       sync.Mutex
	metadata map[string]any
	read     time.Time
	known    map[[sha256.Size]byte]known
}

// known is whose a token is, for a while.
type known struct {
	login account.Login
	until time.Time
}

// NewDelegate is a delegate.
func NewDelegate(c DelegateConfig) *Delegate {
	c.HTTP.Timeout = delegateTimeout
	return &Delegate{c: c, known: map[[sha256.Size]byte]known{}}
}

// Metadata is what the issuer says of itself (OpenID Connect Discovery; RFC 8414).
func (d *Delegate) Metadata(ctx context.Context) (map[string]any, error) {
	d.mu.Lock()
	m, read := d.metadata, d.read
	d.mu.Unlock()
	if m != nil && d.c.Now().Sub(read) < metadataLifetime {
		return m, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(d.c.Issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return nil, err
	}
	var fresh map[string]any
	if err := d.do(r, &fresh); err != nil {
		return nil, err
	}
	if name, _ := fresh["issuer"].(string); strings.TrimSuffix(name, "/") != strings.TrimSuffix(d.c.Issuer, "/") {
		return nil, fmt.Errorf("%w: %s calls itself %s", ErrIssuer, d.c.Issuer, name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.metadata, d.read = fresh, d.c.Now()
	return fresh, nil
}

// AllowReset is where a user may allow that the identity of their keys is replaced; "" if the issuer does not say.
func (d *Delegate) AllowReset(ctx context.Context) string {
	m, err := d.Metadata(ctx)
	page, _ := m["account_management_uri"].(string)
	if err != nil || page == "" {
		return ""
	}
	return page + "?" + url.Values{"action": {actionReset}}.Encode()
}

func (d *Delegate) do(r *http.Request, into any) error {
	resp, err := d.c.HTTP.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s answers %s", ErrIssuer, r.URL.Redacted(), resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("%w: %s answers no JSON: %w", ErrIssuer, r.URL.Redacted(), err)
	}
	return nil
}

// Authenticate is whose access token it is; account.ErrToken if it does not count.
func (d *Delegate) Authenticate(ctx context.Context, token, address string) (account.Login, error) {
	hash := sha256.Sum256([]byte(token))
	d.mu.Lock()
	k, ok := d.known[hash]
	d.mu.Unlock()
	if ok && d.c.Now().Before(k.until) {
		return k.login, nil
	}
	said, err := d.introspect(ctx, token)
	if err != nil {
		return account.Login{}, err
	}
	s, err := readScope(said.Scope)
	if !said.Active || said.Username == "" || err != nil || s.device == "" {
		return account.Login{}, account.ErrToken
	}
	l := account.Login{User: d.c.Accounts.Full(strings.ToLower(said.Username)), Device: s.device, Client: said.Client}
	if l.Client == "" {
		l.Client = d.c.Issuer
	}
	if err := d.c.Accounts.Provide(ctx, said.Username, said.Name, s.device, address); err != nil {
		return l, err
	}
	until := d.c.Now().Add(tokenLifetime)
	if end := time.Unix(said.Expires, 0); said.Expires != 0 && end.Before(until) {
		until = end
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= maxTokens {
		clear(d.known)
	}
	d.known[hash] = known{l, until}
	return l, nil
}

// introspection is what the issuer says of a token.
type introspection struct {
	Active   bool   `json:"active"`
	Scope    string `json:"scope"`
	Client   string `json:"client_id"`
	Username string `json:"username"`
	Name     string `json:"name"`
	Expires  int64  `json:"exp"`
}

func (d *Delegate) introspect(ctx context.Context, token string) (said introspection, err error) {
	m, err := d.Metadata(ctx)
	if err != nil {
		return said, err
	}
	at, _ := m["introspection_endpoint"].(string)
	if at == "" {
		return said, fmt.Errorf("%w: %s does not say where", ErrIssuer, d.c.Issuer)
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		return said, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(d.c.ClientID), url.QueryEscape(d.c.ClientSecret))
	return said, d.do(r, &said)
}
