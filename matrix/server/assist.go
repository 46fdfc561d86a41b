package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"os"
	"strings"
	"time"

	"orrery/matrix"
	"orrery/matrix/api"
	"orrery/matrix/media"
	"orrery/matrix/outside"
	"orrery/matrix/preview"
)

// Assist is a configuration's part about what clients are told of other services and people.
type Assist struct {
	TurnURIs     []string      `yaml:"turn_uris"`
	TurnSecret   string        `yaml:"turn_secret_file"`
	TurnLifetime time.Duration `yaml:"turn_lifetime"`
	Contacts     []api.Contact `yaml:"support_contacts"`
	SupportPage  string        `yaml:"support_page"`
	Previews     bool          `yaml:"url_previews"`
	KeepMedia    int           `yaml:"keep_media_days"`
	OpenMedia    bool          `yaml:"media_without_login"`

	Transports []map[string]any `yaml:"rtc_transports"`
}

const assistDefaults = `
# Servers for calls (TURN), as turn:turn.example.org?transport=udp, and a file with the secret that they share with this server.
turn_uris: []
turn_secret_file: ""
turn_lifetime: 24h

# By which servers clients hold calls of many people (MatrixRTC; Element Call needs one), the one to be preferred first, as in
#   - {type: livekit, livekit_service_url: https://rtc.example.org}
rtc_transports: []

# Who helps with this server, as everybody is told: {role: m.role.admin, matrix_id: "@anne:example.org", email_address: anne@example.org}; and a page about it.
support_contacts: []
support_page: ""

# Whether the server fetches pages of which users post the address, to show a preview. It reaches only what is public, and reachable_networks.
url_previews: false

# After how many days what users uploaded is removed; 0: never.
keep_media_days: 0

# Whether whoever knows the address of what users uploaded may see it without a login. Clients of before 2024 that send none, such as Quaternion 0.0.95 and NeoChat 23.01, show no pictures otherwise.
media_without_login: false
`

func newAssist() Assist { return Assist{TurnLifetime: 24 * time.Hour} }

func (a *Assist) check() error {
	for _, uri := range a.TurnURIs {
		if scheme, _, _ := strings.Cut(uri, ":"); scheme != "turn" && scheme != "turns" && scheme != "stun" {
			return fmt.Errorf("turn_uris: %q is not turn:HOST", uri)
		}
	}
	if len(a.TurnURIs) > 0 && (a.TurnSecret == "" || a.TurnLifetime <= 0) {
		return errors.New("turn_uris need turn_secret_file and turn_lifetime")
	}
	for _, c := range a.Contacts {
		if c.Role == "" || c.ID == "" && c.Email == "" {
			return errors.New("support_contacts: each has a role, and matrix_id or email_address")
		}
		if c.ID != "" {
			if err := matrix.ValidUser(c.ID); err != nil {
				return fmt.Errorf("support_contacts: %w", err)
			}
		}
		if _, err := mail.ParseAddress(c.Email); c.Email != "" && err != nil {
			return fmt.Errorf("support_contacts: email_address %q: %w", c.Email, err)
		}
	}
	if err := checkTransports(a.Transports); err != nil {
		return err
	}
	if a.KeepMedia < 0 {
		return fmt.Errorf("keep_media_days %d is not a number of days", a.KeepMedia)
	}
	if a.SupportPage != "" && !isWeb(a.SupportPage) {
		return fmt.Errorf("support_page %q is not https://HOST", a.SupportPage)
	}
	return nil
}

// checkTransports says what is wrong with descriptions of transports: each has a type, the others of its fields are what that type wants (MSC4143; of
// livekit MSC4195 says it).
func checkTransports(all []map[string]any) error {
	for _, t := range all {
		kind, _ := t["type"].(string)
		at, _ := t["livekit_service_url"].(string)
		switch {
		case kind == "":
			return errors.New("rtc_transports: each has a type, such as livekit")
		case kind == "livekit" && !isWeb(at):
			return fmt.Errorf("rtc_transports: livekit_service_url %q is not https://HOST", at)
		}
		if _, err := json.Marshal(t); err != nil {
			return fmt.Errorf("rtc_transports: %w", err)
		}
	}
	return nil
}

// turn is the servers for calls.
func (c *Config) turn() (api.Turn, error) {
	if len(c.TurnURIs) == 0 {
		return api.Turn{}, nil
	}
	text, err := os.ReadFile(c.path(c.TurnSecret))
	secret := strings.TrimSpace(string(text))
	if err == nil && secret == "" {
		err = fmt.Errorf("file %s has no secret", c.TurnSecret)
	}
	return api.Turn{URIs: c.TurnURIs, Secret: secret, Lifetime: c.TurnLifetime}, err
}

// Limits of requests for pages.
const (
	pageTimeout   = 15 * time.Second
	pageRedirects = 5
)

// previews makes previews of pages, nil if it shall not.
func (c *Config) previews(files *media.Media) (*preview.Previews, error) {
	if !c.Previews || !c.Outbound {
		return nil, nil //nolint:nilnil // there are none
	}
	policy, err := c.policy()
	return preview.New(preview.Config{Server: c.ServerName, Client: outside.Client(policy, pageTimeout, pageRedirects), Media: files, Now: c.Now}), err
}
