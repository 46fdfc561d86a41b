package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

const (
	grantCode    = "authorization_code"
	grantRefresh = "refresh_token"
	grantLink    = "urn:ietf:params:oauth:grant-type:device_code"
)

const (
	authNone  = "none"
	authBasic = "client_secret_basic"
	authPost  = "client_secret_post"
)

var (
	grantTypes  = []string{grantCode, grantRefresh, grantLink}
	authMethods = []string{authNone, authBasic, authPost}
)

// metadata is what a client says of itself (clause client-server API, client metadata).
type metadata struct {
	Name      string   `json:"client_name,omitempty"`
	URI       string   `json:"client_uri"`
	Logo      string   `json:"logo_uri,omitempty"`
	Terms     string   `json:"tos_uri,omitempty"`
	Policy    string   `json:"policy_uri,omitempty"`
	Redirects []string `json:"redirect_uris,omitempty"`
	Responses []string `json:"response_types,omitempty"`
	Grants    []string `json:"grant_types"`
	Auth      string   `json:"token_endpoint_auth_method"`
	Kind      string   `json:"application_type"`
}

// registerClient gives a client an id (RFC 7591). Clients without a secret that say the same have the same one.
func (i *Issuer) registerClient(r *http.Request) (any, error) {
	m := metadata{Auth: authBasic, Kind: "web", Grants: []string{grantCode}, Responses: []string{"code"}}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		return nil, fail("invalid_client_metadata", "the request is not JSON, or has something of another type: "+err.Error())
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	c := store.OAuthClient{ID: base64.RawURLEncoding.EncodeToString(sum[:16]), Metadata: text, Created: i.c.Now().UnixMilli()}
	answer := created{}
	if err := json.Unmarshal(text, (*map[string]any)(&answer)); err != nil {
		return nil, err
	}
	if m.Auth != authNone {
		secret := rand.Text() + rand.Text()
		c.ID, c.Secret = rand.Text(), digest(secret)
		answer["client_secret"], answer["client_secret_expires_at"] = secret, 0
	}
	answer["client_id"], answer["client_id_issued_at"] = c.ID, c.Created/1000
	return answer, i.c.Stream.DB().Update(r.Context(), func(tx table.Tx) error { return store.OAuthClients.Put(tx, c) })
}

func (m *metadata) check() error {
	bad := func(text string) error { return fail("invalid_client_metadata", text) }
	m.Grants = slices.DeleteFunc(m.Grants, func(g string) bool { return !slices.Contains(grantTypes, g) })
	m.Responses = slices.DeleteFunc(m.Responses, func(r string) bool { return r != "code" })
	byCode := slices.Contains(m.Grants, grantCode)
	base, err := url.Parse(m.URI)
	switch {
	case err != nil || base.Scheme != "https" || base.Host == "" || base.User != nil:
		return bad("client_uri is not https://HOST")
	case !slices.Contains(authMethods, m.Auth):
		return bad("token_endpoint_auth_method is none of " + strings.Join(authMethods, ", "))
	case m.Kind != "web" && m.Kind != "native":
		return bad("application_type is neither web nor native")
	case len(m.Name) > 256 || len(m.Redirects) > 32:
		return bad("the name is too long, or there are too many redirect addresses")
	case !byCode && !slices.Contains(m.Grants, grantLink):
		return bad("grant_types has none by which anybody logs in")
	case byCode && (len(m.Redirects) == 0 || !slices.Contains(m.Responses, "code")):
		return fail("invalid_redirect_uri", "redirect_uris is missing, or response_types lacks code")
	}
	for _, r := range m.Redirects {
		if why := m.badRedirect(r, base.Hostname()); why != "" {
			return fail("invalid_redirect_uri", r+" "+why)
		}
	}
	for _, p := range []*string{&m.Logo, &m.Terms, &m.Policy} { // these are shown to people, so they must be the client's own
		if u, err := url.Parse(*p); err != nil || u.Scheme != "https" || !under(u.Hostname(), base.Hostname()) {
			*p = ""
		}
	}
	return nil
}

// badRedirect says what is wrong with a redirect address (clause client-server API, redirect URI validation).
func (m *metadata) badRedirect(address, base string) string {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme == "":
		return "is no address"
	case strings.Contains(address, "#"):
		return "has a fragment"
	case u.User != nil:
		return "has a user"
	case u.Scheme == "https":
		if !under(u.Hostname(), base) {
			return "is not below client_uri"
		}
	case m.Kind == "web":
		return "is not https"
	case u.Scheme == "http":
		if !loopback(u) || u.Port() != "" {
			return "is neither https nor http of the own machine without a port"
		}
	case u.Host != "" || strings.HasPrefix(address, u.Scheme+"://"):
		return "has a host"
	case !under(reverse(u.Scheme), base):
		return "has a scheme that is not client_uri's host reversed"
	}
	return ""
}

func under(host, base string) bool {
	return host == base || strings.HasSuffix(host, "."+base)
}

func reverse(name string) string {
	parts := strings.Split(name, ".")
	slices.Reverse(parts)
	return strings.Join(parts, ".")
}

func loopback(u *url.URL) bool {
	return slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())
}

// client is one that was registered.
type client struct {
	metadata

	id     string
	secret []byte
}

func (i *Issuer) client(ctx context.Context, id string) (*client, error) {
	c := &client{id: id}
	err := i.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		row, ok, err := store.OAuthClients.Get(tx, id)
		if err == nil && !ok {
			err = &Error{http.StatusUnauthorized, "invalid_client", "the client is not known"}
		}
		if err != nil {
			return err
		}
		c.secret = row.Secret
		return json.Unmarshal(row.Metadata, &c.metadata)
	})
	return c, err
}

// redirects says whether a client may be answered at an address.
func (c *client) redirects(address string) bool {
	return slices.ContainsFunc(c.Redirects, func(known string) bool {
		if known == address {
			return true
		}
		u, err := url.Parse(address)
		if k, kerr := url.Parse(known); err != nil || kerr != nil || c.Kind != "native" || k.Scheme != "http" || u.Scheme != "http" {
			return false
		} else if host, _, err := net.SplitHostPort(u.Host); err == nil { // on the own machine the port is free
			u.Host = k.Host
			return host == k.Hostname() && u.String() == known
		}
		return false
	})
}

// shown is a client's name for people.
func (c *client) shown() string {
	if c.Name != "" {
		return c.Name
	}
	return c.host()
}

func (c *client) host() string {
	u, err := url.Parse(c.URI)
	if err != nil {
		return c.URI
	}
	return u.Host
}

// asks is which client makes a request: by its secret if it has one.
func (i *Issuer) asks(r *http.Request) (*client, error) {
	id, secret, basic := r.BasicAuth()
	if basic { // RFC 6749, section 2.3.1: both are encoded as in forms
		id, secret = unescape(id), unescape(secret)
	} else {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	c, err := i.client(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if len(c.secret) > 0 && subtle.ConstantTimeCompare(c.secret, digest(secret)) != 1 {
		return nil, &Error{http.StatusUnauthorized, "invalid_client", "the client's secret is wrong"}
	}
	return c, nil
}

func unescape(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

func digest(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
