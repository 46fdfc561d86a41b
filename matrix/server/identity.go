package server

import (
	"errors"
	"fmt"
	"time"

	"orrery/matrix"
	"orrery/matrix/contact/identity"
	"orrery/matrix/outside"
	"orrery/matrix/signature"
)

// IdentityServer is one that may be asked for users by their addresses.
type IdentityServer struct {
	Name string `yaml:"name"`
	URL  string `yaml:"url"`
}

// Limits of requests to identity servers.
const (
	identityTimeout   = 10 * time.Second
	identityRedirects = 0
)

const identityDefaults = `
# Identity servers, which tell others who is reached at an address, as in {name: id.example.org}, with a url if it is not https://NAME. Clients are told
# of the first; no other one is asked. [] asks those that users name, if they are public.
identity_servers: []
`

func (c *Config) checkIdentity() error {
	for _, s := range c.IdentityServers {
		if err := matrix.ValidServer(s.Name); err != nil {
			return fmt.Errorf("identity_servers: %w", err)
		}
		if s.URL != "" && !isWeb(s.URL) {
			return errors.New("identity_servers: url " + s.URL + " is not https://HOST")
		}
	}
	return nil
}

// identities asks identity servers.
func (c *Config) identities(key signature.Key) (*identity.Client, error) {
	policy, err := c.policy()
	if err != nil {
		return nil, err
	}
	i := identity.Config{HTTP: outside.Client(policy, identityTimeout, identityRedirects), Server: c.ServerName, Key: key, Silent: !c.Outbound}
	for _, s := range c.IdentityServers {
		i.Servers = append(i.Servers, identity.Server(s))
	}
	return identity.New(i), nil
}
