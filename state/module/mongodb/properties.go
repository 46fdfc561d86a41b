package mongodb

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"orrery/state"
)

// maxName is the longest name of a database, in bytes; MongoDB's own limit is one more.
const maxName = 63

// properties configure a component.
type properties struct {
	Database  string `json:"database"`
	Documents string `json:"documents"`
}

// server configures a container.
type server struct {
	Host         string `json:"host"`
	Port         int    `json:"port"`
	ReplicaSet   string `json:"replicaSet"`
	User         string `json:"user"`
	AuthSource   string `json:"authSource"`
	PasswordFile string `json:"passwordFile"`
	PasswordEnv  string `json:"passwordEnv"`
	TLS          bool   `json:"tls"`
	CA           string `json:"ca"`
}

func decodeComponent(c state.Component) (properties, error) {
	var p properties
	if err := c.Properties.Decode(&p); err != nil {
		return p, fmt.Errorf("%s: %w", c.Ref(), err)
	}
	if p.Database == "" {
		p.Database = databaseName(c.Name)
	}
	if p.Documents != "" && !filepath.IsAbs(p.Documents) && !strings.HasPrefix(p.Documents, "${") {
		return p, fmt.Errorf("%s: %w: documents %q is not an absolute path (use ${file.NAME})", c.Ref(), state.ErrBadProperty, p.Documents)
	}
	name := p.Database
	if len(name) > maxName || !utf8.ValidString(name) || strings.ContainsAny(name, "/\\. \"$*<>:|?\x00") || strings.ContainsRune(name, '\uFFFD') || strings.ContainsFunc(name, unicode.IsControl) {
		return p, fmt.Errorf("%s: %w: database %q is longer than %d bytes, or has a space, a control character or one of / \\ . \" $ * < > : | ?", c.Ref(), state.ErrBadProperty, name, maxName)
	}
	if slices.Contains([]string{"admin", "local", "config"}, strings.ToLower(name)) {
		return p, fmt.Errorf("%s: %w: database %q is the server's own (choose another name)", c.Ref(), state.ErrBadProperty, name)
	}
	return p, nil
}

// databaseName makes a database's name of a component's, which may have points, an @ and more bytes.
func databaseName(component string) string {
	plain := strings.Map(func(r rune) rune {
		if r == '.' || r == '@' {
			return '-'
		}
		return r
	}, component)
	if plain == component && len(plain) <= maxName && !slices.Contains([]string{"admin", "local", "config"}, plain) {
		return plain
	}
	sum := sha256.Sum256([]byte(component))
	return plain[:min(len(plain), maxName-17)] + "-" + hex.EncodeToString(sum[:8])
}

func decodeContainer(c state.Container) (server, error) {
	s := server{Host: "127.0.0.1", Port: 27017, AuthSource: "admin"}
	if err := c.Properties.Decode(&s); err != nil {
		return s, fmt.Errorf("container %s: %w", c.Name, err)
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("container %s: %w: "+format, append([]any{c.Name, state.ErrBadProperty}, args...)...)
	}
	switch {
	case s.Host == "" || strings.ContainsAny(s.Host, "/@?#, \x00"):
		return s, bad("host %q is not one name or address", s.Host)
	case s.Port < 1 || s.Port > 65535:
		return s, bad("port %d is not from 1 to 65535", s.Port)
	case s.PasswordFile != "" && s.PasswordEnv != "":
		return s, bad("passwordFile and passwordEnv exclude each other")
	case s.User != "" && s.PasswordFile == "" && s.PasswordEnv == "":
		return s, bad("user needs a passwordFile or a passwordEnv")
	case s.User == "" && s.PasswordFile+s.PasswordEnv != "":
		return s, bad("a password needs a user")
	case s.AuthSource == "":
		return s, bad("authSource must not be empty")
	case s.CA != "" && !s.TLS:
		return s, bad("ca needs tls")
	}
	return s, nil
}

// password finds the container's password; empty if it has none.
func (s server) password() (string, error) {
	switch {
	case s.PasswordFile != "":
		content, err := os.ReadFile(s.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		return strings.TrimRight(string(content), "\r\n"), nil
	case s.PasswordEnv != "":
		value, ok := os.LookupEnv(s.PasswordEnv)
		if !ok {
			return "", fmt.Errorf("%w: environment variable %s, which should hold the password, is not set for the node", state.ErrBadProperty, s.PasswordEnv)
		}
		return value, nil
	}
	return "", nil
}

func (s server) address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// url is the database's connection URL; with a password only for the environment of a program.
func (s server) url(database, password string) string {
	u := url.URL{Scheme: "mongodb", Host: s.address(), Path: "/" + database}
	query := url.Values{}
	if s.User != "" {
		u.User = url.User(s.User)
		if password != "" {
			u.User = url.UserPassword(s.User, password)
		}
		query.Set("authSource", s.AuthSource)
	}
	if s.ReplicaSet != "" {
		query.Set("replicaSet", s.ReplicaSet)
	}
	if s.TLS {
		query.Set("tls", "true")
	}
	if s.CA != "" {
		query.Set("tlsCAFile", s.CA)
	}
	u.RawQuery = query.Encode()
	return u.String()
}
