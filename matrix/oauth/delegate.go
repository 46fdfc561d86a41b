package oauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"orrery/matrix/account"
	"orrery/matrix/outside"
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
	SharedSecret string // by which it is known instead at Matrix Authentication Service, and that one here; "": there is none
	Accounts     *account.Accounts
	Now          func() time.Time
	HTTP         *http.Client
}

// Delegate lets users in by tokens of another issuer, as Matrix Authentication Service is one: it asks about each (RFC 7662), and makes the accounts and
// devices that they are for.
type Delegate struct {
	Resets *Resets

	c DelegateConfig

	mu        sync.Mutex
	metadata  map[string]any
	read      time.Time
	known     map[[sha256.Size]byte]known
	forgotten int // how often some were
}

// known is whose a token is, for a while.
type known struct {
	login account.Login
	until time.Time
}

// NewDelegate is a delegate.
func NewDelegate(c DelegateConfig) *Delegate {
	c.HTTP.Timeout = delegateTimeout
	d := &Delegate{c: c, Resets: NewResets(c.Now), known: map[[sha256.Size]byte]known{}}
	c.Accounts.Forgetting(d.forget)
	return d
}

// Check asks an issuer about a token that nobody has: whether it is there, and knows this server.
func Check(ctx context.Context, c DelegateConfig) error {
	c.HTTP.Timeout = delegateTimeout
	_, err := (&Delegate{c: c}).introspect(ctx, "nobody's")
	return err
}

// IsIssuer says whether a token is the secret that the issuer shares with this server.
func (d *Delegate) IsIssuer(token string) bool {
	return d.c.SharedSecret != "" && subtle.ConstantTimeCompare([]byte(token), []byte(d.c.SharedSecret)) == 1
}

// forget has the issuer asked again about the tokens of a device, or for "" of all the user's: it was logged out, or is not what it was.
func (d *Delegate) forget(user, device string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forgotten++
	maps.DeleteFunc(d.known, func(_ [sha256.Size]byte, k known) bool {
		return k.login.User == user && (device == "" || k.login.Device == device)
	})
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
		return fmt.Errorf("%w: %w", ErrIssuer, outside.Explain(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusUnauthorized {
		return fmt.Errorf("%w: %s answers %s (it does not know this server by what oauth says: client_id and client_secret_file, or shared_secret_file)", ErrIssuer, r.URL.Redacted(), resp.Status)
	}
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
	forgotten := d.forgotten
	d.mu.Unlock()
	if ok && d.c.Now().Before(k.until) {
		return k.login, nil
	}
	said, err := d.introspect(ctx, token)
	if err != nil {
		return account.Login{}, err
	}
	device := said.on()
	if !said.Active || said.Username == "" || device == "" {
		return account.Login{}, account.ErrToken
	}
	l := account.Login{User: d.c.Accounts.Full(strings.ToLower(said.Username)), Device: device, Client: cmp.Or(said.Client, d.c.Issuer)}
	u, err := d.c.Accounts.Provide(ctx, said.Username, said.Name, device, address)
	if err != nil {
		return l, err
	}
	l.Locked, l.Suspended = u.Locked, u.Suspended
	until := d.c.Now().Add(tokenLifetime)
	if end := time.Unix(said.Expires, 0); said.Expires != 0 && end.Before(until) {
		until = end
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= maxTokens {
		clear(d.known)
	}
	if forgotten == d.forgotten { // it may not count any more otherwise
		d.known[hash] = known{l, until}
	}
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
	Device   string `json:"device_id"` // only of Matrix Authentication Service: ids that a scope cannot have come so
}

// on is the device on which a token may use the client-server API; "": it may not.
func (i introspection) on() string {
	if i.Device != "" && slices.ContainsFunc(strings.Fields(i.Scope), func(one string) bool { return one == scopeAPI || one == proposedAPI }) {
		return i.Device
	}
	s, err := readScope(i.Scope)
	if err != nil {
		return ""
	}
	return s.device
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
	if d.c.SharedSecret != "" {
		r.Header.Set("Authorization", "Bearer "+d.c.SharedSecret)
		r.Header.Set("X-MAS-Supports-Device-Id", "1") // devices of clients that log in without OAuth have other ids than a scope can name
	} else {
		r.SetBasicAuth(url.QueryEscape(d.c.ClientID), url.QueryEscape(d.c.ClientSecret))
	}
	return said, d.do(r, &said)
}
