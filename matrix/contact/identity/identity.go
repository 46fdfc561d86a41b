// Package identity asks identity servers, which tell others who is reached at an address (identity service API). Users name them, so what it reaches is what
// package outside lets it, and answers are bounded and believed in nothing but what was asked.
package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/contact"
	"orrery/matrix/outside"
	"orrery/matrix/signature"
)

var (
	// ErrTrust says that an identity server is none of those that are configured.
	ErrTrust = errors.New("identity server is not one that this server asks")
	// ErrAnswer says that an identity server did not answer, or nothing that can be read.
	ErrAnswer = errors.New("identity server gave no answer that counts")
)

// Refusal is an error of an identity server, as the standard has it.
type Refusal struct {
	Status int    `json:"-"`
	Code   string `json:"errcode"`
	Text   string `json:"error"`
}

// Error is what the server said.
func (r *Refusal) Error() string { return "identity server: " + r.Code + ": " + r.Text }

// Server is an identity server and where it is reached; "": https and its name.
type Server struct{ Name, URL string }

// Config says for whom.
type Config struct {
	HTTP    *http.Client // that reaches only what it may
	Server  string       // the homeserver's name
	Key     signature.Key
	Servers []Server // that may be asked; none: all
	Silent  bool     // none is asked
}

// Client asks identity servers.
type Client struct{ c Config }

// New asks them.
func New(c Config) *Client { return &Client{c} }

// maxAnswer is how large an answer may be.
const maxAnswer = 64 << 10

const prefix = "/_matrix/identity/v2"

// address is where an identity server is reached.
func (c *Client) address(server string) (string, error) {
	if c.c.Silent {
		return "", fmt.Errorf("%w, for it asks none: %.100q", ErrTrust, server)
	}
	for _, s := range c.c.Servers {
		if s.Name == server && s.URL != "" {
			return strings.TrimSuffix(s.URL, "/"), nil
		}
	}
	if len(c.c.Servers) > 0 && !slices.ContainsFunc(c.c.Servers, func(s Server) bool { return s.Name == server }) || matrix.ValidServer(server) != nil {
		return "", fmt.Errorf("%w: %.100q", ErrTrust, server)
	}
	return "https://" + server, nil
}

// First is where the first of those is that are configured; "" if none is.
func (c *Client) First() string {
	if len(c.c.Servers) == 0 {
		return ""
	}
	at, err := c.address(c.c.Servers[0].Name)
	if err != nil {
		return ""
	}
	return at
}

// ask makes a request, and reads its answer.
func (c *Client) ask(ctx context.Context, method, server, path, authorization string, body, out any) error {
	at, err := c.address(server)
	if err != nil {
		return err
	}
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(text)
	}
	q, err := http.NewRequestWithContext(ctx, method, at+prefix+path, in)
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", authorization)
	return c.do(q, out)
}

func (c *Client) do(q *http.Request, out any) error {
	resp, err := c.c.HTTP.Do(q)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, outside.Explain(err))
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(text) > maxAnswer {
		return fmt.Errorf("%w: it is too long, or broke off", ErrAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		r := &Refusal{Status: resp.StatusCode}
		if json.Unmarshal(text, r) != nil || r.Code == "" || resp.StatusCode < 400 {
			return fmt.Errorf("%w: %s", ErrAnswer, resp.Status)
		}
		return r
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return nil
}

func bearer(token string) string { return "Bearer " + token }

// Bind has an identity server tell that the address of a session of its own is a user's (POST /3pid/bind), and is the address.
func (c *Client) Bind(ctx context.Context, server, token, session, secret, user string) (contact.Address, error) {
	var out struct{ Medium, Address string }
	err := c.ask(ctx, http.MethodPost, server, "/3pid/bind", bearer(token), map[string]string{"sid": session, "client_secret": secret, "mxid": user}, &out)
	if err != nil {
		return contact.Address{}, err
	}
	of, err := contact.Parse(out.Medium, out.Address)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return of, err
}

// Unbind has it tell that no more (POST /3pid/unbind), by a request that this homeserver signs as those between homeservers are; but what it is for is said as
// destination_is, as identity servers have it.
func (c *Client) Unbind(ctx context.Context, server, user string, of contact.Address) error {
	body := map[string]any{"mxid": user, "threepid": map[string]string{"medium": of.Medium, "address": of.Text}}
	text, err := json.Marshal(map[string]any{"method": http.MethodPost, "uri": prefix + "/3pid/unbind", "origin": c.c.Server, "destination_is": server, "content": body})
	if err != nil {
		return err
	}
	v, err := canonical.Parse(text, canonical.Strict)
	if err != nil {
		return err
	}
	made := signature.Sign(v, c.c.Server, c.c.Key).Get("signatures", c.c.Server, c.c.Key.ID).String()
	var out struct{}
	return c.ask(ctx, http.MethodPost, server, "/3pid/unbind", fmt.Sprintf(`X-Matrix origin="%s",key="%s",sig="%s"`, c.c.Server, c.c.Key.ID, made), body, &out)
}

// Lookup is the user who is reached at an address (POST /lookup); "" if the identity server knows nobody.
func (c *Client) Lookup(ctx context.Context, server, token string, of contact.Address) (string, error) {
	var how struct {
		Pepper     string   `json:"lookup_pepper"`
		Algorithms []string `json:"algorithms"`
	}
	if err := c.ask(ctx, http.MethodGet, server, "/hash_details", bearer(token), nil, &how); err != nil {
		return "", err
	}
	algorithm, asked := "sha256", of.Hashed(how.Pepper)
	if !slices.Contains(how.Algorithms, algorithm) { // every identity server has it; what is not hashed would tell it the address
		return "", fmt.Errorf("%w: it has no %s", ErrAnswer, algorithm)
	}
	var out struct{ Mappings map[string]string }
	err := c.ask(ctx, http.MethodPost, server, "/lookup", bearer(token), map[string]any{"algorithm": algorithm, "pepper": how.Pepper, "addresses": []string{asked}}, &out)
	user := out.Mappings[asked]
	if err == nil && user != "" && matrix.ValidUser(user) != nil {
		err = fmt.Errorf("%w: it names a user %.100q", ErrAnswer, user)
	}
	return user, err
}

// Invited is what an identity server keeps of an invitation to somebody whom it does not know yet.
type Invited struct {
	Token      string `json:"token"`
	PublicKeys []Key  `json:"public_keys"`
	Shown      string `json:"display_name"`
}

// Key is one with which an invitation may be signed, and where to ask whether it counts.
type Key struct {
	Public   string `json:"public_key"`
	Validity string `json:"key_validity_url"`
}

// StoreInvite has it keep one (POST /store-invite), by what it tells the invited of the room.
func (c *Client) StoreInvite(ctx context.Context, server, token string, about map[string]string) (in Invited, err error) {
	err = c.ask(ctx, http.MethodPost, server, "/store-invite", bearer(token), about, &in)
	if err == nil && (contact.ValidSecret(in.Token) != nil || len(in.PublicKeys) == 0 || len(in.PublicKeys) > 10) { // a token is made as a secret is
		err = fmt.Errorf("%w: it has no token, or no keys", ErrAnswer)
	}
	return in, err
}

// KeyCounts says whether a key of an invitation counts, where its event says to ask.
func (c *Client) KeyCounts(ctx context.Context, k Key) (bool, error) {
	u, err := url.Parse(k.Validity)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return false, fmt.Errorf("%w: %.100q is no address", ErrAnswer, k.Validity)
	}
	query := u.Query()
	query.Set("public_key", k.Public)
	u.RawQuery = query.Encode()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return false, err
	}
	var out struct{ Valid bool }
	err = c.do(q, &out)
	return out.Valid, err
}
