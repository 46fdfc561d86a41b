// Package server assembles a homeserver: its database, accounts, rooms, and the API that it serves.
package server

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"orrery/matrix"
	"orrery/matrix/contact/mail"
	"orrery/matrix/signature"
)

// Config is what homeserver.yaml says. Paths are relative to the file's folder.
type Config struct {
	ServerName         string   `yaml:"server_name"`
	BaseURL            string   `yaml:"base_url"`
	Listen             string   `yaml:"listen"`
	Database           string   `yaml:"database"`
	SigningKey         string   `yaml:"signing_key"`
	Media              string   `yaml:"media"`
	MaxUpload          int64    `yaml:"max_upload_mib"`
	RegistrationSecret string   `yaml:"registration_secret_file"`
	Presence           bool     `yaml:"presence"`
	Subscriptions      bool     `yaml:"thread_subscriptions"`
	RoomVersion        string   `yaml:"default_room_version"`
	Reachable          []string `yaml:"reachable_networks"`
	Outbound           bool     `yaml:"outbound"`
	LogLevel           string   `yaml:"log_level"`

	Running `yaml:",inline"`
	LogIn   `yaml:",inline"`
	Assist  `yaml:",inline"`
	Bridges `yaml:",inline"`
	Mail    Mail    `yaml:"mail"`
	SMS     SMS     `yaml:"sms"`
	Notices Notices `yaml:"server_notices"`

	Version  string `yaml:"-"` // of the program
	Command  bool   `yaml:"-"` // it is opened for a moment, perhaps beside a server that serves from the same database
	Operator string `yaml:"-"` // the socket by which commands reach a server that runs

	Now func() time.Time `yaml:"-"` // its clock

	IdentityServers []IdentityServer `yaml:"identity_servers"`

	folder string
}

// Names of files that Init writes.
const (
	ConfigFile = "homeserver.yaml"
	keyFile    = "signing.key"
)

const defaults = `# The name in the ids of users and rooms, as in @anne:%[1]s. It can never be changed.
server_name: %[1]s

# Where clients reach the server, as a proxy with TLS shows it (https://...). It is told them at /.well-known/matrix/client; "" tells nothing.
base_url: ""

# Where it listens: host:port, or unix:PATH.
listen: 127.0.0.1:8008

# sqlite:PATH, pebble:FOLDER, postgres://user@host/database, or memory for trying things out.
# The password of PostgreSQL comes from the environment (PGPASSWORD) or a file of passwords (PGPASSFILE).
database: sqlite:homeserver.db

# The key by which the server signs. Whoever has it can speak for the server.
signing_key: signing.key

# The folder of what users upload, and how large one of them may be, in MiB.
media: media
max_upload_mib: 50

# Whether anybody may make an account. If not, "homeserver user create" does.
open_registration: false

# Whether that takes a token, as "homeserver token create" makes them.
registration_needs_token: false

# Whether it takes an address of mail, to which a mail is sent. Without this, whoever wants may give one if there is a mail server.
registration_needs_email: false

# Whether it takes the number of a telephone, to which a message with a code is sent. Without this, whoever wants may give one if there is a gateway for messages.
registration_needs_number: false

# What people accept who make an account, as in
#   - {id: privacy_policy, version: "1.0", language: en, title: Privacy policy, url: https://example.org/privacy}
terms: []

# Whether people without an account may read rooms that anybody may read, and join those that let guests in.
guests: false

# Whether users log in with passwords.
password_login: true

# Servers of OpenID Connect where users have an account by which they log in here, as in
#   - {id: work, name: Work, issuer: https://id.example.org, client_id: chat, client_secret_file: work-secret, scopes: [profile], name_claim: preferred_username}
# base_url must be set; they must know the address base_url/_matrix/client/v3/login/sso/callback.
sso: []

# Addresses of clients to which those who log in so are sent back without being asked, as in https://app.example.org/
sso_clients: []

# Logging in by OAuth 2.0, as newer clients do: "" for not at all, "here" for pages of this server's own below /account/ and /oauth2/ (base_url must be
# set), or the address of another issuer, at which this server is known by a client id and a secret in a file. With Matrix Authentication Service it shares a secret instead
# (matrix.secret there), by which that one, too, says here who has an account and which devices.
oauth:
  issuer: ""
  client_id: ""
  client_secret_file: ""
  shared_secret_file: ""

# A file with a secret: whoever knows it can make accounts at /_synapse/admin/v1/register. "" allows that to nobody.
registration_secret_file: ""

# Whether users see who of those with whom they share a room is there. On a large server it costs much.
presence: true

# Whether users subscribe to threads (MSC4306, which may still change): messages in these notify them, those in other threads only if they are mentioned. Clients that do not know
# of it cannot subscribe.
thread_subscriptions: false

# The version of rooms for which nobody says another one.
default_room_version: "%[2]s"

# Networks that are not public, such as 10.1.0.0/16, that are reached all the same where users name an address there: gateways of notifications.
reachable_networks: []

# Whether the server by itself tells others anything: gateways of notifications, whoever gets mails and messages, identity servers, application services. A copy of a server, on which something is tried out, must not.
outbound: true

# debug, info, warn or error
log_level: info
`

// Init writes a configuration with every default and a new signing key into a folder, which it makes. It writes over nothing.
func Init(name, dir string) (string, error) {
	if err := matrix.ValidServer(name); err != nil {
		return "", err
	}
	if len(name) > 230 {
		return "", fmt.Errorf("server name %.40q... is %w (at most 230 bytes)", name, matrix.ErrTooLarge)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make the folder of the server's data: %w (name one by --data-dir that this user can write)", err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	key := fmt.Sprintf("%s a_%s %s\n", signature.Algorithm, rand.Text()[:6], base64.RawStdEncoding.EncodeToString(private.Seed()))
	path := filepath.Join(dir, ConfigFile)
	for _, p := range []string{path, filepath.Join(dir, keyFile)} {
		if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("cannot write %s: it exists (there is a server's data already: use it, or choose another folder)", p)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, keyFile), []byte(key), 0o600); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, fmt.Appendf(nil, defaults+runningDefaults+assistDefaults+mailDefaults+smsDefaults+identityDefaults+bridgesDefaults+noticesDefaults, name, matrix.DefaultVersion), 0o600)
}

// ReadConfig reads a configuration and says what is wrong with it.
func ReadConfig(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w (name it by --config; homeserver init writes one)", err)
	}
	c := &Config{Now: time.Now, Operator: operatorSocket, Listen: "127.0.0.1:8008", Database: "sqlite:homeserver.db", SigningKey: keyFile, Media: "media", MaxUpload: 50, Presence: true, Outbound: true, RoomVersion: matrix.DefaultVersion, LogLevel: "info", LogIn: LogIn{PasswordLogin: true}, folder: filepath.Dir(path)}
	c.Running, c.Assist, c.Mail, c.Notices = newRunning(), newAssist(), Mail{Encryption: mail.StartTLS}, newNotices()
	c.SMS = newSMS()
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, unknownSettings(err))
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

var (
	unknownField = regexp.MustCompile(`field (\S+) not found in type \S+`)
	wrongType    = regexp.MustCompile("(?s)cannot unmarshal !!(\\w+)(?: `(.*)`)? into (\\S+)")
)

// Names of what YAML has, and of types of settings, for people.
var (
	yamlKinds    = map[string]string{"str": "a text", "int": "a number", "float": "a number", "bool": "true or false", "seq": "a list", "map": "a mapping", "null": "nothing"}
	settingKinds = map[string]string{"bool": "true or false", "int": "a whole number", "int64": "a whole number", "float64": "a number", "string": "a text"}
)

// unknownSettings is an error of the decoder in words of the configuration: what it does not know are settings, and what a setting cannot be is said.
func unknownSettings(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty (homeserver init writes one, with every setting)")
	}
	wrong, ok := errors.AsType[*yaml.TypeError](err)
	if !ok {
		return fmt.Errorf("%w (it is YAML: name: value, indented by spaces)", err)
	}
	var all []string
	for _, one := range wrong.Errors {
		one = unknownField.ReplaceAllString(one, "there is no setting $1")
		all = append(all, wrongType.ReplaceAllStringFunc(one, misfit))
	}
	return errors.New(strings.Join(all, "; "))
}

// misfit is what the decoder says of a value that is of another type than its setting.
func misfit(said string) string {
	m := wrongType.FindStringSubmatch(said)
	want, ok := settingKinds[m[3]]
	switch {
	case strings.HasPrefix(m[3], "[]"):
		want = "a list, as in [one, two]"
	case !ok:
		want = "a mapping of settings"
	}
	is := cmp.Or(yamlKinds[m[1]], m[1])
	if m[2] != "" {
		is = fmt.Sprintf("%q", m[2])
	}
	return fmt.Sprintf("%s stands where %s is to be", is, want)
}

func (c *Config) check() error {
	if c.ServerName == "" {
		return errors.New("server_name is missing")
	}
	if err := matrix.ValidServer(c.ServerName); err != nil {
		return err
	}
	for _, t := range c.Terms {
		if t.ID == "" || t.Version == "" || t.Title == "" || t.Language == "" || !isWeb(t.URL) {
			return fmt.Errorf("terms %q lack one of id, version, language, title, url (https://...)", t.ID)
		}
	}
	if err := errors.Join(c.checkOAuth(), c.checkSSO(), c.checkMail(), c.checkSMS(), c.checkIdentity(), c.checkNotices()); err != nil {
		return err
	}
	if c.MaxUpload <= 0 || c.MaxUpload > 1<<20 {
		return fmt.Errorf("max_upload_mib %d is not a number of MiB", c.MaxUpload)
	}
	if _, err := c.policy(); err != nil {
		return fmt.Errorf("reachable_networks: %w", err)
	}
	if c.BaseURL != "" && !isWeb(c.BaseURL) {
		return fmt.Errorf("base_url %q is not https://HOST", c.BaseURL)
	}
	if err := c.Assist.check(); err != nil {
		return err
	}
	if err := c.Running.check(); err != nil {
		return err
	}
	if !isAddress(c.Listen) {
		return fmt.Errorf("listen %q is not host:port, nor unix:PATH", c.Listen)
	}
	if _, err := matrix.FindVersion(c.RoomVersion); err != nil {
		return fmt.Errorf("default_room_version: %w", err)
	}
	return nil
}

// isAddress says whether a server can listen there.
func isAddress(s string) bool {
	if strings.HasPrefix(s, "unix:") {
		return true
	}
	_, _, err := net.SplitHostPort(s)
	return err == nil
}

func isWeb(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

// path is that of a file that the configuration names.
func (c *Config) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.folder, name)
}

// key reads the signing key: its algorithm, its name, its seed in base64.
func (c *Config) key() (signature.Key, error) {
	path := c.path(c.SigningKey)
	text, err := os.ReadFile(path)
	if err != nil {
		return signature.Key{}, fmt.Errorf("cannot read the signing key: %w (bring it back from a backup: with another key this is another server)", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != signature.Algorithm {
		return signature.Key{}, fmt.Errorf("signing key %s is %w (it is one line: ed25519 NAME SEED)", path, matrix.ErrMalformed)
	}
	seed, err := signature.Decode(f[2])
	if err != nil || len(seed) != ed25519.SeedSize {
		return signature.Key{}, fmt.Errorf("signing key %s is %w: its seed is not %d bytes in base64", path, matrix.ErrMalformed, ed25519.SeedSize)
	}
	return signature.Key{ID: f[0] + ":" + f[1], Private: ed25519.NewKeyFromSeed(seed)}, nil
}

func (c *Config) secret() (string, error) {
	if c.RegistrationSecret == "" {
		return "", nil
	}
	return c.read(c.RegistrationSecret)
}

// read is the secret in a file.
func (c *Config) read(path string) (string, error) {
	text, err := os.ReadFile(c.path(path))
	if err != nil {
		return "", fmt.Errorf("cannot read a secret: %w (paths are relative to the configuration's folder)", err)
	}
	s := strings.TrimSpace(string(text))
	if s == "" {
		err = fmt.Errorf("file %s has no secret (write it there)", path)
	}
	return s, err
}
