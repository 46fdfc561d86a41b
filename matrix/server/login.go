package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"orrery/matrix/api"
	"orrery/matrix/oauth"
	"orrery/matrix/sso"
)

// LogIn is how people get in, as homeserver.yaml says.
type LogIn struct {
	OpenRegistration bool       `yaml:"open_registration"`
	NeedInvitation   bool       `yaml:"registration_needs_token"`
	NeedEmail        bool       `yaml:"registration_needs_email"`
	NeedNumber       bool       `yaml:"registration_needs_number"`
	Terms            []Term     `yaml:"terms"`
	Guests           bool       `yaml:"guests"`
	PasswordLogin    bool       `yaml:"password_login"`
	SSO              []Provider `yaml:"sso"`
	SSOClients       []string   `yaml:"sso_clients"`
	OAuth            OAuth      `yaml:"oauth"`
}

// entry is that with its secrets.
func (c *Config) entry() (e api.LogIn, err error) {
	e = api.LogIn{
		OpenRegistration: c.OpenRegistration, NeedInvitation: c.NeedInvitation, NeedEmail: c.NeedEmail, NeedNumber: c.NeedNumber, Guests: c.Guests, NoPasswords: !c.PasswordLogin, SSOClients: c.SSOClients,
		Issuer: c.OAuth.Issuer == here,
	}
	for _, t := range c.Terms {
		e.Terms = append(e.Terms, api.Policy(t))
	}
	if e.Providers, err = c.providers(); err != nil {
		return e, err
	}
	if c.OAuth.Issuer != "" && !e.Issuer {
		e.Delegate = &oauth.DelegateConfig{Issuer: c.OAuth.Issuer, ClientID: c.OAuth.ClientID, Now: c.Now, HTTP: &http.Client{}}
		for path, secret := range map[string]*string{c.OAuth.ClientSecret: &e.Delegate.ClientSecret, c.OAuth.SharedSecret: &e.Delegate.SharedSecret} {
			if path == "" {
				continue
			}
			if *secret, err = c.read(path); err != nil {
				return e, fmt.Errorf("oauth: %w", err)
			}
		}
	}
	return e, nil
}

// Term is a document that people accept who make an account.
type Term struct {
	ID       string `yaml:"id"`
	Version  string `yaml:"version"`
	Language string `yaml:"language"`
	Title    string `yaml:"title"`
	URL      string `yaml:"url"`
}

// OAuth is how clients log in by OAuth.
type OAuth struct {
	Issuer       string `yaml:"issuer"`
	ClientID     string `yaml:"client_id"`
	ClientSecret string `yaml:"client_secret_file"`
	SharedSecret string `yaml:"shared_secret_file"`
}

// here is the issuer that is this server itself.
const here = "here"

func (c *Config) checkOAuth() error {
	o := c.OAuth
	switch {
	case o.Issuer == here && c.BaseURL == "":
		return errors.New("oauth.issuer is here, so base_url must say where browsers reach it")
	case o.Issuer == "" || o.Issuer == here:
		if o.SharedSecret != "" {
			return errors.New("oauth.shared_secret_file is set, but oauth.issuer is not the address of another issuer, with which it would be shared")
		}
		return nil
	case !isWeb(o.Issuer):
		return fmt.Errorf(`oauth.issuer %q is neither "", here, nor https://HOST`, o.Issuer)
	case o.SharedSecret != "" && (o.ClientID != "" || o.ClientSecret != ""):
		return errors.New("oauth.shared_secret_file is set, and oauth.client_id or oauth.client_secret_file, too: the issuer knows this server by the one or by the other (leave one way empty)")
	case o.SharedSecret == "" && (o.ClientID == "" || o.ClientSecret == ""):
		return errors.New("oauth.client_id or oauth.client_secret_file is missing, by which the issuer knows this server (Matrix Authentication Service shares a secret with it instead: shared_secret_file)")
	}
	return nil
}

// checkIssuer asks the other issuer whether it is there.
func (c *Config) checkIssuer(ctx context.Context) error {
	e, err := c.entry()
	if err != nil {
		return err
	}
	return oauth.Check(ctx, *e.Delegate)
}

// Provider is a server of OpenID Connect where users have an account.
type Provider struct {
	ID           string   `yaml:"id"`
	Name         string   `yaml:"name"`
	Icon         string   `yaml:"icon"`
	Brand        string   `yaml:"brand"`
	Issuer       string   `yaml:"issuer"`
	ClientID     string   `yaml:"client_id"`
	ClientSecret string   `yaml:"client_secret_file"`
	Scopes       []string `yaml:"scopes"`
	NameClaim    string   `yaml:"name_claim"`
}

func (c *Config) checkSSO() error {
	if len(c.SSO) > 0 && c.BaseURL == "" {
		return errors.New("sso is set, so base_url must say where browsers reach the server")
	}
	if !c.PasswordLogin && len(c.SSO) == 0 && c.OAuth.Issuer == "" {
		return errors.New("password_login is false, and neither sso nor oauth is set: nobody could log in")
	}
	known := map[string]bool{}
	for _, p := range c.SSO {
		if p.ID == "" || len(p.ID) > 255 || strings.ContainsFunc(p.ID, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._~-", r)
		}) {
			return fmt.Errorf("sso id %q has other characters than a to z, A to Z, 0 to 9 and ._~-", p.ID)
		}
		if known[p.ID] {
			return fmt.Errorf("sso id %q is there twice", p.ID)
		}
		known[p.ID] = true
		if p.Name == "" || p.ClientID == "" || !isWeb(p.Issuer) {
			return fmt.Errorf("sso %s lacks one of name, client_id, issuer (https://...)", p.ID)
		}
	}
	for _, a := range c.SSOClients {
		if !isWeb(a) {
			return fmt.Errorf("sso_clients %q is not https://HOST/", a)
		}
	}
	return nil
}

// providers are those with their secrets.
func (c *Config) providers() (all []sso.Provider, err error) {
	for _, p := range c.SSO {
		one := sso.Provider{
			ID: p.ID, Name: p.Name, Icon: p.Icon, Brand: p.Brand, Issuer: p.Issuer, ClientID: p.ClientID, Scopes: p.Scopes,
			NameClaim: cmp.Or(p.NameClaim, "preferred_username"),
		}
		if p.ClientSecret != "" {
			if one.ClientSecret, err = c.read(p.ClientSecret); err != nil {
				return nil, err
			}
		}
		all = append(all, one)
	}
	return all, nil
}
